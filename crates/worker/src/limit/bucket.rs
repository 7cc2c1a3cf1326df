//! One meter's bucket in this process.
//!
//! Owns the rate between two calls: governor's algorithm over a state of our own, which can also be
//! refunded, overdrawn, drained and taken along to another rate. Amounts are calls or tokens.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};
use tokio::time::Instant;

type Governor = RateLimiter<NotKeyed, Tat, TokioClock, NoOpMiddleware<Since>>;

/// A bucket that refills evenly. It may owe: an amount larger than the bucket is let through when
/// it is full, and those after it wait until that is paid.
pub(super) struct Bucket {
    governor: Governor,
    tat: Tat,
    clock: TokioClock,
    /// The governor's zero.
    start: Duration,
    /// Time for one unit.
    unit: Duration,
    /// Units that a full bucket holds.
    burst: u32,
    /// Units a minute.
    rate: f64,
    burst_s: f64,
}

/// Tokio's clock, so that tests run under paused time.
#[derive(Clone, Debug)]
pub(super) struct TokioClock(Instant);

/// Time since a clock's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Since(Duration);

/// The theoretical arrival time: nanoseconds after the governor's start at which the bucket is
/// full again.
#[derive(Clone, Debug, Default)]
struct Tat(Arc<AtomicU64>);

// === impl Bucket ===

impl Bucket {
    /// A full bucket that lets `rate` units a minute through, `burst_s` seconds' worth at once.
    pub(super) fn new(rate: f64, burst_s: f64, clock: &TokioClock) -> Self {
        let rate = rate.clamp(1e-3, 1e12);
        let unit = Duration::from_secs_f64(60.0 / rate).max(Duration::from_nanos(1));
        let burst = (rate / 60.0 * burst_s).clamp(1.0, f64::from(u32::MAX)) as u32;
        let start = clock.0.elapsed();
        let tat = Tat::default();
        let allowed = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(unit).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        let governor = RateLimiter::new(quota.allow_burst(allowed), tat.clone(), clock.clone());
        Self { governor, tat, clock: clock.clone(), start, unit, burst, rate, burst_s }
    }

    /// The same at another rate, as full or owing as much.
    pub(super) fn at_rate(&self, rate: f64, burst_s: f64) -> Self {
        let owed = self.full_in().as_secs_f64() / self.unit.as_secs_f64();
        let level = f64::from(self.burst) - owed;
        let bucket = Self::new(rate, burst_s, &self.clock);
        bucket.leave(level);
        bucket
    }

    /// Units a minute.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// Whether it is one of this rate and burst.
    pub(super) fn is_of(&self, rate: f64, burst_s: f64) -> bool {
        (self.rate / rate - 1.0).abs() < 1e-3 && (self.burst_s - burst_s).abs() < 1e-3
    }

    /// Takes an amount, or says how long to wait.
    pub(super) fn take(&self, amount: i64) -> Result<(), Duration> {
        let Ok(amount) = u64::try_from(amount) else { return Ok(()) };
        let within = amount.min(u64::from(self.burst));
        let Some(cells) = u32::try_from(within).ok().and_then(NonZeroU32::new) else {
            return Ok(());
        };
        match self.governor.check_n(cells) {
            Ok(Ok(())) => {}
            Ok(Err(until)) => {
                let wait = until.wait_time_from(self.clock.now());
                return Err(wait.max(Duration::from_micros(100)));
            }
            // Never: no more than the burst was asked for.
            Err(_) => return Err(self.unit),
        }
        self.tat.later(self.span(amount - within));
        Ok(())
    }

    /// Gives an amount back; a negative one is owed.
    pub(super) fn refund(&self, amount: i64) {
        let span = self.span(amount.unsigned_abs());
        if amount >= 0 { self.tat.sooner(span) } else { self.owe(span) }
    }

    /// Leaves at most this much in the bucket.
    pub(super) fn leave(&self, level: f64) {
        let missing = (f64::from(self.burst) - level).max(0.0) * self.unit.as_secs_f64();
        let full = self.since_start() + Duration::from_secs_f64(missing.min(86_400.0));
        self.tat.0.fetch_max(nanos(full), Ordering::AcqRel);
    }

    fn owe(&self, span: Duration) {
        // What was full long ago owes from now on.
        self.tat.0.fetch_max(nanos(self.since_start()), Ordering::AcqRel);
        self.tat.later(span);
    }

    fn full_in(&self) -> Duration {
        let tat = Duration::from_nanos(self.tat.0.load(Ordering::Acquire));
        tat.saturating_sub(self.since_start())
    }

    fn since_start(&self) -> Duration {
        self.clock.0.elapsed().saturating_sub(self.start)
    }

    fn span(&self, amount: u64) -> Duration {
        let span = self.unit.as_secs_f64() * amount as f64;
        Duration::from_secs_f64(span.min(86_400.0))
    }
}

// === impl Tat ===

impl Tat {
    fn later(&self, span: Duration) {
        self.0.fetch_add(nanos(span), Ordering::AcqRel);
    }

    fn sooner(&self, span: Duration) {
        let sooner = |tat: u64| Some(tat.saturating_sub(nanos(span)));
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, sooner);
    }
}

impl StateStore for Tat {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut before = self.0.load(Ordering::Acquire);
        loop {
            let (result, after) = f(Some(Nanos::from(before)))?;
            let after = after.as_u64();
            match self.0.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(result),
                Err(now) => before = now,
            }
        }
    }
}

// === impl TokioClock ===

impl TokioClock {
    /// A clock that starts now.
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TokioClock {
    type Instant = Since;

    fn now(&self) -> Since {
        Since(self.0.elapsed())
    }
}

impl Reference for Since {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Since(self.0.saturating_sub(duration.into()))
    }
}

impl std::ops::Add<Nanos> for Since {
    type Output = Since;

    fn add(self, other: Nanos) -> Since {
        Since(self.0 + Duration::from(other))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refunds_debts_and_other_rates() {
        let clock = TokioClock::start();
        let bucket = Bucket::new(600.0, 0.5, &clock);
        let wait = |bucket: &Bucket, amount| bucket.take(amount).err().unwrap_or_default();
        assert_eq!(wait(&bucket, 5), Duration::ZERO, "a full bucket holds half a second's");
        assert_eq!(wait(&bucket, 1), Duration::from_millis(100));
        bucket.refund(1);
        assert_eq!(wait(&bucket, 1), Duration::ZERO);
        bucket.refund(-3);
        assert_eq!(wait(&bucket, 1), Duration::from_millis(400));
        let slower = bucket.at_rate(300.0, 0.5);
        assert_eq!(
            wait(&slower, 1),
            Duration::from_millis(800),
            "as much is owed, at half the rate"
        );
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(wait(&slower, 1_000), Duration::ZERO, "larger than the bucket, which is full");
        assert_eq!(wait(&slower, 1).as_secs(), 199, "those after it pay");
        let drained = Bucket::new(600.0, 0.5, &clock);
        drained.leave(1.0);
        assert_eq!(wait(&drained, 1), Duration::ZERO);
        assert_eq!(wait(&drained, 1), Duration::from_millis(100));
    }
}
