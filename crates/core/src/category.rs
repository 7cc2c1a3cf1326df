//! The requirement types of a leaf, as PaperBench names them (arXiv 2504.01848, section 2.3).
//!
//! Owns the names and their order. What a category is shown as evidence is not decided here.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The fine category whose leaves weigh nothing when resources are provided.
pub const RESOURCE_ACQUISITION: &str = "Dataset and Model Acquisition";

/// The seven fine categories that PaperBench accepts.
pub const FINE_CATEGORIES: [&str; 7] = [
    "Environment & Infrastructure Setup",
    RESOURCE_ACQUISITION,
    "Data Processing & Preparation",
    "Method Implementation",
    "Experimental Setup",
    "Evaluation, Metrics & Benchmarking",
    "Logging, Analysis & Presentation",
];

/// The requirement type of a leaf.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Category {
    /// Is there code that implements the requirement?
    #[serde(rename = "Code Development")]
    CodeDevelopment,
    /// Does running the reproduction execute it?
    #[serde(rename = "Code Execution")]
    CodeExecution,
    /// Do the produced results agree with the paper's?
    #[serde(rename = "Result Analysis")]
    ResultAnalysis,
    /// A cut node, graded as one fractional score over the criteria below it.
    #[serde(rename = "Subtree")]
    Subtree,
}

// === impl Category ===

impl Category {
    /// Every category, in the order used by all tables.
    pub const ALL: [Category; 4] = [
        Category::CodeDevelopment,
        Category::CodeExecution,
        Category::ResultAnalysis,
        Category::Subtree,
    ];

    /// The name in rubric files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Category::CodeDevelopment => "Code Development",
            Category::CodeExecution => "Code Execution",
            Category::ResultAnalysis => "Result Analysis",
            Category::Subtree => "Subtree",
        }
    }

    /// The category with exactly this name, or `None`.
    pub fn from_name(name: &str) -> Option<Category> {
        Category::ALL.into_iter().find(|c| c.name() == name)
    }

    /// Whether a score strictly between 0 and 1 is on this category's scale.
    pub fn is_fractional(self) -> bool {
        self == Category::Subtree
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
