//! Where a store may lie.
//!
//! Owns the checks of path, folder and filesystem, and whether the file is still there. It never
//! opens the store's file: closing a second handle would drop the locks that SQLite holds in this
//! process.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::error;
use crate::error::StoreError;

/// Filesystems that reach over a network, by the magic number of `statfs(2)`.
#[cfg(target_os = "linux")]
const NETWORK: [(u64, &str); 12] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x7375_7245, "Coda"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
];

/// The file that a store was opened with.
pub(super) struct Placed {
    path: PathBuf,
    /// Device and inode: neither its name nor its size says which file it is. While it is held open
    /// the number is given to no other file.
    file: (u64, u64),
}

/// Makes the store's folder where it is missing; returns the folders made, the outermost first.
pub(super) fn make_folder(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let folder = folder(path);
    let missing = folder.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.exists());
    let mut made: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    made.reverse();
    let store = path.display().to_string();
    if let Err(error) = fs::create_dir_all(folder) {
        remove_empty(&made);
        // What is there, not what could not be made.
        let there = folder.ancestors().find(|at| at.exists()).unwrap_or(folder);
        return Err(match error::file(&store, folder, &error) {
            StoreError::ReadOnly { .. } => {
                StoreError::ReadOnly { store: there.display().to_string() }
            }
            other => other,
        });
    }
    Ok(made)
}

/// Removes folders that this process made and that nothing was put into.
pub(super) fn remove_empty(made: &[PathBuf]) {
    for folder in made.iter().rev() {
        let _ = fs::remove_dir(folder);
    }
}

/// The path without links, so that every process names the files beside the store alike.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    let fail = |error| error::file(&path.display().to_string(), path, &error);
    match fs::canonicalize(path) {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = fs::canonicalize(folder(path)).map_err(fail)?;
            let name = path.file_name().ok_or_else(|| StoreError::NotAStore {
                path: path.to_owned(),
                reason: "it names no file".to_owned(),
            })?;
            Ok(folder.join(name))
        }
        Err(error) => Err(fail(error)),
    }
}

/// Refuses a place where a store cannot be written safely.
pub(super) fn check(path: &Path) -> Result<(), StoreError> {
    let folder = folder(path);
    let there = if path.exists() { path } else { folder };
    let store = &there.display().to_string();
    if path.is_dir() {
        return Err(StoreError::NotAStore {
            path: path.to_owned(),
            reason: "it is a folder".to_owned(),
        });
    }
    if let Some(kind) = network_filesystem(folder) {
        return Err(StoreError::NetworkFilesystem {
            path: folder.to_owned(),
            kind: kind.to_owned(),
        });
    }
    // The folder too: the log and the locks are made in it.
    let writable = Access::READ_OK | Access::WRITE_OK;
    let file = path.exists().then_some((path, writable));
    for (at, access) in [(folder, writable | Access::EXEC_OK)].into_iter().chain(file) {
        rustix::fs::access(at, access).map_err(|e| error::file(store, at, &e.into()))?;
    }
    Ok(())
}

/// Gives a finished file its name, unless the name is taken: then the other file is as good.
pub(super) fn name(unnamed: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(unnamed, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        // A filesystem without links.
        Err(_) => match renameat_with(CWD, unnamed, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        },
    }
    // The name is on disk only when the folder is.
    fs::File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(target_os = "linux")]
fn network_filesystem(folder: &Path) -> Option<&'static str> {
    let magic = rustix::fs::statfs(folder).ok()?.f_type as u64 & 0xffff_ffff;
    network_kind(magic)
}

#[cfg(target_os = "linux")]
fn network_kind(magic: u64) -> Option<&'static str> {
    let known = NETWORK.iter().find(|(known, _)| *known == magic);
    known.map(|(_, kind)| *kind)
}

#[cfg(not(target_os = "linux"))]
fn network_filesystem(_folder: &Path) -> Option<&'static str> {
    // Only Linux tells the kind by a number.
    None
}

// === impl Placed ===

impl Placed {
    /// The file of this name.
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        let file = identity(path);
        let file = file.map_err(|e| error::file(&path.display().to_string(), path, &e))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Whether the name is still that file's.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let store = self.path.display().to_string();
        match identity(&self.path) {
            Ok(file) if file == self.file => Ok(()),
            Ok(_) => Err(StoreError::Gone { store, what: "replaced" }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Gone { store, what: "removed" })
            }
            Err(error) => Err(error::file(&store, &self.path, &error)),
        }
    }
}

/// Which file a name is of.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_filesystems_are_known_by_number() {
        assert_eq!(network_kind(0x6969), Some("NFS"));
        assert_eq!(network_kind(0xff53_4d42), Some("CIFS"));
        for local in [0xef53, 0x0102_1994, 0x9123_683e, 0x5846_5342, 0x794c_7630] {
            assert_eq!(network_kind(local), None, "{local:x}");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (new, path) = (folder.path().join("new"), folder.path().join("store.db"));
        fs::write(&new, "new").unwrap();
        name(&new, &path).unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "other").unwrap();
        name(&other, &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }
}

/// The path of a file beside the store: `<store>.<what>`.
pub(super) fn beside(store: &Path, what: &str) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".");
    path.push(what);
    path.into()
}
