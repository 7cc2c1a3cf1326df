//! The pool at full speed, as ratios measured in one run: `make bench`.
//!
//! Owns the order of the measurements and the table. Every grader is the release binary in a
//! process of its own on one core; the server that answers it runs here, on the others. The
//! reference is a bare reqwest client that sends one body of the same size again and again.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints what it measured"
)]

mod faults;
mod limits;
mod measure;
mod prompts;
mod raw;
mod scale;
mod server;
mod table;
mod throughput;
mod workload;

use std::{env, path::PathBuf, process::ExitCode};

use self::{table::Table, workload::Workload};

/// Where the table is written, from the root of the repository.
const FILE: &str = "tribunal-out/bench.md";

/// A section of the benchmark.
type Section = fn(&Workload, &mut Table);

const SECTIONS: [(&str, Section); 5] = [
    ("throughput", throughput::measure),
    ("scale", scale::measure),
    ("limits", limits::measure),
    ("faults", faults::measure),
    ("prompts", prompts::measure),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("raw") => return raw::main(&arguments[1..]),
        Some("measure") => return measure::main(&arguments[1..]),
        _ => {}
    }
    if let Some(unknown) = arguments.iter().find(|a| !SECTIONS.iter().any(|(name, _)| name == a)) {
        let names: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
        eprintln!("error: no section `{unknown}`; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    measure::keep_a_core();
    let workload = Workload::new();
    let mut table = Table::new(&tribunal_e2e::binary());
    for (name, measure) in SECTIONS {
        if arguments.is_empty() || arguments.iter().any(|wanted| wanted == name) {
            eprintln!("measuring {name} …");
            measure(&workload, &mut table);
        }
    }
    let text = table.to_string();
    println!("{text}");
    let path: PathBuf = tribunal_e2e::repository(FILE);
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    match written.and_then(|()| std::fs::write(&path, text)) {
        Ok(()) => {
            eprintln!("written to {FILE}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: cannot write {FILE}: {error}");
            ExitCode::FAILURE
        }
    }
}
