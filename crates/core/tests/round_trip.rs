//! What is read comes out again.

use serde_json::{Value, json};
use tribunal_core::{
    Rubric,
    rubric::json::{TreeWriter, graded_fields, node_fields, number, to_string},
};

fn parse(document: &Value) -> Rubric {
    Rubric::parse("r.json", document.to_string().as_bytes()).expect("valid")
}

fn written(rubric: &Rubric) -> Value {
    serde_json::from_str(&to_string(rubric, graded_fields)).expect("JSON")
}

fn leaf(id: &str, weight: Value) -> Value {
    json!({"id": id, "requirements": "x", "weight": weight, "sub_tasks": [],
           "task_category": "Code Development",
           "finegrained_task_category": "Method Implementation"})
}

fn group(children: Vec<Value>) -> Value {
    json!({"id": "g", "requirements": "\"quoted\"\n\\ ü \u{1F600}", "weight": 1,
           "sub_tasks": children, "task_category": null, "finegrained_task_category": null})
}

#[test]
fn a_rubric_comes_out_as_it_went_in() {
    let first = group(vec![leaf("a", json!(1)), leaf("b", json!(0.5))]);
    let second = group(vec![group(vec![leaf("c", json!(3))]), leaf("c", json!(0))]);
    for document in [leaf("only", json!(2)), group(vec![first, second])] {
        let rubric = parse(&document);
        assert_eq!(written(&rubric), document);
        assert_eq!(parse(&written(&rubric)), rubric);
    }
}

#[test]
fn unknown_fields_are_kept() {
    let mut document = group(vec![leaf("a", json!(1))]);
    document["note"] = json!({"by": ["x", null, 1.5], "deep": {"er": true}});
    document["sub_tasks"][0]["metadata"] = json!("kept");
    // Without a score these are nobody's grade, and not Tribunal's to drop.
    document["sub_tasks"][0]["explanation"] = json!("why it matters");
    document["sub_tasks"][0]["judge_metadata"] = json!({"hint": 1});
    assert_eq!(written(&parse(&document)), document);
}

#[test]
fn grades_come_out_again() {
    let mut document = group(vec![leaf("a", json!(1)), leaf("b", json!(1))]);
    let grade = |node: &mut Value, score: f64, valid: bool| {
        node["score"] = json!(score);
        node["valid_score"] = json!(valid);
        node["explanation"] = json!("so");
        node["judge_metadata"] = json!({"token_usage": {"m": {"in": 1, "out": 2}}});
        node["reviewer"] = json!("kept");
    };
    grade(&mut document, 0.1 + 0.2, true);
    grade(&mut document["sub_tasks"][0], 0.6, true);
    grade(&mut document["sub_tasks"][1], 0.0, false);
    let rubric = parse(&document);
    assert_eq!(rubric.nodes()[1].valid_score(), Some(0.6));
    assert_eq!(rubric.nodes()[2].valid_score(), None);
    assert_eq!(written(&rubric), document);
    let wrapped = json!({"judge_type": "x", "graded_task_tree": document});
    assert_eq!(parse(&wrapped), rubric);
}

#[test]
fn whole_weights_stay_whole() {
    let text = to_string(&parse(&leaf("a", json!(3.0))), node_fields);
    assert!(text.contains("\"weight\":3,"), "{text}");
    assert_eq!(number(0.0).to_string(), "0");
    assert_eq!(number(-0.0).to_string(), "0");
    assert_eq!(number(2.5).to_string(), "2.5");
    assert_eq!(number(1e15).to_string(), "1000000000000000");
    assert_eq!(number(1e300).as_f64(), Some(1e300));
}

#[test]
fn a_tree_is_written_node_by_node() {
    let document = group(vec![group(vec![leaf("a", json!(1))]), leaf("b", json!(1))]);
    let rubric = parse(&document);
    let mut writer = TreeWriter::new(&rubric, Vec::new());
    for node in rubric.nodes() {
        let mut fields = node_fields(node);
        fields.insert("position".to_owned(), json!(node.position()));
        writer.node(&fields).expect("a vector takes every write");
    }
    let bytes = writer.finish().expect("a vector takes every write");
    let tree: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(tree["position"], 0);
    assert_eq!(tree["sub_tasks"][0]["sub_tasks"][0]["position"], 2);
    assert_eq!(tree["sub_tasks"][1]["position"], 3);
    assert_eq!(tree["sub_tasks"][1]["sub_tasks"], json!([]));
}
