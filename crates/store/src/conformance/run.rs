//! Rules of runs: recording, pausing, cancelling, retrying.

use super::*;
use crate::{
    budget::{Amount, Budget},
    error::StoreError,
    share::Weight,
    store::Held,
};

/// A run is recorded once and keeps its state; the newest comes first.
pub async fn runs_are_recorded_once(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1).await;
    bench.control(RunState::Paused, "no credit").await;
    bench.clock.advance(1_000);
    let again = bench.store.create_run(new_run(1)).await.expect("create");
    assert_eq!((again.state, again.reason.as_str()), (RunState::Paused, "no credit"));
    assert_eq!(again.created_ms, START_MS);
    bench.add_run(2, []).await;
    let runs = bench.store.runs().await.expect("runs");
    let ids: Vec<&RunId> = runs.iter().map(|record| &record.run.id).collect();
    assert_eq!(ids, [&run_id(2), &run_id(1)]);
    assert_eq!(runs[0].created_ms, START_MS + 1_000);
    let recorded = bench.store.run(&run_id(2)).await.expect("run").run;
    assert_eq!(format!("{recorded:?}"), format!("{:?}", new_run(2)));
}

/// Nothing of a paused run is claimed; what is in flight may end.
pub async fn a_paused_run_drains(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 4).await;
    let claims = bench.claim(3).await;
    bench.control(RunState::Paused, "wrong key").await;
    assert!(bench.claim(4).await.is_empty());
    let one_run = bench.store.claim(worker(1), 4, TTL, Some(&run_id(1))).await;
    assert!(one_run.expect("claim").is_empty());
    let held = bench.store.heartbeat(vec![key(&claims[0])], TTL).await;
    assert_eq!(held.expect("heartbeat"), [Held::Drain]);
    assert_eq!(bench.complete(&claims[0], graded(1.0)).await, CompleteOutcome::Stored);
    bench.fail(&claims[1], FailureClass::Account, Some(0)).await;
    bench.release(&claims[2]).await;
    assert_eq!(bench.counts().await, [3, 0, 1, 0, 0]);
    assert!(bench.claim(4).await.is_empty());
    bench.control(RunState::Active, "").await;
    assert_eq!(positions(&bench.claim(4).await), [1, 2, 3]);
}

/// A cancelled run's tasks end, whichever way they come back; a verdict still counts.
pub async fn a_cancelled_run_ends(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 7).await;
    let claims = bench.claim(6).await;
    bench.fail(&claims[0], FailureClass::Transient, Some(60_000)).await;
    bench.control(RunState::Cancelled, "enough").await;
    assert_eq!(bench.counts().await, [0, 5, 0, 0, 2], "waiting tasks end at once");
    let held = bench.store.heartbeat(vec![key(&claims[1])], TTL).await;
    assert_eq!(held.expect("heartbeat"), [Held::Cancel]);
    assert_eq!(bench.complete(&claims[1], graded(1.0)).await, CompleteOutcome::Stored);
    bench.fail(&claims[2], FailureClass::Transient, Some(0)).await;
    bench.fail(&claims[3], FailureClass::BadRequest, None).await;
    bench.release(&claims[4]).await;
    assert_eq!(bench.counts().await, [0, 1, 1, 0, 5]);
    bench.clock.advance(2 * TTL_MS);
    assert_eq!(bench.store.reap(10).await.expect("reap"), 1);
    assert_eq!(bench.counts().await, [0, 0, 1, 0, 6]);
    assert!(bench.missing().await.iter().all(|(why, _)| *why == UngradedReason::Cancelled));
    let ungraded = bench.progress().await.ungraded;
    assert_eq!(ungraded.into_iter().collect::<Vec<_>>(), [(UngradedReason::Cancelled, 6)]);
    let late = bench.store.enqueue(&run_id(1), vec![task(20)]).await;
    assert_eq!(late.expect("enqueue"), 1);
    assert_eq!(bench.counts().await, [0, 0, 1, 0, 7]);
    assert!(bench.claim(10).await.is_empty());
}

/// `retry` puts back what its classes name: dead letters by class, verdicts by reason.
pub async fn retry_goes_by_class(engine: &dyn Engine) {
    let ungraded = |reason| Outcome::Ungraded { reason };
    let bench = Bench::with_tasks(engine, 7).await;
    let claims = bench.claim(7).await;
    bench.complete(&claims[6], ungraded(UngradedReason::Unranked)).await;
    bench.fail(&claims[0], FailureClass::BadRequest, None).await;
    bench.fail(&claims[1], FailureClass::Transient, None).await;
    bench.complete(&claims[2], ungraded(UngradedReason::Refused)).await;
    bench.complete(&claims[3], ungraded(UngradedReason::ProviderError)).await;
    bench.complete(&claims[4], graded(0.0)).await;
    assert_eq!(bench.counts().await, [0, 1, 4, 2, 0]);

    let retry = async |classes: &[FailureClass]| {
        bench.store.retry(&run_id(1), classes).await.expect("retry")
    };
    assert_eq!(retry(&[FailureClass::TooLong]).await, 0);
    assert_eq!(retry(&[FailureClass::BadReply]).await, 1, "a ranking is a reply");
    assert_eq!(retry(&[FailureClass::Throttled]).await, 1, "the reason is of three classes");
    assert_eq!(retry(&[FailureClass::Refused, FailureClass::BadRequest]).await, 2);
    assert_eq!(bench.counts().await, [4, 1, 1, 1, 0]);
    assert_eq!(retry(&[]).await, 1);
    assert_eq!(retry(&[]).await, 0, "neither graded nor leased tasks");
    let again = bench.claim(10).await;
    assert_eq!(positions(&again), [0, 1, 2, 3, 6]);
    assert!(again.iter().all(|claim| claim.failures == 0));
    for claim in &again {
        assert_eq!(bench.complete(claim, graded(1.0)).await, CompleteOutcome::Stored);
    }
    let attempts = bench.store.attempts(&run_id(1), 2, 0).await.expect("attempts");
    assert_eq!(attempts.len(), 2, "what was paid for is remembered");
}

/// `retry` makes a cancelled run active, and its cancelled tasks pending.
pub async fn retry_revives_a_cancelled_run(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 3).await;
    let claim = bench.claim_one().await;
    bench.complete(&claim, graded(1.0)).await;
    bench.control(RunState::Cancelled, "enough").await;
    let back = bench.store.retry(&run_id(1), &[FailureClass::Refused]).await;
    assert_eq!(back.expect("retry"), 2);
    let record = bench.store.run(&run_id(1)).await.expect("run");
    assert_eq!((record.state, record.reason.as_str()), (RunState::Active, ""));
    assert_eq!(positions(&bench.claim(3).await), [1, 2]);
    bench.control(RunState::Paused, "wait").await;
    bench.store.retry(&run_id(1), &[]).await.expect("retry");
    let record = bench.store.run(&run_id(1)).await.expect("run");
    assert_eq!(record.state, RunState::Paused, "a paused run stays paused");
}

/// What is asked of a run that is not there says which.
pub async fn unknown_runs_are_named(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1).await;
    let run = run_id(200);
    let store = &bench.store;
    let errors = [
        store.run(&run).await.err(),
        store.enqueue(&run, vec![task(0)]).await.err(),
        store.claim(worker(1), 1, TTL, Some(&run)).await.err(),
        store.control(&run, RunState::Paused, "").await.err(),
        store.retry(&run, &[]).await.err(),
        store.set_weight(&run, Weight::default()).await.err(),
        store.prune(&run).await.err(),
        store.set_budget(&run, Budget::default(), Amount::default()).await.err(),
        store.verdicts(&run, None, 1).await.err(),
        store.outcomes(&run, None, 1).await.err(),
        store.progress(&run).await.err(),
        store.totals(&run).await.err(),
        store.attempts(&run, 0, 0).await.err(),
    ];
    for error in errors {
        let named =
            matches!(&error, Some(StoreError::NoSuchRun { run: name }) if name == run.as_str());
        assert!(named, "{error:?}");
    }
}
