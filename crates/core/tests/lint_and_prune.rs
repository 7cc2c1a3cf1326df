//! Warnings, prunings, and what else is asked of a tree.

use serde_json::{Value, json};
use tribunal_core::{
    Category, Rubric,
    rubric::lint::{WarningKind, duplicate_ids, json_paths, lint},
};

fn parse(document: &Value) -> Rubric {
    Rubric::parse("r.json", document.to_string().as_bytes()).expect("valid")
}

fn leaf(id: &str, weight: f64, category: &str) -> Value {
    json!({"id": id, "requirements": format!("criterion {id}"), "weight": weight,
           "sub_tasks": [], "task_category": category})
}

fn dev(id: &str, weight: f64) -> Value {
    leaf(id, weight, "Code Development")
}

fn run(id: &str, weight: f64) -> Value {
    leaf(id, weight, "Code Execution")
}

fn group(id: &str, weight: f64, children: Vec<Value>) -> Value {
    json!({"id": id, "requirements": format!("group {id}"), "weight": weight,
           "sub_tasks": children})
}

fn ids(rubric: &Rubric) -> Vec<&str> {
    rubric.nodes().iter().map(|node| node.id.as_str()).collect()
}

/// root(b(d e) c(f g)) as in PaperBench's own example, e being an execution leaf.
fn example() -> Rubric {
    let b = group("b", 1.0, vec![dev("d", 1.0), run("e", 3.0)]);
    let c = group("c", 3.0, vec![run("f", 1.0), dev("g", 1.0)]);
    parse(&group("a", 1.0, vec![b, c]))
}

fn warnings(document: &Value) -> Vec<(WarningKind, String)> {
    lint(&parse(document)).into_iter().map(|w| (w.kind, w.path)).collect()
}

#[test]
fn a_plain_rubric_has_no_warning() {
    assert_eq!(lint(&example()), []);
}

#[test]
fn duplicate_ids_are_warned_of_at_their_first_place() {
    let inner = group("g", 1.0, vec![dev("y", 1.0), dev("x", 1.0)]);
    let document = group("r", 1.0, vec![dev("x", 1.0), inner, dev("y", 1.0)]);
    let expected = [
        (WarningKind::DuplicateId, "$.sub_tasks[0]".to_owned()),
        (WarningKind::DuplicateId, "$.sub_tasks[1].sub_tasks[0]".to_owned()),
    ];
    assert_eq!(warnings(&document), expected);
    assert_eq!(duplicate_ids(&parse(&document)), ["x", "y"]);
    assert_eq!(duplicate_ids(&example()), Vec::<String>::new());
}

#[test]
fn a_group_without_weight_is_warned_of() {
    let inner = group("g", 1.0, vec![dev("x", 0.0), dev("y", 0.0)]);
    let document = group("r", 1.0, vec![inner, dev("z", 0.0)]);
    let expected = [(WarningKind::ZeroWeightGroup, "$.sub_tasks[0]".to_owned())];
    assert_eq!(warnings(&document), expected);
}

#[test]
fn a_leaf_that_decides_the_root_is_warned_of() {
    let mut leaves: Vec<Value> = (0..9).map(|i| dev(&format!("x{i}"), 1.0)).collect();
    leaves.push(dev("big", 3.0));
    let dominant = group("r", 1.0, leaves.clone());
    let expected = [(WarningKind::DominantLeaf, "$.sub_tasks[9]".to_owned())];
    assert_eq!(warnings(&dominant), expected);
    leaves[9]["weight"] = json!(2.9);
    assert_eq!(warnings(&group("r", 1.0, leaves.clone())), []);
    // In a small rubric every leaf is a large share.
    assert_eq!(warnings(&group("r", 1.0, leaves.split_off(5))), []);
}

#[test]
fn siblings_with_the_same_words_are_warned_of() {
    let mut twin = dev("y", 1.0);
    twin["requirements"] = json!("  criterion x ");
    let cousin = json!({"id": "z", "requirements": "criterion x", "weight": 1,
                        "sub_tasks": [], "task_category": "Code Execution"});
    let document = group("r", 1.0, vec![dev("x", 1.0), twin, group("g", 1.0, vec![cousin])]);
    let expected = [(WarningKind::IdenticalSiblings, "$.sub_tasks[1]".to_owned())];
    assert_eq!(warnings(&document), expected);
    let message = &lint(&parse(&document))[0].message;
    assert!(message.contains("$.sub_tasks[0]"), "{message}");
}

#[test]
fn an_unknown_fine_category_is_warned_of() {
    let mut odd = dev("x", 1.0);
    odd["finegrained_task_category"] = json!("Poetry");
    let mut known = dev("y", 1.0);
    known["finegrained_task_category"] = json!("Experimental Setup");
    let document = group("r", 1.0, vec![odd, known]);
    let expected = [(WarningKind::UnknownFineCategory, "$.sub_tasks[0]".to_owned())];
    assert_eq!(warnings(&document), expected);
}

#[test]
fn one_category_alone() {
    let rubric = example();
    let code = rubric.only(Category::CodeDevelopment).expect("there are some");
    assert_eq!(ids(&code), ["a", "b", "d", "c", "g"]);
    let positions: Vec<u32> = code.nodes().iter().map(|n| n.position()).collect();
    assert_eq!(positions, [0, 1, 2, 4, 6]);
    let leaves: Vec<_> = code.leaves().map(|(_, n)| n.leaf_index()).collect();
    assert_eq!(leaves, [Some(0), Some(3)]);
    assert_eq!(code.children(0).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(code.children(3).collect::<Vec<_>>(), [4]);
    assert_eq!(code.ancestors(4), [0, 3]);
    assert_eq!(code.by_position(6), Some(4));
    assert_eq!(code.by_position(3), None);
    assert_eq!(rubric.only(Category::ResultAnalysis), None);

    // A group left without leaves goes with them.
    let only_run = group("q", 1.0, vec![group("p", 1.0, vec![run("o", 1.0)])]);
    let document = group("r", 1.0, vec![only_run, dev("x", 1.0)]);
    let code = parse(&document).only(Category::CodeDevelopment).expect("there is one");
    assert_eq!(ids(&code), ["r", "x"]);
}

#[test]
fn resources_provided_weigh_nothing() {
    let mut download = dev("x", 2.0);
    download["finegrained_task_category"] = json!("Dataset and Model Acquisition");
    let mut inner = group("g", 1.0, vec![download]);
    inner["finegrained_task_category"] = json!("Dataset and Model Acquisition");
    let provided = parse(&group("r", 1.0, vec![inner, dev("y", 1.0)])).resources_provided();
    let weights: Vec<f64> = provided.nodes().iter().map(|n| n.weight).collect();
    assert_eq!(weights, [1.0, 1.0, 0.0, 1.0]);
}

#[test]
fn a_cut_makes_leaves_of_inner_nodes() {
    let rubric = example();
    let cut = rubric.cut(2);
    assert_eq!(ids(&cut), ["a", "b", "c"]);
    let categories: Vec<_> = cut.nodes().iter().map(|n| n.category).collect();
    assert_eq!(categories, [None, Some(Category::Subtree), Some(Category::Subtree)]);
    assert_eq!(cut.nodes()[2].position(), 4);
    assert_eq!(ids(&rubric.cut(1)), ["a"]);
    assert_eq!(rubric.cut(0), rubric.cut(1));
    assert_eq!(rubric.cut(3), rubric);
    assert_eq!(rubric.cut(99), rubric);
}

#[test]
fn fine_categories_come_from_another_file_by_position() {
    let mut fine = dev("d", 1.0);
    fine["finegrained_task_category"] = json!("Experimental Setup");
    let source = parse(&group("a", 1.0, vec![fine, dev("e", 1.0)]));
    let bare = parse(&group("a", 1.0, vec![dev("d", 5.0), dev("e", 1.0)]));
    let filled = bare.with_fine_categories_of(&source).expect("the same tree");
    let fines: Vec<_> = filled.nodes().iter().map(|n| n.fine_category.as_deref()).collect();
    assert_eq!(fines, [None, Some("Experimental Setup"), None]);
    assert_eq!(filled.nodes()[1].weight, 5.0);
    let other = parse(&group("a", 1.0, vec![dev("d", 1.0), dev("x", 1.0)]));
    let error = bare.with_fine_categories_of(&other).expect_err("another tree");
    assert!(error.contains("node 2 is `e` against `x`"), "{error}");
    let error = bare.with_fine_categories_of(&example()).expect_err("another tree");
    assert!(error.contains("3 nodes against 7"), "{error}");
}

#[test]
fn prior_nodes_are_what_stands_before() {
    let rubric = example();
    let prior = |index, max| -> Vec<&str> {
        let found = rubric.prior_nodes(index, max);
        found.into_iter().map(|i| rubric.nodes()[i].id.as_str()).collect()
    };
    assert_eq!(prior(6, None), ["a", "b", "c", "f"]);
    assert_eq!(prior(6, Some(3)), ["b", "c", "f"]);
    assert_eq!(prior(6, Some(0)), Vec::<&str>::new());
    assert_eq!(prior(6, Some(99)), ["a", "b", "c", "f"]);
    assert_eq!(prior(2, None), ["a", "b"]);
    assert_eq!(prior(4, None), ["a", "b"]);
    assert_eq!(prior(0, None), Vec::<&str>::new());
}

#[test]
fn prior_nodes_go_by_position_where_ids_repeat() {
    let second = group("g", 1.0, vec![dev("x", 1.0), dev("y", 1.0)]);
    let rubric = parse(&group("r", 1.0, vec![dev("x", 1.0), second]));
    assert_eq!(rubric.prior_nodes(3, None), [0, 1, 2]);
    assert_eq!(rubric.prior_nodes(4, None), [0, 1, 2, 3]);
}

#[test]
fn paths_and_shares() {
    let rubric = example();
    let paths = json_paths(&rubric);
    assert_eq!(paths[0], "$");
    assert_eq!(paths[6], "$.sub_tasks[1].sub_tasks[1]");
    let shares = rubric.weight_shares();
    assert_eq!(shares, [1.0, 0.25, 0.0625, 0.1875, 0.75, 0.375, 0.375]);
    let counts = rubric.category_counts();
    assert_eq!(counts[&Category::CodeDevelopment], 2);
    assert_eq!(counts.get(&Category::ResultAnalysis), None);
}
