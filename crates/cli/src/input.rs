//! Files that a user names and that are read whole.
//!
//! Owns how much is read so: a device or a pipe may never end. What is in a file is its reader's.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::ensure;

/// The most bytes of a file: far more than any paper, rubric or sheet has.
const MAX_BYTES: u64 = 64 << 20;

/// The file's bytes.
///
/// # Errors
///
/// It is not there, is too large, or cannot be read. The caller says which file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    let is_within = bytes.len() as u64 <= MAX_BYTES;
    ensure!(is_within, "it has more than {} MiB, which is the most", MAX_BYTES >> 20);
    Ok(bytes)
}
