//! Where the judge and the humans differ, by how much that moves a score.
//!
//! Owns the order and the marks of labels that may be wrong themselves.

use crate::{
    document::Disagreement,
    metric::mean,
    pair::{Leaf, Paired},
    tree::LeafGrade,
};

/// Confidence from which a judge contradicts a label firmly.
const FIRM: f64 = 0.9;

/// Every leaf with a label and a verdict that differ, the largest weight × error first.
pub(super) fn disagreements(paired: &Paired) -> Vec<Disagreement> {
    let mut found: Vec<Disagreement> = paired
        .leaves
        .iter()
        .filter_map(|leaf| {
            let (human, judge) = (leaf.human().score()?, leaf.judge(0).score()?);
            (human != judge).then(|| disagreement(paired, leaf, human, judge))
        })
        .collect();
    let moved = |one: &Disagreement| one.weight * (one.judge - one.human).abs();
    found.sort_by(|a, b| moved(b).total_cmp(&moved(a)));
    found
}

fn disagreement(paired: &Paired, leaf: &Leaf, human: f64, judge: f64) -> Disagreement {
    let submission = paired.submission(leaf);
    Disagreement {
        index: leaf.index,
        id: leaf.id.clone(),
        weight: leaf.weight,
        human,
        judge,
        submission: submission.name.clone(),
        paper: submission.paper.clone(),
        category: leaf.category.clone(),
        requirements: leaf.requirements.clone(),
        human_explanation: words(&leaf.humans, human),
        judge_explanation: words(&leaf.judges[0], judge),
        confidence: confidence(&leaf.judges[0], judge),
        label_may_be_wrong: doubts(leaf, human, judge),
    }
}

/// What the graders who gave this score say; all of them where none did.
fn words(grades: &[LeafGrade], score: f64) -> String {
    let said = |exactly: bool| {
        let mut said: Vec<&str> = grades
            .iter()
            .filter(|grade| !exactly || grade.score == Some(score))
            .map(|grade| grade.explanation.as_str())
            .filter(|words| !words.is_empty())
            .collect();
        said.dedup();
        said.join("\n\n")
    };
    let own = said(true);
    if own.is_empty() { said(false) } else { own }
}

/// The judge's confidence in this verdict: the share of its votes, or what it states.
pub(super) fn confidence(samples: &[LeafGrade], verdict: f64) -> Option<f64> {
    let votes: Vec<f64> = samples.iter().filter_map(|sample| sample.score).collect();
    if votes.len() > 1 {
        let with: Vec<f64> = votes.iter().map(|vote| f64::from(*vote == verdict)).collect();
        return mean(&with);
    }
    samples.iter().find_map(|sample| sample.confidence)
}

fn doubts(leaf: &Leaf, human: f64, judge: f64) -> Vec<&'static str> {
    let mut doubts = Vec::new();
    let others = leaf.humans.iter().filter_map(|grade| grade.score);
    if others.clone().any(|other| other != human) {
        doubts.push("the humans differ");
    }
    let votes: Vec<f64> = leaf.judges[0].iter().filter_map(|sample| sample.score).collect();
    if votes.len() >= 3 && votes.iter().all(|vote| *vote == judge) {
        doubts.push("every sample of the judge says otherwise");
    } else if leaf.judges[0].iter().any(|s| s.confidence.is_some_and(|sure| sure >= FIRM)) {
        doubts.push("the judge is sure");
    }
    if leaf.judge(1).score() == Some(judge) {
        doubts.push("both judges say otherwise");
    }
    doubts
}
