//! Human grades, found by what is asked.
//!
//! Owns the way from a criterion's words and context back to a leaf of a graded tree. A prompt
//! names no leaf, and published rubrics repeat requirements: among leaves with the same words, the
//! one whose prior nodes end like the prompt's context is meant.

use std::{collections::HashMap, path::PathBuf};

use tribunal_core::{Category, Rubric};

use crate::{
    error::SimError,
    question::{Question, fold},
};

/// Prior nodes that are compared, counted from the leaf backwards. Two leaves with the same words
/// and the same so many nodes before them are the same to any judge.
const MAX_TAIL: usize = 256;

/// The graded nodes of one or more trees.
pub(crate) struct Labels {
    by_requirement: HashMap<String, Vec<Label>>,
}

struct Label {
    /// Subtree for an inner node.
    category: Category,
    score: f64,
    /// Hashes of the prior nodes' requirements, the nearest first: in the whole tree and, where
    /// that differs, in the tree of its category alone. Empty where the words are enough.
    tails: Vec<Vec<u64>>,
}

/// A graded node's place, before its tails are known.
struct Place {
    tree: usize,
    index: usize,
}

// === impl Labels ===

impl Labels {
    /// Reads graded trees.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is no rubric tree, or has no valid score at any leaf.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Labels, SimError> {
        let mut trees = Vec::new();
        for path in files {
            let bytes = std::fs::read(path)
                .map_err(|source| SimError::Read { path: path.clone(), source })?;
            let tree = Rubric::parse(&path.display().to_string(), &bytes)?;
            if !tree.leaves().any(|(_, leaf)| leaf.valid_score().is_some()) {
                return Err(SimError::NoLabels { path: path.clone() });
            }
            trees.push(tree);
        }
        Ok(Labels::of(&trees))
    }

    /// The labels of these trees.
    pub(crate) fn of(trees: &[Rubric]) -> Labels {
        let mut places: HashMap<String, Vec<Place>> = HashMap::new();
        for (tree, rubric) in trees.iter().enumerate() {
            for (index, node) in rubric.nodes().iter().enumerate() {
                if node.valid_score().is_some() {
                    let same = places.entry(fold(&node.requirements)).or_default();
                    same.push(Place { tree, index });
                }
            }
        }
        let code_only: Vec<Option<Rubric>> =
            trees.iter().map(|rubric| rubric.only(Category::CodeDevelopment)).collect();
        let label = |place: &Place, alone: bool| {
            let rubric = &trees[place.tree];
            let node = &rubric.nodes()[place.index];
            let mut tails = Vec::new();
            if !alone {
                tails.push(tail(rubric, place.index));
                let pruned = code_only[place.tree].as_ref();
                let position = pruned.and_then(|p| Some((p, p.by_position(node.position())?)));
                tails.extend(position.map(|(pruned, index)| tail(pruned, index)));
                tails.dedup();
            }
            Label {
                category: node.category.unwrap_or(Category::Subtree),
                score: node.valid_score().unwrap_or_default(),
                tails,
            }
        };
        let by_requirement = places
            .into_iter()
            .map(|(requirement, places)| {
                let alone = places.len() == 1;
                let labels = places.iter().map(|place| label(place, alone)).collect();
                (requirement, labels)
            })
            .collect();
        Labels { by_requirement }
    }

    /// The human's score of the node that is asked about, in [0, 1]; `None` where no node has its
    /// words and kind.
    pub(crate) fn grade(&self, question: &Question) -> Option<f64> {
        let subtree = question.category == Some(Category::Subtree);
        let words = self.by_requirement.get(&question.requirement);
        let labels = match words {
            None if subtree => self.by_requirement.get(&question.first_line)?,
            words => words?,
        };
        let named = |label: &&Label| question.category == Some(label.category);
        let leaf = |label: &&Label| !subtree && label.category != Category::Subtree;
        let mut candidates: Vec<&Label> = labels.iter().filter(named).collect();
        if candidates.is_empty() {
            candidates = labels.iter().filter(leaf).collect();
        }
        if let [only] = candidates.as_slice() {
            return Some(only.score);
        }
        let context: Vec<u64> = question.context.iter().rev().map(|c| hash(c)).collect();
        let agreement = |label: &Label| {
            let common = |tail: &Vec<u64>| {
                let pairs = tail.iter().zip(&context);
                pairs.take_while(|(ours, theirs)| ours == theirs).count()
            };
            label.tails.iter().map(common).max().unwrap_or(0)
        };
        let mut best: Option<(usize, f64)> = None;
        for label in candidates {
            let agreement = agreement(label);
            if best.is_none_or(|(most, _)| agreement > most) {
                best = Some((agreement, label.score));
            }
        }
        best.map(|(_, score)| score)
    }
}

fn tail(rubric: &Rubric, index: usize) -> Vec<u64> {
    let prior = rubric.prior_nodes(index, Some(MAX_TAIL));
    let requirements = prior.iter().rev().map(|at| &rubric.nodes()[*at].requirements);
    requirements.map(|text| hash(&fold(text))).collect()
}

fn hash(text: &str) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(text: &str, category: &str, score: u8) -> String {
        format!(
            r#"{{"id":"x","requirements":"{text}","weight":1,"sub_tasks":[],"task_category":"{category}","score":{score},"valid_score":true}}"#
        )
    }

    fn group(text: &str, children: &[String]) -> String {
        let children = children.join(",");
        format!(
            r#"{{"id":"x","requirements":"{text}","weight":1,"sub_tasks":[{children}],"score":0.25,"valid_score":true}}"#
        )
    }

    fn labels(root: &str) -> Labels {
        Labels::of(&[Rubric::parse("t", root.as_bytes()).expect("valid")])
    }

    fn ask(category: Option<Category>, requirement: &str, context: &[&str]) -> Question {
        Question {
            category,
            context: context.iter().map(|c| (*c).to_owned()).collect(),
            ..Question::of_text(requirement)
        }
    }

    const CODE: &str = "Code Development";

    #[test]
    fn the_context_tells_leaves_with_the_same_words_apart() {
        let trained = |score| leaf("It is  trained", CODE, score);
        let ran = leaf("It ran", "Code Execution", 1);
        let tree = labels(&group(
            "root",
            &[group("A", &[trained(1)]), group("B", &[ran, trained(0), trained(1)])],
        ));
        let code = Some(Category::CodeDevelopment);
        let grade = |context: &[&str]| tree.grade(&ask(code, "It is trained", context));
        assert_eq!(grade(&["root", "A"]), Some(1.0));
        assert_eq!(grade(&["root", "A", "B", "It ran"]), Some(0.0));
        // Code only: the leaf before it is pruned away.
        assert_eq!(grade(&["root", "A", "B"]), Some(0.0));
        // The last few prior nodes are enough.
        assert_eq!(grade(&["It ran"]), Some(0.0));
        assert_eq!(grade(&["It ran", "It is trained"]), Some(1.0));
        // No context: the first.
        assert_eq!(grade(&[]), Some(1.0));
        assert_eq!(tree.grade(&ask(code, "Something else", &[])), None);
    }

    #[test]
    fn the_category_tells_them_apart_first() {
        let tree = labels(&group(
            "root",
            &[
                leaf("same", CODE, 1),
                leaf("same", "Result Analysis", 0),
                group("same", &[leaf("x", CODE, 1)]),
            ],
        ));
        let grade = |category| tree.grade(&ask(category, "same", &["root"]));
        assert_eq!(grade(Some(Category::CodeDevelopment)), Some(1.0));
        assert_eq!(grade(Some(Category::ResultAnalysis)), Some(0.0));
        assert_eq!(grade(Some(Category::Subtree)), Some(0.25));
        assert_eq!(grade(None), Some(1.0));
        let listed = ask(Some(Category::Subtree), "same\n- x (weight 1)", &["root"]);
        assert_eq!(tree.grade(&listed), Some(0.25));
        // An inner node is no leaf.
        assert_eq!(tree.grade(&ask(None, "root", &[])), None);
    }

    #[test]
    fn an_invalid_score_is_no_label() {
        let invalid = leaf("bad", CODE, 0).replace("true", "false");
        let tree = labels(&group("root", &[invalid, leaf("good", CODE, 1)]));
        assert_eq!(tree.grade(&ask(None, "bad", &[])), None);
        assert_eq!(tree.grade(&ask(None, "good", &[])), Some(1.0));
    }
}
