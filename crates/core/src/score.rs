//! Scores of a tree whose leaves may be missing.
//!
//! Owns the weighted mean bottom up with its bounds and coverage. Reads leaves through a
//! function, so that it serves verdicts, graded files and what-if changes alike; knows no file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    category::Category,
    rubric::{Node, Rubric},
};

/// The score of a node, and how sure it is.
///
/// Scores are in [0, 1]. `lower` counts every missing leaf as 0, `upper` as 1. A group whose
/// weights sum to 0 has score, lower and upper 0 and coverage 1, as PaperBench's does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Score {
    /// The weighted mean, only where all of the weight is graded.
    pub score: Option<f64>,
    /// The score if every missing leaf were 0.
    pub lower: f64,
    /// The score if every missing leaf were 1.
    pub upper: f64,
    /// Share of the node's weight that is graded, in [0, 1]; exactly 1 when nothing is missing.
    pub coverage: f64,
    /// Leaves below, or 1 for a leaf.
    pub leaves: u32,
    /// Leaves without a score among them.
    pub ungraded: u32,
}

/// The scores of all nodes of a rubric.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeScores {
    nodes: Vec<Score>,
}

/// A sum of children, still to be divided by their weight.
#[derive(Clone, Copy)]
struct Partial {
    weight: f64,
    lower: f64,
    upper: f64,
    coverage: f64,
    complete: bool,
    leaves: u32,
    ungraded: u32,
}

// === impl Score ===

impl Score {
    /// The score of a leaf.
    pub fn leaf(score: Option<f64>) -> Score {
        Score {
            score,
            lower: score.unwrap_or(0.0),
            upper: score.unwrap_or(1.0),
            coverage: if score.is_some() { 1.0 } else { 0.0 },
            leaves: 1,
            ungraded: u32::from(score.is_none()),
        }
    }
}

// === impl TreeScores ===

impl TreeScores {
    /// Scores every node of `rubric`; `leaf` gives a leaf's score in [0, 1], `None` if missing.
    pub fn compute(rubric: &Rubric, leaf: impl Fn(&Node) -> Option<f64>) -> TreeScores {
        TreeScores::of_leaves(rubric, |_| true, leaf)
    }

    /// Scores the tree as if it had only the leaves that `keep` keeps, and the inner nodes above
    /// them. Nodes that are not kept have no leaves and a meaningless score.
    fn of_leaves(
        rubric: &Rubric,
        keep: impl Fn(&Node) -> bool,
        leaf: impl Fn(&Node) -> Option<f64>,
    ) -> TreeScores {
        let nodes = rubric.nodes();
        let mut sums = vec![Partial::EMPTY; nodes.len()];
        let mut scores = vec![Partial::EMPTY.finish(); nodes.len()];
        // Depth-first order puts children behind their parent: backwards, each node is complete
        // before it is added to its parent.
        for (index, node) in nodes.iter().enumerate().rev() {
            if node.is_leaf() && keep(node) {
                scores[index] = Score::leaf(leaf(node));
            } else {
                scores[index] = sums[index].finish();
            }
            if let Some(parent) = node.parent().filter(|_| scores[index].leaves > 0) {
                sums[parent].add(node.weight, &scores[index]);
            }
        }
        TreeScores { nodes: scores }
    }

    /// The score of the node at this index of [`Rubric::nodes`].
    pub fn node(&self, index: usize) -> &Score {
        &self.nodes[index]
    }

    /// The root's score.
    pub fn root(&self) -> &Score {
        &self.nodes[0]
    }
}

/// The root's score for each of the three categories alone, as PaperBench prunes them; `None`
/// for a category without leaves.
pub fn by_category(
    rubric: &Rubric,
    leaf: impl Fn(&Node) -> Option<f64>,
) -> BTreeMap<Category, Option<Score>> {
    Category::ALL
        .into_iter()
        .filter_map(|category| {
            // The same sums as of `Rubric::only`, without a copy of the tree.
            let of_category = |node: &Node| node.category == Some(category);
            let scores = TreeScores::of_leaves(rubric, of_category, &leaf);
            let score = Some(*scores.root()).filter(|root| root.leaves > 0);
            // A subtree is no requirement type of the rubric: it is listed only where it occurs.
            if category == Category::Subtree && score.is_none() {
                return None;
            }
            Some((category, score))
        })
        .collect()
}

// === impl Partial ===

impl Partial {
    const EMPTY: Partial = Partial {
        weight: 0.0,
        lower: 0.0,
        upper: 0.0,
        coverage: 0.0,
        complete: true,
        leaves: 0,
        ungraded: 0,
    };

    fn add(&mut self, weight: f64, child: &Score) {
        self.weight += weight;
        self.lower += weight * child.lower;
        self.upper += weight * child.upper;
        self.coverage += weight * child.coverage;
        self.complete &= weight == 0.0 || child.score.is_some();
        self.leaves += child.leaves;
        self.ungraded += child.ungraded;
    }

    fn finish(&self) -> Score {
        let mean = |sum: f64| {
            if self.weight == 0.0 { 0.0 } else { (sum / self.weight).clamp(0.0, 1.0) }
        };
        let lower = mean(self.lower);
        Score {
            score: self.complete.then_some(lower),
            lower,
            // Rounding may put the sum of complete children a hair apart: they are the same sum.
            upper: if self.complete { lower } else { mean(self.upper).max(lower) },
            coverage: if self.complete { 1.0 } else { mean(self.coverage).min(BELOW_ONE) },
            leaves: self.leaves,
            ungraded: self.ungraded,
        }
    }
}

/// The largest coverage of a node that misses something: weights may differ by more than a
/// double can tell, and coverage 1 says that nothing is missing.
const BELOW_ONE: f64 = 1.0 - f64::EPSILON;
