//! Deadlines: of a leaf, which is then given up and says so, and of a command, which then begins no
//! further leaf and can be given again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tribunal_e2e::{
    Reply, Request, SimProcess, TestServer, Workspace, assert_exit, document, number, wait_until,
};

#[test]
fn a_leaf_past_its_deadline_is_given_up_and_can_be_put_back() {
    const LEAVES: u64 = 12;
    // A leaf's question also lists the nodes before it: the criterion is what stands last.
    const MARK: &str = "transform_7 scales";
    let workspace = Workspace::generated(LEAVES as usize);
    let retry = "[retry]\nleaf_deadline_s = 5\n";
    workspace.write("tribunal.toml", retry);
    let answers = Arc::new(AtomicBool::new(false));
    let (is_answered, waiting) = (Arc::clone(&answers), Arc::new(AtomicBool::new(false)));
    let server = TestServer::start(move |request: &Request| {
        let asked = request.body.rsplit("<criterion").next().unwrap_or_default();
        if asked.contains(MARK) && !waiting.swap(true, Ordering::SeqCst) {
            wait_until("somebody may be answered", || is_answered.load(Ordering::SeqCst));
        }
        Reply::verdict(1)
    });
    let output = workspace.run_grade(&server.base_url(), &["--concurrency", "2"]);
    assert_exit(&output, 3);
    let first = document(&output);
    assert_eq!(number(&first, "/outcomes/ungraded/deadline"), 1, "{first:#}");
    assert_eq!(number(&first, "/outcomes/graded"), LEAVES - 1);
    assert_eq!(number(&first, "/calls/failed"), 1, "the call was made");
    assert_eq!(number(&first, "/bill/possible/calls"), 1, "{first:#}");

    let run = first["run"].as_str().expect("an id");
    let explained = workspace.run(&["explain", run, "#7", "--json"]);
    assert_exit(&explained, 0);
    let explained = document(&explained);
    let call = &explained["attempts"][0];
    assert_eq!(call["class"], "transient", "{explained:#}");
    assert!(call["cost_usd"].is_null());
    assert!(
        number(call, "/possible/usage/input") > 0 && number(call, "/possible/usage/output") > 0
    );
    assert_eq!(call["endpoint"], server.base_url().as_str());
    assert!(explained.to_string().contains("leaf_deadline_s"), "{explained:#}");

    answers.store(true, Ordering::SeqCst);
    assert_exit(&workspace.run(&["retry", run]), 0);
    assert_exit(&workspace.run_grade(&server.base_url(), &[]), 0);
}

#[test]
fn a_command_past_its_deadline_begins_no_leaf_and_can_be_given_again() {
    const LEAVES: u64 = 60;
    let sim = SimProcess::start(&["--latency-ms", "200"]);
    let workspace = Workspace::generated(LEAVES as usize);
    let args = ["--concurrency", "2", "--deadline", "1s"];
    let output = workspace.run_grade(&sim.base_url, &args);
    assert_exit(&output, 3);
    let first = document(&output);
    assert_eq!(first["state"], "incomplete");
    let graded = number(&first, "/outcomes/graded");
    assert!(graded < LEAVES, "two calls at a time of 200 ms are not done in a second");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let why = "the deadline of 1 s has come: no further leaf is begun";
    assert!(said.contains(why) && !said.contains("again to stop"), "{said}");
    let status = workspace.status();
    assert_eq!((number(&status, "/leased"), number(&status, "/pending")), (0, LEAVES - graded));
    let output = workspace.run_grade(&sim.base_url, &["--deadline", "1h"]);
    assert_exit(&output, 0);
    assert_eq!(sim.stat("answered"), LEAVES, "nothing is asked twice");
    assert_exit(&workspace.run_grade(&sim.base_url, &["--deadline", "90"]), 2);
}

#[test]
fn leaves_that_stand_in_line_for_the_limit_are_given_back_at_the_deadline() {
    const LEAVES: u64 = 60;
    let sim = SimProcess::start(&[]);
    let workspace = Workspace::generated(LEAVES as usize);
    // A minute's worth of leaves is claimed at once.
    let output = workspace.run_grade(&sim.base_url, &["--rpm", "60", "--deadline", "1s"]);
    assert_exit(&output, 3);
    let graded = number(&document(&output), "/outcomes/graded");
    assert!(graded < LEAVES / 2, "{graded} of a minute's leaves in a second");
    let status = workspace.status();
    assert_eq!((number(&status, "/leased"), number(&status, "/pending")), (0, LEAVES - graded));
    assert_exit(&workspace.run_grade(&sim.base_url, &[]), 0);
    assert_eq!(sim.stat("answered"), LEAVES, "nothing is asked twice");
}

#[test]
fn a_worker_past_its_deadline_says_so() {
    let workspace = Workspace::empty();
    let output = workspace.run(&["work", "--json", "--deadline", "1s"]);
    assert_exit(&output, 0);
    let did = document(&output);
    assert_eq!((&did["ended"], number(&did, "/done")), (&"deadline".into(), 0), "{did:#}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the deadline of 1 s has come"), "{said}");
}
