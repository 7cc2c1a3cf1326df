//! Questions on their way through a provider's batch API.
//!
//! Owns the nouns, and the part of the store's contract that is about them. A question is posted
//! under a claim: its task waits, without a lease, until the batch has a reply for it, and the next
//! claim brings that reply. What is at the provider and what was never sent is known by the batch's
//! own name alone, so whoever takes a batch over needs nothing of whoever made it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tribunal_core::{Attempt, BatchId, LeaseId, RunId, Via, WorkerId};

use crate::{budget::ReservationId, error::StoreError};

/// A question that goes into a batch.
#[derive(Clone, Debug)]
pub struct Posting {
    /// The run.
    pub run: RunId,
    /// Position of the task.
    pub position: u32,
    /// Sample of the task.
    pub sample: u32,
    /// The claim, which ends with it.
    pub lease: LeaseId,
    /// The batch, which the worker holds.
    pub batch: BatchId,
    /// What was reserved for it; settled when it is answered, and given back when it is not.
    pub reservation: Option<ReservationId>,
    /// What the worker wants to know again with the reply.
    pub question: Vec<u8>,
    /// Every call made under the claim, in order.
    pub attempts: Vec<Attempt>,
}

/// What became of a [`Posting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostOutcome {
    /// The task waits for the batch's reply.
    Posted,
    /// The lease is not the task's any more, the batch not the worker's, or the run is cancelled:
    /// nothing was written.
    Fenced,
}

/// A batch that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRecord {
    /// Its name.
    pub id: BatchId,
    /// The run that all its questions are of.
    pub run: RunId,
    /// The number of the run's judge that all its questions are for, as it was opened with.
    pub voter: u32,
    /// The provider's name for it; `None` until it is known that the provider has it.
    pub remote: Option<String>,
    /// Questions in it that have no reply yet.
    pub open: u64,
    /// When it was opened, milliseconds since the Unix epoch.
    pub opened_ms: i64,
}

/// The reply to one question of a batch.
#[derive(Clone, Debug)]
pub struct BatchReply {
    /// Position of the task.
    pub position: u32,
    /// Sample of the task.
    pub sample: u32,
    /// The reply, as the worker reads it.
    pub reply: Vec<u8>,
}

/// A question and its reply, as a claim brings them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What the worker posted with it.
    pub question: Arc<[u8]>,
    /// What was reserved for it.
    pub reservation: Option<ReservationId>,
    /// The reply.
    pub reply: Arc<[u8]>,
}

/// The part of [`Store`](crate::Store) that is about batches; its contract holds here too.
#[async_trait]
pub trait Batches: Send + Sync {
    /// Sets how a run's questions reach the judge, from the next claim on. A new run's go live.
    async fn set_via(&self, run: &RunId, via: Via) -> Result<(), StoreError>;

    /// Opens a batch `of` a run, for one of its judges, whose number is the caller's; the worker holds
    /// it for `ttl`. Idempotent by its id.
    async fn open_batch(
        &self,
        batch: BatchId,
        of: (&RunId, u32),
        worker: WorkerId,
        ttl: Duration,
    ) -> Result<(), StoreError>;

    /// Posts questions: compares the lease, ends it, and lets the task wait for the reply, in one
    /// transaction. What was posted for the task before is forgotten. Safe to repeat after an answer
    /// that was not heard.
    async fn post(
        &self,
        worker: WorkerId,
        postings: Vec<Posting>,
    ) -> Result<Vec<PostOutcome>, StoreError>;

    /// Holds batches for `ttl` from now: those that the worker holds, and those that nobody holds any
    /// more, because time has passed or the process has ended. `runs` limits it to some runs. Returns
    /// all of them, the oldest first.
    async fn take_batches(
        &self,
        worker: WorkerId,
        ttl: Duration,
        runs: Option<&[RunId]>,
    ) -> Result<Vec<BatchRecord>, StoreError>;

    /// The batches of a run, whoever holds them, the oldest first.
    async fn batches(&self, run: &RunId) -> Result<Vec<BatchRecord>, StoreError>;

    /// Whether the worker holds the batch; if it does, sets what the provider calls it and holds it for
    /// `ttl` from now.
    async fn mark_batch(
        &self,
        batch: BatchId,
        worker: WorkerId,
        ttl: Duration,
        remote: Option<String>,
    ) -> Result<bool, StoreError>;

    /// Stores replies and makes their tasks ready; those of a cancelled run keep their reply until
    /// `retry`. Returns how many are new: a reply for a question that is not open in this batch is
    /// passed over. Idempotent.
    async fn answer(&self, batch: BatchId, replies: Vec<BatchReply>) -> Result<u64, StoreError>;

    /// Ends a batch: questions without a reply go back to the queue as if they had not been posted,
    /// and what was reserved for them is free again. Returns how many. Idempotent.
    async fn end_batch(&self, batch: BatchId) -> Result<u64, StoreError>;
}
