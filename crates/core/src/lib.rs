//! The nouns of Tribunal and the arithmetic on them: rubric, category, leaf, task, outcome,
//! verdict, score, event.
//!
//! Everything here is pure: no runtime, no file, no network, no clock. Other crates bring the
//! bytes; this one says what they mean.

pub mod canary;
pub mod category;
pub mod event;
pub mod failure;
pub mod ids;
pub mod price;
pub mod rubric;
pub mod run;
pub mod score;
pub mod task;
pub mod verdict;
pub mod vote;

pub use category::Category;
pub use failure::FailureClass;
pub use ids::{BatchId, BlobHash, ContentKey, LeaseId, RunId, TaskKey, WorkerId};
pub use price::Prices;
pub use rubric::{Node, Rubric};
pub use run::{JudgeSpec, ReplyForm, RunSpec, RunState, SelectionMethod};
pub use score::Score;
pub use task::LeafTask;
pub use verdict::{Attempt, CallKind, Outcome, UngradedReason, Usage, Verdict, VerdictSource, Via};
pub use vote::{Ballot, Juror, Voting};
