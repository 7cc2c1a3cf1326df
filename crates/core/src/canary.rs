//! Canaries: fabricated leaves whose answer is certain from the evidence.
//!
//! Owns what one is and where it stands among a run's tasks. It is asked about like any leaf, by the
//! same prompt and on the same evidence, and counts in no score: a judge that fails it is not to be
//! believed about the others.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{category::Category, rubric::Rubric};

/// The position of a run's first canary; no rubric has so many nodes.
pub const FIRST_POSITION: u32 = 1 << 30;

/// A leaf with a known answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// The category, which decides the evidence.
    pub category: Category,
    /// What is asked.
    pub requirements: String,
    /// The only right score: 0 or 1.
    pub expected: f64,
}

/// Whether a task at this position is a canary.
pub fn is_canary(position: u32) -> bool {
    position >= FIRST_POSITION
}

// === impl Canary ===

impl Canary {
    /// The canary as a rubric of one leaf; `None` where its words make none.
    pub fn rubric(&self) -> Option<Rubric> {
        let leaf = json!({
            "id": "canary", "requirements": self.requirements, "weight": 1, "sub_tasks": [],
            "task_category": self.category.name(), "finegrained_task_category": null,
        });
        Rubric::parse("canary", leaf.to_string().as_bytes()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_a_leaf_of_its_own() {
        let canary = Canary {
            category: Category::CodeExecution,
            requirements: "The file `a \"b\".py` is there.".to_owned(),
            expected: 1.0,
        };
        let rubric = canary.rubric().expect("a rubric");
        assert_eq!((rubric.leaf_count(), rubric.nodes().len()), (1, 1));
        assert_eq!(rubric.root().requirements, canary.requirements);
        assert_eq!(rubric.root().category, Some(Category::CodeExecution));
        assert!(is_canary(FIRST_POSITION) && !is_canary(99_999));
    }
}
