//! SIGTERM and Ctrl-C: what is in flight is finished, nothing stays leased, and the same command
//! goes on.

use std::net::TcpListener;

use tribunal_e2e::{Running, SimProcess, Workspace, assert_exit, document, number, wait_until};

const LEAVES: u64 = 120;

/// Leaves that go ahead before any has been answered: one of each category.
const AHEAD: u64 = 2;

/// Grades with a judge that takes a while, sends a signal in mid-run, and looks at what is left.
fn interrupted(send: impl Fn(&Running), code: i32) {
    let workspace = Workspace::generated(LEAVES as usize);
    let sim = SimProcess::start(&["--latency-ms", "60"]);
    let args = ["--concurrency", "8"];
    let running = Running::start(workspace.grade(&sim.base_url, &args));
    wait_until("the run is under way", || sim.requests() >= 16);
    send(&running);
    let output = running.finish();
    assert_exit(&output, code);
    let stopped = document(&output);
    assert_eq!(stopped["state"], "interrupted");
    let requests = sim.requests();
    assert!(requests < LEAVES, "it came in mid-run");
    assert_eq!(number(&stopped, "/outcomes/graded"), requests, "what was in flight was finished");
    assert_eq!(number(&stopped, "/outcomes/ungraded/pending"), LEAVES - requests);
    assert!(stopped["root"]["score"].is_null());
    let status = workspace.status();
    assert_eq!((number(&status, "/done"), number(&status, "/leased")), (requests, 0));

    let resumed = workspace.run_grade(&sim.base_url, &args);
    assert_exit(&resumed, 0);
    assert_eq!(document(&resumed)["run"], stopped["run"]);
    assert_eq!(sim.requests(), LEAVES, "no leaf was asked twice");
}

#[test]
fn sigterm_finishes_what_is_in_flight() {
    interrupted(Running::terminate, 143);
}

#[test]
fn sigterm_ends_a_run_whose_endpoint_is_down() {
    let workspace = Workspace::generated(20);
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let base_url = format!("http://{}/v1", closed.local_addr().expect("an address"));
    drop(closed);
    let running = Running::start(workspace.grade(&base_url, &[]));
    wait_until("the run is begun", || running.stderr().contains("begun"));
    running.terminate();
    let output = running.finish();
    // Without an end of its own it would pause after 30 s, with another code.
    assert_exit(&output, 143);
    assert_eq!(document(&output)["state"], "interrupted");
    let status = workspace.status();
    assert_eq!((number(&status, "/pending"), number(&status, "/leased")), (20, 0));
}

#[test]
fn ctrl_c_finishes_what_is_in_flight() {
    interrupted(Running::interrupt, 130);
}

/// A judge that does not answer before the test has long failed.
fn silent_sim() -> SimProcess {
    SimProcess::start(&["--latency-ms", "600000"])
}

/// After a run that was stopped while the judge kept silent: nothing was lost, nothing is held,
/// and with a judge that answers the same command completes.
#[track_caller]
fn assert_nothing_lost(workspace: &Workspace, silent: SimProcess) {
    let status = workspace.status();
    for (name, count) in [("pending", LEAVES), ("leased", 0), ("done", 0), ("dead", 0)] {
        assert_eq!(number(&status, &format!("/{name}")), count, "{status:#}");
    }
    let base_url = silent.base_url.clone();
    drop(silent);
    let sim = SimProcess::start_at(&base_url, &[]);
    assert_exit(&workspace.run_grade(&base_url, &[]), 0);
    assert_eq!(sim.requests(), LEAVES);
}

#[test]
fn a_second_ctrl_c_stops_at_once_and_loses_nothing() {
    let (workspace, sim) = (Workspace::generated(LEAVES as usize), silent_sim());
    workspace.write("tribunal.toml", "[worker]\ngrace_s = 3600\n");
    let mut running = Running::start(workspace.grade(&sim.base_url, &["--concurrency", "8"]));
    wait_until("the calls hang", || sim.stat("in_flight") == AHEAD);
    running.interrupt();
    wait_until("the first one is heard", || running.stderr().contains("stopping: 2 leaves"));
    assert!(!running.has_ended(), "the first one waits for the calls: {}", running.stderr());
    running.interrupt();
    let output = running.finish();
    assert_exit(&output, 130);
    let stopped = document(&output);
    assert_eq!(stopped["state"], "interrupted");
    assert_eq!(number(&stopped, "/outcomes/ungraded/pending"), LEAVES);
    assert_nothing_lost(&workspace, sim);
}

#[test]
fn after_the_grace_period_the_rest_is_given_back() {
    let (workspace, sim) = (Workspace::generated(LEAVES as usize), silent_sim());
    workspace.write("tribunal.toml", "[worker]\ngrace_s = 1\n");
    let running = Running::start(workspace.grade(&sim.base_url, &["--concurrency", "8"]));
    wait_until("the calls hang", || sim.stat("in_flight") == AHEAD);
    running.terminate();
    assert_exit(&running.finish(), 143);
    assert_nothing_lost(&workspace, sim);
}

#[test]
fn a_worker_that_waits_for_work_ends_on_a_signal() {
    let (workspace, sim) = (Workspace::generated(LEAVES as usize), SimProcess::start(&[]));
    assert_exit(&workspace.run_grade(&sim.base_url, &[]), 0);
    let mut running = Running::start(workspace.command(&["work", "--json"]));
    let locks = || {
        let folder = std::fs::read_dir(workspace.file(".tribunal/store.db.workers"));
        let names = folder.expect("a folder").map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".lock")).count()
    };
    wait_until("the worker has joined", || locks() == 1 || running.has_ended());
    running.terminate();
    let output = running.finish();
    assert_exit(&output, 143);
    let did = document(&output);
    assert_eq!((&did["ended"], number(&did, "/done")), (&"interrupted".into(), 0));
    assert_eq!(locks(), 0, "it left in order");
}
