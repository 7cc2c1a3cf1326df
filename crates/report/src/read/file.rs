//! A graded tree in PaperBench's format as a tree: bare, or as `graded_task_tree` of a grader's
//! output.
//!
//! Owns what is taken from a file's grades and from `judge_metadata`, Tribunal's own and those of
//! PaperBench's SimpleJudge (openai/frontier-evals, `paperbench/judge/simple.py`).

use serde_json::Value;
use tribunal_collector::ScoreSummary;
use tribunal_core::{
    Rubric, UngradedReason,
    rubric::{Grade, parse::RubricError},
    score::TreeScores,
    verdict::Quote,
};

use crate::model::{GradedTree, Leaf};

/// A file that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is no rubric.
    #[error(transparent)]
    Rubric(#[from] RubricError),
    /// It is a rubric, and nobody has graded it.
    #[error(
        "{file}: no node has a grade: it is a rubric, not a graded tree. Grade it, or name the \
         `grader_output.json` of a run"
    )]
    Ungraded {
        /// The file as it was named.
        file: String,
    },
}

/// Reads the graded tree in `bytes`; `name` is the file as a reader knows it. With `full`, raw
/// replies are kept.
///
/// # Errors
///
/// The file is no rubric, or has no grades.
pub fn graded_file(name: &str, bytes: &[u8], full: bool) -> Result<GradedTree, FileError> {
    let rubric = Rubric::parse(name, bytes)?;
    if !rubric.is_graded() {
        return Err(FileError::Ungraded { file: name.to_owned() });
    }
    let leaf = |node: &tribunal_core::Node| node.valid_score();
    let scores = TreeScores::compute(&rubric, leaf);
    let summary = ScoreSummary::of(&rubric, &scores, leaf);
    let leaves = rubric
        .nodes()
        .iter()
        .map(|node| node.is_leaf().then(|| of_grade(node.grade.as_deref(), full)))
        .collect();
    Ok(GradedTree {
        name: name.to_owned(),
        rubric,
        scores,
        summary,
        leaves,
        run: None,
        facts: facts(bytes),
    })
}

fn of_grade(grade: Option<&Grade>, full: bool) -> Leaf {
    let Some(grade) = grade else {
        return Leaf::missing(UngradedReason::InvalidScore, "The file has no grade here.".into());
    };
    let metadata = &grade.judge_metadata;
    let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
    let quotes: Option<Vec<Quote>> = serde_json::from_value(metadata["evidence"].clone()).ok();
    let recorded = metadata["ungraded_reason"].as_str().and_then(UngradedReason::from_name);
    Leaf {
        score: grade.valid.then_some(grade.score),
        reason: (!grade.valid).then(|| recorded.unwrap_or(UngradedReason::InvalidScore)),
        explanation: grade.explanation.clone(),
        expectations: text("expectations"),
        reality: text("reality"),
        confidence: metadata["confidence"].as_f64(),
        quotes: quotes.unwrap_or_default(),
        model: text("model"),
        reply: Some(text("full_judge_response")).filter(|reply| full && !reply.is_empty()),
        ..Leaf::default()
    }
}

/// What a grader's output says of itself.
fn facts(bytes: &[u8]) -> Vec<(String, String)> {
    // Parsed before: it is JSON. A bare tree has none of these.
    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    ["judge_type", "model_name", "model", "run", "graded_at"]
        .into_iter()
        .filter_map(|name| Some((name.replace('_', " "), document[name].as_str()?.to_owned())))
        .collect()
}
