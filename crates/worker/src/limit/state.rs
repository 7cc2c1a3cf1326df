//! What a limiter knows at a moment.
//!
//! Owns the steps of whoever is at the head of the line, as plain state: nothing here waits.

use std::time::Duration;

use tokio::time::Instant;
use tribunal_core::WorkerId;
use tribunal_store::{Meter, QUOTA_LEASE, QuotaAsk, QuotaGrant, QuotaLimits, QuotaView, Spend};

use super::{
    NoPermit,
    bucket::{Bucket, TokioClock},
    stated::{Remaining, Stated},
};

/// Calls in flight at most while the endpoint has not answered once and no limit is known.
const FIRST: u32 = 4;

/// Share of a limit that is used at most; the store's pace.
const PACE: f64 = 0.99;

/// Seconds' worth of the rates that go out at once where nothing is shared.
const BURST_S: f64 = 0.5;

/// What the head of the line does next.
#[derive(Debug)]
pub(super) enum Step {
    /// It calls: the amount is taken.
    Go,
    /// It has no hope, or not soon.
    No(NoPermit),
    /// It asks the store.
    Ask(QuotaAsk),
    /// It looks again after so long, or when something changes.
    Sleep(Duration),
    /// It looks again when something changes.
    Wait,
}

/// The state of a limiter.
pub(super) struct State {
    clock: TokioClock,
    is_shared: bool,
    configured: QuotaLimits,
    /// What the store says, and the headers that it has not heard of.
    view: QuotaView,
    stated: Stated,
    buckets: [Option<Bucket>; 4],
    /// Leased and not spent.
    allowance: Spend,
    until: Instant,
    /// To be told with the next ask: given back less owed, and spent without asking.
    returned: Spend,
    unmetered: Spend,
    asked: Option<Instant>,
    /// A background look is under way.
    pub(super) looking: bool,
    /// Reports under way: until the store has heard them its view is not known.
    pub(super) reporting: u32,
    not_before: Instant,
    /// Everything that was ever let out.
    sent: Spend,
    in_flight: u32,
    answered: bool,
    /// When to ask the store again, where it granted nothing.
    ask_after: Instant,
    /// Answers in a row that speak of overload.
    pub(super) overloads: u32,
    /// Calls let out in the half second before the present one, and in this one.
    before: i64,
    now: (Instant, i64),
}

// === impl State ===

impl State {
    pub(super) fn new(configured: QuotaLimits, is_shared: bool) -> Self {
        let now = Instant::now();
        let mut state = Self {
            clock: TokioClock::start(),
            is_shared,
            configured,
            view: QuotaView { burst_s: BURST_S, ..QuotaView::default() },
            stated: Stated::default(),
            buckets: [const { None }; 4],
            allowance: Spend::default(),
            until: now,
            returned: Spend::default(),
            unmetered: Spend::default(),
            asked: None,
            looking: false,
            reporting: 0,
            not_before: now,
            sent: Spend::default(),
            in_flight: 0,
            answered: false,
            ask_after: now,
            overloads: 0,
            before: 0,
            now: (now, 0),
        };
        state.rebuild();
        state
    }

    /// Whether the endpoint has answered.
    pub(super) fn has_answered(&self) -> bool {
        self.answered
    }

    /// Whether a call may go out at once, whatever it needs.
    pub(super) fn is_open(&self) -> bool {
        let looked = !self.is_shared || self.asked.is_some();
        looked
            && self.buckets.iter().all(Option::is_none)
            && self.reporting == 0
            && self.held().is_zero()
    }

    /// What the head of the line does next; `line` are all that wait, itself included.
    pub(super) fn step(&mut self, need: Spend, line: usize, patience: Duration) -> Step {
        if let Some(no) = self.too_large(need) {
            return Step::No(no);
        }
        let held = self.held();
        if held > patience {
            return Step::No(NoPermit::Held(held));
        }
        if self.reporting > 0 {
            return Step::Wait;
        }
        if !held.is_zero() {
            return Step::Sleep(held);
        }
        let refused = self.ask_after.saturating_duration_since(Instant::now());
        if !refused.is_zero() {
            return Step::Sleep(refused);
        }
        if self.is_shared && self.asked.is_none_or(|asked| asked.elapsed() >= QUOTA_LEASE) {
            return Step::Ask(self.ask_for(need, line));
        }
        if !self.answered && self.in_flight >= FIRST && !self.knows_a_limit() {
            return Step::Wait;
        }
        for meter in Meter::ALL {
            let bucket = self.buckets[meter as usize].as_ref();
            if let Some(Err(wait)) = bucket.map(|bucket| bucket.take(need.on(meter))) {
                self.refund_below(meter, need);
                return Step::Sleep(wait);
            }
        }
        if !self.may_spend(need) {
            self.refund_below_all(need);
            return Step::Ask(self.ask_for(need, line));
        }
        Step::Go
    }

    /// Counts a call out: it is to be ended.
    pub(super) fn went(&mut self, need: Spend) -> (bool, Spend) {
        let metered = self.buckets.iter().any(Option::is_some);
        if metered {
            self.allowance += -need;
        } else {
            self.unmetered += need;
        }
        self.sent += need;
        self.in_flight += 1;
        let now = Instant::now();
        if now.duration_since(self.now.0) >= QUOTA_LEASE {
            let idle = now.duration_since(self.now.0) >= QUOTA_LEASE * 2;
            self.before = if idle { 0 } else { self.now.1 };
            self.now = (now, 0);
        }
        self.now.1 += 1;
        (metered, self.sent)
    }

    /// A call is over: what it did not use comes back.
    pub(super) fn ended(&mut self, metered: bool, unused: Spend, reached: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.answered |= reached;
        if !metered {
            self.unmetered += -unused;
            return;
        }
        self.returned += unused;
        for meter in Meter::ALL {
            if let Some(bucket) = &self.buckets[meter as usize] {
                bucket.refund(unused.on(meter));
            }
        }
    }

    /// Headers of a call that was let out when `mark` had been. Returns limits that are news.
    pub(super) fn state(&mut self, seen: &Stated, sent_ago: Duration, mark: Spend) -> QuotaLimits {
        let news = self.stated.learn(seen);
        if news.any() {
            self.rebuild();
        }
        for Remaining { meter, units } in seen.remaining() {
            let Some(bucket) = &self.buckets[meter as usize] else { continue };
            // It refilled since, and was spent from by those sent later.
            let later = (self.sent - mark).on(meter) as f64;
            let refilled = bucket.rate() / 60.0 * sent_ago.as_secs_f64();
            // Headers are rounded down.
            bucket.leave(units + 1.0 + refilled - later);
        }
        news
    }

    /// Holds every call; returns what was leased and not spent.
    pub(super) fn reject(&mut self, wait: Duration) -> Spend {
        self.not_before = self.not_before.max(Instant::now() + wait);
        for bucket in self.buckets.iter().flatten() {
            // The provider's bucket is empty.
            bucket.leave(1.0);
        }
        self.take_back()
    }

    pub(super) fn held(&self) -> Duration {
        self.not_before.saturating_duration_since(Instant::now())
    }

    /// Calls that half a second lets through, as lately seen.
    pub(super) fn recent(&self) -> i64 {
        self.before.max(self.now.1).saturating_mul(2)
    }

    /// A look at the store beside calls that need nothing of it, if it is time for one.
    pub(super) fn looks(&mut self, worker: WorkerId) -> Option<QuotaAsk> {
        let due = self.asked.is_none_or(|asked| asked.elapsed() >= QUOTA_LEASE);
        if !self.is_shared || self.looking || !due {
            return None;
        }
        self.looking = true;
        Some(QuotaAsk { worker, ..self.ask_for(Spend::default(), 0) })
    }

    pub(super) fn granted(&mut self, ask: &QuotaAsk, grant: &QuotaGrant) {
        let now = Instant::now();
        self.apply(&grant.view);
        if ask.need == Spend::default() {
            return;
        }
        self.allowance += grant.granted;
        self.until = now + QUOTA_LEASE;
        if grant.granted == Spend::default() && !grant.wait.is_zero() {
            self.ask_after = now + grant.wait.min(QUOTA_LEASE);
        }
    }

    /// The store cannot be asked: this process's own pace has to do.
    pub(super) fn alone(&mut self, ask: &QuotaAsk, length: Duration) {
        self.allowance += ask.need + ask.want;
        self.until = Instant::now() + length;
        self.asked = Some(Instant::now());
    }

    pub(super) fn apply(&mut self, view: &QuotaView) {
        self.view = *view;
        self.not_before = self.not_before.max(Instant::now() + view.hold);
        self.rebuild();
    }

    /// The rates in force: the store's, below what headers and config say.
    fn rates(&self) -> QuotaLimits {
        let mut own = self.stated.limits().lower(&self.configured);
        for meter in Meter::ALL {
            let limit = own.on_mut(meter);
            *limit = limit.map(|limit| limit * PACE);
        }
        self.view.rates.lower(&own)
    }

    fn rebuild(&mut self) {
        let (rates, burst_s) = (self.rates(), self.view.burst_s);
        for meter in Meter::ALL {
            let place = &mut self.buckets[meter as usize];
            *place = match (place.take(), rates.on(meter)) {
                (_, None) => None,
                (None, Some(rate)) => Some(Bucket::new(rate, burst_s, &self.clock)),
                (Some(bucket), Some(rate)) if bucket.is_of(rate, burst_s) => Some(bucket),
                (Some(bucket), Some(rate)) => Some(bucket.at_rate(rate, burst_s)),
            };
        }
    }

    fn knows_a_limit(&self) -> bool {
        // While the store explores it lets less go out at once.
        let explores = self.is_shared && self.view.burst_s < BURST_S;
        self.configured.any() || self.stated.limits().any() || !explores
    }

    fn too_large(&self, need: Spend) -> Option<NoPermit> {
        let limits = self.stated.limits().lower(&self.configured);
        let over = limits.each().find(|(meter, limit)| need.on(*meter) as f64 > *limit);
        over.map(|(meter, limit)| NoPermit::TooLarge { meter, needs: need.on(meter), limit })
    }

    fn may_spend(&mut self, need: Spend) -> bool {
        if !self.is_shared || self.buckets.iter().all(Option::is_none) {
            return true;
        }
        if self.until <= Instant::now() {
            return false;
        }
        Meter::ALL.iter().all(|meter| {
            let limited = self.buckets[*meter as usize].is_some();
            !limited || self.allowance.on(*meter) >= need.on(*meter)
        })
    }

    /// An ask, which takes along everything that the store is to hear.
    fn ask_for(&mut self, need: Spend, line: usize) -> QuotaAsk {
        let metered = self.buckets.iter().any(Option::is_some) || self.asked.is_none();
        let need = if metered { need } else { Spend::default() };
        self.asked = Some(Instant::now());
        let ahead = i64::try_from(line.saturating_sub(1)).unwrap_or(0).max(self.before);
        QuotaAsk {
            worker: WorkerId::from_bytes([0; 16]),
            need,
            want: need.times(ahead),
            returned: self.take_back(),
            unmetered: std::mem::take(&mut self.unmetered),
            configured: self.configured,
        }
    }

    fn take_back(&mut self) -> Spend {
        std::mem::take(&mut self.allowance) + std::mem::take(&mut self.returned)
    }

    /// Puts back what was taken from the buckets before this meter's.
    fn refund_below(&self, end: Meter, need: Spend) {
        for meter in Meter::ALL.into_iter().take_while(|meter| *meter != end) {
            if let Some(bucket) = &self.buckets[meter as usize] {
                bucket.refund(need.on(meter));
            }
        }
    }

    fn refund_below_all(&self, need: Spend) {
        for meter in Meter::ALL {
            if let Some(bucket) = &self.buckets[meter as usize] {
                bucket.refund(need.on(meter));
            }
        }
    }
}
