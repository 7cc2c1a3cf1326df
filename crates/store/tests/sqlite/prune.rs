//! Removing runs from a file that other processes have open.

use std::{fs, sync::Arc};

use sqlx::Connection;
use tribunal_store::{ManualClock, Store, StoreError};

use super::*;

/// A store whose run has this many verdicts.
async fn graded(path: &Path, tasks: u32) -> SqliteStore {
    let store = open_new(path, tasks).await;
    let claims = store.claim(worker(1), tasks as usize, TTL, None).await.unwrap();
    let completions = claims.iter().map(|claim| completion(claim, 2_000)).collect();
    store.complete(completions).await.unwrap();
    store
}

#[tokio::test]
async fn a_pruned_runs_room_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    // More rows than go in one transaction.
    let store = graded(&path, 2_500).await;
    store.put_blobs(vec![noise(100_000).into_bytes()]).await.unwrap();
    add_run(&store, 0).await;
    // A log that is in the file before, so that the file's size can be compared.
    store.close().await.unwrap();
    let store = open(&path, &ManualClock::at(1_000)).await.unwrap();
    let before = fs::metadata(&path).unwrap().len();
    let pruned = store.prune(&run_id()).await.unwrap();
    assert_eq!((pruned.tasks, pruned.verdicts, pruned.attempts), (2_500, 2_500, 2_500));
    assert_eq!(pruned.blobs, 1, "a blob that no run names goes too");
    let after = fs::metadata(&path).unwrap().len();
    assert_eq!(before - after, pruned.bytes);
    assert!(after < before / 10, "{after} of {before} bytes are left");
    let sound: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut sql(&path).await)
        .await
        .unwrap();
    assert_eq!(sound, "ok");
}

#[tokio::test]
async fn what_an_interrupted_prune_left_goes_with_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let store = graded(&path, 5).await;
    store.close().await.unwrap();
    // Killed after the run became nobody's.
    let mut conn = sql(&path).await;
    sqlx::query("UPDATE runs SET pruned = 1, state = 'cancelled', id = 'pruned-1'")
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    let store = open(&path, &ManualClock::at(1_000)).await.unwrap();
    assert!(store.runs().await.unwrap().is_empty());
    add_run(&store, 2).await;
    let pruned = store.prune(&run_id()).await.unwrap();
    assert_eq!((pruned.tasks, pruned.verdicts), (7, 5));
    assert!(store.claim(worker(1), 10, TTL, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn another_process_learns_that_a_run_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let here = open_new(&path, 3).await;
    let there = open(&path, &ManualClock::at(1_000)).await.unwrap();
    there.prune(&run_id()).await.unwrap();
    let other = NewRun { id: RunId::from_hash(BlobHash::of(b"other")), ..new_run() };
    there.create_run(other.clone()).await.unwrap();
    let gone = here.run(&run_id()).await;
    assert!(matches!(gone, Err(StoreError::NoSuchRun { .. })), "its number is nobody else's");
    add_run(&here, 2).await;
    assert_eq!(here.progress(&run_id()).await.unwrap().pending, 2);
    assert_eq!(there.progress(&other.id).await.unwrap().leaves, 0);
}

#[tokio::test]
async fn a_run_in_the_making_elsewhere_keeps_its_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let here = Arc::new(open_new(&path, 1).await);
    let there = open(&path, &ManualClock::at(1_000)).await.unwrap();
    let paper = there.put_blobs(vec![b"paper".to_vec()]).await.unwrap()[0];
    assert_eq!(here.prune(&run_id()).await.unwrap().blobs, 0);
    assert!(there.blob(paper).await.is_ok());
    there.close().await.unwrap();
    add_run(&here, 1).await;
    assert_eq!(here.prune(&run_id()).await.unwrap().blobs, 1, "that run was never created");
}
