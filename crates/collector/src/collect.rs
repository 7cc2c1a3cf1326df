//! A run's outcomes, read from the store and scored.
//!
//! Owns the first of the two passes over a run: outcomes only, a number or a reason a leaf.
//! What the judge wrote is read by the second one, in [`export`](mod@crate::export).

use std::path::Path;

use tribunal_core::{
    Node, Outcome, Prices, Rubric, RunId, RunSpec, VerdictSource, rubric::parse::RubricError,
    score::TreeScores,
};
use tribunal_store::{RunRecord, RunTotals, Store, StoreError};

use crate::{
    bill::{Bill, Pricing},
    canary::{Canaries, canaries},
    document::{CallCounts, GradeDocument, GradeState, OutcomeCounts},
    summary::{NoCodeDevelopment, ScoreSummary, graded_part},
    votes::{self, VoteCounts},
};

/// How to read a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CollectOptions {
    /// The root's coverage from which a finished run is complete, in [0, 1].
    pub coverage_floor: f64,
    /// Whether a signal ended the command that collects.
    pub interrupted: bool,
    /// Outcomes read at once.
    pub outcome_page: usize,
    /// Verdicts read at once; each may be tens of kilobytes.
    pub verdict_page: usize,
}

/// A run that cannot be collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run's spec is not one that this version can read.
    #[error(
        "run {run}: its spec cannot be read: {reason}; collect it with the tribunal that made it"
    )]
    Spec {
        /// The run.
        run: RunId,
        /// What is wrong with it.
        reason: String,
    },
    /// The rubric that the run was made with is not valid.
    #[error(transparent)]
    Rubric(#[from] RubricError),
    /// The run grades code only, and there is none.
    #[error(transparent)]
    NoCodeDevelopment(#[from] NoCodeDevelopment),
}

/// A run with its scores, ready to be exported and shown.
#[derive(Clone, Debug)]
pub struct Collected {
    pub(crate) record: RunRecord,
    pub(crate) spec: RunSpec,
    pub(crate) rubric: Rubric,
    /// For each node of `rubric`; what stands for inner nodes means nothing.
    outcomes: Vec<Outcome>,
    scores: TreeScores,
    summary: ScoreSummary,
    counts: OutcomeCounts,
    pub(crate) totals: RunTotals,
    canaries: Option<Canaries>,
    votes: Option<VoteCounts>,
    state: GradeState,
    pricing: Pricing,
    pub(crate) config: serde_json::Value,
    pub(crate) verdict_page: usize,
}

/// Reads a run's spec, rubric and outcomes from the store, and scores the tree.
///
/// Where a leaf has several votes, what they come to counts.
///
/// # Errors
///
/// When the store fails, when there is no such run, or when its spec or rubric cannot be read.
pub async fn collect(
    store: &dyn Store,
    run: &RunId,
    options: &CollectOptions,
) -> Result<Collected, CollectError> {
    let record = store.run(run).await?;
    let spec = store.blob(record.run.spec).await?;
    let spec: RunSpec = serde_json::from_slice(&spec)
        .map_err(|error| CollectError::Spec { run: run.clone(), reason: error.to_string() })?;
    let rubric = {
        let bytes = store.blob(spec.rubric.hash).await?;
        graded_part(Rubric::parse(&spec.rubric.name, &bytes)?, spec.options)?
    };
    // Progress first: a leaf that is answered in between makes the scores newer than the state,
    // and never a state `complete` over a leaf that was still missing.
    let progress = store.progress(run).await?;
    let (outcomes, votes) =
        votes::outcomes(store, run, (&spec, &rubric), options.outcome_page).await?;
    let totals = store.totals(run).await?;
    let canaries = canaries(store, run, &spec).await?;

    let leaf = |node: &Node| {
        let index = rubric.by_position(node.position())?;
        outcomes[index].score()
    };
    let scores = TreeScores::compute(&rubric, leaf);
    let summary = ScoreSummary::of(&rubric, &scores, leaf);
    let counts = count(&rubric, &outcomes, &totals);
    let state = GradeState::of(
        record.state,
        &progress,
        u64::from(summary.root.leaves) * u64::from(spec.ballot().votes()),
        summary.root.coverage,
        options.coverage_floor,
        options.interrupted,
    );
    let pricing = if spec.jurors.is_empty() { Pricing::Unknown } else { Pricing::Recorded };
    Ok(Collected {
        record,
        spec,
        rubric,
        outcomes,
        scores,
        summary,
        counts,
        totals,
        canaries,
        votes,
        state,
        pricing,
        config: serde_json::Value::Null,
        verdict_page: options.verdict_page.max(1),
    })
}

fn count(rubric: &Rubric, outcomes: &[Outcome], totals: &RunTotals) -> OutcomeCounts {
    let by_source = |source: VerdictSource| {
        let count = totals.by_source.get(source.name());
        count.copied().unwrap_or(0)
    };
    let name = String::new();
    let mut counts = OutcomeCounts {
        by_rule: by_source(VerdictSource::Rule { name: name.clone() }),
        reused: by_source(VerdictSource::Reused { run: name }),
        ..OutcomeCounts::default()
    };
    for (index, _) in rubric.leaves() {
        match outcomes[index] {
            Outcome::Graded { .. } => counts.graded += 1,
            Outcome::Ungraded { reason } => *counts.ungraded.entry(reason).or_insert(0) += 1,
        }
    }
    counts
}

// === impl CollectOptions ===

impl Default for CollectOptions {
    fn default() -> Self {
        Self { coverage_floor: 1.0, interrupted: false, outcome_page: 4096, verdict_page: 256 }
    }
}

// === impl Collected ===

impl Collected {
    /// The run as the store has it.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// What the run was made with.
    pub fn spec(&self) -> &RunSpec {
        &self.spec
    }

    /// The part of the rubric that the run grades, with the weights that count.
    pub fn rubric(&self) -> &Rubric {
        &self.rubric
    }

    /// The scores of the nodes of [`Collected::rubric`].
    pub fn scores(&self) -> &TreeScores {
        &self.scores
    }

    /// The scores that are asked for first.
    pub fn summary(&self) -> &ScoreSummary {
        &self.summary
    }

    /// Leaves by outcome.
    pub fn counts(&self) -> &OutcomeCounts {
        &self.counts
    }

    /// What the run has cost so far.
    pub fn totals(&self) -> &RunTotals {
        &self.totals
    }

    /// What the run has cost, in US dollars; `None` where nobody knows the prices.
    pub fn cost_usd(&self) -> Option<f64> {
        self.pricing.cost_usd(&self.totals)
    }

    /// The bill.
    pub fn bill(&self) -> Bill {
        Bill::new(&self.totals, self.spec.planned.as_ref(), self.pricing)
    }

    /// Says what the model's tokens cost: prices are the config's to know. Where several judges have
    /// prices of their own, what each call cost was recorded with it, and this changes nothing.
    pub fn set_prices(&mut self, prices: Option<Prices>) {
        if self.pricing != Pricing::Recorded {
            self.pricing = prices.map_or(Pricing::Unknown, Pricing::PerToken);
        }
    }

    /// How far the votes agree; `None` where every leaf has one.
    pub fn votes(&self) -> Option<&VoteCounts> {
        self.votes.as_ref()
    }

    /// Says which config the run is collected under, without secrets: the config is the caller's.
    pub fn set_config(&mut self, config: serde_json::Value) {
        self.config = config;
    }

    /// The run's canaries; `None` where none was planted.
    pub fn canaries(&self) -> Option<&Canaries> {
        self.canaries.as_ref()
    }

    /// How far the run got.
    pub fn state(&self) -> GradeState {
        self.state
    }

    /// Whether a simulated judge answered, or was to answer.
    pub fn simulated(&self) -> bool {
        self.record.run.simulated || self.totals.any_simulated
    }

    /// The outcome of the leaf at this index of the rubric's nodes; pending for an inner node.
    pub fn outcome(&self, index: usize) -> Outcome {
        self.outcomes[index]
    }

    /// The document of `grade` and `collect`; `out` is the folder with the run's files.
    pub fn document(&self, out: Option<&Path>) -> GradeDocument {
        GradeDocument {
            run: self.record.run.id.clone(),
            state: self.state,
            simulated: self.simulated(),
            judge: self.record.run.judge.clone(),
            model: self.record.run.model.clone(),
            summary: self.summary.clone(),
            outcomes: self.counts.clone(),
            canaries: self.canaries.clone(),
            votes: self.votes,
            calls: CallCounts::from(&self.totals),
            tokens: self.totals.usage,
            cost_usd: self.cost_usd(),
            bill: self.bill(),
            // Milliseconds of any run are far below 2^53.
            wall_s: self.totals.wall_ms as f64 / 1000.0,
            out: out.map(|out| out.display().to_string()),
        }
    }
}
