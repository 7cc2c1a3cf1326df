//! The error table end to end: what each way of failing does to leaves, run and exit code. A failure
//! is never a score.

use std::{
    net::TcpListener,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use tribunal_e2e::{
    Reply, Request, Running, SimProcess, TestServer, Workspace, assert_exit, document, number, sum,
    write_labels,
};

/// Waits short enough for a test.
const IMPATIENT: &str = "[retry]\nbase_ms = 1\nmax_ms = 20\nunreachable_s = 1\n";

fn workspace(leaves: usize) -> Workspace {
    let workspace = Workspace::generated(leaves);
    workspace.write("tribunal.toml", IMPATIENT);
    workspace
}

/// Nothing of the run was burnt: every leaf waits.
#[track_caller]
fn assert_paused(workspace: &Workspace, output: &std::process::Output, leaves: u64) {
    assert_exit(output, 4);
    let document = document(output);
    assert_eq!(document["state"], "paused");
    assert!(document["root"]["score"].is_null());
    let status = workspace.status();
    assert_eq!(status["state"], "paused");
    assert!(status["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{status:#}");
    for (name, count) in [("pending", leaves), ("done", 0), ("leased", 0), ("dead", 0)] {
        assert_eq!(number(&status, &format!("/{name}")), count, "{status:#}");
    }
}

/// The scores of all graded leaves of the exported tree.
fn graded(node: &Value, scores: &mut Vec<f64>) {
    for child in node["sub_tasks"].as_array().expect("a list of nodes") {
        graded(child, scores);
    }
    if node["outcome"]["state"] == "graded" {
        scores.push(node["score"].as_f64().expect("a score"));
    } else if node["leaf_index"].is_u64() {
        assert!(node["score"].is_null() && node["outcome"]["reason"].is_string(), "{node:#}");
    }
}

/// A workspace of so many leaves, and the file that says that all of them are fulfilled.
fn labelled(leaves: usize) -> (Workspace, String) {
    let workspace = workspace(leaves);
    let labels = workspace.file("labels.json");
    write_labels(&labels, leaves, 1.0);
    (workspace, labels.to_str().expect("a path in Unicode").to_owned())
}

#[test]
fn a_judge_with_every_fault_grades_or_says_why_not() {
    const LEAVES: u64 = 120;
    let (workspace, labels) = labelled(LEAVES as usize);
    let labels = ["--labels", &labels, "--seed", "7"];
    let faults = ["--error-rate", "0.2", "--malformed-rate", "0.1", "--refusal-rate", "0.05"];
    let sim = SimProcess::start(&[&labels[..], &faults[..], &["--reset-rate", "0.05"]].concat());
    let output = workspace.run_grade(&sim.base_url, &[]);
    let first = document(&output);
    let ungraded = sum(&first["outcomes"]["ungraded"]);
    assert!(ungraded > 0, "a refused leaf is not asked again: choose another seed");
    assert_exit(&output, 3);
    assert_eq!(first["state"], "incomplete");
    assert_eq!(number(&first, "/outcomes/graded") + ungraded, LEAVES);
    let mut scores = Vec::new();
    graded(&workspace.json("out/scored_tree.json")["tree"], &mut scores);
    assert_eq!(scores.len() as u64, number(&first, "/outcomes/graded"));
    assert!(scores.iter().all(|score| *score == 1.0), "a failure became a score: {scores:?}");

    let (calls, stats) = (&first["calls"], sim.stats());
    let faults = ["errors", "malformed", "refusals", "resets"].map(|name| {
        let count = number(&stats, &format!("/{name}"));
        assert!(count > 0, "{name} were not tried: choose another seed");
        count
    });
    assert_eq!(number(calls, "/failed"), faults.iter().sum::<u64>());
    assert_eq!(number(calls, "/judge") + number(calls, "/repair"), number(&stats, "/answered"));
    assert!(number(calls, "/repair") > 0, "malformed answers are asked about");
    assert_eq!(sum(calls), number(&stats, "/requests"));

    let run = first["run"].as_str().expect("an id");
    let retried = workspace.run(&["retry", run, "--json"]);
    assert_exit(&retried, 0);
    assert_eq!(number(&document(&retried), "/requeued"), ungraded);
    let base_url = sim.base_url.clone();
    drop(sim);
    let sim = SimProcess::start_at(&base_url, &labels);
    let output = workspace.run_grade(&base_url, &[]);
    assert_exit(&output, 0);
    assert_eq!(document(&output)["root"]["score"].as_f64(), Some(1.0));
    assert_eq!(sim.requests(), ungraded, "graded leaves are not asked again");
}

#[test]
fn a_leaf_that_fails_for_good_is_given_up_with_its_reason() {
    const LEAVES: u64 = 20;
    let (workspace, sim) =
        (workspace(LEAVES as usize), SimProcess::start(&["--malformed-rate", "1"]));
    let output = workspace.run_grade(&sim.base_url, &[]);
    assert_exit(&output, 3);
    let first = document(&output);
    assert_eq!(number(&first, "/outcomes/ungraded/unparseable"), LEAVES);
    assert_eq!(sim.requests(), 3 * LEAVES, "asked once, and twice again");
    assert_eq!(first["root"]["lower"].as_f64(), Some(0.0));
    assert_eq!(first["root"]["upper"].as_f64(), Some(1.0));

    let base_url = sim.base_url.clone();
    drop(sim);
    let run = first["run"].as_str().expect("an id");
    assert_exit(&workspace.run(&["retry", run]), 0);
    let sim = SimProcess::start_at(&base_url, &["--error-rate", "1"]);
    // With the breaker an endpoint that only fails is nobody's leaf's fault.
    let settings = "transient_attempts = 2\nbreaker_failures = 0\n";
    workspace.write("tribunal.toml", &format!("{IMPATIENT}{settings}"));
    let output = workspace.run_grade(&base_url, &[]);
    assert_exit(&output, 3);
    assert_eq!(number(&document(&output), "/outcomes/ungraded/provider_error"), LEAVES);
    assert_eq!(number(&workspace.status(), "/dead"), LEAVES);
    assert_eq!(sim.requests(), 3 * LEAVES, "asked once, and twice again");
}

#[test]
fn a_judge_that_falls_silent_is_asked_again() {
    const LEAVES: u64 = 120;
    let (workspace, labels) = labelled(LEAVES as usize);
    let labels = ["--labels", &labels, "--seed", "5"];
    // Never answered, stopped in mid-body, broken in mid-body, and what `make bench` has besides.
    let silence = ["--timeout-rate", "0.04", "--stall-rate", "0.04", "--reset-rate", "0.04"];
    let faults = ["--error-rate", "0.02", "--malformed-rate", "0.02"];
    let sim = SimProcess::start(&[&labels[..], &silence, &faults].concat());
    let judge = format!("[judge.silent]\nbase_url = \"{}\"\n", sim.base_url);
    let judge = format!("{IMPATIENT}{judge}model = \"tribunal-sim\"\ntimeout_s = 1\n");
    workspace.write("tribunal.toml", &judge);
    let inputs = ["--rubric", "rubric.json", "--submission", "submission", "--out", "out"];
    let output = workspace.run(&[&["grade", "--json", "--judge", "silent"][..], &inputs].concat());
    let (document, stats) = (document(&output), sim.stats());
    let ungraded = sum(&document["outcomes"]["ungraded"]);
    assert_exit(&output, if ungraded == 0 { 0 } else { 3 });
    assert_eq!(number(&document, "/outcomes/graded") + ungraded, LEAVES);
    for name in ["timeouts", "stalls", "resets"] {
        assert!(number(&stats, &format!("/{name}")) > 0, "{name} were not tried: {stats}");
    }
    let mut scores = Vec::new();
    graded(&workspace.json("out/scored_tree.json")["tree"], &mut scores);
    assert_eq!(scores.len() as u64, number(&document, "/outcomes/graded"));
    assert!(scores.iter().all(|score| *score == 1.0), "a failure became a score: {scores:?}");
}

#[test]
fn a_limit_that_is_kept_is_not_hit() {
    let (workspace, sim) = (workspace(60), SimProcess::start(&["--rpm", "1200"]));
    let output = workspace.run_grade(&sim.base_url, &["--rpm", "1200"]);
    assert_exit(&output, 0);
    let document = document(&output);
    assert_eq!(number(&document, "/outcomes/graded"), 60);
    // The two clocks need not agree to the millisecond.
    let rejected = sim.stat("rejected");
    assert!(rejected <= 3, "{rejected} of 60 leaves' calls were rejected");
    assert_eq!(number(&document, "/calls/rejected"), rejected);
}

#[test]
fn a_limit_that_is_hit_burns_no_leaf() {
    let (workspace, sim) = (workspace(60), SimProcess::start(&["--rpm", "1200", "--hide-limits"]));
    let output = workspace.run_grade(&sim.base_url, &["--concurrency", "60"]);
    assert_exit(&output, 0);
    let document = document(&output);
    let rejected = sim.stat("rejected");
    assert!(rejected > 0, "the limit was not reached");
    assert_eq!(number(&document, "/calls/rejected"), rejected);
    assert_eq!(
        (number(&document, "/outcomes/graded"), number(&document, "/calls/failed")),
        (60, 0)
    );
    assert_eq!(number(&workspace.status(), "/rejected"), rejected);
}

#[test]
fn a_long_wait_that_is_asked_for_is_spent_in_the_queue() {
    const TURNED_AWAY: usize = 4;
    let (workspace, came) = (workspace(20), AtomicUsize::new(0));
    workspace.write("tribunal.toml", &format!("{IMPATIENT}inline_wait_ms = 10\n"));
    let server = TestServer::start(move |_: &Request| {
        if came.fetch_add(1, Ordering::SeqCst) >= TURNED_AWAY {
            return Reply::verdict(1);
        }
        let mut reply = Reply::error(429, "rate_limit_exceeded", "Slow down.");
        reply.headers.push(("retry-after".to_owned(), "1".to_owned()));
        reply
    });
    let output = workspace.run_grade(&server.base_url(), &["--concurrency", "4"]);
    assert_exit(&output, 0);
    let document = document(&output);
    assert_eq!(number(&document, "/outcomes/graded"), 20);
    assert_eq!(number(&document, "/calls/rejected"), TURNED_AWAY as u64);
    assert_eq!(server.requests(), 20 + TURNED_AWAY as u64);
}

#[test]
fn a_quota_that_is_used_up_pauses_the_run() {
    let used_up =
        |_: &Request| Reply::error(429, "insufficient_quota", "You exceeded your current quota.");
    let (workspace, server) = (workspace(30), TestServer::start(used_up));
    let output = workspace.run_grade(&server.base_url(), &["--concurrency", "8"]);
    assert_paused(&workspace, &output, 30);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("You exceeded your current quota.") && said.contains("billing"),
        "{said}"
    );
    assert!(server.requests() <= 8, "one round of calls tells");
}

#[test]
fn an_endpoint_that_is_never_reached_pauses_the_run() {
    let workspace = workspace(30);
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let base_url = format!("http://{}/v1", closed.local_addr().expect("an address"));
    drop(closed);
    let output = workspace.run_grade(&base_url, &[]);
    assert_paused(&workspace, &output, 30);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&base_url) && said.contains("cannot connect"), "{said}");

    let sim = SimProcess::start_at(&base_url, &[]);
    assert_exit(&workspace.run_grade(&base_url, &[]), 0);
    assert_eq!(sim.requests(), 30);
}

#[test]
fn a_wrong_key_pauses_the_run() {
    let sim =
        SimProcess::start_with_env(&["--require-key-env", "E2E_KEY"], &[("E2E_KEY", "right")]);
    let workspace = workspace(30);
    let grade = |key: &str| {
        let mut command = workspace.grade(&sim.base_url, &["--concurrency", "8"]);
        command.env("TRIBUNAL_API_KEY", key);
        Running::start(command).finish()
    };
    let output = grade("wrong");
    assert_paused(&workspace, &output, 30);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("401") && said.contains("TRIBUNAL_API_KEY"), "{said}");
    assert!(sim.requests() <= 8, "one round of calls tells");

    assert_exit(&grade("right"), 0);
    assert_eq!(sim.stat("answered"), 30);
}

#[test]
fn a_model_that_does_not_exist_pauses_the_run() {
    let (workspace, sim) = (workspace(30), SimProcess::start(&["--models", "another"]));
    let output = workspace.run_grade(&sim.base_url, &["--concurrency", "8"]);
    assert_paused(&workspace, &output, 30);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("404") && said.contains("--model"), "{said}");
    assert!(said.contains("tribunal-sim"), "it names the model: {said}");
    assert!(sim.requests() <= 8, "one round of calls tells");
}

#[test]
fn a_judge_that_calls_everything_wrong_pauses_the_run() {
    let wrong = |_: &Request| Reply::error(400, "unsupported_value", "'seed' is not supported.");
    let (workspace, server) = (workspace(30), TestServer::start(wrong));
    let output = workspace.run_grade(&server.base_url(), &["--concurrency", "8"]);
    assert_paused(&workspace, &output, 30);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("'seed' is not supported."), "{said}");
    assert!(server.requests() <= 8 + 3, "{} calls", server.requests());
}

#[test]
fn a_leaf_that_alone_is_a_bad_request_ends_alone() {
    const LEAVES: u64 = 30;
    // A leaf's question also lists the nodes before it: the criterion is what stands last.
    const MARK: &str = "transform_17 scales";
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let server = TestServer::start(move |request: &Request| {
        let asked = request.body.rsplit("<criterion").next().unwrap_or_default();
        match asked.contains(MARK) && !is_mended.load(Ordering::SeqCst) {
            true => Reply::error(400, "invalid_value", "That was odd."),
            false => Reply::verdict(1),
        }
    });
    let workspace = workspace(LEAVES as usize);
    let output = workspace.run_grade(&server.base_url(), &[]);
    assert_exit(&output, 3);
    let first = document(&output);
    assert_eq!(first["simulated"], false);
    assert_eq!(number(&first, "/outcomes/ungraded/bad_request"), 1);
    assert_eq!(number(&first, "/outcomes/graded"), LEAVES - 1);
    assert_eq!(first["ungraded_leaves"], Value::from(vec![17]));
    let mut scores = Vec::new();
    graded(&workspace.json("out/scored_tree.json")["tree"], &mut scores);
    assert!(scores.iter().all(|score| *score == 1.0), "{scores:?}");
    assert!(workspace.read("out/leaves.csv").contains("That was odd."), "it says why");

    mended.store(true, Ordering::SeqCst);
    let (run, asked) = (first["run"].as_str().expect("an id"), server.requests());
    assert_exit(&workspace.run(&["retry", run, "--class", "bad_request"]), 0);
    assert_exit(&workspace.run_grade(&server.base_url(), &[]), 0);
    assert_eq!(server.requests(), asked + 1);
}

const TOO_LONG: &str = "This model's maximum context length is 8192 tokens.";

#[test]
fn evidence_that_is_too_long_is_shown_in_half() {
    const LEAVES: u64 = 20;
    let workspace = Workspace::generated(LEAVES as usize);
    // Evidence beside which the rest of the prompt is short.
    let notes = "The schedule was chosen after a look at the validation curve.\n".repeat(1_000);
    workspace.write("submission/NOTES.md", &notes);
    let (first, longest) = (Arc::<OnceLock<usize>>::default(), Arc::<AtomicUsize>::default());
    let answered = Arc::clone(&longest);
    let server = TestServer::start(move |request: &Request| {
        let length = request.body.len();
        if length > first.get_or_init(|| length) * 3 / 4 {
            return Reply::error(400, "context_length_exceeded", TOO_LONG);
        }
        answered.fetch_max(length, Ordering::SeqCst);
        Reply::verdict(1)
    });
    let output = workspace.run_grade(&server.base_url(), &[]);
    assert_exit(&output, 0);
    let document = document(&output);
    assert_eq!(number(&document, "/outcomes/graded"), LEAVES);
    assert_eq!(number(&document, "/calls/failed") + LEAVES, server.requests());
    assert!(number(&document, "/calls/failed") > 0, "the whole evidence was tried first");
    let longest = longest.load(Ordering::SeqCst);
    assert!(longest > notes.len() / 4, "half of it is still shown: {longest} bytes");
}

#[test]
fn evidence_that_stays_too_long_is_said_to_be() {
    let too_long = |_: &Request| Reply::error(400, "context_length_exceeded", TOO_LONG);
    let (workspace, server) = (workspace(10), TestServer::start(too_long));
    let output = workspace.run_grade(&server.base_url(), &[]);
    assert_exit(&output, 3);
    assert_eq!(number(&document(&output), "/outcomes/ungraded/context_overflow"), 10);
    assert_eq!(server.requests(), 20, "once whole, once in half");
}
