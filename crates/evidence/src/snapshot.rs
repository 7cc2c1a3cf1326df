//! A submission, read once.
//!
//! Owns the nouns of a snapshot and choosing the source: a folder, a tar archive (plain, gzip, zstd)
//! or a zip archive, told apart by their content. A source hands its entries to the one builder,
//! which names them and holds them to the limits. Nothing is ever unpacked to a disk; no link is
//! followed, no root is left, no more of a file is read than the limits say, and what is left out
//! is recorded with its reason. The content goes to the caller, who puts it into the store.

mod builder;
mod folder;
mod name;
mod tar;
mod zip;

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tribunal_core::BlobHash;

use self::builder::Builder;

/// The file that a reproduction writes its output to.
pub const REPRODUCE_LOG: &str = "reproduce.log";
/// The script that reproduces the results.
pub const REPRODUCE_SH: &str = "reproduce.sh";
/// The file with the Unix time, in seconds, at which the reproduction began.
pub const REPRODUCTION_TIME: &str = "reproduce.log.creation_time";
/// The folder that is taken off where everything lies below it.
pub const TOP_FOLDER: &str = "submission";

/// What a submission may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files and folders.
    pub max_entries: u64,
    /// Bytes of all files together, unpacked, whether they are text or not.
    pub max_total_bytes: u64,
    /// Bytes unpacked for each byte of an archive, once they are more than 16 MiB.
    pub max_ratio: u64,
    /// Folders within folders.
    pub max_depth: usize,
    /// Bytes of a path below the root.
    pub max_path_bytes: usize,
    /// Bytes read of one file; the rest is cut. `reproduce.log` is read whole and reduced.
    pub file_max_bytes: u64,
}

/// Why a file's content is not in the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OmittedReason {
    /// Not text.
    Binary,
    /// A symbolic link, or a file that an archive puts behind one: never followed.
    Link,
    /// An archive's hard link to another entry.
    HardLink,
    /// A device, socket or pipe.
    Special,
    /// The system refused to read it.
    Unreadable,
    /// Version control's or the Finder's own file.
    Housekeeping,
    /// Its path is absolute or leads out of the submission.
    Outside,
    /// An archive's entry that needs a password.
    Encrypted,
    /// An archive's entry of a kind or compression that is not supported.
    Unsupported,
}

/// A file of the submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path below the root, with `/`. Bytes that are not UTF-8 stand as `\xHH`. Where the reason of
    /// the omission is [`OmittedReason::Outside`] it is the path that the archive names.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Modification time, milliseconds since the Unix epoch.
    pub mtime_ms: i64,
    /// The content, if it is text; that of [`REPRODUCE_LOG`] is reduced, see [`crate::log`].
    pub text: Option<BlobHash>,
    /// The encoding that the content was in, if it is text.
    #[serde(default)]
    pub encoding: Option<String>,
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
    /// What the user should know of how the submission was read, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
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
    /// The path is neither a folder nor an archive that can be read.
    #[error(
        "the submission {path} is {found}; give a folder, or a .tar, .tar.gz, .tar.zst or .zip \
         archive of it"
    )]
    NotASubmission {
        /// The path.
        path: PathBuf,
        /// What it is instead.
        found: &'static str,
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
    /// The archive breaks off or does not hold together.
    #[error("the submission {path} is damaged: {what}. Pack or download it again")]
    Damaged {
        /// The path.
        path: PathBuf,
        /// Where in the archive, and what is wrong there.
        what: String,
    },
    /// The caller could not keep a file's content.
    #[error("{0}")]
    Keep(String),
}

// === impl Snapshot ===

impl Snapshot {
    /// The current format.
    pub const SCHEMA: &'static str = "tribunal.snapshot/1";

    /// Reads the folder or archive; `keep` receives each text in turn. Of entries of one name the
    /// last is taken. Where every file lies below a folder `submission/`, paths begin below it.
    ///
    /// # Errors
    ///
    /// The submission does not exist, is neither folder nor archive, is empty, damaged or exceeds a
    /// limit; or `keep` failed.
    pub fn take(
        root: &Path,
        limits: &Limits,
        mut keep: impl FnMut(String) -> Result<BlobHash, String>,
    ) -> Result<Snapshot, SnapshotError> {
        let open = |reason| SnapshotError::Open { path: root.to_owned(), reason };
        let meta = fs::metadata(root).map_err(open)?;
        let mut builder = Builder::new(root, limits, &mut keep);
        if meta.is_dir() {
            folder::read(&mut builder, root)?;
        } else if meta.is_file() {
            archive(&mut builder, File::open(root).map_err(open)?, meta.len())?;
        } else {
            let found = "neither a file nor a folder";
            return Err(SnapshotError::NotASubmission { path: root.to_owned(), found });
        }
        builder.finish()
    }

    /// The file at this path below the root.
    pub fn file(&self, path: &str) -> Option<&FileEntry> {
        let found = self.files.binary_search_by(|file| file.path.as_str().cmp(path));
        found.ok().map(|index| &self.files[index])
    }
}

/// Reads the archive by what its first bytes say it is.
fn archive(builder: &mut Builder<'_>, mut file: File, bytes: u64) -> Result<(), SnapshotError> {
    let open = |builder: &Builder<'_>, reason| SnapshotError::Open { path: builder.path(), reason };
    builder.packed_in(bytes);
    let mut magic = Vec::new();
    let read = (&mut file).take(tar::BLOCK as u64).read_to_end(&mut magic);
    read.and_then(|_| file.rewind()).map_err(|reason| open(builder, reason))?;
    let file = BufReader::with_capacity(64 * 1024, file);
    let found = match magic.as_slice() {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] | [b'P', b'K', 7, 8, ..] => {
            return zip::read(builder, file);
        }
        [0x1f, 0x8b, ..] => {
            return tar::read_packed(builder, flate2::bufread::MultiGzDecoder::new(file));
        }
        // A frame, or one of the skippable frames that may come before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let decoder = zstd::Decoder::with_buffer(file).map_err(|e| open(builder, e))?;
            return tar::read_packed(builder, decoder);
        }
        magic if tar::is_header(magic) => return tar::read(builder, file),
        [] => "an empty file",
        [b'B', b'Z', b'h', ..] => "compressed by bzip2",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "compressed by xz",
        [b'7', b'z', 0xbc, 0xaf, ..] => "a 7-Zip archive",
        [b'R', b'a', b'r', b'!', ..] => "a RAR archive",
        _ if is_named_as_archive(builder) => "named like an archive, but is none",
        _ => "a single file",
    };
    Err(SnapshotError::NotASubmission { path: builder.path(), found })
}

fn is_named_as_archive(builder: &Builder<'_>) -> bool {
    const ENDINGS: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".zip"];
    let name = builder.path().to_string_lossy().to_lowercase();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

// === impl OmittedReason ===

impl OmittedReason {
    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            OmittedReason::Binary => "binary",
            OmittedReason::Link => "link",
            OmittedReason::HardLink => "hard_link",
            OmittedReason::Special => "special",
            OmittedReason::Unreadable => "unreadable",
            OmittedReason::Housekeeping => "housekeeping",
            OmittedReason::Outside => "outside",
            OmittedReason::Encrypted => "encrypted",
            OmittedReason::Unsupported => "unsupported",
        }
    }
}
