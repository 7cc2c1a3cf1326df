//! Runs with tasks that may be claimed, while a claim is picked from them.
//!
//! Owns what a claim knows of a run. Reading candidates and writing what was picked is the engine's.

use std::{cmp::Reverse, collections::VecDeque};

use tribunal_core::{LeafTask, RunId, Via};

use crate::share::Weight;

/// A run with tasks that may be claimed, and the candidates `C` read so far.
pub(crate) struct ReadyRun<C> {
    pub(crate) seq: i64,
    pub(crate) id: RunId,
    /// What its claims have used over its weight; level with the others when it had been idle.
    pub(crate) virtual_time: i64,
    pub(crate) weight: Weight,
    pub(crate) priority: i32,
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
    /// How many of its tasks may be leased still.
    pub(crate) room: u32,
}

/// How many tasks of a run may be leased beside those that are: of a cap, `None` for any number, and
/// the leases.
pub(crate) fn room(cap: Option<i64>, leased: i64) -> u32 {
    cap.map_or(u32::MAX, |cap| u32::try_from((cap - leased).max(0)).unwrap_or(u32::MAX))
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

    /// Whether a task could be claimed still, be it one that waits for another run's verdict. A run at
    /// its cap could not: were it to contend, others would be held against the little that it has had.
    pub(crate) fn is_contending(&self) -> bool {
        self.room > 0 && (self.is_left() || self.held_back)
    }

    /// Whether a task is left to be picked; all that were found ready have one at first.
    pub(crate) fn is_ready(&self) -> bool {
        self.room > 0 && self.is_left()
    }

    /// Who is claimed from first: the least.
    pub(crate) fn rank(&self) -> (Reverse<i32>, i64) {
        (Reverse(self.priority), self.virtual_time)
    }

    /// Whether it starts level with the others: it could not be claimed from, and now it can.
    pub(crate) fn joins_in(&self) -> bool {
        !self.stored.1 && self.is_contending()
    }

    /// Notes that one of its tasks is claimed.
    pub(crate) fn charge(&mut self, task: &LeafTask) {
        self.virtual_time += self.weight.charge(task.estimated_tokens);
        self.claimed = true;
        self.room -= 1;
    }

    fn is_left(&self) -> bool {
        self.more || !self.candidates.is_empty()
    }
}
