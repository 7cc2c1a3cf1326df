//! `grader_output.json` is what PaperBench reads: the fields and rules of its `JudgeOutput`,
//! `GradedTaskNode` and `TaskNode`, checked one by one.

use serde_json::{Value, json};
use tempfile::TempDir;
use tribunal_collector::{ScoreSummary, export};
use tribunal_core::{Category, Node, Rubric};

use crate::{
    export::read_json,
    support::{Run, mixed_run},
};

async fn grader_output(run: &Run) -> (ScoreSummary, Value) {
    let dir = TempDir::new().expect("a folder");
    let collected = run.collect().await;
    export(&collected, &run.store, dir.path()).await.expect("exported");
    let output = read_json(&dir.path().join("grader_output.json"));
    (collected.summary().clone(), output)
}

/// What `from_dict` and the checks after it ask of a node and of all below it. Returns the score
/// that PaperBench would compute from the children.
fn check(node: &Value) -> f64 {
    let id = node["id"].as_str().expect("id is a string");
    assert!(node["requirements"].is_string(), "{id}");
    let weight = node["weight"].as_f64().expect("weight is a number");
    assert!(weight >= 0.0, "{id}");
    let score = node["score"].as_f64().expect("score is a number");
    let valid = node["valid_score"].as_bool().expect("valid_score is a bool");
    assert!(node["explanation"].is_string(), "{id}");
    let metadata = node.get("judge_metadata").expect("judge_metadata is there");
    let category = node.get("task_category").expect("task_category is there");
    let fine = &node["finegrained_task_category"];
    assert!(fine.is_null() || fine.is_string(), "{id}");
    let children = node["sub_tasks"].as_array().expect("sub_tasks is a list");
    if children.is_empty() {
        let category = category.as_str().and_then(Category::from_name);
        assert!(category.is_some(), "{id} is a leaf with a category");
        assert!(metadata.is_object(), "{id}");
        assert!(valid || score == 0.0, "{id}");
        return score;
    }
    assert!(category.is_null(), "{id} is an inner node without one");
    assert!(metadata.is_null(), "{id}");
    assert!(valid, "{id}");
    let weight = |child: &Value| child["weight"].as_f64().expect("a number");
    let total: f64 = children.iter().map(weight).sum();
    let sum: f64 = children.iter().map(|child| check(child) * weight(child)).sum();
    let mean = if total == 0.0 { 0.0 } else { sum / total };
    assert!((mean - score).abs() < 1e-12, "{id}: {score} against {mean}");
    mean
}

#[tokio::test]
async fn the_output_has_the_fields_of_a_judge_output() {
    let (summary, output) = grader_output(&mixed_run(false).await).await;
    assert_eq!(output["judge_type"], "tribunal");
    assert_eq!(output["score"], summary.root.lower);
    assert_eq!(output["num_leaf_nodes"], 5);
    assert_eq!(output["num_invalid_leaf_nodes"], 3);
    // Anything else there would be read as the settings of PaperBench's own client.
    assert_eq!(output["completer_config"], Value::Null);
    assert_eq!(output["token_usage"], json!({"model-1": {"in": 3000, "out": 150}}));
    let at = output["graded_at"].as_str().expect("a string");
    let shape: String = at.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00-00-00-GMT");
}

#[tokio::test]
async fn the_tree_is_one_of_graded_task_nodes() {
    let (summary, output) = grader_output(&mixed_run(false).await).await;
    let tree = &output["graded_task_tree"];
    let root = check(tree);
    assert!((root - summary.root.lower).abs() < 1e-12);

    let b = &tree["sub_tasks"][0]["sub_tasks"][1];
    assert_eq!((&b["score"], &b["valid_score"]), (&json!(0.0), &json!(false)));
    assert_eq!(b["judge_metadata"]["ungraded_reason"], "refused");
    let a = &tree["sub_tasks"][0]["sub_tasks"][0];
    assert_eq!((&a["score"], &a["valid_score"]), (&json!(1.0), &json!(true)));
    let metadata = &a["judge_metadata"];
    assert_eq!(metadata["model"], "model-1-0613");
    assert_eq!(metadata["simulated"], false);
    assert_eq!(metadata["confidence"], 0.75);
    assert_eq!(metadata["evidence"][0]["lines"], "1-2");
    let text = tree["explanation"].as_str().expect("a string");
    assert!(text.contains("3 of 5 leaves are not graded"), "{text}");
}

/// The file is a graded tree like any other: scored again, it gives the run's scores.
#[tokio::test]
async fn the_output_can_be_rescored() {
    let (summary, output) = grader_output(&mixed_run(false).await).await;
    let bytes = output.to_string().into_bytes();
    let rubric = Rubric::parse("grader_output.json", &bytes).expect("valid");
    assert_eq!(ScoreSummary::new(&rubric, Node::valid_score, false), summary);
}
