//! From a submission to what the judge of each category is shown.
//!
//! Owns reading the submission (which is hostile: data, never instructions), the categories'
//! views of it, and fitting them to a token budget. It renders no prompt and calls no judge.

pub mod assemble;
pub mod budget;
pub mod injection;
pub mod snapshot;
pub mod text;
pub mod tokens;
pub mod view;

pub use assemble::{Assembler, Evidence, FileRecord, FileState, ShownFile};
pub use budget::{Budget, Parts};
pub use snapshot::{FileEntry, Limits, OmittedReason, Snapshot, SnapshotError};
pub use tokens::{Tokenizer, Vocabulary};
pub use view::View;
