//! What a worker tells Prometheus, and whoever asks if it is well.

use std::fs;

use reqwest::blocking::Client;
use tribunal_e2e::{
    PATIENCE, PostgresServer, Running, SimProcess, Workspace, assert_exit, wait_until,
};

const LEAVES: u64 = 20;

/// The pages of a process that says where they are.
struct Pages {
    client: Client,
    address: String,
}

// === impl Pages ===

impl Pages {
    fn of(running: &Running) -> Pages {
        let mut address = None;
        wait_until("it says where its metrics are", || {
            let said = running.stderr();
            let at = said.lines().find_map(|line| line.strip_prefix("metrics at "));
            address = at.and_then(|at| at.strip_suffix("/metrics")).map(str::to_owned);
            address.is_some()
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().timeout(PATIENCE).build();
        Pages { client: client.expect("an HTTP client"), address: address.expect("found") }
    }

    fn get(&self, page: &str) -> (u16, String) {
        let answer = self.client.get(format!("{}{page}", self.address)).send();
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.text().expect("text"))
    }

    /// The value of a sample, by its name with its labels.
    fn sample(&self, name: &str) -> Option<f64> {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(|value| value.parse().expect("a number"))
    }
}

fn submit(workspace: &Workspace, sim: &SimProcess) {
    let submit = ["submit", "--rubric", "rubric.json", "--submission", "submission"];
    let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim"];
    assert_exit(&workspace.run(&[&submit[..], &judge[..]].concat()), 0);
}

fn work(workspace: &Workspace) -> Running {
    let args = ["work", "--quiet", "--concurrency", "4", "--metrics-addr", "127.0.0.1:0"];
    Running::start(workspace.command(&args))
}

#[test]
fn a_worker_counts_what_it_does() {
    let sim = SimProcess::start(&["--malformed-rate", "0.2"]);
    let workspace = Workspace::generated(LEAVES as usize);
    submit(&workspace, &sim);
    let worker = work(&workspace);
    let pages = Pages::of(&worker);
    let graded = "tribunal_verdicts_total{outcome=\"graded\",source=\"judge\"}";
    wait_until("all is graded", || pages.sample(graded) == Some(LEAVES as f64));

    let stats = sim.stats();
    let calls: f64 = ["ok", "bad_reply"]
        .into_iter()
        .flat_map(|class| ["judge", "repair"].map(|kind| (kind, class)))
        .filter_map(|(kind, class)| {
            let labels = format!("{{kind=\"{kind}\",via=\"live\",class=\"{class}\"}}");
            pages.sample(&format!("tribunal_calls_total{labels}"))
        })
        .sum();
    assert_eq!(calls, sim.requests() as f64, "{stats:#}");
    assert!(calls > LEAVES as f64, "some replies were bad: {stats:#}");
    assert!(pages.sample("tribunal_tokens_total{kind=\"input\"}") > Some(0.0));
    assert!(pages.sample("tribunal_tokens_total{kind=\"output\"}") > Some(0.0));
    for call in ["claim", "complete"] {
        let name = format!("tribunal_store_seconds_count{{call=\"{call}\"}}");
        assert!(pages.sample(&name) > Some(0.0), "{name}");
    }
    for (name, value) in [
        ("tribunal_leaves_in_flight", 0.0),
        ("tribunal_limiter_waiting", 0.0),
        ("tribunal_leases_lost_total", 0.0),
        ("tribunal_store_up", 1.0),
    ] {
        assert_eq!(pages.sample(name), Some(value), "{name}");
    }
    // The queue is not counted at every scrape.
    wait_until("the queue is counted again", || {
        pages.sample("tribunal_tasks{state=\"done\"}") == Some(LEAVES as f64)
    });
    assert_eq!(pages.sample("tribunal_tasks{state=\"pending\"}"), Some(0.0));
    // As `tribunal status` has it: what the store records of the run is `active` still.
    for (state, count) in [
        ("active", 0.0),
        ("paused", 0.0),
        ("cancelled", 0.0),
        ("complete", 1.0),
        ("incomplete", 0.0),
    ] {
        let name = format!("tribunal_runs{{state=\"{state}\"}}");
        assert_eq!(pages.sample(&name), Some(count), "{name}");
    }
    assert_eq!(pages.get("/healthz").0, 200);
    assert_eq!(pages.get("/readyz").0, 200);
    worker.terminate();
    assert_exit(&worker.finish(), 143);
}

#[test]
fn a_worker_that_takes_nothing_more_is_not_ready() {
    let sim = SimProcess::start(&["--latency-ms", "600000"]);
    let workspace = Workspace::generated(LEAVES as usize);
    submit(&workspace, &sim);
    let worker = work(&workspace);
    let pages = Pages::of(&worker);
    wait_until("it asks", || sim.requests() > 0);
    assert_eq!(pages.get("/readyz").0, 200);
    assert!(pages.sample("tribunal_leaves_in_flight") > Some(0.0));
    worker.terminate();
    wait_until("it is not ready", || pages.get("/readyz").0 == 503);
    assert_eq!(pages.get("/healthz").0, 200, "it lives");
    worker.terminate();
    assert_exit(&worker.finish(), 143);
}

#[test]
fn a_process_whose_store_is_away_is_not_ready() {
    let Some(mut server) = PostgresServer::start(&[]) else { return };
    let workspace = Workspace::generated(LEAVES as usize);
    workspace.write("tribunal.toml", &format!("[store]\nurl = \"{}\"\n", server.url()));
    assert_exit(&workspace.run(&["store", "init"]), 0);
    let args = ["serve", "--addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"];
    let serving = Running::start(workspace.command(&args));
    let pages = Pages::of(&serving);
    wait_until("it is ready", || pages.get("/readyz").0 == 200);
    assert_eq!(pages.sample("tribunal_store_up"), Some(1.0));
    server.crash();
    wait_until("it is not ready", || pages.get("/readyz").0 == 503);
    wait_until("it says why", || pages.sample("tribunal_store_up") == Some(0.0));
    assert_eq!(pages.get("/healthz").0, 200);
    server.restart();
    wait_until("it is ready again", || pages.get("/readyz").0 == 200);
    serving.terminate();
    assert_exit(&serving.finish(), 0);
}

/// A file that was removed answers for as long as a process holds it, and what is written is lost.
#[test]
fn a_process_whose_file_is_gone_is_not_ready() {
    let workspace = Workspace::empty();
    assert_exit(&workspace.run(&["store", "init"]), 0);
    let (file, aside) = (workspace.file(".tribunal/store.db"), workspace.file("aside.db"));
    let args = ["serve", "--addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"];
    let serving = Running::start(workspace.command(&args));
    let pages = Pages::of(&serving);
    wait_until("it is ready", || pages.get("/readyz").0 == 200);
    assert_eq!(pages.sample("tribunal_store_up"), Some(1.0));
    fs::rename(&file, &aside).expect("moved away");
    let (status, why) = pages.get("/readyz");
    assert!(status == 503 && why.contains("removed"), "{status}: {why}");
    assert_eq!(pages.sample("tribunal_store_up"), Some(0.0));
    assert_eq!(pages.get("/healthz").0, 200, "it lives");
    fs::write(&file, "another file").expect("written");
    let (status, why) = pages.get("/readyz");
    assert!(status == 503 && why.contains("replaced"), "{status}: {why}");
    fs::rename(&aside, &file).expect("moved back");
    assert_eq!(pages.get("/readyz").0, 200);
    drop(serving);

    let worker = work(&workspace);
    let pages = Pages::of(&worker);
    wait_until("it is ready", || pages.get("/readyz").0 == 200);
    fs::remove_file(&file).expect("removed");
    let (status, why) = pages.get("/readyz");
    assert!(status == 503 && why.contains("removed"), "{status}: {why}");
}
