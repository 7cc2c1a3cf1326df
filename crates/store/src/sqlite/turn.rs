//! Whose turn it is to write, between processes.
//!
//! Owns two lock files. SQLite keeps writers apart by itself, but a writer that commits group
//! after group leaves gaps of microseconds, and SQLite's own wait looks for them every 100 ms: a
//! second process would starve for many seconds. So a writer first stands in the queue, waits at
//! its head for the pen, and leaves the queue when it has the pen: who has just written finds
//! the queue taken and cannot overtake. It is courtesy alone: nothing depends on it for safety.

use std::{
    fs::File,
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How long a writer is courteous. A stopped process must not stop the others: who waited in vain
/// waits no more until a turn is free again.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the head of the queue looks.
const LOOK: Duration = Duration::from_millis(1);

/// The two locks.
pub(super) struct Turn {
    queue: File,
    pen: File,
    /// Whether somebody keeps a turn and does not end it.
    stuck: AtomicBool,
}

// === impl Turn ===

impl Turn {
    /// The turns at this store.
    pub(super) fn beside(store: &Path) -> io::Result<Self> {
        let folder = super::beside(store, "workers");
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            queue: File::create(folder.join("queue.turn"))?,
            pen: File::create(folder.join("pen.turn"))?,
            stuck: AtomicBool::new(false),
        })
    }

    /// Waits for this process's turn.
    pub(super) async fn take(&self) {
        let patience = if self.stuck.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE };
        let deadline = Instant::now() + patience;
        let taken = [take(&self.queue, deadline).await, take(&self.pen, deadline).await];
        self.stuck.store(taken != [true; 2], Ordering::Relaxed);
        // Unlocking what was not locked is no error.
        let _ = self.queue.unlock();
    }

    /// Ends this process's turn.
    pub(super) fn give(&self) {
        let _ = self.pen.unlock();
    }
}

/// Whether the lock was taken, or needs no taking.
async fn take(lock: &File, deadline: Instant) -> bool {
    // A filesystem without locks has no turns either.
    while let Err(std::fs::TryLockError::WouldBlock) = lock.try_lock() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_just_written_cannot_overtake() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store.db");
        let first = Turn::beside(&store).unwrap();
        let second = Turn::beside(&store).unwrap();
        first.take().await;
        // The second stands at the head of the queue while the first writes.
        second.queue.try_lock().unwrap();
        first.give();
        assert!(matches!(first.queue.try_lock(), Err(std::fs::TryLockError::WouldBlock)));
        second.pen.try_lock().unwrap();
        second.queue.unlock().unwrap();
        first.queue.try_lock().unwrap();
        assert!(matches!(first.pen.try_lock(), Err(std::fs::TryLockError::WouldBlock)));
    }
    #[tokio::test]
    async fn who_never_ends_a_turn_is_waited_for_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store.db");
        let (stopped, other) = (Turn::beside(&store).unwrap(), Turn::beside(&store).unwrap());
        stopped.take().await;
        other.take().await;
        assert!(other.stuck.load(Ordering::Relaxed));
        other.give();
        stopped.give();
        other.take().await;
        assert!(!other.stuck.load(Ordering::Relaxed));
        assert!(matches!(stopped.pen.try_lock(), Err(std::fs::TryLockError::WouldBlock)));
    }
}
