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

/// Leaves of a run without latency: ten seconds, so that a start-up is little of it.
const LEAVES: usize = 50_000;

/// Leaves of a run with latency.
const SLOW_LEAVES: usize = 20_000;

/// Latency of the runs that wait.
const LATENCY: Duration = Duration::from_millis(200);

/// Turns in which grader and bare client alternate; the medians count, since a core of a virtual machine
/// is faster one moment than the next.
const TURNS: usize = 5;

pub(crate) fn measure(workload: &Workload, table: &mut Table) {
    let server = Server::start(Duration::ZERO);
    let (graded, speed) = grade(workload, (&server, LEAVES), 64, "fast");
    let (requests, bytes) = server.take_counts();
    assert_eq!(requests, LEAVES as u64, "one call a leaf");
    let both = Both { workload, bytes: bytes as usize };
    let few = both.alternate(&server, LEAVES, 64, "few");
    let per_1000 = |cpu_s: f64| cpu_s / LEAVES as f64 * 1000.0;
    table.row("request size", format!("{:.0} kB", bytes / 1000.0), "121 kB");
    table.row(
        "a worker's CPU per 1,000 leaves, 0 ms, 64 in flight",
        format!(
            "{:.2} s (bare client {:.3} s)",
            per_1000(few.worker.cpu_s),
            per_1000(few.bare.cpu_s)
        ),
        "≤ 0.5 s",
    );
    table.row(
        "the same, as a multiple of the bare client",
        format!("{:.1}×", few.worker.cpu_s / few.bare.cpu_s),
        "≤ 5×",
    );
    table.row(
        "the same of `grade`: with preparation, collecting and exports",
        format!("{:.2} s", per_1000(graded.cpu_s)),
        "",
    );
    table.row(
        "leaves/s, one core, 0 ms",
        format!("{speed:.0} (bare client {:.0})", few.bare.rate),
        "≥ 1,000",
    );
    let many = both.alternate(&server, LEAVES, 1_000, "many");
    table.row("a worker's leaves/s, one core, 0 ms, 1,000 in flight", many.to_string(), "");

    let slow = Server::start(LATENCY);
    let (_, speed) = grade(workload, (&slow, SLOW_LEAVES), 200, "slow");
    slow.take_counts();
    let most = 200.0 / LATENCY.as_secs_f64();
    table.row(
        "leaves/s, one core, 200 ms, 200 in flight",
        format!("{speed:.0} ({:.0}% of {most:.0})", speed / most * 100.0),
        "≥ 90% of what latency allows",
    );
    let slow = both.alternate(&slow, SLOW_LEAVES, 1_000, "many-slow");
    table.row(
        "a worker's leaves/s, one core, 200 ms, 1,000 in flight",
        slow.to_string(),
        "≥ 40% of the bare client",
    );
}

/// A worker and the bare client, with the same requests.
struct Both<'w> {
    workload: &'w Workload,
    /// Of a request.
    bytes: usize,
}

/// What one of them took, by the median of its turns.
struct Taken {
    cpu_s: f64,
    /// Leaves a second.
    rate: f64,
}

/// What both took.
struct Compared {
    worker: Taken,
    bare: Taken,
}

// === impl Both ===

impl Both<'_> {
    fn alternate(&self, server: &Server, leaves: usize, in_flight: usize, name: &str) -> Compared {
        let turns = (0..TURNS).map(|turn| {
            let name = format!("{name}{turn}");
            let worked = work(self.workload, (server, leaves), in_flight, &name);
            let bare = raw(server, leaves, in_flight, self.bytes);
            server.take_counts();
            (worked, bare)
        });
        let (worker, bare): (Vec<Used>, Vec<Used>) = turns.unzip();
        let taken = |used: &[Used]| Taken {
            cpu_s: median(used.iter().map(|used| used.cpu_s)),
            rate: leaves as f64 / median(used.iter().map(|used| used.wall_s)),
        };
        Compared { worker: taken(&worker), bare: taken(&bare) }
    }
}

// === impl Compared ===

impl std::fmt::Display for Compared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (worker, bare) = (self.worker.rate, self.bare.rate);
        write!(f, "{worker:.0} ({:.0}% of the bare client's {bare:.0})", worker / bare * 100.0)
    }
}

/// Grades all leaves; what it used, and leaves a second.
fn grade(
    workload: &Workload,
    (server, leaves): (&Server, usize),
    in_flight: usize,
    name: &str,
) -> (Used, f64) {
    let mut command = workload.asking("grade", leaves, name, &server.url(), in_flight);
    command.arg("--json");
    let used = used(&command);
    let document: Value = serde_json::from_str(&used.stdout).expect("one JSON document");
    let wall_s = document["wall_s"].as_f64().expect("seconds");
    (used, leaves as f64 / wall_s)
}

/// Works on leaves that are queued already.
fn work(
    workload: &Workload,
    (server, leaves): (&Server, usize),
    in_flight: usize,
    queued: &str,
) -> Used {
    used(&workload.asking("submit", leaves, queued, &server.url(), 0));
    let in_flight = in_flight.to_string();
    let work = ["work", "--until-empty", "--concurrency", &in_flight, "--quiet"];
    let worked = used(&workload.on_store(&work, queued));
    let (requests, _) = server.take_counts();
    assert_eq!(requests, leaves as u64, "one call a leaf");
    worked
}

fn raw(server: &Server, requests: usize, in_flight: usize, bytes: usize) -> Used {
    let mut command = Command::new(env::current_exe().expect("a benchmark has a path"));
    let numbers = [requests, in_flight, bytes].map(|number| number.to_string());
    command.arg("raw").arg(server.url()).args(numbers);
    used(&command)
}
