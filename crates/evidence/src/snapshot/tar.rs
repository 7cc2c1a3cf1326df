//! A submission in a tar archive.
//!
//! Owns reading tar streams, plain and packed. The `tar` crate holds an entry's extension headers
//! in memory whole, however long they say they are; a meter below it holds them to a limit.

use std::{
    cell::Cell,
    io::{self, Cursor, Read},
    rc::Rc,
};

use tar::{Archive, EntryType, Header};

use super::{
    OmittedReason, SnapshotError,
    builder::{Builder, Entry, Kind, quoted, seconds_to_ms},
    name,
};

/// Bytes of a header, and of the unit that contents are padded to.
pub(super) const BLOCK: usize = 512;

/// Bytes of headers that may stand before one entry.
const HEADERS_MAX: u64 = 1 << 20;

/// Bytes read behind the archive's end, so that a packed stream's checksum is seen.
const TRAILER_MAX: u64 = 16 << 20;

/// What the stream may still give, and what it gave.
#[derive(Debug, Default)]
struct Meter {
    /// Bytes read so far.
    read: Cell<u64>,
    /// Position up to which reading is allowed.
    allowed: Cell<u64>,
    /// Position that the unpacked archive must not pass.
    ceiling: u64,
    /// The limit that was hit.
    breach: Cell<Option<Breach>>,
    /// Whether the stream has ended.
    ended: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breach {
    Headers,
    Ratio,
}

/// A stream with a meter.
struct Metered<R> {
    inner: R,
    meter: Rc<Meter>,
}

/// Whether the bytes are a tar header, or the zeros of an archive without entries.
pub(super) fn is_header(block: &[u8]) -> bool {
    let Ok(bytes) = <&[u8; BLOCK]>::try_from(block) else { return false };
    if bytes.iter().all(|byte| *byte == 0) {
        return true;
    }
    let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum();
    Header::from_byte_slice(bytes).cksum().is_ok_and(|named| named == sum + 8 * u32::from(b' '))
}

/// Reads the archive in a packed stream.
pub(super) fn read_packed(
    builder: &mut Builder<'_>,
    mut stream: impl Read,
) -> Result<(), SnapshotError> {
    let mut start = Vec::new();
    let read = (&mut stream).take(BLOCK as u64).read_to_end(&mut start);
    if let Err(error) = read {
        return Err(builder.damaged(format!("it cannot be unpacked: {error}")));
    }
    if !is_header(&start) {
        let found = "compressed, but not an archive of files";
        return Err(SnapshotError::NotASubmission { path: builder.path(), found });
    }
    self::read(builder, Cursor::new(start).chain(stream))
}

/// Reads the archive.
pub(super) fn read(builder: &mut Builder<'_>, stream: impl Read) -> Result<(), SnapshotError> {
    let meter = Rc::new(Meter {
        allowed: Cell::new(HEADERS_MAX),
        // Headers and padding come on top of the files.
        ceiling: builder.ceiling().unwrap_or(u64::MAX).saturating_add(TRAILER_MAX),
        ..Meter::default()
    });
    let mut archive = Archive::new(Metered { inner: stream, meter: meter.clone() });
    let mut before = "its first entry".to_owned();
    let mut end = 0;
    let entries = archive.entries().map_err(|error| meter.error(builder, &before, &error))?;
    for entry in entries {
        let mut entry = entry.map_err(|error| meter.error(builder, &before, &error))?;
        let raw = entry.header().entry_size().unwrap_or(0);
        let sparse = entry.header().entry_type() == EntryType::GNUSparse;
        let stored = if sparse { raw } else { raw.max(entry.size()) };
        end = entry.raw_file_position().saturating_add(stored.next_multiple_of(BLOCK as u64));
        // A sparse entry's map lies between its header and its content.
        meter.allowed.set(end.saturating_add(HEADERS_MAX));
        let described = match describe(&mut entry) {
            Ok(Some(described)) => described,
            Ok(None) => continue,
            Err(error) => return Err(meter.error(builder, &before, &error)),
        };
        before = format!("the entry after {}", quoted(&name::escaped(&described.name)));
        let Described { name, kind, mtime_ms } = described;
        let bytes = entry.size();
        let result = builder.entry(Entry { name: &name, kind, bytes, mtime_ms }, &mut entry);
        if let (Err(_), Some(_)) = (&result, meter.breach.get()) {
            return Err(meter.error(builder, &before, &io::Error::other("limit")));
        }
        result?;
    }
    if meter.ended.get() && meter.read.get() <= end {
        builder.warn(
            "the archive has no end mark: entries may be missing if it was cut off".to_owned(),
        );
        return Ok(());
    }
    meter.allowed.set(meter.read.get().saturating_add(TRAILER_MAX));
    match io::copy(&mut archive.into_inner(), &mut io::sink()) {
        Err(_) if meter.breach.get() == Some(Breach::Headers) => {
            builder.warn("more than 16 MiB follow the archive's end mark; not read".to_owned());
            Ok(())
        }
        Err(error) => Err(meter.error(builder, "its end", &error)),
        Ok(_) => Ok(()),
    }
}

/// What the headers say of an entry.
struct Described {
    name: Vec<u8>,
    kind: Kind,
    mtime_ms: i64,
}

/// Reads the entry's headers; `None` where it describes others.
fn describe<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Option<Described>> {
    let mut name = entry.path_bytes().into_owned();
    let seconds = entry.header().mtime().unwrap_or(0);
    let mut mtime_ms = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
    let mut kind = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => Kind::Folder,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Folder,
        EntryType::Symlink => Kind::Omitted(OmittedReason::Link),
        EntryType::Link => Kind::Omitted(OmittedReason::HardLink),
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            Kind::Omitted(OmittedReason::Special)
        }
        EntryType::XGlobalHeader | EntryType::XHeader => return Ok(None),
        _ => Kind::Omitted(OmittedReason::Unsupported),
    };
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            match extension.key_bytes() {
                b"mtime" => {
                    let value = extension.value().unwrap_or_default();
                    mtime_ms = seconds_to_ms(value).unwrap_or(mtime_ms);
                }
                // The content of sparse entries of this form begins with a map of their holes.
                b"GNU.sparse.name" => {
                    name = extension.value_bytes().to_vec();
                    kind = Kind::Omitted(OmittedReason::Unsupported);
                }
                _ => {}
            }
        }
    }
    Ok(Some(Described { name, kind, mtime_ms }))
}

// === impl Meter ===

impl Meter {
    /// The error that a failed read means.
    fn error(&self, builder: &Builder<'_>, place: &str, error: &io::Error) -> SnapshotError {
        match self.breach.get() {
            Some(Breach::Ratio) => builder.too_large("max_ratio"),
            Some(Breach::Headers) => {
                builder.damaged(format!("{place} has more than 1 MiB of headers"))
            }
            None if self.ended.get() => builder.damaged(format!("it breaks off within {place}")),
            None => builder.damaged(format!("{place} cannot be read: {error}")),
        }
    }
}

// === impl Metered ===

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let meter = &self.meter;
        let read = meter.read.get();
        let most = meter.allowed.get().saturating_sub(read);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(into.len());
        if most == 0 && !into.is_empty() {
            meter.breach.set(Some(Breach::Headers));
            return Err(io::Error::other("too many bytes of headers"));
        }
        let count = self.inner.read(&mut into[..most])?;
        meter.ended.set(count == 0 && !into.is_empty());
        meter.read.set(read + count as u64);
        if meter.read.get() > meter.ceiling {
            meter.breach.set(Some(Breach::Ratio));
            return Err(io::Error::other("too many bytes for its size"));
        }
        Ok(count)
    }
}
