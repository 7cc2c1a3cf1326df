//! Graded trees as pages: the self-contained report, and the same live from a store.
//!
//! Owns what a page looks like and what its scripts may do. Templates, styles and scripts are
//! files of `assets`, compiled in; every text from a rubric, a submission or a judge is escaped by
//! [`page`]. It never calls a judge, never writes a file, and computes no score of its own.

pub mod audit;
pub mod compare;
pub mod labelled;
pub mod model;
pub mod page;
pub mod plot;
pub mod read;
pub mod results;
mod sampling;
pub mod serve;
pub mod tree;
pub mod tune;

pub use audit::audit_page;
pub use compare::compare_page;
pub use model::GradedTree;
pub use page::{Page, PageError, Rendered};
pub use results::results_page;
pub use tree::tree_page;
pub use tune::tune_page;
