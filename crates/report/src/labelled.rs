//! Labels as grades: what people agree on, what is still to be settled, and a human's graded tree.
//!
//! Owns how several people's labels become one grade. A leaf without one has no grade, and nothing
//! fills the gap.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tribunal_core::{
    Node, Rubric,
    rubric::json::{node_fields, to_string},
    score::TreeScores,
};
use tribunal_store::{Label, LabelKind, label::standing};

/// Scores further apart than this differ.
const DIFFERENT: f64 = 1e-9;

/// Positions of the leaves that people graded differently and nobody has settled, in order.
pub fn disputed(labels: &[Label]) -> Vec<u32> {
    let leaves = by_leaf(labels);
    let open = leaves.iter().filter(|(_, given)| {
        let settled = given.iter().any(|label| label.label.kind == LabelKind::Adjudication);
        let mut scores = given.iter().filter_map(|label| label.label.score);
        let first = scores.next();
        !settled && scores.any(|score| first.is_some_and(|first| (score - first).abs() > DIFFERENT))
    });
    open.map(|(position, _)| *position).collect()
}

/// A human's graded tree in PaperBench's format, which `tribunal audit` reads: the labels of
/// `author`; without one, what an adjudication settled and else what everybody agrees on. Labels
/// given in sight of the judge's verdict are left out where no author is named: they would make the
/// judge look better than it is.
pub fn human_grades(rubric: &Rubric, labels: &[Label], author: Option<&str>) -> String {
    let leaves = by_leaf(labels);
    let grades: BTreeMap<u32, (f64, String)> = leaves
        .into_iter()
        .filter_map(|(position, given)| Some((position, grade(&given, author)?)))
        .collect();
    let scores = TreeScores::compute(rubric, |node| grades.get(&node.position()).map(|(s, _)| *s));
    to_string(rubric, |node| {
        let mut fields = node_fields(node);
        let index = rubric.by_position(node.position());
        let score = index.map(|index| *scores.node(index));
        let lower = score.map_or(0.0, |score| score.lower);
        fields.insert("score".to_owned(), Value::from(lower));
        set_words(&mut fields, node, grades.get(&node.position()));
        fields
    })
}

fn set_words(fields: &mut Map<String, Value>, node: &Node, grade: Option<&(f64, String)>) {
    // An inner node that is not valid would hide all below it from PaperBench's metrics.
    let valid = !node.is_leaf() || grade.is_some();
    let words = match grade {
        Some((_, words)) => words.as_str(),
        None if node.is_leaf() => "Not labelled.",
        None => "Weighted mean of its sub_tasks; leaves without a label count as 0.",
    };
    fields.insert("valid_score".to_owned(), Value::from(valid));
    fields.insert("explanation".to_owned(), Value::from(words));
    let metadata = if node.is_leaf() { json!({"grader": "human"}) } else { Value::Null };
    fields.insert("judge_metadata".to_owned(), metadata);
}

/// The labels of one leaf that stand.
pub fn of_leaf(labels: &[Label], position: u32) -> Vec<Label> {
    let of_leaf = |label: &&Label| label.label.position == position;
    standing(labels).into_iter().filter(of_leaf).cloned().collect()
}

/// The grade that people's standing labels of one leaf give it, for a reader who overrules the
/// judge: what was settled last, else what all who gave one agree on. Unlike in [`human_grades`], who
/// had seen the verdict counts too.
pub fn overruling(standing: &[Label]) -> Option<f64> {
    let settled = standing.iter().filter(|label| label.label.kind == LabelKind::Adjudication);
    if let Some(last) = settled.max_by_key(|label| label.seq) {
        return last.label.score;
    }
    let mut scores = standing.iter().filter_map(|label| label.label.score);
    let first = scores.next()?;
    scores.all(|score| (score - first).abs() <= DIFFERENT).then_some(first)
}

/// What stands of each leaf.
fn by_leaf(labels: &[Label]) -> BTreeMap<u32, Vec<&Label>> {
    let mut leaves: BTreeMap<u32, Vec<&Label>> = BTreeMap::new();
    for label in standing(labels) {
        leaves.entry(label.label.position).or_default().push(label);
    }
    leaves
}

/// The grade and the words for it.
fn grade(given: &[&Label], author: Option<&str>) -> Option<(f64, String)> {
    let words = |labels: &[&&Label]| {
        let said = labels.iter().map(|label| (&label.label.author, label.label.note.trim()));
        let said = said.map(|(author, note)| match note {
            "" => author.clone(),
            note => format!("{author}: {note}"),
        });
        said.collect::<Vec<_>>().join("\n")
    };
    let of = |kind: LabelKind| given.iter().filter(move |label| label.label.kind == kind);
    if let Some(author) = author {
        let own = of(LabelKind::Label).find(|label| label.label.author == author)?;
        return Some((own.label.score?, words(&[own])));
    }
    if let Some(settled) = of(LabelKind::Adjudication).max_by_key(|label| label.seq) {
        return Some((settled.label.score?, words(&[settled])));
    }
    let blind: Vec<&&Label> = of(LabelKind::Label)
        .filter(|label| label.label.blind && label.label.score.is_some())
        .collect();
    let first = blind.first()?.label.score?;
    let agreed =
        blind.iter().all(|label| label.label.score.is_some_and(|s| (s - first).abs() <= DIFFERENT));
    agreed.then(|| (first, words(&blind)))
}

#[cfg(test)]
mod tests {
    use tribunal_store::NewLabel;

    use super::*;

    const TREE: &str = r#"{"id": "r", "requirements": "all", "weight": 1, "sub_tasks": [
        {"id": "a", "requirements": "A", "weight": 3, "sub_tasks": [], "task_category": "Code Development"},
        {"id": "b", "requirements": "B", "weight": 1, "sub_tasks": [], "task_category": "Code Execution"}]}"#;

    fn list(given: &[(u32, &str, LabelKind, Option<f64>, bool)]) -> Vec<Label> {
        let label = |(at, (position, author, kind, score, blind)): (
            usize,
            &(u32, &str, LabelKind, Option<f64>, bool),
        )| {
            let (author, note) = ((*author).to_owned(), String::new());
            let label = NewLabel {
                position: *position,
                author,
                kind: *kind,
                score: *score,
                note,
                blind: *blind,
            };
            Label { seq: at as u64 + 1, at_ms: 0, label }
        };
        given.iter().enumerate().map(label).collect()
    }

    #[test]
    fn people_who_differ_are_settled_by_an_adjudication() {
        use LabelKind::{Adjudication, Label as Given};
        let rubric = Rubric::parse("r", TREE.as_bytes()).unwrap();
        let scores = |labels: &[Label], author: Option<&str>| {
            let tree = human_grades(&rubric, labels, author);
            let graded = Rubric::parse("human", tree.as_bytes()).unwrap();
            graded.nodes().iter().skip(1).map(Node::valid_score).collect::<Vec<_>>()
        };
        let differ = list(&[
            (1, "ann", Given, Some(1.0), true),
            (1, "bob", Given, Some(0.0), true),
            (2, "ann", Given, Some(1.0), true),
            (2, "bob", Given, None, true),
        ]);
        assert_eq!(disputed(&differ), [1]);
        assert_eq!((overruling(&differ[..2]), overruling(&differ[2..])), (None, Some(1.0)));
        assert_eq!(scores(&differ, None), [None, Some(1.0)]);
        assert_eq!(scores(&differ, Some("bob")), [Some(0.0), None]);
        let mut settled = differ;
        settled.extend(list(&[(1, "cyd", Adjudication, Some(0.0), false)]));
        assert_eq!(disputed(&settled), [0; 0]);
        assert_eq!(overruling(&[&settled[..2], &settled[4..]].concat()), Some(0.0));
        assert_eq!(scores(&settled, None), [Some(0.0), Some(1.0)]);
        let seen = list(&[(1, "ann", Given, Some(1.0), false)]);
        assert_eq!(scores(&seen, None), [None, None], "given in sight of the judge");
        assert_eq!(scores(&seen, Some("ann")), [Some(1.0), None]);
    }
}
