//! Submissions in archives: alike from every format, and harmless however they are packed.

use std::{
    fs::{self, File},
    time::{Duration, UNIX_EPOCH},
};

use tar::EntryType;
use tempfile::tempdir;
use tribunal_core::Category;
use tribunal_evidence::{FileEntry, Limits, OmittedReason, Profile, Snapshot, SnapshotError, View};

use crate::pack::{Item, LIMITS, TIMESTAMP, entry, file, take, take_bytes};

#[path = "support/pack.rs"]
mod pack;

fn sample(top: &str) -> Vec<Item> {
    let at = |path: &str, data: &str| file(format!("{top}{path}"), data);
    vec![
        at("README.md", "# Read me\n"),
        at("src/a b.py", "x = 1\n"),
        at("ü\nmlaut/ß.py", "y = 'ü'\n"),
        Item { mtime: 1_750_000_600, ..at("results/table.csv", "a,b\n1,2\n") },
        at("reproduce.log", "start\nstep 1\nstep 2\nstep 3\nend\n"),
        at("reproduce.log.creation_time", "1750000500.25\n"),
        at("model.bin", "\0\0\0\0"),
    ]
}

fn paths(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.files.iter().map(|file| file.path.as_str()).collect()
}

fn found<'s>(snapshot: &'s Snapshot, path: &str) -> &'s FileEntry {
    snapshot.file(path).unwrap_or_else(|| panic!("no {path:?} in {:?}", paths(snapshot)))
}

#[test]
fn every_format_gives_the_same_snapshot() {
    for top in ["", "submission/", "./submission/"] {
        let items = sample(top);
        let folder = tempdir().expect("a folder");
        for item in &items {
            let name = String::from_utf8(item.name.clone()).expect("UTF-8");
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, &item.data).expect("written");
            let time = UNIX_EPOCH + Duration::from_secs(item.mtime);
            File::options().write(true).open(&path).expect("open").set_modified(time).expect("set");
        }
        let (expected, texts) = take(folder.path(), &LIMITS).expect("a snapshot");
        assert_eq!(expected.files.len(), 7);
        assert_eq!(expected.reproduction_ms, Some(1_750_000_500_250));
        assert_eq!(found(&expected, "src/a b.py").mtime_ms, 1_750_000_000_000);
        assert_eq!(found(&expected, "src/a b.py").encoding.as_deref(), Some("UTF-8"));
        let log = found(&expected, "reproduce.log").text.expect("a text");
        assert_eq!(texts[&log], "start\nstep 1 (repeated 3 times)\nstep 3\nend\n");
        let tar = pack::tar(&items);
        let packed =
            [tar.clone(), pack::gzip(&tar), pack::zstd(&tar), pack::zip(&items, Some(TIMESTAMP))];
        for bytes in packed {
            let (snapshot, _) = take_bytes(&bytes, &LIMITS).expect("a snapshot");
            assert_eq!(snapshot, expected);
        }
    }
}

#[test]
fn a_top_folder_is_taken_off_only_where_all_lies_below_it() {
    let take = |items: &[Item]| take_bytes(&pack::tar(items), &LIMITS).expect("a snapshot").0;
    let with_junk = [
        file("submission/a.py", "x"),
        file("._submission", "apple"),
        file("__MACOSX/submission/._a.py", "apple"),
        file("../b.py", "x"),
    ];
    assert_eq!(paths(&take(&with_junk)), ["../b.py", "._submission", "a.py"]);
    let beside = take(&[file("submission/a.py", "x"), file("b.py", "x")]);
    assert_eq!(paths(&beside), ["b.py", "submission/a.py"]);
    let other = take(&[file("mine/reproduce.sh", "x"), file("mine/a.py", "x")]);
    assert_eq!(paths(&other), ["mine/a.py", "mine/reproduce.sh"]);
    assert!(other.warnings[0].contains("`mine`"), "{:?}", other.warnings);
}

#[test]
fn nothing_leaves_the_root_of_a_tar() {
    let items = [
        file("ok.py", "x = 1\n"),
        file("../up.py", "SECRET"),
        file("a/../../up.py", "SECRET"),
        file("a/../inside.py", "SECRET"),
        file("/etc/passwd.py", "SECRET"),
        file("C:\\x.py", "SECRET"),
        entry("link.py", EntryType::Symlink),
        entry("hard.py", EntryType::Link),
        entry("dev.py", EntryType::Char),
        entry("block.py", EntryType::Block),
        entry("pipe.py", EntryType::Fifo),
        entry("volume.py", EntryType::new(b'V')),
        entry("out", EntryType::Symlink),
        file("out/x.py", "SECRET"),
        file("out/../y.py", "SECRET"),
        file(".git/config.py", "SECRET"),
        file("a/.svn/x.py", "SECRET"),
        file("._ok.py", "SECRET"),
        file(b"bytes\xff\xfe.py", "y = 2\n"),
        file("new\nline.py", "z = 3\n"),
        file("twice.py", "SECRET"),
        file("./twice.py", "z = 4\n"),
        file("wasfile", "SECRET"),
        entry("wasfile/", EntryType::Directory),
        file("wasfile/in.py", "z = 5\n"),
    ];
    let (snapshot, texts) = take_bytes(&pack::tar(&items), &LIMITS).expect("a snapshot");
    let omitted = |path: &str| {
        let file = found(&snapshot, path);
        assert_eq!((file.text, &file.encoding), (None, &None), "{path}");
        file.omitted.expect("omitted")
    };
    let outside = [
        "../up.py",
        "a/../../up.py",
        "a/../inside.py",
        "/etc/passwd.py",
        "C:\\x.py",
        "out/../y.py",
    ];
    for path in outside {
        assert_eq!(omitted(path), OmittedReason::Outside, "{path}");
    }
    assert_eq!(omitted("link.py"), OmittedReason::Link);
    assert_eq!(omitted("out/x.py"), OmittedReason::Link);
    assert_eq!(omitted("hard.py"), OmittedReason::HardLink);
    for path in ["dev.py", "block.py", "pipe.py"] {
        assert_eq!(omitted(path), OmittedReason::Special, "{path}");
    }
    assert_eq!(omitted("volume.py"), OmittedReason::Unsupported);
    assert_eq!(omitted("._ok.py"), OmittedReason::Housekeeping);
    assert!(!paths(&snapshot).iter().any(|path| path.contains(".git") || path.contains(".svn")));
    let text = |path: &str| texts[&found(&snapshot, path).text.expect("a text")].as_str();
    assert_eq!(text("bytes\\xFF\\xFE.py"), "y = 2\n");
    assert_eq!(text("new\nline.py"), "z = 3\n");
    assert_eq!(text("twice.py"), "z = 4\n");
    assert_eq!(text("wasfile/in.py"), "z = 5\n");
    assert!(snapshot.file("wasfile").is_none());

    let profile = Profile::builtin(Profile::PAPERBENCH).expect("built in");
    let view = View::new(&snapshot, Category::CodeDevelopment, None, false, &profile);
    let shown: Vec<&str> = view.files.iter().map(|file| file.path.as_str()).collect();
    assert!(shown.iter().all(|path| !path.contains("..") && !path.starts_with('/')), "{shown:?}");
    assert!(!shown.contains(&"._ok.py") && shown.contains(&"ok.py"), "{shown:?}");
    assert!(view.tree().contains("new\\nline.py"), "{}", view.tree());
}

#[test]
fn nothing_leaves_the_root_of_a_zip() {
    let items = [
        file("ok.py", "x = 1\n"),
        file("../up.py", "SECRET"),
        file("/abs.py", "SECRET"),
        entry("folder/", EntryType::Directory),
        entry("link.py", EntryType::Symlink),
        file(".git/x.py", "SECRET"),
        file("secret.py", "SECRET"),
    ];
    let mut bytes = pack::zip(&items, Some(TIMESTAMP));
    // The last entry is said to be encrypted, in its own header and in the directory.
    for (magic, flags) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
        let at = bytes.windows(4).rposition(|window| window == magic).expect("a header");
        bytes[at + flags] |= 1;
    }
    let (snapshot, texts) = take_bytes(&bytes, &LIMITS).expect("a snapshot");
    let omitted = |path: &str| found(&snapshot, path).omitted;
    assert_eq!(omitted("../up.py"), Some(OmittedReason::Outside));
    assert_eq!(omitted("/abs.py"), Some(OmittedReason::Outside));
    assert_eq!(omitted("link.py"), Some(OmittedReason::Link));
    assert_eq!(omitted("secret.py"), Some(OmittedReason::Encrypted));
    assert_eq!(omitted("ok.py"), None);
    assert!(texts.values().all(|text| !text.contains("SECRET")));
    assert_eq!(snapshot.files.len(), 5, "{:?}", paths(&snapshot));

    let windows = pack::zip(&[file("src\\a.py", "x"), file("..\\b.py", "x")], Some(TIMESTAMP));
    let (snapshot, _) = take_bytes(&windows, &LIMITS).expect("a snapshot");
    assert_eq!(paths(&snapshot), ["../b.py", "src/a.py"]);
    assert_eq!(found(&snapshot, "../b.py").omitted, Some(OmittedReason::Outside));
    assert_eq!(snapshot.warnings.len(), 1);
}

#[test]
fn each_limit_has_its_error() {
    let items = [file("a.py", "a = 1\n"), file("x/y/long_name.py", "b = 2\n")];
    let bomb = [file("zeros", vec![b' '; 17 << 20])];
    let tar = pack::tar(&items);
    let all = [tar.clone(), pack::gzip(&tar), pack::zstd(&tar), pack::zip(&items, None)];
    let key = |bytes: &[u8], limits: Limits| match take_bytes(bytes, &limits) {
        Err(SnapshotError::TooLarge { key, .. }) => key,
        other => panic!("no limit hit: {other:?}"),
    };
    for bytes in &all {
        assert_eq!(key(bytes, Limits { max_entries: 1, ..LIMITS }), "max_entries");
        assert_eq!(key(bytes, Limits { max_total_bytes: 7, ..LIMITS }), "max_total_bytes");
        assert_eq!(key(bytes, Limits { max_depth: 1, ..LIMITS }), "max_depth");
        assert_eq!(key(bytes, Limits { max_path_bytes: 10, ..LIMITS }), "max_path_bytes");
        assert!(take_bytes(bytes, &LIMITS).is_ok());
    }
    let large = Limits { max_total_bytes: u64::MAX, ..LIMITS };
    let tar = pack::tar(&bomb);
    for bytes in [pack::gzip(&tar), pack::zstd(&tar), pack::zip(&bomb, None)] {
        assert_eq!(key(&bytes, large), "max_ratio");
        let lenient = Limits { max_ratio: 100_000, ..large };
        let (snapshot, _) = take_bytes(&bytes, &lenient).expect("allowed");
        assert_eq!(snapshot.files[0].bytes, 17 << 20);
        assert_eq!(snapshot.files[0].cut_bytes, (17 << 20) - LIMITS.file_max_bytes);
    }
    // Bytes that no entry has, before the end: headers within headers.
    let headers = Item { data: vec![b'a'; 2 << 20], ..entry("long", EntryType::GNULongName) };
    let headers = [pack::tar_entry(&headers), pack::tar(&items)].concat();
    assert!(matches!(take_bytes(&headers, &large), Err(SnapshotError::Damaged { .. })));
    let trailing = [pack::tar(&items), vec![0; 17 << 20]].concat();
    let (snapshot, _) = take_bytes(&pack::zstd(&trailing), &large).expect("what counts is read");
    assert!(snapshot.warnings[0].contains("end mark"), "{:?}", snapshot.warnings);
}

#[test]
fn a_sparse_entry_costs_what_it_says() {
    let mut bytes = pack::tar_entry(&entry("a.py", EntryType::GNUSparse));
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&bytes);
    let gnu = header.as_gnu_mut().expect("GNU");
    gnu.sparse[0].offset = *b"77777777777\0";
    gnu.sparse[0].numbytes = *b"00000000000\0";
    gnu.realsize = *b"77777777777\0";
    header.set_cksum();
    bytes = [header.as_bytes().as_slice(), &[0; 1024]].concat();
    let result = take_bytes(&bytes, &LIMITS);
    assert!(
        matches!(&result, Err(SnapshotError::TooLarge { .. } | SnapshotError::Damaged { .. })),
        "{result:?}"
    );
}

#[test]
fn a_damaged_archive_is_an_error_that_says_where() {
    let items: Vec<Item> =
        (0..20).map(|n| file(format!("f{n}.py"), format!("x = {n}\n").repeat(40 + n))).collect();
    let tar = pack::tar(&items);
    for bytes in [tar.clone(), pack::gzip(&tar), pack::zstd(&tar), pack::zip(&items, None)] {
        for cut in [1, 3, 5, 7].map(|eighths| bytes.len() * eighths / 8) {
            let error = match take_bytes(&bytes[..cut], &LIMITS) {
                Err(error) => error.to_string(),
                Ok((snapshot, _)) => {
                    // Cut between two entries: nothing is broken, but the end mark is missing.
                    assert!(snapshot.warnings[0].contains("no end mark"), "{cut}: {snapshot:?}");
                    continue;
                }
            };
            assert!(error.contains("upload is damaged"), "{error}");
        }
    }
    let mut zip = pack::zip(&items, None);
    zip[37] ^= 0xff;
    let error = take_bytes(&zip, &LIMITS).expect_err("its checksum is wrong").to_string();
    assert!(error.contains("`f0.py`"), "{error}");
    let mut gz = pack::gzip(&tar);
    let end = gz.len() - 8;
    gz[end] ^= 0xff;
    assert!(matches!(take_bytes(&gz, &LIMITS), Err(SnapshotError::Damaged { .. })));
}

#[test]
fn what_is_no_archive_is_said() {
    let found = |bytes: &[u8]| match take_bytes(bytes, &LIMITS) {
        Err(SnapshotError::NotASubmission { found, .. }) => found,
        other => panic!("taken for an archive: {other:?}"),
    };
    assert_eq!(found(b"print('hello')\n"), "a single file");
    assert_eq!(found(b""), "an empty file");
    assert_eq!(found(b"BZh91AY"), "compressed by bzip2");
    assert_eq!(found(&pack::gzip(b"print('hello')")), "compressed, but not an archive of files");
    assert!(matches!(take_bytes(&[0; 10_240], &LIMITS), Err(SnapshotError::Empty { .. })));
    assert!(matches!(take_bytes(&pack::zip(&[], None), &LIMITS), Err(SnapshotError::Empty { .. })));
}

#[test]
fn times_of_zip_archives() {
    let items = [file("a.py", "x")];
    let ms = |bytes: &[u8]| {
        let (snapshot, _) = take_bytes(bytes, &LIMITS).expect("a snapshot");
        (snapshot.files[0].mtime_ms, snapshot.warnings.len())
    };
    assert_eq!(ms(&pack::zip(&items, Some(TIMESTAMP))), (1_750_000_000_000, 0));
    let ntfs = |mtime: u64| {
        let ticks = ((mtime + 11_644_473_600) * 10_000_000 + 1_230_000).to_le_bytes();
        [&[0, 0, 0, 0, 1, 0, 24, 0], ticks.as_slice(), &ticks, &ticks].concat()
    };
    assert_eq!(ms(&pack::zip(&items, Some((0x000a, ntfs)))), (1_750_000_000_123, 0));
    // The writer's own default, 1980-01-01.
    assert_eq!(ms(&pack::zip(&items, None)), (315_532_800_000, 1));
}

#[test]
fn the_reproduction_begins_when_it_says() {
    let take = |items: &[Item]| take_bytes(&pack::tar(items), &LIMITS).expect("a snapshot").0;
    let log = || file("reproduce.log", "x");
    let named = |text: &str| file("reproduce.log.creation_time", text);
    assert_eq!(take(&[log(), named(" 1700000000 \n")]).reproduction_ms, Some(1_700_000_000_000));
    assert_eq!(take(&[named("1700000000.5")]).reproduction_ms, Some(1_700_000_000_500));
    assert_eq!(take(&[log()]).reproduction_ms, Some(1_750_000_000_000));
    assert_eq!(take(&[file("a.py", "x")]).reproduction_ms, None);
    let wrong = take(&[log(), named("yesterday")]);
    assert_eq!((wrong.reproduction_ms, wrong.warnings.len()), (Some(1_750_000_000_000), 1));
    let twice = take(&[named("1"), log(), named("2")]);
    assert_eq!(twice.reproduction_ms, Some(2_000));
    let link = take(&[named("1"), entry("reproduce.log.creation_time", EntryType::Symlink)]);
    assert_eq!(link.reproduction_ms, None);
    let pax =
        Item { data: b"28 mtime=1234567890.6789012\n".to_vec(), ..entry("x", EntryType::XHeader) };
    assert_eq!(take(&[pax, log()]).reproduction_ms, Some(1_234_567_890_678));
}

#[test]
fn a_log_is_read_to_its_end_and_other_files_in_part() {
    let mut log: String = (0..1_000).map(|n| format!("loss {}\n", n * 7)).collect();
    log.push_str("done\n");
    let items = [file("reproduce.log", &log), file("a.txt", "word ".repeat(1_000))];
    let (snapshot, texts) = take_bytes(&pack::tar(&items), &LIMITS).expect("a snapshot");
    let file = found(&snapshot, "reproduce.log");
    assert_eq!((file.bytes, file.cut_bytes), (log.len() as u64, 0));
    assert_eq!(texts[&file.text.expect("a text")], log);
    let file = found(&snapshot, "a.txt");
    assert_eq!((file.bytes, file.cut_bytes), (5_000, 3_000));
}
