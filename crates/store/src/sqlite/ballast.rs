//! A file of real bytes that is given up when the disk is full.
//!
//! Owns `<store>.ballast`. Even reading an SQLite store needs a little room for its log, so a disk
//! that is full to the last byte could not be cleaned up with the store's own commands.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use rand::Rng;

/// Size of the ballast in bytes.
const SIZE: u64 = 1 << 20;

/// Free bytes below which no ballast is made: it must not be what fills the disk.
const ROOM: u64 = 16 * SIZE;

/// Where the ballast of a store lies.
fn file(store: &Path) -> PathBuf {
    super::beside(store, "ballast")
}

/// Makes the ballast if it is not there and there is room. Without one the store works too.
pub(super) fn keep(store: &Path) {
    let ballast = file(store);
    if fs::metadata(&ballast).is_ok_and(|meta| meta.len() == SIZE) || !has_room(store) {
        return;
    }
    if let Err(error) = write(&ballast) {
        let _ = fs::remove_file(&ballast);
        tracing::warn!(path = %ballast.display(), %error, "no ballast for a full disk");
    }
}

/// Gives the room back. Returns whether there was a ballast.
pub(super) fn release(store: &Path) -> bool {
    let released = fs::remove_file(file(store)).is_ok();
    if released {
        tracing::warn!(store = %store.display(), "disk full: the store's ballast was given up");
    }
    released
}

fn has_room(store: &Path) -> bool {
    let folder = store.parent().unwrap_or(Path::new("."));
    // Where it cannot be asked, writing will tell.
    rustix::fs::statvfs(folder)
        .map_or(true, |disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= ROOM)
}

fn write(ballast: &Path) -> io::Result<()> {
    // Random, so that no filesystem compresses it away or shares its blocks.
    let mut bytes = vec![0; SIZE as usize];
    rand::rng().fill_bytes(&mut bytes);
    // Not synced: its room is taken as soon as it is written, and what a crash cuts short is made again.
    fs::File::create(ballast)?.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ballast_is_real_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store.db");
        keep(&store);
        let bytes = fs::read(file(&store)).unwrap();
        assert_eq!(bytes.len() as u64, SIZE);
        assert!(record_len(&bytes) > bytes.len() / 2, "it can be compressed away");
        assert!(release(&store));
        assert!(!release(&store));
        keep(&store);
        assert!(file(&store).exists());
    }

    fn record_len(bytes: &[u8]) -> usize {
        crate::record::compress(bytes).unwrap().len()
    }
}
