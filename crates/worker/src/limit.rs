//! When the next call may go out.
//!
//! Owns the line of calls to one provider account and model family: first come, first served.
//! What the whole account may use is the store's quota, leased half a second at a time and shared
//! by all processes; the pace within it is this process's. It reads no reply and decides nothing
//! about a leaf.

mod bucket;
pub mod expected;
mod permit;
mod state;
mod stated;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tribunal_core::WorkerId;
use tribunal_store::{
    Meter, QuotaAsk, QuotaLimits, QuotaPool, QuotaReport, Rejected, Spend, Store,
};

pub use self::permit::Permit;
use self::state::{State, Step};
use crate::measure::limiter_waiting;

/// How long a store that cannot be asked is done without.
const WITHOUT_STORE: Duration = Duration::from_millis(500);

/// Leaves that may always stand in line.
const LINE: usize = 4;

/// Gives permits for calls to one account's family of models.
pub struct Limiter {
    shared: Option<SharedQuota>,
    state: Mutex<State>,
    /// Tokio's mutex is fair: waiting for it is the line.
    turn: tokio::sync::Mutex<()>,
    /// Something changed that the head of the line may wait for.
    changed: Notify,
    waiting: AtomicUsize,
}

/// Where the quota is shared with other processes.
#[derive(Clone)]
pub struct SharedQuota {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The account and family.
    pub pool: QuotaPool,
    /// This process.
    pub worker: WorkerId,
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NoPermit {
    /// The call is larger than what the account may use in a minute.
    TooLarge {
        /// What is counted.
        meter: Meter,
        /// What the call needs.
        needs: i64,
        /// What the account may use in a minute.
        limit: f64,
    },
    /// No call goes out for longer than the caller would wait.
    Held(Duration),
}

/// A place in the line; given up when dropped.
struct Place<'l>(&'l AtomicUsize);

// === impl Limiter ===

impl Limiter {
    /// A limiter with these limits, which are the whole process's where nothing is shared.
    pub fn new(configured: QuotaLimits, shared: Option<SharedQuota>) -> Self {
        let state = State::new(configured, shared.is_some());
        Self {
            shared,
            state: Mutex::new(state),
            turn: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits until a call may go out that will probably use this much. Dropping the future gives
    /// the place in the line up.
    ///
    /// # Errors
    ///
    /// The call can never go out, or not before `patience` has passed.
    pub async fn reserve(
        self: &Arc<Self>,
        need: Spend,
        patience: Duration,
    ) -> Result<Permit, NoPermit> {
        let start = Instant::now();
        if self.waiting.load(Ordering::Relaxed) == 0 && self.lock().is_open() {
            self.look();
            return Ok(Permit::new(Arc::clone(self), need, start));
        }
        let _place = Place::take(&self.waiting);
        let _turn = self.turn.lock().await;
        loop {
            // Before the state is looked at: what changes after that must not be missed.
            let changed = self.changed.notified();
            let line = self.waiting.load(Ordering::Relaxed);
            let step = self.lock().step(need, line, patience);
            match step {
                Step::Go => return Ok(Permit::new(Arc::clone(self), need, start)),
                Step::No(why) => return Err(why),
                Step::Ask(ask) => self.ask(ask).await,
                Step::Sleep(wait) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
                Step::Wait => changed.await,
            }
        }
    }

    /// How long no call goes out from now.
    pub fn held(&self) -> Duration {
        self.lock().held()
    }

    /// How many more leaves may usefully stand in line; `usize::MAX` where nobody waits.
    ///
    /// As many as half a second lets through: so the calls in flight are the rate times the
    /// latency (Little's law), whatever the latency, and nobody holds a leaf that he cannot ask
    /// about.
    pub fn room(&self) -> usize {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let state = self.lock();
        if !state.held().is_zero() {
            return 0;
        }
        if waiting == 0 {
            return usize::MAX;
        }
        let line = LINE.max(usize::try_from(state.recent()).unwrap_or(LINE));
        let room = line.saturating_sub(waiting);
        // A claim is a transaction, whatever it claims: few leaves are not worth one.
        if room < line / 4 { 0 } else { room }
    }

    /// A call was turned away: nobody calls for so long, and every process hears of it.
    fn reject(self: &Arc<Self>, rejected: Rejected) {
        let returned = self.lock().reject(rejected.wait);
        self.changed.notify_waiters();
        self.report(QuotaReport {
            rejected: Some(rejected),
            returned,
            stated: QuotaLimits::default(),
        });
    }

    /// Tells the store; the line waits until it has heard.
    fn report(self: &Arc<Self>, report: QuotaReport) {
        let Some(shared) = self.shared.clone() else { return };
        self.lock().reporting += 1;
        let limiter = Arc::clone(self);
        tokio::spawn(async move {
            let view = shared.store.report_quota(&shared.pool, &report).await;
            {
                let mut state = limiter.lock();
                state.reporting -= 1;
                match view {
                    Ok(view) => state.apply(&view),
                    Err(error) => tracing::debug!(%error, "a report of quota was lost"),
                }
            }
            limiter.changed.notify_waiters();
        });
    }

    /// Looks at the shared quota now and then, beside the calls that need none of it.
    fn look(self: &Arc<Self>) {
        let Some(ask) = self.lock().looks(self.worker()) else { return };
        let limiter = Arc::clone(self);
        tokio::spawn(async move {
            limiter.ask(ask).await;
            limiter.lock().looking = false;
            limiter.changed.notify_waiters();
        });
    }

    async fn ask(&self, ask: QuotaAsk) {
        let Some(SharedQuota { store, pool, worker }) = &self.shared else { return };
        let ask = QuotaAsk { worker: *worker, ..ask };
        match store.take_quota(pool, &ask).await {
            Ok(grant) => self.lock().granted(&ask, &grant),
            Err(error) => {
                tracing::debug!(%error, "quota is not shared for a moment");
                self.lock().alone(&ask, WITHOUT_STORE);
            }
        }
    }

    fn worker(&self) -> WorkerId {
        self.shared.as_ref().map_or(WorkerId::from_bytes([0; 16]), |shared| shared.worker)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is a few assignments: a panic leaves none half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Place ===

impl<'l> Place<'l> {
    fn take(waiting: &'l AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        limiter_waiting(1.0);
        Self(waiting)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        limiter_waiting(-1.0);
    }
}

#[cfg(test)]
mod tests;
