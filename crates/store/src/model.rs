//! The store in memory: the contract at its plainest.
//!
//! Owns the meaning that every engine is compared with. One lock, plain maps, no index, no
//! cleverness: where this and an engine disagree, one of them is wrong. It is not for large runs.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tribunal_core::{
    Attempt, BlobHash, ContentKey, FailureClass, LeafTask, LeaseId, Outcome, RunId, RunState,
    UngradedReason, Via, WorkerId,
};

use crate::{
    budget::{Amount, Budget, Reservation, ReservationId, ReserveOutcome, Settlement},
    clock::Clock,
    error::StoreError,
    label::{Label, NewLabel},
    quota::{QuotaAsk, QuotaGrant, QuotaPool, QuotaReport, QuotaView},
    record,
    share::{Weight, used_tokens},
    store::{
        Claim, CompleteOutcome, Completion, FailOutcome, Failure, Held, NewRun, Progress, Pruned,
        RunRecord, Store, StoredVerdict, TaskOutcome,
    },
    totals::RunTotals,
};

mod batches;
mod budget;
mod claim;
mod fleet;
mod labels;
mod prune;
mod queue;
mod quota;

use queue::{Run, State, Task};

/// What errors call this store.
const NAME: &str = "the store in memory";

/// The store in memory.
pub struct ModelStore {
    clock: Arc<dyn Clock>,
    tables: Mutex<Tables>,
    key: [u8; 32],
}

/// Everything that an engine would keep in files.
#[derive(Default)]
struct Tables {
    runs: Vec<Run>,
    workers: Vec<fleet::Worker>,
    batches: Vec<batches::Batch>,
    blobs: HashMap<BlobHash, Arc<[u8]>>,
    /// Reservations that are not settled.
    reservations: HashMap<ReservationId, Reservation>,
    /// Blobs put since a run was created last.
    unnamed: HashSet<BlobHash>,
    /// The rows of quota, as text.
    quotas: HashMap<QuotaPool, String>,
    /// The virtual time that a run starts from when it becomes ready.
    virtual_time: i64,
    /// Labels appended so far, those of runs that are gone too.
    labelled: u64,
}

// === impl ModelStore ===

impl ModelStore {
    /// An empty store that takes its time from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, tables: Mutex::default(), key: rand::random() }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Tables ===

impl Tables {
    fn run(&mut self, id: &RunId) -> Result<&mut Run, StoreError> {
        self.find(id).ok_or_else(|| StoreError::NoSuchRun { run: id.to_string() })
    }

    fn find(&mut self, id: &RunId) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.record.run.id == *id)
    }

    /// The run and the task that this lease holds now.
    fn held(
        &mut self,
        run: &RunId,
        key: (u32, u32),
        lease: LeaseId,
        now: i64,
    ) -> Option<(RunState, &mut Task)> {
        let run = self.find(run)?;
        let task = run.tasks.get_mut(&key)?;
        let held = matches!(task.state, State::Leased { lease: current, end, .. }
            if current == lease && end > now);
        held.then_some((run.record.state, task))
    }
}

#[async_trait]
impl Store for ModelStore {
    async fn put_blobs(&self, blobs: Vec<Vec<u8>>) -> Result<Vec<BlobHash>, StoreError> {
        let mut tables = self.tables();
        let put = |bytes: Vec<u8>| {
            let hash = BlobHash::of(&bytes);
            tables.note_put(hash);
            tables.blobs.entry(hash).or_insert_with(|| bytes.into());
            hash
        };
        Ok(blobs.into_iter().map(put).collect())
    }

    async fn blob(&self, hash: BlobHash) -> Result<Arc<[u8]>, StoreError> {
        let blob = self.tables().blobs.get(&hash).cloned();
        blob.ok_or_else(|| StoreError::Blob { hash: hash.to_string(), what: "missing" })
    }

    async fn create_run(&self, run: NewRun) -> Result<RunRecord, StoreError> {
        let created_ms = self.clock.now_ms();
        let mut tables = self.tables();
        tables.unnamed.clear();
        if let Some(known) = tables.find(&run.id) {
            return Ok(known.record.clone());
        }
        let record = RunRecord {
            run,
            state: RunState::Active,
            reason: String::new(),
            weight: Weight::default(),
            priority: 0,
            max_in_flight: None,
            via: Via::default(),
            created_ms,
        };
        tables.runs.push(Run::new(record.clone()));
        Ok(record)
    }

    async fn run(&self, run: &RunId) -> Result<RunRecord, StoreError> {
        Ok(self.tables().run(run)?.record.clone())
    }

    async fn runs(&self) -> Result<Vec<RunRecord>, StoreError> {
        let tables = self.tables();
        let newest_first = tables.runs.iter().rev();
        Ok(newest_first.map(|run| run.record.clone()).collect())
    }

    async fn enqueue(&self, run: &RunId, tasks: Vec<LeafTask>) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let run = tables.run(run)?;
        let before = run.tasks.len();
        for task in tasks {
            let state = run.back_in_queue();
            let key = (task.position, task.sample);
            run.tasks.entry(key).or_insert_with(|| Task::new(task, state));
        }
        Ok((run.tasks.len() - before) as u64)
    }

    async fn claim(
        &self,
        worker: WorkerId,
        slots: usize,
        ttl: Duration,
        run: Option<&RunId>,
    ) -> Result<Vec<Claim>, StoreError> {
        let now = self.clock.now_ms();
        let mut tables = self.tables();
        if let Some(run) = run {
            tables.run(run)?;
        }
        tables.reap(usize::MAX, now);
        tables.promote(now);
        Ok(tables.claim((worker, slots), after(now, ttl), run, now))
    }

    async fn heartbeat(
        &self,
        leases: Vec<(RunId, u32, u32, LeaseId)>,
        ttl: Duration,
    ) -> Result<Vec<Held>, StoreError> {
        let now = self.clock.now_ms();
        let mut tables = self.tables();
        let beat = |(run, position, sample, lease): (RunId, u32, u32, LeaseId)| {
            let Some((state, task)) = tables.held(&run, (position, sample), lease, now) else {
                return Held::Lost;
            };
            if let State::Leased { end, .. } = &mut task.state {
                *end = after(now, ttl);
            }
            match state {
                RunState::Active => Held::Held,
                RunState::Paused => Held::Drain,
                RunState::Cancelled => Held::Cancel,
            }
        };
        Ok(leases.into_iter().map(beat).collect())
    }

    async fn complete(
        &self,
        completions: Vec<Completion>,
    ) -> Result<Vec<CompleteOutcome>, StoreError> {
        let now = self.clock.now_ms();
        for completion in &completions {
            record::check(&completion.verdict, NAME)?;
        }
        let mut tables = self.tables();
        let complete = |completion: Completion| {
            let Completion { run, lease, verdict, attempts } = completion;
            let key = (verdict.position, verdict.sample);
            if let Some((_, task)) = tables.held(&run, key, lease, now) {
                let used = used_tokens(&attempts);
                task.attempts.extend_from_slice(&attempts);
                task.class = None;
                task.error.clear();
                task.posted = None;
                task.state = State::Done { lease, verdict, stored_ms: now };
                tables.settle(&run, key, used);
                return CompleteOutcome::Stored;
            }
            let task = tables.find(&run).and_then(|run| run.tasks.get(&key));
            match task.map(|task| &task.state) {
                Some(State::Done { lease: by, .. }) if *by == lease => CompleteOutcome::Duplicate,
                _ => CompleteOutcome::Fenced,
            }
        };
        Ok(completions.into_iter().map(complete).collect())
    }

    async fn fail(&self, failures: Vec<Failure>) -> Result<Vec<FailOutcome>, StoreError> {
        let now = self.clock.now_ms();
        let mut tables = self.tables();
        let fail = |failure: Failure| {
            let key = (failure.position, failure.sample);
            let Some((state, task)) = tables.held(&failure.run, key, failure.lease, now) else {
                return FailOutcome::Fenced;
            };
            let used = used_tokens(&failure.attempts);
            task.attempts.extend(failure.attempts);
            task.failures = task.failures.saturating_add(failure.charged);
            task.class = Some(failure.class);
            task.error = failure.error;
            task.posted = None;
            task.forgive_losses();
            task.state = match (state, failure.retry_in) {
                (RunState::Cancelled, _) => State::Cancelled,
                (_, None) => State::Dead,
                (_, Some(wait)) if wait.as_millis() == 0 => State::Ready,
                (_, Some(wait)) => State::Waiting { from: now, until: after(now, wait) },
            };
            tables.settle(&failure.run, key, used);
            FailOutcome::Recorded
        };
        Ok(failures.into_iter().map(fail).collect())
    }

    async fn release(
        &self,
        leases: Vec<(RunId, u32, u32, LeaseId, Vec<Attempt>)>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now_ms();
        let mut tables = self.tables();
        for (run, position, sample, lease, attempts) in leases {
            if let Some((state, task)) = tables.held(&run, (position, sample), lease, now) {
                let used = used_tokens(&attempts);
                task.attempts.extend(attempts);
                task.first_claim_ms = None;
                task.state = match state {
                    RunState::Cancelled => State::Cancelled,
                    RunState::Active | RunState::Paused => State::Ready,
                };
                tables.settle(&run, (position, sample), used);
            }
        }
        Ok(())
    }

    async fn reap(&self, limit: usize) -> Result<u64, StoreError> {
        let now = self.clock.now_ms();
        Ok(self.tables().reap(limit, now))
    }

    async fn control(&self, run: &RunId, state: RunState, reason: &str) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let run = tables.run(run)?;
        run.record.state = state;
        run.record.reason = reason.to_owned();
        if state == RunState::Cancelled {
            for task in run.tasks.values_mut() {
                if matches!(task.state, State::Ready | State::Waiting { .. } | State::Posted) {
                    task.state = State::Cancelled;
                }
            }
        }
        Ok(())
    }

    async fn set_weight(&self, run: &RunId, weight: Weight) -> Result<(), StoreError> {
        self.tables().run(run)?.record.weight = weight;
        Ok(())
    }

    async fn set_priority(&self, run: &RunId, priority: i32) -> Result<(), StoreError> {
        self.tables().run(run)?.record.priority = priority;
        Ok(())
    }

    async fn set_max_in_flight(
        &self,
        run: &RunId,
        cap: Option<NonZeroU32>,
    ) -> Result<(), StoreError> {
        self.tables().run(run)?.record.max_in_flight = cap;
        Ok(())
    }

    async fn set_budget(
        &self,
        run: &RunId,
        budget: Budget,
        spent: Amount,
    ) -> Result<u64, StoreError> {
        self.tables().set_budget(run, budget, spent)
    }

    async fn reserve(
        &self,
        reservations: Vec<Reservation>,
    ) -> Result<Vec<ReserveOutcome>, StoreError> {
        let now = self.clock.now_ms();
        let mut tables = self.tables();
        let reserve = |reservation| tables.reserve(reservation, now);
        Ok(reservations.into_iter().map(reserve).collect())
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), StoreError> {
        let mut tables = self.tables();
        settlements.iter().for_each(|settlement| tables.settle_reservation(settlement));
        Ok(())
    }

    async fn retry(&self, run: &RunId, classes: &[FailureClass]) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let run = tables.run(run)?;
        if run.record.state == RunState::Cancelled {
            run.record.state = RunState::Active;
            run.record.reason.clear();
        }
        let mut count = 0;
        for task in run.tasks.values_mut() {
            if task.may_retry(classes) {
                task.begin_again();
                count += 1;
            }
        }
        Ok(count)
    }

    async fn verdicts(
        &self,
        run: &RunId,
        after: Option<(u32, u32)>,
        limit: usize,
    ) -> Result<Vec<StoredVerdict>, StoreError> {
        let mut tables = self.tables();
        let page = tables.run(run)?.page(after, limit);
        let stored = |(&(position, sample), task): (&(u32, u32), &Task)| StoredVerdict {
            position,
            sample,
            verdict: task.verdict().cloned(),
            missing: task.missing().map(|reason| (reason, task.error.clone())),
        };
        Ok(page.map(stored).collect())
    }

    async fn outcomes(
        &self,
        run: &RunId,
        after: Option<(u32, u32)>,
        limit: usize,
    ) -> Result<Vec<TaskOutcome>, StoreError> {
        let mut tables = self.tables();
        let page = tables.run(run)?.page(after, limit);
        let outcome = |(&(position, sample), task): (&(u32, u32), &Task)| TaskOutcome {
            position,
            sample,
            outcome: match (task.verdict(), task.missing()) {
                (Some(verdict), _) => verdict.outcome,
                (None, reason) => {
                    Outcome::Ungraded { reason: reason.unwrap_or(UngradedReason::Pending) }
                }
            },
        };
        Ok(page.map(outcome).collect())
    }

    async fn progress(&self, run: &RunId) -> Result<Progress, StoreError> {
        let now = self.clock.now_ms();
        Ok(self.tables().run(run)?.progress(now))
    }

    async fn totals(&self, run: &RunId) -> Result<RunTotals, StoreError> {
        let mut tables = self.tables();
        let spending = tables.spending(run);
        let run = tables.run(run)?;
        Ok(RunTotals { spending, ..run.totals() })
    }

    async fn reusable(&self, keys: Vec<ContentKey>) -> Result<Vec<bool>, StoreError> {
        let known = self.tables().reusable_keys();
        Ok(keys.iter().map(|key| known.contains(key)).collect())
    }

    async fn attempts(
        &self,
        run: &RunId,
        position: u32,
        sample: u32,
    ) -> Result<Vec<Attempt>, StoreError> {
        let mut tables = self.tables();
        let task = tables.run(run)?.tasks.get(&(position, sample));
        Ok(task.map(|task| task.attempts.clone()).unwrap_or_default())
    }

    async fn append_label(&self, run: &RunId, label: NewLabel) -> Result<Label, StoreError> {
        self.tables().append_label(run, label, self.clock.now_ms())
    }

    async fn labels(
        &self,
        run: &RunId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Label>, StoreError> {
        let mut tables = self.tables();
        let labels = tables.run(run)?.labels.iter();
        Ok(labels.filter(|label| label.seq > after).take(limit).cloned().collect())
    }

    async fn join(&self, worker: WorkerId) -> Result<(), StoreError> {
        // The process that holds this store is the only one: no other can have died.
        let now = self.clock.now_ms();
        self.tables().join(worker, now);
        Ok(())
    }

    async fn prune(&self, run: &RunId) -> Result<Pruned, StoreError> {
        let now = self.clock.now_ms();
        self.tables().prune(run, now)
    }

    async fn vacuum(&self, _full: bool) -> Result<u64, StoreError> {
        // What is removed takes no room.
        Ok(0)
    }

    async fn take_quota(&self, pool: &QuotaPool, ask: &QuotaAsk) -> Result<QuotaGrant, StoreError> {
        let now = self.clock.now_ms();
        Ok(self.tables().quota(pool, now, |row| row.take(now, ask)))
    }

    async fn report_quota(
        &self,
        pool: &QuotaPool,
        report: &QuotaReport,
    ) -> Result<QuotaView, StoreError> {
        let now = self.clock.now_ms();
        Ok(self.tables().quota(pool, now, |row| row.report(now, report)))
    }

    async fn key(&self) -> Result<[u8; 32], StoreError> {
        Ok(self.key)
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The time that lies `wait` after `now`, both in whole milliseconds.
fn after(now: i64, wait: Duration) -> i64 {
    now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}
