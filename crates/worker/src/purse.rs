//! A run's budget while its leaves are asked about.
//!
//! Owns reserving before a call and settling after it, and the wait for calls in flight where what
//! they give back may be enough. What a call costs at most is `meter`'s to say; the sums, and that
//! they never pass the budget, are the store's.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OnceCell},
    time::Instant,
};
use tribunal_core::{RunId, Usage, Via};
use tribunal_store::{
    Amount, Claim, Reservation, ReservationId, ReserveOutcome, Settlement, Store,
};

use crate::{
    meter::{Counted, Meter},
    recorded::ContextError,
};

/// Time between two looks at what other processes have reserved.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Ended leases that are taken back at one look.
const REAPED_AT_ONCE: usize = 1_000;

/// One run's money, as this process spends it.
pub struct Purse {
    store: Arc<dyn Store>,
    run: RunId,
    meter: Arc<Meter>,
    /// Reservations that this process is asking for.
    asking: AtomicUsize,
    /// Reservations that it holds.
    held: AtomicUsize,
    /// Reservations that it has held.
    given_back: AtomicU64,
    /// Told of every change to the three.
    changed: Notify,
    /// Whether other processes held reservations, and when that was seen.
    elsewhere: Mutex<Option<(Instant, bool)>>,
    /// Whether the budget is one of dollars.
    in_usd: OnceCell<bool>,
}

/// What became of a call that was to be paid for.
#[derive(Debug)]
pub enum Paid<'p> {
    /// It may be made.
    Held(Held<'p>),
    /// What is left of the budget does not hold it, and nothing in flight can give back enough.
    Exhausted {
        /// What it could have cost.
        amount: Amount,
    },
    /// The budget is one of dollars, and nobody here knows the model's price.
    NoPrice,
    /// What is left does not hold it, but batches may give enough back.
    Later,
    /// The lease is lost.
    Fenced,
}

/// A reservation for one call. Dropped without being settled, as by a kill, it stays charged.
#[derive(Debug)]
pub struct Held<'p> {
    purse: &'p Purse,
    id: ReservationId,
    amount: Amount,
    counted: Counted,
    via: Via,
}

/// A reservation that is being asked for.
struct Asking<'p>(&'p Purse);

// === impl Purse ===

impl Purse {
    /// The purse of one run.
    pub fn new(store: Arc<dyn Store>, run: RunId, meter: Arc<Meter>) -> Purse {
        Purse {
            store,
            run,
            meter,
            asking: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            given_back: AtomicU64::new(0),
            changed: Notify::new(),
            elsewhere: Mutex::default(),
            in_usd: OnceCell::new(),
        }
    }

    /// Reserves what the question costs at most: its prompt, uncached, and a reply as long as its
    /// cap. Waits for calls in flight while they hold what it needs. Dropping the future may leave
    /// a reservation that stays charged.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn pay(
        &self,
        claim: &Claim,
        counted: Counted,
        max_output_tokens: u32,
        via: Via,
    ) -> Result<Paid<'_>, ContextError> {
        let usage = Usage { input: counted.most, cached: 0, output: u64::from(max_output_tokens) };
        if self.meter.prices().is_none() && self.is_in_usd().await? {
            return Ok(Paid::NoPrice);
        }
        let amount = self.amount(&usage, via);
        let mut nothing_held = false;
        loop {
            let given_back = self.given_back.load(Ordering::SeqCst);
            let (asking, id) = (Asking::begin(self), ReservationId::random());
            let reservation = Reservation {
                id,
                run: claim.run.clone(),
                position: claim.task.position,
                sample: claim.task.sample,
                lease: claim.lease,
                amount,
            };
            match self.store.reserve(vec![reservation]).await?.first() {
                Some(ReserveOutcome::Reserved) => {
                    let held = Held::begin(self, id, amount, counted, via);
                    return Ok(Paid::Held(held));
                }
                Some(ReserveOutcome::Exhausted) => {}
                Some(ReserveOutcome::Fenced) | None => return Ok(Paid::Fenced),
            }
            drop(asking);
            if self.gave_back_since(given_back).await {
                continue;
            }
            // Replies of a batch give back in an instant what was held for a day: what was seen before
            // says nothing, and nothing held means that it may be there now.
            if !self.is_held_elsewhere(claim.via == Via::Batch).await? {
                if nothing_held || claim.via == Via::Live {
                    return Ok(Paid::Exhausted { amount });
                }
                nothing_held = true;
                continue;
            }
            // That may take a day: not with a place among those that are in work.
            if claim.via == Via::Batch {
                return Ok(Paid::Later);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until something was given back after this count, or nothing is held that could be.
    async fn gave_back_since(&self, count: u64) -> bool {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.given_back.load(Ordering::SeqCst) != count {
                return true;
            }
            // What is being asked for may be held in a moment.
            if self.asking.load(Ordering::SeqCst) + self.held.load(Ordering::SeqCst) == 0 {
                return false;
            }
            changed.await;
        }
    }

    /// A question of a batch cost this; all that was reserved for it where nobody knows.
    ///
    /// # Errors
    ///
    /// The store's; all that was reserved stays charged then.
    pub async fn settle_posted(
        &self,
        id: ReservationId,
        usage: Option<&Usage>,
    ) -> Result<(), ContextError> {
        let Some(usage) = usage else { return Ok(()) };
        let (run, actual) = (self.run.clone(), self.amount(usage, Via::Batch));
        self.store.settle(vec![Settlement { run, id, actual }]).await?;
        self.given_back.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
        Ok(())
    }

    /// What the usage costs.
    fn amount(&self, usage: &Usage, via: Via) -> Amount {
        let usd = self.meter.prices().map_or(0.0, |prices| prices.cost_via(via, usage));
        // Rounded up, so that the sum is no less than the bill. A call costs far less than 2^53.
        let micro_usd = (usd * 1e6).ceil() as u64;
        Amount { micro_usd, tokens: usage.input + usage.output }
    }

    async fn is_in_usd(&self) -> Result<bool, ContextError> {
        let look = async || {
            let spending = self.store.totals(&self.run).await?.spending;
            Ok(spending.is_some_and(|spending| spending.budget.micro_usd.is_some()))
        };
        self.in_usd.get_or_try_init(look).await.copied()
    }

    /// Whether other processes have calls in flight that may give something back.
    /// What was seen a moment ago will do, unless it is to be `certain`.
    async fn is_held_elsewhere(&self, certain: bool) -> Result<bool, ContextError> {
        let seen = *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = seen.filter(|(at, _)| !certain && at.elapsed() < LOOK_EVERY);
        if let Some((_, held)) = recent {
            return Ok(held);
        }
        // With every slot waiting here, nothing is claimed that would take dead workers' leases back.
        self.store.reap(REAPED_AT_ONCE).await?;
        let spending = self.store.totals(&self.run).await?.spending;
        let held = spending.is_some_and(|spending| spending.reserved != Amount::default());
        let now = Some((Instant::now(), held));
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(held)
    }
}

impl std::fmt::Debug for Purse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Purse").field("run", &self.run).finish_non_exhaustive()
    }
}

// === impl Held ===

impl<'p> Held<'p> {
    fn begin(
        purse: &'p Purse,
        id: ReservationId,
        amount: Amount,
        counted: Counted,
        via: Via,
    ) -> Self {
        purse.held.fetch_add(1, Ordering::SeqCst);
        Self { purse, id, amount, counted, via }
    }

    /// Its name: it goes with a question that is posted.
    pub fn id(&self) -> ReservationId {
        self.id
    }

    /// The call cost this; all that was reserved for it where nobody knows.
    ///
    /// # Errors
    ///
    /// The store's; all that was reserved stays charged then.
    pub async fn settle(self, usage: Option<&Usage>) -> Result<(), ContextError> {
        let Held { purse, id, amount, counted, via } = &self;
        let actual = match usage {
            None => *amount,
            Some(usage) => {
                purse.meter.learn(*counted, usage);
                purse.amount(usage, *via)
            }
        };
        let run = purse.run.clone();
        purse.store.settle(vec![Settlement { run, id: *id, actual }]).await?;
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.purse.given_back.fetch_add(1, Ordering::SeqCst);
        self.purse.held.fetch_sub(1, Ordering::SeqCst);
        self.purse.changed.notify_waiters();
    }
}

// === impl Asking ===

impl<'p> Asking<'p> {
    fn begin(purse: &'p Purse) -> Self {
        purse.asking.fetch_add(1, Ordering::SeqCst);
        Self(purse)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}
