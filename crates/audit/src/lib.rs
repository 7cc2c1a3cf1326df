//! Judge against human: how far apart they are, in which direction, what that does to a score,
//! and how sure all of it is.
//!
//! Owns pairing and statistics. Pure: bytes and numbers in, numbers out; no file, no network, no
//! clock, no terminal.
//!
//! [`pair`] brings grades of the same leaves together, [`audit()`] computes the document of them,
//! and [`metric`] holds the formulas, one a file.

pub mod audit;
pub mod calibration;
pub mod document;
pub mod metric;
pub mod pair;
pub mod sheet;
pub mod tree;
pub mod votes;

pub use audit::{AuditOptions, audit};
pub use calibration::Calibration;
pub use document::AuditDocument;
pub use pair::{PairError, Paired};
pub use tree::{GradedTree, LeafGrade};
