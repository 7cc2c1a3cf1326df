//! How the process ends: the exit codes that scripts rely on.
//!
//! Owns the codes. Which one applies is each command's to say.

use std::process::ExitCode;

/// The end of a command that did not fail on bad input (which is code 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: complete.
    Complete,
    /// 1: a check failed.
    CheckFailed,
    /// 3: finished, coverage below the floor.
    Incomplete,
    /// 4: the judge's account or endpoint refuses; the run is paused.
    Refused,
    /// 5: a score is below `--fail-under`.
    FailUnder,
    /// 130: SIGINT; can be resumed.
    Interrupted,
    /// 143: SIGTERM; can be resumed.
    Terminated,
}

/// Usage or bad input.
pub(crate) const BAD_INPUT: u8 = 2;

// === impl Exit ===

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Complete => 0,
            Exit::CheckFailed => 1,
            Exit::Incomplete => 3,
            Exit::Refused => 4,
            Exit::FailUnder => 5,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        })
    }
}
