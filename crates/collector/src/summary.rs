//! The scores of a tree that scripts and people ask for first.
//!
//! Owns what `rescore` and `grade` have in common: which part of a rubric is graded, and the
//! root, the first level, the categories and the gaps of its scores. Computes no score itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::{
    Category, Node, Rubric, Score,
    run::GradeOptions,
    score::{TreeScores, by_category},
};

/// The scores of a tree: the fields of `rescore` in every document that has them.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ScoreSummary {
    /// The root.
    pub root: Score,
    /// The root's children in order; empty for a rubric of one leaf.
    pub first_level: Vec<NodeScore>,
    /// The root of the tree pruned to each category; null where it has no leaf. Subtree is listed
    /// only where it occurs.
    pub by_category: BTreeMap<Category, Option<Score>>,
    /// 0-based leaf indices, in the unpruned rubric, of the leaves without a score.
    pub ungraded_leaves: Vec<u32>,
}

/// A node and its score.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct NodeScore {
    /// The node's id; ids may repeat.
    pub id: String,
    /// Its score.
    #[serde(flatten)]
    pub score: Score,
}

/// A rubric of which only code is to be graded has no leaf that asks for code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the rubric has no Code Development leaf, so nothing of it can be graded with --code-only; \
     leave --code-only out"
)]
pub struct NoCodeDevelopment;

/// The part of a rubric that is graded, with the weights that count.
///
/// # Errors
///
/// [`NoCodeDevelopment`] when only code counts and there is none.
pub fn graded_part(rubric: Rubric, options: GradeOptions) -> Result<Rubric, NoCodeDevelopment> {
    options.apply(rubric).ok_or(NoCodeDevelopment)
}

// === impl ScoreSummary ===

impl ScoreSummary {
    /// Scores a pruned rubric; `leaf` gives a leaf's score in [0, 1], `None` if it is missing. In
    /// a disqualified submission every leaf is graded 0, by rule.
    pub fn new(
        rubric: &Rubric,
        leaf: impl Fn(&Node) -> Option<f64>,
        disqualified: bool,
    ) -> ScoreSummary {
        let leaf = |node: &Node| if disqualified { Some(0.0) } else { leaf(node) };
        ScoreSummary::of(rubric, &TreeScores::compute(rubric, leaf), leaf)
    }

    /// The summary of scores that were computed from this pruned rubric and these leaves.
    pub fn of(
        rubric: &Rubric,
        scores: &TreeScores,
        leaf: impl Fn(&Node) -> Option<f64>,
    ) -> ScoreSummary {
        let first_level = rubric
            .children(0)
            .map(|child| NodeScore {
                id: rubric.nodes()[child].id.clone(),
                score: *scores.node(child),
            })
            .collect();
        let ungraded_leaves = rubric
            .leaves()
            .filter(|(_, node)| leaf(node).is_none())
            .filter_map(|(_, node)| node.leaf_index())
            .collect();
        ScoreSummary {
            root: *scores.root(),
            first_level,
            by_category: by_category(rubric, leaf),
            ungraded_leaves,
        }
    }
}
