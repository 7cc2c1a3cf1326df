//! Conformance: the figures that PaperBench's own functions give for its rubrics and for its
//! human-graded trees.
//!
//! The data is no part of the project. `TRIBUNAL_DATA` names its folder; without it the tests say
//! so in one line and end.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tribunal_core::{
    Category, Node, Rubric,
    rubric::lint::duplicate_ids,
    score::{TreeScores, by_category},
};

const TOLERANCE: f64 = 1e-12;

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn data() -> Option<PathBuf> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("TRIBUNAL_DATA").map_or(default, PathBuf::from);
    if data.join("paperbench/oracle").is_dir() {
        return Some(data);
    }
    eprintln!("skipped: no reference data in {} (TRIBUNAL_DATA names it)", data.display());
    None
}

/// The oracle's documents whose names start with `prefix`, and the name's rest.
fn oracle(data: &Path, prefix: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data.join("paperbench/oracle")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        if let Some(rest) = name.strip_prefix(prefix) {
            let text = fs::read_to_string(&path).expect("readable");
            found.push((rest.to_owned(), serde_json::from_str(&text).expect("JSON")));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn read(path: PathBuf) -> Rubric {
    let bytes = fs::read(&path).expect("readable");
    Rubric::parse(&path.display().to_string(), &bytes).expect("a valid rubric")
}

#[track_caller]
fn assert_close(what: &str, found: Option<f64>, expected: &Value) {
    let expected = expected.as_f64();
    let close = match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= TOLERANCE,
        (found, expected) => found == expected,
    };
    assert!(close, "{what}: {found:?} against {expected:?}");
}

fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().expect("a list");
    list.iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn leaf_ids(rubric: &Rubric) -> Vec<&str> {
    rubric.leaves().map(|(_, leaf)| leaf.id.as_str()).collect()
}

fn leaf_index(node: &Node) -> usize {
    node.leaf_index().expect("a leaf of the unpruned rubric") as usize
}

#[test]
fn rubrics() {
    let Some(data) = data() else { return };
    let documents = oracle(&data, "rubric-");
    assert_eq!(documents.len(), 12);
    for (paper, expected) in documents {
        let rubric = read(data.join("paperbench/papers").join(&paper).join("rubric.json"));
        assert_eq!(rubric.nodes().len() as u64, expected["nodes"], "{paper}");
        assert_eq!(rubric.leaf_count() as u64, expected["leaves"], "{paper}");
        assert_eq!(u64::from(rubric.depth()), expected["depth"], "{paper}");
        for (category, count) in expected["categories"].as_object().expect("counts") {
            let category = Category::from_name(category).expect("a category");
            assert_eq!(rubric.category_counts()[&category] as u64, *count, "{paper}");
        }
        let mut repeated = duplicate_ids(&rubric);
        repeated.sort();
        assert_eq!(Value::from(repeated), expected["duplicate_ids"], "{paper}");
        assert_eq!(Value::from(leaf_ids(&rubric)), expected["leaf_ids"], "{paper}");

        let code = rubric.only(Category::CodeDevelopment).expect("some code");
        let code_only = &expected["code_only"];
        assert_eq!(code.nodes().len() as u64, code_only["nodes"], "{paper}");
        assert_eq!(code.leaf_count() as u64, code_only["leaves"], "{paper}");
        assert_eq!(Value::from(leaf_ids(&code)), code_only["leaf_ids"], "{paper}");

        let provided = rubric.clone().resources_provided();
        let weightless: Vec<u32> = provided
            .leaves()
            .filter(|(_, leaf)| leaf.weight == 0.0)
            .filter_map(|(_, leaf)| leaf.leaf_index())
            .collect();
        let zero = &expected["resources_provided"]["zero_weight_leaf_indices"];
        assert_eq!(Value::from(weightless), *zero, "{paper}");

        let scoring = &expected["scoring"];
        let given = numbers(&scoring["leaf_scores"]);
        let leaf = |node: &Node| Some(given[leaf_index(node)]);
        let root = |rubric: &Rubric| TreeScores::compute(rubric, leaf).root().score;
        assert_close(&paper, root(&rubric), &scoring["root"]);
        assert_close(&paper, root(&code), &scoring["code_only_root"]);
        assert_close(&paper, root(&provided), &scoring["resources_provided_root"]);
        let disqualified = TreeScores::compute(&rubric, |_| Some(0.0));
        assert_close(&paper, disqualified.root().score, &scoring["disqualified_root"]);
        let all = TreeScores::compute(&rubric, leaf);
        let first_level = scoring["first_level"].as_array().expect("a list");
        assert_eq!(rubric.children(0).count(), first_level.len(), "{paper}");
        for (child, expected) in rubric.children(0).zip(first_level) {
            assert_close(&paper, all.node(child).score, expected);
        }
        let categories = by_category(&rubric, leaf);
        for (name, expected) in scoring["by_category"].as_object().expect("scores") {
            let category = Category::from_name(name).expect("a category");
            let found = categories[&category].and_then(|score| score.score);
            assert_close(&format!("{paper} {name}"), found, expected);
        }
    }
}

#[test]
fn prior_nodes() {
    let Some(data) = data() else { return };
    let mut checked = 0;
    for (paper, expected) in oracle(&data, "rubric-") {
        let rubric = read(data.join("paperbench/papers").join(&paper).join("rubric.json"));
        let leaves: Vec<usize> = rubric.leaves().map(|(index, _)| index).collect();
        for case in expected["prior_nodes"].as_array().expect("a list") {
            let number = case["leaf_index"].as_u64().expect("an index") as usize;
            let leaf = leaves[number];
            assert_eq!(rubric.nodes()[leaf].id.as_str(), case["leaf_id"], "{paper}");
            for (max, name) in [(None, "all"), (Some(5), "last5")] {
                let found = rubric.prior_nodes(leaf, max);
                let ids: Vec<_> = found.iter().map(|i| rubric.nodes()[*i].id.as_str()).collect();
                assert_eq!(Value::from(ids), case[name], "{paper} leaf {number} {name}");
                checked += 1;
            }
        }
    }
    assert!(checked > 200, "{checked} lists compared");
}

#[test]
fn graded_trees() {
    let Some(data) = data() else { return };
    let documents = oracle(&data, "judge-");
    assert_eq!(documents.len(), 3);
    for (example, expected) in documents {
        let folder = data.join("paperbench/judge_eval").join(&example);
        let tree = read(folder.join("expected_result.json"));
        assert_eq!(tree.leaf_count() as u64, expected["leaves"], "{example}");
        let in_file = tree.root().grade.as_ref().map(|grade| grade.score);
        assert_close(&example, in_file, &expected["human_root_in_file"]);
        let human = TreeScores::compute(&tree, Node::valid_score);
        assert_close(&example, human.root().score, &expected["human_root_recomputed"]);
        let code = tree.only(Category::CodeDevelopment).expect("some code");
        let code = TreeScores::compute(&code, Node::valid_score);
        assert_close(&example, code.root().score, &expected["human_code_only_root"]);
        let positives = tree.leaves().filter(|(_, n)| n.valid_score() == Some(1.0)).count();
        assert_eq!(positives as u64, expected["human_positives"], "{example}");
        let invalid = tree.leaves().filter(|(_, n)| n.valid_score().is_none()).count();
        assert_eq!(invalid as u64, expected["invalid_in_file"], "{example}");

        for prediction in expected["predictions"].as_array().expect("a list") {
            let name = format!("{example} {}", prediction["name"]);
            let given = numbers(&prediction["scores"]);
            let valid = prediction["valid"].as_array().expect("a list");
            let missing = valid.iter().filter(|v| **v == false).count();
            let scores = TreeScores::compute(&tree, |node| {
                let index = leaf_index(node);
                (valid[index] == true).then_some(given[index])
            });
            // PaperBench counts an invalid leaf as its 0: that is the lower bound.
            let root = scores.root();
            assert_close(&name, Some(root.lower), &prediction["root"]);
            assert_eq!(root.ungraded as usize, missing, "{name}");
            assert_eq!(root.score.is_some(), missing == 0, "{name}");
        }
    }
}
