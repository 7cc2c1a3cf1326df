//! Which worker processes are alive, told by the operating system's locks.
//!
//! Owns `<store>.workers/`: one file a worker, locked for as long as its process lives. A process
//! that dies, however it dies, gives its lock up, so a restart need not wait for leases to end.
//! Leases themselves are moved elsewhere.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tribunal_core::WorkerId;

/// The locks that this process holds, and the folder of all.
pub(super) struct WorkerLocks {
    folder: PathBuf,
    held: Mutex<Vec<(PathBuf, File)>>,
}

/// A worker whose process is gone. Its lock is held here, so that nobody else buries it too.
pub(super) struct DeadWorker {
    /// Whose lock it was.
    pub(super) id: WorkerId,
    path: PathBuf,
    _lock: File,
}

// === impl WorkerLocks ===

impl WorkerLocks {
    /// The locks beside this store; none is held yet.
    pub(super) fn beside(store: &Path) -> Self {
        Self { folder: super::beside(store, "workers"), held: Mutex::default() }
    }

    /// Takes this worker's lock and finds those of dead workers. Blocks for a few file calls.
    pub(super) fn join(&self, worker: WorkerId) -> io::Result<Vec<DeadWorker>> {
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(format!("{worker}.lock"));
        // Locked before it has its name: a file found unlocked under that name is a dead
        // worker's, never one that is about to be locked.
        let unnamed = self.folder.join(format!("{worker}.new"));
        let lock = File::create(&unnamed)?;
        lock.try_lock().map_err(io::Error::from)?;
        fs::rename(&unnamed, &path)?;
        let dead = self.dead(&path)?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.push((path, lock));
        Ok(dead)
    }

    fn dead(&self, own: &Path) -> io::Result<Vec<DeadWorker>> {
        let mut dead = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let id = name.and_then(|name| name.strip_suffix(".lock")?.parse().ok());
            let Some(id) = id.filter(|_| path != own) else {
                continue;
            };
            // Another process may have buried it meanwhile.
            let Ok(lock) = File::open(&path) else {
                continue;
            };
            match lock.try_lock() {
                Ok(()) => dead.push(DeadWorker { id, path, _lock: lock }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(dead)
    }

    /// Gives this process's locks up for good: its workers have left, nobody has to bury them.
    pub(super) fn leave(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, _lock) in held.drain(..) {
            let _ = fs::remove_file(path);
        }
    }

    /// The workers whose locks this process holds.
    pub(super) fn own(&self) -> Vec<WorkerId> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let id = |path: &Path| path.file_stem()?.to_str()?.parse().ok();
        held.iter().filter_map(|(path, _)| id(path)).collect()
    }
}

// === impl DeadWorker ===

impl DeadWorker {
    /// Removes its lock file, once its leases are taken back.
    pub(super) fn bury(self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(byte: u8) -> WorkerId {
        WorkerId::from_bytes([byte; 16])
    }

    #[test]
    fn the_dead_are_found_once_and_the_living_never() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store.db");
        let living = WorkerLocks::beside(&store);
        assert!(living.join(worker(1)).unwrap().is_empty());
        let dying = WorkerLocks::beside(&store);
        assert!(dying.join(worker(2)).unwrap().is_empty());
        drop(dying);

        let next = WorkerLocks::beside(&store);
        let dead = next.join(worker(3)).unwrap();
        assert_eq!(dead.iter().map(|dead| dead.id).collect::<Vec<_>>(), [worker(2)]);
        // Found, but not yet buried: nobody else finds it.
        assert!(living.join(worker(4)).unwrap().is_empty());
        dead.into_iter().for_each(DeadWorker::bury);
        drop(next);
        let dead = living.join(worker(5)).unwrap();
        assert_eq!(dead.iter().map(|dead| dead.id).collect::<Vec<_>>(), [worker(3)]);
    }

    #[test]
    fn who_leaves_is_not_found_dead() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store.db");
        let leaving = WorkerLocks::beside(&store);
        leaving.join(worker(1)).unwrap();
        assert_eq!(leaving.own(), [worker(1)]);
        leaving.leave();
        assert!(leaving.own().is_empty());
        let next = WorkerLocks::beside(&store);
        assert!(next.join(worker(2)).unwrap().is_empty());
    }
}
