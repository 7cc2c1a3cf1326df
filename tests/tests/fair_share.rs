//! A small run behind a large one gets its share at once, and a capped one no more than its cap. Counted in
//! leaves, not in seconds.

use tribunal_e2e::{
    PostgresServer, Running, SimProcess, Workspace, assert_exit, number, wait_until,
};

const LARGE: u64 = 600;
const SMALL: u64 = 30;
const CONCURRENCY: u64 = 8;

/// The large run is in work when the small one comes; two workers do both.
fn a_small_run_is_not_behind_a_large_one(store: &str) {
    let config = format!("{store}[worker]\nconcurrency = {CONCURRENCY}\n");
    let sim = SimProcess::start(&["--latency-ms", "40", "--latency-sigma", "0.5"]);
    let large = Workspace::generated(LARGE as usize);
    let small = Workspace::generated(SMALL as usize);
    let submit = |workspace: &Workspace| {
        let submit = ["submit", "--rubric", "rubric.json", "--submission", "submission"];
        let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim"];
        assert_exit(&workspace.run(&[&submit[..], &judge[..]].concat()), 0);
    };
    for workspace in [&large, &small] {
        let shared = config.replace("$FOLDER", &large.path().display().to_string());
        workspace.write("tribunal.toml", &shared);
    }
    let done = |leaves: u64| {
        let run = large.runs().into_iter().find(|run| number(run, "/leaves") == leaves);
        run.map_or(0, |run| number(&run, "/done"))
    };
    submit(&large);
    let work = || Running::start(large.command(&["work", "--until-empty", "--quiet"]));
    let workers = [work(), work()];
    wait_until("the large run is in work", || done(LARGE) >= 2 * CONCURRENCY);
    submit(&small);
    let before = done(LARGE);
    wait_until("the small run is done", || done(SMALL) == SMALL);
    let meanwhile = done(LARGE) - before;
    // Alone it would take as many places as it has leaves; within 2.5 times as many it is done. What was
    // claimed before it came, and what ends while it is looked at, is besides.
    let besides = 2 * (2 * CONCURRENCY + CONCURRENCY);
    let most = SMALL * 3 / 2 + besides;
    assert!(meanwhile <= most, "{meanwhile} leaves of the large run came first, of {most} at most");
    for worker in workers {
        assert_exit(&worker.finish(), 0);
    }
    assert_eq!(done(LARGE), LARGE);
}

/// Two workers of four places each grade a run that may take three of them.
fn a_cap_holds_over_two_workers(store: &str) {
    const CAP: u64 = 3;
    const LEAVES: u64 = 40;
    let sim = SimProcess::start(&["--latency-ms", "40", "--latency-sigma", "0.5"]);
    let workspace = Workspace::generated(LEAVES as usize);
    let config = format!("{store}[worker]\nconcurrency = 4\n");
    workspace.write(
        "tribunal.toml",
        &config.replace("$FOLDER", &workspace.path().display().to_string()),
    );
    let submit = ["submit", "--rubric", "rubric.json", "--submission", "submission"];
    let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim", "--max-in-flight"];
    let submit = |cap| workspace.run(&[&submit[..], &judge[..], &[cap]].concat());
    assert_exit(&submit("0"), 2);
    assert_exit(&submit("7"), 0);
    // The same run again, with another cap.
    assert_exit(&submit(&CAP.to_string()), 0);
    assert_eq!(number(&workspace.status(), "/max_in_flight"), CAP);
    let work = || Running::start(workspace.command(&["work", "--until-empty", "--quiet"]));
    for worker in [work(), work()] {
        assert_exit(&worker.finish(), 0);
    }
    assert_eq!(number(&workspace.status(), "/done"), LEAVES);
    assert_eq!(sim.requests(), LEAVES);
    assert_eq!(sim.stat("max_in_flight"), CAP, "the cap is reached and never passed");
}

#[test]
fn a_cap_holds_over_two_workers_in_a_file() {
    a_cap_holds_over_two_workers("[store]\nurl = \"sqlite:$FOLDER/store.db\"\n");
}

#[test]
fn a_cap_holds_over_two_workers_on_a_server() {
    let Some(server) = PostgresServer::start(&[]) else { return };
    a_cap_holds_over_two_workers(&format!("[store]\nurl = \"{}\"\n", server.url()));
}

#[test]
fn a_small_run_is_not_behind_a_large_one_in_a_file() {
    a_small_run_is_not_behind_a_large_one("[store]\nurl = \"sqlite:$FOLDER/store.db\"\n");
}

#[test]
fn a_small_run_is_not_behind_a_large_one_on_a_server() {
    let Some(server) = PostgresServer::start(&[]) else { return };
    let store = format!("[store]\nurl = \"{}\"\n", server.url());
    a_small_run_is_not_behind_a_large_one(&store);
}
