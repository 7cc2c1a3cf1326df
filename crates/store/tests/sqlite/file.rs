//! The store's file: what is opened, what is refused, what a full disk does.

use std::{fs, path::Path, sync::Arc};

use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use tribunal_store::{
    CompleteOutcome, Completion, ManualClock, SqliteOptions, SqliteStore, Store, StoreError,
};

use super::*;

#[tokio::test]
async fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    open_new(&path, 1).await.close().await.unwrap();
    let mut conn = sql(&path).await;
    sqlx::query("PRAGMA user_version = 1000").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let error = open(&path, &ManualClock::default()).await.err().unwrap();
    let expected = matches!(error, StoreError::NewerVersion { found: 1000, known: 2.., .. });
    assert!(expected, "{error}");
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    fs::write(&text, "not a database ".repeat(100)).unwrap();
    let short = folder.path().join("short.txt");
    fs::write(&short, "short").unwrap();
    let other = folder.path().join("other.db");
    let mut conn = SqliteConnectOptions::new()
        .filename(&other)
        .create_if_missing(true)
        .connect()
        .await
        .unwrap();
    sqlx::query("CREATE TABLE t (a)").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let before = names(folder.path());
    for path in [&text, &short, &other, &folder.path().to_owned()] {
        let bytes = fs::read(path).ok();
        let error = open(path, &ManualClock::default()).await.err().unwrap();
        assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
        assert_eq!(fs::read(path).ok(), bytes);
    }
    assert_eq!(names(folder.path()), before);
    // A file that is a folder's name in the path.
    let below = text.join("store.db");
    let error = open(&below, &ManualClock::default()).await.err().unwrap();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
}

#[tokio::test]
async fn a_store_whose_file_is_another_one_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let store = open_new(&path, 1).await;
    store.ready().await.unwrap();
    let aside = folder.path().join("aside.db");
    fs::rename(&path, &aside).unwrap();
    let error = store.ready().await.unwrap_err();
    assert!(matches!(error, StoreError::Gone { what: "removed", .. }), "{error}");
    fs::write(&path, "another file").unwrap();
    let error = store.ready().await.unwrap_err();
    assert!(matches!(error, StoreError::Gone { what: "replaced", .. }), "{error}");
    fs::rename(&aside, &path).unwrap();
    store.ready().await.unwrap();
}

#[tokio::test]
async fn a_file_that_lost_its_end_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    open_new(&path, 200).await.close().await.unwrap();
    let length = fs::metadata(&path).unwrap().len();
    fs::File::options().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
    let error = open(&path, &ManualClock::default()).await.err().unwrap();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("backup"), "{error}");
}

#[tokio::test]
async fn what_a_killed_process_left_is_swept_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let beside = |end: &str| folder.path().join(format!("store.db{end}"));
    let left = [beside(".new-0123"), beside(".new-0123-journal")];
    let others = [beside(".new-4567"), beside(".backup"), folder.path().join("notes.txt")];
    for file in left.iter().chain(&others) {
        fs::write(file, "x").unwrap();
    }
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3_600);
    for file in left.iter().chain(&others[1..]) {
        fs::File::options().write(true).open(file).unwrap().set_modified(old).unwrap();
    }
    open_new(&path, 1).await.close().await.unwrap();
    assert!(left.iter().all(|file| !file.exists()));
    assert!(others.iter().all(|file| file.exists()));
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    fs::write(&path, "").unwrap();
    let (one, two) = (ManualClock::at(0), ManualClock::at(0));
    let (first, second) = tokio::join!(open(&path, &one), open(&path, &two));
    let (first, second) = (first.unwrap(), second.unwrap());
    add_run(&first, 2).await;
    assert_eq!(second.progress(&run_id()).await.unwrap().pending, 2);
}

#[tokio::test]
async fn processes_that_open_a_new_store_at_once_share_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let opens = (0..8).map(|_| {
        let path = path.clone();
        tokio::spawn(async move { open(&path, &ManualClock::at(0)).await.unwrap() })
    });
    let opens: Vec<_> = opens.collect();
    let mut stores = Vec::new();
    for opening in opens {
        stores.push(opening.await.unwrap());
    }
    add_run(&stores[0], 1).await;
    for store in &stores {
        assert_eq!(store.progress(&run_id()).await.unwrap().pending, 1);
    }
    assert!(!names(folder.path()).iter().any(|name| name.contains(".new-")));
}

#[cfg(unix)]
#[tokio::test]
async fn what_cannot_be_written_is_said_to_be_read_only() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    open_new(&path, 1).await.close().await.unwrap();
    let allow = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(&path, 0o400);
    let may_write_anyway = fs::OpenOptions::new().append(true).open(&path).is_ok();
    if may_write_anyway {
        eprintln!("skipped: this user may write read-only files (root)");
        allow(&path, 0o600);
    } else {
        let error = open(&path, &ManualClock::default()).await.err().unwrap();
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
        allow(&path, 0o600);
        allow(folder.path(), 0o500);
        for path in [path.clone(), folder.path().join("new/store.db")] {
            let error = open(&path, &ManualClock::default()).await.err().unwrap();
            assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
        }
        allow(folder.path(), 0o700);
    }
    // Root or not: the kernel's own files can be written by nobody.
    let kernel = Path::new("/proc/version");
    if kernel.exists() {
        let below = Path::new("/proc/tribunal/store.db");
        let error = open(below, &ManualClock::default()).await.err().unwrap();
        let clear = matches!(error, StoreError::Open { .. } | StoreError::ReadOnly { .. });
        assert!(clear, "{error}");
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    open_new(&path, 200).await.close().await.unwrap();
    assert!(folder.path().join("store.db.ballast").exists());
    let pages = fs::metadata(&path).unwrap().len() / 4096;
    let options = SqliteOptions {
        max_pages: Some(u32::try_from(pages).unwrap() + 40),
        ..SqliteOptions::default()
    };
    let clock = Arc::new(ManualClock::at(1_000));
    let store = SqliteStore::open_with(&path, clock.clone(), &options).await.unwrap();
    let claims = store.claim(worker(1), 200, TTL, None).await.unwrap();
    let mut acknowledged = Vec::new();
    let error = loop {
        let claim = &claims[acknowledged.len()];
        match store.complete(vec![completion(claim, 8_000)]).await {
            Ok(outcomes) => {
                assert_eq!(outcomes, [CompleteOutcome::Stored]);
                acknowledged.push(claim.task.position);
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(!acknowledged.is_empty());
    assert!(!folder.path().join("store.db.ballast").exists(), "the ballast was given up");
    // Still full: the same answer, and reading goes on.
    let again = store.complete(vec![completion(&claims[acknowledged.len()], 8_000)]).await;
    assert!(matches!(again, Err(StoreError::Full { .. })));
    let done = store.progress(&run_id()).await.unwrap().done;
    assert_eq!(done, acknowledged.len() as u64);
    drop(store);

    let store = SqliteStore::open(&path, clock).await.unwrap();
    assert!(folder.path().join("store.db.ballast").exists(), "and made again");
    let stored = store.verdicts(&run_id(), None, 1_000).await.unwrap();
    let stored = stored.iter().filter(|stored| stored.verdict.is_some());
    let stored: Vec<u32> = stored.map(|stored| stored.position).collect();
    assert_eq!(stored, acknowledged);
    let rest: Vec<Completion> =
        claims[acknowledged.len()..].iter().map(|claim| completion(claim, 8_000)).collect();
    let outcomes = store.complete(rest).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == CompleteOutcome::Stored));
    assert_eq!(store.progress(&run_id()).await.unwrap().done, 200);
}

#[tokio::test]
async fn a_damaged_blob_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let store = open_new(&path, 0).await;
    let blobs = vec![noise(5_000).into_bytes(), b"other".to_vec()];
    let hashes = store.put_blobs(blobs).await.unwrap();
    let mut conn = sql(&path).await;
    for damage in [
        // Other content in its place, sound in itself; then no content at all.
        "UPDATE blobs SET content = (SELECT content FROM blobs WHERE size = 5), size = 5 \
         WHERE size = 5000",
        "UPDATE blobs SET content = x'00'",
    ] {
        sqlx::query(damage).execute(&mut conn).await.unwrap();
        let error = store.blob(hashes[0]).await.unwrap_err();
        assert!(matches!(error, StoreError::Blob { what: "damaged", .. }), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_verdict_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let store = open_new(&path, 1).await;
    let claims = store.claim(worker(1), 1, TTL, None).await.unwrap();
    store.complete(vec![completion(&claims[0], 100)]).await.unwrap();
    let mut conn = sql(&path).await;
    sqlx::query("UPDATE verdicts SET record = x'28b52ffd'").execute(&mut conn).await.unwrap();
    let error = store.verdicts(&run_id(), None, 1).await.unwrap_err();
    assert!(error.to_string().contains("position 0"), "{error}");
    let outcomes = store.outcomes(&run_id(), None, 1).await.unwrap();
    assert_eq!(outcomes[0].outcome.score(), Some(1.0), "outcomes need no record");
}

/// A process that may write small files only, and does not die of trying.
#[cfg(unix)]
#[tokio::test]
async fn a_file_size_limit_is_a_full_disk() {
    const CHILD: &str = "TRIBUNAL_TEST_LIMITED_STORE";
    if let Some(path) = std::env::var_os(CHILD) {
        return fill_until_refused(Path::new(&path)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let limited = "ulimit -f 1000 && trap '' XFSZ && exec \"$0\" \"$@\"";
    let child = std::process::Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "file::a_file_size_limit_is_a_full_disk", "--nocapture"])
        .env(CHILD, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}");
    let acknowledged: u64 =
        fs::read_to_string(path.with_extension("acknowledged")).unwrap().parse().unwrap();
    assert!(acknowledged > 0);
    let store = open(&path, &ManualClock::at(1_000)).await.unwrap();
    assert_eq!(store.progress(&run_id()).await.unwrap().done, acknowledged);
}

async fn fill_until_refused(path: &Path) {
    let store = open_new(path, 1_000).await;
    let claims = store.claim(worker(1), 1_000, TTL, None).await.unwrap();
    let mut acknowledged = 0;
    for claim in &claims {
        match store.complete(vec![completion(claim, 8_000)]).await {
            Ok(_) => acknowledged += 1,
            Err(error) => {
                assert!(matches!(error, StoreError::Full { .. }), "{error}");
                fs::write(path.with_extension("acknowledged"), acknowledged.to_string()).unwrap();
                return;
            }
        }
    }
    panic!("the limit does not hold");
}
