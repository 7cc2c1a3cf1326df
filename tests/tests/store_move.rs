//! A store that is moved from one engine to the other and back: everything arrives, work goes on.

use serde_json::Value;
use tribunal_e2e::{
    PostgresServer, Running, SimProcess, Workspace, assert_exit, describe, document, number, sum,
    wait_until,
};

const LEAVES: u64 = 40;
const FILE: &str = "sqlite:.tribunal/store.db";

fn submit(workspace: &Workspace, sim: &SimProcess, args: &[&str]) -> String {
    let submit = ["submit", "--rubric", "rubric.json", "--submission", "submission"];
    let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim"];
    let submitted = workspace.run(&[&submit[..], &judge[..], args].concat());
    assert_exit(&submitted, 0);
    String::from_utf8_lossy(&submitted.stdout).trim().to_owned()
}

fn runs(workspace: &Workspace, store: &str) -> Value {
    let status = workspace.run(&["status", "--json", "--store", store]);
    assert_exit(&status, 0);
    document(&status)["runs"].take()
}

fn tables(output: &std::process::Output) -> Value {
    assert_exit(output, 0);
    document(output)["tables"].take()
}

/// The run's files from this store.
fn collected(workspace: &Workspace, run: &str, store: &str, out: &str) -> [String; 2] {
    let args = ["collect", run, "--store", store, "--out", out, "--quiet"];
    let ended = workspace.run(&args);
    assert!(matches!(ended.status.code(), Some(0 | 3)), "{}", describe(&ended));
    ["scored_tree.json", "leaves.csv"].map(|file| workspace.read(&format!("{out}/{file}")))
}

#[test]
fn everything_arrives_and_comes_back() {
    let Some(server) = PostgresServer::start(&[]) else { return };
    let sim = SimProcess::start(&["--refusal-rate", "0.2", "--malformed-rate", "0.2"]);
    let workspace = Workspace::generated(LEAVES as usize);
    // One run is done, with failures of its own; of another a part is; a third is paused.
    let done = submit(&workspace, &sim, &[]);
    let work = ["work", "--until-empty", "--quiet"];
    assert_exit(&workspace.run(&work), 0);
    let open = submit(&workspace, &sim, &["--fresh"]);
    assert_exit(&workspace.run(&["retry", &done]), 0);
    let paused = submit(&workspace, &sim, &["--fresh"]);
    assert_exit(&workspace.run(&["pause", &paused]), 0);

    let url = server.url();
    let there = workspace.run(&["store", "move", FILE, &url, "--json"]);
    let sent = tables(&there);
    assert_eq!(runs(&workspace, &url), runs(&workspace, FILE));
    let before = collected(&workspace, &done, FILE, "before");
    assert!(collected(&workspace, &done, &url, "after") == before, "the files differ");
    assert_exit(&workspace.run(&["store", "check", "--store", &url]), 0);
    let explain = ["explain", &done, "#0", "--json", "--store"];
    let explained = [FILE, url.as_str()]
        .map(|store| document(&workspace.run(&[&explain[..], &[store]].concat())));
    assert_eq!(explained[0], explained[1], "calls are there too");

    // It can be made smaller while it holds everything.
    for store in [FILE, url.as_str()] {
        let vacuum = workspace.run(&["store", "vacuum", "--full", "--json", "--store", store]);
        assert_exit(&vacuum, 0);
        number(&document(&vacuum), "/bytes");
        assert_eq!(runs(&workspace, store).as_array().map(Vec::len), Some(3));
    }

    // A store that holds something is left alone.
    let again = workspace.run(&["store", "move", FILE, &url]);
    assert_exit(&again, 2);
    assert!(String::from_utf8_lossy(&again.stderr).contains("empty store"), "{}", describe(&again));

    // And back: what arrives is what was sent.
    let back = workspace.run(&["store", "move", &url, "sqlite:back.db", "--json"]);
    assert_eq!(tables(&back), sent);
    assert_eq!(runs(&workspace, "sqlite:back.db"), runs(&workspace, FILE));

    // On either the work goes on.
    for store in [url.as_str(), "sqlite:back.db"] {
        assert_exit(&workspace.run(&["resume", &paused, "--store", store]), 0);
        assert_exit(&workspace.run(&[&work[..], &["--store", store]].concat()), 0);
        for run in runs(&workspace, store).as_array().expect("runs") {
            let ended = number(run, "/done") + number(run, "/dead");
            assert_eq!(ended, LEAVES, "{run:#}");
            assert!(sum(&run["ungraded"]) < LEAVES, "{run:#}");
        }
        assert_exit(&workspace.run(&["store", "check", "--store", store]), 0);
        // A new run is numbered behind those that were moved.
        submit(&workspace, &sim, &["--fresh", "--store", store]);
        assert_exit(&workspace.run(&[&work[..], &["--store", store]].concat()), 0);
    }
    assert_ne!(open, paused);
}

#[test]
fn a_store_in_work_stays_where_it_is() {
    let Some(server) = PostgresServer::start(&[]) else { return };
    let sim = SimProcess::start(&["--latency-ms", "600000"]);
    let workspace = Workspace::generated(LEAVES as usize);
    submit(&workspace, &sim, &[]);
    let worker = Running::start(workspace.command(&["work", "--quiet"]));
    wait_until("it asks", || sim.requests() > 0);
    let refused = workspace.run(&["store", "move", FILE, &server.url()]);
    assert_exit(&refused, 2);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("stop its workers"), "{said}");
    assert!(runs(&workspace, &server.url()).as_array().expect("runs").is_empty());
    let _ = worker.kill();

    for (from, to) in [("sqlite:none.db", server.url().as_str()), (FILE, "mysql://host/db")] {
        let refused = workspace.run(&["store", "move", from, to]);
        assert_exit(&refused, 2);
    }
    assert!(!workspace.file("none.db").exists(), "looking makes none");
}

#[test]
fn a_refused_move_leaves_nothing_behind() {
    let sim = SimProcess::start(&["--latency-ms", "600000"]);
    let workspace = Workspace::generated(LEAVES as usize);
    submit(&workspace, &sim, &[]);
    let _worker = Running::start(workspace.command(&["work", "--quiet"]));
    wait_until("it asks", || sim.requests() > 0);
    let refused = workspace.run(&["store", "move", FILE, "sqlite:new/copy.db"]);
    assert_exit(&refused, 2);
    assert!(describe(&refused).contains("stop its workers"), "{}", describe(&refused));
    assert!(!workspace.file("new").exists(), "neither a store nor its folder");
}
