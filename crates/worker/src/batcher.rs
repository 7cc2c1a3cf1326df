//! Questions on their way through a judge's batch API.
//!
//! Owns gathering the questions of a run into a batch within the provider's limits, and the batches
//! that this process holds until they have ended. Sending one is `send`'s, fetching what came of it
//! `fetch`'s. It makes no verdict: a reply is stored, and whoever claims the leaf next reads it like
//! any other.
//!
//! Nothing is paid twice because of two rules. A batch is created only while the store says that this
//! process holds it. And who takes over one that may have been created without anybody's knowledge
//! first removes its file at the provider, so that it cannot be created any more, before its questions
//! go back to the queue.

mod cancel;
mod fetch;
mod send;

pub use self::cancel::cancel_batches;

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tribunal_core::{BatchId, RunId, RunState, WorkerId, event::Event};
use tribunal_store::{BatchRecord, PostOutcome, Posting, Store, StoreError};

use crate::{
    outbox::again,
    pool::EventSink,
    provider::batch::{BatchApi, BatchLine},
    recorded::ContextError,
    retry::RetryPolicy,
    route::Route,
    run_context::RunContext,
};

/// How long nothing must have been added to a batch that is sent because nothing is left to ask.
const QUIET: Duration = Duration::from_millis(200);

/// The same for a batch that is sent although leaves are claimed still.
const LINGER: Duration = Duration::from_secs(10);

/// How batches are made and looked after.
#[derive(Clone, Copy, Debug)]
pub struct BatchPolicy {
    /// Questions in one file, at most.
    pub max_requests: usize,
    /// Bytes of one file, at most.
    pub max_bytes: usize,
    /// Time to the first look at a batch that was sent; it grows with each look.
    pub poll: Duration,
    /// The longest time between two looks.
    pub max_poll: Duration,
}

/// The batches of a process.
pub(crate) struct Batcher {
    store: Arc<dyn Store>,
    worker: WorkerId,
    policy: BatchPolicy,
    retry: RetryPolicy,
    /// How long a batch is held without a sign of life.
    hold: Duration,
    events: Arc<dyn EventSink>,
    /// Told of replies that were stored.
    stored: Arc<Notify>,
    /// Batches that take questions.
    open: tokio::sync::Mutex<Vec<OpenBatch>>,
    /// Batches that this process is gathering, sending or fetching at the moment.
    busy: Mutex<HashSet<BatchId>>,
    /// When the batches at the provider are looked at next, and the wait before.
    looks: Mutex<HashMap<BatchId, (Instant, Duration)>>,
    tasks: TaskTracker,
    /// Ends all of it.
    stop: CancellationToken,
}

/// A batch that takes questions.
struct OpenBatch {
    id: BatchId,
    run: RunId,
    /// Which of the run's judges its questions are for.
    voter: usize,
    route: Arc<Route>,
    lines: Vec<BatchLine>,
    bytes: usize,
    /// Questions that are being posted.
    posting: usize,
    /// Takes no more: it is sent once all that are being posted are.
    full: bool,
    /// When the last question came.
    last: Instant,
    opened_ms: i64,
}

/// A batch on its way to the provider.
struct Closed {
    id: BatchId,
    run: RunId,
    route: Arc<Route>,
    lines: Vec<BatchLine>,
    opened_ms: i64,
}

/// The context of a run for one of its judges, once it is loaded.
pub(crate) type Context =
    Pin<Box<dyn Future<Output = Result<Arc<RunContext>, ContextError>> + Send>>;

/// Gives the context of a run for the judge with this number.
pub(crate) type Contexts = dyn Fn(RunId, usize) -> Context + Send + Sync;

// === impl Batcher ===

impl Batcher {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        worker: WorkerId,
        (policy, retry, hold): (BatchPolicy, RetryPolicy, Duration),
        events: Arc<dyn EventSink>,
        stored: Arc<Notify>,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            worker,
            policy,
            retry,
            hold,
            events,
            stored,
            open: tokio::sync::Mutex::default(),
            busy: Mutex::default(),
            looks: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// How long a leaf waits in the queue that has to wait for what a batch gives back.
    pub(crate) fn wait(&self) -> Duration {
        self.policy.poll
    }

    /// Posts a question of this run: its task waits for the reply from now on. The batch that it goes
    /// into is filled in.
    ///
    /// # Errors
    ///
    /// The store's; the task is held still.
    pub(crate) async fn post(
        self: &Arc<Self>,
        run: &RunContext,
        posting: Posting,
        line: BatchLine,
    ) -> Result<PostOutcome, StoreError> {
        let voter = run.run.spec.ballot().voter(posting.sample);
        let batch = self.place(run, voter, line.bytes()).await?;
        let posting = Posting { batch, ..posting };
        let outcome = again(|| self.store.post(self.worker, vec![posting.clone()])).await;
        let outcome = outcome.map(|outcomes| outcomes.first().copied());
        let posted = matches!(outcome, Ok(Some(PostOutcome::Posted)));
        let bytes = line.bytes();
        let mut open = self.open.lock().await;
        if let Some(at) = open.iter().position(|open| open.id == batch) {
            let place = &mut open[at];
            place.posting -= 1;
            if posted {
                place.lines.push(line);
            } else {
                place.bytes -= bytes;
            }
            if place.full && place.posting == 0 {
                let closed = open.swap_remove(at);
                self.close(closed);
            }
        }
        Ok(outcome?.unwrap_or(PostOutcome::Fenced))
    }

    /// A batch of the run for this judge that has room for so many bytes more.
    async fn place(
        self: &Arc<Self>,
        run: &RunContext,
        voter: usize,
        bytes: usize,
    ) -> Result<BatchId, StoreError> {
        let id = &run.run.id;
        let mut open = self.open.lock().await;
        let alike = |open: &OpenBatch| open.run == *id && open.voter == voter && !open.full;
        let mut at = open.iter().position(alike);
        if let Some(found) = at.filter(|at| !open[*at].has_room(bytes, &self.policy)) {
            open[found].full = true;
            if open[found].posting == 0 {
                let closed = open.swap_remove(found);
                self.close(closed);
            }
            at = None;
        }
        let at = match at {
            Some(at) => at,
            None => {
                let batch = BatchId::from_bytes(rand::random());
                self.busy().insert(batch);
                let of = (id, u32::try_from(voter).unwrap_or(u32::MAX));
                again(|| self.store.open_batch(batch, of, self.worker, self.hold)).await?;
                open.push(OpenBatch {
                    id: batch,
                    run: id.clone(),
                    voter,
                    route: Arc::clone(run.routes.first()),
                    lines: Vec::new(),
                    bytes: 0,
                    posting: 0,
                    full: false,
                    last: Instant::now(),
                    opened_ms: jiff::Timestamp::now().as_millisecond(),
                });
                open.len() - 1
            }
        };
        let place = &mut open[at];
        place.posting += 1;
        place.bytes += bytes;
        place.last = Instant::now();
        Ok(place.id)
    }

    /// Sends what was gathered, now that nothing more is there to be asked. Unless it is `certain`,
    /// somebody may be about to post: what was added to a moment ago waits.
    pub(crate) async fn flush(self: &Arc<Self>, certain: bool) {
        self.send_after(if certain { Duration::ZERO } else { QUIET }).await;
    }

    async fn send_after(self: &Arc<Self>, quiet: Duration) {
        let mut open = self.open.lock().await;
        let ready = |open: &mut OpenBatch| open.posting == 0 && open.last.elapsed() >= quiet;
        let closed: Vec<OpenBatch> = open.extract_if(.., ready).collect();
        closed.into_iter().for_each(|closed| self.close(closed));
    }

    /// Has a batch sent that takes no more questions.
    fn close(self: &Arc<Self>, open: OpenBatch) {
        let OpenBatch { id, run, route, lines, opened_ms, .. } = open;
        let (batcher, closed) = (Arc::clone(self), Closed { id, run, route, lines, opened_ms });
        self.tasks.spawn(async move {
            let sent = batcher.send(closed).await;
            batcher.done(id, sent);
        });
    }

    /// Looks after the batches of these runs, or of all, until it is stopped: prolongs their hold,
    /// takes over those of processes that have ended, and fetches what is answered.
    pub(crate) async fn run(self: Arc<Self>, runs: Option<Vec<RunId>>, contexts: Arc<Contexts>) {
        let beat = self.policy.poll.min(self.hold / 4);
        loop {
            match self.store.take_batches(self.worker, self.hold, runs.as_deref()).await {
                Ok(records) => self.look_after(records, &contexts),
                Err(error) => tracing::warn!(%error, "batches are not looked after for a moment"),
            }
            self.send_after(LINGER).await;
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(beat) => {}
            }
        }
    }

    fn look_after(self: &Arc<Self>, records: Vec<BatchRecord>, contexts: &Arc<Contexts>) {
        let now = Instant::now();
        let known: HashSet<BatchId> = records.iter().map(|record| record.id).collect();
        self.looks().retain(|id, _| known.contains(id));
        for record in records {
            let due = self.looks().get(&record.id).is_none_or(|(next, _)| *next <= now);
            if !due || !self.busy().insert(record.id) {
                continue;
            }
            let (batcher, contexts) = (Arc::clone(self), Arc::clone(contexts));
            self.tasks.spawn(async move {
                let id = record.id;
                let looked = batcher.look(record, &*contexts).await;
                batcher.done(id, looked);
            });
        }
    }

    /// Lets go of a batch after some work on it.
    fn done(&self, id: BatchId, worked: Result<(), StoreError>) {
        if let Err(error) = worked {
            // It is taken up again at the next look, by whoever holds it then.
            tracing::warn!(%error, batch = %id, "a batch cannot be recorded for the moment");
        }
        self.busy().remove(&id);
    }

    /// When the batch is looked at next: later each time.
    fn look_later(&self, id: BatchId) {
        let mut looks = self.looks();
        let wait = match looks.get(&id) {
            Some((_, wait)) => (*wait * 3 / 2).min(self.policy.max_poll),
            None => self.policy.poll,
        };
        looks.insert(id, (Instant::now() + wait, wait));
    }

    /// Ends: what was not sent goes back to the queue, what is being sent may finish until `stop`.
    pub(crate) async fn end(self: &Arc<Self>, stop: &CancellationToken) {
        self.stop.cancel();
        let open = std::mem::take(&mut *self.open.lock().await);
        for batch in open {
            if let Err(error) = again(|| self.store.end_batch(batch.id)).await {
                tracing::warn!(%error, "questions that were not sent go back later");
            }
        }
        self.tasks.close();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.tasks.wait() => {}
        }
    }

    /// Pauses the run: its judge's batch API refuses.
    async fn pause(&self, run: &RunId, reason: String) -> Result<(), StoreError> {
        again(|| self.store.control(run, RunState::Paused, &reason)).await?;
        self.events.event(Event::Paused { run: run.clone(), reason });
        Ok(())
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<BatchId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looks(&self) -> MutexGuard<'_, HashMap<BatchId, (Instant, Duration)>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl OpenBatch ===

impl OpenBatch {
    fn has_room(&self, bytes: usize, policy: &BatchPolicy) -> bool {
        let requests = self.lines.len() + self.posting;
        requests == 0 || requests < policy.max_requests && self.bytes + bytes <= policy.max_bytes
    }
}

/// The batch API of a route.
fn api(route: &Route) -> Option<&dyn BatchApi> {
    route.provider.batch_api()
}
