//! Candidates at work: each a run of the store for each labelled submission that it is asked about, of
//! which only those leaves are in the queue that were wanted so far.
//!
//! Owns the way from wanted questions to answers, over the same queue, limits and reuse as any run's. What
//! that may cost is `spend`'s, what a run is before it is asked `drafts`'s. A run that has been asked before
//! brings its answers with it.

use std::{collections::BTreeMap, sync::Arc};

use tribunal_core::{
    FailureClass, LeafTask, Outcome, RunId, RunState, UngradedReason, verdict::Verdict,
};
use tribunal_store::Store;
use tribunal_tune::{Answer, Table, Wanted};
use tribunal_worker::{Scope, Shutdown};

use super::{
    candidates::{Candidate, same_as},
    drafts::{Benched, Judged, Stores},
    labels::Labelled,
};
use crate::{
    budget::{Limit, UsDollars},
    config::Config,
    engine::{self, Endpoints},
    prepare::tasks,
    progress::Progress,
};

/// Outcomes read at once.
const PAGE: usize = 4_096;

/// The place of the repeated baseline among the candidates.
const REPEATED: usize = usize::MAX;

/// Why answers are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The budget does not hold them.
    Budget,
    /// A signal came, or the deadline.
    Stopped,
    /// The judge's account or endpoint refuses, with what to do.
    Refused(String),
    /// Calls failed until they were given up.
    Unanswered(usize),
}

/// All candidates, and everything that it takes to ask them.
pub(crate) struct Bench<'b> {
    pub(crate) config: &'b Config,
    /// Where its runs are.
    pub(crate) stores: Stores,
    pub(crate) labelled: &'b [Labelled],
    pub(crate) shutdown: &'b Shutdown,
    pub(crate) quiet: bool,
    /// US dollars over all runs and proposals, where the command says any.
    pub(crate) budget: Option<Limit<UsDollars>>,
    /// What proposals have cost.
    pub(crate) proposed_usd: f64,
    /// The candidates.
    pub(crate) judged: Vec<Judged>,
    /// The baseline asked more than once, which races with nobody.
    pub(crate) repeated: Option<Judged>,
    /// Of each labelled leaf its submission and the position of its node.
    pub(crate) places: Vec<(usize, u32)>,
}

// === impl Bench ===

impl Bench<'_> {
    /// Adds a candidate, unless it would ask the very same questions as one that is there: what is said
    /// of it then.
    ///
    /// # Errors
    ///
    /// An input cannot be used, or the store failed.
    pub(crate) async fn add(&mut self, candidate: Candidate) -> anyhow::Result<Option<String>> {
        let (judged, _) = self.stores.draft(candidate, self.labelled).await?;
        let runs = |of: &Judged| of.runs.iter().map(|of| of.run.clone()).collect::<Vec<_>>();
        if let Some(other) = self.judged.iter().find(|other| runs(other) == runs(&judged)) {
            return Ok(Some(same_as(&judged.candidate, &other.candidate)));
        }
        self.judged.push(judged);
        Ok(None)
    }

    /// Asks these questions and puts the answers into the table, those of earlier commands first.
    /// `None` where all have come.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn ask(
        &mut self,
        wanted: &[Wanted],
        table: &mut Table,
    ) -> anyhow::Result<Option<Ended>> {
        self.drive(wanted, &mut |wanted, answer| table.set(wanted, answer)).await
    }

    /// Asks the baseline about these leaves as often as its repeated run does; then the votes on each,
    /// as (passes, votes).
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn repeat(
        &mut self,
        leaves: &[usize],
    ) -> anyhow::Result<Result<Vec<(u32, u32)>, Ended>> {
        let wanted: Vec<Wanted> =
            leaves.iter().map(|leaf| Wanted { candidate: REPEATED, leaf: *leaf }).collect();
        if let Some(ended) = self.drive(&wanted, &mut |_, _| {}).await? {
            return Ok(Err(ended));
        }
        // Most votes may be enough for every answer, and are not all of them.
        if self.shutdown.drain.is_cancelled() {
            return Ok(Err(Ended::Stopped));
        }
        let mut votes = Vec::with_capacity(self.labelled.len());
        for submission in 0..self.labelled.len() {
            votes.push(self.votes((REPEATED, submission)).await?);
        }
        let of = |leaf: &usize| {
            let (submission, position) = self.places[*leaf];
            let cast = votes[submission].get(&position).map(Vec::as_slice).unwrap_or_default();
            let scores = cast.iter().filter_map(|(_, outcome)| outcome.score());
            let passes = scores.clone().filter(|score| *score >= 0.5).count();
            (passes as u32, scores.count() as u32)
        };
        Ok(Ok(leaves.iter().map(of).collect()))
    }

    async fn drive(
        &mut self,
        wanted: &[Wanted],
        set: &mut dyn FnMut(Wanted, Answer),
    ) -> anyhow::Result<Option<Ended>> {
        // Nothing more is queued that workers of all runs would go on with.
        if self.shutdown.drain.is_cancelled() {
            return Ok(Some(Ended::Stopped));
        }
        let mut by_run: BTreeMap<(usize, usize), Vec<Wanted>> = BTreeMap::new();
        for one in wanted {
            let (submission, _) = self.places[one.leaf];
            by_run.entry((one.candidate, submission)).or_default().push(*one);
        }
        for (at, wanted) in &by_run {
            self.enqueue(*at, wanted).await?;
        }
        let mut missing = wanted.len() + 1;
        loop {
            let open = self.open(by_run.keys()).await?;
            for runs in self.affordable(open).await? {
                if !self.shutdown.drain.is_cancelled() {
                    self.share_budget(&runs).await?;
                    self.work(&runs).await?;
                }
            }
            let (mut left, mut budget) = (0, 0);
            for ((candidate, submission), wanted) in &by_run {
                let outcomes = self.outcomes((*candidate, *submission)).await?;
                for one in wanted {
                    let (_, position) = self.places[one.leaf];
                    match outcomes.get(&position).copied().map_or(Read::Missing, read) {
                        Read::Answer(answer) => set(*one, answer),
                        Read::Missing => left += 1,
                        Read::Budget => {
                            left += 1;
                            budget += 1;
                        }
                    }
                }
            }
            if left == 0 {
                return Ok(None);
            }
            if self.shutdown.drain.is_cancelled() {
                return Ok(Some(Ended::Stopped));
            }
            for at in by_run.keys() {
                let record = self.store().run(&self.benched(*at).run).await?;
                if record.state != RunState::Active {
                    return Ok(Some(Ended::Refused(record.reason)));
                }
            }
            // What one run did not use, another may need.
            if budget == 0 || left >= missing {
                let ended = if budget > 0 { Ended::Budget } else { Ended::Unanswered(left) };
                return Ok(Some(ended));
            }
            missing = left;
        }
    }

    fn benched(&self, (candidate, submission): (usize, usize)) -> &Benched {
        let repeated = self.repeated.as_ref().filter(|_| candidate == REPEATED);
        &repeated.unwrap_or_else(|| &self.judged[candidate]).runs[submission]
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        self.stores.runs()
    }

    /// The candidates, and the repeated baseline.
    pub(super) fn all(&self) -> impl Iterator<Item = &Judged> {
        self.judged.iter().chain(&self.repeated)
    }

    /// Puts the wanted leaves in the run's queue; records and wakes the run, once.
    async fn enqueue(&mut self, at: (usize, usize), wanted: &[Wanted]) -> anyhow::Result<()> {
        let places = &self.places;
        let judged = match &mut self.repeated {
            Some(repeated) if at.0 == REPEATED => repeated,
            _ => &mut self.judged[at.0],
        };
        let benched = &mut judged.runs[at.1];
        self.stores.record(benched).await?;
        let mut all: Vec<LeafTask> = wanted
            .iter()
            .filter_map(|one| benched.tasks.get(&places[one.leaf].1))
            .flatten()
            .cloned()
            .collect();
        all.sort_by_key(|task| task.order);
        tasks::enqueue(all, &benched.run, &**self.stores.runs()).await?;
        if !std::mem::replace(&mut benched.woken, true) {
            let run = benched.run.clone();
            self.wake(&run).await?;
        }
        Ok(())
    }

    /// Lets a run go on that an earlier command left.
    async fn wake(&self, run: &RunId) -> anyhow::Result<()> {
        let store = self.store();
        if store.run(run).await?.state == RunState::Paused {
            store.control(run, RunState::Active, "").await?;
        }
        if self.budget == Some(Limit::None) {
            self.lift_budget(run).await?;
        }
        let again = [FailureClass::Transient, FailureClass::Throttled, FailureClass::LostLease];
        store.retry(run, &again).await?;
        Ok(())
    }

    /// Of these runs, those with anything left to do, and how much.
    async fn open(
        &self,
        runs: impl Iterator<Item = &(usize, usize)>,
    ) -> anyhow::Result<BTreeMap<RunId, u64>> {
        let mut open = BTreeMap::new();
        for at in runs {
            let run = &self.benched(*at).run;
            let progress = self.store().progress(run).await?;
            let budget = progress.ungraded.get(&UngradedReason::Budget).copied().unwrap_or(0);
            // A larger budget puts these back.
            let budget = if self.budget.is_some() { budget } else { 0 };
            let left = progress.pending + progress.leased + budget;
            if left > 0 {
                open.insert(run.clone(), left);
            }
        }
        Ok(open)
    }

    async fn work(&self, open: &BTreeMap<RunId, u64>) -> anyhow::Result<()> {
        let first = &self.judged[0].candidate.panel.first;
        let prices = first.facts.prices;
        let shown = Arc::new(Progress::new(open.values().sum(), 0, self.quiet, prices));
        let judges = self.all().map(|of| of.candidate.panel.first.clone()).collect();
        let endpoints = Arc::new(Endpoints::new(self.config.clone(), judges));
        let scope = Scope {
            runs: Some(open.keys().cloned().collect()),
            until_empty: true,
            ..Scope::default()
        };
        let shutdown = self.shutdown.clone();
        engine::work(self.config, self.store(), endpoints, &shown, shutdown, &scope).await?;
        Ok(())
    }

    /// What the votes on each leaf have come to.
    async fn outcomes(&self, at: (usize, usize)) -> anyhow::Result<BTreeMap<u32, Outcome>> {
        let ballot = self.benched(at).spec.ballot();
        let tally = |(position, votes): (u32, Vec<(u32, Outcome)>)| {
            (position, ballot.tally(&votes).outcome)
        };
        Ok(self.votes(at).await?.into_iter().map(tally).collect())
    }

    /// The votes on each leaf of a run, as far as they are cast.
    async fn votes(
        &self,
        at: (usize, usize),
    ) -> anyhow::Result<BTreeMap<u32, Vec<(u32, Outcome)>>> {
        let Benched { run, recorded, .. } = self.benched(at);
        let (mut votes, mut after): (BTreeMap<u32, Vec<(u32, Outcome)>>, _) = Default::default();
        if !recorded {
            return Ok(votes);
        }
        loop {
            let page = self.store().outcomes(run, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(votes) };
            after = Some((last.position, last.sample));
            for task in page {
                votes.entry(task.position).or_default().push((task.sample, task.outcome));
            }
        }
    }

    /// A candidate's verdict on a leaf, where it has one.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn verdict(
        &self,
        candidate: usize,
        leaf: usize,
    ) -> anyhow::Result<Option<Verdict>> {
        let (submission, position) = self.places[leaf];
        let run = &self.benched((candidate, submission)).run;
        let before = position.checked_sub(1).map(|before| (before, u32::MAX >> 1));
        let page = self.store().verdicts(run, before, 1).await?;
        let found = page.into_iter().find(|stored| stored.position == position);
        Ok(found.and_then(|stored| stored.verdict))
    }
}

/// What an outcome is to a tuning.
enum Read {
    Answer(Answer),
    Budget,
    Missing,
}

/// A failure of the candidate is a wrong answer; one of anything else is none.
fn read(outcome: Outcome) -> Read {
    match outcome {
        Outcome::Graded { score } if score >= 0.5 => Read::Answer(Answer::Pass),
        Outcome::Graded { .. } => Read::Answer(Answer::Fail),
        Outcome::Ungraded { reason } => match reason {
            UngradedReason::Unparseable
            | UngradedReason::Refused
            | UngradedReason::ContextOverflow
            | UngradedReason::Unranked
            | UngradedReason::BadRequest
            | UngradedReason::Tied => Read::Answer(Answer::Unparsed),
            UngradedReason::Budget => Read::Budget,
            _ => Read::Missing,
        },
    }
}
