//! From a submission to what the judge of each category is shown.
//!
//! Owns reading the submission (which is hostile: data, never instructions), the categories'
//! views of it, and fitting them to a token budget. It renders no prompt and calls no judge.

pub mod assemble;
pub mod budget;
pub mod injection;
pub mod log;
pub mod notebook;
pub mod pool;
pub mod profile;
pub mod select;
pub mod snapshot;
pub mod text;
pub mod tokens;
pub mod view;

pub use assemble::{Assembler, Evidence, FileRecord, FileState, PartRecord, ShownFile};
pub use budget::{Budget, Parts};
pub use pool::{Pool, PoolFile, Selected};
pub use profile::{Profile, ProfileError};
pub use select::{Document, Index, Selection, rank_files, select};
pub use snapshot::{FileEntry, Limits, OmittedReason, Snapshot, SnapshotError};
pub use tokens::{Counter, Tokenizer, Vocabulary};
pub use view::View;
