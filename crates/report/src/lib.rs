//! Graded trees as pages: the self-contained report.
//!
//! Owns what a page looks like and what its scripts may do. Templates, styles and scripts are
//! files of `assets`, compiled in; every text from a rubric, a submission or a judge is escaped by
//! [`page`]. It never calls a judge, never writes a file, and computes no score of its own.

pub mod model;
pub mod page;
pub mod read;
pub mod tree;

pub use model::GradedTree;
pub use page::{Page, PageError, Rendered};
pub use tree::tree_page;
