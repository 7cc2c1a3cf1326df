//! The way of a run through the whole house: graded once, never twice, the same scores everywhere.

use std::collections::BTreeSet;

use serde_json::Value;
use tribunal_e2e::{SimProcess, Workspace, assert_exit, document, number, sum};

/// Leaves of the bundled example: all, and those of Code Development.
const LEAVES: u64 = 29;
const CODE_LEAVES: u64 = 14;

const LABELS: [&str; 2] = ["--labels", "tests/fixtures/example/expected_result.json"];

fn labelled_sim() -> SimProcess {
    let labels = tribunal_e2e::repository(LABELS[1]);
    SimProcess::start(&[LABELS[0], labels.to_str().expect("a path in Unicode")])
}

/// `{score|null, lower, upper, coverage, leaves, ungraded}`, with numbers that fit together.
#[track_caller]
fn assert_score(score: &Value) {
    let number = |name: &str| score[name].as_f64().unwrap_or_else(|| panic!("{name} of {score}"));
    let (lower, upper, coverage) = (number("lower"), number("upper"), number("coverage"));
    assert!((0.0..=1.0).contains(&lower) && lower <= upper && upper <= 1.0, "{score}");
    assert!((0.0..=1.0).contains(&coverage), "{score}");
    assert!(score["leaves"].is_u64() && score["ungraded"].is_u64(), "{score}");
    match score["score"].as_f64() {
        Some(exact) => assert!(coverage == 1.0 && lower == exact && upper == exact, "{score}"),
        None => assert!(score["score"].is_null() && coverage < 1.0, "{score}"),
    }
}

/// Every field that CLI.md promises of `grade` and `collect`.
#[track_caller]
fn assert_document(document: &Value, command: &str) {
    assert_eq!(document["schema"], format!("tribunal.{command}/1"));
    for name in ["run", "judge", "model", "out"] {
        assert!(document[name].as_str().is_some_and(|text| !text.is_empty()), "{name}");
    }
    let states = ["complete", "incomplete", "paused", "cancelled", "interrupted"];
    assert!(states.contains(&document["state"].as_str().unwrap_or_default()), "{document:#}");
    assert!(document["simulated"].is_boolean());
    assert_score(&document["root"]);
    for node in document["first_level"].as_array().expect("a list") {
        assert!(node["id"].is_string());
        assert_score(node);
    }
    let categories = document["by_category"].as_object().expect("an object");
    assert!(!categories.is_empty());
    categories.values().filter(|score| !score.is_null()).for_each(assert_score);
    let missing = document["ungraded_leaves"].as_array().expect("a list");
    assert!(missing.iter().all(Value::is_u64));
    let outcomes = &document["outcomes"];
    let graded = number(outcomes, "/graded");
    assert!(number(outcomes, "/by_rule") + number(outcomes, "/reused") <= graded);
    assert_eq!(sum(&outcomes["ungraded"]), missing.len() as u64);
    assert_eq!(graded + missing.len() as u64, number(document, "/root/leaves"));
    for call in ["judge", "rank", "repair", "rejected", "failed"] {
        number(document, &format!("/calls/{call}"));
    }
    let tokens = |name: &str| number(document, &format!("/tokens/{name}"));
    assert!(tokens("cached") <= tokens("input") && tokens("output") > 0);
    assert!(document["cost_usd"].is_null() || document["cost_usd"].is_f64());
    assert!(document["wall_s"].is_f64());
}

/// The fields that depend on verdicts alone.
fn scores(document: &Value) -> Value {
    const NAMES: [&str; 5] = ["root", "first_level", "by_category", "ungraded_leaves", "outcomes"];
    NAMES.iter().map(|name| document[name].clone()).collect()
}

#[test]
fn the_example_is_graded_when_no_judge_is_named() {
    let workspace = Workspace::example();
    let grade = ["grade", "--json", "--rubric", "rubric.json", "--submission", "submission"];
    let first = workspace.run(&grade);
    assert_exit(&first, 0);
    let first = document(&first);
    assert_document(&first, "grade");
    assert_eq!(first["state"], "complete");
    assert_eq!(first["simulated"], true);
    assert_eq!(number(&first, "/outcomes/graded"), LEAVES);
    let run = first["run"].as_str().expect("an id");
    assert_eq!(first["out"], format!("tribunal-out/{run}"));
    assert!(workspace.file(&format!("tribunal-out/{run}/run.json")).exists());

    let again = workspace.run(&grade);
    assert_exit(&again, 0);
    let again = document(&again);
    assert_eq!(again, first, "a finished run changes in nothing");
}

#[test]
fn a_finished_run_makes_no_call_until_something_changes() {
    let (workspace, sim) = (Workspace::example(), SimProcess::start(&[]));
    let grade = |args: &[&str]| {
        let output = workspace.run_grade(&sim.base_url, args);
        assert_exit(&output, 0);
        document(&output)
    };
    let first = grade(&["--paper", "paper.md"]);
    assert_eq!(sim.requests(), LEAVES);
    assert_eq!(number(&first, "/calls/judge"), LEAVES);
    let again = grade(&["--paper", "paper.md"]);
    assert_eq!((sim.requests(), &again), (LEAVES, &first));

    let fresh = grade(&["--paper", "paper.md", "--fresh"]);
    assert_ne!(fresh["run"], first["run"]);
    assert_eq!(scores(&fresh), scores(&first));
    let asked = sim.requests();
    assert_eq!(asked, 2 * LEAVES);
    let newest = grade(&["--paper", "paper.md"]);
    assert_eq!((newest["run"].clone(), sim.requests()), (fresh["run"].clone(), asked));

    let rubric = workspace.read("rubric.json");
    let changed = rubric.replacen("plays ceil(log2 K) rounds", "plays exactly two rounds", 1);
    assert_ne!(rubric, changed);
    workspace.write("rubric.json", &changed);
    let changed = grade(&["--paper", "paper.md"]);
    assert!(changed["run"] != first["run"] && changed["run"] != fresh["run"]);
    let reused = number(&changed, "/outcomes/reused");
    assert_eq!(sim.requests() - asked, LEAVES - reused, "the changed criterion is asked again");
    assert!(0 < reused && reused < LEAVES, "and so are those that show it");
    assert_eq!(workspace.runs().len(), 3);
}

#[test]
fn the_files_agree_with_each_other() {
    let (workspace, sim) = (Workspace::example(), SimProcess::start(&[]));
    let output = workspace.run_grade(&sim.base_url, &["--addendum", "addendum.md"]);
    assert_exit(&output, 0);
    let document = document(&output);
    let (tree, grader) =
        (workspace.json("out/scored_tree.json"), workspace.json("out/grader_output.json"));
    let manifest = workspace.json("out/run.json");
    for file in [&tree, &grader, &manifest] {
        assert_eq!(file["simulated"], true);
        assert_eq!(file["run"], document["run"]);
    }
    assert!(grader["judge_type"].as_str().is_some_and(|kind| kind.contains("simulated")));
    assert_eq!(scores(&manifest), scores(&document));
    assert_eq!(tree["summary"]["root"], document["root"]);
    assert_eq!(tree["tree"]["lower"], document["root"]["lower"]);
    assert_eq!(grader["score"], document["root"]["lower"]);
    assert_eq!(number(&grader, "/num_leaf_nodes"), LEAVES);
    assert_eq!(number(&grader, "/num_invalid_leaf_nodes"), 0);
    assert!(grader["graded_at"].is_string() && grader.get("completer_config").is_some());
    let usage = &grader["token_usage"]["tribunal-sim"];
    assert_eq!(usage["in"], document["tokens"]["input"]);
    assert_eq!(usage["out"], document["tokens"]["output"]);

    let (mut scored, mut graded) = (Vec::new(), Vec::new());
    walk(&tree["tree"], &mut |node| scored.push(node.clone()));
    walk(&grader["graded_task_tree"], &mut |node| {
        assert_paperbench_node(node);
        graded.push(node.clone());
    });
    assert_eq!(scored.len(), graded.len());
    for (ours, theirs) in scored.iter().zip(&graded) {
        assert_eq!((&ours["id"], &ours["lower"]), (&theirs["id"], &theirs["score"]));
    }

    let file = workspace.file("out/leaves.csv");
    let mut reader = csv::Reader::from_path(file).expect("a table");
    let columns = reader.headers().expect("a heading").clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.expect("a row")).collect();
    let column = |name: &str| columns.iter().position(|c| c == name).expect("a column");
    let leaves: Vec<&Value> = scored.iter().filter(|node| is_leaf(node)).collect();
    assert_eq!((rows.len(), leaves.len() as u64), (leaves.len(), LEAVES));
    for (row, leaf) in rows.iter().zip(leaves) {
        assert_eq!(row[column("id")], *leaf["id"].as_str().expect("an id"));
        assert_eq!(row[column("score")].parse::<f64>().ok(), leaf["score"].as_f64());
        assert_eq!(row[column("explanation")], *leaf["explanation"].as_str().expect("words"));
        assert_eq!((&row[column("outcome")], &row[column("simulated")]), ("graded", "true"));
    }

    let listed = manifest["files"].as_array().expect("a list");
    let names: BTreeSet<&str> = listed.iter().filter_map(|file| file["name"].as_str()).collect();
    let mut expected =
        BTreeSet::from(["scored_tree.json", "grader_output.json", "leaves.csv", "junit.xml"]);
    if cfg!(feature = "parquet") {
        expected.insert("leaves.parquet");
    }
    assert_eq!(names, expected);
    for file in listed {
        let name = format!("out/{}", file["name"].as_str().expect("a name"));
        let bytes = std::fs::metadata(workspace.file(&name)).expect("there").len();
        assert_eq!(number(file, "/bytes"), bytes, "{name}");
    }
    let out = std::fs::read_dir(workspace.file("out")).expect("a folder");
    assert_eq!(
        out.count(),
        expected.len() + 2,
        "these, the manifest and the report; nothing temporary is left"
    );
}

fn walk(node: &Value, seen: &mut impl FnMut(&Value)) {
    seen(node);
    for child in node["sub_tasks"].as_array().expect("a list of nodes") {
        walk(child, seen);
    }
}

fn is_leaf(node: &Value) -> bool {
    node["sub_tasks"].as_array().is_some_and(Vec::is_empty)
}

/// What PaperBench's `GradedTaskNode.from_dict` needs of a node.
#[track_caller]
fn assert_paperbench_node(node: &Value) {
    for name in ["id", "requirements", "explanation"] {
        assert!(node[name].is_string(), "{name} of {node}");
    }
    assert!(node["weight"].is_number() && node["score"].is_f64(), "{node}");
    assert!(node["valid_score"].is_boolean(), "{node}");
    let is_metadata = |value: &Value| value.is_null() || value.is_object();
    assert!(node.get("judge_metadata").is_some_and(is_metadata), "{node}");
    let category = node.get("task_category").expect("a category or null");
    assert_eq!(category.is_string(), is_leaf(node), "{node}");
}

#[test]
fn a_judge_that_is_always_right_gives_the_humans_score() {
    let (workspace, sim) = (Workspace::example(), labelled_sim());
    let human = workspace.json("expected_result.json");
    let human = human["score"].as_f64().expect("the root's grade");
    let output = workspace.run_grade(&sim.base_url, &["--paper", "paper.md"]);
    assert_exit(&output, 0);
    let full = document(&output);
    let root = full["root"]["score"].as_f64().expect("a score");
    assert!((root - human).abs() < 1e-12, "{root} instead of {human}");
    assert_eq!(sim.stat("unknown_criteria"), 0);
    assert_eq!(sim.stat("distinct_criteria"), LEAVES);

    let rescore = |args: &[&str]| {
        let output =
            workspace.run(&[&["rescore", "expected_result.json", "--json"], args].concat());
        assert_exit(&output, 0);
        document(&output)
    };
    let output = workspace.run_grade(&sim.base_url, &["--paper", "paper.md", "--code-only"]);
    assert_exit(&output, 0);
    let code = document(&output);
    assert_document(&code, "grade");
    assert_eq!(number(&code, "/root/leaves"), CODE_LEAVES);
    assert_eq!(code["root"], full["by_category"]["Code Development"]);
    assert_eq!(code["root"], rescore(&["--code-only"])["root"]);
    assert_eq!(sim.requests(), LEAVES + CODE_LEAVES, "code-only shows other evidence");

    let output =
        workspace.run_grade(&sim.base_url, &["--paper", "paper.md", "--resources-provided"]);
    assert_exit(&output, 0);
    let provided = document(&output);
    let expected = rescore(&["--resources-provided", "--rubric", "rubric.json"]);
    assert_eq!(provided["root"], expected["root"]);
    assert_eq!(provided["first_level"], expected["first_level"]);
    assert_ne!(provided["root"], full["root"], "the example has leaves that then weigh nothing");
    assert_eq!(number(&provided, "/root/leaves"), LEAVES);
}

#[test]
fn results_that_were_not_reproduced_are_graded_by_rule() {
    const BY_RULE: u64 = 8;
    let (workspace, sim) = (Workspace::example(), labelled_sim());
    // The reproduction began after every file was written.
    workspace.write("submission/reproduce.log.creation_time", "4102444800\n");
    let output = workspace.run_grade(&sim.base_url, &[]);
    assert_exit(&output, 0);
    let document = document(&output);
    assert_eq!(number(&document, "/outcomes/by_rule"), BY_RULE);
    assert_eq!(sim.requests(), LEAVES - BY_RULE, "no call for what a rule decides");
    assert_eq!(document["by_category"]["Result Analysis"]["score"].as_f64(), Some(0.0));
    let mut by_rule = 0;
    walk(&workspace.json("out/scored_tree.json")["tree"], &mut |node| {
        let is_ruled = node["task_category"] == "Result Analysis";
        assert_eq!(node["source"]["by"] == "rule", is_ruled, "{node:#}");
        by_rule += u64::from(is_ruled);
    });
    assert_eq!(by_rule, BY_RULE);
}

#[test]
fn a_cut_tree_says_which_scores_are_approximations() {
    let (workspace, sim) = (Workspace::example(), SimProcess::start(&[]));
    let tree = |options: &[&str]| {
        let graded = workspace.run_grade(&sim.base_url, options);
        assert_exit(&graded, 0);
        let run = document(&graded)["run"].as_str().expect("a run").to_owned();
        let shown = workspace.run(&["collect", &run, "--out", "out", "--tree"]);
        let marks = String::from_utf8_lossy(&shown.stdout).matches("[approximate]").count();
        (workspace.json("out/scored_tree.json")["tree"].clone(), marks)
    };
    let (cut, marks) = tree(&["--max-depth", "2"]);
    let groups = cut["sub_tasks"].as_array().expect("groups");
    assert_eq!((cut["approximate"].as_bool(), groups.len(), marks), (Some(true), 4, 4));
    assert!(groups.iter().all(|group| group["approximate"] == true), "{groups:#?}");
    let (whole, marks) = tree(&[]);
    assert_eq!((whole["approximate"].as_bool(), marks), (Some(false), 0));
}

#[test]
fn the_end_of_a_run_is_said_once() {
    let (workspace, sim) = (Workspace::generated(200), SimProcess::start(&[]));
    let output = workspace.run_grade(&sim.base_url, &[]);
    assert_exit(&output, 0);
    let said = String::from_utf8_lossy(&output.stderr);
    let ends = said.lines().filter(|line| line.starts_with("200/200 leaves"));
    assert_eq!(ends.count(), 1, "{said}");
}
