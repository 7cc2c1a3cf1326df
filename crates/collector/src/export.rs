//! The files that a run leaves behind.
//!
//! Owns the second pass over a run: the verdicts, read in pages and written as they come, and
//! the promise that the files appear whole or not at all. What a file holds is its own module's;
//! a new one is one module and one line in `FORMATS`.

mod file;
mod grader_output;
mod junit;
mod leaf;
mod leaf_row;
mod leaves_csv;
#[cfg(feature = "parquet")]
mod leaves_parquet;
mod manifest;
mod scored_tree;
mod tree_file;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_store::{Store, StoreError};

use self::{
    file::{AtomicFile, WholeFile},
    leaf::{LeafRecord, VerdictReader},
};
use crate::collect::Collected;

/// Files that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file or folder cannot be written.
    #[error(
        "cannot write {}: {reason}. {advice}, or name another --out; no file was changed, and the \
         verdicts are in the store",
        path.display()
    )]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// The files are written, and not all of them could be given their names.
    #[error(
        "cannot rename {} to its place: {reason}. Files of this run and of an earlier one may stand \
         side by side there: collect the run again into an empty --out",
        path.display()
    )]
    Rename {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The files of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The folder.
    pub dir: PathBuf,
    /// Every file, the manifest last.
    pub files: Vec<ExportedFile>,
}

/// An exported file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExportedFile {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The blake3 hash of its bytes, 64 lower-case hex digits.
    pub blake3: String,
}

/// A file in the making. Nodes of the rubric come in depth-first order.
trait Format {
    /// Adds the node at `index`; `leaf` is there exactly where it is a leaf.
    fn node(&mut self, index: usize, leaf: Option<&LeafRecord<'_>>) -> io::Result<()>;

    /// Ends the file.
    fn finish(self: Box<Self>) -> io::Result<WholeFile>;
}

/// What every format may know.
#[derive(Clone, Copy)]
struct Context<'c> {
    collected: &'c Collected,
    /// When the files are made.
    now: Timestamp,
    /// For each node, its share of the root.
    shares: &'c [f64],
}

type Open = for<'c> fn(Context<'c>, AtomicFile) -> io::Result<Box<dyn Format + Send + 'c>>;

/// The files with a line or object a node, in the order in which they get their names.
const FORMATS: &[(&str, Open)] = &[
    ("scored_tree.json", scored_tree::open),
    ("grader_output.json", grader_output::open),
    ("leaves.csv", leaves_csv::open),
    #[cfg(feature = "parquet")]
    ("leaves.parquet", leaves_parquet::open),
    ("junit.xml", junit::open),
];

/// Nodes that are written at once: enough to be worth a thread for each file, and no more than a page
/// of verdicts, the next of which is read meanwhile.
const NODES_AT_ONCE: usize = 256;

/// The manifest's name. It gets its name last: it lists the other files and their hashes.
const MANIFEST: &str = "run.json";

/// Writes a run's files to the folder `out`, which is made if it is not there. Files of the same
/// names are replaced, others stay.
///
/// The verdicts are read in pages; what was collected decides every score, so that a leaf that is
/// answered meanwhile changes no file. Blocks the thread while it writes.
///
/// # Errors
///
/// When the store fails, or when a file cannot be written: the folder is then as it was.
pub async fn export(
    collected: &Collected,
    store: &dyn Store,
    out: &Path,
) -> Result<Exported, ExportError> {
    file::prepare(out)?;
    let shares = collected.rubric.weight_shares();
    let context = Context { collected, now: Timestamp::now(), shares: &shares };
    let mut formats = Vec::new();
    for &(name, open) in FORMATS {
        let path = out.join(name);
        let written = AtomicFile::create(&path).and_then(|file| open(context, file));
        formats.push((written.map_err(failed(&path))?, path));
    }

    let mut verdicts = VerdictReader::new(store, collected);
    let mut written = Vec::new();
    for (index, node) in collected.rubric.nodes().iter().enumerate() {
        let leaf = if node.is_leaf() { Some(verdicts.leaf(index).await?) } else { None };
        written.push((index, leaf));
        if written.len() == NODES_AT_ONCE {
            write(&mut formats, &written)?;
            written.clear();
        }
    }
    write(&mut formats, &written)?;

    let mut whole = Vec::new();
    for (format, path) in formats {
        whole.push(format.finish().map_err(failed(&path))?);
    }
    let listed: Vec<ExportedFile> = whole.iter().map(WholeFile::describe).collect();
    let path = out.join(MANIFEST);
    let manifest = AtomicFile::create(&path)
        .and_then(|file| manifest::write(context, out, &listed, file))
        .map_err(failed(&path))?;
    whole.push(manifest);

    let files = whole.iter().map(WholeFile::describe).collect();
    for file in whole {
        file.commit()?;
    }
    file::sync_folder(out);
    Ok(Exported { dir: out.to_owned(), files })
}

/// Adds the nodes to every file, each on a thread of its own: writing is most of a large export.
fn write(
    formats: &mut [(Box<dyn Format + Send + '_>, PathBuf)],
    nodes: &[(usize, Option<LeafRecord<'_>>)],
) -> Result<(), ExportError> {
    let add = |(format, path): &mut (Box<dyn Format + Send + '_>, PathBuf)| {
        let mut nodes = nodes.iter();
        let done = nodes.try_for_each(|(index, leaf)| format.node(*index, leaf.as_ref()));
        done.map_err(failed(path))
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            formats.iter_mut().map(|format| scope.spawn(|| add(format))).collect();
        // A panic goes on as it would without threads.
        let ended = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.collect()
    })
}

/// Makes the folder and sees whether files can be written there, before money is spent on what
/// could not be written.
///
/// # Errors
///
/// When the folder cannot be made, or takes no file.
pub fn check_writable(out: &Path) -> Result<(), ExportError> {
    file::prepare(out)?;
    let path = out.join(MANIFEST);
    // Dropped unfinished: the temporary file goes away.
    AtomicFile::create(&path).map(drop).map_err(failed(&path))
}

/// Writes one more file beside a run's, such as its report: whole, or not at all. Its folder is
/// made if it is not there.
///
/// # Errors
///
/// When the file cannot be written: one that has its name is then as it was.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    file::prepare(folder)?;
    let mut file = AtomicFile::create(path).map_err(failed(path))?;
    file.write_all(bytes).map_err(failed(path))?;
    file.finish().map_err(failed(path))?.commit()?;
    file::sync_folder(folder);
    Ok(())
}

/// The error about this path, with what to do about its reason.
fn failed(path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.to_owned();
    move |reason| {
        let advice = match reason.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "Free space there",
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                "Move the file that stands where the folder should be"
            }
            _ => "Make the folder writable",
        };
        ExportError::Write { path, reason, advice }
    }
}
