//! Rules of the queue: enqueue, claim, complete, fail, release.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::*;
use crate::error::StoreError;

/// What is enqueued again stays as it is.
pub async fn enqueue_is_idempotent(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 3).await;
    let again = vec![task(1), task(3), task(3), LeafTask { sample: 1, ..task(1) }];
    let new = bench.store.enqueue(&run_id(1), again.clone()).await;
    assert_eq!(new.expect("enqueue"), 2, "one position and one sample are new");
    let claim = bench.claim_one().await;
    bench.complete(&claim, graded(1.0)).await;
    let new = bench.store.enqueue(&run_id(1), vec![task(0)]).await;
    assert_eq!(new.expect("enqueue"), 0);
    assert_eq!(bench.counts().await, [4, 0, 1, 0, 0], "a finished task stays finished");
    let none = bench.store.enqueue(&run_id(1), Vec::new()).await;
    assert_eq!(none.expect("enqueue"), 0);
}

/// Within a run tasks are claimed by their order, with everything they were enqueued with.
pub async fn claims_follow_the_order(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    let place = |position: u32, order| LeafTask { order, ..task(position) };
    let tasks = [place(0, 5), place(1, 2), place(2, 5), place(3, 0), place(6, 9)];
    bench.add_run(1, tasks.clone()).await;
    let claims = bench.claim(10).await;
    assert_eq!(positions(&claims), [3, 1, 0, 2, 6]);
    for claim in &claims {
        let enqueued = tasks.iter().find(|task| task.position == claim.task.position);
        assert_eq!(Some(&claim.task), enqueued);
        assert_eq!((&claim.run, claim.failures), (&run_id(1), 0));
    }
    let leases: HashSet<LeaseId> = claims.iter().map(|claim| claim.lease).collect();
    assert_eq!(leases.len(), claims.len(), "every claim has its own lease");
}

/// A claim gives at most as many tasks as there are slots, and no task twice.
pub async fn claims_never_exceed_the_slots(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 300).await;
    assert!(bench.claim(0).await.is_empty());
    let mut seen = HashSet::new();
    for slots in [1, 2, 100, 150, 100] {
        let claims = bench.claim(slots).await;
        assert!(claims.len() <= slots);
        assert!(claims.iter().all(|claim| seen.insert(claim.task.position)));
    }
    assert_eq!(seen.len(), 300);
    assert!(bench.claim(1).await.is_empty());
}

/// Claims made at the same time never overlap.
pub async fn concurrent_claims_are_disjoint(engine: &dyn Engine) {
    let bench = Arc::new(Bench::with_tasks(engine, 200).await);
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..16 {
        let bench = bench.clone();
        workers.spawn(async move {
            let mut own = Vec::new();
            loop {
                let claims = bench.store.claim(worker(number), 5, TTL, None).await;
                let claims = claims.expect("claim");
                if claims.is_empty() {
                    return own;
                }
                for claim in &claims {
                    let stored = bench.complete(claim, graded(1.0)).await;
                    assert_eq!(stored, CompleteOutcome::Stored);
                }
                own.extend(positions(&claims));
            }
        });
    }
    let mut all = workers.join_all().await.concat();
    all.sort_unstable();
    assert_eq!(all, (0..200).collect::<Vec<u32>>());
    assert_eq!(bench.counts().await, [0, 0, 200, 0, 0]);
}

/// A task that has a verdict never gets another.
pub async fn a_verdict_is_stored_once(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1).await;
    let claim = bench.claim_one().await;
    assert_eq!(bench.complete(&claim, graded(1.0)).await, CompleteOutcome::Stored);
    let other = Claim { lease: LeaseId::from_bytes([9; 16]), ..claim.clone() };
    assert_eq!(bench.complete(&other, graded(0.0)).await, CompleteOutcome::Fenced);
    let unknown = Claim { run: run_id(200), ..claim };
    assert_eq!(bench.complete(&unknown, graded(0.0)).await, CompleteOutcome::Fenced);
    let stored = bench.store.verdicts(&run_id(1), None, 10).await.expect("verdicts");
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].verdict, Some(verdict(0, 0, graded(1.0))));
    assert!(bench.claim(1).await.is_empty());
}

/// After a commit whose answer was not heard, the same call says so, and changes nothing.
pub async fn a_repeated_answer_is_a_duplicate(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 2).await;
    let claims = bench.claim(2).await;
    let both = || claims.iter().map(|claim| completion(claim, graded(1.0)));
    let first = bench.store.complete(both().take(1).collect()).await;
    assert_eq!(first.expect("complete"), [CompleteOutcome::Stored]);
    // Repeated with another verdict, and even after the lease would have ended.
    bench.clock.advance(2 * TTL_MS);
    let again = bench.complete(&claims[0], graded(0.0)).await;
    assert_eq!(again, CompleteOutcome::Duplicate);
    bench.clock.advance(-2 * TTL_MS);
    // Twice within one batch.
    let batch = both().chain(both()).collect();
    let outcomes = bench.store.complete(batch).await.expect("complete");
    let expected = [
        CompleteOutcome::Duplicate,
        CompleteOutcome::Stored,
        CompleteOutcome::Duplicate,
        CompleteOutcome::Duplicate,
    ];
    assert_eq!(outcomes, expected);
    let stored = bench.store.verdicts(&run_id(1), None, 1).await.expect("verdicts");
    assert_eq!(stored[0].verdict, Some(verdict(0, 0, graded(1.0))));
    let attempts = bench.store.attempts(&run_id(1), 0, 0).await.expect("attempts");
    assert_eq!(attempts.len(), 1, "a duplicate's attempts are those stored before");
}

/// A score that is none is refused with its whole batch, never stored as something else.
pub async fn a_score_off_the_scale_is_refused(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 2).await;
    let claims = bench.claim(2).await;
    for score in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
        let batch =
            vec![completion(&claims[0], graded(1.0)), completion(&claims[1], graded(score))];
        let refused = bench.store.complete(batch).await;
        assert!(matches!(refused, Err(StoreError::Engine { .. })), "{score}");
    }
    assert_eq!(bench.counts().await, [0, 2, 0, 0, 0]);
    assert_eq!(bench.complete(&claims[1], graded(0.3)).await, CompleteOutcome::Stored);
}

/// A task that failed is not claimed before its wait is over.
pub async fn retry_in_is_honoured(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1).await;
    let claim = bench.claim_one().await;
    let failed = bench.fail(&claim, FailureClass::Transient, Some(5_000)).await;
    assert_eq!(failed, FailOutcome::Recorded);
    assert_eq!(bench.progress().await.next_in_ms, Some(5_000));
    bench.clock.advance(4_999);
    assert!(bench.claim(1).await.is_empty());
    assert_eq!(bench.progress().await.next_in_ms, Some(1));
    bench.clock.advance(1);
    assert_eq!(bench.progress().await.next_in_ms, Some(0));
    let again = bench.claim_one().await;
    assert_eq!(bench.progress().await.next_in_ms, None);
    assert_ne!(again.lease, claim.lease);
    assert_eq!(bench.fail(&again, FailureClass::Throttled, Some(0)).await, FailOutcome::Recorded);
    bench.claim_one().await;
}

/// A claim tells the failures charged before it.
pub async fn failures_are_counted_as_charged(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1).await;
    let mut expected = 0;
    for charged in [1, 0, 3] {
        let claim = bench.claim_one().await;
        assert_eq!(claim.failures, expected);
        let failure = Failure { charged, ..failure(&claim, FailureClass::Transient, Some(0)) };
        let outcome = bench.store.fail(vec![failure]).await;
        assert_eq!(outcome.expect("fail"), [FailOutcome::Recorded]);
        expected += charged;
    }
    assert_eq!(bench.claim_one().await.failures, 4);
    let attempts = bench.store.attempts(&run_id(1), 0, 0).await.expect("attempts");
    assert_eq!(attempts, vec![attempt(Some(FailureClass::Transient)); 3]);
}

/// A claim tells how long the task has been in work, until it begins anew.
pub async fn a_task_ages_from_its_first_claim(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1).await;
    let claim = bench.claim_one().await;
    assert_eq!(claim.age, Duration::ZERO);
    bench.clock.advance(300);
    bench.fail(&claim, FailureClass::Transient, Some(0)).await;
    bench.clock.advance(200);
    let claim = bench.claim_one().await;
    assert_eq!(claim.age, Duration::from_millis(500));
    let (run, position, sample, lease) = key(&claim);
    let released = bench.store.release(vec![(run, position, sample, lease, Vec::new())]).await;
    released.expect("release");
    bench.clock.advance(100);
    let claim = bench.claim_one().await;
    assert_eq!(claim.age, Duration::ZERO, "as if it had not been claimed");
    bench.clock.advance(100);
    bench.fail(&claim, FailureClass::Transient, None).await;
    bench.store.retry(&run_id(1), &[]).await.expect("retry");
    assert_eq!(bench.claim_one().await.age, Duration::ZERO);
}

/// A failure that is not retried keeps its class and message, and is not claimed again.
pub async fn a_failure_without_retry_is_a_dead_letter(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 2).await;
    let claim = bench.claim_one().await;
    bench.fail(&claim, FailureClass::BadRequest, None).await;
    assert_eq!(bench.counts().await, [1, 0, 0, 1, 0]);
    let ungraded = bench.progress().await.ungraded;
    assert_eq!(ungraded.into_iter().collect::<Vec<_>>(), [(UngradedReason::BadRequest, 1)]);
    let missing = bench.missing().await;
    assert_eq!(missing[0], (UngradedReason::BadRequest, "it was bad_request".to_owned()));
    assert_eq!(missing[1], (UngradedReason::Pending, String::new()));
    bench.clock.advance(10 * TTL_MS);
    assert_eq!(positions(&bench.claim(2).await), [1]);
    assert_eq!(bench.complete(&claim, graded(1.0)).await, CompleteOutcome::Fenced);
}

/// A released task is as if it had not been claimed, except for the calls that were made.
pub async fn release_charges_nothing(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 2).await;
    let claim = bench.claim_one().await;
    let (run, position, sample, lease) = key(&claim);
    let throttled = vec![attempt(Some(FailureClass::Throttled))];
    let leases = vec![
        (run.clone(), position, sample, lease, throttled.clone()),
        (run.clone(), position, sample, lease, throttled.clone()),
        (run, 1, 0, lease, throttled.clone()),
    ];
    bench.store.release(leases).await.expect("a lost lease is no error");
    assert_eq!(bench.counts().await, [2, 0, 0, 0, 0]);
    let attempts = bench.store.attempts(&run_id(1), 0, 0).await.expect("attempts");
    assert_eq!(attempts, throttled);
    let again = bench.claim_one().await;
    assert_eq!((again.task.position, again.failures), (0, 0));
    assert_eq!(bench.complete(&claim, graded(1.0)).await, CompleteOutcome::Fenced);
}
