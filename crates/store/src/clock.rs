//! The store's time.
//!
//! Owns the one source of "now" for leases and waits, so that tests can step it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

/// A source of wall time.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// A clock that moves only when told, backwards too.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicI64>);

// === impl SystemClock ===

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        jiff::Timestamp::now().as_millisecond()
    }
}

// === impl ManualClock ===

impl ManualClock {
    /// A clock that stands at this time.
    pub fn at(now_ms: i64) -> Self {
        Self(Arc::new(AtomicI64::new(now_ms)))
    }

    /// Moves the clock by this many milliseconds.
    pub fn advance(&self, by_ms: i64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}
