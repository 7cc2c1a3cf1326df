//! The documents of commands that need no run.
//!
//! Owns their shapes, as scripts read them. A field is never renamed without a new schema number.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use tribunal_collector::ScoreSummary;
use tribunal_core::{
    Category, Rubric,
    rubric::{
        lint::{Warning, duplicate_ids},
        parse::Problem,
    },
};

/// The document of `rescore`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RescoreDocument {
    /// Whether the file says that its judge was simulated.
    pub(crate) simulated: bool,
    #[serde(flatten)]
    pub(crate) summary: ScoreSummary,
}

/// The document of `rubric check`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RubricCheckDocument {
    /// The files that could be read, in the order given.
    pub(crate) files: Vec<CheckedFile>,
}

/// One file of `rubric check`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckedFile {
    /// The file as it was named.
    pub(crate) file: String,
    /// Whether it can be used.
    pub(crate) valid: bool,
    /// Why it cannot, in document order.
    pub(crate) problems: Vec<FileProblem>,
    /// Problems beyond those listed.
    pub(crate) more_problems: usize,
    /// What is likely a mistake in a file that can be used.
    pub(crate) warnings: Vec<Warning>,
}

/// One thing that is wrong with a file.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FileProblem {
    /// Where in the document, as a JSON path.
    pub(crate) path: String,
    /// 1-based line.
    pub(crate) line: usize,
    /// 1-based column, in bytes.
    pub(crate) column: usize,
    /// What is wrong and what is expected.
    pub(crate) message: String,
}

/// The document of `rubric show`: the rubric as it would be graded.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RubricShowDocument {
    /// Nodes, leaves among them.
    pub(crate) nodes: usize,
    /// Leaves.
    pub(crate) leaves: usize,
    /// The greatest depth of a node, the root being 1.
    pub(crate) depth: u32,
    /// Leaves of each category that has any.
    pub(crate) categories: BTreeMap<Category, usize>,
    /// Ids that stand at more than one node, in the order of their first place.
    pub(crate) duplicate_ids: Vec<String>,
    /// The leaves' ids in depth-first order; ids may repeat.
    pub(crate) leaf_ids: Vec<String>,
    /// The leaves' categories, in the same order.
    pub(crate) leaf_categories: Vec<Category>,
    /// The leaves' shares of the root's score, in the same order.
    pub(crate) leaf_weights: Vec<f64>,
    /// 0-based leaf indices, in the unpruned rubric, of the leaves of weight 0.
    pub(crate) zero_weight_leaves: Vec<u32>,
    /// What is likely a mistake. Paths are those of the file, also where it is pruned.
    pub(crate) warnings: Vec<Warning>,
}

// === impl FileProblem ===

impl From<Problem> for FileProblem {
    fn from(problem: Problem) -> FileProblem {
        let Problem { path, line, column, message } = problem;
        FileProblem { path, line, column, message }
    }
}

// === impl RubricShowDocument ===

impl RubricShowDocument {
    /// The document of a pruned rubric, with the warnings about its file.
    pub(crate) fn new(rubric: &Rubric, warnings: Vec<Warning>) -> RubricShowDocument {
        let shares = rubric.weight_shares();
        let leaves = || rubric.leaves().map(|(_, leaf)| leaf);
        let weightless = leaves().filter(|leaf| leaf.weight == 0.0);
        RubricShowDocument {
            nodes: rubric.nodes().len(),
            leaves: rubric.leaf_count(),
            depth: rubric.depth(),
            categories: rubric.category_counts(),
            duplicate_ids: duplicate_ids(rubric),
            leaf_ids: leaves().map(|leaf| leaf.id.clone()).collect(),
            leaf_categories: leaves().filter_map(|leaf| leaf.category).collect(),
            leaf_weights: rubric.leaves().map(|(index, _)| shares[index]).collect(),
            zero_weight_leaves: weightless.filter_map(|leaf| leaf.leaf_index()).collect(),
            warnings,
        }
    }
}
