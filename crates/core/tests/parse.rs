//! Every kind of bad rubric gives its file, JSON path, line and reason, and never a panic.

use proptest::prelude::*;
use tribunal_core::{
    Category, Rubric,
    rubric::parse::{MAX_DEPTH, RubricError},
};

/// A valid rubric of one group with two leaves; each line of it is a line of the file.
const VALID: &str = r#"{
  "id": "root",
  "requirements": "All of it",
  "weight": 1,
  "sub_tasks": [
    {"id": "a", "requirements": "A", "weight": 2, "sub_tasks": [],
     "task_category": "Code Development"},
    {"id": "b", "requirements": "B", "weight": 1, "sub_tasks": [],
     "task_category": "Result Analysis"}
  ]
}"#;

fn error(text: &str) -> RubricError {
    Rubric::parse("r.json", text.as_bytes()).expect_err("the rubric is not valid")
}

/// `VALID` with one text replaced; the text must be there.
fn changed(from: &str, to: &str) -> String {
    assert!(VALID.contains(from), "{from}");
    VALID.replacen(from, to, 1)
}

/// Asserts that the only problem stands at this path and line and speaks of `words`.
#[track_caller]
fn assert_problem(text: &str, path: &str, line: usize, words: &str) {
    let error = error(text);
    assert_eq!(error.problems.len(), 1, "{error}");
    let problem = &error.problems[0];
    assert_eq!((problem.path.as_str(), problem.line), (path, line), "{error}");
    assert!(problem.message.contains(words), "{error}");
    let (line, column) = (problem.line, problem.column);
    let start = format!("r.json:{line}:{column}: {path}: ");
    assert!(error.to_string().starts_with(&start), "{error}");
}

#[test]
fn a_valid_rubric_is_read() {
    let rubric = Rubric::parse("r.json", VALID.as_bytes()).expect("valid");
    let leaves: Vec<_> = rubric
        .leaves()
        .map(|(index, leaf)| (index, leaf.id.as_str(), leaf.leaf_index(), leaf.category))
        .collect();
    let expected = [
        (1, "a", Some(0), Some(Category::CodeDevelopment)),
        (2, "b", Some(1), Some(Category::ResultAnalysis)),
    ];
    assert_eq!(leaves, expected);
    assert_eq!(rubric.root().leaf_index(), None);
    assert_eq!(rubric.depth(), 2);
    assert!(!rubric.is_graded());
}

#[test]
fn a_rubric_of_one_leaf_is_a_rubric() {
    let text = r#"{"id":"a","requirements":"A","weight":0,"sub_tasks":[],
                   "task_category":"Code Execution"}"#;
    let rubric = Rubric::parse("r.json", text.as_bytes()).expect("valid");
    assert_eq!(rubric.leaf_count(), 1);
    assert_eq!(rubric.root().leaf_index(), Some(0));
}

#[test]
fn a_byte_order_mark_is_no_problem() {
    let text = format!("\u{feff}{VALID}");
    let rubric = Rubric::parse("r.json", text.as_bytes()).expect("valid");
    assert_eq!(rubric.leaf_count(), 2);
    let bad = format!("\u{feff}{}", changed(r#""weight": 2"#, r#""weight": -2"#));
    assert_problem(&bad, "$.sub_tasks[0].weight", 6, "negative");
}

#[test]
fn a_truncated_file_is_not_json() {
    let text = &VALID[..VALID.find("\"b\"").expect("there")];
    assert_problem(text, "$", 8, "not valid JSON: EOF");
}

#[test]
fn text_that_is_not_json() {
    assert_problem("# A rubric\n", "$", 1, "not valid JSON");
    assert_problem("", "$", 1, "the file is empty");
    assert_problem(" \n\n ", "$", 3, "the file is empty");
    assert_problem("[]", "$", 1, "no node");
    assert_problem("\"rubric\"", "$", 1, "no node");
    assert_problem("null", "$", 1, "no node");
    let twice = format!("{VALID}\n{VALID}");
    assert_problem(&twice, "$", 12, "not valid JSON: trailing characters");
}

#[test]
fn bytes_that_are_not_utf8() {
    let mut bytes = VALID.as_bytes().to_vec();
    let at = VALID.find("All of it").expect("there");
    bytes[at] = 0xff;
    let error = Rubric::parse("r.json", &bytes).expect_err("not UTF-8");
    assert_eq!((error.problems[0].line, error.problems[0].column), (3, 20));
    assert!(error.to_string().contains("not UTF-8"), "{error}");
}

#[test]
fn weights_are_finite_numbers_from_zero() {
    let weight = "$.sub_tasks[0].weight";
    for (value, words) in [
        ("\"2\"", "is not a number"),
        ("true", "is not a number"),
        ("null", "is not a number"),
        ("[2]", "is not a number"),
        ("-0.5", "is negative"),
        ("1e999", "is not finite"),
        ("-1e999", "is not finite"),
    ] {
        let text = changed(r#""weight": 2"#, &format!(r#""weight": {value}"#));
        assert_problem(&text, weight, 6, words);
        assert!(error(&text).to_string().contains(value), "{value} is shown");
    }
    // JSON has no NaN: the whole file is not JSON.
    let nan = changed(r#""weight": 2"#, r#""weight": NaN"#);
    assert_problem(&nan, "$", 6, "not valid JSON");
}

#[test]
fn weights_whose_sum_is_not_finite() {
    let text = changed(r#""weight": 2"#, r#""weight": 1e308"#);
    let text = text.replacen(
        r#""requirements": "B", "weight": 1"#,
        r#""requirements": "B", "weight": 1e308"#,
        1,
    );
    assert_problem(&text, "$", 1, "sum to more than a number can hold");
}

#[test]
fn categories_belong_to_leaves() {
    let leaf = "$.sub_tasks[0]";
    let without = changed(",\n     \"task_category\": \"Code Development\"", "");
    assert_problem(&without, leaf, 6, "a leaf without task_category");
    let null = changed("\"Code Development\"", "null");
    assert_problem(&null, leaf, 6, "a leaf without task_category");
    let unknown = changed("\"Code Development\"", "\"Code Reading\"");
    let path = "$.sub_tasks[0].task_category";
    assert_problem(&unknown, path, 7, "unknown category `\"Code Reading\"`");
    assert_problem(&changed("\"Code Development\"", "3"), path, 7, "unknown category `3`");
    let subtree = changed("\"Code Development\"", "\"Subtree\"");
    assert_problem(&subtree, path, 7, "`Subtree` is for graded trees");
    let inner = changed("\"weight\": 1,", "\"weight\": 1, \"task_category\": \"Code Execution\",");
    assert_problem(&inner, "$.task_category", 4, "an inner node cannot have a category");
}

#[test]
fn an_empty_tree_is_refused() {
    let text = r#"{"id":"root","requirements":"All","weight":1,"sub_tasks":[ ]}"#;
    assert_problem(text, "$", 1, "the tree is empty");
    let wrapped = format!("{{\"graded_task_tree\":\n{text}}}");
    assert_problem(&wrapped, "$.graded_task_tree", 2, "the tree is empty");
}

#[test]
fn missing_fields_are_named() {
    let leaf = "$.sub_tasks[0]";
    for (field, found) in [
        ("id", "\"id\": \"a\", "),
        ("requirements", "\"requirements\": \"A\", "),
        ("weight", "\"weight\": 2, "),
        ("sub_tasks", "\"sub_tasks\": [],\n     \"task_category\": \"Code D"),
    ] {
        let rest = if field == "sub_tasks" { "\"task_category\": \"Code D" } else { "" };
        let text = changed(found, rest);
        assert_problem(&text, leaf, 6, &format!("missing field `{field}`"));
    }
}

#[test]
fn fields_of_the_wrong_type_are_named() {
    for (from, to, path, line, words) in [
        ("\"a\"", "7", "$.sub_tasks[0].id", 6, "`7` is not a string"),
        ("\"A\"", "null", "$.sub_tasks[0].requirements", 6, "is not a string"),
        ("[],", "{},", "$.sub_tasks[0].sub_tasks", 6, "is not a list"),
        ("[],", "null,", "$.sub_tasks[0].sub_tasks", 6, "is not a list"),
        ("[],", "[7],", "$.sub_tasks[0].sub_tasks[0]", 6, "`7` is no node"),
    ] {
        let error = error(&changed(from, to));
        let found = error
            .problems
            .iter()
            .any(|p| p.path == path && p.line == line && p.message.contains(words));
        assert!(found, "{to}: {error}");
    }
    let fine = changed("\"weight\": 2", "\"weight\": 2, \"finegrained_task_category\": 3");
    assert_problem(&fine, "$.sub_tasks[0].finegrained_task_category", 6, "not a string");
}

#[test]
fn two_problems_are_both_reported_in_document_order() {
    let text = changed("\"weight\": 2", "\"weight\": -2").replace("Result Analysis", "Results");
    let error = error(&text);
    let paths: Vec<_> = error.problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["$.sub_tasks[0].weight", "$.sub_tasks[1].task_category"]);
    assert_eq!(error.to_string().lines().count(), 2);
}

#[test]
fn a_flood_of_problems_is_counted() {
    let leaf = r#"{"id":"a","requirements":"A","weight":-1,"sub_tasks":[],
                   "task_category":"Code Execution"}"#;
    let leaves = vec![leaf; 70].join(",");
    let error =
        error(&format!(r#"{{"id":"r","requirements":"R","weight":1,"sub_tasks":[{leaves}]}}"#));
    assert_eq!((error.problems.len(), error.more), (50, 20));
    assert!(error.to_string().ends_with("and 20 more problems"), "{error}");
}

#[test]
fn a_field_that_stands_twice_is_refused() {
    let text = changed("\"weight\": 2", "\"weight\": 2, \"weight\": 5");
    assert_problem(&text, "$.sub_tasks[0]", 6, "the field `weight` stands twice");
}

#[test]
fn columns_point_at_the_value() {
    let error = error(&changed("\"weight\": 2", "\"weight\": -2"));
    let line = VALID.lines().nth(5).expect("six lines");
    let column = line.find("\"weight\": ").expect("there") + "\"weight\": ".len() + 1;
    assert_eq!(error.problems[0].column, column);
}

/// Groups nested to `depth` levels, the innermost being a leaf.
fn nested(depth: usize) -> String {
    let group = r#"{"id":"g","requirements":"G","weight":1,"sub_tasks":["#;
    let leaf = r#"{"id":"l","requirements":"L","weight":1,"sub_tasks":[],
                   "task_category":"Code Execution"}"#;
    format!("{}{leaf}{}", group.repeat(depth - 1), "]}".repeat(depth - 1))
}

#[test]
fn depth_is_limited_by_a_number_not_by_the_stack() {
    let deepest = nested(MAX_DEPTH as usize);
    let rubric = Rubric::parse("r.json", deepest.as_bytes()).expect("valid");
    assert_eq!(rubric.depth(), MAX_DEPTH);
    for depth in [MAX_DEPTH as usize + 1, 10_000] {
        let error = error(&nested(depth));
        assert_eq!(error.problems.len(), 1, "{depth}");
        let problem = &error.problems[0];
        assert!(problem.message.contains("deeper than 100 levels"), "{}", problem.message);
        assert_eq!(problem.path.matches("sub_tasks").count(), MAX_DEPTH as usize);
    }
}

#[test]
fn other_fields_cannot_overflow_the_stack_either() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for field in ["note", "sub_tasks", "task_category", "weight", "id"] {
        let text = changed("\"sub_tasks\": []", &format!("\"{field}\": {deep}"));
        assert!(!error(&text).problems.is_empty(), "{field}");
    }
    assert!(!error(&deep).problems.is_empty());
    let open = "[".repeat(10_000);
    assert!(error(&open).to_string().contains("not valid JSON"));
}

#[test]
fn graded_trees_need_a_grade_on_every_node() {
    let node = |extra: &str, children: &str| {
        format!(r#"{{"id":"n","requirements":"N","weight":1{extra},"sub_tasks":[{children}]}}"#)
    };
    let category = r#","task_category":"Code Execution""#;
    let grade = r#","score":1,"valid_score":true"#;
    let leaf = node(&format!("{category}{grade}"), "");
    let tree = node(grade, &leaf);
    let rubric = Rubric::parse("g.json", tree.as_bytes()).expect("valid");
    assert!(rubric.is_graded());
    let wrapped = format!(r#"{{"score":1,"graded_task_tree":{tree}}}"#);
    assert_eq!(Rubric::parse("g.json", wrapped.as_bytes()).expect("valid"), rubric);

    let ungraded_leaf = node(category, "");
    assert_problem(&node(grade, &ungraded_leaf), "$.sub_tasks[0]", 1, "missing field `score`");
    let half = node(&format!(r#"{category},"score":1"#), "");
    assert_problem(&node(grade, &half), "$.sub_tasks[0]", 1, "missing field `valid_score`");
    for (grade, path, words) in [
        (r#","score":1.5,"valid_score":true"#, "$.score", "a number from 0 to 1"),
        (r#","score":-1,"valid_score":true"#, "$.score", "a number from 0 to 1"),
        (r#","score":"1","valid_score":true"#, "$.score", "a number from 0 to 1"),
        (r#","score":null,"valid_score":true"#, "$.score", "a number from 0 to 1"),
        (r#","score":1,"valid_score":2"#, "$.valid_score", "neither true nor false"),
    ] {
        assert_problem(&node(grade, &leaf), path, 1, words);
    }
    let subtree = node(r#","task_category":"Subtree","score":0.25,"valid_score":true"#, "");
    let cut = Rubric::parse("g.json", node(grade, &subtree).as_bytes()).expect("valid");
    assert_eq!(cut.nodes()[1].valid_score(), Some(0.25));
}

proptest! {
    /// Any bytes, and any damage to a valid file, give a rubric or an error that says where.
    #[test]
    fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200),
                       at in 0..VALID.len(), byte in any::<u8>()) {
        let mut damaged = VALID.as_bytes().to_vec();
        damaged[at] = byte;
        for input in [bytes, damaged] {
            if let Err(error) = Rubric::parse("r.json", &input) {
                prop_assert!(!error.problems.is_empty());
                let placed = error.problems.iter().all(|p| {
                    p.line >= 1 && p.column >= 1 && p.path.starts_with('$')
                });
                prop_assert!(placed, "{error}");
            }
        }
    }
}

#[test]
fn our_own_scored_tree_is_a_graded_tree() {
    let leaf = |id: &str, score: &str| {
        format!(
            "{{\"id\": \"{id}\", \"requirements\": \"R\", \"weight\": 1, \"sub_tasks\": [], \
             \"task_category\": \"Code Development\", \"score\": {score}, \"lower\": 0, \
             \"explanation\": \"why {id}\"}}"
        )
    };
    let document = |second: &str| {
        format!(
            "{{\"schema\": \"tribunal.scored_tree/1\", \"simulated\": true, \"tree\": {{\"id\": \"r\", \
             \"requirements\": \"R\", \"weight\": 1, \"score\": null, \"sub_tasks\": [{}, {}]}}}}",
            leaf("a", "1.0"),
            leaf("b", second)
        )
    };
    let tree = Rubric::parse("scored_tree.json", document("null").as_bytes()).unwrap();
    assert!(tree.is_graded());
    let scores: Vec<_> = tree.leaves().map(|(_, leaf)| leaf.valid_score()).collect();
    assert_eq!(scores, [Some(1.0), None]);
    assert_eq!(tree.nodes()[1].grade.as_ref().unwrap().explanation, "why a");
    let error = Rubric::parse("scored_tree.json", document("7").as_bytes()).unwrap_err();
    assert_eq!(error.problems[0].path, "$.tree.sub_tasks[1].score");
}

#[test]
fn trees_are_found_in_every_wrapping() {
    let leaf = |score: &str| {
        format!(
            r#"{{"id":"a","requirements":"A","weight":1,"sub_tasks":[],
                 "task_category":"Code Execution",{score}}}"#
        )
    };
    let (valid, invalid) = (r#""score":1,"valid_score":true"#, r#""score":0,"valid_score":false"#);
    let cases = [
        (leaf(valid), Some(1.0)),
        (format!(r#"{{"score":1,"graded_task_tree":{}}}"#, leaf(valid)), Some(1.0)),
        (
            format!(
                r#"{{"score":0,"paperbench_result":
                     {{"judge_output":{{"graded_task_tree":{}}}}}}}"#,
                leaf(invalid)
            ),
            None,
        ),
        (
            format!(
                r#"{{"schema":"tribunal.scored_tree/1","tree":{}}}"#,
                leaf(r#""score":0.5,"lower":0.5"#)
            ),
            Some(0.5),
        ),
        (
            format!(
                r#"{{"schema":"tribunal.scored_tree/1","tree":{}}}"#,
                leaf(r#""score":null,"lower":0"#)
            ),
            None,
        ),
    ];
    for (text, score) in cases {
        let tree = Rubric::parse("r.json", text.as_bytes()).expect("valid");
        assert!(tree.is_graded(), "{text}");
        assert_eq!(tree.root().valid_score(), score, "{text}");
    }
    let none = r#"{"paperbench_result":{"judge_output":null}}"#;
    assert_problem(none, "$.paperbench_result.judge_output", 1, "object");
}
