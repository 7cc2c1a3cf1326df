//! How a run stands, in the one word that commands and metrics say.
//!
//! Owns the word. What workers may do with a run is recorded by the store, and matters only where
//! something is left to do: a run whose last leaf is graded stays `active` there.

use tribunal_core::RunState;
use tribunal_store::Progress;

/// A run whose leaves all have a score.
pub(crate) const COMPLETE: &str = "complete";

/// A run that nothing is left to do of, and of which something has no score.
const INCOMPLETE: &str = "incomplete";

/// Every word.
pub(crate) const ALL: [&str; 5] = [
    RunState::Active.name(),
    RunState::Paused.name(),
    RunState::Cancelled.name(),
    COMPLETE,
    INCOMPLETE,
];

/// The word for a run that is recorded as `state` and whose leaves are so far.
pub(crate) fn word(state: RunState, leaves: &Progress) -> &'static str {
    let open = leaves.pending + leaves.leased;
    let missing = leaves.ungraded.values().any(|count| *count > 0);
    match state {
        RunState::Cancelled if missing || open > 0 => RunState::Cancelled.name(),
        _ if open == 0 && missing => INCOMPLETE,
        _ if open == 0 => COMPLETE,
        state => state.name(),
    }
}

#[cfg(test)]
mod tests {
    use tribunal_core::UngradedReason;

    use super::*;

    #[test]
    fn what_is_recorded_matters_while_something_is_left() {
        let done = Progress { leaves: 3, done: 3, ..Progress::default() };
        let open = Progress { leaves: 3, done: 2, pending: 1, ..Progress::default() };
        let mut dead = Progress { leaves: 3, done: 2, dead: 1, ..Progress::default() };
        dead.ungraded.insert(UngradedReason::LostLease, 1);
        for (state, name) in [
            (RunState::Active, "active"),
            (RunState::Paused, "paused"),
            (RunState::Cancelled, "cancelled"),
        ] {
            assert_eq!(word(state, &open), name);
            assert_eq!(word(state, &done), "complete");
        }
        assert_eq!(word(RunState::Active, &dead), "incomplete");
        assert_eq!(word(RunState::Cancelled, &dead), "cancelled");
    }
}
