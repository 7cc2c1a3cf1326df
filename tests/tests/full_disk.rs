//! A disk that is full in mid-run: said clearly, the store still opens, and the same command goes on
//! once there is room.

use std::process::{Command, Output};

use tribunal_e2e::{Running, SimProcess, Workspace, assert_exit, describe, document, number, skip};

const LEAVES: u64 = 300;
const CONCURRENCY: u64 = 8;

/// `bash -c SCRIPT` in the workspace, with the `grade` command as its arguments.
fn bash(workspace: &Workspace, sim: &SimProcess, wrapper: &[&str], script: &str) -> Output {
    let grade = workspace.grade(&sim.base_url, &["--concurrency", "8", "--quiet"]);
    let all = [wrapper, &["bash", "-c", script, "bash"]].concat();
    let mut command = Command::new(all[0]);
    command.args(&all[1..]).arg(grade.get_program()).args(grade.get_args());
    command.current_dir(workspace.path());
    Running::start(command).finish()
}

/// Asserts what the user of a full disk is told.
#[track_caller]
fn assert_said_full(output: &Output, sim: &SimProcess) {
    assert_exit(output, 2);
    assert!(output.stdout.is_empty(), "{}", describe(output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("store.db") && said.contains("full"), "{said}");
    assert!(said.contains("Free space"), "it says what to do: {said}");
    assert!(!said.contains("panicked"), "{said}");
    let asked = sim.settled_requests();
    assert!(0 < asked && asked < LEAVES, "it was not full in mid-run: {asked} calls");
}

/// Asserts that a run that met a full disk completed afterwards, at the cost of what was in flight.
#[track_caller]
fn assert_completed(output: &Output, sim: &SimProcess) {
    assert_exit(output, 0);
    assert_eq!(number(&document(output), "/outcomes/graded"), LEAVES);
    let asked = sim.requests();
    assert!(asked <= LEAVES + CONCURRENCY, "{asked} calls");
}

#[test]
fn a_file_size_limit_in_mid_run() {
    let workspace = Workspace::generated(LEAVES as usize);
    let sim = SimProcess::start(&["--latency-ms", "10"]);
    // The limit is in KiB, of every file; writing beyond it is then an error, not a signal.
    let limited = "trap '' XFSZ; ulimit -f 600; exec \"$@\"";
    let output = bash(&workspace, &sim, &[], limited);
    assert_said_full(&output, &sim);
    let status = workspace.status();
    let (done, asked) = (number(&status, "/done"), sim.settled_requests());
    assert!(done <= asked && asked - done <= CONCURRENCY, "{done} of {asked} calls are stored");
    let output = bash(&workspace, &sim, &[], "exec \"$@\"");
    assert_completed(&output, &sim);
}

#[test]
fn a_filesystem_without_room_in_mid_run() {
    let workspace = Workspace::generated(LEAVES as usize);
    let sim = SimProcess::start(&["--latency-ms", "10"]);
    let unshare = ["unshare", "--mount"];
    if !bash(&workspace, &sim, &unshare, "mount -t tmpfs tmpfs .").status.success() {
        return skip("without the right to mount there is no small filesystem to fill");
    }
    // The store lives and dies with the mount, so every command runs under it.
    let filled = "mkdir .tribunal; mount -t tmpfs -o size=1m tmpfs .tribunal || exit 99
        \"$@\" > full.out 2> full.err; echo $? > full.exit
        mount -o remount,size=64m .tribunal || exit 99
        \"$1\" status --json > full.status
        exec \"$@\"";
    let output = bash(&workspace, &sim, &unshare, filled);
    let said = workspace.read("full.err");
    assert_eq!(workspace.read("full.exit"), "2\n", "{said}");
    assert_eq!(workspace.read("full.out"), "");
    assert!(said.contains("store.db") && said.contains("full"), "{said}");
    assert!(said.contains("Free space") && !said.contains("panicked"), "{said}");
    let done = number(&workspace.json("full.status"), "/runs/0/done");
    assert!(0 < done && done < LEAVES, "it was not full in mid-run: {done} verdicts");
    assert_completed(&output, &sim);
}
