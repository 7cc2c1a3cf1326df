//! Whose turn it is when a pool works on many runs that belong together.
//!
//! Owns taking turns. Of many runs only some are admitted at once: what a worker holds of a run is
//! as large as its evidence, and a provider's cache forgets prefixes that come back late. Every
//! turn takes as many tasks of one run as there are free slots, since they share their prefix.
//! Another run is admitted when one has nothing left to do, or when no admitted one has a task
//! that may run now, so that a run that waits holds up no other.

use std::collections::VecDeque;

use tribunal_core::{RunId, RunState};
use tribunal_store::{Claim, RunRecord, Store, StoreError};

use super::Shared;
use crate::measure::timed;

/// Runs admitted at once while all of them have something to do.
const ADMITTED: usize = 16;

/// Runs in the order of their turns.
pub(super) struct Rota {
    admitted: VecDeque<RunId>,
    outside: VecDeque<RunId>,
}

// === impl Rota ===

impl Rota {
    /// These runs, the first of them admitted.
    pub(super) fn new(runs: &[RunId]) -> Self {
        let (admitted, outside) = runs.split_at(runs.len().min(ADMITTED));
        Self {
            admitted: admitted.iter().cloned().collect(),
            outside: outside.iter().cloned().collect(),
        }
    }

    /// Claims up to `slots` tasks of the next run that has any; none when no run has.
    pub(super) async fn claim(
        &mut self,
        pool: &Shared,
        slots: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        let mut turns = self.admitted.len();
        loop {
            if turns == 0 {
                let Some(run) = self.outside.pop_front() else { return Ok(Vec::new()) };
                self.admitted.push_front(run);
                turns = 1;
            }
            turns -= 1;
            let Some(run) = self.admitted.pop_front() else { return Ok(Vec::new()) };
            let (worker, lease) = (pool.worker, pool.config.lease);
            let claims = timed("claim", pool.store.claim(worker, slots, lease, Some(&run))).await?;
            if !claims.is_empty() {
                self.admitted.push_back(run);
                return Ok(claims);
            }
            if is_open(&*pool.store, &run).await? {
                self.admitted.push_back(run);
                continue;
            }
            pool.forget(&run);
            if let Some(next) = self.outside.pop_front() {
                self.admitted.push_front(next);
                turns += 1;
            }
        }
    }

    /// Whether no run waits to be admitted.
    pub(super) fn has_admitted_all(&self) -> bool {
        self.outside.is_empty()
    }

    /// The runs that are admitted; all that is left once nothing could be claimed.
    pub(super) async fn records(&self, store: &dyn Store) -> Result<Vec<RunRecord>, StoreError> {
        let mut records = Vec::with_capacity(self.admitted.len());
        for run in &self.admitted {
            records.push(store.run(run).await?);
        }
        Ok(records)
    }
}

/// Whether anything of the run may still be claimed.
async fn is_open(store: &dyn Store, run: &RunId) -> Result<bool, StoreError> {
    if store.run(run).await?.state != RunState::Active {
        return Ok(false);
    }
    let progress = store.progress(run).await?;
    Ok(progress.pending + progress.leased > 0)
}
