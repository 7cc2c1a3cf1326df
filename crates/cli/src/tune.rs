//! Tuning a judge: what `tribunal tune` is made of.
//!
//! Owns the way between the pure arithmetic of a tuning and the world: labels from files, candidates
//! from the config, questions as tasks of the same queue as any run's. Which question is asked next,
//! and what the answers say, is `tribunal_tune`'s.

pub(crate) mod bench;
pub(crate) mod candidates;
pub(crate) mod drafts;
pub(crate) mod files;
pub(crate) mod labels;
pub(crate) mod ledger;
pub(crate) mod proposals;
mod question;
mod spend;
pub(crate) mod text;
