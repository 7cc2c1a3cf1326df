//! What `grade` and `collect` say about a run, as scripts read it.
//!
//! Owns the document's shape, and the rule that names a run's state. Nothing here reads a store.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::{RunId, RunState, UngradedReason, Usage};
use tribunal_store::{Progress, RunTotals};

use crate::{bill::Bill, canary::Canaries, summary::ScoreSummary, votes::VoteCounts};

/// The document of `grade` and `collect`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct GradeDocument {
    /// The run's id.
    pub run: RunId,
    /// How far it got.
    pub state: GradeState,
    /// Whether a simulated judge answered: the scores then say nothing about the submission.
    pub simulated: bool,
    /// The judge's name in the config.
    pub judge: String,
    /// The model's name as the endpoint knows it.
    pub model: String,
    /// The scores.
    #[serde(flatten)]
    pub summary: ScoreSummary,
    /// Leaves by outcome.
    pub outcomes: OutcomeCounts,
    /// Leaves with known answers that the judge was asked about beside the rubric's; null where none
    /// was planted.
    pub canaries: Option<Canaries>,
    /// How far the votes agree; null where every leaf has one.
    pub votes: Option<VoteCounts>,
    /// Calls, whatever came of them.
    pub calls: CallCounts,
    /// Tokens of all calls.
    pub tokens: Usage,
    /// What the calls cost, in US dollars; null where no price is known.
    pub cost_usd: Option<f64>,
    /// What they cost by what they were for, and against the plan.
    pub bill: Bill,
    /// First claim to last verdict, in seconds.
    pub wall_s: f64,
    /// The folder with the run's files; null where none were written.
    pub out: Option<String>,
}

/// How far a run got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GradeState {
    /// Every leaf was asked, and coverage reaches the floor.
    Complete,
    /// Coverage is below the floor, or leaves are still to be asked.
    Incomplete,
    /// Nothing more is asked until it is resumed.
    Paused,
    /// What was not finished stays ungraded.
    Cancelled,
    /// A signal ended the command; the same command again goes on.
    Interrupted,
}

/// Leaves by outcome. Those decided by a rule and reused ones are graded ones too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OutcomeCounts {
    /// Leaves with a score.
    pub graded: u64,
    /// Graded leaves, or votes where leaves have several, that a rule decided, without a call.
    pub by_rule: u64,
    /// Graded leaves, or votes where leaves have several, whose verdict an earlier run made.
    pub reused: u64,
    /// Leaves without a score, by reason.
    pub ungraded: BTreeMap<UngradedReason, u64>,
}

/// Calls of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CallCounts {
    /// Calls with a usable reply, for verdicts.
    pub judge: u64,
    /// Calls with a usable reply, for rankings of files.
    pub rank: u64,
    /// Second questions after bad replies, with a usable reply.
    pub repair: u64,
    /// Calls answered with 429.
    pub rejected: u64,
    /// Calls that failed otherwise.
    pub failed: u64,
}

// === impl GradeState ===

impl GradeState {
    /// The state of a run with these tasks and this coverage of its root.
    ///
    /// What workers may do with a run matters only where something is left to do: a run that was
    /// paused after its last verdict is complete.
    pub(crate) fn of(
        state: RunState,
        progress: &Progress,
        leaves: u64,
        coverage: f64,
        floor: f64,
        interrupted: bool,
    ) -> GradeState {
        let asked = progress.pending + progress.leased == 0 && progress.leaves >= leaves;
        let covered = coverage >= floor;
        match state {
            RunState::Cancelled if !(asked && covered) => GradeState::Cancelled,
            RunState::Paused if !asked => GradeState::Paused,
            _ if !asked && interrupted => GradeState::Interrupted,
            _ if asked && covered => GradeState::Complete,
            _ => GradeState::Incomplete,
        }
    }

    /// The name in documents and tables.
    pub fn name(self) -> &'static str {
        match self {
            GradeState::Complete => "complete",
            GradeState::Incomplete => "incomplete",
            GradeState::Paused => "paused",
            GradeState::Cancelled => "cancelled",
            GradeState::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for GradeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// === impl CallCounts ===

impl From<&RunTotals> for CallCounts {
    fn from(totals: &RunTotals) -> CallCounts {
        CallCounts {
            judge: totals.judge_calls,
            rank: totals.rank_calls,
            repair: totals.repair_calls,
            rejected: totals.rejected,
            failed: totals.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(pending: u64, leased: u64, done: u64) -> Progress {
        Progress { leaves: pending + leased + done, pending, leased, done, ..Progress::default() }
    }

    #[test]
    fn the_state_follows_from_tasks_and_coverage() {
        use RunState::{Active, Cancelled, Paused};
        let (done, left) = (tasks(0, 0, 10), tasks(1, 2, 7));
        let of = |state, progress: &Progress, coverage, interrupted| {
            GradeState::of(state, progress, 10, coverage, 0.9, interrupted)
        };
        assert_eq!(of(Active, &done, 1.0, false), GradeState::Complete);
        assert_eq!(of(Active, &done, 0.9, false), GradeState::Complete);
        assert_eq!(of(Active, &done, 0.89, false), GradeState::Incomplete);
        assert_eq!(of(Active, &left, 0.95, false), GradeState::Incomplete);
        assert_eq!(of(Active, &left, 0.95, true), GradeState::Interrupted);
        assert_eq!(of(Active, &done, 1.0, true), GradeState::Complete);
        assert_eq!(of(Paused, &left, 0.7, true), GradeState::Paused);
        assert_eq!(of(Paused, &done, 1.0, false), GradeState::Complete);
        assert_eq!(of(Cancelled, &done, 0.5, false), GradeState::Cancelled);
        assert_eq!(of(Cancelled, &done, 1.0, false), GradeState::Complete);
        let few = tasks(0, 0, 9);
        assert_eq!(of(Active, &few, 1.0, false), GradeState::Incomplete);
    }
}
