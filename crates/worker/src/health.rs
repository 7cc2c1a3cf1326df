//! What is known of a judge's endpoint from this process's calls.
//!
//! Owns telling a leaf's failure from the account's: an endpoint that was never reached, or that
//! calls every request wrong, is nobody's leaf's fault.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Calls with the same 400 before any success that make it the account's fault, not a leaf's.
const SAME_BAD_REQUESTS: u32 = 3;

/// Whether the judge's endpoint has answered this process, and how.
#[derive(Debug)]
pub struct Health {
    reached: AtomicBool,
    succeeded: AtomicBool,
    first_try: Mutex<Option<Instant>>,
    bad_requests: Mutex<(String, u32)>,
    refusals: AtomicU32,
}

// === impl Health ===

impl Health {
    /// Nothing is known.
    pub(crate) fn new() -> Self {
        Self {
            reached: AtomicBool::new(false),
            succeeded: AtomicBool::new(false),
            first_try: Mutex::new(None),
            bad_requests: Mutex::default(),
            refusals: AtomicU32::new(0),
        }
    }

    /// A call goes out.
    pub fn trying(&self) {
        if !self.has_been_reached()
            && let Ok(mut first) = self.first_try.lock()
        {
            first.get_or_insert_with(Instant::now);
        }
    }

    /// The endpoint answered.
    pub fn reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// The endpoint answered with a completion.
    pub fn succeeded(&self) {
        self.reached();
        self.succeeded.store(true, Ordering::Relaxed);
    }

    /// The account or endpoint refused, and the run is to pause.
    pub fn refused(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it refused: an attempt that began before the last time need not ask any more.
    pub fn refusals(&self) -> u32 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Whether the endpoint ever answered this process.
    pub fn has_been_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// Whether the endpoint was never reached for so long.
    pub fn unreachable_for(&self, limit: Duration) -> bool {
        let since = self.first_try.lock().ok().and_then(|first| *first);
        !self.has_been_reached() && since.is_some_and(|since| since.elapsed() >= limit)
    }

    /// What a 400 means: the leaf's fault once anything succeeded, the account's when the same
    /// came three times before that, and not known yet in between.
    pub fn bad_request(&self, message: &str) -> BadRequest {
        if self.succeeded.load(Ordering::Relaxed) {
            return BadRequest::Leaf;
        }
        let Ok(mut seen) = self.bad_requests.lock() else {
            return BadRequest::Leaf;
        };
        if seen.0 == message {
            seen.1 += 1;
        } else {
            *seen = (message.to_owned(), 1);
        }
        if seen.1 >= SAME_BAD_REQUESTS { BadRequest::Account } else { BadRequest::Undecided }
    }
}

/// Whose fault a 400 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// The leaf's: it fails.
    Leaf,
    /// The account's or the config's: the run pauses.
    Account,
    /// Not known before other leaves were asked.
    Undecided,
}
