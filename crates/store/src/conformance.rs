//! The suite that every engine passes.
//!
//! Owns one test for each rule of the contract, and one that compares an engine with
//! [`ModelStore`](crate::ModelStore) over random histories. The tests know engines only as
//! [`Store`]; what is special to an engine is tested beside it. They panic where a rule is
//! broken.
//!
//! [`conformance_suite!`](crate::conformance_suite) makes test functions of all of them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tribunal_core::{
    Attempt, BlobHash, CallKind, Category, ContentKey, FailureClass, LeafTask, LeaseId, Outcome,
    RunId, RunState, UngradedReason, Usage, Verdict, VerdictSource, WorkerId,
};

use crate::{
    clock::ManualClock,
    store::{Claim, CompleteOutcome, Completion, FailOutcome, Failure, NewRun, Progress, Store},
};

mod batches;
mod budget;
mod fair;
mod fleet;
mod label;
mod lease;
mod prune;
mod queue;
mod quota;
mod random;
mod report;
mod reuse;
mod run;

pub use batches::*;
pub use budget::*;
pub use fair::*;
pub use fleet::*;
pub use label::*;
pub use lease::*;
pub use prune::*;
pub use queue::*;
pub use quota::*;
pub use random::*;
pub use report::*;
pub use reuse::*;
pub use run::*;

/// Makes stores of one engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// A new and empty store that takes its time from `clock`, apart from all opened before.
    async fn open(&self, clock: ManualClock) -> Arc<dyn Store>;
}

/// Makes a module of test functions, one for each rule, over the engine that an expression of
/// type [`Engine`](crate::conformance::Engine) gives. The calling crate needs `tokio`.
#[macro_export]
macro_rules! conformance_suite {
    ($module:ident, $engine:expr) => {
        mod $module {
            use super::*;

            $crate::conformance_suite! { @each $engine =>
                enqueue_is_idempotent
                claims_follow_the_order
                claims_never_exceed_the_slots
                concurrent_claims_are_disjoint
                a_verdict_is_stored_once
                a_repeated_answer_is_a_duplicate
                a_score_off_the_scale_is_refused
                retry_in_is_honoured
                failures_are_counted_as_charged
                a_task_ages_from_its_first_claim
                a_failure_without_retry_is_a_dead_letter
                release_charges_nothing
                a_stale_lease_writes_nothing
                an_ended_lease_is_lost_before_anybody_takes_it
                heartbeats_extend_leases
                ended_leases_go_to_the_end_of_the_queue
                lost_too_often_is_a_dead_letter
                a_recorded_failure_forgives_losses
                reap_takes_the_oldest_first
                the_clock_may_step
                a_wait_does_not_outlast_a_step_back
                runs_are_recorded_once
                a_paused_run_drains
                a_cancelled_run_ends
                retry_goes_by_class
                retry_revives_a_cancelled_run
                unknown_runs_are_named
                a_small_run_is_not_behind_a_large_one
                a_late_run_neither_starves_nor_hogs
                a_claim_may_be_limited_to_a_run
                shares_follow_weights
                shares_settle_with_what_was_used
                a_higher_priority_goes_first
                a_cap_holds_over_all_workers
                a_capped_run_keeps_its_share
                a_pruned_run_is_gone_and_nothing_else
                labels_are_appended
                what_is_no_label_is_refused
                a_run_in_work_is_not_pruned
                blobs_of_a_run_in_the_making_stay
                a_vacuum_loses_nothing
                reservations_stay_within_the_budget
                reservations_and_settlements_count_once
                an_unknown_outcome_stays_charged
                a_budget_may_come_late_and_grow
                a_posted_question_waits_for_its_reply
                a_batch_that_ends_gives_its_questions_back
                a_batch_is_held_by_one_worker
                a_cancelled_question_keeps_its_reply
                a_posted_question_is_asked_once
                graded_verdicts_are_handed_on
                a_fresh_run_takes_nothing_over
                two_runs_in_flight_ask_once
                blobs_are_stored_once
                verdicts_come_in_pages
                progress_counts_every_task
                totals_count_every_attempt
                workers_are_listed
                a_worker_hears_that_it_is_to_end
                text_survives
                a_need_is_granted_after_the_wait
                grants_reach_half_a_second_ahead
                a_large_need_is_not_starved
                a_rejection_holds_every_worker
                a_clock_set_back_holds_nobody
                limits_fall_at_once_and_rise_slowly
                a_raised_limit_is_reached_by_large_questions
                pools_are_apart
            }

            #[test]
            fn grants_of_any_minute_stay_below_the_quota() {
                $crate::conformance::grants_of_any_minute_stay_below_the_quota(&$engine);
            }

            #[test]
            fn random_histories_agree_with_the_model() {
                $crate::conformance::random_histories_agree_with_the_model(&$engine);
            }
        }
    };
    (@each $engine:expr => $($test:ident)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                $crate::conformance::$test(&$engine).await;
            }
        )*
    };
}

/// How long leases of these tests last.
const TTL: Duration = Duration::from_secs(60);

/// The lease's length on the clock.
const TTL_MS: i64 = 60_000;

/// Where the clock of every test begins: 2026-01-01.
const START_MS: i64 = 1_767_225_600_000;

/// A store and the clock that it looks at.
struct Bench {
    store: Arc<dyn Store>,
    clock: ManualClock,
}

// === impl Bench ===

impl Bench {
    async fn new(engine: &dyn Engine) -> Self {
        let clock = ManualClock::at(START_MS);
        Self { store: engine.open(clock.clone()).await, clock }
    }

    /// A store with run 1, which has this many tasks in order.
    async fn with_tasks(engine: &dyn Engine, count: u32) -> Self {
        let bench = Self::new(engine).await;
        bench.add_run(1, (0..count).map(task)).await;
        bench
    }

    async fn add_run(&self, number: u8, tasks: impl IntoIterator<Item = LeafTask>) {
        let created = self.store.create_run(new_run(number)).await;
        created.expect("a run can be created");
        let tasks = tasks.into_iter().collect();
        let enqueued = self.store.enqueue(&run_id(number), tasks).await;
        enqueued.expect("tasks can be enqueued");
    }

    async fn claim(&self, slots: usize) -> Vec<Claim> {
        let claimed = self.store.claim(worker(1), slots, TTL, None).await;
        claimed.expect("tasks can be claimed")
    }

    async fn claim_one(&self) -> Claim {
        let mut claims = self.claim(1).await;
        assert_eq!(claims.len(), 1, "a task is ready and was not claimed");
        claims.remove(0)
    }

    async fn complete(&self, claim: &Claim, outcome: Outcome) -> CompleteOutcome {
        let outcomes = self.store.complete(vec![completion(claim, outcome)]).await;
        outcomes.expect("verdicts can be stored")[0]
    }

    async fn fail(&self, claim: &Claim, class: FailureClass, wait: Option<u64>) -> FailOutcome {
        let outcomes = self.store.fail(vec![failure(claim, class, wait)]).await;
        outcomes.expect("failures can be recorded")[0]
    }

    async fn release(&self, claim: &Claim) {
        let (run, position, sample, lease) = key(claim);
        let released = self.store.release(vec![(run, position, sample, lease, Vec::new())]);
        released.await.expect("claims can be released");
    }

    async fn progress(&self) -> Progress {
        let progress = self.store.progress(&run_id(1)).await;
        progress.expect("progress can be read")
    }

    /// Pending, leased, done, dead, cancelled.
    async fn counts(&self) -> [u64; 5] {
        let progress = self.progress().await;
        let Progress { pending, leased, done, dead, cancelled, .. } = progress;
        assert_eq!(progress.leaves, pending + leased + done + dead + cancelled);
        [pending, leased, done, dead, cancelled]
    }

    async fn control(&self, state: RunState, reason: &str) {
        let done = self.store.control(&run_id(1), state, reason).await;
        done.expect("a run can be steered");
    }

    /// Why each task without verdict has none, in order.
    async fn missing(&self) -> Vec<(UngradedReason, String)> {
        let verdicts = self.store.verdicts(&run_id(1), None, usize::MAX).await;
        let verdicts = verdicts.expect("verdicts can be read");
        verdicts.into_iter().filter_map(|stored| stored.missing).collect()
    }
}

// === samples ===

fn run_id(number: u8) -> RunId {
    RunId::from_hash(BlobHash::of(&[number]))
}

fn new_run(number: u8) -> NewRun {
    NewRun {
        id: run_id(number),
        inputs: BlobHash::of(&[number, 0]),
        generation: 0,
        spec: BlobHash::of(&[number, 1]),
        judge: "judge".to_owned(),
        model: "model".to_owned(),
        simulated: true,
        reuse: false,
    }
}

fn worker(number: u8) -> WorkerId {
    WorkerId::from_bytes([number; 16])
}

fn task(position: u32) -> LeafTask {
    LeafTask {
        position,
        sample: 0,
        id: format!("leaf-{position}"),
        category: Category::ALL[position as usize % Category::ALL.len()],
        content_key: ContentKey::from_bytes([position as u8; 32]),
        order: position,
        estimated_tokens: 100,
        rule: (position % 7 == 6).then(|| "no results".to_owned()),
    }
}

fn verdict(position: u32, sample: u32, outcome: Outcome) -> Verdict {
    Verdict {
        position,
        sample,
        id: format!("leaf-{position}"),
        outcome,
        source: VerdictSource::Judge,
        rationale: Default::default(),
        content_key: ContentKey::from_bytes([position as u8; 32]),
        model: "model".to_owned(),
        simulated: false,
        reply: Some("because".repeat(position as usize % 50)),
        shown: Default::default(),
        suspected_injection: Vec::new(),
        graded_ms: START_MS,
    }
}

fn attempt(class: Option<FailureClass>) -> Attempt {
    Attempt {
        kind: CallKind::Judge,
        via: Default::default(),
        class,
        status: Some(if class.is_none() { 200 } else { 500 }),
        error: class.map(|class| class.to_string()).unwrap_or_default(),
        request_id: Some("req-1".to_owned()),
        started_ms: START_MS,
        waited_ms: 3,
        latency_ms: 1200,
        usage: Usage { input: 1000, cached: 800, output: 50 },
        endpoint: "https://judge/v1".to_owned(),
        // 2⁻⁹: its sums are exact, in whatever order an engine adds them up.
        cost_usd: Some(0.001_953_125),
        possible: None,
    }
}

fn graded(score: f64) -> Outcome {
    Outcome::Graded { score }
}

fn completion(claim: &Claim, outcome: Outcome) -> Completion {
    Completion {
        run: claim.run.clone(),
        lease: claim.lease,
        verdict: Arc::new(verdict(claim.task.position, claim.task.sample, outcome)),
        attempts: [attempt(None)].into(),
    }
}

fn failure(claim: &Claim, class: FailureClass, wait_ms: Option<u64>) -> Failure {
    Failure {
        run: claim.run.clone(),
        lease: claim.lease,
        position: claim.task.position,
        sample: claim.task.sample,
        class,
        retry_in: wait_ms.map(Duration::from_millis),
        charged: 1,
        error: format!("it was {class}"),
        attempts: vec![attempt(Some(class))],
    }
}

fn key(claim: &Claim) -> (RunId, u32, u32, LeaseId) {
    let (position, sample) = (claim.task.position, claim.task.sample);
    (claim.run.clone(), position, sample, claim.lease)
}

fn positions(claims: &[Claim]) -> Vec<u32> {
    claims.iter().map(|claim| claim.task.position).collect()
}
