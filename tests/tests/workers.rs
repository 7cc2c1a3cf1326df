//! The list of workers, and telling one to end.

use serde_json::Value;
use tribunal_e2e::{
    PostgresServer, Running, SimProcess, Workspace, assert_exit, describe, document, number,
    wait_until,
};

const LEAVES: u64 = 60;

fn workers(workspace: &Workspace) -> Vec<Value> {
    let listed = workspace.run(&["workers", "--json"]);
    assert_exit(&listed, 0);
    document(&listed)["workers"].as_array().cloned().expect("a list")
}

/// Two workers on one run; the first is told to end, the second does the rest.
fn drains_one_of_two(workspace: &Workspace, config: &str) {
    workspace.write("tribunal.toml", &format!("{config}[worker]\nheartbeat_s = 1\nlease_s = 20\n"));
    let sim = SimProcess::start(&["--latency-ms", "100"]);
    let submit = ["submit", "--rubric", "rubric.json", "--submission", "submission"];
    let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim"];
    assert_exit(&workspace.run(&[&submit[..], &judge[..]].concat()), 0);
    let work = || {
        let args = ["work", "--quiet", "--json", "--concurrency", "2"];
        Running::start(workspace.command(&args))
    };
    let drained = work();
    wait_until("the first has joined", || workers(workspace).len() == 1);
    let first = workers(workspace).remove(0);
    let id = first["worker"].as_str().expect("an id").to_owned();
    let other = work();
    wait_until("both hold leaves", || {
        let listed = workers(workspace);
        listed.len() == 2 && listed.iter().all(|worker| worker["in_flight"] != 0)
    });
    assert_eq!(first["state"], "working");
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert!(first["host"].as_str().is_some_and(|host| !host.is_empty()));

    let refused = workspace.run(&["drain", "zz"]);
    assert_exit(&refused, 2);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("tribunal workers"));
    let told = workspace.run(&["drain", &id[..12], "--json"]);
    assert_exit(&told, 0);
    assert_eq!(document(&told)["worker"], id);
    let ended = drained.finish();
    assert_exit(&ended, 0);
    let did = document(&ended);
    assert_eq!(did["ended"], "drained");
    let left = workers(workspace);
    assert_eq!(left.len(), 1, "who has ended is not listed: {left:?}");
    assert_ne!(left[0]["worker"], id);

    wait_until("the other has done the rest", || number(&workspace.status(), "/done") == LEAVES);
    assert_eq!(sim.requests(), LEAVES, "nothing was asked twice: {}", describe(&ended));
    wait_until("it says how many", || {
        let listed = workers(workspace);
        listed[0]["done"].as_u64() > Some(0) && listed[0]["leaves_per_s"].as_f64() > Some(0.0)
    });
    other.terminate();
    assert_exit(&other.finish(), 143);
    assert!(workers(workspace).is_empty());
}

#[test]
fn a_worker_of_a_file_is_drained() {
    drains_one_of_two(&Workspace::generated(LEAVES as usize), "");
}

#[test]
fn a_worker_of_a_server_is_drained() {
    let Some(server) = PostgresServer::start(&[]) else { return };
    let config = format!("[store]\nurl = \"{}\"\n", server.url());
    drains_one_of_two(&Workspace::generated(LEAVES as usize), &config);
}
