//! What the writer is asked for, and in which order it executes a group.
//!
//! Owns the merging: all verdicts of a group go through the same few statements, as do all
//! failures and all claims. Requests of one group come from different callers, who cannot know
//! each other's order.

use std::num::NonZeroU32;

use sqlx::SqliteConnection;
use tribunal_core::{BlobHash, FailureClass, LeafTask, LeaseId, RunState, WorkerId};

use super::{
    batches::{self, Change},
    budget::{self, NewReservation, NewSettlement},
    claim::{self, ClaimedTask},
    counts,
    fleet::{self, Word},
    labels,
    lease::{self, Loss},
    outcome::{self, NewFailure, NewRelease, NewVerdict},
    postings::{self, NewPosting},
    prune, quota, run, share,
};
use crate::{
    batches::{BatchRecord, PostOutcome},
    blob::PackedBlob,
    budget::{Amount, Budget, ReserveOutcome},
    label::NewLabel,
    quota::QuotaGrant,
    share::Weight,
    store::{CompleteOutcome, FailOutcome, Held, NewRun},
};

/// A change to the store. Runs are known by their number.
pub(super) enum Request {
    /// Compressed blobs: hash, length before, bytes.
    PutBlobs(Vec<PackedBlob>),
    /// Tokens of texts, by a vocabulary.
    PutCounts(String, Vec<(BlobHash, u64)>),
    CreateRun(Box<NewRun>),
    Enqueue {
        run: i64,
        tasks: Vec<LeafTask>,
    },
    Claim(ClaimRequest),
    Heartbeat {
        leases: Vec<LeaseRef>,
        ttl_ms: i64,
    },
    Complete(Vec<NewVerdict>),
    Fail(Vec<NewFailure>),
    Release(Vec<NewRelease>),
    Reap {
        limit: i64,
    },
    Control {
        run: i64,
        state: RunState,
        reason: String,
    },
    SetWeight {
        run: i64,
        weight: Weight,
    },
    SetPriority {
        run: i64,
        priority: i32,
    },
    SetMaxInFlight {
        run: i64,
        cap: Option<NonZeroU32>,
    },
    SetBudget {
        run: i64,
        budget: Budget,
        spent: Amount,
    },
    Reserve(Vec<NewReservation>),
    Settle(Vec<NewSettlement>),
    Retry {
        run: i64,
        classes: Vec<FailureClass>,
    },
    Join {
        worker: WorkerId,
        dead: Vec<WorkerId>,
    },
    Leave {
        workers: Vec<WorkerId>,
    },
    Prune(prune::Step),
    Quota(quota::Change),
    Post(Vec<NewPosting>),
    Batch(Change),
    Worker(Word),
    Label {
        run: i64,
        label: NewLabel,
    },
}

/// A worker that wants tasks.
#[derive(Clone, Copy)]
pub(super) struct ClaimRequest {
    pub(super) worker: WorkerId,
    pub(super) slots: usize,
    pub(super) ttl_ms: i64,
    /// Only of this run.
    pub(super) run: Option<i64>,
}

/// The task that a lease was given for. A run of -1 is one that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LeaseRef {
    pub(super) run: i64,
    pub(super) position: u32,
    pub(super) sample: u32,
    pub(super) lease: LeaseId,
}

/// What became of a [`Request`].
pub(super) enum Answer {
    Done,
    Count(u64),
    Claimed(Vec<ClaimedTask>),
    Held(Vec<Held>),
    Completed(Vec<CompleteOutcome>),
    Failed(Vec<FailOutcome>),
    Stepped(prune::Stepped),
    Reserved(Vec<ReserveOutcome>),
    Granted(QuotaGrant),
    Posted(Vec<PostOutcome>),
    Batches(Vec<BatchRecord>),
    /// Place and time of a label.
    Labelled(u64, i64),
}

// === impl Request ===

impl Request {
    /// Whether this asks for tasks.
    pub(super) fn is_claim(&self) -> bool {
        matches!(self, Request::Claim(_))
    }
}

/// Executes a group inside an open transaction; one answer for each request, in their order.
pub(super) async fn execute(
    conn: &mut SqliteConnection,
    requests: &[Request],
    now: i64,
) -> Result<Vec<Answer>, sqlx::Error> {
    let mut answers: Vec<(usize, Answer)> = Vec::with_capacity(requests.len());
    for (at, request) in requests.iter().enumerate() {
        if let Some(answer) = single(conn, request, now).await? {
            answers.push((at, answer));
        }
    }
    // Claims come last: what the others put back is there for them. A reservation comes after
    // what is settled, and before a lease ends.
    settlements(conn, requests, &mut answers).await?;
    reservations(conn, requests, now, &mut answers).await?;
    completes(conn, requests, now, &mut answers).await?;
    failures(conn, requests, now, &mut answers).await?;
    releases(conn, requests, now, &mut answers).await?;
    claims(conn, requests, now, &mut answers).await?;
    answers.sort_by_key(|(at, _)| *at);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// Executes a request that is not merged with others; `None` for one that is.
async fn single(
    conn: &mut SqliteConnection,
    request: &Request,
    now: i64,
) -> Result<Option<Answer>, sqlx::Error> {
    Ok(Some(match request {
        Request::PutBlobs(blobs) => {
            run::put_blobs(conn, blobs).await?;
            Answer::Done
        }
        Request::PutCounts(vocabulary, counts) => {
            counts::put(conn, vocabulary, counts).await?;
            Answer::Done
        }
        Request::CreateRun(new) => {
            run::create(conn, new, now).await?;
            Answer::Done
        }
        Request::Enqueue { run, tasks } => Answer::Count(run::enqueue(conn, *run, tasks).await?),
        Request::Heartbeat { leases, ttl_ms } => {
            let end = now.saturating_add(*ttl_ms);
            Answer::Held(lease::heartbeat(conn, leases, now, end).await?)
        }
        Request::Reap { limit } => {
            Answer::Count(lease::take_back(conn, &Loss::Ended { now, limit: *limit }).await?)
        }
        Request::Control { run, state, reason } => {
            run::control(conn, *run, *state, reason).await?;
            Answer::Done
        }
        Request::SetWeight { run, weight } => {
            share::set_weight(conn, *run, *weight).await?;
            Answer::Done
        }
        Request::SetPriority { run, priority } => {
            share::set_priority(conn, *run, *priority).await?;
            Answer::Done
        }
        Request::SetMaxInFlight { run, cap } => {
            share::set_max_in_flight(conn, *run, *cap).await?;
            Answer::Done
        }
        Request::SetBudget { run, budget, spent } => {
            Answer::Count(budget::set(conn, *run, *budget, *spent).await?)
        }
        Request::Label { run, label } => {
            Answer::Labelled(labels::append(conn, *run, label, now).await?, now)
        }
        Request::Prune(step) => Answer::Stepped(prune::step(conn, step, now).await?),
        Request::Retry { run, classes } => Answer::Count(run::retry(conn, *run, classes).await?),
        Request::Join { worker, dead } => {
            lease::join(conn, *worker, now).await?;
            for dead in dead {
                lease::take_back(conn, &Loss::Died { worker: *dead }).await?;
                lease::leave(conn, *dead).await?;
                batches::let_go(conn, *dead).await?;
            }
            Answer::Done
        }
        Request::Leave { workers } => {
            for worker in workers {
                lease::leave(conn, *worker).await?;
                batches::let_go(conn, *worker).await?;
            }
            Answer::Done
        }
        Request::Quota(change) => Answer::Granted(quota::apply(conn, change, now).await?),
        Request::Post(postings) => Answer::Posted(postings::post(conn, postings, now).await?),
        Request::Batch(change) => batches::apply(conn, change, now).await?,
        Request::Worker(word) => fleet::apply(conn, word, now).await?,
        Request::Complete(_)
        | Request::Fail(_)
        | Request::Release(_)
        | Request::Settle(_)
        | Request::Reserve(_)
        | Request::Claim(_) => return Ok(None),
    }))
}

/// The items of all requests of one kind, and how many each request has.
fn merged<'r, T>(
    requests: &'r [Request],
    items_of: impl Fn(&'r Request) -> Option<&'r [T]>,
) -> (Vec<&'r T>, Vec<(usize, usize)>) {
    let mut items = Vec::new();
    let mut counts = Vec::new();
    for (at, request) in requests.iter().enumerate() {
        if let Some(own) = items_of(request) {
            counts.push((at, own.len()));
            items.extend(own);
        }
    }
    (items, counts)
}

/// Gives each request its share of the merged outcomes.
fn split<T>(
    outcomes: Vec<T>,
    counts: Vec<(usize, usize)>,
    answer: impl Fn(Vec<T>) -> Answer,
    answers: &mut Vec<(usize, Answer)>,
) {
    let mut outcomes = outcomes.into_iter();
    for (at, count) in counts {
        answers.push((at, answer(outcomes.by_ref().take(count).collect())));
    }
}

async fn settlements(
    conn: &mut SqliteConnection,
    requests: &[Request],
    answers: &mut Vec<(usize, Answer)>,
) -> Result<(), sqlx::Error> {
    let (items, counts) = merged(requests, |request| match request {
        Request::Settle(items) => Some(items.as_slice()),
        _ => None,
    });
    budget::settle(conn, &items).await?;
    answers.extend(counts.into_iter().map(|(at, _)| (at, Answer::Done)));
    Ok(())
}

async fn reservations(
    conn: &mut SqliteConnection,
    requests: &[Request],
    now: i64,
    answers: &mut Vec<(usize, Answer)>,
) -> Result<(), sqlx::Error> {
    let (items, counts) = merged(requests, |request| match request {
        Request::Reserve(items) => Some(items.as_slice()),
        _ => None,
    });
    let outcomes = budget::reserve(conn, &items, now).await?;
    split(outcomes, counts, Answer::Reserved, answers);
    Ok(())
}

async fn completes(
    conn: &mut SqliteConnection,
    requests: &[Request],
    now: i64,
    answers: &mut Vec<(usize, Answer)>,
) -> Result<(), sqlx::Error> {
    let (items, counts) = merged(requests, |request| match request {
        Request::Complete(items) => Some(items.as_slice()),
        _ => None,
    });
    let outcomes = outcome::complete(conn, &items, now).await?;
    split(outcomes, counts, Answer::Completed, answers);
    Ok(())
}

async fn failures(
    conn: &mut SqliteConnection,
    requests: &[Request],
    now: i64,
    answers: &mut Vec<(usize, Answer)>,
) -> Result<(), sqlx::Error> {
    let (items, counts) = merged(requests, |request| match request {
        Request::Fail(items) => Some(items.as_slice()),
        _ => None,
    });
    let outcomes = outcome::fail(conn, &items, now).await?;
    split(outcomes, counts, Answer::Failed, answers);
    Ok(())
}

async fn releases(
    conn: &mut SqliteConnection,
    requests: &[Request],
    now: i64,
    answers: &mut Vec<(usize, Answer)>,
) -> Result<(), sqlx::Error> {
    let (items, counts) = merged(requests, |request| match request {
        Request::Release(items) => Some(items.as_slice()),
        _ => None,
    });
    outcome::release(conn, &items, now).await?;
    answers.extend(counts.into_iter().map(|(at, _)| (at, Answer::Done)));
    Ok(())
}

async fn claims(
    conn: &mut SqliteConnection,
    requests: &[Request],
    now: i64,
    answers: &mut Vec<(usize, Answer)>,
) -> Result<(), sqlx::Error> {
    let wanted = requests.iter().enumerate();
    let (places, claims): (Vec<usize>, Vec<ClaimRequest>) = wanted
        .filter_map(|(at, request)| match request {
            Request::Claim(claim) => Some((at, *claim)),
            _ => None,
        })
        .unzip();
    if claims.is_empty() {
        return Ok(());
    }
    let claimed = claim::claim(conn, &claims, now).await?;
    let claimed = claimed.into_iter().map(Answer::Claimed);
    answers.extend(places.into_iter().zip(claimed));
    Ok(())
}
