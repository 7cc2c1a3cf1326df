//! A submission's folder.
//!
//! Owns the walk. Links are not followed, devices and pipes are not opened. A hard link cannot be
//! told from a file here and is read as one.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use ignore::WalkBuilder;

use super::{
    OmittedReason, SnapshotError,
    builder::{Builder, Entry, Kind},
    name,
};

/// A file that is opened when it is first read: most entries never are.
struct Unopened {
    path: PathBuf,
    file: Option<File>,
}

/// Hands every entry of the folder to the builder, in order of their names.
pub(super) fn read(builder: &mut Builder<'_>, root: &Path) -> Result<(), SnapshotError> {
    let walk = WalkBuilder::new(root)
        .standard_filters(false)
        .follow_links(false)
        // One folder more than allowed is seen, and refused by the builder.
        .max_depth(Some(builder.limits().max_depth + 2))
        .sort_by_file_name(|a, b| a.cmp(b))
        .filter_entry(|entry| {
            let folder = entry.file_type().is_some_and(|kind| kind.is_dir());
            !folder || !name::is_left_out(entry.file_name().as_encoded_bytes())
        })
        .build();
    for entry in walk {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                unreadable_folder(builder, root, &error)?;
                continue;
            }
        };
        let Some(kind) = entry.file_type().filter(|_| entry.depth() > 0) else {
            continue;
        };
        let path = entry.path();
        let below = path.strip_prefix(root).unwrap_or(path);
        let meta = fs::symlink_metadata(path);
        let kind = match &meta {
            Err(_) => Kind::Omitted(OmittedReason::Unreadable),
            Ok(_) if kind.is_dir() => Kind::Folder,
            Ok(_) if kind.is_symlink() => Kind::Omitted(OmittedReason::Link),
            Ok(meta) if meta.is_file() => Kind::File,
            Ok(_) => Kind::Omitted(OmittedReason::Special),
        };
        builder.entry(
            Entry {
                name: below.as_os_str().as_encoded_bytes(),
                kind,
                bytes: meta.as_ref().map_or(0, fs::Metadata::len),
                mtime_ms: meta.as_ref().map_or(0, mtime_ms),
            },
            &mut Unopened { path: path.to_owned(), file: None },
        )?;
    }
    Ok(())
}

/// A folder below the root that cannot be listed is recorded; the root itself is an error.
fn unreadable_folder(
    builder: &mut Builder<'_>,
    root: &Path,
    error: &ignore::Error,
) -> Result<(), SnapshotError> {
    let denied =
        error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    let path = match error {
        ignore::Error::WithDepth { err, .. } => match &**err {
            ignore::Error::WithPath { path, .. } => Some(path),
            _ => None,
        },
        ignore::Error::WithPath { path, .. } => Some(path),
        _ => None,
    };
    match path.and_then(|path| path.strip_prefix(root).ok()) {
        Some(below) if denied && !below.as_os_str().is_empty() => {
            let name = below.as_os_str().as_encoded_bytes();
            let kind = Kind::Omitted(OmittedReason::Unreadable);
            builder.entry(Entry { name, kind, bytes: 0, mtime_ms: 0 }, &mut io::empty())
        }
        _ => Err(SnapshotError::Walk { path: root.to_owned(), reason: error.to_string() }),
    }
}

/// Modification time in milliseconds since the Unix epoch, negative before it.
fn mtime_ms(meta: &fs::Metadata) -> i64 {
    let Ok(time) = meta.modified() else { return 0 };
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(error) => i64::try_from(error.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

// === impl Unopened ===

impl Read for Unopened {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(&self.path)?),
        };
        file.read(into)
    }
}
