//! The store on a PostgreSQL server.
//!
//! Owns the engine: a pool of connections, short transactions, and waiting for a server that is
//! away. Time is the server's, so that no worker's clock matters. Any number of processes on any
//! number of machines may use the same store.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{ConnectOptions, Connection, postgres::PgPool};
use tribunal_core::{
    Attempt, BlobHash, ContentKey, FailureClass, LeafTask, LeaseId, RunId, RunState, WorkerId,
};

use crate::{
    blob,
    budget::{Amount, Budget, Reservation, ReserveOutcome, Settlement},
    clock::Clock,
    error::StoreError,
    label::{Label, NewLabel},
    quota::{QuotaAsk, QuotaGrant, QuotaPool, QuotaReport, QuotaView},
    record,
    share::Weight,
    store::{
        Claim, CompleteOutcome, Completion, FailOutcome, Failure, Held, NewRun, Progress, Pruned,
        Reusable, RunRecord, Store, StoredVerdict, TaskOutcome,
    },
    totals::RunTotals,
};

mod batches;
mod budget;
mod call;
mod claim;
mod connect;
mod counts;
mod error;
mod fleet;
mod labels;
mod lease;
mod open;
mod outcome;
mod prune;
mod puts;
mod quota;
mod read;
mod reuse;
mod run;
mod schema;
mod text;
pub(crate) mod transfer;
mod worker;

use call::{call, call_once, call_run};
use connect::Target;
use open::{Purpose, unseen};
use outcome::NewVerdict;

/// Tasks put into the queue in one statement, at most.
const TASKS_AT_ONCE: usize = 5_000;

/// The store on a PostgreSQL server.
pub struct PostgresStore {
    /// What errors call it: its URL without a password.
    name: String,
    options: PostgresOptions,
    pool: PgPool,
    /// Instead of the server's clock.
    clock: Option<Arc<dyn Clock>>,
    /// Who this is to others who put blobs.
    handle: [u8; 16],
    putting: AtomicBool,
    /// The workers that this process has announced.
    workers: Mutex<Vec<WorkerId>>,
}

/// How a store is used.
#[derive(Clone, Copy, Debug)]
pub struct PostgresOptions {
    /// Connections at once, at most.
    pub connections: u32,
    /// How long one call may take, waiting for a connection included.
    pub call_timeout: Duration,
    /// How long a server that is away is waited for before [`StoreError::Unavailable`].
    pub patience: Duration,
}

// === impl PostgresStore ===

impl PostgresStore {
    /// Opens the store that a `postgres://` URL names, or makes it in an empty schema.
    ///
    /// # Errors
    /// [`StoreError::Open`] with what is wrong, [`StoreError::OlderVersion`],
    /// [`StoreError::NewerVersion`], or [`StoreError::Unavailable`].
    pub async fn open(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        Self::open_with(url, options, None).await
    }

    /// As [`PostgresStore::open`], with a clock instead of the server's.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn open_with(
        url: &str,
        options: PostgresOptions,
        clock: Option<Arc<dyn Clock>>,
    ) -> Result<Self, StoreError> {
        let made = Self::connect(url, options, clock, Purpose::Open).await?;
        made.ok_or_else(|| unseen(url))
    }

    /// Makes the store, or brings one of an older version to this one.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn init(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let made = Self::connect(url, options, None, Purpose::Init).await?;
        made.ok_or_else(|| unseen(url))
    }

    /// Opens the store that a URL names; `None` where there is none.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn existing(url: &str, options: PostgresOptions) -> Result<Option<Self>, StoreError> {
        Self::connect(url, options, None, Purpose::Look).await
    }

    async fn connect(
        url: &str,
        options: PostgresOptions,
        clock: Option<Arc<dyn Clock>>,
        purpose: Purpose,
    ) -> Result<Option<Self>, StoreError> {
        let target = Target::parse(url)?;
        // Not from the pool, and not tried again: what is wrong at the start is said at once.
        let connection = target.connection(&options);
        let connected = tokio::time::timeout(options.call_timeout, connection.connect()).await;
        let mut conn = match connected {
            Ok(Ok(conn)) => conn,
            Ok(Err(error)) => return Err(error::sql(&target.name, error)),
            Err(_) => return Err(error::sql(&target.name, sqlx::Error::PoolTimedOut)),
        };
        let there = open::prepare(&mut conn, &target, purpose).await?;
        let _ = conn.close().await;
        Ok(there.then(|| Self {
            pool: target.pool(&options),
            name: target.name,
            options,
            clock,
            handle: rand::random(),
            putting: AtomicBool::new(false),
            workers: Mutex::default(),
        }))
    }

    /// The injected time, if there is one.
    fn now(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| clock.now_ms())
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn put_blobs(&self, blobs: Vec<Vec<u8>>) -> Result<Vec<BlobHash>, StoreError> {
        self.put(blobs).await
    }

    async fn blob(&self, hash: BlobHash) -> Result<Arc<[u8]>, StoreError> {
        let stored = call!(self, conn => read::blob(conn, hash))?;
        blob::unpack(hash, stored, &self.name).await
    }

    async fn token_counts(
        &self,
        vocabulary: &str,
        texts: &[BlobHash],
    ) -> Result<Vec<Option<u64>>, StoreError> {
        let known = call!(self, conn => counts::known(conn, vocabulary, texts))?;
        Ok(texts.iter().map(|text| known.get(text).copied()).collect())
    }

    async fn put_token_counts(
        &self,
        vocabulary: &str,
        counts: Vec<(BlobHash, u64)>,
    ) -> Result<(), StoreError> {
        call!(self, conn => counts::put(conn, vocabulary, &counts))
    }

    async fn create_run(&self, run: NewRun) -> Result<RunRecord, StoreError> {
        let now = self.now();
        call!(self, conn => run::create(conn, &run, now))?;
        self.end_puts().await?;
        self.run(&run.id).await
    }

    async fn run(&self, run: &RunId) -> Result<RunRecord, StoreError> {
        let found = call_run!(self, run, conn, seq => read::runs(conn, Some(seq)))?;
        let found = found.into_iter().next();
        found.ok_or_else(|| StoreError::NoSuchRun { run: run.to_string() })
    }

    async fn runs(&self) -> Result<Vec<RunRecord>, StoreError> {
        call!(self, conn => read::runs(conn, None))
    }

    async fn enqueue(&self, run: &RunId, tasks: Vec<LeafTask>) -> Result<u64, StoreError> {
        let mut new = 0;
        // An empty batch asks whether the run is there.
        for tasks in tasks.chunks(TASKS_AT_ONCE).chain(tasks.is_empty().then_some(&[][..])) {
            new += call_run!(self, run, conn, seq => run::enqueue(conn, seq, tasks))?;
        }
        Ok(new)
    }

    async fn claim(
        &self,
        worker: WorkerId,
        slots: usize,
        ttl: Duration,
        run: Option<&RunId>,
    ) -> Result<Vec<Claim>, StoreError> {
        let (now, ttl) = (self.now(), millis(ttl));
        let claimed = call!(self, conn => claim::claim(conn, worker, slots, ttl, run, now))?;
        let claimed = match (claimed, run) {
            (None, Some(run)) => return Err(StoreError::NoSuchRun { run: run.to_string() }),
            (claimed, _) => claimed.unwrap_or_default(),
        };
        let decode = |(claim, reusable): claim::Claimed| {
            let (position, sample) = (claim.task.position, claim.task.sample);
            let reusable = reusable.map(|(run, bytes)| {
                let verdict = record::decode(&bytes, position, sample, &self.name)?;
                Ok(Box::new(Reusable { run, verdict }))
            });
            Ok(Claim { reusable: reusable.transpose()?, ..claim })
        };
        claimed.into_iter().map(decode).collect()
    }

    async fn heartbeat(
        &self,
        leases: Vec<(RunId, u32, u32, LeaseId)>,
        ttl: Duration,
    ) -> Result<Vec<Held>, StoreError> {
        let (now, ttl) = (self.now(), millis(ttl));
        // Not tried again here: whoever beats must look at its own deadlines in between.
        call_once!(self, conn => lease::heartbeat(conn, &leases, now, ttl))
    }

    async fn complete(
        &self,
        completions: Vec<Completion>,
    ) -> Result<Vec<CompleteOutcome>, StoreError> {
        let now = self.now();
        let verdicts: Result<Vec<NewVerdict>, StoreError> =
            completions.into_iter().map(|completion| self.new_verdict(completion)).collect();
        let verdicts = verdicts?;
        call!(self, conn => outcome::complete(conn, &verdicts, now))
    }

    async fn fail(&self, failures: Vec<Failure>) -> Result<Vec<FailOutcome>, StoreError> {
        let now = self.now();
        call!(self, conn => outcome::fail(conn, &failures, now))
    }

    async fn release(
        &self,
        leases: Vec<(RunId, u32, u32, LeaseId, Vec<Attempt>)>,
    ) -> Result<(), StoreError> {
        let now = self.now();
        call!(self, conn => outcome::release(conn, &leases, now))
    }

    async fn reap(&self, limit: usize) -> Result<u64, StoreError> {
        let (limit, now) = (i64::try_from(limit).unwrap_or(i64::MAX), self.now());
        call!(self, conn => worker::reap(conn, limit, now))
    }

    async fn control(&self, run: &RunId, state: RunState, reason: &str) -> Result<(), StoreError> {
        call_run!(self, run, conn, seq => run::control(conn, seq, state, reason))
    }

    async fn set_weight(&self, run: &RunId, weight: Weight) -> Result<(), StoreError> {
        call_run!(self, run, conn, seq => run::set_weight(conn, seq, weight))
    }

    async fn set_priority(&self, run: &RunId, priority: i32) -> Result<(), StoreError> {
        call_run!(self, run, conn, seq => run::set_priority(conn, seq, priority))
    }

    async fn set_max_in_flight(
        &self,
        run: &RunId,
        cap: Option<NonZeroU32>,
    ) -> Result<(), StoreError> {
        call_run!(self, run, conn, seq => run::set_max_in_flight(conn, seq, cap))
    }

    async fn reusable(&self, keys: Vec<ContentKey>) -> Result<Vec<bool>, StoreError> {
        let known = call!(self, conn => reuse::known(conn, &keys))?;
        Ok(keys.iter().map(|key| known.contains(key)).collect())
    }

    async fn set_budget(
        &self,
        run: &RunId,
        budget: Budget,
        spent: Amount,
    ) -> Result<u64, StoreError> {
        call_run!(self, run, conn, seq => budget::set(conn, seq, budget, spent))
    }

    async fn reserve(
        &self,
        reservations: Vec<Reservation>,
    ) -> Result<Vec<ReserveOutcome>, StoreError> {
        let now = self.now();
        call!(self, conn => budget::reserve(conn, &reservations, now))
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), StoreError> {
        call!(self, conn => budget::settle(conn, &settlements))
    }

    async fn retry(&self, run: &RunId, classes: &[FailureClass]) -> Result<u64, StoreError> {
        call_run!(self, run, conn, seq => run::retry(conn, seq, classes))
    }

    async fn verdicts(
        &self,
        run: &RunId,
        after: Option<(u32, u32)>,
        limit: usize,
    ) -> Result<Vec<StoredVerdict>, StoreError> {
        let rows = call_run!(self, run, conn, seq => read::verdicts(conn, seq, after, limit))?;
        record::decode_all(rows, &self.name).await
    }

    async fn outcomes(
        &self,
        run: &RunId,
        after: Option<(u32, u32)>,
        limit: usize,
    ) -> Result<Vec<TaskOutcome>, StoreError> {
        call_run!(self, run, conn, seq => read::outcomes(conn, seq, after, limit))
    }

    async fn progress(&self, run: &RunId) -> Result<Progress, StoreError> {
        let now = self.now();
        call_run!(self, run, conn, seq => read::progress(conn, seq, now))
    }

    async fn totals(&self, run: &RunId) -> Result<RunTotals, StoreError> {
        call_run!(self, run, conn, seq => read::totals(conn, seq))
    }

    async fn attempts(
        &self,
        run: &RunId,
        position: u32,
        sample: u32,
    ) -> Result<Vec<Attempt>, StoreError> {
        call_run!(self, run, conn, seq => read::attempts(conn, seq, position, sample))
    }

    async fn append_label(&self, run: &RunId, label: NewLabel) -> Result<Label, StoreError> {
        label.check()?;
        let now = self.now();
        // Not tried again here: a label whose answer was not heard would stand twice.
        let appended = call_once!(self, conn => labels::append(conn, run, &label, now))?;
        let (seq, at_ms) =
            appended.ok_or_else(|| StoreError::NoSuchRun { run: run.to_string() })?;
        Ok(Label { seq, at_ms, label })
    }

    async fn labels(
        &self,
        run: &RunId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Label>, StoreError> {
        call_run!(self, run, conn, seq => labels::list(conn, seq, after, limit))
    }

    async fn join(&self, worker: WorkerId) -> Result<(), StoreError> {
        let now = self.now();
        call!(self, conn => worker::join(conn, worker, now))?;
        self.own_workers().push(worker);
        Ok(())
    }

    async fn prune(&self, run: &RunId) -> Result<Pruned, StoreError> {
        self.remove(run).await
    }

    async fn vacuum(&self, full: bool) -> Result<u64, StoreError> {
        self.shrink(full).await
    }

    async fn take_quota(&self, pool: &QuotaPool, ask: &QuotaAsk) -> Result<QuotaGrant, StoreError> {
        let given = self.now();
        call!(self, conn => quota::change(conn, pool, given, |row, now| row.take(now, ask)))
    }

    async fn report_quota(
        &self,
        pool: &QuotaPool,
        report: &QuotaReport,
    ) -> Result<QuotaView, StoreError> {
        let given = self.now();
        call!(self, conn => quota::change(conn, pool, given, |row, now| row.report(now, report)))
    }

    async fn key(&self) -> Result<[u8; 32], StoreError> {
        call!(self, conn => read::key(conn))
    }

    async fn close(&self) -> Result<(), StoreError> {
        let workers = std::mem::take(&mut *self.own_workers());
        let left = match workers.is_empty() {
            true => Ok(()),
            false => call!(self, conn => worker::leave(conn, &workers)),
        };
        let ended = self.end_puts().await;
        self.pool.close().await;
        left.and(ended)
    }
}

impl PostgresStore {
    fn own_workers(&self) -> std::sync::MutexGuard<'_, Vec<WorkerId>> {
        self.workers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            connections: 8,
            call_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(120),
        }
    }
}

/// Whole milliseconds.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
