//! The table that the benchmark prints.
//!
//! Owns its words: what was measured, the figure, and the target where there is one.

use std::{fmt, fs, path::Path, process::Command, thread::available_parallelism};

/// One line.
struct Row {
    what: String,
    measured: String,
    target: &'static str,
}

/// The machine, the versions and the lines.
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Row>,
}

// === impl Table ===

impl Table {
    /// An empty table for this binary on this machine.
    pub(crate) fn new(binary: &Path) -> Self {
        let version = said_by(Command::new(binary).arg("--version"));
        let rustc = said_by(Command::new("rustc").arg("--version"));
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let model = model.and_then(|line| line.split(':').nth(1)).unwrap_or("unknown processor");
        let cores = available_parallelism().map_or(1, usize::from) + 1;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let head = vec![
            format!("{version}, {rustc}"),
            format!("{cores} cores, {}, Linux {}", model.trim(), kernel.trim()),
            "the grader has one core, the server the others".to_owned(),
        ];
        Self { head, rows: Vec::new() }
    }

    /// Adds a line.
    pub(crate) fn row(&mut self, what: impl Into<String>, measured: String, target: &'static str) {
        let what = what.into();
        self.rows.push(Row { what, measured, target });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.head {
            writeln!(f, "- {line}")?;
        }
        writeln!(f, "\n| measured | value | target |\n| --- | --- | --- |")?;
        for Row { what, measured, target } in &self.rows {
            writeln!(f, "| {what} | {measured} | {target} |")?;
        }
        Ok(())
    }
}

fn said_by(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
