//! Trees paired leaf by leaf.
//!
//! Owns the rule: by position where the ids agree, else by an id that occurs once in both trees,
//! else an error that names the leaves. A category that one of the trees has no leaf of was not
//! asked for, and is left out with a note.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tribunal_core::{BlobHash, Category, Rubric, rubric::json};

use super::{FirstLevel, Leaf, PairError, Paired, Submission};
use crate::tree::{GradedTree, LeafGrade};

/// Leaves named in an error.
const SHOWN: usize = 10;

/// A submission with every tree of it.
#[derive(Clone, Debug)]
pub struct Trees {
    /// Its name.
    pub name: String,
    /// The paper, where the user says; else that of the rubric's other submissions, else `name`'s.
    pub paper: Option<String>,
    /// What made the graded work, where the user says.
    pub system: Option<String>,
    /// For each judge, its samples. The first judge has at least one.
    pub judges: Vec<Vec<GradedTree>>,
    /// The humans'; none for a submission without labels.
    pub humans: Vec<GradedTree>,
}

/// Pairs the trees of every submission.
///
/// # Errors
///
/// [`PairError::Leaves`] where two trees do not have the same leaves; [`PairError::Files`] where a
/// submission has no tree of the first judge.
pub fn pair_trees(judges: &[String], submissions: &[Trees]) -> Result<Paired, PairError> {
    let mut paired = Paired { judges: judges.to_vec(), ..Paired::default() };
    let mut rubrics = Vec::new();
    for trees in submissions {
        rubrics.push(add(&mut paired, trees)?);
    }
    paired.merge_papers(&rubrics);
    paired.notes.dedup();
    Ok(paired)
}

/// Adds one submission; the hash of its rubric where the user does not name the paper.
fn add(paired: &mut Paired, trees: &Trees) -> Result<Option<String>, PairError> {
    let Some(reference) = trees.judges.first().and_then(|samples| samples.first()) else {
        return Err(PairError::Files(format!("{}: no tree of the first judge", trees.name)));
    };
    let rubric = &*reference.rubric;
    let shares = rubric.weight_shares();
    let first_level: Vec<usize> = rubric.children(0).collect();
    let submission = paired.submissions.len();
    let indices = reference.leaf_indices();
    let mut leaves: Vec<Leaf> = rubric
        .leaves()
        .zip(indices)
        .map(|((node, leaf), index)| Leaf {
            submission,
            index,
            id: leaf.id.clone(),
            requirements: leaf.requirements.clone(),
            category: leaf.category.map_or_else(String::new, |category| category.to_string()),
            weight: shares[node],
            first_level: first_level.iter().rposition(|child| *child <= node),
            humans: Vec::new(),
            judges: vec![Vec::new(); trees.judges.len()],
            pi: None,
        })
        .collect();
    let mut join = |tree: &GradedTree, put: &dyn Fn(&mut Leaf, LeafGrade)| {
        let (counterparts, left_out) = counterparts(reference, tree)?;
        if !left_out.is_empty() {
            let names: Vec<&str> = left_out.iter().map(|category| category.name()).collect();
            paired.notes.push(format!(
                "{}: only one of {} and {} has leaves of {}: left out",
                trees.name,
                reference.name,
                tree.name,
                names.join(", ")
            ));
        }
        for (leaf, counterpart) in leaves.iter_mut().zip(counterparts) {
            if let Some(at) = counterpart {
                put(leaf, tree.grades[at].clone());
            }
        }
        Ok::<(), PairError>(())
    };
    for (judge, samples) in trees.judges.iter().enumerate() {
        for tree in samples {
            join(tree, &|leaf, grade| leaf.judges[judge].push(grade))?;
        }
    }
    for tree in &trees.humans {
        join(tree, &|leaf, grade| leaf.humans.push(grade))?;
    }
    let paper = trees.paper.clone().unwrap_or_else(|| paper_of(&trees.name));
    paired.submissions.push(Submission {
        name: trees.name.clone(),
        paper,
        system: trees.system.clone(),
        first_level: first_level
            .iter()
            .map(|child| FirstLevel {
                id: rubric.nodes()[*child].id.clone(),
                share: shares[*child],
            })
            .collect(),
    });
    paired.leaves.extend(leaves);
    Ok(trees.paper.is_none().then(|| rubric_hash(rubric)))
}

/// The first folder of a path, or the whole of a name without folders.
fn paper_of(name: &str) -> String {
    name.split('/').next().unwrap_or(name).to_owned()
}

/// Equal for trees of the same nodes, ids, criteria and weights, whatever their grades.
fn rubric_hash(rubric: &Rubric) -> String {
    let text = json::to_string(rubric, |node| {
        let mut fields = json::node_fields(node);
        fields.retain(|name, _| matches!(name.as_str(), "id" | "requirements" | "weight"));
        fields
    });
    BlobHash::of(text.as_bytes()).to_string()
}

/// For each leaf of `reference` the index of its counterpart in `other`, and the categories that
/// only one of them has.
fn counterparts(
    reference: &GradedTree,
    other: &GradedTree,
) -> Result<(Vec<Option<usize>>, BTreeSet<Category>), PairError> {
    let ids = |tree: &GradedTree| -> Vec<String> {
        tree.rubric.leaves().map(|(_, leaf)| leaf.id.clone()).collect()
    };
    let (own, others) = (ids(reference), ids(other));
    let (own_counts, other_counts) = (counts(&own), counts(&others));
    // Positions that nobody recorded mean the same only where no tree was pruned.
    let same = own == others;
    let trusted = same || (reference.positions_known && other_is_whole(reference, other));
    let own_positions = reference.positions();
    let by_position: HashMap<u32, usize> =
        other.positions().into_iter().enumerate().map(|(at, position)| (position, at)).collect();
    let by_id: HashMap<&str, usize> =
        others.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    let mut taken = vec![false; others.len()];
    let mut found = Vec::with_capacity(own.len());
    for (at, id) in own.iter().enumerate() {
        let once = own_counts[id.as_str()] == 1 && other_counts.get(id.as_str()) == Some(&1);
        let at_position =
            if same { Some(at) } else { by_position.get(&own_positions[at]).copied() };
        let at_position = at_position.filter(|other| others[*other] == *id && (trusted || once));
        let counterpart = at_position.or_else(|| once.then(|| by_id[id.as_str()]));
        if let Some(other) = counterpart {
            taken[other] = true;
        }
        found.push(counterpart);
    }
    let (own_categories, other_categories) = (categories(reference), categories(other));
    let left_out: BTreeSet<Category> =
        own_categories.symmetric_difference(&other_categories).copied().collect();
    let unmatched = |tree: &GradedTree, matched: &dyn Fn(usize) -> bool| -> Vec<String> {
        let leaves = tree.rubric.leaves().zip(tree.leaf_indices()).enumerate();
        leaves
            .filter(|(at, ((_, leaf), _))| {
                !matched(*at) && leaf.category.is_none_or(|category| !left_out.contains(&category))
            })
            .map(|(_, ((_, leaf), index))| format!("#{index} {}", leaf.id))
            .collect()
    };
    for (tree, left) in [
        (reference, unmatched(reference, &|at| found[at].is_some())),
        (other, unmatched(other, &|at| taken[at])),
    ] {
        if !left.is_empty() {
            let dots = if left.len() > SHOWN { ", …" } else { "" };
            return Err(PairError::Leaves {
                left: reference.name.clone(),
                right: other.name.clone(),
                of: tree.name.clone(),
                count: left.len(),
                shown: left[..left.len().min(SHOWN)].join(", ") + dots,
            });
        }
    }
    Ok((found, left_out))
}

/// Whether the positions of `other` are those of the unpruned rubric too: recorded, or its own
/// because it has at least all leaves of the other.
fn other_is_whole(reference: &GradedTree, other: &GradedTree) -> bool {
    other.positions_known || other.grades.len() >= reference.grades.len()
}

fn counts(ids: &[String]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for id in ids {
        *counts.entry(id.as_str()).or_insert(0) += 1;
    }
    counts
}

fn categories(tree: &GradedTree) -> BTreeSet<Category> {
    let counts: BTreeMap<Category, usize> = tree.rubric.category_counts();
    counts.into_keys().collect()
}
