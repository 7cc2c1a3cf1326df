//! CPU and leaves a second against the bare client, on the same requests.
//!
//! What is set against the bare client is the whole process of a worker, from its start to its end, on leaves
//! that are queued already. Beside it stands `grade`, which prepares, queues, collects and exports too; its
//! leaves a second count from the first claim to the last verdict, as the run's own document has it.

use std::{env, process::Command, time::Duration};

use serde_json::Value;

use crate::{
    measure::{Used, median, used},
    server::Server,
    table::Table,
    workload::Workload,
};

/// Leaves of a run without latency: some seconds, so that a start-up is little of it.
const LEAVES: usize = 20_000;

/// Latency of the runs that wait.
const LATENCY: Duration = Duration::from_millis(200);

/// Turns in which grader and bare client alternate; the medians count, since a core of a virtual machine
/// is faster one moment than the next.
const TURNS: usize = 5;

pub(crate) fn measure(workload: &Workload, table: &mut Table) {
    let server = Server::start(Duration::ZERO);
    let (graded, speed) = grade(workload, &server, 64, "fast");
    let (requests, bytes) = server.take_counts();
    assert_eq!(requests, LEAVES as u64, "one call a leaf");
    let bare = |in_flight| {
        let used = raw(&server, LEAVES, in_flight, bytes as usize);
        server.take_counts();
        used
    };
    let turns = (0..TURNS).map(|turn| (work(workload, &server, 64, turn), bare(64)));
    let (worked, raw): (Vec<Used>, Vec<Used>) = turns.unzip();
    let per_1000 = |cpu_s: f64| cpu_s / LEAVES as f64 * 1000.0;
    let cpu_s = |used: &[Used]| median(used.iter().map(|used| used.cpu_s));
    let rate = |used: &[Used]| LEAVES as f64 / median(used.iter().map(|used| used.wall_s));
    table.row("request size", format!("{:.0} kB", bytes / 1000.0), "121 kB");
    table.row(
        "a worker's CPU per 1,000 leaves, 0 ms, 64 in flight",
        format!("{:.2} s (bare client {:.3} s)", per_1000(cpu_s(&worked)), per_1000(cpu_s(&raw))),
        "≤ 0.5 s",
    );
    table.row(
        "the same, as a multiple of the bare client",
        format!("{:.1}×", cpu_s(&worked) / cpu_s(&raw)),
        "≤ 5×",
    );
    table.row(
        "the same of `grade`: with preparation, collecting and exports",
        format!("{:.2} s", per_1000(graded.cpu_s)),
        "",
    );
    table.row(
        "leaves/s, one core, 0 ms",
        format!("{speed:.0} (bare client {:.0})", rate(&raw)),
        "≥ 1,000",
    );

    let turns = (0..TURNS).map(|turn| (work(workload, &server, 1_000, turn), bare(1_000)));
    let (worked, raw): (Vec<Used>, Vec<Used>) = turns.unzip();
    table.row(
        "a worker's leaves/s, one core, 0 ms, 1,000 in flight",
        format!(
            "{:.0} ({:.0}% of the bare client's {:.0})",
            rate(&worked),
            rate(&worked) / rate(&raw) * 100.0,
            rate(&raw)
        ),
        "≥ 40% of the bare client",
    );

    let slow = Server::start(LATENCY);
    let (_, speed) = grade(workload, &slow, 200, "slow");
    let most = 200.0 / LATENCY.as_secs_f64();
    table.row(
        "leaves/s, one core, 200 ms, 200 in flight",
        format!("{speed:.0} ({:.0}% of {most:.0})", speed / most * 100.0),
        "≥ 90% of what latency allows",
    );
}

/// Grades all leaves; what it used, and leaves a second.
fn grade(workload: &Workload, server: &Server, in_flight: usize, name: &str) -> (Used, f64) {
    let mut command = workload.asking("grade", LEAVES, name, &server.url(), in_flight);
    command.arg("--json");
    let used = used(&command);
    let document: Value = serde_json::from_str(&used.stdout).expect("one JSON document");
    let wall_s = document["wall_s"].as_f64().expect("seconds");
    (used, LEAVES as f64 / wall_s)
}

/// Works on leaves that are queued already.
fn work(workload: &Workload, server: &Server, in_flight: usize, turn: usize) -> Used {
    let queued = format!("queued{in_flight}-{turn}");
    used(&workload.asking("submit", LEAVES, &queued, &server.url(), 0));
    let in_flight = in_flight.to_string();
    let work = ["work", "--until-empty", "--concurrency", &in_flight, "--quiet"];
    let worked = used(&workload.on_store(&work, &queued));
    let (requests, _) = server.take_counts();
    assert_eq!(requests, LEAVES as u64, "one call a leaf");
    worked
}

fn raw(server: &Server, requests: usize, in_flight: usize, bytes: usize) -> Used {
    let mut command = Command::new(env::current_exe().expect("a benchmark has a path"));
    let numbers = [requests, in_flight, bytes].map(|number| number.to_string());
    command.arg("raw").arg(server.url()).args(numbers);
    used(&command)
}
