//! Blobs that are put for a run that is not created yet.
//!
//! Owns the lock that keeps them from being taken for blobs that nobody needs: shared by whoever
//! puts, from the first blob to the run's creation, and taken alone by who removes blobs. The
//! operating system gives a dead process's lock up.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How often it is tried while blobs are being removed, which takes seconds at most.
const LOOK: Duration = Duration::from_millis(5);

/// The lock at one store.
pub(super) struct Puts {
    file: PathBuf,
    held: Mutex<Option<File>>,
}

// === impl Puts ===

impl Puts {
    /// The lock beside this store; not taken yet.
    pub(super) fn beside(store: &Path) -> Self {
        let file = super::beside(store, "workers").join("blobs.turn");
        Self { file, held: Mutex::default() }
    }

    /// Keeps blobs from being removed, until [`Puts::end`].
    pub(super) async fn begin(&self) -> io::Result<()> {
        if self.held().is_some() {
            return Ok(());
        }
        let file = self.open()?;
        // A filesystem without locks: as with worker processes, nothing is kept apart.
        while let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
            tokio::time::sleep(LOOK).await;
        }
        *self.held() = Some(file);
        Ok(())
    }

    /// All that was put is named by a run.
    pub(super) fn end(&self) {
        self.held().take();
    }

    /// The right to remove blobs while it is held; `None` while somebody puts them.
    pub(super) fn nobody_else(&self) -> io::Result<Option<File>> {
        let file = self.open()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn open(&self) -> io::Result<File> {
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder)?;
        }
        File::options().create(true).truncate(false).write(true).open(&self.file)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<File>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_puts_is_not_removed_from() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store.db");
        let (putting, pruning) = (Puts::beside(&store), Puts::beside(&store));
        putting.begin().await.unwrap();
        putting.begin().await.unwrap();
        assert!(pruning.nobody_else().unwrap().is_none());
        assert!(putting.nobody_else().unwrap().is_none(), "nor by the same process");
        putting.end();
        let alone = pruning.nobody_else().unwrap();
        assert!(alone.is_some());
        let waiting = tokio::time::timeout(Duration::ZERO, putting.begin()).await;
        assert!(waiting.is_err(), "puts wait for the removal");
        drop(alone);
        putting.begin().await.unwrap();
    }
}
