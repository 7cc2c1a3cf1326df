//! Random histories, compared with the store in memory.
//!
//! Several workers do what workers do, and what they should not: answer late, twice, or with
//! somebody else's lease. After every step the answers agree, and in the end everything that can
//! be read. Leases are random in each store: they are known by the order of their claims.

use std::{num::NonZeroU32, sync::Arc};

use proptest::{prelude::*, test_runner::TestRunner};

use tribunal_core::BatchId;

use super::*;
use crate::{
    batches::{BatchReply, Batches as _},
    budget::{Amount, Budget, Reservation, ReservationId, Settlement},
    model::ModelStore,
    share::Weight,
    store::{Held, Pruned},
};

const RUNS: u8 = 3;

/// Longer than any history.
const DAY: Duration = Duration::from_secs(86_400);

/// One step of a history. `claims` are numbers that choose among all claims made so far.
#[derive(Clone, Debug)]
enum Step {
    Enqueue { run: u8, tasks: Vec<(u32, u32, u32)> },
    Claim { worker: u8, slots: usize, ttl_s: u64, run: Option<u8> },
    Heartbeat { claims: Vec<usize>, ttl_s: u64 },
    Complete { claims: Vec<usize>, outcome: u8 },
    Fail { claims: Vec<usize>, class: FailureClass, wait_s: Option<u64>, charged: u32 },
    Release { claims: Vec<usize> },
    Reap { limit: usize },
    Control { run: u8, state: RunState },
    Retry { run: u8, classes: Vec<FailureClass> },
    Weight { run: u8, weight: u32 },
    Priority { run: u8, priority: i32 },
    Cap { run: u8, cap: Option<u32> },
    Budget { run: u8, more: u64 },
    Reserve { claims: Vec<usize>, tokens: u64 },
    Settle { which: Vec<usize>, quarters: u64 },
    Post { claims: Vec<usize> },
    Answer { run: u8, positions: Vec<u32> },
    End { run: u8 },
    Prune { run: u8 },
    Wait { seconds: i64 },
}

/// The two stores, side by side.
struct Pair {
    engine: Arc<dyn Store>,
    model: ModelStore,
    clock: ManualClock,
    /// Every claim ever made, in both stores.
    claims: Vec<(Claim, Claim)>,
    /// Every reservation ever asked for.
    reservations: Vec<Reservation>,
    /// The budgets in tokens. They only grow.
    budgets: [u64; RUNS as usize],
    caps: [Option<NonZeroU32>; RUNS as usize],
    /// Tasks whose verdict was acknowledged and not put back since.
    acknowledged: std::collections::BTreeSet<(u8, u32, u32)>,
}

/// Applies random histories to a new store of the engine and to the model; they agree.
pub fn random_histories_agree_with_the_model(engine: &dyn Engine) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let config = ProptestConfig {
        cases: 48,
        failure_persistence: None,
        max_shrink_iters: 512,
        ..ProptestConfig::default()
    };
    let history = prop::collection::vec(step(), 1..60);
    let result = TestRunner::new(config).run(&history, |steps| {
        runtime.block_on(check(engine, steps));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

fn step() -> impl Strategy<Value = Step> {
    let run = 0..RUNS;
    let claims = || prop::collection::vec(0_usize..64, 1..6);
    let class = prop::sample::select(&FailureClass::ALL[..]);
    let state = prop::sample::select(vec![
        RunState::Active,
        RunState::Active,
        RunState::Paused,
        RunState::Cancelled,
    ]);
    let tasks = prop::collection::vec((0_u32..12, 0_u32..2, 0_u32..400), 1..10);
    prop_oneof![
        3 => (run.clone(), tasks).prop_map(|(run, tasks)| Step::Enqueue { run, tasks }),
        6 => (0_u8..4, 0_usize..7, 1_u64..90, prop::option::weighted(0.2, run.clone()))
            .prop_map(|(worker, slots, ttl_s, run)| Step::Claim { worker, slots, ttl_s, run }),
        2 => (claims(), 1_u64..90)
            .prop_map(|(claims, ttl_s)| Step::Heartbeat { claims, ttl_s }),
        5 => (claims(), 0_u8..5)
            .prop_map(|(claims, outcome)| Step::Complete { claims, outcome }),
        3 => (claims(), class.clone(), prop::option::of(0_u64..40), 0_u32..3)
            .prop_map(|(claims, class, wait_s, charged)| {
                Step::Fail { claims, class, wait_s, charged }
            }),
        1 => claims().prop_map(|claims| Step::Release { claims }),
        1 => (0_usize..5).prop_map(|limit| Step::Reap { limit }),
        1 => (run.clone(), state).prop_map(|(run, state)| Step::Control { run, state }),
        1 => (run.clone(), 1_u32..5).prop_map(|(run, weight)| Step::Weight { run, weight }),
        1 => (run.clone(), -1_i32..2)
            .prop_map(|(run, priority)| Step::Priority { run, priority }),
        2 => (run.clone(), prop::option::weighted(0.8, 1_u32..5))
            .prop_map(|(run, cap)| Step::Cap { run, cap }),
        3 => claims().prop_map(|claims| Step::Post { claims }),
        2 => (run.clone(), prop::collection::vec(0_u32..12, 1..6))
            .prop_map(|(run, positions)| Step::Answer { run, positions }),
        1 => run.clone().prop_map(|run| Step::End { run }),
        1 => run.clone().prop_map(|run| Step::Prune { run }),
        1 => (run.clone(), 1_u64..900).prop_map(|(run, more)| Step::Budget { run, more }),
        3 => (claims(), 0_u64..300).prop_map(|(claims, tokens)| Step::Reserve { claims, tokens }),
        3 => (claims(), 0_u64..5).prop_map(|(which, quarters)| Step::Settle { which, quarters }),
        1 => (run, prop::collection::vec(class, 0..3))
            .prop_map(|(run, classes)| Step::Retry { run, classes }),
        4 => prop_oneof![8 => 0_i64..50, 1 => -60_i64..0, 1 => 50_i64..200]
            .prop_map(|seconds| Step::Wait { seconds }),
    ]
}

async fn check(engine: &dyn Engine, steps: Vec<Step>) {
    let clock = ManualClock::at(START_MS);
    let mut pair = Pair {
        engine: engine.open(clock.clone()).await,
        model: ModelStore::new(Arc::new(clock.clone())),
        clock,
        claims: Vec::new(),
        reservations: Vec::new(),
        budgets: [0; RUNS as usize],
        caps: [None; RUNS as usize],
        acknowledged: Default::default(),
    };
    for run in 0..RUNS {
        for store in [&*pair.engine, &pair.model] {
            store.create_run(random_run(run)).await.expect("create");
        }
    }
    for (number, step) in steps.iter().enumerate() {
        pair.apply(step, number).await;
    }
    for run in 0..RUNS {
        pair.compare(run).await;
    }
    pair.engine.close().await.expect("close");
}

// === impl Pair ===

impl Pair {
    /// The claims that these numbers choose, the latest first.
    fn chosen(&self, claims: &[usize]) -> Vec<&(Claim, Claim)> {
        // Those are the ones most likely to be held.
        let nth = |at: &usize| self.claims.iter().rev().nth(at % self.claims.len().max(1));
        claims.iter().filter_map(nth).collect()
    }

    async fn apply(&mut self, step: &Step, number: usize) {
        let (engine, model) = (self.engine.clone(), &self.model);
        match step {
            Step::Enqueue { run, tasks } => {
                let tasks: Vec<LeafTask> = tasks.iter().map(random_task).collect();
                let run = run_id(*run);
                let new = engine.enqueue(&run, tasks.clone()).await.expect("enqueue");
                assert_eq!(new, model.enqueue(&run, tasks).await.expect("enqueue"));
            }
            Step::Claim { worker: by, slots, ttl_s, run } => {
                let (by, ttl) = (worker(*by), Duration::from_secs(*ttl_s));
                let run = run.map(run_id);
                let ours = engine.claim(by, *slots, ttl, run.as_ref()).await.expect("claim");
                let theirs = model.claim(by, *slots, ttl, run.as_ref()).await.expect("claim");
                let seen = |claims: &[Claim]| -> Vec<_> {
                    let seen = |claim: &Claim| {
                        let mut claim = claim.clone();
                        claim.lease = LeaseId::from_bytes([0; 16]);
                        format!("{claim:?}")
                    };
                    claims.iter().map(seen).collect()
                };
                assert_eq!(seen(&ours), seen(&theirs), "step {number}");
                assert!(ours.len() <= *slots);
                for run in 0..RUNS {
                    let claimed = ours.iter().any(|claim| claim.run == run_id(run));
                    if let (true, Some(cap)) = (claimed, self.caps[usize::from(run)]) {
                        let leased = engine.progress(&run_id(run)).await.expect("progress").leased;
                        assert!(leased <= u64::from(cap.get()), "step {number}: {leased} of {cap}");
                    }
                }
                self.claims.extend(ours.into_iter().zip(theirs));
            }
            Step::Heartbeat { claims, ttl_s } => {
                let ttl = Duration::from_secs(*ttl_s);
                let chosen = self.chosen(claims);
                let (ours, theirs) = sides(&chosen, |claim, _| key(claim));
                let held = engine.heartbeat(ours, ttl).await.expect("heartbeat");
                let expected: Vec<Held> = model.heartbeat(theirs, ttl).await.expect("heartbeat");
                assert_eq!(held, expected, "step {number}");
            }
            Step::Complete { claims, outcome } => {
                let chosen = self.chosen(claims);
                let (ours, theirs) =
                    sides(&chosen, |claim, at| random_completion(claim, *outcome, number, at));
                let outcomes = engine.complete(ours).await.expect("complete");
                let expected = model.complete(theirs).await.expect("complete");
                assert_eq!(outcomes, expected, "step {number}");
                let stored = chosen.iter().zip(&outcomes);
                let stored: Vec<_> = stored
                    .filter(|(_, outcome)| **outcome != CompleteOutcome::Fenced)
                    .map(|((claim, _), outcome)| (number_of(&claim.run), claim, *outcome))
                    .map(|(run, c, outcome)| ((run, c.task.position, c.task.sample), outcome))
                    .collect();
                for (task, outcome) in stored {
                    let new = self.acknowledged.insert(task);
                    assert_eq!(new, outcome == CompleteOutcome::Stored, "step {number}");
                }
            }
            Step::Fail { claims, class, wait_s, charged } => {
                let chosen = self.chosen(claims);
                let (ours, theirs) = sides(&chosen, |claim, _| Failure {
                    charged: *charged,
                    ..failure(claim, *class, wait_s.map(|wait| wait * 1_000))
                });
                let outcomes = engine.fail(ours).await.expect("fail");
                assert_eq!(outcomes, model.fail(theirs).await.expect("fail"), "step {number}");
            }
            Step::Release { claims } => {
                let chosen = self.chosen(claims);
                let (ours, theirs) = sides(&chosen, |claim, _| {
                    let (run, position, sample, lease) = key(claim);
                    let attempts = vec![attempt(Some(FailureClass::Throttled))];
                    (run, position, sample, lease, attempts)
                });
                engine.release(ours).await.expect("release");
                model.release(theirs).await.expect("release");
            }
            Step::Reap { limit } => {
                let reaped = engine.reap(*limit).await.expect("reap");
                assert_eq!(reaped, model.reap(*limit).await.expect("reap"), "step {number}");
            }
            Step::Control { run, state } => {
                for store in [&*engine, model] {
                    store.control(&run_id(*run), *state, "told to").await.expect("control");
                }
            }
            Step::Retry { run, classes } => {
                let back = engine.retry(&run_id(*run), classes).await.expect("retry");
                let expected = model.retry(&run_id(*run), classes).await.expect("retry");
                assert_eq!(back, expected, "step {number}");
                self.forget_ungraded(*run).await;
            }
            Step::Cap { run, cap } => {
                let cap = cap.and_then(NonZeroU32::new);
                self.caps[usize::from(*run)] = cap;
                for store in [&*engine, model] {
                    store.set_max_in_flight(&run_id(*run), cap).await.expect("cap");
                }
            }
            Step::Priority { run, priority } => {
                for store in [&*engine, model] {
                    store.set_priority(&run_id(*run), *priority).await.expect("priority");
                }
            }
            Step::Weight { run, weight } => {
                let weight = Weight::new(*weight).expect("a weight");
                for store in [&*engine, model] {
                    store.set_weight(&run_id(*run), weight).await.expect("weight");
                }
            }
            Step::Budget { run, more } => {
                let tokens = &mut self.budgets[usize::from(*run)];
                *tokens += more;
                let micro_usd = (*run == 1).then_some(*tokens * 2);
                let budget = Budget { micro_usd, tokens: Some(*tokens) };
                let spent = Amount::default();
                let back = engine.set_budget(&run_id(*run), budget, spent).await.expect("budget");
                let expected = model.set_budget(&run_id(*run), budget, spent).await;
                assert_eq!(back, expected.expect("budget"), "step {number}");
                self.forget_ungraded(*run).await;
            }
            Step::Reserve { claims, tokens } => {
                let chosen = self.chosen(claims);
                let ids: Vec<_> = chosen.iter().map(|_| ReservationId::random()).collect();
                let (ours, theirs) = sides(&chosen, |claim, at| {
                    let (run, position, sample, lease) = key(claim);
                    let amount = Amount { micro_usd: tokens * 2, tokens: *tokens };
                    Reservation { id: ids[at], run, position, sample, lease, amount }
                });
                self.reservations.extend(ours.iter().cloned());
                let outcomes = engine.reserve(ours).await.expect("reserve");
                let expected = model.reserve(theirs).await.expect("reserve");
                assert_eq!(outcomes, expected, "step {number}");
                self.check_budgets().await;
            }
            Step::Settle { which, quarters } => {
                let nth = |at: &usize| {
                    let latest = self.reservations.iter().rev();
                    latest.clone().nth(at % latest.len().max(1))
                };
                let settlement = |reservation: &Reservation| Settlement {
                    run: reservation.run.clone(),
                    id: reservation.id,
                    actual: Amount {
                        micro_usd: reservation.amount.micro_usd * quarters / 4,
                        tokens: reservation.amount.tokens * quarters / 4,
                    },
                };
                let settled: Vec<_> = which.iter().filter_map(nth).map(settlement).collect();
                engine.settle(settled.clone()).await.expect("settle");
                model.settle(settled).await.expect("settle");
                self.check_budgets().await;
            }
            Step::Post { claims } => {
                let chosen = self.chosen(claims);
                for run in 0..RUNS {
                    for store in [&*engine, model] {
                        let of = (&run_id(run), 0);
                        let opened = store.open_batch(batch(run), of, worker(1), DAY).await;
                        opened.expect("open");
                    }
                }
                let (ours, theirs) = sides(&chosen, |claim, at| {
                    let (ours, _) = chosen[at];
                    let of = |r: &&Reservation| r.lease == ours.lease;
                    let reservation = self.reservations.iter().rev().find(of).map(|r| r.id);
                    posting(claim, batch(number_of(&claim.run)), reservation)
                });
                let outcomes = engine.post(worker(1), ours).await.expect("post");
                let expected = model.post(worker(1), theirs).await.expect("post");
                assert_eq!(outcomes, expected, "step {number}");
                self.check_budgets().await;
            }
            Step::Answer { run, positions } => {
                let reply = |position: &u32| BatchReply {
                    position: *position,
                    sample: position % 2,
                    reply: number.to_le_bytes().to_vec(),
                };
                let replies: Vec<_> = positions.iter().map(reply).collect();
                let new = engine.answer(batch(*run), replies.clone()).await.expect("answer");
                let expected = model.answer(batch(*run), replies).await.expect("answer");
                assert_eq!(new, expected, "step {number}");
            }
            Step::End { run } => {
                let back = engine.end_batch(batch(*run)).await.expect("end");
                let expected = model.end_batch(batch(*run)).await.expect("end");
                assert_eq!(back, expected, "step {number}");
                self.check_budgets().await;
            }
            Step::Prune { run: number } => {
                let run = run_id(*number);
                let pruned = engine.prune(&run).await.map(|pruned| Pruned { bytes: 0, ..pruned });
                let expected = model.prune(&run).await;
                assert_eq!(format!("{pruned:?}"), format!("{expected:?}"));
                if pruned.is_ok() {
                    self.acknowledged.retain(|(run, _, _)| run != number);
                    self.budgets[usize::from(*number)] = 0;
                    self.caps[usize::from(*number)] = None;
                    for store in [&*engine, model] {
                        store.create_run(random_run(*number)).await.expect("create");
                    }
                }
            }
            Step::Wait { seconds } => self.clock.advance(seconds * 1_000),
        }
    }

    /// Whatever was reserved, lost and settled: no budget is passed.
    async fn check_budgets(&self) {
        for run in 0..RUNS {
            let totals = self.engine.totals(&run_id(run)).await.expect("totals");
            if let Some(spending) = totals.spending {
                let all = spending.spent.plus(spending.reserved);
                assert!(spending.budget.holds(all), "{spending:?}");
            }
        }
    }

    /// A retry takes ungraded verdicts away: they are no longer acknowledged.
    async fn forget_ungraded(&mut self, run: u8) {
        let verdicts = self.engine.verdicts(&run_id(run), None, usize::MAX).await;
        for stored in verdicts.expect("verdicts") {
            if stored.verdict.is_none() {
                self.acknowledged.remove(&(run, stored.position, stored.sample));
            }
        }
    }

    /// Everything that can be read of a run is the same in both, and adds up.
    async fn compare(&self, number: u8) {
        let run = &run_id(number);
        let (engine, model) = (&self.engine, &self.model);
        let progress = engine.progress(run).await.expect("progress");
        assert_eq!(progress, model.progress(run).await.expect("progress"));
        let totals = engine.totals(run).await.expect("totals");
        assert_eq!(totals, model.totals(run).await.expect("totals"));
        let outcomes = engine.outcomes(run, None, usize::MAX).await.expect("outcomes");
        let expected = model.outcomes(run, None, usize::MAX).await.expect("outcomes");
        assert_eq!(outcomes, expected);
        let verdicts = engine.verdicts(run, None, usize::MAX).await.expect("verdicts");
        let expected = model.verdicts(run, None, usize::MAX).await.expect("verdicts");
        assert_eq!(format!("{verdicts:?}"), format!("{expected:?}"));
        for stored in &verdicts {
            let (position, sample) = (stored.position, stored.sample);
            let attempts = engine.attempts(run, position, sample).await.expect("attempts");
            let expected = model.attempts(run, position, sample).await.expect("attempts");
            assert_eq!(attempts, expected);
        }
        let batches = engine.batches(run).await.expect("batches");
        assert_eq!(batches, model.batches(run).await.expect("batches"));
        let record = engine.run(run).await.expect("run");
        let expected = model.run(run).await.expect("run");
        assert_eq!(format!("{record:?}"), format!("{expected:?}"));

        let with_verdict = verdicts.iter().filter(|stored| stored.verdict.is_some());
        let with_verdict: Vec<_> =
            with_verdict.map(|stored| (number, stored.position, stored.sample)).collect();
        let without = progress.dead + progress.cancelled + progress.pending + progress.leased;
        assert_eq!(with_verdict.len() as u64, progress.leaves - without);
        let acknowledged = self.acknowledged.iter().filter(|(run, _, _)| *run == number);
        assert!(acknowledged.eq(with_verdict.iter()), "acknowledged is stored, and nothing else");
        assert!(totals.graded <= with_verdict.len() as u64);
    }
}

/// The same items for both stores, each with its own leases.
fn sides<T>(chosen: &[&(Claim, Claim)], item: impl Fn(&Claim, usize) -> T) -> (Vec<T>, Vec<T>) {
    let pairs = chosen.iter().enumerate();
    pairs.map(|(at, (ours, theirs))| (item(ours, at), item(theirs, at))).unzip()
}

/// The one batch of a run.
fn batch(run: u8) -> BatchId {
    BatchId::from_bytes([run; 16])
}

/// The runs take verdicts over from each other, except for the last one.
fn random_run(number: u8) -> NewRun {
    NewRun { reuse: number + 1 < RUNS, ..new_run(number) }
}

fn number_of(run: &RunId) -> u8 {
    let number = (0..RUNS).find(|number| run_id(*number) == *run);
    number.expect("a claim is of a run of this test")
}

fn random_task(&(position, sample, tokens): &(u32, u32, u32)) -> LeafTask {
    LeafTask {
        sample,
        // Many tasks share a place.
        order: position % 5,
        estimated_tokens: tokens,
        ..task(position)
    }
}

fn random_completion(claim: &Claim, outcome: u8, step: usize, at: usize) -> Completion {
    let mut completion = completion(
        claim,
        match outcome {
            0 => graded(0.0),
            1 => graded(1.0),
            2 => graded(1.0 / 3.0),
            3 => Outcome::Ungraded { reason: UngradedReason::Budget },
            _ => Outcome::Ungraded { reason: UngradedReason::ProviderError },
        },
    );
    let verdict = Arc::make_mut(&mut completion.verdict);
    if let Some(reusable) = claim.reusable.as_deref().filter(|_| outcome > 1) {
        verdict.outcome = reusable.verdict.outcome;
        verdict.source = VerdictSource::Reused { run: reusable.run.to_string() };
    } else if let Some(rule) = &claim.task.rule {
        verdict.source = VerdictSource::Rule { name: rule.clone() };
    }
    verdict.simulated = step.is_multiple_of(2);
    verdict.reply = Some(format!("step {step}, item {at}"));
    completion
}
