//! Endpoints that die, refuse or are at their limit while a run goes on: leaves wait or go to another
//! endpoint, and none is burnt for it.

use std::{
    process::Output,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::Value;
use tribunal_e2e::{
    Reply, Request, Running, SimProcess, TestServer, Workspace, assert_exit, document, number,
    wait_until,
};

const LEAVES: u64 = 40;

/// Waits short enough for a test. A leaf that is charged more than four failures is given up.
const RETRY: &str =
    "[retry]\nbase_ms = 1\nmax_ms = 10\ntransient_attempts = 4\nbreaker_wait_ms = 1\n";

fn workspace(judge: &str) -> Workspace {
    let workspace = Workspace::generated(LEAVES as usize);
    workspace.write("tribunal.toml", &format!("{RETRY}{judge}"));
    workspace
}

/// `[judge.both]` at two endpoints, each with a key of its own.
fn both(first: &str, second: &str) -> String {
    format!(
        "[judge.both]\nbase_url = \"{first}\"\nmodel = \"tribunal-sim\"\napi_key_env = \"FIRST\"\n\
         endpoints = [{{ base_url = \"{second}\", api_key_env = \"SECOND\" }}]\n"
    )
}

fn grade_by_both(workspace: &Workspace, keys: [&str; 2], args: &[&str]) -> Running {
    let mut command = workspace.grade_by("both", args);
    command.env("FIRST", keys[0]).env("SECOND", keys[1]);
    Running::start(command)
}

#[track_caller]
fn assert_all_graded(output: &Output) -> Value {
    assert_exit(output, 0);
    let document = document(output);
    assert_eq!(number(&document, "/outcomes/graded"), LEAVES);
    document
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_outage_in_mid_run_burns_no_leaf() {
    /// More than all leaves may fail together.
    const FAILING: u64 = 6 * LEAVES;
    let came = AtomicU64::new(0);
    let server = TestServer::start(move |_: &Request| match came.fetch_add(1, Ordering::SeqCst) {
        number if (10..10 + FAILING).contains(&number) => {
            Reply::error(502, "bad_gateway", "The model is away.")
        }
        _ => Reply::verdict(1),
    });
    let workspace = workspace("");
    let output = workspace.run_grade(&server.base_url(), &["--concurrency", "8"]);
    let document = assert_all_graded(&output);
    assert_eq!(number(&document, "/calls/failed"), FAILING);
    assert_eq!(server.requests(), LEAVES + FAILING);
    let said = said(&output);
    assert!(said.contains("gets no calls for now: The model is away."), "{said}");
    assert!(said.contains("answers again"), "{said}");
}

#[test]
fn a_judge_that_is_killed_and_started_again_grades_every_leaf() {
    let sim = SimProcess::start(&["--latency-ms", "20"]);
    let (workspace, base_url) = (workspace(""), sim.base_url.clone());
    let running = Running::start(workspace.grade(&base_url, &["--concurrency", "4"]));
    wait_until("some leaves are graded", || sim.stat("answered") >= 8);
    drop(sim);
    wait_until("the endpoint rests", || running.stderr().contains("gets no calls for now"));
    assert_eq!(number(&workspace.status(), "/dead"), 0);
    let sim = SimProcess::start_at(&base_url, &[]);
    let output = running.finish();
    assert_all_graded(&output);
    assert!(sim.stat("answered") < LEAVES, "graded leaves are not asked again");
}

#[test]
fn an_outage_that_lasts_pauses_the_run() {
    let (is_away, workspace) = (AtomicBool::new(false), workspace("outage_s = 1\n"));
    let came = AtomicU64::new(0);
    let server = TestServer::start(move |_: &Request| {
        if came.fetch_add(1, Ordering::SeqCst) == 5 {
            is_away.store(true, Ordering::SeqCst);
        }
        match is_away.load(Ordering::SeqCst) {
            true => Reply::error(502, "bad_gateway", "Nobody behind."),
            false => Reply::verdict(1),
        }
    });
    let output = workspace.run_grade(&server.base_url(), &["--concurrency", "2"]);
    assert_exit(&output, 4);
    let status = workspace.status();
    assert_eq!((number(&status, "/dead"), number(&status, "/done")), (0, 5));
    assert!(status["reason"].as_str().is_some_and(|reason| reason.contains("Nobody behind.")));
}

#[test]
fn another_endpoint_takes_over_from_one_that_dies() {
    let (first, second) = (
        SimProcess::start(&["--latency-ms", "20"]),
        SimProcess::start_with_env(
            &["--latency-ms", "20", "--require-key-env", "KEY"],
            &[("KEY", "two")],
        ),
    );
    let workspace = workspace(&both(&first.base_url, &second.base_url));
    let running = grade_by_both(&workspace, ["one", "two"], &["--concurrency", "4"]);
    wait_until("both are asked", || first.stat("answered") >= 4 && second.stat("answered") >= 4);
    drop(first);
    let output = running.finish();
    let graded = assert_all_graded(&output);
    let run = graded["run"].as_str().expect("an id");
    let alone = both(&second.base_url, &second.base_url);
    workspace.write("tribunal.toml", &alone);
    let other = grade_by_both(&workspace, ["two", "two"], &[]).finish();
    assert_ne!(document(&other)["run"], run, "the endpoint that is named first is the judge's");
}

#[test]
fn a_key_that_is_refused_stops_the_run_only_where_no_other_is_taken() {
    let sim = SimProcess::start_with_env(&["--require-key-env", "KEY"], &[("KEY", "right")]);
    let workspace = workspace(&both(&sim.base_url, &sim.base_url));
    let output = grade_by_both(&workspace, ["wrong", "wrong"], &[]).finish();
    assert_exit(&output, 4);
    assert_eq!(number(&workspace.status(), "/pending"), LEAVES);
    let output = grade_by_both(&workspace, ["wrong", "right"], &[]).finish();
    assert_all_graded(&output);
    let text = said(&output);
    assert!(text.contains("gets no calls for now"), "{text}");
    assert!(!text.contains("right"), "{text}");
}

#[test]
fn calls_go_past_an_endpoint_that_asks_to_wait() {
    let waits = TestServer::start(|_: &Request| {
        let mut reply = Reply::error(429, "rate_limit_exceeded", "Slow down.");
        reply.headers.push(("retry-after".to_owned(), "500".to_owned()));
        reply
    });
    let sim = SimProcess::start(&[]);
    let workspace = workspace(&both(&waits.base_url(), &sim.base_url));
    let output = grade_by_both(&workspace, ["one", "two"], &["--concurrency", "4"]).finish();
    let document = assert_all_graded(&output);
    assert_eq!(sim.stat("answered"), LEAVES);
    assert!(waits.requests() > 0);
    assert_eq!(number(&document, "/calls/rejected"), waits.requests());
}

#[test]
fn a_check_asks_every_endpoint() {
    let sim = SimProcess::start_with_env(&["--require-key-env", "KEY"], &[("KEY", "right")]);
    let workspace = workspace(&both(&sim.base_url, &sim.base_url));
    let check = |second: &str| {
        let mut command = workspace.command(&["judge", "check", "--judge", "both", "--json"]);
        command.env("FIRST", "right").env("SECOND", second);
        Running::start(command).finish()
    };
    let output = check("right");
    assert_exit(&output, 0);
    assert_eq!(document(&output)["endpoints"][0]["works"], true);
    let output = check("wrong");
    assert_exit(&output, 4);
    assert_eq!(document(&output)["endpoints"][0]["class"], "account");
}

#[test]
fn questions_larger_than_the_limit_of_one_endpoint_go_to_the_other() {
    let small = SimProcess::start(&["--tpm", "200"]);
    let large = SimProcess::start(&[]);
    let workspace = workspace(&both(&small.base_url, &large.base_url));
    let output = grade_by_both(&workspace, ["one", "two"], &[]).finish();
    assert_all_graded(&output);
    assert!(large.stat("answered") > LEAVES / 2, "{}", large.stats());
}

#[test]
fn endpoints_that_nobody_reaches_are_all_named() {
    let nowhere = ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"];
    let workspace = workspace(&format!("unreachable_s = 1\n{}", both(nowhere[0], nowhere[1])));
    assert_exit(&grade_by_both(&workspace, ["one", "two"], &[]).finish(), 4);
    let status = workspace.status();
    let reason = status["reason"].as_str().expect("why it is paused");
    assert!(nowhere.iter().all(|url| reason.contains(url)), "{reason}");
}
