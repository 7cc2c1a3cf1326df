//! Verdicts in, scored trees out: the last stretch of the way through the house.
//!
//! Owns the summary of a run's scores, the files that a run leaves behind, and their text for
//! people. It reads the store and never writes to it, and it never calls a judge. It never
//! prints.
//!
//! [`collect()`] scores a run from its outcomes alone; [`export()`] reads the verdicts in pages
//! and writes them as they come, so that memory grows with the rubric's tree and with nothing
//! else.

pub mod bill;
pub mod canary;
pub mod collect;
pub mod compare;
pub mod document;
pub mod export;
pub mod graded;
pub mod results;
pub mod summary;
pub mod table;
pub mod text;
pub mod tree;
pub mod votes;

pub use canary::{Canaries, CanaryResult, canaries, progress_of_leaves, without_canaries};
pub use collect::{CollectError, CollectOptions, Collected, collect};
pub use document::{CallCounts, GradeDocument, GradeState, OutcomeCounts};
pub use export::{ExportError, Exported, ExportedFile, check_writable, export, write_file};
pub use graded::{GradedTree, GradedTreeError};
pub use summary::{NoCodeDevelopment, NodeScore, ScoreSummary, graded_part};
pub use table::{closing_table, score_table};
pub use text::{TextStyle, duration, percent, sanitize, sanitize_line, thousands};
pub use tree::{TreeLine, draw_tree, scored_tree};
pub use votes::VoteCounts;
