//! Processes on chosen cores, with what they used.
//!
//! Owns pinning and reading: a measured command runs under this program once more, which does
//! nothing but wait, so that what its children used is what the command used.

use std::{
    env,
    io::Write,
    process::{Command, ExitCode, Stdio},
    sync::OnceLock,
    time::Instant,
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike,
    },
    unistd::Pid,
};
use serde_json::{Value, json};

/// The cores that this process was given; measured commands have the first, or all.
static CORES: OnceLock<Vec<usize>> = OnceLock::new();

/// What a command used.
#[derive(Clone, Debug)]
pub(crate) struct Used {
    /// From its start to its end, in seconds.
    pub(crate) wall_s: f64,
    /// User and system time, in seconds.
    pub(crate) cpu_s: f64,
    /// The most memory resident at once, in MB.
    pub(crate) peak_mb: f64,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it said on standard error.
    said: String,
    /// Its exit code; `None` for a signal.
    code: Option<i64>,
}

/// Keeps the first core for measured commands: this thread, and all that it starts from now on,
/// runs on the others, where there are any.
///
/// # Panics
///
/// When the system does not let a process choose its cores.
pub(crate) fn keep_a_core() {
    let all = sched_getaffinity(Pid::from_raw(0)).expect("the system knows its cores");
    let known = |core: &usize| all.is_set(*core).unwrap_or(false);
    let cores = CORES.get_or_init(|| (0..CpuSet::count()).filter(known).collect());
    if let [_, others @ ..] = &cores[..]
        && !others.is_empty()
    {
        take(others);
    }
}

/// Runs this thread, and all that it starts from now on, on these cores.
fn take(cores: &[usize]) {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core).expect("the core is known");
    }
    sched_setaffinity(Pid::from_raw(0), &set).expect("the cores are there");
}

/// Runs the command on the first core and measures it.
///
/// # Panics
///
/// When it cannot be run, or fails.
pub(crate) fn used(command: &Command) -> Used {
    well(command, run(command, &cores()[..1]))
}

/// Runs the command on all cores and measures it.
///
/// # Panics
///
/// When it cannot be run, or fails.
pub(crate) fn used_anywhere(command: &Command) -> Used {
    well(command, run(command, cores()))
}

/// Runs the command on the first core and measures it, with whatever code it ends.
///
/// # Panics
///
/// When it cannot be run.
pub(crate) fn ended(command: &Command) -> Used {
    run(command, &cores()[..1])
}

fn well(command: &Command, used: Used) -> Used {
    assert_eq!(used.code, Some(0), "{command:?} failed: {}", used.said);
    used
}

fn cores() -> &'static [usize] {
    CORES.get().expect("a core was kept")
}

fn run(command: &Command, cores: &[usize]) -> Used {
    let mut outer = Command::new(env::current_exe().expect("a benchmark has a path"));
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    outer.args(["measure", &cores.join(",")]).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    let output = outer.stderr(Stdio::inherit()).output().expect("the benchmark starts itself");
    let used: Value = serde_json::from_slice(&output.stdout).expect("it prints what was used");
    let number = |name: &str| used[name].as_f64().expect("a number");
    Used {
        wall_s: number("wall_s"),
        cpu_s: number("cpu_s"),
        peak_mb: number("peak_mb"),
        stdout: used["stdout"].as_str().unwrap_or_default().to_owned(),
        said: used["stderr"].as_str().unwrap_or_default().to_owned(),
        code: used["code"].as_i64(),
    }
}

/// The waiting process: runs the command in `arguments` and prints what it used.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let [cores, program, arguments @ ..] = arguments else {
        return ExitCode::from(2);
    };
    let cores: Result<Vec<usize>, _> = cores.split(',').map(str::parse).collect();
    take(&cores.expect("numbers of cores"));
    let start = Instant::now();
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let wall_s = start.elapsed().as_secs_f64();
    let Ok(output) = output else { return ExitCode::FAILURE };
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the system keeps accounts");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let document = json!({
        "wall_s": wall_s,
        "cpu_s": micros as f64 / 1e6,
        // Linux counts it in KiB.
        "peak_mb": usage.max_rss() as f64 * 1024.0 / 1e6,
        "code": output.status.code(),
        "stdout": String::from_utf8_lossy(&output.stdout),
        "stderr": String::from_utf8_lossy(&output.stderr),
    });
    let _ = writeln!(std::io::stdout(), "{document}");
    ExitCode::SUCCESS
}

/// The middle one; the upper one of two.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
