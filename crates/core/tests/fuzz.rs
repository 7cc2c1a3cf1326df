//! The rubric's parser against damaged and random input; see `tribunal-evidence`'s
//! `support/fuzz.rs`.

use proptest::prelude::*;
use serde_json::{Value, json};
use tribunal_core::{Rubric, run::GradeOptions, score::TreeScores};

use crate::rounds::{fuzz, mutate, mutations};

#[path = "../../evidence/tests/support/fuzz.rs"]
mod rounds;

const RUBRIC: &str = r#"{"id": "root", "requirements": "Größe", "weight": 1, "score": 0.5,
    "valid_score": true, "explanation": "x", "judge_metadata": null, "sub_tasks": [
    {"id": "a", "requirements": "a", "weight": 2, "sub_tasks": [],
        "task_category": "Code Development", "finegrained_task_category": "Method Implementation"},
    {"id": "g", "requirements": "g", "weight": 1.5, "sub_tasks": [
        {"id": "a", "requirements": "b", "weight": 0, "sub_tasks": [],
            "task_category": "Result Analysis", "score": 1}], "task_category": null}]}"#;

/// Trees of any shape, with values that are nearly right.
fn trees() -> impl Strategy<Value = Value> {
    let weight = prop_oneof![
        (0i64..5).prop_map(Value::from),
        (-1.0..4.0).prop_map(|weight: f64| json!(weight)),
        Just(json!(1e308)),
        Just(json!("1")),
        Just(Value::Null),
    ];
    let category = prop::sample::select(vec![
        json!("Code Development"),
        json!("Code Execution"),
        json!("Result Analysis"),
        json!("Subtree"),
        json!("Other"),
        Value::Null,
    ]);
    let node = (weight, category, "[a-c]{0,2}").prop_map(|(weight, category, id)| {
        json!({"id": id, "requirements": "r", "weight": weight, "task_category": category})
    });
    let leaf = node.clone().prop_map(|mut node| {
        node["sub_tasks"] = json!([]);
        node
    });
    leaf.prop_recursive(6, 40, 5, move |child| {
        (node.clone(), prop::collection::vec(child, 0..5)).prop_map(|(mut node, children)| {
            node["sub_tasks"] = Value::from(children);
            node["task_category"] = Value::Null;
            node
        })
    })
}

fn inputs() -> impl Strategy<Value = Vec<u8>> {
    let damaged = mutations().prop_map(|mutations| mutate(RUBRIC.as_bytes().to_vec(), &mutations));
    let damaged_tree = (trees(), mutations())
        .prop_map(|(tree, mutations)| mutate(tree.to_string().into_bytes(), &mutations));
    let nested = (1usize..2_000, any::<bool>()).prop_map(|(depth, closed)| {
        let open = r#"{"id":"x","requirements":"r","weight":1,"sub_tasks":["#.repeat(depth);
        let close = if closed { "]}".repeat(depth) } else { String::new() };
        format!("{open}{close}").into_bytes()
    });
    prop_oneof![
        4 => damaged,
        3 => trees().prop_map(|tree| tree.to_string().into_bytes()),
        2 => damaged_tree,
        1 => nested,
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

#[test]
fn rubrics() {
    fuzz("rubrics", &inputs(), |bytes| {
        let Ok(rubric) = Rubric::parse("rubric.json", &bytes) else { return };
        assert!(rubric.leaf_count() >= 1 && rubric.nodes().len() >= rubric.leaf_count());
        for (index, node) in rubric.nodes().iter().enumerate() {
            assert_eq!(rubric.by_position(node.position()), Some(index));
            assert!(node.weight.is_finite() && node.weight >= 0.0, "{}", node.weight);
            assert!(rubric.end(index) > index && rubric.end(index) <= rubric.nodes().len());
        }
        let shares: f64 = {
            let shares = rubric.weight_shares();
            assert!(shares.iter().all(|share| (0.0..=1.0 + 1e-9).contains(share)), "{shares:?}");
            rubric.leaves().map(|(index, _)| shares[index]).sum()
        };
        assert!(shares <= 1.0 + 1e-6, "{shares}");
        for options in [
            GradeOptions::default(),
            GradeOptions { code_only: true, ..GradeOptions::default() },
            GradeOptions { max_depth: Some(2), resources_provided: true, code_only: false },
        ] {
            let Some(graded) = options.apply(rubric.clone()) else { continue };
            let scores = TreeScores::compute(&graded, |node| Some(f64::from(node.position() % 2)));
            let root = scores.node(0);
            assert!(root.lower.is_finite() && (0.0..=1.0 + 1e-9).contains(&root.lower));
            for (index, _) in graded.leaves() {
                let _ = graded.prior_nodes(index, Some(5));
            }
        }
    });
}
