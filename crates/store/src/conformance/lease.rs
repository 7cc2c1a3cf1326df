//! Rules of leases: fencing, heartbeats, reaping, the clock.

use super::*;
use crate::store::{Held, MAX_LOST_LEASES};

/// Who has lost a lease writes nothing: not a verdict, not a failure, not an extension.
pub async fn a_stale_lease_writes_nothing(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1).await;
    let stale = bench.claim_one().await;
    bench.clock.advance(TTL_MS);
    let current = bench.claim_one().await;
    assert_eq!(current.task, stale.task);
    assert_ne!(current.lease, stale.lease);

    assert_eq!(bench.complete(&stale, graded(0.0)).await, CompleteOutcome::Fenced);
    let failed = bench.fail(&stale, FailureClass::Transient, None).await;
    assert_eq!(failed, FailOutcome::Fenced);
    bench.release(&stale).await;
    let leases = vec![key(&stale), key(&current)];
    let held = bench.store.heartbeat(leases, TTL).await.expect("heartbeat");
    assert_eq!(held, [Held::Lost, Held::Held]);

    assert_eq!(bench.counts().await, [0, 1, 0, 0, 0]);
    let attempts = bench.store.attempts(&run_id(1), 0, 0).await.expect("attempts");
    assert!(attempts.is_empty(), "a fenced call writes no attempts");
    let both = vec![completion(&stale, graded(0.0)), completion(&current, graded(1.0))];
    let outcomes = bench.store.complete(both).await.expect("complete");
    assert_eq!(outcomes, [CompleteOutcome::Fenced, CompleteOutcome::Stored]);
    let stored = bench.store.verdicts(&run_id(1), None, 1).await.expect("verdicts");
    assert_eq!(stored[0].verdict, Some(verdict(0, 0, graded(1.0))));
}

/// A lease that has ended is lost, even while nobody has taken it.
pub async fn an_ended_lease_is_lost_before_anybody_takes_it(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 3).await;
    let claims = bench.claim(3).await;
    bench.clock.advance(TTL_MS);
    let held = bench.store.heartbeat(vec![key(&claims[0])], TTL).await;
    assert_eq!(held.expect("heartbeat"), [Held::Lost]);
    assert_eq!(bench.complete(&claims[0], graded(1.0)).await, CompleteOutcome::Fenced);
    let failed = bench.fail(&claims[1], FailureClass::Transient, None).await;
    assert_eq!(failed, FailOutcome::Fenced);
    bench.release(&claims[2]).await;
    assert_eq!(bench.counts().await, [0, 3, 0, 0, 0]);
    assert_eq!(bench.store.reap(10).await.expect("reap"), 3);
    assert_eq!(bench.counts().await, [3, 0, 0, 0, 0]);
}

/// A heartbeat moves the lease's end to the ttl from now; the others' leases stay.
pub async fn heartbeats_extend_leases(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 2).await;
    let claims = bench.claim(2).await;
    for _ in 0..3 {
        bench.clock.advance(TTL_MS - 1);
        let held = bench.store.heartbeat(vec![key(&claims[0])], TTL).await;
        assert_eq!(held.expect("heartbeat"), [Held::Held]);
    }
    assert_eq!(bench.store.reap(10).await.expect("reap"), 1);
    bench.clock.advance(TTL_MS - 1);
    assert_eq!(bench.complete(&claims[0], graded(1.0)).await, CompleteOutcome::Stored);
    assert_eq!(bench.complete(&claims[1], graded(1.0)).await, CompleteOutcome::Fenced);
    let unknown = vec![(run_id(200), 0, 0, claims[0].lease), key(&claims[0])];
    let held = bench.store.heartbeat(unknown, TTL).await.expect("heartbeat");
    assert_eq!(held, [Held::Lost, Held::Lost], "no such run; and done");
}

/// A lost task is claimed again, after those that were not lost.
pub async fn ended_leases_go_to_the_end_of_the_queue(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 6).await;
    bench.claim(2).await;
    bench.clock.advance(TTL_MS);
    let claims = bench.claim(5).await;
    assert_eq!(positions(&claims), [2, 3, 4, 5, 0]);
    assert!(claims.iter().all(|claim| claim.failures == 0), "a loss is no charged failure");
}

/// A task that is lost again and again is given up, with the reason.
pub async fn lost_too_often_is_a_dead_letter(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1).await;
    for lost in 0..MAX_LOST_LEASES {
        assert_eq!(bench.counts().await, [1, 0, 0, 0, 0], "lost {lost} times");
        bench.claim_one().await;
        bench.clock.advance(TTL_MS);
        assert_eq!(bench.store.reap(10).await.expect("reap"), 1);
    }
    assert_eq!(bench.counts().await, [0, 0, 0, 1, 0]);
    assert!(bench.claim(1).await.is_empty());
    let missing = bench.missing().await;
    assert_eq!(missing[0].0, UngradedReason::LostLease);
    assert!(missing[0].1.contains("3 leases ended"), "{}", missing[0].1);
    let back = bench.store.retry(&run_id(1), &[FailureClass::LostLease]).await;
    assert_eq!(back.expect("retry"), 1);
    bench.claim_one().await;
    bench.clock.advance(TTL_MS);
    bench.store.reap(10).await.expect("reap");
    assert_eq!(bench.counts().await, [1, 0, 0, 0, 0], "counted anew after a retry");
}

/// Only losses in a row count: a worker that could report lived.
pub async fn a_recorded_failure_forgives_losses(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1).await;
    for _ in 0..3 {
        for _ in 1..MAX_LOST_LEASES {
            bench.claim_one().await;
            bench.clock.advance(TTL_MS);
        }
        let claim = bench.claim_one().await;
        bench.fail(&claim, FailureClass::Transient, Some(0)).await;
    }
    assert_eq!(bench.counts().await, [1, 0, 0, 0, 0]);
}

/// Reaping takes at most as many as it is told, the oldest end first, and only ended ones.
pub async fn reap_takes_the_oldest_first(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 4).await;
    let mut claims = Vec::new();
    for _ in 0..4 {
        claims.push(bench.claim_one().await);
        bench.clock.advance(1_000);
    }
    assert_eq!(bench.store.reap(10).await.expect("reap"), 0);
    bench.clock.advance(TTL_MS - 2_000);
    assert_eq!(bench.store.reap(2).await.expect("reap"), 2);
    assert_eq!(bench.store.reap(0).await.expect("reap"), 0);
    assert_eq!(bench.counts().await, [2, 2, 0, 0, 0]);
    assert_eq!(bench.store.reap(10).await.expect("reap"), 1);
    assert_eq!(bench.complete(&claims[3], graded(1.0)).await, CompleteOutcome::Stored);
}

/// A clock that steps hands no task out twice and loses none.
pub async fn the_clock_may_step(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 2).await;
    let first = bench.claim_one().await;
    bench.clock.advance(-3_600_000);
    let second = bench.claim_one().await;
    assert_ne!(first.task, second.task, "a step back ends no lease");
    assert!(bench.claim(2).await.is_empty());
    assert_eq!(bench.complete(&first, graded(1.0)).await, CompleteOutcome::Stored);
    bench.fail(&second, FailureClass::Transient, Some(1_000)).await;
    bench.clock.advance(7_200_000);
    let third = bench.claim_one().await;
    assert_eq!(third.task, second.task, "a step forward ends a wait");
    bench.clock.advance(7_200_000);
    let fourth = bench.claim_one().await;
    assert_eq!(fourth.task, third.task, "and a lease");
    assert_eq!(bench.complete(&third, graded(0.0)).await, CompleteOutcome::Fenced);
    bench.clock.advance(-7_200_000);
    assert_eq!(bench.complete(&third, graded(0.0)).await, CompleteOutcome::Fenced);
    assert_eq!(bench.complete(&fourth, graded(1.0)).await, CompleteOutcome::Stored);
    assert_eq!(bench.counts().await, [0, 0, 2, 0, 0]);
}

/// A wait that begins in the future was set by a clock that has been set back since: it is over. Nobody
/// waits for as long as the step was.
pub async fn a_wait_does_not_outlast_a_step_back(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 2).await;
    for claim in bench.claim(2).await {
        bench.fail(&claim, FailureClass::Transient, Some(60_000)).await;
    }
    bench.clock.advance(59_000);
    assert!(bench.claim(2).await.is_empty());
    assert_eq!(bench.progress().await.next_in_ms, Some(1_000));
    bench.clock.advance(-59_000);
    assert!(bench.claim(2).await.is_empty(), "a wait of a minute is none of an hour");
    bench.clock.advance(-1);
    assert_eq!(bench.progress().await.next_in_ms, Some(0));
    assert_eq!(bench.claim(2).await.len(), 2);
}
