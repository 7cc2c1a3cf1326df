//! Packing submissions for tests, hostile ones among them.

use std::{
    collections::HashMap,
    fs,
    io::{Cursor, Write},
    path::Path,
};

use tar::{EntryType, Header};
use tribunal_core::BlobHash;
use tribunal_evidence::{Limits, Snapshot, SnapshotError};
use zip::{ZipWriter, write::FullFileOptions};

/// Limits that nothing small meets.
pub(crate) const LIMITS: Limits = Limits {
    max_entries: 100,
    max_total_bytes: 100_000,
    max_ratio: 200,
    max_depth: 8,
    max_path_bytes: 200,
    file_max_bytes: 2_000,
};

/// A zip entry's extra field: its number, and its content made from a time in seconds.
pub(crate) type ExtraField = (u16, fn(u64) -> Vec<u8>);

/// The texts of a snapshot by their hash.
pub(crate) type Texts = HashMap<BlobHash, String>;

/// An entry of an archive.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(crate) data: Vec<u8>,
    pub(crate) mtime: u64,
}

pub(crate) fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Item {
    Item {
        name: name.as_ref().to_vec(),
        kind: EntryType::Regular,
        data: data.as_ref().to_vec(),
        mtime: 1_750_000_000,
    }
}

pub(crate) fn entry(name: impl AsRef<[u8]>, kind: EntryType) -> Item {
    Item { kind, ..file(name, "") }
}

/// The snapshot and its texts.
pub(crate) fn take(root: &Path, limits: &Limits) -> Result<(Snapshot, Texts), SnapshotError> {
    let mut texts = Texts::new();
    let snapshot = Snapshot::take(root, limits, |text| {
        let hash = BlobHash::of(text.as_bytes());
        texts.insert(hash, text);
        Ok(hash)
    })?;
    Ok((snapshot, texts))
}

/// The snapshot of an archive with these bytes, under a name that says nothing.
pub(crate) fn take_bytes(
    bytes: &[u8],
    limits: &Limits,
) -> Result<(Snapshot, Texts), SnapshotError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("upload");
    fs::write(&path, bytes).expect("written");
    take(&path, limits)
}

pub(crate) fn tar(items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in items {
        bytes.extend(tar_entry(item));
    }
    bytes.extend([0; 1024]);
    bytes
}

/// A header and content as they are, whatever the name.
pub(crate) fn tar_entry(item: &Item) -> Vec<u8> {
    if item.name.len() > 100 {
        let long = Item { name: b"long".to_vec(), kind: EntryType::GNULongName, ..item.clone() };
        let long = Item { data: [item.name.as_slice(), b"\0"].concat(), ..long };
        let short = Item { name: item.name[..100].to_vec(), ..item.clone() };
        return [tar_entry(&long), tar_entry(&short)].concat();
    }
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..item.name.len()].copy_from_slice(&item.name);
    header.set_entry_type(item.kind);
    header.set_size(item.data.len() as u64);
    header.set_mtime(item.mtime);
    header.set_mode(0o644);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(&item.data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("in memory");
    encoder.include_checksum(true).expect("supported");
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

/// A zip archive; `extra` is an extra field of each entry, made from its time.
pub(crate) fn zip(items: &[Item], extra: Option<ExtraField>) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for item in items {
        let mut options: FullFileOptions<'_, '_> = FullFileOptions::default();
        if let Some((id, data)) = extra {
            options.add_extra_field(id, data(item.mtime), false).expect("valid");
        }
        let name = String::from_utf8(item.name.clone()).expect("tests name zip entries in UTF-8");
        match item.kind {
            EntryType::Directory => writer.add_directory(name, options).expect("in memory"),
            EntryType::Symlink => writer.add_symlink(name, "target", options).expect("in memory"),
            _ => {
                writer.start_file(name, options).expect("in memory");
                writer.write_all(&item.data).expect("in memory");
            }
        }
    }
    writer.finish().expect("in memory").into_inner()
}

/// The extended timestamp.
pub(crate) const TIMESTAMP: ExtraField = (0x5455, |mtime| {
    let seconds = u32::try_from(mtime).expect("a test's time");
    [&[1], seconds.to_le_bytes().as_slice()].concat()
});
