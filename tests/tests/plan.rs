//! What a run would cost, said before it is begun: the same leaves, calls and tokens as the run's.

use serde_json::Value;
use tribunal_e2e::{SimProcess, Workspace, assert_exit, document, number};

const INPUTS: [&str; 6] =
    ["--rubric", "rubric.json", "--submission", "submission", "--paper", "paper.md"];

fn plan(workspace: &Workspace, base_url: &str, model: &str, args: &[&str]) -> Value {
    let judge = ["--base-url", base_url, "--model", model];
    let output = workspace.run(&[&["plan", "--json"], &INPUTS[..], &judge, args].concat());
    assert_exit(&output, 0);
    let plan = document(&output);
    assert_eq!(plan["schema"], "tribunal.plan/1");
    plan
}

/// The numbers are apart by less than 3%: a plan counts no nonce, and no provider's own marks.
#[track_caller]
fn assert_near(planned: u64, spent: u64) {
    let (planned, spent) = (planned as f64, spent as f64);
    assert!((planned - spent).abs() <= spent * 0.03, "planned {planned}, spent {spent}");
}

#[test]
fn a_plan_calls_nobody_writes_nothing_and_comes_true() {
    let (workspace, sim) = (Workspace::example(), SimProcess::start(&["--latency-ms", "20"]));
    let planned = plan(&workspace, &sim.base_url, "tribunal-sim", &["--rpm", "600"]);
    assert_eq!(sim.requests(), 0);
    assert!(!workspace.file(".tribunal").exists(), "a plan makes no store");
    assert_eq!(number(&planned, "/leaves"), 29);
    assert_eq!(number(&planned, "/calls/judge"), 29);
    assert_eq!(number(&planned, "/calls/rank"), 0);
    assert_eq!(planned["time_s"], 2.9, "29 calls at 600 a minute");
    assert!(planned["cost_usd"]["expected"].is_f64());
    assert!(planned["assumptions"].as_array().is_some_and(|list| !list.is_empty()));

    let output = workspace.run_grade(&sim.base_url, &["--paper", "paper.md"]);
    assert_exit(&output, 0);
    let graded = document(&output);
    assert_eq!(planned["run"], graded["run"], "the plan is the run's");
    assert_eq!(number(&planned, "/calls/judge"), number(&graded, "/calls/judge"));
    assert_near(number(&planned, "/tokens/input"), number(&graded, "/tokens/input"));

    let asked = sim.requests();
    let again = plan(&workspace, &sim.base_url, "tribunal-sim", &[]);
    assert_eq!((number(&again, "/calls/judge"), number(&again, "/done")), (0, 29));
    assert_eq!(again["cost_usd"]["high"], 0.0);
    let fresh = plan(&workspace, &sim.base_url, "tribunal-sim", &["--fresh"]);
    assert_ne!(fresh["run"], planned["run"]);
    assert_eq!(number(&fresh, "/calls/judge"), 29);
    // By now the store's own replies say how long replies are.
    assert_near(number(&fresh, "/tokens/output"), number(&graded, "/tokens/output"));
    assert_eq!(sim.requests(), asked, "no plan asked anything");
}

#[test]
fn what_is_not_known_is_null_and_said() {
    let workspace = Workspace::example();
    let nowhere = "http://127.0.0.1:9/v1";
    let unknown = plan(&workspace, nowhere, "a-model-of-ones-own", &[]);
    assert!(unknown["cost_usd"].is_null() && unknown["time_s"].is_null(), "{unknown:#}");
    let said = |plan: &Value, list: &str, words: &str| {
        let list = plan[list].as_array().expect("a list");
        list.iter().any(|line| line.as_str().is_some_and(|line| line.contains(words)))
    };
    assert!(said(&unknown, "assumptions", "price is not known"), "{unknown:#}");
    assert!(said(&unknown, "assumptions", "no time is given"), "{unknown:#}");
    assert!(said(&unknown, "warnings", "a-model-of-ones-own"), "{unknown:#}");

    let known = plan(&workspace, nowhere, "gpt-4.1", &[]);
    let cost = |name: &str| known["cost_usd"][name].as_f64().expect("a price");
    assert!(0.0 < cost("low") && cost("low") < cost("expected") && cost("expected") < cost("high"));
}

#[test]
fn a_leaf_over_the_window_and_a_category_without_files_are_warned_of() {
    let workspace = Workspace::example();
    let rubric = workspace.read("rubric.json");
    let long = format!("plays {} rounds", "one and one more ".repeat(10_000));
    workspace.write("rubric.json", &rubric.replacen("plays ceil(log2 K) rounds", &long, 1));
    std::fs::remove_dir_all(workspace.file("submission")).expect("removed");
    std::fs::create_dir(workspace.file("submission")).expect("made");
    workspace.write("submission/plot.svg", "<svg/>");
    let planned = plan(&workspace, "http://127.0.0.1:9/v1", "a-model-of-ones-own", &[]);
    let warnings = planned["warnings"].to_string();
    assert!(warnings.contains("do not fit the window of 32000"), "{warnings}");
    assert!(warnings.contains("Code Development leaves have no evidence"), "{warnings}");
    assert!(number(&planned, "/by_rule") > 0, "nothing was reproduced");
}

#[test]
fn a_plan_takes_as_long_as_the_narrowest_limit() {
    let workspace = Workspace::example();
    let nowhere = "http://127.0.0.1:9/v1";
    let planned = plan(&workspace, nowhere, "gpt-4.1", &["--rpm", "29000", "--tpm", "20000"]);
    let tokens = number(&planned, "/tokens/input") + number(&planned, "/tokens/output");
    let minutes = planned["time_s"].as_f64().expect("known") / 60.0;
    assert!((minutes - tokens as f64 / 20_000.0).abs() < 1e-6, "{planned:#}");
    let assumptions = planned["assumptions"].to_string();
    assert!(assumptions.contains("29000 requests and 20000 tokens a minute"), "{assumptions}");
}

#[test]
fn a_question_larger_than_a_minute_of_the_limit_is_refused_before_anything_is_asked() {
    let (workspace, sim) = (Workspace::example(), SimProcess::start(&[]));
    let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim", "--tpm", "6000"];
    for command in ["plan", "grade"] {
        let output = workspace.run(&[&[command][..], &INPUTS, &judge].concat());
        assert_exit(&output, 2);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        for words in ["leaf #", "can never be asked", "of a limit of 6000 tokens a minute", "--tpm"]
        {
            assert!(said.contains(words), "{command}: {said}");
        }
    }
    assert_eq!(sim.requests(), 0);
    // Nor is a run that was begun under a larger one gone on with.
    let ample = [&["submit"][..], &INPUTS, &judge[..4]].concat();
    assert_exit(&workspace.run(&ample), 0);
    assert_exit(&workspace.run(&[&["grade"][..], &INPUTS, &judge].concat()), 2);
    assert_eq!(sim.requests(), 0);
}
