//! The votes of a run: one outcome a leaf, and how far the votes agree.
//!
//! Owns reading the outcomes of all votes in order and counting leaves by their agreement. The rule that
//! makes one outcome of several is core's.

use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::{Ballot, Outcome, Rubric, RunId, RunSpec, UngradedReason, Voting};
use tribunal_store::{Store, StoreError, StoredVerdict};

/// How far the votes on a run's leaves agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VoteCounts {
    /// Votes that every leaf has; those of leaves that are sent on come on top.
    pub per_leaf: u32,
    /// How they are counted: `majority`, `weighted` or `escalated`.
    pub counted: &'static str,
    /// Leaves of which all votes are cast and say the same.
    pub unanimous: u64,
    /// Leaves whose votes differ.
    pub divided: u64,
    /// Leaves whose votes are even: they have no score.
    pub tied: u64,
    /// Leaves that a second judge was asked about because the first one's votes did not agree enough.
    pub sent_on: u64,
}

/// A vote on a leaf.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CastVote {
    /// 0-based sample; those of the first judge come first.
    pub sample: u32,
    /// The judge's name in the config.
    pub judge: String,
    /// The model that the reply names; the judge's where none answered.
    pub model: String,
    /// What it weighs beside the others.
    pub weight: f64,
    /// The score; null where there is none.
    pub score: Option<f64>,
    /// Why there is none; null where there is one.
    pub reason: Option<UngradedReason>,
    /// `judge`, `rule` or `reused`; null where nobody decided.
    pub source: Option<&'static str>,
    /// The judge's own confidence in [0, 1].
    pub confidence: Option<f64>,
    /// The verdict in a sentence or two; without one, what happened.
    pub explanation: String,
}

/// What is said of a leaf with this outcome that none of its votes speaks for.
pub fn undecided(votes: &[(u32, Outcome)], outcome: Outcome) -> String {
    if outcome.ungraded() != Some(UngradedReason::Tied) {
        return String::new();
    }
    let of = |score| votes.iter().filter(|(_, vote)| vote.score() == Some(score)).count();
    format!("the votes are even: {} fulfilled, {} not", of(1.0), of(0.0))
}

/// What a stored vote says of its leaf.
pub fn outcome_of(stored: &StoredVerdict) -> Outcome {
    let missing = stored.missing.as_ref().map_or(UngradedReason::Pending, |(reason, _)| *reason);
    let verdict = stored.verdict.as_ref().map(|verdict| verdict.outcome);
    verdict.unwrap_or(Outcome::Ungraded { reason: missing })
}

// === impl CastVote ===

impl CastVote {
    /// The vote as the store has it.
    pub fn of(spec: &RunSpec, stored: &StoredVerdict) -> CastVote {
        let (judge, verdict) = (spec.judge_of(stored.sample), stored.verdict.as_ref());
        let outcome = outcome_of(stored);
        let said = verdict.map(|verdict| &verdict.rationale.explanation);
        let happened = stored.missing.as_ref().map(|(_, said)| said);
        CastVote {
            sample: stored.sample,
            judge: judge.name.clone(),
            model: verdict.map_or(&judge.model, |verdict| &verdict.model).clone(),
            weight: spec.ballot().weight(stored.sample),
            score: outcome.score(),
            reason: outcome.ungraded(),
            source: verdict.map(|verdict| verdict.source.name()),
            confidence: verdict.and_then(|verdict| verdict.rationale.confidence),
            explanation: said.or(happened).cloned().unwrap_or_default(),
        }
    }
}

/// The outcome of each node of `rubric` that is a leaf, pending where the store has none, and how far
/// votes agree where leaves have several.
pub(crate) async fn outcomes(
    store: &dyn Store,
    run: &RunId,
    (spec, rubric): (&RunSpec, &Rubric),
    page: usize,
) -> Result<(Vec<Outcome>, Option<VoteCounts>), StoreError> {
    let pending = Outcome::Ungraded { reason: UngradedReason::Pending };
    let mut outcomes = vec![pending; rubric.nodes().len()];
    let ballot = spec.ballot();
    let mut counts = VoteCounts {
        per_leaf: ballot.votes(),
        counted: match spec.voting {
            Voting::Majority => "majority",
            Voting::Weighted { .. } => "weighted",
            Voting::Escalated { .. } => "escalated",
        },
        ..VoteCounts::default()
    };
    let mut decide = |position: Option<u32>, votes: &[(u32, Outcome)]| {
        if let Some(index) = position.and_then(|position| rubric.by_position(position)) {
            outcomes[index] = ballot.tally(votes).outcome;
            counts.count(&ballot, votes, outcomes[index]);
        }
    };
    let (mut after, mut position, mut votes) = (None, None, Vec::new());
    loop {
        let tasks = store.outcomes(run, after, page.max(1)).await?;
        let Some(last) = tasks.last() else { break };
        after = Some((last.position, last.sample));
        for task in &tasks {
            if position != Some(task.position) {
                decide(position, &votes);
                (position, votes) = (Some(task.position), Vec::new());
            }
            votes.push((task.sample, task.outcome));
        }
    }
    decide(position, &votes);
    Ok((outcomes, (!ballot.is_single()).then_some(counts)))
}

// === impl VoteCounts ===

impl VoteCounts {
    fn count(&mut self, ballot: &Ballot<'_>, votes: &[(u32, Outcome)], outcome: Outcome) {
        let mut scores = votes.iter().filter_map(|(_, vote)| vote.score());
        let first = scores.next();
        let differs = scores.any(|score| first.is_some_and(|first| (score - first).abs() > 1e-9));
        let cast = votes.iter().filter(|(_, vote)| vote.score().is_some()).count();
        self.divided += u64::from(differs);
        self.unanimous += u64::from(!differs && cast >= ballot.votes() as usize);
        self.tied += u64::from(outcome.ungraded() == Some(UngradedReason::Tied));
        self.sent_on += u64::from(votes.iter().any(|(sample, _)| *sample >= ballot.votes()));
    }
}
