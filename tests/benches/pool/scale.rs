//! A rubric of 100,000 leaves, and the way to the first call.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    measure::{median, used, used_anywhere},
    server::Server,
    table::Table,
    workload::Workload,
};

/// Leaves of the large rubric.
const LEAVES: usize = 100_000;

/// Leaves of the rubric that start-up is measured on: a large published one has 1,963.
const ORDINARY: usize = 2_000;

/// Starts whose median counts.
const STARTS: usize = 5;

pub(crate) fn measure(workload: &Workload, table: &mut Table) {
    let server = Server::start(Duration::ZERO);
    let starts: Vec<f64> = (0..STARTS)
        .map(|i| {
            let mut command =
                workload.asking("grade", ORDINARY, &format!("start{i}"), &server.url(), 64);
            command.arg("--fresh").stdout(std::process::Stdio::null());
            let start = Instant::now();
            let used = used_anywhere(&command);
            let first = server.take_first().expect("a call was made");
            server.take_counts();
            assert!(used.wall_s > 0.0);
            first.duration_since(start).as_secs_f64() * 1000.0
        })
        .collect();
    table.row(
        "start-up to the first call out, 2,000 leaves",
        format!("{:.0} ms", median(starts.into_iter())),
        "< 150 ms",
    );

    let plan = used_anywhere(&workload.asking("plan", LEAVES, "large", &server.url(), 0));
    let seconds = |wall: f64| format!("{wall:.1} s");
    table.row("plan, 100,000 leaves", seconds(plan.wall_s), "< 5 s");
    let mut submit = workload.asking("submit", LEAVES, "large", &server.url(), 0);
    submit.arg("--json");
    let submitted = used_anywhere(&submit);
    table.row("enqueue, 100,000 leaves", seconds(submitted.wall_s), "< 5 s");
    let document: Value = serde_json::from_str(&submitted.stdout).unwrap_or(Value::Null);
    let run = document["run"].as_str().unwrap_or(submitted.stdout.trim()).to_owned();
    let work = ["work", "--until-empty", "--concurrency", "1000", "--quiet"];
    let worked = used(&workload.on_store(&work, "large"));
    table.row(
        "100,000 leaves, 1,000 in flight: peak memory",
        format!("{:.0} MB ({:.0} leaves/s)", worked.peak_mb, LEAVES as f64 / worked.wall_s),
        "≤ 150 MB",
    );
    let collected = used_anywhere(&workload.on_store(&["collect", &run, "--json"], "large"));
    table.row(
        "collect and export, 100,000 leaves",
        format!("{:.1} s, {:.0} MB", collected.wall_s, collected.peak_mb),
        "< 5 s",
    );
}
