//! How many leaves a pool holds at once.
//!
//! Owns the slots: one for each leaf that is claimed and not yet stored. More are held than calls may be
//! in flight: those whose call has ended and whose verdict is on its way to the store, and those that
//! are claimed for the next calls. Otherwise every call would wait for two transactions. Which leaves
//! are claimed is the pool's.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Leaves held beyond the calls in flight, at most.
const MAX_AHEAD: usize = 256;

/// Of leaves that are done with fast, as many are held ahead as are claimed in this time: nobody waits for
/// leaves that are held so short, and a transaction is little work for many of them.
const AHEAD: Duration = Duration::from_millis(25);

/// The time over which the rate of claims is measured, at least.
const WINDOW: Duration = Duration::from_millis(100);

/// The slots of a pool.
pub(super) struct Slots {
    free: Arc<Semaphore>,
    /// Calls in flight, at most.
    calls: usize,
    /// Slots beyond these.
    ahead: usize,
    /// Leaves claimed since the rate was last measured, and since when.
    claimed: usize,
    since: Instant,
}

// === impl Slots ===

impl Slots {
    /// For so many calls in flight, at least 1.
    pub(super) fn new(calls: usize) -> Self {
        let ahead = (calls / 2).min(MAX_AHEAD);
        let free = Arc::new(Semaphore::new(calls + ahead));
        Self { free, calls, ahead, claimed: 0, since: Instant::now() }
    }

    /// As many as a claim waits for: it is a transaction, whatever it claims, so half of those ahead may run
    /// out first.
    pub(super) fn least(&self, claim_batch: usize) -> usize {
        (self.ahead / 2).clamp(1, claim_batch.max(1))
    }

    /// Waits for so many slots.
    pub(super) fn take(
        &self,
        slots: usize,
    ) -> impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + use<> {
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        Arc::clone(&self.free).acquire_many_owned(slots)
    }

    /// One slot more, if one is free.
    pub(super) fn take_free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Leaves that are held.
    pub(super) fn in_use(&self) -> usize {
        self.calls + self.ahead - self.free.available_permits()
    }

    /// Counts leaves that were claimed; holds more or fewer ahead when their rate changes.
    pub(super) fn claimed(&mut self, leaves: usize) {
        self.claimed += leaves;
        let elapsed = self.since.elapsed();
        if elapsed < WINDOW {
            return;
        }
        let held_shortly = self.claimed as f64 * AHEAD.as_secs_f64() / elapsed.as_secs_f64();
        let ahead = (held_shortly as usize).max(self.calls / 2).min(MAX_AHEAD);
        if ahead > self.ahead {
            self.free.add_permits(ahead - self.ahead);
            self.ahead = ahead;
        } else {
            // Those in use stay until they are measured the next time.
            self.ahead -= self.free.forget_permits(self.ahead - ahead);
        }
        (self.claimed, self.since) = (0, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims so many leaves at once, 250 times, and holds each for so long.
    async fn claim(slots: &mut Slots, leaves: usize, held: Duration) {
        for _ in 0..250 {
            let taken = slots.take(leaves).await;
            slots.claimed(leaves);
            tokio::time::sleep(held).await;
            drop(taken);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_fast_is_held_further_ahead_and_no_longer_when_it_slows_down() {
        let mut slots = Slots::new(8);
        assert_eq!((slots.least(64), slots.in_use()), (2, 0));
        // 4,000 a second: 100 in the time ahead.
        claim(&mut slots, 4, Duration::from_millis(1)).await;
        assert_eq!(slots.ahead, 100);
        assert_eq!((slots.least(1_000), slots.least(32)), (50, 32));
        claim(&mut slots, 4, Duration::from_millis(50)).await;
        assert_eq!((slots.ahead, slots.in_use()), (4, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn slots_in_use_are_not_taken_away() {
        let mut slots = Slots::new(16);
        claim(&mut slots, 16, Duration::from_millis(1)).await;
        let most = slots.calls + slots.ahead;
        assert_eq!(slots.ahead, MAX_AHEAD);
        let all = slots.take(most).await;
        tokio::time::sleep(WINDOW).await;
        slots.claimed(0);
        assert_eq!(slots.in_use(), most);
        drop(all);
        tokio::time::sleep(WINDOW).await;
        slots.claimed(0);
        assert_eq!((slots.in_use(), slots.ahead), (0, 8));
    }
}
