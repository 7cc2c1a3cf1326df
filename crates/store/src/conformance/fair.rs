//! Rules of fairness between runs.

use std::num::NonZeroU32;

use super::*;
use crate::share::Weight;

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

fn weight(number: u32) -> Weight {
    Weight::new(number).expect("a weight")
}

/// Tokens claimed by runs 1 and 2 in so many claims of one task, each completed with `used`.
async fn tokens_claimed(bench: &Bench, claims: usize, used: impl Fn(u8) -> u64) -> [u64; 2] {
    let mut tokens = [0, 0];
    for _ in 0..claims {
        let claim = bench.claim_one().await;
        let run = usize::from(claim.run == run_id(2));
        tokens[run] += u64::from(claim.task.estimated_tokens);
        let mut completion = completion(&claim, graded(1.0));
        let input = used(run as u8 + 1);
        Arc::make_mut(&mut completion.attempts)[0].usage = Usage { input, cached: 0, output: 0 };
        bench.store.complete(vec![completion]).await.expect("complete");
    }
    tokens
}

/// A run of weight 3 gets three times the tokens of one of weight 1, from when it is set.
pub async fn shares_follow_weights(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1_000).await;
    bench.add_run(2, (0..1_000).map(task)).await;
    let set = async |number| {
        bench.store.set_weight(&run_id(2), weight(number)).await.expect("weight");
    };
    set(3).await;
    let record = bench.store.run(&run_id(2)).await.expect("run");
    assert_eq!(record.weight, weight(3));
    assert_eq!(tokens_claimed(&bench, 200, |_| 100).await, [5_000, 15_000]);
    set(1).await;
    assert_eq!(tokens_claimed(&bench, 200, |_| 100).await, [10_000, 10_000]);
}

/// Shares are of the tokens that were used. A run whose tasks take less than expected, or
/// nothing, gets more of them; one that takes more gets less.
pub async fn shares_settle_with_what_was_used(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1_000).await;
    bench.add_run(2, (0..1_000).map(task)).await;
    let claimed = tokens_claimed(&bench, 400, |run| if run == 1 { 300 } else { 100 }).await;
    let tasks = claimed.map(|tokens| tokens / 100);
    assert!((98..=102).contains(&tasks[0]) && tasks[0] + tasks[1] == 400, "{tasks:?}");
    // Given back unused, a claim costs nothing: the next one is of the same run.
    let given_back = bench.claim_one().await;
    bench.release(&given_back).await;
    assert_eq!(bench.claim_one().await.run, given_back.run);
}

/// Of a run nothing is claimed while one of a higher priority has a task to be had; those of one priority
/// share, also with one that comes late. A claim that is limited to a run looks at no other.
pub async fn a_higher_priority_goes_first(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 30).await;
    bench.add_run(2, (0..20).map(task)).await;
    let prefer = async |run: u8, priority| {
        bench.store.set_priority(&run_id(run), priority).await.expect("priority");
        assert_eq!(bench.store.run(&run_id(run)).await.expect("run").priority, priority);
    };
    let of = |claims: &[Claim], run: u8| claims.iter().filter(|c| c.run == run_id(run)).count();
    prefer(2, 1).await;
    let first = bench.claim(10).await;
    assert_eq!(of(&first, 2), 10);
    // Late, of the same priority: neither behind nor owed what it did not use.
    bench.add_run(3, (0..20).map(task)).await;
    prefer(3, 1).await;
    let both = bench.claim(10).await;
    assert_eq!((of(&both, 2), of(&both, 3)), (5, 5));
    let only = bench.store.claim(worker(1), 2, TTL, Some(&run_id(1))).await.expect("claim");
    assert_eq!(of(&only, 1), 2);
    // What is left of both, and only then the others.
    let rest = bench.claim(25).await;
    assert_eq!((of(&rest, 1), of(&rest, 2), of(&rest, 3)), (5, 5, 15));
    prefer(1, -5).await;
    bench.release(&first[0]).await;
    assert_eq!(bench.claim_one().await.run, run_id(2));
    assert_eq!(bench.claim_one().await.run, run_id(1));
}

async fn cap(bench: &Bench, run: u8, cap: u32) {
    let done = bench.store.set_max_in_flight(&run_id(run), NonZeroU32::new(cap)).await;
    done.expect("cap");
}

/// A run has no more tasks leased than its cap, whoever asks and for whatever run. What has ended,
/// come back or is done makes room; what was leased before stays leased.
pub async fn a_cap_holds_over_all_workers(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 100).await;
    cap(&bench, 1, 5).await;
    let record = bench.store.run(&run_id(1)).await.expect("run");
    assert_eq!(record.max_in_flight, NonZeroU32::new(5));
    let claim = async |number, slots, only: Option<&RunId>| {
        bench.store.claim(worker(number), slots, TTL, only).await.expect("claim")
    };
    let first = claim(1, 3, None).await;
    assert_eq!(first.len(), 3);
    assert_eq!(claim(2, 10, Some(&run_id(1))).await.len(), 2);
    assert_eq!(claim(3, 10, None).await.len(), 0);
    // One of each: done, given back, failed.
    bench.complete(&first[0], graded(1.0)).await;
    bench.release(&first[1]).await;
    bench.fail(&first[2], FailureClass::Transient, Some(1_000)).await;
    assert_eq!(claim(3, 10, None).await.len(), 3);
    // All leases end, and none of them counts.
    bench.clock.advance(TTL.as_millis() as i64);
    assert_eq!(claim(4, 10, None).await.len(), 5);
    cap(&bench, 1, 2).await;
    assert_eq!(claim(4, 10, None).await.len(), 0);
    assert_eq!(bench.progress().await.leased, 5, "a lower cap takes nothing back");
    cap(&bench, 1, 0).await;
    assert_eq!(claim(4, 10, None).await.len(), 10, "and without a cap there is none");
}

/// A run at its cap leaves the slots to others, and is neither owed them nor held up by that: while it
/// has room it gets its share again.
pub async fn a_capped_run_keeps_its_share(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1_000).await;
    bench.add_run(2, (0..1_000).map(task)).await;
    bench.add_run(3, (0..1_000).map(task)).await;
    cap(&bench, 1, 4).await;
    let claimed = async |slots| {
        let claims = bench.claim(slots).await;
        [1, 2, 3].map(|run| claims.iter().filter(|claim| claim.run == run_id(run)).count())
    };
    assert_eq!(claimed(24).await, [4, 10, 10]);
    assert_eq!(claimed(200).await, [0, 100, 100]);
    cap(&bench, 1, 1_000).await;
    let [first, second, third] = claimed(60).await;
    assert!((19..=21).contains(&first), "{first}, {second} and {third} of 60");
}
