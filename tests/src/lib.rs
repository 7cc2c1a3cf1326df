//! The end-to-end suite's tools: the real binary, the simulated judge in a process of its own, a
//! server that answers as a test wants, a gate that holds requests, generated rubrics and submissions.
//!
//! Owns starting and ending processes. It reaches into no crate: what it knows of Tribunal is what
//! a user knows.

mod browser;
mod gate;
mod generate;
mod network;
mod postgres;
mod process;
mod proxy;
mod server;
mod sim;
mod workspace;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

pub use self::{
    browser::Browser,
    gate::Gate,
    generate::{write_labels, write_rubric, write_submission},
    network::Network,
    postgres::{PASSWORD, Place, PostgresServer, SharedServer},
    process::{Log, Running},
    proxy::Proxy,
    server::{Reply, Request, TestServer},
    sim::SimProcess,
    workspace::Workspace,
};

/// How long anything may take before a test fails: a bound, not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The binary under test: `TRIBUNAL_BIN`, else the one built beside this test.
///
/// # Panics
///
/// When it was not built.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("TRIBUNAL_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test has a path");
    let target = test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
    let path = target.join("tribunal");
    assert!(path.exists(), "{} is missing: run `make test`", path.display());
    path
}

/// A command of the binary in `folder`, with no key and no config of this machine.
pub fn tribunal(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(args)
        .current_dir(folder)
        .env_remove("TRIBUNAL_API_KEY")
        .env_remove("OPENAI_API_KEY")
        .stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
///
/// # Panics
///
/// When it cannot be started, or does not end.
pub fn run(folder: &Path, args: &[&str]) -> Output {
    Running::start(tribunal(folder, args)).finish()
}

/// The one JSON document on standard output.
///
/// # Panics
///
/// When it is not one.
pub fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("no JSON document ({error}): {}", describe(output));
    })
}

/// Exit code, standard output and standard error, for messages.
pub fn describe(output: &Output) -> String {
    format!(
        "{}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Asserts the exit code; says what the process said where it is another.
///
/// # Panics
///
/// When it is another.
#[track_caller]
pub fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", describe(output));
}

/// The number at this JSON pointer.
///
/// # Panics
///
/// When there is none.
#[track_caller]
pub fn number(document: &Value, pointer: &str) -> u64 {
    let found = document.pointer(pointer).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no number at {pointer} of {document:#}"))
}

/// The sum of an object of numbers, such as `outcomes.ungraded`.
///
/// # Panics
///
/// When it is no such object.
#[track_caller]
pub fn sum(counts: &Value) -> u64 {
    let counts = counts.as_object().unwrap_or_else(|| panic!("no object: {counts}"));
    counts.values().map(|count| count.as_u64().expect("a count")).sum()
}

/// A file of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Says that a test cannot show anything on this machine, and why.
#[expect(clippy::print_stderr, reason = "a test that shows nothing must say so")]
pub fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// Waits until `done` holds, looking again and again.
///
/// # Panics
///
/// When it does not hold within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
