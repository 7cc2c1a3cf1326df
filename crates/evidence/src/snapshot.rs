//! A submission's folder, read once.
//!
//! Owns the walk and what is recorded of each file. Follows no link, leaves no root, reads at most
//! so much of a file; what is left out is recorded with its reason. The content goes to the
//! caller, who puts it into the store.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use ignore::WalkBuilder;
use serde::{Deserialize, Serialize};
use tribunal_core::BlobHash;

use crate::text::{Decoded, decode};

/// The file that a reproduction writes its output to.
pub const REPRODUCE_LOG: &str = "reproduce.log";
/// The script that reproduces the results.
pub const REPRODUCE_SH: &str = "reproduce.sh";
/// The file with the Unix time, in seconds, at which the reproduction began.
pub const REPRODUCTION_TIME: &str = "reproduce.log.creation_time";

/// Folders of version control; AppleDouble files start with `._`.
const LEFT_OUT_FOLDERS: [&str; 5] = [".git", ".hg", ".svn", ".bzr", "__MACOSX"];

/// What a submission may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files and folders.
    pub max_entries: u64,
    /// Bytes of all text that is read.
    pub max_total_bytes: u64,
    /// Folders within folders.
    pub max_depth: usize,
    /// Bytes of a path below the root.
    pub max_path_bytes: usize,
    /// Bytes read of one file; the rest is cut.
    pub file_max_bytes: u64,
}

/// Why a file's content is not in the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OmittedReason {
    /// Not text.
    Binary,
    /// A symbolic link: never followed.
    Link,
    /// A device, socket or pipe.
    Special,
    /// The system refused to read it.
    Unreadable,
    /// Version control's or the Finder's own file.
    Housekeeping,
    /// The name is not Unicode.
    Name,
}

/// A file of the submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path below the root, with `/`.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Modification time, milliseconds since the Unix epoch.
    pub mtime_ms: i64,
    /// The content, if it is text.
    pub text: Option<BlobHash>,
    /// Bytes that were not read because the file is longer than the limit.
    pub cut_bytes: u64,
    /// Why there is no content.
    pub omitted: Option<OmittedReason>,
}

/// All files of a submission, by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Format of this document.
    pub schema: String,
    /// Sorted by path, byte order.
    pub files: Vec<FileEntry>,
    /// When the reproduction began, milliseconds since the Unix epoch; `None` without a log.
    pub reproduction_ms: Option<i64>,
}

/// A submission that cannot be graded.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The path cannot be opened.
    #[error("the submission {path} cannot be read: {reason}. Check --submission")]
    Open {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// The path is a file.
    #[error("the submission {path} is not a folder; unpack it and give the folder")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// No file at all.
    #[error("the submission {path} has no files; check --submission")]
    Empty {
        /// The path.
        path: PathBuf,
    },
    /// A limit of the config is exceeded.
    #[error("the submission {path} has more than {limit} {noun}; raise limits.{key} in the config")]
    TooLarge {
        /// The path.
        path: PathBuf,
        /// The limit.
        limit: u64,
        /// What there is too much of.
        noun: &'static str,
        /// The config's key.
        key: &'static str,
    },
    /// A folder cannot be listed.
    #[error("the submission {path} cannot be walked: {reason}")]
    Walk {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The caller could not keep a file's content.
    #[error("{0}")]
    Keep(String),
}

// === impl Snapshot ===

impl Snapshot {
    /// The current format.
    pub const SCHEMA: &'static str = "tribunal.snapshot/1";

    /// Walks the folder; `keep` receives each text in turn and is not asked twice for one file.
    ///
    /// # Errors
    ///
    /// The folder does not exist, is none, is empty or exceeds a limit; or `keep` failed.
    pub fn take(
        root: &Path,
        limits: &Limits,
        mut keep: impl FnMut(String) -> Result<BlobHash, String>,
    ) -> Result<Snapshot, SnapshotError> {
        let at = || root.to_owned();
        let meta =
            fs::metadata(root).map_err(|reason| SnapshotError::Open { path: at(), reason })?;
        if !meta.is_dir() {
            return Err(SnapshotError::NotAFolder { path: at() });
        }
        let too_large = |limit, noun, key| SnapshotError::TooLarge { path: at(), limit, noun, key };
        let walk = WalkBuilder::new(root)
            .standard_filters(false)
            .follow_links(false)
            .max_depth(Some(limits.max_depth + 1))
            .filter_entry(|entry| {
                let folder = entry.file_type().is_some_and(|kind| kind.is_dir());
                let name = entry.file_name();
                !folder || !LEFT_OUT_FOLDERS.iter().any(|left_out| name == *left_out)
            })
            .build();
        let (mut files, mut entries, mut total) = (Vec::new(), 0, 0);
        for entry in walk {
            let entry = entry
                .map_err(|error| SnapshotError::Walk { path: at(), reason: error.to_string() })?;
            entries += 1;
            if entries > limits.max_entries {
                return Err(too_large(limits.max_entries, "files and folders", "max_entries"));
            }
            let Some(kind) = entry.file_type().filter(|_| entry.depth() > 0) else {
                continue;
            };
            if kind.is_dir() {
                if entry.depth() > limits.max_depth {
                    return Err(too_large(
                        limits.max_depth as u64,
                        "levels of folders",
                        "max_depth",
                    ));
                }
                continue;
            }
            let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
            if below.as_os_str().len() > limits.max_path_bytes {
                let limit = limits.max_path_bytes as u64;
                return Err(too_large(limit, "bytes in a path", "max_path_bytes"));
            }
            let (file, text) = read(entry.path(), below, kind, limits.file_max_bytes);
            total += text.as_ref().map_or(0, String::len) as u64;
            if total > limits.max_total_bytes {
                return Err(too_large(limits.max_total_bytes, "bytes of text", "max_total_bytes"));
            }
            let text = text.map(&mut keep).transpose().map_err(SnapshotError::Keep)?;
            files.push(FileEntry { text, ..file });
        }
        if files.is_empty() {
            return Err(SnapshotError::Empty { path: at() });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let reproduction_ms = reproduction_ms(root, &files);
        Ok(Snapshot { schema: Self::SCHEMA.to_owned(), files, reproduction_ms })
    }

    /// The file at this path below the root.
    pub fn file(&self, path: &str) -> Option<&FileEntry> {
        let found = self.files.binary_search_by(|file| file.path.as_str().cmp(path));
        found.ok().map(|index| &self.files[index])
    }
}

/// What is known of a file, and its text. A file that cannot be read is no error: the submission
/// is what it is.
fn read(path: &Path, below: &Path, kind: fs::FileType, max: u64) -> (FileEntry, Option<String>) {
    let mut file = FileEntry {
        path: below.to_string_lossy().into_owned(),
        bytes: 0,
        mtime_ms: 0,
        text: None,
        cut_bytes: 0,
        omitted: None,
    };
    let mut content = || -> Result<String, OmittedReason> {
        let meta = fs::symlink_metadata(path).map_err(|_| OmittedReason::Unreadable)?;
        file.bytes = meta.len();
        let since = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        file.mtime_ms = since.map_or(0, |since| since.as_millis() as i64);
        if kind.is_symlink() {
            return Err(OmittedReason::Link);
        }
        if !kind.is_file() {
            return Err(OmittedReason::Special);
        }
        let name = below.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(b"._") || name == b".DS_Store" {
            return Err(OmittedReason::Housekeeping);
        }
        if below.to_str().is_none() {
            return Err(OmittedReason::Name);
        }
        let mut bytes = Vec::new();
        let opened = File::open(path).map_err(|_| OmittedReason::Unreadable)?;
        opened.take(max).read_to_end(&mut bytes).map_err(|_| OmittedReason::Unreadable)?;
        file.cut_bytes = meta.len().saturating_sub(bytes.len() as u64);
        match decode(&bytes, file.cut_bytes > 0) {
            Decoded::Text(text, _) => Ok(text),
            Decoded::Binary => Err(OmittedReason::Binary),
        }
    };
    match content() {
        Ok(text) => (file, Some(text)),
        Err(reason) => {
            file.omitted = Some(reason);
            (file, None)
        }
    }
}

/// When the reproduction began: the time that [`REPRODUCTION_TIME`] names, else the log's own.
fn reproduction_ms(root: &Path, files: &[FileEntry]) -> Option<i64> {
    let has = |name: &str| files.iter().find(|file| file.path == name && file.text.is_some());
    let named = has(REPRODUCTION_TIME)
        .and_then(|_| fs::read_to_string(root.join(REPRODUCTION_TIME)).ok())
        .and_then(|text| text.trim().parse::<f64>().ok())
        .filter(|seconds| seconds.is_finite() && seconds.abs() < 1e12)
        .map(|seconds| (seconds * 1000.0) as i64);
    named.or_else(|| has(REPRODUCE_LOG).map(|log| log.mtime_ms))
}
