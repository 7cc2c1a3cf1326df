//! A candidate's runs before any of their leaves is asked about.
//!
//! Owns drafting them in memory and recording them one by one: a run is in the store from the first leaf on
//! that is wanted of it. So a tuning that is only planned, or refused, leaves nothing behind, and no candidate
//! has runs over submissions that it is never asked about. Which leaf is wanted when is `bench`'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tribunal_core::{BlobHash, LeafTask, Rubric, RunId, RunSpec};
use tribunal_evidence::Snapshot;
use tribunal_store::{ModelStore, Store, StoreError, SystemClock};

use super::{candidates::Candidate, labels::Labelled};
use crate::{
    config::Config,
    engine,
    estimate::Estimate,
    prepare::{self, questions},
};

/// Blobs put into the store at once.
const PAGE: usize = 64;

/// Where a tuning's runs are before they are recorded, and afterwards.
pub(crate) struct Stores {
    /// In memory: what a worker would need of each draft.
    drafts: Arc<dyn Store>,
    /// The store as it is there; `None` where there is none yet.
    existing: Option<Arc<dyn Store>>,
}

/// A candidate's run over one submission.
pub(crate) struct Benched {
    /// The run.
    pub(crate) run: RunId,
    /// Its spec.
    pub(crate) spec: RunSpec,
    /// Its tasks by the position of their leaf.
    pub(super) tasks: BTreeMap<u32, Vec<LeafTask>>,
    /// Whether the store has it.
    pub(super) recorded: bool,
    /// Whether what an earlier command gave up was put back.
    pub(super) woken: bool,
}

/// A candidate with its runs.
pub(crate) struct Judged {
    /// The candidate.
    pub(crate) candidate: Candidate,
    /// Its run over each submission.
    pub(crate) runs: Vec<Benched>,
    /// What a leaf is expected to cost, in US dollars.
    pub(crate) usd_a_leaf: Option<f64>,
    /// What it may cost at most, asked again once.
    pub(super) most_usd_a_leaf: f64,
}

/// What the leaves of a submission are.
pub(crate) struct Graded {
    /// The rubric as graded.
    pub(crate) rubric: Rubric,
    /// Leaf indices that a rule decides, whoever judges.
    pub(crate) by_rule: BTreeSet<usize>,
}

// === impl Stores ===

impl Stores {
    /// The store that the config names, if it is there; it is not made.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn existing(config: &Config) -> Result<Stores, StoreError> {
        let existing = engine::existing_store(config).await?;
        Ok(Stores { drafts: Arc::new(ModelStore::new(Arc::new(SystemClock))), existing })
    }

    /// The store, which is made where there was none.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn open(&mut self, config: &Config) -> Result<Arc<dyn Store>, StoreError> {
        if self.existing.is_none() {
            self.existing = Some(engine::open_store(config).await?);
        }
        Ok(Arc::clone(self.runs()))
    }

    /// Where runs are: one without any where there is no store yet.
    pub(super) fn runs(&self) -> &Arc<dyn Store> {
        self.existing.as_ref().unwrap_or(&self.drafts)
    }

    /// Drafts the candidate's runs over these submissions; nothing is recorded. The submissions' leaves,
    /// besides.
    ///
    /// # Errors
    ///
    /// An input cannot be used, or the store failed.
    pub(crate) async fn draft(
        &self,
        candidate: Candidate,
        labelled: &[Labelled],
    ) -> anyhow::Result<(Judged, Vec<Graded>)> {
        let store = self.runs();
        let (mut runs, mut graded) = (Vec::new(), Vec::new());
        let (mut cost, mut most, mut leaves) = (Some(0.0), 0.0, 0);
        for of in labelled {
            let Candidate { config, panel, .. } = &candidate;
            let mut draft = prepare::draft(&of.inputs, config, panel, &self.drafts).await?;
            let judge = &panel.first;
            let questions = questions::questions(&draft, judge, &self.drafts, None).await?;
            let (reply, _) = questions::reply(judge, questions::history(store, judge).await?);
            let estimate = Estimate::of(&questions.groups, reply);
            let prices = judge.facts.prices.as_ref();
            let own = prices.map(|prices| prices.cost_usd(&estimate.expected));
            cost = cost.zip(own).map(|(sum, own)| sum + own);
            most += prices.map_or(0.0, |prices| 2.0 * prices.cost_usd(&estimate.high));
            let rules = draft.rules();
            let by_rule: BTreeSet<usize> = draft
                .rubric()
                .leaves()
                .enumerate()
                .filter(|(_, (_, node))| node.category.is_some_and(|of| rules.contains_key(&of)))
                .map(|(at, _)| at)
                .collect();
            leaves += draft.rubric().leaf_count() - by_rule.len();
            draft.spec.generation = prepare::generation(&draft.spec, false, store).await?;
            let run = draft.spec.id();
            let recorded = match store.run(&run).await {
                Ok(_) => true,
                Err(StoreError::NoSuchRun { .. }) => false,
                Err(error) => return Err(error.into()),
            };
            let mut tasks: BTreeMap<u32, Vec<LeafTask>> = BTreeMap::new();
            for task in draft.take_tasks() {
                tasks.entry(task.position).or_default().push(task);
            }
            let rubric = draft.rubric().clone();
            runs.push(Benched { run, spec: draft.spec, tasks, recorded, woken: false });
            graded.push(Graded { rubric, by_rule });
        }
        let usd_a_leaf = cost.filter(|_| leaves > 0).map(|cost| cost / leaves as f64);
        let most_usd_a_leaf = most / leaves.max(1) as f64;
        Ok((Judged { candidate, runs, usd_a_leaf, most_usd_a_leaf }, graded))
    }

    /// Records the run with what a worker needs of it, where that was not done before.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(super) async fn record(&self, benched: &mut Benched) -> anyhow::Result<()> {
        if benched.recorded {
            return Ok(());
        }
        let store = self.runs();
        let needed = Vec::from_iter(self.needed(&benched.spec).await?);
        for page in needed.chunks(PAGE) {
            let mut blobs = Vec::with_capacity(page.len());
            for hash in page {
                blobs.push(self.drafts.blob(*hash).await?.to_vec());
            }
            store.put_blobs(blobs).await?;
        }
        // Right behind its blobs, which nobody else removes until then.
        prepare::record(&benched.spec, true, store).await?;
        benched.recorded = true;
        Ok(())
    }

    /// The blobs that this spec names, and those that its submission does.
    async fn needed(&self, spec: &RunSpec) -> anyhow::Result<BTreeSet<BlobHash>> {
        let mut needed = spec.blobs();
        let snapshot = self.drafts.blob(spec.submission.hash).await?;
        let snapshot: Snapshot = serde_json::from_slice(&snapshot)?;
        needed.extend(snapshot.files.iter().filter_map(|file| file.text));
        Ok(needed)
    }
}
