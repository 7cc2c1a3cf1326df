//! Worker processes in the store in memory.
//!
//! Owns what they say of themselves.

use async_trait::async_trait;
use tribunal_core::WorkerId;

use super::{ModelStore, State, Tables};
use crate::{
    error::StoreError,
    fleet::{Fleet, LISTED_MS, WorkerRecord, length},
    process::Process,
};

/// A worker that has joined.
pub(super) struct Worker {
    id: WorkerId,
    joined_ms: i64,
    seen_ms: i64,
    done: u64,
    draining: bool,
}

// === impl Tables ===

impl Tables {
    pub(super) fn join(&mut self, id: WorkerId, now: i64) {
        self.workers.retain(|worker| now - worker.seen_ms <= LISTED_MS);
        if self.workers.iter().all(|worker| worker.id != id) {
            let worker = Worker { id, joined_ms: now, seen_ms: now, done: 0, draining: false };
            self.workers.push(worker);
        }
    }

    fn held_by(&self, id: WorkerId) -> u64 {
        let tasks = self.runs.iter().flat_map(|run| run.tasks.values());
        let held = |state: &State| matches!(state, State::Leased { worker, .. } if *worker == id);
        tasks.filter(|task| held(&task.state)).count() as u64
    }
}

#[async_trait]
impl Fleet for ModelStore {
    async fn report(&self, worker: WorkerId, done: u64) -> Result<bool, StoreError> {
        let now = self.clock.now_ms();
        let mut tables = self.tables();
        let known = tables.workers.iter_mut().find(|known| known.id == worker);
        Ok(known.is_some_and(|known| {
            (known.seen_ms, known.done) = (now, done);
            known.draining
        }))
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>, StoreError> {
        let (now, own) = (self.clock.now_ms(), Process::own());
        let tables = self.tables();
        let record = |worker: &Worker| WorkerRecord {
            id: worker.id,
            host: own.host.clone(),
            pid: own.pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            joined_ms: worker.joined_ms,
            silent_ms: length(now - worker.seen_ms),
            worked_ms: length(worker.seen_ms - worker.joined_ms),
            in_flight: tables.held_by(worker.id),
            done: worker.done,
            draining: worker.draining,
        };
        let mut records: Vec<WorkerRecord> = tables.workers.iter().map(record).collect();
        records.sort_by_key(|record| (record.joined_ms, record.id));
        Ok(records)
    }

    async fn drain(&self, worker: WorkerId) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let known = tables.workers.iter_mut().find(|known| known.id == worker);
        Ok(known.is_some_and(|known| {
            known.draining = true;
            true
        }))
    }
}
