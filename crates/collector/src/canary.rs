//! What became of a run's canaries.
//!
//! Owns the comparison with their known answers, and taking them out of what is counted as leaves.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::{Category, Outcome, RunId, RunSpec, UngradedReason, canary};
use tribunal_store::{Progress, Store, StoreError, StoredVerdict};

/// A run's canaries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Canaries {
    /// All of them: each judge of a run is asked about each.
    pub planted: u64,
    /// Those answered right.
    pub passed: u64,
    /// Those answered wrong: the judge is not to be believed about the leaves either.
    pub failed: u64,
    /// Those without a score.
    pub unanswered: u64,
    /// Each of them.
    pub results: Vec<CanaryResult>,
}

/// What became of one.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CanaryResult {
    /// The category whose evidence it is about.
    pub category: Category,
    /// What was asked.
    pub requirements: String,
    /// The judge that was asked, by its name in the config.
    pub judge: String,
    /// The right score.
    pub expected: f64,
    /// The judge's; null without one.
    pub score: Option<f64>,
    /// What the judge said, or what happened.
    pub explanation: String,
}

/// The run's canaries with their answers; `None` where none was planted.
///
/// # Errors
///
/// The store's.
pub async fn canaries(
    store: &dyn Store,
    run: &RunId,
    spec: &RunSpec,
) -> Result<Option<Canaries>, StoreError> {
    if spec.canaries.is_empty() {
        return Ok(None);
    }
    let mut answers: BTreeMap<u32, Vec<StoredVerdict>> = BTreeMap::new();
    for stored in stored(store, run, PAGE).await? {
        answers.entry(stored.position).or_default().push(stored);
    }
    let planted = (canary::FIRST_POSITION..).zip(&spec.canaries).flat_map(|(position, planted)| {
        let answers = answers.remove(&position).unwrap_or_default();
        let answers: Vec<Option<StoredVerdict>> = match answers.is_empty() {
            true => vec![None],
            false => answers.into_iter().map(Some).collect(),
        };
        answers.into_iter().map(move |answer| (planted, answer))
    });
    let mut canaries = Canaries::default();
    for (planted, answer) in planted {
        canaries.planted += 1;
        let judge = spec.judge_of(answer.as_ref().map_or(0, |stored| stored.sample));
        let verdict = answer.as_ref().and_then(|stored| stored.verdict.as_ref());
        let score = verdict.and_then(|verdict| verdict.outcome.score());
        let count = match score {
            None => &mut canaries.unanswered,
            Some(score) if score == planted.expected => &mut canaries.passed,
            Some(_) => &mut canaries.failed,
        };
        *count += 1;
        let said = verdict.map(|verdict| verdict.rationale.explanation.clone());
        let missing = answer.as_ref().and_then(|stored| stored.missing.as_ref());
        canaries.results.push(CanaryResult {
            category: planted.category,
            requirements: planted.requirements.clone(),
            judge: judge.name.clone(),
            expected: planted.expected,
            score,
            explanation: said.or(missing.map(|(_, error)| error.clone())).unwrap_or_default(),
        });
    }
    Ok(Some(canaries))
}

/// How far a run's leaves are, its canaries left out.
///
/// # Errors
///
/// The store's.
pub async fn progress_of_leaves(store: &dyn Store, run: &RunId) -> Result<Progress, StoreError> {
    without_canaries(store.progress(run).await?, store, run).await
}

/// The same of a run whose tasks are counted already.
///
/// # Errors
///
/// The store's.
pub async fn without_canaries(
    mut progress: Progress,
    store: &dyn Store,
    run: &RunId,
) -> Result<Progress, StoreError> {
    for canary in stored(store, run, PAGE).await? {
        progress.leaves = progress.leaves.saturating_sub(1);
        let reason = match (&canary.verdict, &canary.missing) {
            (Some(verdict), _) => {
                progress.done = progress.done.saturating_sub(1);
                match verdict.outcome {
                    Outcome::Graded { .. } => continue,
                    Outcome::Ungraded { reason } => reason,
                }
            }
            (None, Some((UngradedReason::Pending, _)) | None) => {
                // Whether it waits or is in work is not said.
                let waits =
                    if progress.pending > 0 { &mut progress.pending } else { &mut progress.leased };
                *waits = waits.saturating_sub(1);
                continue;
            }
            (None, Some((UngradedReason::Cancelled, _))) => {
                progress.cancelled = progress.cancelled.saturating_sub(1);
                UngradedReason::Cancelled
            }
            (None, Some((reason, _))) => {
                progress.dead = progress.dead.saturating_sub(1);
                *reason
            }
        };
        if let Some(count) = progress.ungraded.get_mut(&reason) {
            *count = count.saturating_sub(1);
        }
        progress.ungraded.retain(|_, count| *count > 0);
    }
    Ok(progress)
}

/// More canaries than a run can have.
const PAGE: usize = 4_096;

async fn stored(
    store: &dyn Store,
    run: &RunId,
    limit: usize,
) -> Result<Vec<StoredVerdict>, StoreError> {
    store.verdicts(run, Some((canary::FIRST_POSITION - 1, u32::MAX)), limit).await
}

// === impl Canaries ===

impl Canaries {
    /// What is to be said loudly; `None` where no canary was answered wrong.
    pub fn warning(&self) -> Option<String> {
        (self.failed > 0).then(|| {
            format!(
                "CANARIES FAILED: the judge answered {} of {} questions with known answers wrong; \
                 do not rely on these scores",
                self.failed, self.planted
            )
        })
    }
}
