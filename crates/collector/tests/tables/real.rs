//! The three real runs of PaperBench's SimpleJudge on one paper, against an independent
//! computation: plain recursion over the JSON.

use std::{collections::BTreeMap, fs};

use serde_json::Value;
use tribunal_collector::{
    GradedTree,
    compare::compare,
    results::{By, Entry, Labels, ResultsOptions},
};
use tribunal_core::Category;

use crate::support::{close, data, table};

const AGENTS: [&str; 3] = ["gpt-4.1", "gpt-4o", "llama4"];

/// The document and tree of each agent.
fn runs() -> Option<BTreeMap<&'static str, (Value, GradedTree)>> {
    let folder = data()?.join("simplejudge_runs");
    let read = |agent: &'static str| {
        let path = folder.join(format!("rice-{agent}.json"));
        let bytes = fs::read(&path).expect("readable");
        let document = serde_json::from_slice(&bytes).expect("JSON");
        (agent, (document, GradedTree::parse(agent, &bytes).expect("a tree")))
    };
    Some(AGENTS.into_iter().map(read).collect())
}

/// The weighted mean of a node, and its leaves' scores with their shares, by recursion.
fn score(node: &Value, share: f64, leaves: &mut Vec<(f64, f64)>) -> f64 {
    let children = node["sub_tasks"].as_array().expect("a list");
    if children.is_empty() {
        let score = node["score"].as_f64().expect("a number");
        leaves.push((share, score));
        return score;
    }
    let weight = |node: &Value| node["weight"].as_f64().expect("a number");
    let total: f64 = children.iter().map(weight).sum();
    let part = |child| weight(child) / total;
    children.iter().map(|child| part(child) * score(child, share * part(child), leaves)).sum()
}

#[test]
fn real_runs_as_a_table() {
    let Some(runs) = runs() else { return };
    let entries = runs.iter().map(|(agent, (_, tree))| {
        let agent = (*agent).to_owned();
        let labels = Labels { paper: "rice".to_owned(), agent, ..Labels::default() };
        Entry::graded(labels, tree)
    });
    let options = ResultsOptions { by: By::Agent, ..ResultsOptions::default() };
    let table = table(entries.collect(), &options);
    assert_eq!(table.rows.len(), 3);
    for row in &table.rows {
        let (document, _) = &runs[row.agent.as_deref().expect("an agent")];
        let expected = score(&document["graded_task_tree"], 1.0, &mut Vec::new());
        close(row.score.mean, expected);
        close(row.score.mean, document["score"].as_f64().expect("a number"));
        assert_eq!((row.score.se, row.score.seeds), (None, 1));
        // They were graded code only: code is all there is.
        let code = row.by_category[&Category::CodeDevelopment].expect("all of it");
        assert_eq!(code.mean, row.score.mean);
        assert_eq!(row.by_category[&Category::ResultAnalysis], None);
    }
}

#[test]
fn real_runs_compared_pairwise() {
    let Some(runs) = runs() else { return };
    for (a, b) in [("gpt-4.1", "gpt-4o"), ("gpt-4o", "llama4"), ("llama4", "gpt-4.1")] {
        let leaves = |agent: &str| {
            let mut leaves = Vec::new();
            let root = score(&runs[agent].0["graded_task_tree"], 1.0, &mut leaves);
            (root, leaves)
        };
        let ((root_a, leaves_a), (root_b, leaves_b)) = (leaves(a), leaves(b));
        let moved: Vec<(f64, f64)> =
            leaves_a.iter().zip(&leaves_b).map(|((share, a), (_, b))| (*share, b - a)).collect();
        let found = compare(&runs[a].1, &runs[b].1).expect("one rubric");
        assert_eq!(found.leaves, 178);
        assert_eq!(found.flips.up, moved.iter().filter(|(_, d)| *d > 0.0).count());
        assert_eq!(found.flips.down, moved.iter().filter(|(_, d)| *d < 0.0).count());
        assert!(found.flips.up + found.flips.down > 0, "{a} and {b} do not differ");
        close(found.root.difference, root_b - root_a);
        let n = moved.len() as f64;
        let squares: f64 = moved.iter().map(|(w, d)| (w * (d - (root_b - root_a))).powi(2)).sum();
        close(found.root.se, (n / (n - 1.0) * squares).sqrt());
        // Student's t with 177 degrees of freedom: 1.973457 (scipy.stats.t.ppf).
        let half = found.root.high.expect("an interval") - found.root.difference.expect("whole");
        let t = half / found.root.se.expect("an error");
        assert!((t - 1.973_457).abs() < 1e-5, "{t}");
    }
}
