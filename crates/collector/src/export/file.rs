//! Files that appear whole or not at all.
//!
//! Owns temporary names, hashing and renaming. A file is written beside its place, synced, and
//! renamed only when everything else is written too.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{ExportError, ExportedFile, failed};

/// A file being written under a temporary name; removed when dropped.
pub(super) struct AtomicFile {
    out: BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: u64,
    place: Temporary,
}

/// A file that is whole and on disk, still under its temporary name; removed when dropped.
pub(super) struct WholeFile {
    hash: blake3::Hash,
    bytes: u64,
    place: Temporary,
}

/// A name that is not the file's own; the file is removed when dropped.
struct Temporary {
    path: PathBuf,
    target: PathBuf,
    renamed: bool,
}

/// Sets apart temporary files of one process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Makes the folder, and removes what a killed export left in it.
pub(super) fn prepare(folder: &Path) -> Result<(), ExportError> {
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let entries = fs::read_dir(folder).map_err(failed(folder))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().and_then(temporary_of).is_some_and(is_gone) {
            // Left over, and in nobody's way if it stays.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Puts the folder's new names on disk. The files are whole without it; a power cut may bring
/// the old ones back.
pub(super) fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        // Some filesystems cannot sync a folder.
        let _ = folder.sync_all();
    }
}

fn temporary_name(target: &str) -> String {
    let (process, number) = (process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    format!(".{target}.{process}-{number}.tribunal-tmp")
}

/// The process that made a temporary file of this name.
fn temporary_of(name: &str) -> Option<u32> {
    let name = name.strip_prefix('.')?.strip_suffix(".tribunal-tmp")?;
    let (process, number) = name.rsplit_once('.')?.1.split_once('-')?;
    number.parse::<u64>().ok()?;
    process.parse().ok()
}

/// Whether the process has surely ended; false where the system cannot tell.
fn is_gone(process: u32) -> bool {
    let processes = Path::new("/proc");
    processes.join("self").exists() && !processes.join(process.to_string()).exists()
}

// === impl AtomicFile ===

impl AtomicFile {
    /// A new file beside `target`, whose name must be plain text.
    pub(super) fn create(target: &Path) -> io::Result<AtomicFile> {
        let name = target.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidFilename)?;
        let path = target.with_file_name(temporary_name(name));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(AtomicFile {
            out: BufWriter::with_capacity(1 << 16, file),
            hasher: blake3::Hasher::new(),
            bytes: 0,
            place: Temporary { path, target: target.to_owned(), renamed: false },
        })
    }

    /// Everything written, on disk.
    pub(super) fn finish(mut self) -> io::Result<WholeFile> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        Ok(WholeFile { hash: self.hasher.finalize(), bytes: self.bytes, place: self.place })
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

// === impl WholeFile ===

impl WholeFile {
    /// Name, size and hash.
    pub(super) fn describe(&self) -> ExportedFile {
        let name = self.place.target.file_name().unwrap_or_default();
        ExportedFile {
            name: name.to_string_lossy().into_owned(),
            bytes: self.bytes,
            blake3: self.hash.to_hex().to_string(),
        }
    }

    /// Gives the file its name, replacing one that has it.
    pub(super) fn commit(mut self) -> Result<(), ExportError> {
        let place = &mut self.place;
        fs::rename(&place.path, &place.target)
            .map_err(|reason| ExportError::Rename { path: place.target.clone(), reason })?;
        place.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing to be done about a file that cannot be removed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_tell_their_process() {
        let name = temporary_name("run.json");
        assert_eq!(temporary_of(&name), Some(process::id()));
        assert!(!is_gone(process::id()));
        for other in [
            "run.json",
            ".run.json.12.tribunal-tmp",
            ".run.json.12-x.tribunal-tmp",
            ".tribunal-tmp",
            ".run.json.12-3.tmp",
        ] {
            assert_eq!(temporary_of(other), None, "{other}");
        }
    }
}
