//! What can go wrong before the simulated judge answers.
//!
//! Owns the errors of starting and stopping. Faults on the wire are `faults`.

use std::{io, path::PathBuf};

use tribunal_core::rubric::parse::RubricError;

/// Why the simulated judge could not be started, or ended.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A setting has a value that makes no sense.
    #[error("sim: {setting} = {value}: {expected}")]
    Setting {
        /// The field of the config.
        setting: &'static str,
        /// The value given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A file of labels or rates cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of labels is no rubric tree.
    #[error(transparent)]
    Labels(#[from] RubricError),
    /// A file of labels holds no grade.
    #[error("{}: no leaf has a valid score; labels are graded trees, such as PaperBench's expected_result.json", path.display())]
    NoLabels {
        /// The file.
        path: PathBuf,
    },
    /// A file of rates is not what it should be.
    #[error("{}: {message}", path.display())]
    Rates {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line where it has one.
        message: String,
    },
    /// The port cannot be listened on.
    #[error(
        "cannot listen on 127.0.0.1:{port}: {source}; choose another port, or 0 for a free one"
    )]
    Listen {
        /// The port asked for.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The server ended by itself.
    #[error("the simulated judge ended: {0}")]
    Ended(String),
    /// [`Sim::start`](crate::Sim::start) was called outside of a tokio runtime.
    #[error("the simulated judge needs a tokio runtime to start in")]
    NoRuntime,
}
