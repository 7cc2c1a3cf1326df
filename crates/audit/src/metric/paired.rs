//! Tests of two or more judges on the same leaves.
//!
//! Owns the list. None of them says "significant": that word is the audit's, and needs papers.

pub mod cochran;
pub mod mcnemar;
pub mod multiple;
pub mod sign_flip;
