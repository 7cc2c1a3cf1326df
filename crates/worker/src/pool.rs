//! The pool: claims tasks, runs an attempt for each, keeps their leases alive.
//!
//! Owns the claim loop, concurrency and shutdown. What an attempt does is `attempt`'s, what is
//! written is `outbox`'s.

mod rota;
mod slots;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OnceCell, Semaphore, mpsc},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;
use tribunal_core::{
    Ballot, FailureClass, RunId, RunSpec, RunState, WorkerId, event::Event, ids::TaskKey,
};
use tribunal_store::{Claim, Store, StoreError};

use self::{rota::Rota, slots::Slots};
use crate::{
    attempt::{Asker, Attempted, End},
    batcher::{BatchPolicy, Batcher},
    measure::timed,
    outbox::{self, Finished, Leases},
    provider::ResolveEndpoints,
    questionnaire::Questionnaire,
    recorded::{self, ContextError},
    retry::{RetryBudget, RetryPolicy},
    route::Providers,
    run_context::RunContext,
    trace,
};

/// The shortest wait for tasks that cannot be had yet.
const SHORTEST_REST: Duration = Duration::from_millis(5);

/// Time between looks at a line of calls that is long enough.
const LINE_POLL: Duration = Duration::from_millis(10);

/// How a pool works.
#[derive(Clone, Copy, Debug)]
pub struct PoolConfig {
    /// Calls in flight at once, at most.
    pub concurrency: usize,
    /// Tasks claimed at once, at most.
    pub claim_batch: usize,
    /// How long a lease lasts without a heartbeat.
    pub lease: Duration,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// How long to wait for work that another process may bring or give back.
    pub poll: Duration,
    /// How failures are met.
    pub retry: RetryPolicy,
    /// How batches are made, where questions go by the judge's batch API.
    pub batch: BatchPolicy,
}

/// Which tasks a pool takes, and when it ends.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only these runs', in turn; all runs' when `None`.
    pub runs: Option<Vec<RunId>>,
    /// Ends when no active run in scope has a task that is not finished.
    pub until_empty: bool,
    /// What this process has made already of runs' records: it is not made again.
    pub questionnaires: BTreeMap<RunId, Arc<Questionnaire>>,
}

/// How a pool is told to end.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Claim nothing more; what is in flight may finish.
    pub drain: CancellationToken,
    /// Give back what is in flight, now.
    pub stop: CancellationToken,
}

/// Why a pool ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolEnd {
    /// Nothing is left to do.
    Empty,
    /// It was told to.
    Shutdown,
}

/// Receives the pool's facts. Called from many tasks; must not block.
pub trait EventSink: Send + Sync {
    /// One fact.
    fn event(&self, event: Event);
}

/// A pool of attempts over one store.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    worker: WorkerId,
    config: PoolConfig,
    endpoints: Arc<dyn ResolveEndpoints>,
    events: Arc<dyn EventSink>,
    shutdown: Shutdown,
    budget: RetryBudget,
    calls: Arc<Semaphore>,
    leases: Arc<Leases>,
    stored: Arc<Notify>,
    /// Verdicts stored so far.
    done: Arc<AtomicU64>,
    providers: Providers,
    batcher: Arc<Batcher>,
    runs: std::sync::Mutex<BTreeMap<RunId, Arc<OnceCell<Panel>>>>,
    /// What is known of runs before they are loaded.
    questionnaires: std::sync::OnceLock<BTreeMap<RunId, Arc<Questionnaire>>>,
}

/// A run with what is held for each of its judges.
struct Panel {
    spec: RunSpec,
    questionnaire: Arc<Questionnaire>,
    /// The first judge before its jurors.
    contexts: Vec<OnceCell<Arc<RunContext>>>,
}

// === impl Pool ===

impl Pool {
    /// A pool with a fresh worker id.
    pub fn new(
        store: Arc<dyn Store>,
        config: PoolConfig,
        endpoints: Arc<dyn ResolveEndpoints>,
        events: Arc<dyn EventSink>,
        shutdown: Shutdown,
    ) -> Self {
        let worker = WorkerId::from_bytes(rand::random());
        let stored: Arc<Notify> = Arc::default();
        let policies = (config.batch, config.retry, config.lease);
        let (about, told) = (Arc::clone(&events), Arc::clone(&stored));
        let shared = Shared {
            batcher: Batcher::new(Arc::clone(&store), worker, policies, about, told),
            store,
            worker,
            config,
            endpoints,
            events,
            shutdown,
            budget: RetryBudget::new(config.retry.budget_ratio),
            calls: Arc::new(Semaphore::new(config.concurrency.max(1))),
            leases: Arc::default(),
            stored,
            done: Arc::default(),
            providers: Providers::new(config.retry.breaker),
            runs: std::sync::Mutex::default(),
            questionnaires: std::sync::OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Works until there is nothing left in scope or the shutdown says so. Whatever way it ends,
    /// what was acknowledged is stored, and what was in flight is given back.
    ///
    /// # Errors
    ///
    /// The store's. Leaves in flight are then claimed again when their leases end.
    pub async fn work(&self, scope: &Scope) -> Result<PoolEnd, StoreError> {
        let shared = &self.shared;
        shared.questionnaires.get_or_init(|| scope.questionnaires.clone());
        shared.store.join(shared.worker).await?;
        let (sender, receiver) = mpsc::channel(shared.config.concurrency.max(1));
        let outbox = tokio::spawn({
            let (store, leases) = (Arc::clone(&shared.store), Arc::clone(&shared.leases));
            let (events, stop) = (Arc::clone(&shared.events), shared.shutdown.stop.clone());
            let (stored, done) = (Arc::clone(&shared.stored), Arc::clone(&shared.done));
            async move {
                let result = outbox::run(store, leases, events, (&stored, &done), receiver).await;
                if result.is_err() {
                    // Nothing can be stored: asking the judge further would burn money.
                    stop.cancel();
                }
                result
            }
        });
        let heart = tokio::spawn(Arc::clone(shared).heart());
        let contexts = Arc::clone(shared);
        let batches = tokio::spawn(Arc::clone(&shared.batcher).run(
            scope.runs.clone(),
            Arc::new(move |run, voter| {
                let shared = Arc::clone(&contexts);
                Box::pin(async move { shared.context(&run, |_| voter).await })
            }),
        ));
        // What every leaf of a run needs, and the first ones share, is made beside the first claim; its
        // errors are the leaves'.
        let ahead = scope.runs.as_deref().and_then(<[RunId]>::first).cloned().map(|run| {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                if let Ok(run) = shared.context(&run, |_| 0).await
                    && let Some(category) = run.run.spec.evidence.keys().next()
                {
                    let _ = run.shared(*category, false).await;
                }
            })
        });
        let attempts = TaskTracker::new();
        let end = Arc::clone(shared).claim_loop(scope, &attempts, sender).await;
        attempts.close();
        attempts.wait().await;
        shared.batcher.end(&shared.shutdown.stop).await;
        batches.abort();
        heart.abort();
        if let Some(ahead) = ahead {
            ahead.abort();
        }
        match outbox.await {
            Ok(stored) => stored?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
        end
    }
}

// === impl Shared ===

impl Shared {
    async fn claim_loop(
        self: Arc<Self>,
        scope: &Scope,
        attempts: &TaskTracker,
        finished: mpsc::Sender<Finished>,
    ) -> Result<PoolEnd, StoreError> {
        let PoolConfig { concurrency, claim_batch, lease, poll, .. } = self.config;
        let mut slots = Slots::new(concurrency.max(1));
        let mut rota = scope.runs.as_deref().map(Rota::new);
        let (drain, stop) = (&self.shutdown.drain, &self.shutdown.stop);
        let mut rested = SHORTEST_REST;
        let mut looked = None;
        loop {
            // A few slots first, then as many as are free: a claim takes what the pool can start.
            let least = slots.least(claim_batch);
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(PoolEnd::Shutdown),
                () = drain.cancelled() => {
                    let in_flight = concurrency.max(1) - self.calls.available_permits();
                    self.events.event(Event::Draining { in_flight });
                    return Ok(PoolEnd::Shutdown);
                }
                slots = slots.take(least) => slots,
            };
            let Ok(mut first) = first else {
                return Ok(PoolEnd::Shutdown);
            };
            // Leaves that could not be asked about yet are better left to others.
            let room = self.providers.room().min(claim_batch.max(1));
            if room == 0 {
                drop(first);
                // Nothing is claimed while an endpoint rests: whether anything is left shows here.
                if scope.until_empty
                    && slots.in_use() == 0
                    && looked.is_none_or(|looked: Instant| looked.elapsed() >= poll)
                {
                    looked = Some(Instant::now());
                    let all = rota.as_ref().is_none_or(Rota::has_admitted_all);
                    if all && matches!(self.rest(rota.as_ref()).await?, Rest::Nothing) {
                        return Ok(PoolEnd::Empty);
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = drain.cancelled() => {}
                    () = tokio::time::sleep(LINE_POLL) => {}
                }
                continue;
            }
            let mut free = Vec::with_capacity(least);
            free.extend(std::iter::from_fn(|| first.split(1)).take(room));
            drop(first);
            while free.len() < room
                && let Some(slot) = slots.take_free()
            {
                free.push(slot);
            }
            let claimed = Instant::now();
            let claims = match &mut rota {
                Some(rota) => rota.claim(&self, free.len()).await?,
                None => {
                    let claim = self.store.claim(self.worker, free.len(), lease, None);
                    timed("claim", claim).await?
                }
            };
            let idle = claims.is_empty();
            slots.claimed(claims.len());
            for claim in claims {
                let Some(slot) = free.pop() else { break };
                let stop = self.shutdown.stop.child_token();
                self.leases.hold(&claim, claimed, lease, stop.clone());
                let (shared, finished) = (Arc::clone(&self), finished.clone());
                // Boxed: it is large, and a task's future is moved several times.
                attempts.spawn(Box::pin(async move {
                    let span = trace::leaf(&claim);
                    let attempted = shared.attempt(&claim, &stop).instrument(span).await;
                    // The outbox lives until the last sender is gone.
                    let _ = finished.send(Finished { claim, attempted, slot }).await;
                }));
            }
            drop(free);
            if idle {
                let in_flight = slots.in_use();
                self.batcher.flush(in_flight == 0).await;
                let wait = match self.rest(rota.as_ref()).await? {
                    Rest::Nothing if scope.until_empty && in_flight == 0 => {
                        return Ok(PoolEnd::Empty);
                    }
                    Rest::Nothing | Rest::Elsewhere => poll,
                    // Somebody else may store their replies.
                    Rest::Posted => poll.max(self.config.batch.poll),
                    // Ready, and not to be had: another run asks the same at this moment. Looking
                    // again and again would only burn CPU.
                    Rest::Waits(Duration::ZERO) => {
                        let wait = rested.min(poll);
                        rested = rested.saturating_mul(2).min(poll);
                        wait
                    }
                    Rest::Waits(wait) => wait.clamp(SHORTEST_REST.min(poll), poll),
                };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = drain.cancelled() => {}
                    () = self.stored.notified() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            } else {
                rested = SHORTEST_REST;
            }
        }
    }

    /// What is left in scope that cannot be claimed now.
    async fn rest(&self, rota: Option<&Rota>) -> Result<Rest, StoreError> {
        let runs = match rota {
            Some(rota) => rota.records(&*self.store).await?,
            None => self.store.runs().await?,
        };
        let mut rest = Rest::Nothing;
        for record in runs.into_iter().filter(|record| record.state == RunState::Active) {
            let progress = self.store.progress(&record.run.id).await?;
            if let Some(wait) = progress.next_in_ms.map(Duration::from_millis) {
                rest = match rest {
                    Rest::Waits(shorter) if shorter <= wait => Rest::Waits(shorter),
                    _ => Rest::Waits(wait),
                };
            } else if progress.leased > 0 && matches!(rest, Rest::Nothing | Rest::Posted) {
                rest = Rest::Elsewhere;
            } else if progress.posted > 0 && matches!(rest, Rest::Nothing) {
                rest = Rest::Posted;
            }
        }
        Ok(rest)
    }

    /// One attempt, whatever comes of it.
    async fn attempt(&self, claim: &Claim, stop: &CancellationToken) -> Attempted {
        let key = TaskKey {
            run: claim.run.clone(),
            position: claim.task.position,
            sample: claim.task.sample,
        };
        self.events.event(Event::Claimed { task: key });
        let attempted = async {
            let sample = claim.task.sample;
            let run = self.context(&claim.run, |ballot| ballot.voter(sample)).await?;
            let (policy, budget) = (&self.config.retry, &self.budget);
            let events = &*self.events;
            let drain = &self.shutdown.drain;
            let (calls, batcher) = (&self.calls, &self.batcher);
            let asker = Asker { run: &run, policy, budget, calls, batcher, events, stop, drain };
            asker.attempt(claim).await
        };
        let attempted: Result<Attempted, ContextError> = attempted.await;
        let attempted = attempted.unwrap_or_else(|error| {
            let end = match error {
                // The leaf is not to blame; the lease ends, or the store's next error ends the pool.
                ContextError::Store(ref store) if store.is_retryable() => End::Retry {
                    class: FailureClass::Internal,
                    delay: self.config.poll,
                    charged: 0,
                    error: error.to_string(),
                },
                other => End::Pause { reason: other.to_string() },
            };
            Attempted { end, attempts: Vec::new(), call_place: None }
        });
        trace::ended(&attempted.end);
        attempted
    }

    /// The run's context for one of its judges, loaded once.
    async fn context(
        &self,
        run: &RunId,
        voter: impl FnOnce(&Ballot<'_>) -> usize,
    ) -> Result<Arc<RunContext>, ContextError> {
        let cell = {
            let mut runs = self.runs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Arc::clone(runs.entry(run.clone()).or_default())
        };
        let panel = async || {
            let spec = recorded::spec(&*self.store, run).await?;
            let known = self.questionnaires.get().and_then(|known| known.get(run));
            let questionnaire = match known {
                Some(made) => Arc::clone(made),
                None => Arc::new(Questionnaire::load(&*self.store, run, &spec).await?),
            };
            let contexts = (0..=spec.jurors.len()).map(|_| OnceCell::new()).collect();
            Ok::<Panel, ContextError>(Panel { spec, questionnaire, contexts })
        };
        let panel = cell.get_or_try_init(panel).await?;
        let voter = voter(&panel.spec.ballot());
        let Some(context) = panel.contexts.get(voter) else {
            return Err(ContextError::Unusable(format!("run {run} has no judge number {voter}")));
        };
        let load = async || {
            let (store, spec) = (Arc::clone(&self.store), panel.spec.clone().of_voter(voter));
            let questionnaire = Arc::clone(&panel.questionnaire);
            let loaded = RunContext::load(store, run.clone(), spec, questionnaire, |spec| {
                let endpoints = self.endpoints.endpoints(&spec.judge)?;
                self.providers.get(endpoints, &spec.judge.model, (&self.store, self.worker))
            });
            loaded.await.map(Arc::new)
        };
        context.get_or_try_init(load).await.cloned()
    }

    /// Lets go of what is held of a run that has nothing left to do.
    fn forget(&self, run: &RunId) {
        self.runs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(run);
    }

    /// Beats until it is aborted, and stops attempts whose leases end, by this process's own clock:
    /// also while the store does not answer, and before it is asked by a process that was stopped for
    /// long.
    async fn heart(self: Arc<Self>) {
        tokio::join!(self.leases.watch(self.config.heartbeat), self.beats());
    }

    async fn beats(&self) {
        let mut beat = tokio::time::interval(self.config.heartbeat);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut lost = BTreeSet::new();
        loop {
            beat.tick().await;
            let beaten = self.leases.beat(&*self.store, self.config.lease, &*self.events).await;
            let told = match beaten {
                Ok(()) => self.store.report(self.worker, self.done.load(Ordering::Relaxed)).await,
                Err(error) => Err(error),
            };
            // Somebody told it to end: what is in flight may finish.
            if matches!(told, Ok(true)) {
                self.shutdown.drain.cancel();
            }
            if let Err(error) = told
                && lost.insert(error.to_string())
            {
                tracing::warn!(%error, "heartbeat failed; leases end by their own deadline");
            }
        }
    }
}

/// What is left in scope.
enum Rest {
    Nothing,
    Elsewhere,
    Posted,
    Waits(Duration),
}
