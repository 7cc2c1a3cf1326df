//! Waits after failures, and how many retries the pool affords.
//!
//! Owns the delays: exponential with full jitter, from the `backoff` crate, which is used nowhere
//! else. Waits are returned, not slept: long ones belong to the queue.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use backoff::{ExponentialBackoff, backoff::Backoff};

use crate::{
    breaker::BreakerPolicy,
    provider::{CallFailure, Reply},
};

/// How often and how patiently a leaf is tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Retries after transient failures that a leaf gets before it is a dead letter.
    pub transient_attempts: u32,
    /// Bad replies answered with another question before the leaf is unparseable.
    pub bad_reply_attempts: u32,
    /// The greatest wait after the first failure; it doubles with each further one.
    pub base: Duration,
    /// The greatest wait after any failure.
    pub max: Duration,
    /// Waits up to this are slept by the worker; longer ones go back to the queue.
    pub inline_wait: Duration,
    /// The longest Retry-After that is obeyed.
    pub throttle_cap: Duration,
    /// How long an endpoint that was never reached is tried before the run pauses.
    pub unreachable_after: Duration,
    /// How long endpoints may all fail that answered before, until the run pauses.
    pub outage_after: Duration,
    /// How long after its first claim a leaf is given up, whatever it waits for.
    pub leaf_deadline: Option<Duration>,
    /// When an endpoint rests.
    pub breaker: BreakerPolicy,
    /// Retries per successful call that all leaves together may use, beyond a reserve.
    pub budget_ratio: f64,
}

/// One budget of retries for all leaves of a pool: a provider that fails every call is not sent
/// six times the calls.
#[derive(Debug)]
pub struct RetryBudget {
    milli: AtomicI64,
    ratio_milli: i64,
}

/// Retries that are free at the start and that are kept at most, in thousandths.
const RESERVE_MILLI: i64 = 100_000;

// === impl RetryPolicy ===

impl RetryPolicy {
    /// The wait after the `failures`-th failure, counted from 1: uniform between 0 and
    /// `base · 2^(failures − 1)`, at most `max`.
    pub fn delay(&self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(30));
        let ceiling = self.base.saturating_mul(doubled).min(self.max);
        // A randomisation of 1 spreads over 0 to twice the interval: half the ceiling makes it
        // full jitter.
        let mut backoff = ExponentialBackoff {
            current_interval: ceiling / 2,
            initial_interval: ceiling / 2,
            randomization_factor: 1.0,
            multiplier: 1.0,
            max_interval: self.max,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        backoff.next_backoff().unwrap_or(ceiling).min(ceiling)
    }
}

impl RetryPolicy {
    /// How long nobody is to call after a call was turned away.
    pub fn throttled(&self, retry_after: Option<Duration>) -> Duration {
        let asked = retry_after.unwrap_or_else(|| self.delay(3).max(self.base));
        asked.min(self.throttle_cap)
    }

    /// The same, for a call that has ended so or otherwise.
    pub fn hold(&self, asked: &Result<Reply, CallFailure>) -> Duration {
        asked.as_ref().err().map_or(Duration::ZERO, |failure| self.throttled(failure.retry_after))
    }
}

// === impl RetryBudget ===

impl RetryBudget {
    /// A full budget that grows by `ratio` retries with each successful call.
    pub fn new(ratio: f64) -> Self {
        let ratio_milli = (ratio.clamp(0.0, 10.0) * 1000.0) as i64;
        Self { milli: AtomicI64::new(RESERVE_MILLI), ratio_milli }
    }

    /// A call succeeded.
    pub fn earn(&self) {
        let add = |now: i64| Some((now + self.ratio_milli).min(RESERVE_MILLI));
        let _ = self.milli.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes one retry from the budget; `false` if there is none: wait for longer.
    pub fn spend(&self) -> bool {
        let take = |now: i64| (now >= 1000).then_some(now - 1000);
        self.milli.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_stay_below_their_ceiling(failures in 0u32..100, base in 1u64..5_000, max in 1u64..60_000) {
            let policy = RetryPolicy {
                transient_attempts: 6,
                bad_reply_attempts: 2,
                base: Duration::from_millis(base),
                max: Duration::from_millis(max),
                inline_wait: Duration::ZERO,
                throttle_cap: Duration::ZERO,
                unreachable_after: Duration::ZERO,
                outage_after: Duration::ZERO,
                leaf_deadline: None,
                breaker: BreakerPolicy { failures: 5, base: Duration::ZERO, max: Duration::ZERO },
                budget_ratio: 0.2,
            };
            let ceiling = (base as u128) << failures.saturating_sub(1).min(30);
            prop_assert!(policy.delay(failures).as_millis() <= ceiling.min(u128::from(max)));
        }
    }

    #[test]
    fn the_budget_ends_and_grows_with_success() {
        let budget = RetryBudget::new(0.2);
        let spent = (0..1000).take_while(|_| budget.spend()).count();
        assert_eq!(spent, 100);
        (0..5).for_each(|_| budget.earn());
        assert!(budget.spend());
        assert!(!budget.spend());
    }
}
