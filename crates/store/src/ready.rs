//! Runs with tasks that may be claimed, while a claim is picked from them.
//!
//! Owns what a claim knows of a run. Reading candidates and writing what was picked is the engine's.

use std::collections::VecDeque;

use tribunal_core::{LeafTask, RunId, Via};

use crate::share::Weight;

/// A run with tasks that may be claimed, and the candidates `C` read so far.
pub(crate) struct ReadyRun<C> {
    pub(crate) seq: i64,
    pub(crate) id: RunId,
    /// What its claims have used over its weight; level with the others when it had been idle.
    pub(crate) virtual_time: i64,
    pub(crate) weight: Weight,
    /// Whether its tasks take over verdicts of other runs, and wait for them.
    pub(crate) reuse: bool,
    pub(crate) budgeted: bool,
    pub(crate) via: Via,
    pub(crate) claimed: bool,
    /// Whether tasks were passed over because another run asks the same at this moment.
    pub(crate) held_back: bool,
    /// Virtual time, and whether it had ready tasks after the last claim, as the table has them.
    pub(crate) stored: (i64, bool),
    /// Candidates read and not yet picked.
    pub(crate) candidates: VecDeque<C>,
    /// Place of the last candidate read: turn, place, position, sample.
    pub(crate) read_to: [i64; 4],
    /// Whether there may be more than was read.
    pub(crate) more: bool,
}

// === impl ReadyRun ===

impl<C> ReadyRun<C> {
    pub(crate) fn has_changed(&self) -> bool {
        self.claimed || self.stored != (self.virtual_time, self.is_contending())
    }

    /// Whether a task may take over another run's verdict.
    pub(crate) fn takes_over(&self, task: &LeafTask) -> bool {
        self.reuse && task.rule.is_none()
    }

    /// Whether a task is ready still, be it one that waits for another run's verdict.
    pub(crate) fn is_contending(&self) -> bool {
        self.is_ready() || self.held_back
    }

    /// Whether a task is left, as far as is known; all that were found ready have one at first.
    pub(crate) fn is_ready(&self) -> bool {
        self.more || !self.candidates.is_empty()
    }
}
