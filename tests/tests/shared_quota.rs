//! Four worker processes on one provider account, one killed and one added: how much of the limit they use.
//! It takes a minute and measures time, so it is run by hand:
//! `cargo nextest run --workspace --all-features --test shared_quota --run-ignored only --no-capture`.

use std::time::Instant;

use tribunal_e2e::{
    PostgresServer, Running, SimProcess, Workspace, assert_exit, number, wait_until,
};

const LEAVES: u64 = 1_600;
const RPM: u64 = 1_800;

#[test]
#[ignore = "measures time"]
fn four_workers_use_one_quota() {
    let Some(server) = PostgresServer::start(&["fsync=on"]) else { return };
    let rpm = RPM.to_string();
    let sim = SimProcess::start(&["--latency-ms", "300", "--latency-sigma", "0.5", "--rpm", &rpm]);
    let workspace = Workspace::generated(LEAVES as usize);
    workspace.write("tribunal.toml", &format!("[store]\nurl = \"{}\"\n", server.url()));
    let submit = ["submit", "--rubric", "rubric.json", "--submission", "submission"];
    let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim"];
    assert_exit(&workspace.run(&[&submit[..], &judge[..]].concat()), 0);
    let work = || {
        let args = ["work", "--until-empty", "--quiet", "--concurrency", "16"];
        Running::start(workspace.command(&args))
    };
    let mut workers: Vec<Running> = (0..4).map(|_| work()).collect();
    let rejected = || sim.stat("rejected");
    // Not the start, where nobody knows the limit, nor the end, where fewer ask than may.
    let (from, to) = (LEAVES / 10, LEAVES * 9 / 10);
    wait_until("it is under way", || sim.requests() >= from);
    let (start, before, turned_away) = (Instant::now(), sim.requests(), rejected());
    wait_until("a quarter is asked", || sim.requests() >= LEAVES / 4);
    let _ = workers.pop().expect("four").kill();
    wait_until("half is asked", || sim.requests() >= LEAVES / 2);
    workers.push(work());
    wait_until("most is asked", || sim.requests() >= to);
    let (asked, away) = (sim.requests() - before, rejected() - turned_away);
    let seconds = start.elapsed().as_secs_f64();
    let used = (asked - away) as f64 / (RPM as f64 / 60.0 * seconds);
    let share = away as f64 / asked as f64;
    println!(
        "{:.1}% of the limit used over {seconds:.0} s, {:.2}% rejected",
        used * 100.0,
        share * 100.0
    );
    for worker in workers {
        assert_exit(&worker.finish(), 0);
    }
    assert_eq!(number(&workspace.status(), "/done"), LEAVES);
    assert!(used >= 0.95 && share <= 0.005, "{used} used, {share} rejected");
}
