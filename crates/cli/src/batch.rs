//! Batches: many trees graded as one.
//!
//! Owns what a batch is and how it is recorded. Its rows come from `trees::manifest`, its trees are
//! graded like any other run.

pub(crate) mod document;
