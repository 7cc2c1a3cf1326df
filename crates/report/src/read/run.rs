//! A run of the store as a tree.
//!
//! Owns the second pass over a run, verdict by verdict, for pages. What the judge was shown is
//! rendered again by whoever implements [`Exhibits`]: prompts and evidence are not the report's.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tribunal_collector::{
    CollectError, Collected,
    votes::{CastVote, outcome_of, undecided},
};
use tribunal_core::{Outcome, RunId, RunSpec, UngradedReason, vote::is_same};
use tribunal_store::{Label, Store, StoreError, StoredVerdict, label::standing};

use crate::model::{Call, Exhibit, GradedTree, Leaf, RunFacts, time};

/// Shows again what a judge was shown.
#[async_trait]
pub trait Exhibits: Send + Sync {
    /// What the judge of this sample was shown for this leaf of the run, at this position; with
    /// `full`, the prompt and the files' texts too. `None` where no judge was asked.
    ///
    /// # Errors
    ///
    /// In words, where it cannot be shown again.
    async fn exhibit(
        &self,
        run: &RunId,
        place: (u32, u32),
        leaf: &Leaf,
        full: bool,
    ) -> Result<Option<Exhibit>, String>;
}

/// A run that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run cannot be scored.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// What the judge was shown cannot be shown again.
    #[error("run {run}, position {position}: {reason}")]
    Exhibit {
        /// The run.
        run: RunId,
        /// Position of the leaf.
        position: u32,
        /// Why.
        reason: String,
    },
    /// There is no leaf at this position.
    #[error("run {run} has no leaf at position {position}")]
    NoSuchLeaf {
        /// The run.
        run: RunId,
        /// The position.
        position: u32,
    },
}

/// The run with all its leaves. With `exhibits`, each leaf has what the judge was shown; with
/// `full`, also prompts, sources and raw replies.
///
/// # Errors
///
/// The store fails, or what was shown cannot be shown again.
pub async fn run(
    store: &dyn Store,
    collected: &Collected,
    exhibits: Option<&dyn Exhibits>,
    full: bool,
) -> Result<GradedTree, ReadError> {
    let (id, rubric) = (&collected.record().run.id, collected.rubric());
    let mut stored = verdicts(store, id).await?;
    let mut labels = labels(store, id).await?;
    let mut leaves = Vec::with_capacity(rubric.nodes().len());
    for (index, node) in rubric.nodes().iter().enumerate() {
        if !node.is_leaf() {
            leaves.push(None);
            continue;
        }
        let votes = stored.remove(&node.position()).unwrap_or_default();
        let (mut leaf, sample) = of_votes(collected.spec(), votes);
        // The scores were computed from these outcomes: a verdict that came since would make the
        // page contradict itself.
        if !is_same(leaf.outcome(), collected.outcome(index)) {
            leaf = match collected.outcome(index) {
                Outcome::Ungraded { reason } => Leaf::missing(reason, String::new()),
                Outcome::Graded { score } => Leaf { score: Some(score), ..Leaf::default() },
            };
        }
        // A verdict of one good call has nothing to tell but its tokens; pages of 10,000 leaves
        // read the calls of the others.
        if leaf.shown.is_some() || leaf.decided_by.is_none() {
            let attempts = store.attempts(id, node.position(), sample).await?;
            leaf.attempts = attempts.iter().map(Call::from).collect();
        }
        if let Some(exhibits) = exhibits.filter(|_| leaf.shown.is_some()) {
            leaf.exhibit = exhibit(exhibits, id, (node.position(), sample), &leaf, full).await?;
        }
        if !full {
            leaf.reply = None;
        }
        leaf.labels = labels.remove(&node.position()).unwrap_or_default();
        leaves.push(Some(leaf));
    }
    Ok(GradedTree {
        name: id.to_string(),
        rubric: rubric.clone(),
        scores: collected.scores().clone(),
        summary: collected.summary().clone(),
        leaves,
        run: Some(facts(collected)),
        facts: Vec::new(),
    })
}

/// One leaf of a run with everything that is known of it, raw reply and prompt included.
///
/// # Errors
///
/// The store fails, there is no task at this position, or what was shown cannot be shown again.
pub async fn leaf(
    store: &dyn Store,
    run: &RunId,
    position: u32,
    exhibits: &dyn Exhibits,
) -> Result<Leaf, ReadError> {
    let mut samples = Vec::new();
    let mut after = position.checked_sub(1).map(|before| (before, u32::MAX));
    loop {
        let page = store.verdicts(run, after, 16).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.position, last.sample));
        let beyond = last.position > position;
        samples.extend(page.into_iter().filter(|stored| stored.position == position));
        if beyond {
            break;
        }
    }
    if samples.is_empty() {
        return Err(ReadError::NoSuchLeaf { run: run.clone(), position });
    }
    let record = store.run(run).await?;
    let spec = serde_json::from_slice(&store.blob(record.run.spec).await?);
    let spec: RunSpec =
        spec.map_err(|error| CollectError::Spec { run: run.clone(), reason: error.to_string() })?;
    let (mut leaf, sample) = of_votes(&spec, samples);
    leaf.attempts = store.attempts(run, position, sample).await?.iter().map(Call::from).collect();
    if leaf.shown.is_some() {
        leaf.exhibit = exhibit(exhibits, run, (position, sample), &leaf, true).await?;
    }
    Ok(leaf)
}

async fn exhibit(
    exhibits: &dyn Exhibits,
    run: &RunId,
    (position, sample): (u32, u32),
    leaf: &Leaf,
    full: bool,
) -> Result<Option<Exhibit>, ReadError> {
    let shown = exhibits.exhibit(run, (position, sample), leaf, full).await;
    shown.map_err(|reason| ReadError::Exhibit { run: run.clone(), position, reason })
}

/// What the store has, by position; the samples in order.
async fn verdicts(
    store: &dyn Store,
    run: &RunId,
) -> Result<BTreeMap<u32, Vec<StoredVerdict>>, StoreError> {
    let mut found: BTreeMap<u32, Vec<StoredVerdict>> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = store.verdicts(run, after, 256).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some((last.position, last.sample));
        for stored in page {
            found.entry(stored.position).or_default().push(stored);
        }
    }
}

/// The labels that stand, by position.
async fn labels(store: &dyn Store, run: &RunId) -> Result<BTreeMap<u32, Vec<Label>>, StoreError> {
    let mut all: Vec<Label> = Vec::new();
    loop {
        let page = store.labels(run, all.last().map_or(0, |label| label.seq), 1_000).await?;
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    let mut found: BTreeMap<u32, Vec<Label>> = BTreeMap::new();
    for label in standing(&all) {
        found.entry(label.label.position).or_default().push(label.clone());
    }
    Ok(found)
}

/// The leaf that these votes come to, and the sample that speaks for it.
fn of_votes(spec: &RunSpec, mut stored: Vec<StoredVerdict>) -> (Leaf, u32) {
    let ballot = spec.ballot();
    stored.retain(|vote| vote.sample < ballot.most());
    let outcomes: Vec<(u32, Outcome)> =
        stored.iter().map(|vote| (vote.sample, outcome_of(vote))).collect();
    let outcome = ballot.tally(&outcomes).outcome;
    let votes = match ballot.is_single() {
        true => Vec::new(),
        false => stored.iter().map(|vote| CastVote::of(spec, vote)).collect(),
    };
    let Some(speaks) = ballot.spokesman(&outcomes, outcome) else {
        let reason = outcome.ungraded().unwrap_or(UngradedReason::Pending);
        let leaf = Leaf::missing(reason, undecided(&outcomes, outcome));
        return (Leaf { votes, ..leaf }, 0);
    };
    let StoredVerdict { sample, verdict, missing, .. } = stored.swap_remove(speaks);
    let leaf = match (verdict, missing) {
        (Some(verdict), _) => Leaf::of_verdict(verdict),
        (None, Some((reason, said))) => Leaf::missing(reason, said),
        (None, None) => Leaf::missing(UngradedReason::Pending, String::new()),
    };
    // Of a subtree the score is what the votes come to, the words are one vote's.
    (Leaf { votes, score: outcome.score(), ..leaf }, sample)
}

fn facts(collected: &Collected) -> RunFacts {
    RunFacts {
        document: collected.document(None),
        spec: collected.spec().clone(),
        reason: collected.record().reason.clone(),
        created_at: time(collected.record().created_ms),
        corrected: None,
    }
}
