//! A tree with somebody's grades of its leaves.
//!
//! Owns reading one from a file's bytes: PaperBench's graded trees, bare or as `graded_task_tree`,
//! and Tribunal's `scored_tree.json`. A grade that is not valid is missing, never 0.

use std::sync::Arc;

use serde_json::Value;
use tribunal_core::{Rubric, rubric::parse::RubricError};

/// What a grader says of a leaf.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeafGrade {
    /// In [0, 1]; `None` where there is no valid grade.
    pub score: Option<f64>,
    /// The grader's words.
    pub explanation: String,
    /// The grader's own confidence in [0, 1], where one is given.
    pub confidence: Option<f64>,
}

/// A tree and the grades of its leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct GradedTree {
    /// What the user called it, for messages.
    pub name: String,
    /// The tree; what grades it carries is not read again.
    pub rubric: Arc<Rubric>,
    /// One grade a leaf, in depth-first order.
    pub grades: Vec<LeafGrade>,
    /// Whether the leaves' positions are those of the unpruned rubric.
    pub positions_known: bool,
}

/// A file that is no graded tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It is no tree.
    #[error(transparent)]
    Rubric(#[from] RubricError),
    /// It is a rubric without grades.
    #[error(
        "{file}: no node has a score; a graded tree has score and valid_score at every node, as \
         grader_output.json and expected_result.json do"
    )]
    NotGraded {
        /// The file.
        file: String,
    },
}

// === impl GradedTree ===

impl GradedTree {
    /// Reads a graded tree.
    ///
    /// # Errors
    ///
    /// The bytes are no valid tree, or no node of it is graded.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<GradedTree, TreeError> {
        let rubric = Rubric::parse(file, bytes)?;
        if !rubric.is_graded() {
            return Err(TreeError::NotGraded { file: file.to_owned() });
        }
        let grades = rubric
            .leaves()
            .map(|(_, leaf)| {
                let grade = leaf.grade.as_ref();
                // A scored tree has the judge's reasoning beside its grades.
                let recorded = grade.map(|grade| &grade.judge_metadata).filter(|m| !m.is_null());
                let recorded = recorded.or_else(|| leaf.other("rationale"));
                let confidence = recorded.and_then(|recorded| recorded.get("confidence"));
                let valid = |confidence: &f64| (0.0..=1.0).contains(confidence);
                LeafGrade {
                    score: leaf.valid_score(),
                    explanation: grade.map(|grade| grade.explanation.clone()).unwrap_or_default(),
                    confidence: confidence.and_then(Value::as_f64).filter(valid),
                }
            })
            .collect();
        let positions_known = rubric.root().other("position").is_some();
        Ok(GradedTree { name: file.to_owned(), rubric: Arc::new(rubric), grades, positions_known })
    }

    /// Depth-first positions of the leaves in the unpruned rubric, as far as the tree knows them.
    pub(crate) fn positions(&self) -> Vec<u32> {
        let recorded = |node: &tribunal_core::Node| {
            let position = node.other("position")?.as_u64()?;
            u32::try_from(position).ok()
        };
        self.rubric
            .leaves()
            .map(|(_, node)| recorded(node).unwrap_or_else(|| node.position()))
            .collect()
    }

    /// 0-based leaf indices in the unpruned rubric, as far as the tree knows them.
    pub(crate) fn leaf_indices(&self) -> Vec<u32> {
        self.rubric
            .leaves()
            .enumerate()
            .map(|(at, (_, node))| {
                let recorded = node.other("leaf_index").and_then(Value::as_u64);
                let recorded = recorded.and_then(|index| u32::try_from(index).ok());
                recorded.or(node.leaf_index()).unwrap_or(at as u32)
            })
            .collect()
    }
}
