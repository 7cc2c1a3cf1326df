//! What one process has done, for the document that it ends with.
//!
//! Owns counting the pool's events by run. What a run holds in all is the store's to say: others may
//! work on it too.

use std::collections::BTreeMap;

use tribunal_collector::CallCounts;
use tribunal_core::{CallKind, FailureClass, RunId, UngradedReason, Usage, canary, event::Event};

/// The counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// The runs of which something was asked or decided.
    pub(crate) runs: BTreeMap<RunId, RunTally>,
    /// Calls, whatever came of them.
    pub(crate) calls: CallCounts,
    /// Their tokens.
    pub(crate) tokens: Usage,
    cost_usd: f64,
    /// Whether a reply came whose price nobody knows.
    is_unpriced: bool,
}

/// What was done of one run. A canary is no leaf.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunTally {
    /// Leaves with a verdict.
    pub(crate) done: u64,
    /// Leaves given up.
    pub(crate) dead: u64,
    /// Those of both without a score, by reason.
    pub(crate) ungraded: BTreeMap<UngradedReason, u64>,
    /// Whether a reply said that it is simulated.
    pub(crate) any_simulated: bool,
}

// === impl Tally ===

impl Tally {
    /// Takes a fact in.
    pub(crate) fn count(&mut self, event: &Event) {
        match event {
            Event::CallEnded { task, kind, class, usage, cost_usd, simulated, .. } => {
                let calls = &mut self.calls;
                *match (class, kind) {
                    (None, CallKind::Judge) => &mut calls.judge,
                    (None, CallKind::Rank) => &mut calls.rank,
                    (None, CallKind::Repair) => &mut calls.repair,
                    (Some(FailureClass::Throttled), _) => &mut calls.rejected,
                    (Some(_), _) => &mut calls.failed,
                } += 1;
                self.tokens += *usage;
                self.cost_usd += cost_usd.unwrap_or(0.0);
                self.is_unpriced |= class.is_none() && cost_usd.is_none();
                self.run(&task.run).any_simulated |= *simulated;
            }
            Event::Stored { task, outcome, .. } if !canary::is_canary(task.position) => {
                let run = self.run(&task.run);
                run.done += 1;
                if let Some(reason) = outcome.ungraded() {
                    *run.ungraded.entry(reason).or_default() += 1;
                }
            }
            Event::Dead { task, class, .. } if !canary::is_canary(task.position) => {
                let run = self.run(&task.run);
                run.dead += 1;
                *run.ungraded.entry(class.ungraded_reason()).or_default() += 1;
            }
            _ => {}
        }
    }

    /// What the calls have cost, in US dollars, as far as their outcome is known; `None` where a price
    /// is not.
    pub(crate) fn cost_usd(&self) -> Option<f64> {
        (!self.is_unpriced).then_some(self.cost_usd)
    }

    fn run(&mut self, run: &RunId) -> &mut RunTally {
        self.runs.entry(run.clone()).or_default()
    }
}
