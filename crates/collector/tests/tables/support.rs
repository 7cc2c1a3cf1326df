//! Entries, trees and data for the tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::{Value, json};
use tribunal_collector::{
    GradedTree,
    results::{Entry, Labels, ResultsOptions, ResultsTable, Standing},
};
use tribunal_core::{Category, Score};

/// The data beside the project, if it is there.
pub(crate) fn data() -> Option<PathBuf> {
    let named = std::env::var_os("TRIBUNAL_DATA").map(PathBuf::from);
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let found = Some(named.unwrap_or(beside)).filter(|path| path.is_dir());
    if found.is_none() {
        skipped();
    }
    found
}

/// A tree with these scores: the root's, and Code Development's if there is one.
pub(crate) fn entry(agent: &str, paper: &str, seed: &str, root: f64, code: Option<f64>) -> Entry {
    let score = |score: f64| Score { leaves: 10, ..Score::leaf(Some(score)) };
    Entry {
        labels: Labels {
            paper: paper.to_owned(),
            agent: agent.to_owned(),
            seed: seed.to_owned(),
            ..Labels::default()
        },
        source: format!("{agent}/{paper}/{seed}.json"),
        standing: Standing::Graded,
        simulated: false,
        root: score(root),
        by_category: BTreeMap::from([(Category::CodeDevelopment, code.map(score))]),
    }
}

/// The same after so many hours.
pub(crate) fn at(entry: Entry, hours: f64) -> Entry {
    let labels = Labels { elapsed_hours: Some(hours), ..entry.labels };
    let source = format!("{hours}h-{}", entry.source);
    Entry { labels, source, ..entry }
}

pub(crate) fn table(entries: Vec<Entry>, options: &ResultsOptions) -> ResultsTable {
    ResultsTable::new(entries, options, Vec::new()).expect("a table")
}

pub(crate) fn split(papers: &[&str]) -> Option<BTreeSet<String>> {
    Some(papers.iter().map(|paper| (*paper).to_owned()).collect())
}

#[track_caller]
pub(crate) fn close(found: Option<f64>, expected: f64) {
    let found = found.expect("a number");
    assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
}

/// A graded leaf; not graded where the score is `None`.
pub(crate) fn leaf(id: &str, weight: f64, category: &str, score: Option<f64>) -> Value {
    json!({
        "id": id, "requirements": format!("{id} is there"), "weight": weight, "sub_tasks": [],
        "task_category": category, "score": score.unwrap_or(0.0), "valid_score": score.is_some(),
    })
}

/// A graded tree of these nodes.
pub(crate) fn tree(name: &str, children: Vec<Value>) -> GradedTree {
    let root = json!({
        "id": "root", "requirements": "all", "weight": 1, "sub_tasks": children,
        "score": 0, "valid_score": true,
    });
    let document = json!({"model": "judge", "graded_task_tree": root});
    GradedTree::parse(name, document.to_string().as_bytes()).expect("a tree")
}

#[expect(clippy::print_stdout, reason = "a test that shows nothing must say so")]
fn skipped() {
    println!("skipped: no data; set TRIBUNAL_DATA");
}
