//! The trait that every engine implements, and the nouns that pass through it.
//!
//! Contract of all methods: calls are batched and each id gets its own outcome, in the order
//! given. A returned `Ok` is durable. Nobody retries inside, except SQLite's own wait for a lock.
//! Every method is idempotent where its comment says so. Time is the store's time.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use tribunal_core::{
    Attempt, BlobHash, ContentKey, FailureClass, LeafTask, LeaseId, Outcome, RunId, RunState,
    UngradedReason, Verdict, Via, WorkerId,
};

use crate::{
    batches::{Answered, Batches},
    budget::{Amount, Budget, Reservation, ReserveOutcome, Settlement},
    error::StoreError,
    fleet::Fleet,
    label::{Label, NewLabel},
    quota::{QuotaAsk, QuotaGrant, QuotaPool, QuotaReport, QuotaView},
    share::Weight,
    totals::RunTotals,
};

/// A run to be recorded.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// Hash of its inputs without the generation, to find the newest run of the same inputs.
    pub inputs: BlobHash,
    /// How often the same inputs were started anew before.
    pub generation: u32,
    /// The blob with its spec.
    pub spec: BlobHash,
    /// Name of the judge.
    pub judge: String,
    /// Name of the model.
    pub model: String,
    /// Whether the judge is known to be simulated.
    pub simulated: bool,
    /// Whether its tasks take over verdicts of other runs, and wait for those that are being
    /// asked for. Other runs may take over its own in any case.
    pub reuse: bool,
}

/// A run as recorded.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// What it was made with.
    pub run: NewRun,
    /// What workers may do with it.
    pub state: RunState,
    /// Why it is paused; empty when nobody said.
    pub reason: String,
    /// Its share against other runs.
    pub weight: Weight,
    /// Runs of a higher priority are claimed from first.
    pub priority: i32,
    /// How many of its tasks may be leased at once, over all workers; `None` for any number.
    pub max_in_flight: Option<NonZeroU32>,
    /// How its questions reach the judge.
    pub via: Via,
    /// When it was recorded, milliseconds since the Unix epoch.
    pub created_ms: i64,
}

/// A claimed task: the right to answer for it until `ttl` has passed.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Fresh random bits of this claim.
    pub lease: LeaseId,
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: LeafTask,
    /// Charged failures of this task before this claim.
    pub failures: u32,
    /// Time since the task's first claim, zero for that one. It begins anew when the task is released,
    /// or put back in the queue by `retry` or a larger budget.
    pub age: Duration,
    /// Whether the run has a budget: then every call is reserved before and settled after it.
    pub budgeted: bool,
    /// A verdict of another run with the same content key, where there is one.
    pub reusable: Option<Box<Reusable>>,
    /// How the run's questions reach the judge.
    pub via: Via,
    /// The question that was posted for it, with the reply; kept until the task is completed or fails.
    pub answered: Option<Box<Answered>>,
}

/// A graded verdict that a task can take over.
#[derive(Clone, Debug, PartialEq)]
pub struct Reusable {
    /// The run that it was found in.
    pub run: RunId,
    /// The verdict as it stands there: made by a judge, or taken over itself.
    pub verdict: Verdict,
}

/// What a heartbeat learns about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Extended by the ttl.
    Held,
    /// No longer this worker's: its answer will be refused.
    Lost,
    /// The run was cancelled: stop, and release.
    Cancel,
    /// The run was paused: finish, claim nothing more of it.
    Drain,
}

/// A verdict to be stored; a copy, for another try, copies nothing of what it holds.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The run.
    pub run: RunId,
    /// The claim that it answers.
    pub lease: LeaseId,
    /// The verdict; its position and sample say which task.
    pub verdict: Arc<Verdict>,
    /// Every call made under this claim, in order.
    pub attempts: Arc<[Attempt]>,
}

/// What became of a [`Completion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompleteOutcome {
    /// Verdict stored, task done.
    Stored,
    /// This lease has stored this task's verdict before: an earlier commit was not heard of.
    Duplicate,
    /// The lease is not the task's any more: nothing was written.
    Fenced,
}

/// A task that failed under a claim.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The run.
    pub run: RunId,
    /// The claim.
    pub lease: LeaseId,
    /// Position of the task.
    pub position: u32,
    /// Sample of the task.
    pub sample: u32,
    /// Why.
    pub class: FailureClass,
    /// Wait before the next claim; `None` makes it a dead letter.
    pub retry_in: Option<Duration>,
    /// Failures that this adds to [`Claim::failures`].
    pub charged: u32,
    /// The last message, without secrets.
    pub error: String,
    /// Every call made under this claim, in order.
    pub attempts: Vec<Attempt>,
}

/// What became of a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOutcome {
    /// Back in the queue, or dead.
    Recorded,
    /// The lease is not the task's any more: nothing was written.
    Fenced,
}

/// A stored verdict, or what is known of a task without one.
#[derive(Clone, Debug)]
pub struct StoredVerdict {
    /// Depth-first position of the node in the unpruned rubric.
    pub position: u32,
    /// 0-based sample.
    pub sample: u32,
    /// The verdict; `None` for a task that has none.
    pub verdict: Option<Verdict>,
    /// For a task without verdict: why, so far.
    pub missing: Option<(UngradedReason, String)>,
}

/// What is known of a task without reading its verdict's record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskOutcome {
    /// Depth-first position of the node in the unpruned rubric.
    pub position: u32,
    /// 0-based sample.
    pub sample: u32,
    /// The verdict's outcome; for a task without verdict, why so far.
    pub outcome: Outcome,
}

/// Counts of a run's tasks by state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// All tasks.
    pub leaves: u64,
    /// Waiting to be claimed, now or later.
    pub pending: u64,
    /// Those of them that wait for a batch's reply.
    pub posted: u64,
    /// Claimed.
    pub leased: u64,
    /// With a verdict, graded or ungraded.
    pub done: u64,
    /// Given up; `retry` puts them back.
    pub dead: u64,
    /// Of a cancelled run.
    pub cancelled: u64,
    /// Verdicts without a score, and dead and cancelled tasks, by reason.
    pub ungraded: BTreeMap<UngradedReason, u64>,
    /// Milliseconds until the next waiting task may be claimed; `None` when nothing waits but for a
    /// batch.
    pub next_in_ms: Option<u64>,
}

/// What [`Store::prune`] took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Tasks.
    pub tasks: u64,
    /// Verdicts, graded and ungraded.
    pub verdicts: u64,
    /// Calls that were recorded.
    pub attempts: u64,
    /// Blobs that nothing else refers to.
    pub blobs: u64,
    /// Bytes that the store's file is smaller by.
    pub bytes: u64,
}

/// Queue, verdicts and blobs in one transactional place.
#[async_trait]
pub trait Store: Batches + Fleet {
    /// Puts blobs where they are not yet; returns their hashes. Idempotent.
    async fn put_blobs(&self, blobs: Vec<Vec<u8>>) -> Result<Vec<BlobHash>, StoreError>;

    /// The blob's bytes, checked against its hash.
    async fn blob(&self, hash: BlobHash) -> Result<Arc<[u8]>, StoreError>;

    /// Tokens of these texts where somebody has counted them with this vocabulary. This is a memory:
    /// an engine may forget, and need not remember anything.
    async fn token_counts(
        &self,
        _vocabulary: &str,
        texts: &[BlobHash],
    ) -> Result<Vec<Option<u64>>, StoreError> {
        Ok(vec![None; texts.len()])
    }

    /// Remembers tokens of texts. Idempotent; the first count of a text stays.
    async fn put_token_counts(
        &self,
        _vocabulary: &str,
        _counts: Vec<(BlobHash, u64)>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// Records the run if it is not there. Idempotent; an existing run keeps its state.
    async fn create_run(&self, run: NewRun) -> Result<RunRecord, StoreError>;

    /// The run, or [`StoreError::NoSuchRun`].
    async fn run(&self, run: &RunId) -> Result<RunRecord, StoreError>;

    /// All runs, the newest first.
    async fn runs(&self) -> Result<Vec<RunRecord>, StoreError>;

    /// Puts tasks in the queue; those there already stay as they are. Returns how many are new.
    /// Idempotent on (run, position, sample). New tasks of a cancelled run are cancelled too.
    async fn enqueue(&self, run: &RunId, tasks: Vec<LeafTask>) -> Result<u64, StoreError>;

    /// Claims up to `slots` tasks of active runs that may run now: fair between runs by the
    /// tokens they use over their [`Weight`], in claim order within a run, lost tasks last. `run`
    /// limits it to one run. Reaps leases that have ended.
    ///
    /// Of a run that allows reuse, a task whose content key another run has a graded verdict for,
    /// by a judge or taken over, is claimed with that verdict; one whose content key is leased in
    /// another run is not claimed until that lease has come to an end. Tasks that a rule decides
    /// are claimed as they are.
    ///
    /// Nothing is claimed of a run while another of a higher priority ([`Store::set_priority`]) has a task
    /// that can be had; shares are between runs of one priority.
    ///
    /// A run never has more tasks leased than its cap ([`Store::set_max_in_flight`]). While it has as
    /// many, it counts as one with nothing to claim.
    ///
    /// A claim is charged the task's estimate; `complete`, `fail` and `release` settle with the
    /// tokens of the attempts. What a lost lease used nobody knows: its estimate stays charged.
    async fn claim(
        &self,
        worker: WorkerId,
        slots: usize,
        ttl: Duration,
        run: Option<&RunId>,
    ) -> Result<Vec<Claim>, StoreError>;

    /// Extends leases by `ttl` from now. A lease that has ended is lost, even if nobody took it.
    async fn heartbeat(
        &self,
        leases: Vec<(RunId, u32, u32, LeaseId)>,
        ttl: Duration,
    ) -> Result<Vec<Held>, StoreError>;

    /// Stores verdicts: compares the lease, moves the task, inserts the verdict, in one
    /// transaction. Safe to repeat after an answer that was not heard. A score outside [0, 1] is
    /// [`StoreError::Engine`] for the whole batch, and nothing is written.
    async fn complete(
        &self,
        completions: Vec<Completion>,
    ) -> Result<Vec<CompleteOutcome>, StoreError>;

    /// Records failures: back to the queue after a wait, or dead.
    async fn fail(&self, failures: Vec<Failure>) -> Result<Vec<FailOutcome>, StoreError>;

    /// Gives claims back without a verdict and without a charge (shutdown). Attempts made are
    /// kept. A lost lease is ignored.
    async fn release(
        &self,
        leases: Vec<(RunId, u32, u32, LeaseId, Vec<Attempt>)>,
    ) -> Result<(), StoreError>;

    /// Takes back leases that have ended, at most `limit`, the oldest end first: to the end of the
    /// queue, or dead after [`MAX_LOST_LEASES`], or cancelled with its run. Returns how many.
    async fn reap(&self, limit: usize) -> Result<u64, StoreError>;

    /// Sets what workers may do with a run. Cancelling ends its pending tasks, and those that are
    /// claimed when they come back without a verdict; only `retry` brings them back.
    async fn control(&self, run: &RunId, state: RunState, reason: &str) -> Result<(), StoreError>;

    /// Sets a run's share against other runs, from the next claim on. A new run has weight 1.
    async fn set_weight(&self, run: &RunId, weight: Weight) -> Result<(), StoreError>;

    /// Sets a run's priority, from the next claim on: of a new run it is 0. What is leased already stays so.
    async fn set_priority(&self, run: &RunId, priority: i32) -> Result<(), StoreError>;

    /// Caps how many of a run's tasks are leased at once over all workers, from the next claim on, or
    /// lifts the cap. What is leased already stays so. Leases that have ended do not count, nor do
    /// tasks that wait for a batch's reply. A new run has no cap.
    async fn set_max_in_flight(
        &self,
        run: &RunId,
        cap: Option<NonZeroU32>,
    ) -> Result<(), StoreError>;

    /// For each content key, whether a run has a verdict for it that a task could take over now.
    async fn reusable(&self, keys: Vec<ContentKey>) -> Result<Vec<bool>, StoreError>;

    /// Limits what a run may spend, from the next claim on, or lifts the limits. What it has spent
    /// so far is taken to be `spent` at least, for calls made without a budget. Where the limits
    /// hold more than before, tasks ungraded for [`UngradedReason::Budget`] go back in the queue,
    /// unless the run is cancelled. Returns how many.
    async fn set_budget(
        &self,
        run: &RunId,
        budget: Budget,
        spent: Amount,
    ) -> Result<u64, StoreError>;

    /// Reserves what calls cost at most, before they are made: what is spent and reserved never
    /// passes the budget. Idempotent by the reservations' ids. What is not settled stays reserved,
    /// whatever becomes of the lease: a call of unknown outcome is charged its reservation.
    async fn reserve(
        &self,
        reservations: Vec<Reservation>,
    ) -> Result<Vec<ReserveOutcome>, StoreError>;

    /// Replaces reservations by what the calls have cost, also after the lease was lost. What is
    /// not reserved, or not any more, is passed over: safe to repeat.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), StoreError>;

    /// Puts dead and ungraded tasks back in the queue, or only those of `classes` (a dead
    /// letter's class, or the class whose reason the ungraded verdict has). An ungraded verdict
    /// goes away with it; graded ones stay. A cancelled run becomes active, and its cancelled
    /// tasks pending. Returns how many.
    async fn retry(&self, run: &RunId, classes: &[FailureClass]) -> Result<u64, StoreError>;

    /// Verdicts and missing tasks in order of (position, sample), from the first one after
    /// `after`, at most `limit`.
    async fn verdicts(
        &self,
        run: &RunId,
        after: Option<(u32, u32)>,
        limit: usize,
    ) -> Result<Vec<StoredVerdict>, StoreError>;

    /// Outcomes alone, of every task with a verdict or without, in order of (position, sample),
    /// from the first one after `after`, at most `limit`.
    async fn outcomes(
        &self,
        run: &RunId,
        after: Option<(u32, u32)>,
        limit: usize,
    ) -> Result<Vec<TaskOutcome>, StoreError>;

    /// Counts of tasks by state.
    async fn progress(&self, run: &RunId) -> Result<Progress, StoreError>;

    /// What the run has cost.
    async fn totals(&self, run: &RunId) -> Result<RunTotals, StoreError>;

    /// The attempts at one task, in order.
    async fn attempts(
        &self,
        run: &RunId,
        position: u32,
        sample: u32,
    ) -> Result<Vec<Attempt>, StoreError>;

    /// Appends a label to the run's list. Never changes a verdict or another label.
    async fn append_label(&self, run: &RunId, label: NewLabel) -> Result<Label, StoreError>;

    /// The run's labels in the order in which they were appended, from the first one behind the
    /// place `after` (0 for all), at most `limit`.
    async fn labels(&self, run: &RunId, after: u64, limit: usize)
    -> Result<Vec<Label>, StoreError>;

    /// Announces a worker process, so that its leases can be taken back at once when it dies.
    /// Takes back the leases of announced workers of this machine that are dead: to the end of
    /// the queue, or dead after [`MAX_DEAD_WORKERS`].
    async fn join(&self, worker: WorkerId) -> Result<(), StoreError>;

    /// Removes a run with its tasks, verdicts and attempts, and every blob that no other run
    /// needs; gives the room back. Blobs stay while somebody puts blobs for a run that is not
    /// created yet: the next prune takes them. Refused with [`StoreError::InUse`] while leases of
    /// the run are held. The run is gone at once; should the call be interrupted, the next prune
    /// removes the rest.
    async fn prune(&self, run: &RunId) -> Result<Pruned, StoreError>;

    /// Lets the room of what was removed be used again, and gives to the disk what can be given without
    /// holding anybody up; with `full` all of it, while nobody gets at the table in hand. Returns the
    /// bytes that the store is smaller by.
    async fn vacuum(&self, full: bool) -> Result<u64, StoreError>;

    /// Leases some of the quota that all workers of a provider account share: what the ask needs
    /// and a little besides, to be spent within [`QUOTA_LEASE`](crate::quota::QUOTA_LEASE). What is
    /// not spent is given back with the next ask, or lost. Grants less what was given back never
    /// exceed, in any minute, the rates in force and a second's burst. An ask without a need only
    /// looks. Not idempotent: a grant that was not heard of is lost.
    async fn take_quota(&self, pool: &QuotaPool, ask: &QuotaAsk) -> Result<QuotaGrant, StoreError>;

    /// Tells all workers of a provider account what one of them learnt: limits, or that a call was
    /// turned away. Repeating a report does no harm.
    async fn report_quota(
        &self,
        pool: &QuotaPool,
        report: &QuotaReport,
    ) -> Result<QuotaView, StoreError>;

    /// Whether the store answers, and is still the one that was opened: a file that was removed may
    /// answer for as long as somebody holds it.
    async fn ready(&self) -> Result<(), StoreError> {
        self.key().await.map(drop)
    }

    /// 32 random bytes that were made with the store and never change: the key of the nonces
    /// that fence a submission's text.
    async fn key(&self) -> Result<[u8; 32], StoreError>;

    /// Ends gracefully: everything acknowledged is on disk.
    async fn close(&self) -> Result<(), StoreError>;
}

/// Leases of one task that may end by time, one after the other, before it becomes a dead letter.
///
/// Such a worker hangs, or runs where nobody can see it die: three in a row speak against the
/// task. A lost task goes behind its run's tasks that were lost less often, so that one that was
/// merely in flight at a bad moment is not hit again at once, and one that kills its workers is
/// reached alone in the end. A failure that a living worker records sets both counts back.
pub const MAX_LOST_LEASES: u32 = 3;

/// Worker processes known to be dead that may have held one task, one after the other, before it
/// becomes a dead letter.
///
/// Higher than [`MAX_LOST_LEASES`]: a killed process takes everything in flight with it, the
/// innocent too, and an operator who kills and restarts a run must not lose leaves to it.
pub const MAX_DEAD_WORKERS: u32 = 10;

/// Dead workers from which on a task is a suspect: a worker holds one of these at a time.
///
/// Two that were in flight together each time cannot be told apart by their counts, and the innocent one
/// would be given up with the other: what kills its workers must use up its last chances alone.
pub(crate) const SUSPECT_DEAD_WORKERS: u32 = MAX_DEAD_WORKERS - 2;
