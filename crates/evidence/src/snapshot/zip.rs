//! A submission in a zip archive.
//!
//! Owns reading zip archives by their central directory. Times are the extended timestamp's or
//! NTFS's where an entry has one; the times of DOS have no zone and are taken as UTC, with a warning.

use std::io::{self, Read, Seek};

use zip::{
    CompressionMethod, DateTime, ZipArchive, extra_fields::ExtraField, read::ZipFile,
    result::ZipError,
};

use super::{
    OmittedReason, SnapshotError,
    builder::{Builder, Entry, Kind, quoted},
    name,
};

/// Kinds of files in the upper bits of a Unix mode.
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFLNK: u32 = 0o120_000;

/// Seconds from 1601, where NTFS's clock begins, to 1970.
const NTFS_TO_UNIX: i64 = 11_644_473_600;

/// Reads the archive.
pub(super) fn read<R: Read + Seek>(
    builder: &mut Builder<'_>,
    stream: R,
) -> Result<(), SnapshotError> {
    let mut archive = match ZipArchive::new(stream) {
        Ok(archive) => archive,
        Err(error) => {
            return Err(builder.damaged(format!("its directory cannot be read: {error}")));
        }
    };
    builder.expect_entries(archive.len() as u64)?;
    let backslashes = separated_by_backslashes(&archive);
    if backslashes {
        builder.warn("the archive separates folders by `\\`, which is read as `/`".to_owned());
    }
    let mut dos_times: u64 = 0;
    for index in 0..archive.len() {
        let name = archive.by_index_data(index).map(|entry| entry.name_raw().to_vec());
        let mut name = name.unwrap_or_default();
        if backslashes {
            name.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
        }
        // Raw: nothing is unpacked, so that encrypted entries can be looked at as well.
        let described = archive.by_index_raw(index).map(|entry| describe(&name, &entry));
        let (kind, bytes, time) = described.map_err(|error| unusable(builder, &name, &error))?;
        if time.is_err() && kind == Kind::File {
            dos_times += 1;
        }
        let mtime_ms = time.unwrap_or_else(|dos| dos);
        let entry = Entry { name: &name, kind, bytes, mtime_ms };
        if kind != Kind::File {
            builder.entry(entry, &mut io::empty())?;
            continue;
        }
        match archive.by_index(index) {
            Ok(mut content) => builder.entry(entry, &mut content)?,
            Err(error) => return Err(unusable(builder, &name, &error)),
        }
    }
    if dos_times > 0 {
        builder.warn(format!(
            "{dos_times} files have times without a zone, in steps of 2 s, which are taken as UTC: \
             which files the reproduction wrote may be told wrongly. Pack with `zip` or `tar` \
             instead"
        ));
    }
    Ok(())
}

/// What the entry is, its size, and its time: exact, or else that of DOS.
fn describe<R: Read>(name: &[u8], entry: &ZipFile<'_, R>) -> (Kind, u64, Result<i64, i64>) {
    let mode = entry.unix_mode().unwrap_or(0) & S_IFMT;
    let kind = match mode {
        _ if name.ends_with(b"/") || mode == S_IFDIR => Kind::Folder,
        S_IFLNK => Kind::Omitted(OmittedReason::Link),
        0 | S_IFREG if entry.encrypted() => Kind::Omitted(OmittedReason::Encrypted),
        0 | S_IFREG => match entry.compression() {
            CompressionMethod::Stored | CompressionMethod::Deflated => Kind::File,
            _ => Kind::Omitted(OmittedReason::Unsupported),
        },
        _ => Kind::Omitted(OmittedReason::Special),
    };
    let time = entry.extra_data_fields().find_map(exact_ms);
    (kind, entry.size(), time.ok_or_else(|| entry.last_modified().map_or(0, dos_ms)))
}

fn unusable(builder: &Builder<'_>, name: &[u8], error: &ZipError) -> SnapshotError {
    let name = quoted(&name::escaped(name));
    builder.damaged(format!("{name} cannot be read: {error}"))
}

/// Whether the archive was packed with Windows' separators: some name has them, and none has `/`.
fn separated_by_backslashes<R: Read + Seek>(archive: &ZipArchive<R>) -> bool {
    let has = |byte: u8| archive.file_names_raw().any(|name| name.contains(&byte));
    has(b'\\') && !has(b'/')
}

/// The time of an extra field that is exact, in milliseconds since the Unix epoch.
fn exact_ms(field: &ExtraField) -> Option<i64> {
    match field {
        ExtraField::ExtendedTimestamp(times) => times.mod_time().map(|s| i64::from(s) * 1000),
        ExtraField::Ntfs(times) => {
            let ms = i64::try_from(times.mtime() / 10_000).ok()?;
            ms.checked_sub(NTFS_TO_UNIX * 1000)
        }
        _ => None,
    }
}

/// The time of DOS read as UTC, in milliseconds since the Unix epoch.
fn dos_ms(time: DateTime) -> i64 {
    // Days from a civil date, with years that begin in March so that leap days come last.
    let (month, day) = (i64::from(time.month()), i64::from(time.day()));
    let year = i64::from(time.year()) - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    let (hour, minute) = (i64::from(time.hour()), i64::from(time.minute()));
    (((days * 24 + hour) * 60 + minute) * 60 + i64::from(time.second())) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dos_times_are_read_as_utc() {
        let ms = |y, mo, d, h, mi, s| {
            dos_ms(DateTime::from_date_and_time(y, mo, d, h, mi, s).expect("a time"))
        };
        assert_eq!(ms(1980, 1, 1, 0, 0, 0), 315_532_800_000);
        assert_eq!(ms(2000, 2, 29, 12, 0, 0), 951_825_600_000);
        assert_eq!(ms(2025, 6, 15, 15, 6, 40), 1_750_000_000_000);
        assert_eq!(ms(2024, 12, 31, 23, 59, 58), 1_735_689_598_000);
    }
}
