//! Rules of fairness between runs.

use super::*;

/// A run of 100 leaves that comes after one of 10,000 is done when it has had its share.
pub async fn a_small_run_is_not_behind_a_large_one(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 10_000).await;
    for _ in 0..5 {
        bench.claim(64).await;
    }
    bench.add_run(2, (0..100).map(task)).await;
    let mut small = 0;
    let mut all = 0;
    while small < 100 {
        let claims = bench.claim(16).await;
        all += claims.len();
        small += claims.iter().filter(|claim| claim.run == run_id(2)).count();
        assert!(all <= 250, "{small} of the small run in {all} claims");
    }
}

/// A run that was idle starts level: it is neither behind nor owed what it did not use. Shares
/// are of tokens, not of tasks.
pub async fn a_late_run_neither_starves_nor_hogs(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1_000).await;
    let large = (0..500).map(|position| LeafTask { estimated_tokens: 300, ..task(position) });
    bench.claim(300).await;
    bench.add_run(2, large).await;
    let late = async |slots| {
        let claims = bench.claim(slots).await;
        claims.iter().filter(|claim| claim.run == run_id(2)).count()
    };
    assert_eq!(late(40).await, 10, "300 tokens a task against 100");
    let pause = async |state| {
        let done = bench.store.control(&run_id(2), state, "").await;
        done.expect("control");
    };
    pause(RunState::Paused).await;
    assert_eq!(late(200).await, 0);
    pause(RunState::Active).await;
    let share = late(40).await;
    assert!((9..=11).contains(&share), "{share} of 40 after a pause");
}

/// A claim limited to a run takes of no other.
pub async fn a_claim_may_be_limited_to_a_run(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 5).await;
    bench.add_run(2, (0..3).map(task)).await;
    let claims = bench.store.claim(worker(1), 10, TTL, Some(&run_id(2))).await;
    let claims = claims.expect("claim");
    assert_eq!(claims.len(), 3);
    assert!(claims.iter().all(|claim| claim.run == run_id(2)));
    let rest = bench.claim(10).await;
    assert_eq!(rest.len(), 5);
    assert!(rest.iter().all(|claim| claim.run == run_id(1)));
}
