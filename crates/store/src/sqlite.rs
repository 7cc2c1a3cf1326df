//! The store in one SQLite file.
//!
//! Owns the engine: one connection that writes, in groups, and a few that read. Several processes
//! may open the same file; SQLite's locks keep their transactions apart, and the leases keep
//! their workers apart. The file must lie on a local disk.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use tribunal_core::{
    Attempt, BlobHash, ContentKey, FailureClass, LeafTask, LeaseId, RunId, RunState, WorkerId,
};

use crate::{
    blob::{self, NewBlobs},
    budget::{Amount, Budget, Reservation, ReserveOutcome, Settlement},
    clock::Clock,
    error::StoreError,
    label::{Label, NewLabel},
    quota::{QuotaAsk, QuotaGrant, QuotaPool, QuotaReport, QuotaView},
    record,
    share::Weight,
    store::{
        Claim, CompleteOutcome, Completion, FailOutcome, Failure, Held, NewRun, Progress, Pruned,
        RunRecord, Store, StoredVerdict, TaskOutcome,
    },
    totals::RunTotals,
};

mod ballast;
mod batch;
mod batches;
mod budget;
mod calls;
mod claim;
mod counts;
mod error;
mod fleet;
mod labels;
mod lease;
mod lock;
mod open;
mod outcome;
mod place;
mod postings;
mod prune;
mod puts;
mod quota;
mod read;
mod request;
mod reuse;
mod run;
mod schema;
mod share;
pub(crate) mod transfer;
mod turn;
mod writer;

pub use open::SqliteOptions;

use budget::{NewReservation, NewSettlement};
use lock::WorkerLocks;
use outcome::{NewFailure, NewRelease};
use place::{Placed, beside};
use puts::Puts;
use request::{Answer, ClaimRequest, Request};
use turn::Turn;
use writer::Writer;

/// The store in one SQLite file.
pub struct SqliteStore {
    /// What errors call it.
    name: String,
    placed: Placed,
    clock: Arc<dyn Clock>,
    writer: Writer,
    readers: SqlitePool,
    /// The runs' numbers, as they are asked for. A number never changes.
    runs: Mutex<HashMap<RunId, i64>>,
    locks: Arc<WorkerLocks>,
    puts: Puts,
    /// How a connection is made for what cannot be done in the writer's transactions.
    connect: SqliteConnectOptions,
}

// === impl SqliteStore ===

impl SqliteStore {
    /// Opens the store at this path, or makes it and its folder. Must be called within a Tokio
    /// runtime, which then writes; a store that is dropped without [`Store::close`] loses
    /// nothing that was acknowledged.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`], [`StoreError::NewerVersion`], [`StoreError::ReadOnly`],
    /// [`StoreError::Full`], [`StoreError::NetworkFilesystem`], or [`StoreError::Open`] with the
    /// system's reason. Nothing is left behind then.
    pub async fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Self::open_with(path, clock, &SqliteOptions::default()).await
    }

    /// As [`SqliteStore::open`], with options.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub async fn open_with(
        path: &Path,
        clock: Arc<dyn Clock>,
        options: &SqliteOptions,
    ) -> Result<Self, StoreError> {
        let opened = open::open(path, options).await?;
        let name = opened.path.display().to_string();
        let turn = Turn::beside(&opened.path).map_err(|e| error::file(&name, &opened.path, &e))?;
        Ok(Self {
            placed: Placed::of(&opened.path)?,
            locks: Arc::new(WorkerLocks::beside(&opened.path)),
            puts: Puts::beside(&opened.path),
            connect: opened.connect,
            writer: Writer::start(opened.path, opened.writer, clock.clone(), turn),
            readers: opened.readers,
            runs: Mutex::default(),
            name,
            clock,
        })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn put_blobs(&self, blobs: Vec<Vec<u8>>) -> Result<Vec<BlobHash>, StoreError> {
        let mut blobs = NewBlobs::of(blobs, &self.name).await?;
        // Before it is known which are there: those must stay too.
        self.puts.begin().await.map_err(|e| self.file_error(&e))?;
        let known = read::known_blobs(&self.readers, blobs.hashes()).await;
        blobs.know(known.map_err(|e| self.error(e))?);
        while let Some(page) = blobs.next(&self.name).await? {
            self.done(Request::PutBlobs(page)).await?;
        }
        Ok(blobs.hashes().to_vec())
    }

    async fn blob(&self, hash: BlobHash) -> Result<Arc<[u8]>, StoreError> {
        let stored = read::blob(&self.readers, hash).await.map_err(|e| self.error(e))?;
        blob::unpack(hash, stored, &self.name).await
    }

    async fn token_counts(
        &self,
        vocabulary: &str,
        texts: &[BlobHash],
    ) -> Result<Vec<Option<u64>>, StoreError> {
        counts::known(&self.readers, vocabulary, texts).await.map_err(|e| self.error(e))
    }

    async fn put_token_counts(
        &self,
        vocabulary: &str,
        counts: Vec<(BlobHash, u64)>,
    ) -> Result<(), StoreError> {
        self.done(Request::PutCounts(vocabulary.to_owned(), counts)).await
    }

    async fn create_run(&self, run: NewRun) -> Result<RunRecord, StoreError> {
        let id = run.id.clone();
        // An existing run is not written again, so that resuming needs no room on the disk.
        let record = match self.run(&id).await {
            Err(StoreError::NoSuchRun { .. }) => {
                self.done(Request::CreateRun(Box::new(run))).await?;
                self.run(&id).await
            }
            known => known,
        };
        self.puts.end();
        record
    }

    async fn run(&self, run: &RunId) -> Result<RunRecord, StoreError> {
        let seq = self.seq(run).await?;
        let record = read::run(&self.readers, seq).await.map_err(|e| self.error(e))?;
        // Its number was known here, and another process has removed it.
        record.ok_or_else(|| {
            self.forget(run);
            StoreError::NoSuchRun { run: run.to_string() }
        })
    }

    async fn runs(&self) -> Result<Vec<RunRecord>, StoreError> {
        read::runs(&self.readers).await.map_err(|e| self.error(e))
    }

    async fn enqueue(&self, run: &RunId, tasks: Vec<LeafTask>) -> Result<u64, StoreError> {
        let run = self.seq(run).await?;
        self.count(Request::Enqueue { run, tasks }).await
    }

    async fn claim(
        &self,
        worker: WorkerId,
        slots: usize,
        ttl: Duration,
        run: Option<&RunId>,
    ) -> Result<Vec<Claim>, StoreError> {
        let run = match run {
            Some(run) => Some(self.seq(run).await?),
            None => None,
        };
        let request = Request::Claim(ClaimRequest { worker, slots, ttl_ms: millis(ttl), run });
        let Answer::Claimed(tasks) = self.writer.send(request).await? else {
            return Err(self.wrong_answer());
        };
        tasks.into_iter().map(|task| self.claimed(task)).collect()
    }

    async fn heartbeat(
        &self,
        leases: Vec<(RunId, u32, u32, LeaseId)>,
        ttl: Duration,
    ) -> Result<Vec<Held>, StoreError> {
        let mut refs = Vec::with_capacity(leases.len());
        for (run, position, sample, lease) in leases {
            refs.push(self.lease(&run, position, sample, lease).await?);
        }
        let request = Request::Heartbeat { leases: refs, ttl_ms: millis(ttl) };
        match self.writer.send(request).await? {
            Answer::Held(held) => Ok(held),
            _ => Err(self.wrong_answer()),
        }
    }

    async fn complete(
        &self,
        completions: Vec<Completion>,
    ) -> Result<Vec<CompleteOutcome>, StoreError> {
        let mut verdicts = Vec::with_capacity(completions.len());
        for completion in completions {
            verdicts.push(self.new_verdict(completion).await?);
        }
        match self.writer.send(Request::Complete(verdicts)).await? {
            Answer::Completed(outcomes) => Ok(outcomes),
            _ => Err(self.wrong_answer()),
        }
    }

    async fn fail(&self, failures: Vec<Failure>) -> Result<Vec<FailOutcome>, StoreError> {
        let mut items = Vec::with_capacity(failures.len());
        for failure in failures {
            let (position, sample) = (failure.position, failure.sample);
            items.push(NewFailure {
                lease: self.lease(&failure.run, position, sample, failure.lease).await?,
                class: failure.class,
                wait_ms: failure.retry_in.map(millis),
                charged: failure.charged,
                error: failure.error,
                attempts: failure.attempts,
            });
        }
        match self.writer.send(Request::Fail(items)).await? {
            Answer::Failed(outcomes) => Ok(outcomes),
            _ => Err(self.wrong_answer()),
        }
    }

    async fn release(
        &self,
        leases: Vec<(RunId, u32, u32, LeaseId, Vec<Attempt>)>,
    ) -> Result<(), StoreError> {
        let mut items = Vec::with_capacity(leases.len());
        for (run, position, sample, lease, attempts) in leases {
            let lease = self.lease(&run, position, sample, lease).await?;
            items.push(NewRelease { lease, attempts });
        }
        self.done(Request::Release(items)).await
    }

    async fn reap(&self, limit: usize) -> Result<u64, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.count(Request::Reap { limit }).await
    }

    async fn control(&self, run: &RunId, state: RunState, reason: &str) -> Result<(), StoreError> {
        let run = self.seq(run).await?;
        let reason = reason.to_owned();
        self.done(Request::Control { run, state, reason }).await
    }

    async fn set_weight(&self, run: &RunId, weight: Weight) -> Result<(), StoreError> {
        let run = self.seq(run).await?;
        self.done(Request::SetWeight { run, weight }).await
    }

    async fn set_priority(&self, run: &RunId, priority: i32) -> Result<(), StoreError> {
        let run = self.seq(run).await?;
        self.done(Request::SetPriority { run, priority }).await
    }

    async fn set_max_in_flight(
        &self,
        run: &RunId,
        cap: Option<NonZeroU32>,
    ) -> Result<(), StoreError> {
        let run = self.seq(run).await?;
        self.done(Request::SetMaxInFlight { run, cap }).await
    }

    async fn set_budget(
        &self,
        run: &RunId,
        budget: Budget,
        spent: Amount,
    ) -> Result<u64, StoreError> {
        let run = self.seq(run).await?;
        self.count(Request::SetBudget { run, budget, spent }).await
    }

    async fn reserve(
        &self,
        reservations: Vec<Reservation>,
    ) -> Result<Vec<ReserveOutcome>, StoreError> {
        let mut items = Vec::with_capacity(reservations.len());
        for Reservation { id, run, position, sample, lease, amount } in reservations {
            let lease = self.lease(&run, position, sample, lease).await?;
            items.push(NewReservation { id, lease, amount });
        }
        match self.writer.send(Request::Reserve(items)).await? {
            Answer::Reserved(outcomes) => Ok(outcomes),
            _ => Err(self.wrong_answer()),
        }
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), StoreError> {
        let item = |settled: Settlement| NewSettlement { id: settled.id, actual: settled.actual };
        self.done(Request::Settle(settlements.into_iter().map(item).collect())).await
    }

    async fn retry(&self, run: &RunId, classes: &[FailureClass]) -> Result<u64, StoreError> {
        let run = self.seq(run).await?;
        let classes = classes.to_vec();
        self.count(Request::Retry { run, classes }).await
    }

    async fn verdicts(
        &self,
        run: &RunId,
        after: Option<(u32, u32)>,
        limit: usize,
    ) -> Result<Vec<StoredVerdict>, StoreError> {
        let seq = self.seq(run).await?;
        let rows = read::verdicts(&self.readers, seq, after, limit).await;
        let rows = rows.map_err(|e| self.error(e))?;
        record::decode_all(rows, &self.name).await
    }

    async fn outcomes(
        &self,
        run: &RunId,
        after: Option<(u32, u32)>,
        limit: usize,
    ) -> Result<Vec<TaskOutcome>, StoreError> {
        let seq = self.seq(run).await?;
        let outcomes = read::outcomes(&self.readers, seq, after, limit).await;
        outcomes.map_err(|e| self.error(e))
    }

    async fn progress(&self, run: &RunId) -> Result<Progress, StoreError> {
        let seq = self.seq(run).await?;
        let progress = read::progress(&self.readers, seq, self.clock.now_ms()).await;
        progress.map_err(|e| self.error(e))
    }

    async fn totals(&self, run: &RunId) -> Result<RunTotals, StoreError> {
        let seq = self.seq(run).await?;
        let totals = read::totals(&self.readers, seq).await;
        totals.map_err(|e| self.error(e))
    }

    async fn reusable(&self, keys: Vec<ContentKey>) -> Result<Vec<bool>, StoreError> {
        let known = reuse::known(&self.readers, &keys).await.map_err(|e| self.error(e))?;
        Ok(keys.iter().map(|key| known.contains(key)).collect())
    }

    async fn attempts(
        &self,
        run: &RunId,
        position: u32,
        sample: u32,
    ) -> Result<Vec<Attempt>, StoreError> {
        let seq = self.seq(run).await?;
        let attempts = read::attempts(&self.readers, seq, position, sample).await;
        attempts.map_err(|e| self.error(e))
    }

    async fn append_label(&self, run: &RunId, label: NewLabel) -> Result<Label, StoreError> {
        self.append(run, label).await
    }

    async fn labels(
        &self,
        run: &RunId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Label>, StoreError> {
        let seq = self.seq(run).await?;
        labels::list(&self.readers, seq, after, limit).await.map_err(|e| self.error(e))
    }

    async fn join(&self, worker: WorkerId) -> Result<(), StoreError> {
        let locks = self.locks.clone();
        let dead = blob::blocking(&self.name, move || locks.join(worker)).await?;
        let dead = dead.map_err(|e| error::file(&self.name, Path::new(&self.name), &e))?;
        let request = Request::Join { worker, dead: dead.iter().map(|dead| dead.id).collect() };
        self.done(request).await?;
        // Only now: had this failed, the next to join would find them again.
        dead.into_iter().for_each(lock::DeadWorker::bury);
        Ok(())
    }

    async fn prune(&self, run: &RunId) -> Result<Pruned, StoreError> {
        self.remove(run).await
    }

    async fn vacuum(&self, _full: bool) -> Result<u64, StoreError> {
        self.shrink().await
    }

    async fn take_quota(&self, pool: &QuotaPool, ask: &QuotaAsk) -> Result<QuotaGrant, StoreError> {
        let request = Request::Quota(quota::Change::Take { pool: pool.clone(), ask: *ask });
        match self.writer.send(request).await? {
            Answer::Granted(grant) => Ok(grant),
            _ => Err(self.wrong_answer()),
        }
    }

    async fn report_quota(
        &self,
        pool: &QuotaPool,
        report: &QuotaReport,
    ) -> Result<QuotaView, StoreError> {
        let change = quota::Change::Report { pool: pool.clone(), report: *report };
        match self.writer.send(Request::Quota(change)).await? {
            Answer::Granted(grant) => Ok(grant.view),
            _ => Err(self.wrong_answer()),
        }
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.placed.check()?;
        self.key().await.map(drop)
    }

    async fn key(&self) -> Result<[u8; 32], StoreError> {
        read::key(&self.readers).await.map_err(|e| self.error(e))
    }

    async fn close(&self) -> Result<(), StoreError> {
        let workers = self.locks.own();
        let left = match workers.is_empty() {
            true => Ok(()),
            false => self.done(Request::Leave { workers }).await,
        };
        self.puts.end();
        self.readers.close().await;
        // Last, so that the log is moved into the file and removed.
        self.writer.close().await;
        if left.is_ok() {
            self.locks.leave();
        }
        left
    }
}

/// Whole milliseconds.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
