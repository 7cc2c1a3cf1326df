//! What is graded: a generated rubric and a submission whose prompts have about 121 kB.
//!
//! Owns the files in a temporary folder.

use std::{fmt::Write, fs, path::PathBuf, process::Command};

use tempfile::TempDir;
use tribunal_e2e::{tribunal, write_rubric};

/// Bytes of the submission's code, chosen so that a request has about 121 kB.
const CODE_BYTES: usize = 107_000;

/// The folder that a measurement works in.
pub(crate) struct Workload {
    folder: TempDir,
}

// === impl Workload ===

impl Workload {
    /// Writes the submission.
    ///
    /// # Panics
    ///
    /// When a file cannot be written.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let submission = folder.path().join("submission");
        fs::create_dir_all(submission.join("src")).expect("a folder");
        let mut code = String::new();
        for i in 0.. {
            let _ = writeln!(code, "def transform_{i}(tensor, part={i}):");
            let _ = writeln!(code, "    \"\"\"Scales the tensor of part {i}.\"\"\"");
            let _ = writeln!(code, "    return scale(tensor, factor={}.{i})\n", i % 7);
            if code.len() >= CODE_BYTES {
                break;
            }
        }
        fs::write(submission.join("src/method.py"), code).expect("written");
        fs::write(submission.join("README.md"), "# Reproduction\n").expect("written");
        fs::write(submission.join("reproduce.sh"), "python3 src/method.py\n").expect("written");
        Self { folder }
    }

    /// A rubric of so many leaves.
    pub(crate) fn rubric(&self, leaves: usize) -> PathBuf {
        let path = self.folder.path().join(format!("rubric-{leaves}.json"));
        if !path.exists() {
            write_rubric(&path, leaves);
        }
        path
    }

    /// `tribunal COMMAND` on a rubric of so many leaves; the store is `NAME.db`.
    pub(crate) fn command(&self, command: &str, leaves: usize, name: &str) -> Command {
        let rubric = self.rubric(leaves);
        let store = format!("sqlite:{name}.db");
        let rubric = rubric.to_str().expect("a path in UTF-8");
        tribunal(
            self.folder.path(),
            &[command, "--rubric", rubric, "--submission", "submission", "--store", &store],
        )
    }

    /// The same against an endpoint, with so many leaves in flight.
    pub(crate) fn asking(
        &self,
        command: &str,
        leaves: usize,
        name: &str,
        url: &str,
        in_flight: usize,
    ) -> Command {
        let mut command = self.command(command, leaves, name);
        command.args(["--base-url", url, "--model", "gpt-4.1"]);
        if in_flight > 0 {
            command.args(["--concurrency", &in_flight.to_string()]);
        }
        command
    }

    /// Any other command in the folder, on the store `NAME.db`.
    pub(crate) fn on_store(&self, arguments: &[&str], name: &str) -> Command {
        let mut command = tribunal(self.folder.path(), arguments);
        command.args(["--store", &format!("sqlite:{name}.db")]);
        command
    }
}
