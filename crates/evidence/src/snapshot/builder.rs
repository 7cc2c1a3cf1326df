//! From a stream of entries to a snapshot.
//!
//! Owns the limits, the naming and the reading of contents, alike for every source. Of entries of
//! one name the last counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::{Path, PathBuf},
};

use tribunal_core::BlobHash;

use super::{
    FileEntry, Limits, OmittedReason, REPRODUCE_LOG, REPRODUCE_SH, REPRODUCTION_TIME, Snapshot,
    SnapshotError, TOP_FOLDER, name,
    name::{Place, place},
};
use crate::{
    log::Reducer,
    text::{Decoded, StreamDecoder, decode},
};

/// Bytes below which no archive is called a bomb, whatever its ratio.
const RATIO_FLOOR: u64 = 16 << 20;

/// Bytes of a log by which its encoding is told, and that are decoded at once.
const LOG_BLOCK: usize = 64 * 1024;

/// What the caller does with a text.
type Keep<'b> = &'b mut dyn FnMut(String) -> Result<BlobHash, String>;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// Something that is recorded and never read.
    Omitted(OmittedReason),
}

/// An entry as its source describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'e> {
    /// The name below the source's root.
    pub(super) name: &'e [u8],
    pub(super) kind: Kind,
    /// The size that the source gives.
    pub(super) bytes: u64,
    pub(super) mtime_ms: i64,
}

/// Collects the entries of one submission.
pub(super) struct Builder<'b> {
    root: &'b Path,
    limits: &'b Limits,
    keep: Keep<'b>,
    /// Size of the archive; `None` for a folder.
    packed: Option<u64>,
    entries: u64,
    total: u64,
    files: BTreeMap<String, FileEntry>,
    /// Contents of the files named [`REPRODUCTION_TIME`], by path.
    times: BTreeMap<String, String>,
    warnings: Vec<String>,
}

/// A content, as far as it was read.
struct Content {
    decoded: Decoded,
    read: u64,
    cut: u64,
}

// === impl Builder ===

impl<'b> Builder<'b> {
    pub(super) fn new(root: &'b Path, limits: &'b Limits, keep: Keep<'b>) -> Self {
        Builder {
            root,
            limits,
            keep,
            packed: None,
            entries: 0,
            total: 0,
            files: BTreeMap::new(),
            times: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// Says that the source is an archive of so many bytes.
    pub(super) fn packed_in(&mut self, bytes: u64) {
        self.packed = Some(bytes);
    }

    pub(super) fn path(&self) -> PathBuf {
        self.root.to_owned()
    }

    pub(super) fn limits(&self) -> &Limits {
        self.limits
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Bytes that the archive may be when unpacked; `None` for a folder.
    pub(super) fn ceiling(&self) -> Option<u64> {
        let packed = self.packed?;
        Some(packed.saturating_mul(self.limits.max_ratio).max(RATIO_FLOOR))
    }

    /// An error that says what is wrong with the archive.
    pub(super) fn damaged(&self, what: impl Into<String>) -> SnapshotError {
        SnapshotError::Damaged { path: self.path(), what: what.into() }
    }

    pub(super) fn too_large(&self, key: &'static str) -> SnapshotError {
        let limits = self.limits;
        let (limit, noun) = match key {
            "max_entries" => (limits.max_entries, "files and folders"),
            "max_total_bytes" => (limits.max_total_bytes, "bytes in all files together"),
            "max_ratio" => (limits.max_ratio, "bytes unpacked for each byte packed"),
            "max_depth" => (limits.max_depth as u64, "levels of folders"),
            _ => (limits.max_path_bytes as u64, "bytes in a path"),
        };
        SnapshotError::TooLarge { path: self.path(), limit, noun, key }
    }

    /// Counts a number of entries that is known before they are read.
    pub(super) fn expect_entries(&self, entries: u64) -> Result<(), SnapshotError> {
        match entries > self.limits.max_entries {
            true => Err(self.too_large("max_entries")),
            false => Ok(()),
        }
    }

    /// Takes the next entry; `content` is read only where it is a file that counts.
    pub(super) fn entry(
        &mut self,
        entry: Entry<'_>,
        content: &mut dyn Read,
    ) -> Result<(), SnapshotError> {
        self.entries += 1;
        self.expect_entries(self.entries)?;
        let folder = entry.kind == Kind::Folder;
        if !folder || self.packed.is_some() {
            self.count(entry.bytes)?;
        }
        let (path, reason) = match place(entry.name, folder) {
            Place::Root if folder => return Ok(()),
            Place::LeftOut => return Ok(()),
            Place::Root => (name::escaped(entry.name), Some(OmittedReason::Outside)),
            Place::Outside(path) => (path, Some(OmittedReason::Outside)),
            Place::Inside(path) => (path, None),
        };
        let inside = name::below_top(&path).unwrap_or(&path);
        if entry.name.len() - (path.len() - inside.len()).min(entry.name.len())
            > self.limits.max_path_bytes
        {
            return Err(self.too_large("max_path_bytes"));
        }
        let depth = inside.matches('/').count() + usize::from(folder);
        if depth > self.limits.max_depth {
            return Err(self.too_large("max_depth"));
        }
        self.times.remove(&path);
        if folder {
            self.files.remove(&path);
            return Ok(());
        }
        let omitted = match entry.kind {
            _ if reason.is_some() => reason,
            Kind::Omitted(reason) => Some(reason),
            _ if name::is_housekeeping(&path) => Some(OmittedReason::Housekeeping),
            _ => None,
        };
        let mut file = FileEntry {
            path: path.clone(),
            bytes: entry.bytes,
            mtime_ms: entry.mtime_ms,
            text: None,
            encoding: None,
            cut_bytes: 0,
            omitted,
        };
        if omitted.is_none() {
            self.read(&mut file, content)?;
        }
        self.files.insert(path, file);
        Ok(())
    }

    /// Reads the content and hands it to the caller.
    fn read(&mut self, file: &mut FileEntry, content: &mut dyn Read) -> Result<(), SnapshotError> {
        let inside = name::below_top(&file.path).unwrap_or(&file.path);
        let max = self.limits.file_max_bytes;
        let result = match inside == REPRODUCE_LOG {
            true => log(content, self.limits.max_total_bytes),
            false => text(content, max, file.bytes),
        };
        let content = match result {
            Ok(content) => content,
            // A file that cannot be read is no error: the folder is what it is.
            Err(_) if self.packed.is_none() => {
                file.omitted = Some(OmittedReason::Unreadable);
                return Ok(());
            }
            Err(error) => {
                return Err(self.damaged(format!("{} cannot be read: {error}", quoted(&file.path))));
            }
        };
        self.count(content.read.saturating_sub(file.bytes))?;
        file.bytes = file.bytes.max(content.read);
        file.cut_bytes = content.cut;
        match content.decoded {
            Decoded::Binary => file.omitted = Some(OmittedReason::Binary),
            Decoded::Text(text, encoding) => {
                if inside == REPRODUCTION_TIME {
                    self.times.insert(file.path.clone(), text.clone());
                }
                file.encoding = Some(encoding.to_owned());
                file.text = Some((self.keep)(text).map_err(SnapshotError::Keep)?);
            }
        }
        Ok(())
    }

    /// Counts bytes of files.
    fn count(&mut self, bytes: u64) -> Result<(), SnapshotError> {
        self.total = self.total.saturating_add(bytes);
        if self.ceiling().is_some_and(|ceiling| self.total > ceiling) {
            return Err(self.too_large("max_ratio"));
        }
        if self.total > self.limits.max_total_bytes {
            return Err(self.too_large("max_total_bytes"));
        }
        Ok(())
    }

    /// The snapshot of all entries.
    pub(super) fn finish(mut self) -> Result<Snapshot, SnapshotError> {
        if self.files.is_empty() {
            return Err(SnapshotError::Empty { path: self.path() });
        }
        self.omit_behind_links();
        self.take_off_top_folder();
        let reproduction_ms = self.reproduction_ms();
        let mut files: Vec<FileEntry> = self.files.into_values().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let schema = Snapshot::SCHEMA.to_owned();
        Ok(Snapshot { schema, files, reproduction_ms, warnings: self.warnings })
    }

    /// A file that an archive puts behind a link lies wherever the link leads.
    fn omit_behind_links(&mut self) {
        let is_link = |file: &&FileEntry| {
            matches!(file.omitted, Some(OmittedReason::Link | OmittedReason::HardLink))
        };
        let links: BTreeSet<String> =
            self.files.values().filter(is_link).map(|file| file.path.clone()).collect();
        if links.is_empty() {
            return;
        }
        for file in self.files.values_mut() {
            let behind = |(end, _): (usize, &str)| links.contains(&file.path[..end]);
            let outside = file.omitted == Some(OmittedReason::Outside);
            if !outside && file.path.match_indices('/').any(behind) {
                file.text = None;
                file.encoding = None;
                file.omitted = Some(OmittedReason::Link);
                self.times.remove(&file.path);
            }
        }
    }

    /// Takes the folder off that every file lies below.
    fn take_off_top_folder(&mut self) {
        let counts = |file: &&FileEntry| {
            !matches!(file.omitted, Some(OmittedReason::Outside | OmittedReason::Housekeeping))
        };
        let mut tops = self.files.values().filter(counts).map(|file| file.path.split_once('/'));
        let Some(Some((top, _))) = tops.next() else { return };
        if !tops.all(|other| other.is_some_and(|(other, _)| other == top)) {
            return;
        }
        if top != TOP_FOLDER {
            let script = format!("{top}/{REPRODUCE_SH}");
            if self.files.contains_key(&script) {
                self.warnings.push(format!(
                    "every file lies below {}, so its {REPRODUCE_SH} is not the submission's; only \
                     a top folder named {TOP_FOLDER}/ is taken off",
                    quoted(top)
                ));
            }
            return;
        }
        for (path, mut file) in std::mem::take(&mut self.files) {
            if let Some(below) =
                name::below_top(&path).filter(|_| file.omitted != Some(OmittedReason::Outside))
            {
                file.path = below.to_owned();
                if let Some(time) = self.times.remove(&path) {
                    self.times.insert(file.path.clone(), time);
                }
            }
            self.files.insert(file.path.clone(), file);
        }
    }

    /// When the reproduction began: the time that [`REPRODUCTION_TIME`] names, else the log's own.
    fn reproduction_ms(&mut self) -> Option<i64> {
        if let Some(text) = self.times.get(REPRODUCTION_TIME) {
            if let Some(ms) = seconds_to_ms(text) {
                return Some(ms);
            }
            self.warnings.push(format!(
                "{REPRODUCTION_TIME} holds no Unix time in seconds; the modification time of \
                 {REPRODUCE_LOG} is taken instead"
            ));
        }
        let log = self.files.get(REPRODUCE_LOG)?;
        let read =
            matches!(log.omitted, None | Some(OmittedReason::Binary | OmittedReason::Unreadable));
        read.then_some(log.mtime_ms)
    }
}

/// Reads the first `max` bytes of a file of `bytes` bytes.
fn text(content: &mut dyn Read, max: u64, bytes: u64) -> io::Result<Content> {
    let mut start = Vec::new();
    content.take(max).read_to_end(&mut start)?;
    let read = start.len() as u64;
    let cut = bytes.saturating_sub(read);
    Ok(Content { decoded: decode(&start, cut > 0), read, cut })
}

/// Reads a log to its end, but not beyond `max` bytes, and reduces it.
fn log(content: &mut dyn Read, max: u64) -> io::Result<Content> {
    let mut content = content.take(max.saturating_add(1));
    let mut block = Vec::with_capacity(LOG_BLOCK);
    let mut fill = |block: &mut Vec<u8>| {
        block.clear();
        (&mut content).take(LOG_BLOCK as u64).read_to_end(block)
    };
    let mut read = fill(&mut block)?;
    let Some(mut decoder) = StreamDecoder::detect(&block, read == LOG_BLOCK) else {
        return Ok(Content { decoded: Decoded::Binary, read: read as u64, cut: 0 });
    };
    let mut reducer = Reducer::default();
    let mut total = 0;
    while read > 0 {
        total += read as u64;
        reducer.push(decoder.decode(&block));
        read = fill(&mut block)?;
    }
    reducer.push(decoder.finish());
    let decoded = Decoded::Text(reducer.finish(), decoder.name());
    Ok(Content { decoded, read: total, cut: 0 })
}

/// Milliseconds of a Unix time in seconds, whole or with a fraction.
pub(super) fn seconds_to_ms(text: &str) -> Option<i64> {
    let seconds: f64 = text.trim().parse().ok()?;
    (seconds.is_finite() && seconds.abs() < 1e12).then_some((seconds * 1000.0) as i64)
}

/// A name in an error or warning.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", crate::view::printable(name))
}
