//! A run's budget: never passed, whatever the judge does, and gone on with by a larger one.

use serde_json::Value;
use tribunal_e2e::{
    Reply, Request, Running, SimProcess, TestServer, Workspace, assert_exit, document, number,
};

const INPUTS: [&str; 4] = ["--rubric", "rubric.json", "--submission", "submission"];

fn grade(workspace: &Workspace, base_url: &str, args: &[&str]) -> std::process::Output {
    let judge = ["--base-url", base_url, "--model", "gpt-4.1", "--out", "out"];
    workspace.run(&[&["grade", "--json"], &INPUTS[..], &judge, args].concat())
}

fn usd(document: &Value, name: &str) -> f64 {
    document[name].as_f64().unwrap_or_else(|| panic!("no {name} in {document:#}"))
}

/// What the sim's replies cost at the prices of gpt-4.1, in US dollars.
fn billed(sim: &SimProcess) -> f64 {
    let tokens = |name: &str| sim.stat(name) as f64;
    let fresh = tokens("prompt_tokens") - tokens("cached_tokens");
    (fresh * 2.0 + tokens("cached_tokens") * 0.5 + tokens("completion_tokens") * 8.0) / 1e6
}

#[test]
fn a_bill_stops_short_of_its_budget_and_goes_on_with_a_larger_one() {
    let (workspace, sim) = (Workspace::generated(120), SimProcess::start(&["--latency-ms", "20"]));
    let first = grade(&workspace, &sim.base_url, &["--budget", "0.10"]);
    assert_exit(&first, 3);
    let said = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(said.contains("larger budget"), "{said}");
    let first = document(&first);
    let left = number(&first, "/outcomes/ungraded/budget");
    assert!(left > 0 && left < 120, "{first:#}");
    assert!(first["root"]["score"].is_null());
    assert_eq!(number(&first, "/outcomes/graded"), 120 - left);
    assert!(billed(&sim) <= 0.10 && usd(&first, "cost_usd") <= 0.10, "{}", billed(&sim));
    // A call costs less than two cents at most: that much may be left, and no more.
    assert!(billed(&sim) > 0.10 - 0.02, "{}", billed(&sim));
    let status = workspace.status();
    assert_eq!((&status["budget_usd"], &status["state"]), (&0.10.into(), &"incomplete".into()));

    let asked = sim.requests();
    let same = grade(&workspace, &sim.base_url, &["--budget", "0.10"]);
    assert_exit(&same, 3);
    assert_eq!((document(&same)["run"].clone(), sim.requests()), (first["run"].clone(), asked));

    let larger = grade(&workspace, &sim.base_url, &["--budget", "0.15"]);
    let larger = document(&larger);
    assert_eq!(larger["run"], first["run"], "a budget is no part of a run's id");
    assert!(sim.requests() > asked && billed(&sim) <= 0.15, "{}", billed(&sim));

    let run = first["run"].as_str().expect("an id");
    assert_exit(&workspace.run(&["resume", run, "--budget", "none"]), 0);
    // A worker elsewhere knows the model by its name.
    assert_exit(&workspace.run(&["work", "--until-empty", "--quiet"]), 0);
    let whole = document(&grade(&workspace, &sim.base_url, &[]));
    assert_eq!((whole["state"].as_str(), sim.requests()), (Some("complete"), 120));
}

#[test]
fn a_budget_of_tokens_holds_for_a_model_without_a_price() {
    let (workspace, sim) = (Workspace::generated(60), SimProcess::start(&[]));
    let judge = ["--base-url", &sim.base_url, "--model", "a-model-of-ones-own"];
    let grade =
        |args: &[&str]| workspace.run(&[&["grade", "--json"], &INPUTS[..], &judge, args].concat());
    let refused = grade(&["--budget", "5"]);
    assert_exit(&refused, 2);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("price_input") && said.contains("--max-tokens"), "{said}");
    assert!(!workspace.file(".tribunal").exists(), "nothing was begun");

    let output = grade(&["--max-tokens", "40_000"]);
    assert_exit(&output, 3);
    let document = document(&output);
    assert!(number(&document, "/outcomes/ungraded/budget") > 0);
    let used = sim.stat("prompt_tokens") + sim.stat("completion_tokens");
    assert!(used <= 40_000 && used > 30_000, "{used} tokens");
    assert!(document["cost_usd"].is_null());
    let run = document["run"].as_str().expect("an id");
    let shown = workspace.run(&["collect", run]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(" of 40,000 spent"), "{shown}");
}

#[test]
fn a_call_of_unknown_outcome_is_charged_what_was_reserved() {
    // Each call breaks off in mid-body: the provider has billed it, and nobody was told how much.
    let sim = SimProcess::start(&["--reset-rate", "1"]);
    let workspace = Workspace::generated(40);
    workspace.write("tribunal.toml", "[retry]\nbase_ms = 1\nmax_ms = 5\ntransient_attempts = 2\n");
    let output = grade(&workspace, &sim.base_url, &["--budget", "0.30"]);
    assert_exit(&output, 3);
    let document = document(&output);
    assert_eq!(number(&document, "/outcomes/graded"), 0);
    assert!(number(&document, "/outcomes/ungraded/budget") > 0, "{document:#}");
    assert!(billed(&sim) <= usd(&document, "cost_usd"), "{document:#}");
    assert!(usd(&document, "cost_usd") <= 0.30, "{document:#}");
}

#[test]
fn calls_of_unknown_outcome_before_there_was_a_budget_count_against_it() {
    let sim = SimProcess::start(&["--reset-rate", "1"]);
    let workspace = Workspace::generated(40);
    workspace.write("tribunal.toml", "[retry]\nbase_ms = 1\nmax_ms = 5\ntransient_attempts = 2\n");
    assert_exit(&grade(&workspace, &sim.base_url, &[]), 3);
    let (asked, spent) = (sim.requests(), billed(&sim));
    assert!(spent > 0.10, "{spent}");
    let run = workspace.status()["run"].as_str().expect("an id").to_owned();
    assert_exit(&workspace.run(&["retry", &run]), 0);
    let output = grade(&workspace, &sim.base_url, &["--budget", "0.10"]);
    assert_exit(&output, 3);
    let document = document(&output);
    assert_eq!(number(&document, "/outcomes/ungraded/budget"), 40, "{document:#}");
    assert_eq!(sim.requests(), asked, "nothing is left to ask with");
    assert!(spent <= usd(&document, "cost_usd"), "{document:#}");
    let shown = workspace.run(&["collect", &run]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(" of $0.1000 (set when more was spent)"), "{shown}");
}

#[test]
fn a_limit_that_no_flag_speaks_of_is_kept() {
    let (workspace, sim) = (Workspace::generated(120), SimProcess::start(&[]));
    let both = ["--budget", "0.05", "--max-tokens", "20_000"];
    assert_exit(&grade(&workspace, &sim.base_url, &both), 3);
    let limits = || {
        let status = workspace.status();
        (status["budget_usd"].as_f64(), status["budget_tokens"].as_u64())
    };
    assert_eq!(limits(), (Some(0.05), Some(20_000)));
    assert_exit(&grade(&workspace, &sim.base_url, &["--max-tokens", "1_000_000"]), 3);
    assert_eq!(limits(), (Some(0.05), Some(1_000_000)));
    assert!(billed(&sim) <= 0.05, "{}", billed(&sim));
    let run = workspace.status()["run"].as_str().expect("an id").to_owned();
    assert_exit(&workspace.run(&["resume", &run, "--budget", "0.06"]), 0);
    assert_eq!(limits(), (Some(0.06), Some(1_000_000)));
    assert_exit(&workspace.run(&["resume", &run, "--budget", "none"]), 0);
    assert_eq!(limits(), (None, Some(1_000_000)));
}

#[test]
fn a_bill_names_calls_of_unknown_outcome_once() {
    let sim = SimProcess::start(&["--reset-rate", "0.5"]);
    let workspace = Workspace::generated(40);
    workspace.write("tribunal.toml", "[retry]\nbase_ms = 1\nmax_ms = 5\n");
    let output = grade(&workspace, &sim.base_url, &["--max-tokens", "60_000"]);
    assert_exit(&output, 3);
    let run = workspace.status()["run"].as_str().expect("an id").to_owned();
    let shown = workspace.run(&["collect", &run]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.matches("of unknown outcome").count(), 1, "{shown}");
}

#[test]
fn two_workers_and_a_kill_do_not_pass_the_budget() {
    let sim = SimProcess::start(&["--latency-ms", "30"]);
    let workspace = Workspace::generated(200);
    // What the killed one reserved is waited for until its leases have ended.
    workspace.write("tribunal.toml", "[worker]\nlease_s = 4\nheartbeat_s = 1\n");
    let judge = ["--base-url", &sim.base_url, "--model", "gpt-4.1", "--budget", "0.20"];
    assert_exit(&workspace.run(&[&["submit"], &INPUTS[..], &judge].concat()), 0);
    let work = || Running::start(workspace.command(&["work", "--until-empty", "--quiet"]));
    let (first, second) = (work(), work());
    tribunal_e2e::wait_until("some were asked", || sim.requests() >= 20);
    first.kill();
    assert_exit(&second.finish(), 0);
    assert_exit(&work().finish(), 0);
    let status = workspace.status();
    assert!(number(&status, "/ungraded/budget") > 0, "{status:#}");
    assert_eq!(number(&status, "/pending"), 0);
    sim.settled_requests();
    assert!(billed(&sim) <= 0.20 && usd(&status, "cost_usd") <= 0.20, "{}", billed(&sim));
    assert!(billed(&sim) <= usd(&status, "cost_usd") + 1e-9, "what the killed one asked counts");
}

#[test]
fn failures_that_cost_nothing_use_no_budget() {
    let busy = std::sync::atomic::AtomicU64::new(0);
    let server = TestServer::start(move |_: &Request| {
        match busy.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0..60 => Reply::error(500, "server_error", "Try again."),
            _ => Reply::verdict(1),
        }
    });
    let workspace = Workspace::generated(10);
    workspace
        .write("tribunal.toml", "[retry]\nbase_ms = 1\nmax_ms = 5\ntransient_attempts = 100\n");
    // Each reservation is about two cents: the failures alone would be more than the budget.
    let output = grade(&workspace, &server.base_url(), &["--budget", "0.25"]);
    assert_exit(&output, 0);
    assert_eq!(number(&document(&output), "/outcomes/graded"), 10);
}
