//! A leaf as the queue knows it.
//!
//! Owns the slim row that is enqueued and claimed. Criterion, paper and evidence stay in the
//! run's blobs: a task of a rubric of 100,000 leaves is a few hundred bytes.

use serde::{Deserialize, Serialize};

use crate::{category::Category, ids::ContentKey};

/// One question for the judge: a leaf of a run, and which of its samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafTask {
    /// Depth-first position of the node in the unpruned rubric, root 0.
    pub position: u32,
    /// 0-based sample.
    pub sample: u32,
    /// The node's id, as the rubric has it; ids may repeat.
    pub id: String,
    /// The requirement type, which decides the evidence.
    pub category: Category,
    /// Hash of everything that can change the verdict.
    pub content_key: ContentKey,
    /// Place in the claim order: tasks that share a prompt prefix stand together.
    pub order: u32,
    /// Prompt and reply tokens expected, for fair shares between runs.
    pub estimated_tokens: u32,
    /// The rule that decides this leaf without a call, where one does.
    pub rule: Option<String>,
}
