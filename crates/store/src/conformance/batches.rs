//! Rules of questions that go through a provider's batch API.

use tribunal_core::{BatchId, Via};

use super::*;
use crate::{
    batches::{Answered, BatchReply, PostOutcome, Posting},
    budget::{Amount, Budget, Reservation, ReservationId},
};

/// Which of the run's judges a batch is for.
const VOTER: u32 = 2;

pub(super) fn posting(
    claim: &Claim,
    batch: BatchId,
    reservation: Option<ReservationId>,
) -> Posting {
    let (run, position, sample, lease) = key(claim);
    let question = format!("question {position}").into_bytes();
    let attempts = vec![attempt(None)];
    Posting { run, position, sample, lease, batch, reservation, question, attempts }
}

fn reply(position: u32, text: &str) -> BatchReply {
    BatchReply { position, sample: 0, reply: text.as_bytes().to_vec() }
}

fn batch(number: u8) -> BatchId {
    BatchId::from_bytes([number; 16])
}

// === impl Bench ===

impl Bench {
    async fn open_batch(&self, number: u8) {
        let of = (&run_id(1), VOTER);
        let opened = self.store.open_batch(batch(number), of, worker(1), TTL).await;
        opened.expect("a batch can be opened");
    }

    async fn post(&self, claims: &[Claim]) -> Vec<PostOutcome> {
        let postings = claims.iter().map(|claim| posting(claim, batch(1), None)).collect();
        self.store.post(worker(1), postings).await.expect("questions can be posted")
    }

    async fn answer(&self, replies: &[BatchReply]) -> u64 {
        self.store.answer(batch(1), replies.to_vec()).await.expect("replies can be stored")
    }

    async fn end_batch(&self) -> u64 {
        self.store.end_batch(batch(1)).await.expect("a batch can end")
    }

    async fn posted(&self) -> u64 {
        self.progress().await.posted
    }
}

/// A posted task is nobody's until its reply is there; the next claim brings the reply, and so does
/// every one until the task has come to an end.
pub async fn a_posted_question_waits_for_its_reply(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 3).await;
    bench.store.set_via(&run_id(1), Via::Batch).await.expect("set");
    assert_eq!(bench.store.run(&run_id(1)).await.expect("run").via, Via::Batch);
    bench.open_batch(1).await;
    let claims = bench.claim(2).await;
    assert!(claims.iter().all(|claim| claim.via == Via::Batch && claim.answered.is_none()));
    for _ in 0..2 {
        assert_eq!(bench.post(&claims).await, [PostOutcome::Posted; 2]);
    }
    assert_eq!((bench.counts().await, bench.posted().await), ([3, 0, 0, 0, 0], 2));
    assert_eq!(bench.complete(&claims[0], graded(1.0)).await, CompleteOutcome::Fenced);
    let third = bench.claim(9).await;
    assert_eq!(positions(&third), [2]);
    bench.release(&third[0]).await;
    let progress = bench.progress().await;
    assert_eq!(progress.next_in_ms, Some(0), "another one is ready");
    let third = bench.claim(9).await;
    assert_eq!(bench.progress().await.next_in_ms, None, "nobody knows when the reply comes");
    bench.clock.advance(1_000);
    let beat = bench.store.heartbeat(vec![key(&third[0])], TTL).await;
    assert_eq!(beat.expect("heartbeat").len(), 1);

    assert_eq!(
        bench.answer(&[reply(0, "yes"), reply(2, "not posted"), reply(7, "no task")]).await,
        1
    );
    assert_eq!(bench.answer(&[reply(0, "again")]).await, 0);
    for _ in 0..2 {
        let claim = bench.claim_one().await;
        let answered = claim.answered.as_deref().expect("a reply");
        let expected = Answered {
            question: b"question 0"[..].into(),
            reservation: None,
            reply: b"yes"[..].into(),
        };
        assert_eq!((claim.task.position, answered), (0, &expected));
        bench.release(&claim).await;
    }
    let claim = bench.claim_one().await;
    assert_eq!(bench.end_batch().await, 1, "the reply that is there stays");
    bench.fail(&claim, FailureClass::Transient, Some(0)).await;
    let claims = bench.claim(9).await;
    assert_eq!(positions(&claims), [0, 1]);
    assert!(claims.iter().all(|claim| claim.answered.is_none()), "a failure has used it up");
    let attempts = bench.store.attempts(&run_id(1), 0, 0).await.expect("attempts");
    assert_eq!(attempts.len(), 2, "that of the posting and that of the failure");
}

/// What has no reply goes back to the queue, and its reservation is free again.
pub async fn a_batch_that_ends_gives_its_questions_back(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 2).await;
    let amount = |tokens| Amount { micro_usd: 0, tokens };
    let budget = Budget { micro_usd: None, tokens: Some(100) };
    bench.store.set_budget(&run_id(1), budget, Amount::default()).await.expect("budget");
    bench.open_batch(1).await;
    let claims = bench.claim(2).await;
    let mut ids = Vec::new();
    for claim in &claims {
        let (run, position, sample, lease) = key(claim);
        let (id, amount) = (ReservationId::random(), amount(40));
        let reservation = Reservation { id, run, position, sample, lease, amount };
        bench.store.reserve(vec![reservation]).await.expect("reserve");
        ids.push(id);
    }
    let postings = claims.iter().zip(&ids).map(|(claim, id)| posting(claim, batch(1), Some(*id)));
    bench.store.post(worker(1), postings.collect()).await.expect("post");
    let spent = async || {
        let totals = bench.store.totals(&run_id(1)).await.expect("totals");
        let spending = totals.spending.expect("a budget");
        (spending.spent.tokens, spending.reserved.tokens)
    };
    assert_eq!(spent().await, (0, 80), "what is posted is in flight");
    assert_eq!(bench.answer(&[reply(1, "yes")]).await, 1);
    let refused = bench.store.prune(&run_id(1)).await;
    assert!(refused.is_err(), "a question is posted");
    for ended in [1, 0] {
        assert_eq!(bench.end_batch().await, ended);
    }
    assert_eq!(spent().await, (0, 40));
    assert_eq!(bench.store.batches(&run_id(1)).await.expect("batches"), []);
    let claims = bench.claim(9).await;
    let answered = claims.iter().map(|claim| claim.answered.as_ref());
    let answered: Vec<_> = answered.map(|a| a.and_then(|a| a.reservation)).collect();
    assert_eq!(answered, [None, Some(ids[1])]);
    assert_eq!(bench.posted().await, 0);
}

/// Only who holds a batch posts in it and marks it; it is taken over when its hold has ended.
pub async fn a_batch_is_held_by_one_worker(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 3).await;
    let runs = [run_id(1)];
    let take = async |number: u8| {
        let taken = bench.store.take_batches(worker(number), TTL, Some(&runs[..])).await;
        let taken = taken.expect("take");
        taken.into_iter().map(|record| (record.id, record.remote, record.open)).collect::<Vec<_>>()
    };
    let mark = async |number: u8, remote: Option<&str>| {
        let remote = remote.map(str::to_owned);
        bench.store.mark_batch(batch(1), worker(number), TTL, remote).await.expect("mark")
    };
    assert_eq!(bench.post(&bench.claim(1).await).await, [PostOutcome::Fenced], "no such batch");
    bench.open_batch(1).await;
    bench.open_batch(1).await;
    let claim = bench.claim_one().await;
    let foreign = bench.store.post(worker(2), vec![posting(&claim, batch(1), None)]).await;
    assert_eq!(foreign.expect("post"), [PostOutcome::Fenced]);
    assert_eq!(bench.post(std::slice::from_ref(&claim)).await, [PostOutcome::Posted]);
    assert!(mark(1, None).await && !mark(2, Some("stolen")).await);
    assert!(mark(1, Some("batch_7")).await);
    assert_eq!(take(2).await, []);
    bench.clock.advance(TTL_MS / 2);
    assert_eq!(take(1).await, [(batch(1), Some("batch_7".to_owned()), 1)]);
    bench.clock.advance(TTL_MS / 2 + 1);
    assert_eq!(take(2).await, [], "it was held for longer meanwhile");
    bench.clock.advance(TTL_MS / 2);
    assert_eq!(take(2).await.len(), 1);
    assert!(!mark(1, None).await && take(1).await.is_empty());
    let late = bench.claim_one().await;
    assert_eq!(bench.post(&[late]).await, [PostOutcome::Fenced]);
    let others = [run_id(9)];
    let none = bench.store.take_batches(worker(2), TTL, Some(&others[..])).await;
    assert_eq!(none.expect("take"), []);
    let all = bench.store.take_batches(worker(2), TTL, None).await.expect("take");
    assert_eq!((all.len(), &all[0].run, all[0].voter), (1, &run_id(1), VOTER));
    bench.end_batch().await;
    assert!(!mark(2, None).await);
}

/// The reply to a question whose run was cancelled meanwhile is paid for: `retry` finds it.
pub async fn a_cancelled_question_keeps_its_reply(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 4).await;
    bench.open_batch(1).await;
    let claims = bench.claim(3).await;
    assert_eq!(bench.post(&claims[..2]).await, [PostOutcome::Posted; 2]);
    bench.control(RunState::Cancelled, "").await;
    assert_eq!(bench.post(&claims[2..]).await, [PostOutcome::Fenced]);
    bench.release(&claims[2]).await;
    assert_eq!(bench.counts().await, [0, 0, 0, 0, 4]);
    assert_eq!(bench.answer(&[reply(0, "paid")]).await, 1);
    assert_eq!(bench.counts().await, [0, 0, 0, 0, 4]);
    assert_eq!(bench.store.retry(&run_id(1), &[]).await.expect("retry"), 4);
    assert_eq!(bench.posted().await, 1, "the second may be answered still");
    let claims = bench.claim(9).await;
    assert_eq!(positions(&claims), [0, 2, 3]);
    assert!(claims[0].answered.is_some());
    assert_eq!(bench.end_batch().await, 1);
    assert_eq!(positions(&bench.claim(9).await), [1]);
}

/// While a question is posted in one run, another run that has it too waits for the verdict.
pub async fn a_posted_question_is_asked_once(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    for number in [1, 2] {
        let run = NewRun { reuse: true, ..new_run(number) };
        bench.store.create_run(run).await.expect("create");
        bench.store.enqueue(&run_id(number), vec![task(0)]).await.expect("enqueue");
    }
    bench.open_batch(1).await;
    let first = bench.store.claim(worker(1), 1, TTL, Some(&run_id(1))).await.expect("claim");
    assert_eq!(bench.post(&first).await, [PostOutcome::Posted]);
    assert_eq!(bench.claim(9).await.len(), 0);
    bench.answer(&[reply(0, "yes")]).await;
    let claim = bench.store.claim(worker(1), 1, TTL, Some(&run_id(1))).await.expect("claim");
    assert!(claim[0].answered.is_some());
    bench.complete(&claim[0], graded(1.0)).await;
    let second = bench.claim_one().await;
    assert!(second.reusable.is_some());
}
