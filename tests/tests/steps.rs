//! The same run as separate steps: submit, work, collect, and what `pause`, `resume`, `cancel` and
//! `retry` do in between.

use std::process::Output;

use serde_json::Value;
use tribunal_e2e::{
    Running, SimProcess, Workspace, assert_exit, describe, document, number, sum, wait_until,
};

const LEAVES: usize = 40;

/// Leaves that go ahead before any has been answered: one of each category.
const AHEAD: u64 = 2;

/// Submits the workspace's rubric; the run's id.
#[track_caller]
fn submit(workspace: &Workspace, sim: &SimProcess) -> String {
    let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim"];
    let inputs = ["submit", "--rubric", "rubric.json", "--submission", "submission"];
    let output = workspace.run(&[&inputs[..], &judge[..]].concat());
    assert_exit(&output, 0);
    let text = String::from_utf8(output.stdout).expect("text");
    let run = text.strip_suffix('\n').expect("a line").to_owned();
    let is_id = |c: char| c.is_ascii_hexdigit() && !c.is_ascii_uppercase();
    assert!(!run.is_empty() && run.chars().all(is_id), "nothing but the id: {text:?}");
    run
}

fn work(workspace: &Workspace, args: &[&str]) -> Output {
    workspace.run(&[&["work", "--until-empty", "--quiet"], args].concat())
}

fn collect(workspace: &Workspace, run: &str) -> Output {
    workspace.run(&["collect", run, "--json", "--out", "out"])
}

#[track_caller]
fn control(workspace: &Workspace, command: &str, run: &str) -> Value {
    let output = workspace.run(&[command, run, "--json"]);
    assert_exit(&output, 0);
    let document = document(&output);
    assert_eq!(document["run"], run);
    document
}

#[test]
fn separate_steps_give_what_grade_gives() {
    let sim = SimProcess::start(&[]);
    let (steps, whole) = (Workspace::generated(LEAVES), Workspace::generated(LEAVES));
    let run = submit(&steps, &sim);
    assert_eq!(sim.requests(), 0, "submitting asks nobody");
    let waiting = steps.status();
    assert_eq!((&waiting["run"], &waiting["state"]), (&run.as_str().into(), &"active".into()));
    assert_eq!(number(&waiting, "/pending"), LEAVES as u64);
    assert_eq!(submit(&steps, &sim), run, "the same inputs are the same run");
    assert_eq!(number(&steps.status(), "/leaves"), LEAVES as u64);

    let early = collect(&steps, &run);
    assert_exit(&early, 3);
    let early = document(&early);
    assert_eq!(early["state"], "incomplete");
    assert_eq!(number(&early, "/outcomes/ungraded/pending"), LEAVES as u64);
    assert!(early["root"]["score"].is_null());
    assert_eq!(
        (early["root"]["lower"].as_f64(), early["root"]["upper"].as_f64()),
        (Some(0.0), Some(1.0))
    );

    assert_exit(&work(&steps, &[]), 0);
    assert_eq!(sim.requests(), LEAVES as u64);
    let collected = collect(&steps, &run[..6]);
    assert_exit(&collected, 0);
    let collected = document(&collected);
    assert_eq!(collected["schema"], "tribunal.collect/1");

    let graded = whole.run_grade(&sim.base_url, &[]);
    assert_exit(&graded, 0);
    assert_eq!(document(&graded)["run"], run);
    assert_eq!(document(&graded)["root"], collected["root"]);
    assert_eq!(steps.read("out/scored_tree.json"), whole.read("out/scored_tree.json"));

    let status = steps.status();
    assert_eq!((&status["state"], &status["simulated"]), (&"complete".into(), &true.into()));
    assert_eq!(number(&status, "/done"), LEAVES as u64);
    for rest in ["pending", "leased", "dead", "cancelled", "rejected"] {
        assert_eq!(number(&status, &format!("/{rest}")), 0, "{rest}");
    }
    assert!(status["leaves_per_s"].is_f64() && status["cost_usd"].is_f64());
    assert!(status["eta_s"].is_null());
    assert_exit(&steps.run(&["status", "0123456789abcdef"]), 2);
}

#[test]
fn a_paused_run_rests_until_it_is_resumed() {
    let (workspace, sim) = (Workspace::generated(LEAVES), SimProcess::start(&[]));
    let run = submit(&workspace, &sim);
    assert_eq!(control(&workspace, "pause", &run)["state"], "paused");
    assert_exit(&work(&workspace, &[]), 0);
    assert_eq!(sim.requests(), 0);
    let status = workspace.status();
    assert_eq!((&status["state"], number(&status, "/pending")), (&"paused".into(), LEAVES as u64));

    assert_eq!(control(&workspace, "resume", &run)["state"], "active");
    assert_exit(&work(&workspace, &[]), 0);
    assert_eq!(sim.requests(), LEAVES as u64);
    assert_exit(&collect(&workspace, &run), 0);
}

#[test]
fn a_cancelled_run_is_not_asked_further_and_can_be_taken_back() {
    let (workspace, sim) = (Workspace::generated(LEAVES), SimProcess::start(&[]));
    let run = submit(&workspace, &sim);
    assert_eq!(control(&workspace, "cancel", &run)["state"], "cancelled");
    assert_exit(&work(&workspace, &[]), 0);
    assert_eq!(sim.requests(), 0);
    let collected = collect(&workspace, &run);
    assert_exit(&collected, 3);
    let collected = document(&collected);
    assert_eq!(collected["state"], "cancelled");
    assert_eq!(number(&collected, "/outcomes/ungraded/cancelled"), LEAVES as u64);
    assert!(collected["root"]["score"].is_null(), "what is missing is no score");
    assert_eq!(number(&workspace.status(), "/cancelled"), LEAVES as u64);

    let graded = workspace.run_grade(&sim.base_url, &[]);
    assert_exit(&graded, 3);
    assert_eq!((document(&graded)["state"].clone(), sim.requests()), ("cancelled".into(), 0));

    let retried = control(&workspace, "retry", &run);
    assert_eq!(
        (&retried["state"], number(&retried, "/requeued")),
        (&"active".into(), LEAVES as u64)
    );
    assert_exit(&workspace.run_grade(&sim.base_url, &[]), 0);
    assert_eq!(sim.requests(), LEAVES as u64);
}

#[test]
fn a_run_that_is_cancelled_in_flight_ends() {
    const MANY: usize = 120;
    let (workspace, sim) =
        (Workspace::generated(MANY), SimProcess::start(&["--latency-ms", "100"]));
    let running = Running::start(workspace.grade(&sim.base_url, &["--concurrency", "4"]));
    wait_until("some leaves are done", || sim.requests() > 8);
    let run = workspace.status()["run"].as_str().expect("an id").to_owned();
    control(&workspace, "cancel", &run);
    let output = running.finish();
    assert_exit(&output, 3);
    let document = document(&output);
    assert_eq!(document["state"], "cancelled");
    let cancelled = number(&document, "/outcomes/ungraded/cancelled");
    assert!(cancelled > 0 && sim.requests() < MANY as u64, "{document:#}");
    assert_eq!(number(&document, "/outcomes/graded") + cancelled, MANY as u64);
}

#[test]
fn a_run_that_is_cancelled_while_its_calls_hang_ends() {
    let sim = SimProcess::start(&["--latency-ms", "600000"]);
    let workspace = Workspace::generated(LEAVES);
    workspace.write("tribunal.toml", "[worker]\nheartbeat_s = 1\n");
    let running = Running::start(workspace.grade(&sim.base_url, &["--concurrency", "4"]));
    wait_until("the calls hang", || sim.stat("in_flight") == AHEAD);
    let run = workspace.status()["run"].as_str().expect("an id").to_owned();
    control(&workspace, "cancel", &run);
    let output = running.finish();
    assert_exit(&output, 3);
    assert_eq!(number(&document(&output), "/outcomes/ungraded/cancelled"), LEAVES as u64);
    assert_eq!(sim.requests(), AHEAD);
}

#[test]
fn the_same_command_twice_at_once_is_one_run() {
    let (workspace, sim) =
        (Workspace::generated(LEAVES), SimProcess::start(&["--latency-ms", "50"]));
    let start = || Running::start(workspace.grade(&sim.base_url, &["--concurrency", "4"]));
    let (one, two) = (start(), start());
    let outputs = [one.finish(), two.finish()];
    for output in &outputs {
        assert_exit(output, 0);
    }
    let [one, two] = outputs.map(|output| document(&output));
    assert_eq!((&one["run"], &one["root"]), (&two["run"], &two["root"]));
    assert_eq!(sim.requests(), LEAVES as u64);
    assert_eq!(number(&workspace.status(), "/done"), LEAVES as u64);
    assert_eq!(workspace.json("out/run.json")["root"], one["root"]);
}

#[test]
fn two_workers_share_one_store_and_no_leaf() {
    const MANY: usize = 120;
    let (workspace, sim) =
        (Workspace::generated(MANY), SimProcess::start(&["--latency-ms", "200"]));
    let run = submit(&workspace, &sim);
    let start = || {
        let args = ["work", "--until-empty", "--concurrency", "4"];
        Running::start(workspace.command(&args))
    };
    let (one, two) = (start(), start());
    wait_until("both work", || sim.stat("in_flight") > 4);
    for output in [one.finish(), two.finish()] {
        assert_exit(&output, 0);
    }
    assert_eq!(sim.requests(), MANY as u64);
    assert_eq!(sim.stat("distinct_criteria"), MANY as u64);
    assert_eq!(number(&workspace.status(), "/done"), MANY as u64);
    assert_exit(&collect(&workspace, &run), 0);
    let rows = workspace.read("out/leaves.csv");
    assert!((0..MANY).all(|i| rows.matches(&format!(",leaf-{i},")).count() == 1));
}

#[test]
fn a_run_has_a_weight_and_a_priority_and_can_be_pruned() {
    let sim = SimProcess::start(&[]);
    let workspace = Workspace::generated(LEAVES);
    let run = submit(&workspace, &sim);
    assert_eq!(number(&workspace.status(), "/weight"), 1);
    let weighed = workspace.run(&["weight", &run, "3", "--json"]);
    assert_exit(&weighed, 0);
    assert_eq!(document(&weighed)["schema"], "tribunal.weight/1");
    assert_eq!(number(&workspace.status(), "/weight"), 3);
    assert_exit(&workspace.run(&["weight", &run, "0"]), 2);
    let preferred = workspace.run(&["priority", &run, "-7", "--json"]);
    assert_exit(&preferred, 0);
    assert_eq!(document(&preferred)["schema"], "tribunal.priority/1");
    assert_eq!(workspace.status()["priority"], -7);
    assert_exit(&workspace.run(&["priority", &run, "101"]), 2);

    assert_exit(&work(&workspace, &[]), 0);
    let out = collect(&workspace, &run);
    assert_exit(&out, 0);
    let size = || {
        let store = workspace.file(".tribunal/store.db");
        std::fs::metadata(store).expect("a store").len()
    };
    let before = size();
    let pruned = workspace.run(&["store", "prune", &run[..8], "--json"]);
    assert_exit(&pruned, 0);
    let pruned = document(&pruned);
    assert_eq!(pruned["schema"], "tribunal.store prune/1");
    let gone = &pruned["runs"][0];
    assert_eq!((&gone["run"], number(gone, "/verdicts")), (&run.as_str().into(), LEAVES as u64));
    assert!(number(gone, "/bytes") > 0 && size() < before);
    assert!(workspace.read("out/scored_tree.json").len() > 2, "what was exported stays");
    assert_exit(&workspace.run(&["store", "prune", &run]), 2);
    assert_exit(&workspace.run(&["store", "prune", "--older-than", "30"]), 0);
    assert_exit(&workspace.run(&["store", "prune"]), 2);
    assert_eq!(submit(&workspace, &sim), run, "the same inputs again are the same run");
    assert_eq!(number(&workspace.status(), "/pending"), LEAVES as u64);
}

/// Age alone does not say that nobody wants the rest.
#[test]
fn an_old_run_with_leaves_to_grade_is_pruned_by_its_name_alone() {
    let sim = SimProcess::start(&[]);
    let workspace = Workspace::generated(LEAVES);
    let run = submit(&workspace, &sim);
    control(&workspace, "pause", &run);
    let by_age = || {
        let output = workspace.run(&["store", "prune", "--older-than", "0", "--json"]);
        assert_exit(&output, 0);
        (document(&output)["runs"].clone(), describe(&output))
    };
    let (gone, said) = by_age();
    assert_eq!(gone, Value::Array(Vec::new()));
    assert!(said.contains(&format!("run {run} stays: {LEAVES} of its leaves")), "{said}");
    assert_eq!(number(&workspace.status(), "/pending"), LEAVES as u64);
    control(&workspace, "cancel", &run);
    assert_eq!(by_age().0[0]["run"], run);

    assert_eq!(submit(&workspace, &sim), run);
    assert_exit(&work(&workspace, &[]), 0);
    assert_eq!(by_age().0[0]["run"], run, "it is complete");
    assert_eq!(submit(&workspace, &sim), run);
    let named = workspace.run(&["store", "prune", &run, "--json"]);
    assert_exit(&named, 0);
    assert_eq!(document(&named)["runs"][0]["run"], run);
}

#[test]
fn a_worker_says_in_one_document_what_it_did() {
    let (workspace, sim) = (Workspace::generated(LEAVES), SimProcess::start(&[]));
    let run = submit(&workspace, &sim);
    let output = work(&workspace, &["--json"]);
    assert_exit(&output, 0);
    let did = document(&output);
    assert_eq!((&did["schema"], &did["ended"]), (&"tribunal.work/1".into(), &"empty".into()));
    assert_eq!(did["simulated"], true);
    for of in [&did, &did["runs"][0]] {
        assert_eq!((number(of, "/done"), number(of, "/dead")), (LEAVES as u64, 0), "{did:#}");
        assert_eq!(sum(&of["ungraded"]), 0);
    }
    assert_eq!((&did["runs"][0]["run"], &did["runs"][0]["simulated"]), (&run.into(), &true.into()));
    assert_eq!(number(&did, "/calls/judge"), sim.requests());
    assert!(number(&did, "/tokens/input") > 0 && did["cost_usd"].is_f64(), "{did:#}");
    assert!(did["wall_s"].as_f64() > Some(0.0));
    let again = work(&workspace, &["--json"]);
    assert_exit(&again, 0);
    let again = document(&again);
    assert_eq!((number(&again, "/done"), &again["runs"]), (0, &Value::Array(Vec::new())));
    assert_exit(&workspace.run(&["schema", "work"]), 0);
}

#[test]
fn a_finished_run_cannot_be_paused_or_cancelled() {
    let sim = SimProcess::start(&[]);
    let workspace = Workspace::generated(LEAVES);
    let run = submit(&workspace, &sim);
    assert_exit(&work(&workspace, &[]), 0);
    for command in ["pause", "cancel", "resume", "retry"] {
        assert_eq!(control(&workspace, command, &run)["state"], "complete");
        assert_eq!(workspace.status()["state"], "complete");
        let output = workspace.run(&[command, &run]);
        assert_exit(&output, 0);
        let said = describe(&output);
        assert!(said.contains(&format!("run {run} is complete")), "{said}");
        assert!(said.contains(&format!("nothing left to {command}")), "{said}");
    }
    // A run begun anew and cancelled is not the one that the plain command goes on with.
    let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim"];
    let inputs = ["submit", "--fresh", "--rubric", "rubric.json", "--submission", "submission"];
    let fresh = workspace.run(&[&inputs[..], &judge[..]].concat());
    assert_exit(&fresh, 0);
    let fresh = String::from_utf8(fresh.stdout).expect("text");
    let fresh = fresh.trim_end();
    assert_ne!(fresh, run);
    assert_eq!(submit(&workspace, &sim), fresh);
    assert_eq!(control(&workspace, "cancel", fresh)["state"], "cancelled");
    assert_eq!(submit(&workspace, &sim), run);
}

#[test]
fn what_was_exported_can_be_rescored_and_says_simulated() {
    let workspace = Workspace::example();
    let grade = ["grade", "--json", "--rubric", "rubric.json", "--submission", "submission"];
    let graded = workspace.run(&[&grade[..], &["--out", "out"]].concat());
    assert_exit(&graded, 0);
    let graded = document(&graded);
    for file in ["out/scored_tree.json", "out/grader_output.json"] {
        let output = workspace.run(&["rescore", file, "--json"]);
        assert_exit(&output, 0);
        let rescored = document(&output);
        assert_eq!((&rescored["root"], &rescored["simulated"]), (&graded["root"], &true.into()));
        let said = String::from_utf8(workspace.run(&["rescore", file]).stdout).expect("text");
        assert!(said.contains("SIMULATED JUDGE"), "{said}");
    }
}

/// A mistyped URL is not to look like an empty queue.
#[test]
fn a_worker_says_that_it_made_the_store() {
    let workspace = Workspace::empty();
    let work = || workspace.run(&["work", "--until-empty", "--store", "sqlite:new.db"]);
    let said =
        |output: &Output| String::from_utf8_lossy(&output.stderr).contains("no store was there");
    let (first, second) = (work(), work());
    assert_exit(&first, 0);
    assert!(said(&first) && !said(&second), "{}", describe(&first));
}
