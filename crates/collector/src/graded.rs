//! A graded tree, from a file or from a run.
//!
//! Owns what tables and comparisons need of one: the part of the rubric that counts, a score or
//! none a leaf, and who judged. Files come in PaperBench's format (JudgeOutput, bare, or within
//! its `grade.json`) and as Tribunal's own `scored_tree.json`. Reads no file and no store itself.

use std::collections::BTreeMap;

use serde::Deserialize;
use tribunal_core::{
    Category, Node, Rubric, RunId, Score,
    rubric::parse::RubricError,
    score::{TreeScores, by_category},
};

use crate::collect::Collected;

/// A graded tree with its provenance.
#[derive(Clone, Debug)]
pub struct GradedTree {
    /// The file or run, as the user named it.
    pub name: String,
    /// The part of the rubric that counts.
    pub rubric: Rubric,
    /// For each node of `rubric` the leaf's score in [0, 1]; `None` where it is missing, and for
    /// inner nodes.
    pub scores: Vec<Option<f64>>,
    /// The run that it comes from, where it says so.
    pub run: Option<RunId>,
    /// The model that judged; empty where the file does not say.
    pub model: String,
    /// Whether a simulated judge answered.
    pub simulated: bool,
    /// What the judging cost in US dollars, where that is known.
    pub cost_usd: Option<f64>,
}

/// A file that is no graded tree.
#[derive(Debug, thiserror::Error)]
pub enum GradedTreeError {
    /// It cannot be read as a tree.
    #[error(transparent)]
    Tree(#[from] RubricError),
    /// It is a rubric without scores.
    #[error(
        "{0}: no node has a score; give a graded tree, such as the grader_output.json of \
         `tribunal grade`"
    )]
    NotGraded(String),
}

/// The fields around a tree that say who judged.
#[derive(Deserialize)]
struct Head {
    run: Option<RunId>,
    model: Option<String>,
    model_name: Option<String>,
    #[serde(default)]
    simulated: bool,
}

// === impl GradedTree ===

impl GradedTree {
    /// Reads the bytes of a graded file.
    ///
    /// # Errors
    ///
    /// The file is no valid tree, or has no scores.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, GradedTreeError> {
        let rubric = Rubric::parse(name, bytes)?;
        if !rubric.is_graded() {
            return Err(GradedTreeError::NotGraded(name.to_owned()));
        }
        // The tree is good whatever stands around it.
        let head: Option<Head> = serde_json::from_slice(bytes).ok();
        let (run, model, simulated) = match head {
            Some(head) => (head.run, head.model.or(head.model_name), head.simulated),
            None => (None, None, false),
        };
        let score = |node: &Node| node.valid_score().filter(|_| node.is_leaf());
        let scores = rubric.nodes().iter().map(score).collect();
        let (name, model) = (name.to_owned(), model.unwrap_or_default());
        Ok(GradedTree { name, rubric, scores, run, model, simulated, cost_usd: None })
    }

    /// The tree of a collected run.
    pub fn of_run(collected: &Collected) -> Self {
        let run = &collected.record().run;
        let rubric = collected.rubric().clone();
        let score = |(index, node): (usize, &Node)| {
            collected.outcome(index).score().filter(|_| node.is_leaf())
        };
        GradedTree {
            name: run.id.to_string(),
            scores: rubric.nodes().iter().enumerate().map(score).collect(),
            rubric,
            run: Some(run.id.clone()),
            model: run.model.clone(),
            simulated: collected.simulated(),
            cost_usd: collected.cost_usd(),
        }
    }

    /// The score of a leaf of [`GradedTree::rubric`], `None` where it is missing.
    pub fn score(&self, leaf: &Node) -> Option<f64> {
        self.rubric.by_position(leaf.position()).and_then(|index| self.scores[index])
    }

    /// The scores of all nodes.
    pub fn tree_scores(&self) -> TreeScores {
        TreeScores::compute(&self.rubric, |leaf| self.score(leaf))
    }

    /// The root's score for each category alone; `None` where the tree has no leaf of it.
    pub fn by_category(&self) -> BTreeMap<Category, Option<Score>> {
        by_category(&self.rubric, |leaf| self.score(leaf))
    }
}
