//! Removing runs from the store in memory.
//!
//! Owns which blobs go with a run: those that no other run names, directly or by what it names.

use std::collections::HashMap;

use tribunal_core::{BlobHash, RunId};

use super::{State, Tables, Task};
use crate::{error::StoreError, reach::Reach, store::Pruned};

// === impl Tables ===

impl Tables {
    /// Removes a run of which no lease is held.
    pub(super) fn prune(&mut self, id: &RunId, now: i64) -> Result<Pruned, StoreError> {
        self.reap(usize::MAX, now);
        let tasks = &self.run(id)?.tasks;
        let leased = |task: &&Task| matches!(task.state, State::Leased { .. } | State::Posted);
        let leased = tasks.values().filter(leased);
        let leases = leased.count() as u64;
        if leases > 0 {
            return Err(StoreError::InUse { run: id.to_string(), leases });
        }
        let mut pruned = Pruned { tasks: tasks.len() as u64, ..Pruned::default() };
        for task in tasks.values() {
            pruned.attempts += task.attempts.len() as u64;
            pruned.verdicts += u64::from(task.verdict().is_some());
        }
        self.runs.retain(|run| run.record.run.id != *id);
        self.batches.retain(|batch| batch.run != *id);
        self.reservations.retain(|_, reservation| reservation.run != *id);
        if self.unnamed.is_empty() {
            let before = self.blobs.len();
            self.drop_unneeded();
            pruned.blobs = (before - self.blobs.len()) as u64;
        }
        Ok(pruned)
    }

    fn drop_unneeded(&mut self) {
        let mut reach = Reach::new(self.blobs.keys().copied().collect());
        for run in &self.runs {
            reach.mark(run.record.run.spec);
            for verdict in run.tasks.values().filter_map(|task| task.verdict()) {
                reach.look_into(&serde_json::to_vec(verdict).unwrap_or_default());
            }
        }
        let mut kept = HashMap::new();
        while let Some(hash) = reach.next() {
            if let Some(bytes) = self.blobs.get(&hash) {
                reach.look_into(bytes);
                kept.insert(hash, bytes.clone());
            }
        }
        self.blobs = kept;
    }

    /// Notes blobs that are put for a run that is not created yet.
    pub(super) fn note_put(&mut self, hash: BlobHash) {
        self.unnamed.insert(hash);
    }
}
