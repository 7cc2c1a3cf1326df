//! What is allowed in a rubric and yet likely a mistake.
//!
//! Owns the warnings. None of them stops a run: what stops one is found at parse.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::Serialize;

use super::Rubric;
use crate::category::FINE_CATEGORIES;

/// The share of the root's weight from which a leaf dominates, in a rubric of at least
/// [`DOMINATED_LEAVES`] leaves.
const DOMINANT_SHARE: f64 = 0.25;
const DOMINATED_LEAVES: usize = 10;

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// An id stands at more than one position.
    DuplicateId,
    /// The weights of a group sum to 0: it scores 0 whatever its leaves are.
    ZeroWeightGroup,
    /// One leaf decides a large part of the root.
    DominantLeaf,
    /// Siblings ask for the same thing in the same words.
    IdenticalSiblings,
    /// A fine category that PaperBench does not know.
    UnknownFineCategory,
}

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// Where: a JSON path such as `$.sub_tasks[2]`.
    pub path: String,
    /// What was found and what follows from it.
    pub message: String,
}

/// Every warning about the rubric, in document order within each kind.
pub fn lint(rubric: &Rubric) -> Vec<Warning> {
    let paths = json_paths(rubric);
    let mut warnings = Vec::new();
    let mut warn = |kind, index: usize, message: String| {
        let path = paths[index].clone();
        warnings.push(Warning { kind, path, message });
    };
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, node) in rubric.nodes().iter().enumerate() {
        places.entry(&node.id).or_default().push(index);
    }
    let mut repeated: Vec<_> = places.into_iter().filter(|(_, at)| at.len() > 1).collect();
    repeated.sort_by_key(|(_, at)| at[0]);
    for (id, at) in repeated {
        let count = at.len();
        let message =
            format!("the id `{id}` stands at {count} positions; leaves are told apart by position");
        warn(WarningKind::DuplicateId, at[0], message);
    }
    for index in 0..rubric.nodes().len() {
        let children: Vec<usize> = rubric.children(index).collect();
        let total: f64 = children.iter().map(|c| rubric.nodes()[*c].weight).sum();
        if !children.is_empty() && total == 0.0 {
            let count = children.len();
            let message = format!("the weights of its {count} sub_tasks sum to 0; it scores 0");
            warn(WarningKind::ZeroWeightGroup, index, message);
        }
    }
    if rubric.leaf_count() >= DOMINATED_LEAVES {
        let shares = rubric.weight_shares();
        for (index, _) in rubric.leaves().filter(|(i, _)| shares[*i] >= DOMINANT_SHARE) {
            let percent = shares[index] * 100.0;
            let message = format!("this leaf alone is {percent:.0}% of the root's score");
            warn(WarningKind::DominantLeaf, index, message);
        }
    }
    for parent in 0..rubric.nodes().len() {
        let mut first: HashMap<&str, usize> = HashMap::new();
        for child in rubric.children(parent) {
            let words = rubric.nodes()[child].requirements.trim();
            if let Some(other) = first.get(words) {
                let twin = &paths[*other];
                let message = format!("the same requirements as its sibling {twin}");
                warn(WarningKind::IdenticalSiblings, child, message);
            } else {
                first.insert(words, child);
            }
        }
    }
    for (index, node) in rubric.nodes().iter().enumerate() {
        if let Some(fine) = node.fine_category.as_deref().filter(|f| !FINE_CATEGORIES.contains(f)) {
            let message = format!("`{fine}` is not one of PaperBench's fine categories");
            warn(WarningKind::UnknownFineCategory, index, message);
        }
    }
    warnings
}

/// Ids that stand at more than one node, in the order of their first place.
pub fn duplicate_ids(rubric: &Rubric) -> Vec<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for node in rubric.nodes() {
        *counts.entry(&node.id).or_insert(0) += 1;
    }
    let mut listed = Vec::new();
    for node in rubric.nodes() {
        if counts.remove(node.id.as_str()).is_some_and(|count| count > 1) {
            listed.push(node.id.clone());
        }
    }
    listed
}

/// The JSON path of every node, the root being `$`.
pub fn json_paths(rubric: &Rubric) -> Vec<String> {
    let mut paths = vec![String::new(); rubric.nodes().len()];
    paths[0] = "$".to_owned();
    for index in 0..paths.len() {
        for (i, child) in rubric.children(index).enumerate() {
            paths[child] = format!("{}.sub_tasks[{i}]", paths[index]);
        }
    }
    paths
}
