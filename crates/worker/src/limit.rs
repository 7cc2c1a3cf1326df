//! When the next call may go out.
//!
//! Owns the requests-per-minute limit of one endpoint and the hold that a 429 puts on all of its
//! calls. First come, first served. Knows nothing of tokens or money, and is not shared between
//! processes.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

type Bucket = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Since>>;

/// Gives permits for calls to one endpoint.
#[derive(Debug)]
pub struct Limiter {
    bucket: Option<Bucket>,
    clock: TokioClock,
    turn: Mutex<()>,
    not_before: watch::Sender<Instant>,
}

/// Tokio's clock, so that tests run under paused time.
#[derive(Clone, Debug)]
struct TokioClock(Instant);

/// Time since a clock's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Since(Duration);

// === impl Limiter ===

impl Limiter {
    /// A limiter of so many requests a minute, in bursts of about a second's; without a rate it
    /// only holds.
    pub fn new(requests_per_minute: Option<NonZeroU32>) -> Self {
        let clock = TokioClock(Instant::now());
        let bucket = requests_per_minute.map(|rate| {
            // `per_minute` alone would let a whole minute's requests out at once, and twice the
            // rate in the first minute.
            let burst = NonZeroU32::new(rate.get() / 60).unwrap_or(NonZeroU32::MIN);
            RateLimiter::direct_with_clock(
                Quota::per_minute(rate).allow_burst(burst),
                clock.clone(),
            )
        });
        let (not_before, _) = watch::channel(Instant::now());
        Self { bucket, clock, turn: Mutex::new(()), not_before }
    }

    /// Waits until a call may go out; returns how long that took. Dropping the future gives the
    /// place in the line up.
    pub async fn permit(&self) -> Duration {
        let start = Instant::now();
        // Tokio's mutex is fair: the line is the queue for it.
        let _turn = self.turn.lock().await;
        loop {
            let not_before = *self.not_before.borrow();
            if not_before > Instant::now() {
                tokio::time::sleep_until(not_before).await;
                continue;
            }
            let Some(bucket) = &self.bucket else { break };
            match bucket.check() {
                Ok(()) => break,
                Err(until) => tokio::time::sleep(until.wait_time_from(self.clock.now())).await,
            }
        }
        start.elapsed()
    }

    /// Lets no call out for this long from now; a longer hold stays.
    pub fn hold(&self, delay: Duration) {
        let until = Instant::now() + delay;
        self.not_before.send_if_modified(|not_before| {
            let later = until > *not_before;
            if later {
                *not_before = until;
            }
            later
        });
    }
}

// === impl TokioClock ===

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_minute_has_more_than_the_rate_and_a_burst() {
        let limiter = Limiter::new(NonZeroU32::new(600));
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..2_000 {
            limiter.permit().await;
            times.push(start.elapsed());
        }
        let minute = Duration::from_secs(60);
        for (i, from) in times.iter().enumerate() {
            let within = times[i..].iter().take_while(|t| **t < *from + minute).count();
            assert!(within <= 610, "{within} within a minute");
        }
        // And the rate is used: 2,000 requests at 10 a second take 199 s.
        assert!(times[1_999] < Duration::from_secs(201), "{:?}", times[1_999]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_stops_every_call() {
        let limiter = Arc::new(Limiter::new(None));
        limiter.hold(Duration::from_secs(7));
        limiter.hold(Duration::from_secs(3));
        let start = Instant::now();
        let waits: Vec<_> = (0..4)
            .map(|_| {
                let limiter = Arc::clone(&limiter);
                tokio::spawn(async move { limiter.permit().await })
            })
            .collect();
        for wait in waits {
            wait.await.expect("no panic");
        }
        assert_eq!(start.elapsed().as_secs(), 7);
    }
}
