//! SIGKILL at any moment: the same command again goes on, and only calls in flight are lost.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tribunal_e2e::{
    Reply, Running, SimProcess, TestServer, Workspace, assert_exit, document, number, wait_until,
};

/// Files that a run leaves behind.
const RESULTS: usize = 6 + if cfg!(feature = "parquet") { 1 } else { 0 };

const LEAVES: u64 = 300;
const CONCURRENCY: u64 = 8;
const KILLS: u64 = 20;

/// Leaves that are left for the command that nobody kills.
const LAST_PART: u64 = 60;

/// Longer than a test may take: who waited for a lease to end would never be done.
const LONG_LEASES: &str = "[worker]\nlease_s = 600\nheartbeat_s = 15\n";

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// At once, before it does anything.
    Spawned,
    /// When its store is there, or should be.
    StoreMade,
    /// When this many requests have come to the judge since its start.
    Asked(u64),
}

/// What an accident cost.
struct Losses {
    /// Requests so far for which there is no verdict.
    total: u64,
}

// === impl Losses ===

impl Losses {
    /// Counts what the last accident cost, which may be at most what was in flight.
    #[track_caller]
    fn count(&mut self, requests: u64, done: u64, what: &str) {
        assert!(requests >= done, "{what}: {done} verdicts of {requests} calls");
        let lost = requests - done - self.total;
        assert!(lost <= CONCURRENCY, "{what}: {lost} calls lost");
        self.total += lost;
    }
}

fn start(workspace: &Workspace, sim: &SimProcess) -> Running {
    let concurrency = CONCURRENCY.to_string();
    Running::start(workspace.grade(&sim.base_url, &["--concurrency", &concurrency, "--quiet"]))
}

/// Verdicts in the store; 0 where there is no store yet, or no run in it.
#[track_caller]
fn done(workspace: &Workspace) -> u64 {
    match workspace.runs().as_slice() {
        [] => 0,
        [run] => number(run, "/done"),
        runs => panic!("one command, several runs: {runs:?}"),
    }
}

/// The next moment, such that about the same part of the run lies before each of the kills left.
fn moment(rng: &mut StdRng, kill: u64, done: u64) -> Moment {
    let left = KILLS - kill;
    let ahead = (LEAVES - LAST_PART).saturating_sub(done);
    match kill {
        0 | 7 => Moment::Spawned,
        1 => Moment::StoreMade,
        2 => Moment::Asked(1),
        _ => Moment::Asked(rng.random_range(1..=(2 * ahead / (left + 2)).max(1))),
    }
}

#[test]
fn twenty_kills_change_nothing_and_cost_what_was_in_flight() {
    // Drawn once; another one shows other moments.
    let seed = std::env::var("TRIBUNAL_SEED").map_or(20, |seed| seed.parse().expect("a number"));
    println!("TRIBUNAL_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let sim = SimProcess::start(&["--latency-ms", "40", "--latency-sigma", "0.5"]);
    let workspace = Workspace::generated(LEAVES as usize);
    workspace.write("tribunal.toml", LONG_LEASES);

    let (mut losses, mut before) = (Losses { total: 0 }, 0);
    for kill in 0..KILLS {
        let moment = moment(&mut rng, kill, before);
        let (what, asked) = (format!("seed {seed}, kill {kill}, {moment:?}"), sim.requests());
        let mut running = start(&workspace, &sim);
        let reached = || match moment {
            Moment::Spawned => true,
            Moment::StoreMade => workspace.file(".tribunal/store.db").exists(),
            Moment::Asked(count) => sim.requests() - asked >= count,
        };
        wait_until(&what, || reached() || running.has_ended());
        assert!(!running.has_ended(), "{what}: {}", running.stderr());
        let killed = running.kill();
        assert_eq!(killed.status.code(), None, "{what}: it was killed, nothing else");
        let now = done(&workspace);
        assert!(now >= before, "{what}: {before} verdicts, then {now}");
        losses.count(sim.settled_requests(), now, &what);
        before = now;
    }
    assert!(before < LEAVES, "every kill came in mid-run");

    let last = start(&workspace, &sim).finish();
    assert_exit(&last, 0);
    let document = document(&last);
    assert_eq!(document["state"], "complete");
    assert_eq!(number(&document, "/outcomes/graded"), LEAVES);
    let requests = sim.settled_requests();
    assert_eq!(requests, LEAVES + losses.total, "the last command lost nothing");
    println!("{KILLS} kills, {} calls lost", losses.total);
    let status = workspace.status();
    for (name, count) in [("done", LEAVES), ("pending", 0), ("leased", 0), ("dead", 0)] {
        assert_eq!(number(&status, &format!("/{name}")), count, "{status:#}");
    }

    assert_eq!(
        files(&workspace).len(),
        RESULTS,
        "the kills left something: {:?}",
        files(&workspace)
    );

    let undisturbed = Workspace::generated(LEAVES as usize);
    assert_exit(&undisturbed.run_grade(&sim.base_url, &["--quiet"]), 0);
    assert_eq!(sim.requests() - requests, LEAVES);
    assert_same_results(&workspace, &undisturbed);
}

/// Trees and leaves are the same to the byte, and one line stands for every leaf.
#[track_caller]
fn assert_same_results(one: &Workspace, other: &Workspace) {
    // Their run's id is a hash of the same inputs.
    for file in ["out/scored_tree.json", "out/leaves.csv"] {
        assert!(one.read(file) == other.read(file), "{file} differs");
    }
    let grader = |workspace: &Workspace| -> Value { workspace.json("out/grader_output.json") };
    assert_eq!(grader(one)["graded_task_tree"], grader(other)["graded_task_tree"]);
    let mut reader = csv::Reader::from_path(one.file("out/leaves.csv")).expect("a table");
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.expect("a row")).collect();
    let ids: BTreeSet<&str> = rows.iter().map(|row| &row[2]).collect();
    assert_eq!((rows.len(), ids.len()), (LEAVES as usize, LEAVES as usize));
}

#[test]
fn a_process_that_always_dies_early_gives_no_leaf_up() {
    // More than the dead workers that one leaf is allowed: each kill must hit other leaves.
    const DEATHS: u64 = 12;
    let silent = SimProcess::start(&["--latency-ms", "600000"]);
    let workspace = Workspace::generated(120);
    for death in 1..=DEATHS {
        let mut running = start(&workspace, &silent);
        // One leaf of a prefix goes ahead; the others wait for its answer, claimed.
        let asked = || silent.requests() >= death;
        wait_until("its calls are out", || asked() || running.has_ended());
        assert!(!running.has_ended(), "{}", running.stderr());
        let _ = running.kill();
    }
    let base_url = silent.base_url.clone();
    drop(silent);
    let sim = SimProcess::start_at(&base_url, &[]);
    let output = start(&workspace, &sim).finish();
    assert_exit(&output, 0);
    assert_eq!(number(&document(&output), "/outcomes/graded"), 120);
    assert_eq!(sim.requests(), 120);
}

#[test]
fn a_worker_takes_over_what_another_held_when_it_was_killed() {
    let sim = SimProcess::start(&["--latency-ms", "100", "--latency-sigma", "0.5"]);
    let workspace = Workspace::generated(60);
    workspace.write("tribunal.toml", LONG_LEASES);
    let submit = ["submit", "--rubric", "rubric.json", "--submission", "submission"];
    let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim"];
    assert_exit(&workspace.run(&[&submit[..], &judge[..]].concat()), 0);
    let work = || {
        let args = ["work", "--until-empty", "--concurrency", "4", "--quiet"];
        Running::start(workspace.command(&args))
    };
    let killed = work();
    wait_until("the first worker asks", || sim.requests() > 4);
    let _ = killed.kill();
    let requests = sim.settled_requests();
    let held = workspace.status();
    assert!(number(&held, "/leased") > 0, "it held leases when it died: {held:#}");
    let lost = requests - number(&held, "/done");
    assert!(lost <= 4, "{lost} calls lost");
    assert_exit(&work().finish(), 0);
    assert_eq!(number(&workspace.status(), "/done"), 60);
    assert_eq!(sim.requests(), 60 + lost);
}

#[test]
fn a_worker_that_slept_beyond_its_leases_changes_nothing() {
    const LEAVES: u64 = 20;
    let (came, sleeps) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let (counted, asleep) = (Arc::clone(&came), Arc::clone(&sleeps));
    // The first worker's calls are answered 0, when it sleeps; all others 1.
    let server = TestServer::start(move |_| {
        if asleep.load(Ordering::SeqCst) {
            return Reply::verdict(1);
        }
        counted.fetch_add(1, Ordering::SeqCst);
        wait_until("the worker sleeps", || asleep.load(Ordering::SeqCst));
        Reply::verdict(0)
    });
    let workspace = Workspace::generated(LEAVES as usize);
    workspace.write("tribunal.toml", "[worker]\nlease_s = 4\nheartbeat_s = 1\n");
    let submit = ["submit", "--rubric", "rubric.json", "--submission", "submission"];
    let judge = ["--base-url", &server.base_url(), "--model", "tribunal-sim"];
    assert_exit(&workspace.run(&[&submit[..], &judge[..]].concat()), 0);
    let work = || {
        let args = ["work", "--until-empty", "--concurrency", "4"];
        Running::start(workspace.command(&args))
    };
    let sleeper = work();
    // One call of each prefix goes ahead; the others wait in the worker, with their leases.
    wait_until("a call is out", || came.load(Ordering::SeqCst) > 0);
    sleeper.freeze();
    let held = number(&workspace.status(), "/leased");
    sleeps.store(true, Ordering::SeqCst);
    assert_exit(&work().finish(), 0);
    let done = workspace.status();
    assert_eq!((number(&done, "/done"), number(&done, "/leased")), (LEAVES, 0));
    sleeper.wake();
    assert_exit(&sleeper.finish(), 0);
    assert_eq!(workspace.status(), done);
    let run = done["run"].as_str().expect("an id");
    let collected = workspace.run(&["collect", run, "--json", "--out", "out"]);
    assert_exit(&collected, 0);
    assert_eq!(document(&collected)["root"]["score"].as_f64(), Some(1.0), "a stale answer counted");
    let (stale, again) = (came.load(Ordering::SeqCst), server.requests());
    assert!((LEAVES + stale..=LEAVES + held).contains(&again), "{again} calls, {stale} stale");
}

/// Names in the folder of results.
fn files(workspace: &Workspace) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(workspace.file("out")) else { return BTreeSet::new() };
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect()
}

#[test]
fn results_are_whole_or_not_there_when_the_export_is_killed() {
    const TRIES: usize = 30;
    let (workspace, sim) = (Workspace::generated(LEAVES as usize), SimProcess::start(&[]));
    assert_exit(&workspace.run_grade(&sim.base_url, &["--quiet"]), 0);
    let run = workspace.status()["run"].as_str().expect("an id").to_owned();
    let whole = workspace.read("out/scored_tree.json");
    let out = workspace.file("out");
    let mut killed_in_mid_export = 0;
    for _ in 0..TRIES {
        std::fs::remove_dir_all(&out).expect("removed");
        let args = ["collect", &run, "--out", "out", "--quiet"];
        let mut running = Running::start(workspace.command(&args));
        wait_until("the export begins", || !files(&workspace).is_empty() || running.has_ended());
        let _ = running.kill();
        let mut named = files(&workspace);
        let all = named.len();
        named.retain(|name| !name.starts_with('.'));
        killed_in_mid_export += usize::from(named.len() < all);
        for name in &named {
            match name.as_str() {
                "scored_tree.json" => assert!(workspace.read("out/scored_tree.json") == whole),
                "leaves.csv" => {
                    assert_eq!(
                        workspace.read("out/leaves.csv").lines().count(),
                        LEAVES as usize + 1
                    );
                }
                // Its own reader checks what is in it: `leaves_parquet`.
                "leaves.parquet" => {}
                "junit.xml" => {
                    let text = workspace.read("out/junit.xml");
                    assert!(text.trim_end().ends_with("</testsuites>"), "it is whole");
                }
                "report.html" => {
                    assert!(
                        workspace.read("out/report.html").ends_with("</html>\n"),
                        "it is whole"
                    );
                }
                other => assert!(workspace.json(&format!("out/{other}")).is_object(), "{other}"),
            }
        }
        assert!(
            !named.contains("run.json") || named.len() >= 4,
            "the manifest comes behind what it lists: {named:?}"
        );
    }
    assert!(killed_in_mid_export > 0, "no kill of {TRIES} came while files were written");
    let collected = workspace.run(&["collect", &run, "--out", "out", "--quiet"]);
    assert_exit(&collected, 0);
    assert_eq!(files(&workspace).len(), RESULTS, "nothing temporary is left");
    assert_eq!(sim.requests(), LEAVES);
}
