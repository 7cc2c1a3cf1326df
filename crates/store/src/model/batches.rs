//! Batches in the store in memory.
//!
//! Owns opening, posting, answering and ending them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tribunal_core::{BatchId, LeaseId, RunId, RunState, Via, WorkerId};

use super::{ModelStore, State, Tables, after};
use crate::{
    batches::{Answered, BatchRecord, BatchReply, Batches, PostOutcome, Posting},
    budget::{Amount, ReservationId, Settlement},
    error::StoreError,
    share::used_tokens,
};

/// A batch that has not ended.
pub(super) struct Batch {
    id: BatchId,
    pub(super) run: RunId,
    voter: u32,
    remote: Option<String>,
    worker: WorkerId,
    held_until: i64,
    opened_ms: i64,
}

/// What was posted for a task.
pub(super) struct Posted {
    batch: BatchId,
    lease: LeaseId,
    pub(super) reservation: Option<ReservationId>,
    question: Arc<[u8]>,
    pub(super) reply: Option<Arc<[u8]>>,
}

// === impl Posted ===

impl Posted {
    /// The question with its reply, if there is one.
    pub(super) fn answered(&self) -> Option<Box<Answered>> {
        let reply = self.reply.clone()?;
        let (question, reservation) = (self.question.clone(), self.reservation);
        Some(Box::new(Answered { question, reservation, reply }))
    }
}

#[async_trait]
impl Batches for ModelStore {
    async fn set_via(&self, run: &RunId, via: Via) -> Result<(), StoreError> {
        self.tables().run(run)?.record.via = via;
        Ok(())
    }

    async fn open_batch(
        &self,
        batch: BatchId,
        (run, voter): (&RunId, u32),
        worker: WorkerId,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let now = self.clock.now_ms();
        let mut tables = self.tables();
        tables.run(run)?;
        if !tables.batches.iter().any(|known| known.id == batch) {
            tables.batches.push(Batch {
                id: batch,
                run: run.clone(),
                voter,
                remote: None,
                worker,
                held_until: after(now, ttl),
                opened_ms: now,
            });
        }
        Ok(())
    }

    async fn post(
        &self,
        worker: WorkerId,
        postings: Vec<Posting>,
    ) -> Result<Vec<PostOutcome>, StoreError> {
        let now = self.clock.now_ms();
        let mut tables = self.tables();
        Ok(postings.into_iter().map(|posting| tables.post(worker, posting, now)).collect())
    }

    async fn take_batches(
        &self,
        worker: WorkerId,
        ttl: Duration,
        runs: Option<&[RunId]>,
    ) -> Result<Vec<BatchRecord>, StoreError> {
        let now = self.clock.now_ms();
        let mut tables = self.tables();
        let named = |batch: &Batch| runs.is_none_or(|runs| runs.contains(&batch.run));
        for batch in tables.batches.iter_mut().filter(|batch| named(batch)) {
            if batch.worker == worker || batch.held_until <= now {
                (batch.worker, batch.held_until) = (worker, after(now, ttl));
            }
        }
        Ok(tables.batch_records(|batch| named(batch) && batch.worker == worker))
    }

    async fn batches(&self, run: &RunId) -> Result<Vec<BatchRecord>, StoreError> {
        let mut tables = self.tables();
        tables.run(run)?;
        Ok(tables.batch_records(|batch| batch.run == *run))
    }

    async fn mark_batch(
        &self,
        batch: BatchId,
        worker: WorkerId,
        ttl: Duration,
        remote: Option<String>,
    ) -> Result<bool, StoreError> {
        let now = self.clock.now_ms();
        let mut tables = self.tables();
        let held = |known: &&mut Batch| {
            known.id == batch && known.worker == worker && known.held_until > now
        };
        let Some(known) = tables.batches.iter_mut().find(held) else { return Ok(false) };
        (known.remote, known.held_until) = (remote, after(now, ttl));
        Ok(true)
    }

    async fn answer(&self, batch: BatchId, replies: Vec<BatchReply>) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let known = tables.batches.iter().find(|known| known.id == batch);
        let Some(run) = known.map(|known| known.run.clone()) else { return Ok(0) };
        let run = tables.run(&run)?;
        let mut new = 0;
        for BatchReply { position, sample, reply } in replies {
            let Some(task) = run.tasks.get_mut(&(position, sample)) else { continue };
            let open = |posted: &&mut Posted| posted.batch == batch && posted.reply.is_none();
            if let Some(posted) = task.posted.as_mut().filter(open) {
                posted.reply = Some(reply.into());
                task.wake();
                new += 1;
            }
        }
        Ok(new)
    }

    async fn end_batch(&self, batch: BatchId) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let (mut ended, mut free) = (0, Vec::new());
        for run in &mut tables.runs {
            for task in run.tasks.values_mut() {
                let open = |posted: &mut Posted| posted.batch == batch && posted.reply.is_none();
                if let Some(posted) = task.posted.take_if(open) {
                    free.extend(posted.reservation.map(|id| (run.record.run.id.clone(), id)));
                    task.wake();
                    ended += 1;
                }
            }
        }
        for (run, id) in free {
            tables.settle_reservation(&Settlement { run, id, actual: Amount::default() });
        }
        tables.batches.retain(|known| known.id != batch);
        Ok(ended)
    }
}

// === impl Tables ===

impl Tables {
    fn post(&mut self, worker: WorkerId, posting: Posting, now: i64) -> PostOutcome {
        let Posting { run, position, sample, lease, batch, reservation, question, attempts } =
            posting;
        let key = (position, sample);
        let held = self.batches.iter().any(|known| {
            known.id == batch
                && known.run == run
                && known.worker == worker
                && known.held_until > now
        });
        if let Some((RunState::Active | RunState::Paused, task)) =
            self.held(&run, key, lease, now).filter(|_| held)
        {
            let used = used_tokens(&attempts);
            task.attempts.extend(attempts);
            task.first_claim_ms = None;
            task.forgive_losses();
            task.state = State::Posted;
            task.posted =
                Some(Posted { batch, lease, reservation, question: question.into(), reply: None });
            self.settle(&run, key, used);
            return PostOutcome::Posted;
        }
        let task = self.find(&run).and_then(|run| run.tasks.get(&key));
        match task.and_then(|task| task.posted.as_ref()) {
            Some(posted) if posted.lease == lease => PostOutcome::Posted,
            _ => PostOutcome::Fenced,
        }
    }

    fn batch_records(&self, which: impl Fn(&Batch) -> bool) -> Vec<BatchRecord> {
        let mut open: BTreeMap<BatchId, u64> = BTreeMap::new();
        for task in self.runs.iter().flat_map(|run| run.tasks.values()) {
            let posted = task.posted.as_ref().filter(|posted| posted.reply.is_none());
            if let Some(posted) = posted {
                *open.entry(posted.batch).or_default() += 1;
            }
        }
        let record = |batch: &Batch| BatchRecord {
            id: batch.id,
            run: batch.run.clone(),
            voter: batch.voter,
            remote: batch.remote.clone(),
            open: open.get(&batch.id).copied().unwrap_or_default(),
            opened_ms: batch.opened_ms,
        };
        let mut records: Vec<_> = self.batches.iter().filter(|b| which(b)).map(record).collect();
        records.sort_by_key(|record| (record.opened_ms, record.id));
        records
    }
}
