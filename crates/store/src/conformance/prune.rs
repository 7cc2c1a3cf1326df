//! Rules of removing runs.

use super::*;
use crate::{error::StoreError, store::Pruned};

/// A run with a spec that names these blobs.
async fn add_run_naming(bench: &Bench, number: u8, blobs: &[&[u8]]) -> BlobHash {
    let put = |blobs: Vec<Vec<u8>>| async { bench.store.put_blobs(blobs).await.expect("put") };
    let named = put(blobs.iter().map(|blob| blob.to_vec()).collect()).await;
    let spec = format!("run {number}: {named:?}");
    let spec = put(vec![spec.into_bytes()]).await[0];
    bench.store.create_run(NewRun { spec, ..new_run(number) }).await.expect("create");
    let tasks = (0..3).map(task).collect();
    bench.store.enqueue(&run_id(number), tasks).await.expect("enqueue");
    spec
}

/// A run goes with everything that is its own, and nothing else goes.
pub async fn a_pruned_run_is_gone_and_nothing_else(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    let file = b"a file of both".to_vec();
    let tree = format!("a tree that names {}", BlobHash::of(&file)).into_bytes();
    let (own, shown) = (b"evidence of run 1".to_vec(), b"shown for a verdict".to_vec());
    bench.store.put_blobs(vec![file.clone(), shown.clone()]).await.expect("put");
    let spec = add_run_naming(&bench, 1, &[&tree, &own]).await;
    add_run_naming(&bench, 2, &[&tree]).await;
    for claim in bench.claim(6).await {
        let mut completion = completion(&claim, graded(1.0));
        if claim.run == run_id(2) {
            let shown = Some(BlobHash::of(&shown));
            Arc::make_mut(&mut completion.verdict).shown.evidence = shown;
        }
        bench.store.complete(vec![completion]).await.expect("complete");
    }

    let pruned = bench.store.prune(&run_id(1)).await.expect("prune");
    let Pruned { tasks, verdicts, attempts, blobs, .. } = pruned;
    assert_eq!((tasks, verdicts, attempts, blobs), (3, 3, 3, 2), "its spec and its evidence");
    for gone in [spec, BlobHash::of(&own)] {
        let missing = bench.store.blob(gone).await;
        assert!(matches!(missing, Err(StoreError::Blob { what: "missing", .. })));
    }
    for kept in [&file, &tree, &shown] {
        let blob = bench.store.blob(BlobHash::of(kept)).await;
        assert_eq!(&blob.expect("kept")[..], &kept[..]);
    }
    let run = &run_id(1);
    for error in [
        bench.store.run(run).await.err(),
        bench.store.progress(run).await.err(),
        bench.store.prune(run).await.err(),
    ] {
        assert!(matches!(error, Some(StoreError::NoSuchRun { .. })), "{error:?}");
    }
    let runs = bench.store.runs().await.expect("runs");
    assert_eq!(runs.iter().map(|run| &run.run.id).collect::<Vec<_>>(), [&run_id(2)]);
    let kept = bench.store.verdicts(&run_id(2), None, 10).await.expect("verdicts");
    assert!(kept.iter().all(|stored| stored.verdict.is_some()));

    // The same inputs again are a run like any other.
    add_run_naming(&bench, 1, &[&tree, &own]).await;
    assert_eq!(bench.counts().await, [3, 0, 0, 0, 0]);
    assert_eq!(bench.claim(9).await.len(), 3);
}

/// A run of which leases are held is not removed; when they have ended it is.
pub async fn a_run_in_work_is_not_pruned(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 3).await;
    bench.claim(2).await;
    let refused = bench.store.prune(&run_id(1)).await;
    assert!(matches!(refused, Err(StoreError::InUse { leases: 2, .. })), "{refused:?}");
    assert_eq!(bench.counts().await, [1, 2, 0, 0, 0]);
    bench.clock.advance(TTL_MS);
    let pruned = bench.store.prune(&run_id(1)).await.expect("prune");
    assert_eq!((pruned.tasks, pruned.verdicts), (3, 0));
    assert!(bench.claim(1).await.is_empty());
}

/// What is put for a run that is about to be created stays, though no run names it yet.
pub async fn blobs_of_a_run_in_the_making_stay(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1).await;
    let paper = b"paper".to_vec();
    add_run_naming(&bench, 2, &[&paper]).await;
    // The same inputs again: the paper is there, and nobody says yet that it is needed.
    bench.store.put_blobs(vec![paper.clone()]).await.expect("put");
    bench.store.prune(&run_id(2)).await.expect("prune");
    assert!(bench.store.blob(BlobHash::of(&paper)).await.is_ok());
    add_run_naming(&bench, 3, &[&paper]).await;
    bench.store.prune(&run_id(1)).await.expect("prune");
    assert!(bench.store.blob(BlobHash::of(&paper)).await.is_ok());
    let pruned = bench.store.prune(&run_id(3)).await.expect("prune");
    assert_eq!(pruned.blobs, 2);
}

/// A vacuum gives room back and changes nothing else, in whatever state tasks are: what was put twice is
/// there once, what is live is there.
pub async fn a_vacuum_loses_nothing(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    let random = |seed: u8| {
        (0..2_000_u32)
            .flat_map(move |n| *BlobHash::of(&[&[seed][..], &n.to_le_bytes()].concat()).as_bytes())
    };
    let [both, own, other] = [1, 2, 3].map(|seed| random(seed).collect::<Vec<u8>>());
    add_run_naming(&bench, 1, &[&both, &own]).await;
    for claim in bench.claim(3).await {
        bench.complete(&claim, graded(1.0)).await;
    }
    let spec = add_run_naming(&bench, 2, &[&both, &other]).await;
    let claims = bench.claim(2).await;
    bench.complete(&claims[0], graded(0.5)).await;
    let read = async || {
        let run = &run_id(2);
        let verdicts = bench.store.verdicts(run, None, 10).await.expect("verdicts");
        let attempts = bench.store.attempts(run, 0, 0).await.expect("attempts");
        let progress = bench.store.progress(run).await.expect("progress");
        format!("{verdicts:?} {attempts:?} {progress:?}")
    };
    let before = read().await;
    bench.store.prune(&run_id(1)).await.expect("prune");
    for full in [false, true] {
        bench.store.vacuum(full).await.expect("vacuum");
        assert_eq!(read().await, before);
        for kept in [&both, &other] {
            let blob = bench.store.blob(BlobHash::of(kept)).await.expect("kept");
            assert_eq!(&blob[..], &kept[..]);
        }
        bench.store.blob(spec).await.expect("the spec is kept");
        let gone = bench.store.blob(BlobHash::of(&own)).await;
        assert!(matches!(gone, Err(StoreError::Blob { what: "missing", .. })));
        let again = bench.store.put_blobs(vec![both.clone()]).await.expect("put");
        assert_eq!(again, [BlobHash::of(&both)]);
    }
    // The lease of before is the lease of now, and the last task is there to be claimed.
    assert_eq!(bench.complete(&claims[1], graded(0.5)).await, CompleteOutcome::Stored);
    let last = bench.claim_one().await;
    assert_eq!(bench.complete(&last, graded(0.5)).await, CompleteOutcome::Stored);
    // Ends what was put above, so that nobody is in the middle of putting blobs.
    add_run_naming(&bench, 3, &[]).await;
    let pruned = bench.store.prune(&run_id(2)).await.expect("prune");
    assert_eq!((pruned.verdicts, pruned.blobs), (3, 3), "its spec, and each file once");
}
