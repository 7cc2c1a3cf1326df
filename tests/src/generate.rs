//! Rubrics, human grades and submissions of any size.
//!
//! Owns their texts. The same number of leaves gives the same bytes.

use std::{fs, path::Path};

use serde_json::{Value, json};

const CATEGORIES: [&str; 2] = ["Code Development", "Code Execution"];

/// Writes a rubric of `leaves` leaves in groups of ten, those in groups of ten and so on, with terms that a lexical judge finds in
/// the submission of [`write_submission`] for some of them.
///
/// # Panics
///
/// When the file cannot be written.
pub fn write_rubric(path: &Path, leaves: usize) {
    fs::write(path, tree(leaves, None).to_string()).expect("the rubric is written");
}

/// Writes the rubric of [`write_rubric`] with a human's grades, `grade` at every node.
///
/// # Panics
///
/// When the file cannot be written.
pub fn write_labels(path: &Path, leaves: usize, grade: f64) {
    fs::write(path, tree(leaves, Some(grade)).to_string()).expect("the labels are written");
}

/// Writes a small submission: code for every third leaf of [`write_rubric`]'s rubric.
///
/// # Panics
///
/// When a file cannot be written.
pub fn write_submission(folder: &Path, leaves: usize) {
    fs::create_dir_all(folder.join("src")).expect("a folder");
    let function =
        |i: usize| format!("def transform_{i}(tensor):\n    return scale(tensor, part={i})\n\n");
    let code: String = (0..leaves).step_by(3).map(function).collect();
    fs::write(folder.join("src/method.py"), code).expect("written");
    fs::write(folder.join("README.md"), "# Reproduction\n").expect("written");
    fs::write(folder.join("reproduce.sh"), "python3 src/method.py\n").expect("written");
}

fn tree(leaves: usize, grade: Option<f64>) -> Value {
    let mut level = 0;
    let mut nodes: Vec<Value> = (0..leaves).map(|i| leaf(i, grade)).collect();
    // Real rubrics are deep rather than wide: no node has more than ten children.
    while nodes.len() > 10 || level == 0 {
        let name = if level == 0 { "group".to_owned() } else { format!("group{level}") };
        let mut rest = nodes.into_iter().peekable();
        nodes = Vec::new();
        while rest.peek().is_some() {
            let (g, children) = (nodes.len(), rest.by_ref().take(10).collect());
            let words = format!("Part {g} of the method is reproduced.");
            nodes.push(inner(&format!("{name}-{g}"), &words, children, grade));
        }
        level += 1;
    }
    inner("root", "The method is reproduced.", nodes, grade)
}

fn inner(id: &str, words: &str, children: Vec<Value>, grade: Option<f64>) -> Value {
    let node = json!({
        "id": id,
        "requirements": words,
        "weight": 1,
        "sub_tasks": children,
        "task_category": null,
        "finegrained_task_category": null,
    });
    graded(node, grade)
}

fn leaf(i: usize, grade: Option<f64>) -> Value {
    let node = json!({
        "id": format!("leaf-{i}"),
        "requirements": format!("The function transform_{i} scales the tensor of part {i}."),
        "weight": 1 + i % 3,
        "sub_tasks": [],
        "task_category": CATEGORIES[i % CATEGORIES.len()],
        "finegrained_task_category": "Method Implementation",
    });
    graded(node, grade)
}

fn graded(mut node: Value, grade: Option<f64>) -> Value {
    if let Some(grade) = grade {
        node["score"] = json!(grade);
        node["valid_score"] = json!(true);
        node["explanation"] = json!("as the human saw it");
        node["judge_metadata"] = Value::Null;
    }
    node
}
