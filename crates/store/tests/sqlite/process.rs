//! Several processes on one store, and what remains of those that die.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tribunal_core::FailureClass;
use tribunal_store::{CompleteOutcome, Failure, MAX_DEAD_WORKERS, ManualClock, Store};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_on_one_file_never_claim_the_same_task() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let first = Arc::new(open_new(&path, 400).await);
    let second = Arc::new(open(&path, &ManualClock::at(1_000)).await.unwrap());
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..8 {
        let store = if number % 2 == 0 { first.clone() } else { second.clone() };
        workers.spawn(async move {
            let mut own = Vec::new();
            loop {
                let claims = store.claim(worker(number), 7, TTL, None).await.unwrap();
                if claims.is_empty() {
                    return own;
                }
                let batch = claims.iter().map(|claim| completion(claim, 100)).collect();
                let outcomes = store.complete(batch).await.unwrap();
                assert!(outcomes.iter().all(|outcome| *outcome == CompleteOutcome::Stored));
                own.extend(claims.iter().map(|claim| claim.task.position));
            }
        });
    }
    let all = workers.join_all().await.concat();
    let distinct: HashSet<u32> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (400, 400));
    assert_eq!(second.progress(&run_id()).await.unwrap().done, 400);
}

#[tokio::test]
async fn a_restart_takes_dead_workers_leases_back_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let living = open_new(&path, 3).await;
    living.join(worker(1)).await.unwrap();
    living.claim(worker(1), 1, TTL, None).await.unwrap();
    let killed = open(&path, &ManualClock::at(1_000)).await.unwrap();
    killed.join(worker(2)).await.unwrap();
    let lost = killed.claim(worker(2), 1, TTL, None).await.unwrap();
    drop(killed);

    let restarted = open(&path, &ManualClock::at(1_000)).await.unwrap();
    restarted.join(worker(3)).await.unwrap();
    assert_eq!(restarted.progress(&run_id()).await.unwrap().leased, 1, "the living keep theirs");
    let claims = restarted.claim(worker(3), 3, TTL, None).await.unwrap();
    let positions: Vec<u32> = claims.iter().map(|claim| claim.task.position).collect();
    assert_eq!(positions, [2, 1], "the lost one comes last");
    let late = restarted.complete(vec![completion(&lost[0], 10)]).await.unwrap();
    assert_eq!(late, [CompleteOutcome::Fenced]);
    let locks = names(&folder.path().join("store.db.workers"));
    let locks: Vec<&String> = locks.iter().filter(|name| name.ends_with(".lock")).collect();
    assert_eq!(locks.len(), 2, "the dead worker's is gone: {locks:?}");
    restarted.close().await.unwrap();
    living.close().await.unwrap();
    assert_eq!(names(&folder.path().join("store.db.workers")), ["pen.turn", "queue.turn"]);
}

#[tokio::test]
async fn twenty_kills_cost_a_run_no_leaf() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    drop(open_new(&path, 300).await);
    for kill in 0..20 {
        let store = open(&path, &ManualClock::at(1_000)).await.unwrap();
        store.join(worker(kill)).await.unwrap();
        let claims = store.claim(worker(kill), 64, TTL, None).await.unwrap();
        assert_eq!(claims.len(), 64);
        // Killed before the first answer.
        drop(store);
    }
    let store = open(&path, &ManualClock::at(1_000)).await.unwrap();
    store.join(worker(100)).await.unwrap();
    let claims = store.claim(worker(100), 300, TTL, None).await.unwrap();
    assert_eq!(claims.len(), 300);
    let batch = claims.iter().map(|claim| completion(claim, 10)).collect();
    store.complete(batch).await.unwrap();
    assert_eq!(store.progress(&run_id()).await.unwrap().done, 300);
}

#[tokio::test]
async fn a_task_that_kills_every_worker_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    drop(open_new(&path, 1).await);
    for kill in 0..MAX_DEAD_WORKERS {
        let store = open(&path, &ManualClock::at(1_000)).await.unwrap();
        store.join(worker(kill as u8)).await.unwrap();
        let claims = store.claim(worker(kill as u8), 1, TTL, None).await.unwrap();
        assert_eq!(claims.len(), 1, "kill {kill}");
    }
    let store = open(&path, &ManualClock::at(1_000)).await.unwrap();
    store.join(worker(100)).await.unwrap();
    assert_eq!(store.progress(&run_id()).await.unwrap().dead, 1);
    let verdicts = store.verdicts(&run_id(), None, 1).await.unwrap();
    let (_, message) = verdicts[0].missing.clone().unwrap();
    assert!(message.contains("10 worker processes died"), "{message}");
    let back = store.retry(&run_id(), &[FailureClass::LostLease]).await.unwrap();
    assert_eq!(back, 1);
}

#[tokio::test]
async fn a_task_that_kills_every_worker_is_given_up_without_the_one_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    drop(open_new(&path, 2).await);
    // The first task kills whoever holds it, before an answer to the other is stored.
    let mut claimed = Vec::new();
    for kill in 0..MAX_DEAD_WORKERS as u8 {
        let store = open(&path, &ManualClock::at(1_000)).await.unwrap();
        store.join(worker(kill)).await.unwrap();
        let mut positions = Vec::new();
        loop {
            let claims = store.claim(worker(kill), 2, TTL, None).await.unwrap();
            positions.push(claims.iter().map(|claim| claim.task.position).collect::<Vec<_>>());
            if claims.iter().any(|claim| claim.task.position == 0) {
                break;
            }
            let held = store.claim(worker(kill), 2, TTL, None).await.unwrap();
            assert!(held.is_empty(), "it holds one that was lost too often: {held:?}");
            let stored = claims.iter().map(|claim| completion(claim, 10)).collect();
            assert_eq!(store.complete(stored).await.unwrap(), [CompleteOutcome::Stored]);
        }
        claimed.push(positions);
    }
    assert_eq!(claimed[7..], [vec![vec![0, 1]], vec![vec![0]], vec![vec![1], vec![0]]]);
    let store = open(&path, &ManualClock::at(1_000)).await.unwrap();
    store.join(worker(100)).await.unwrap();
    let progress = store.progress(&run_id()).await.unwrap();
    assert_eq!((progress.done, progress.dead), (1, 1), "{progress:?}");
}

#[tokio::test]
async fn a_claim_that_nobody_waits_for_strands_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_new(&path(&folder), 10).await;
    for _ in 0..20 {
        // Dropped at its first chance, wherever the request is by then.
        tokio::select! {
            biased;
            claimed = store.claim(worker(1), 1, TTL, None) => {
                let claim = &claimed.unwrap()[0];
                let failure = Failure {
                    run: claim.run.clone(),
                    lease: claim.lease,
                    position: claim.task.position,
                    sample: 0,
                    class: FailureClass::Transient,
                    retry_in: Some(Duration::ZERO),
                    charged: 0,
                    error: String::new(),
                    attempts: Vec::new(),
                };
                store.fail(vec![failure]).await.unwrap();
            }
            () = std::future::ready(()) => {}
        }
    }
    // Every request before this one has been dealt with, and a release after its claim.
    store.reap(0).await.unwrap();
    store.reap(0).await.unwrap();
    assert_eq!(store.progress(&run_id()).await.unwrap().leased, 0);
}

#[tokio::test]
async fn who_leaves_gives_back_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let leaving = open_new(&path, 3).await;
    leaving.join(worker(1)).await.unwrap();
    leaving.claim(worker(1), 2, TTL, None).await.unwrap();
    leaving.close().await.unwrap();
    let store = open(&path, &ManualClock::at(1_000)).await.unwrap();
    let claims = store.claim(worker(2), 3, TTL, None).await.unwrap();
    let positions: Vec<u32> = claims.iter().map(|claim| claim.task.position).collect();
    assert_eq!(positions, [0, 1, 2], "as if it had not been claimed");
}
