//! A folder of its own for a test: rubric, submission, config, store and results.
//!
//! Owns the names in it. Commands run in it, so that the store is `.tribunal/store.db` and the
//! config, if a test writes one, `tribunal.toml`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Running, assert_exit, document, repository, tribunal, write_rubric, write_submission};

/// The folder; removed when dropped.
pub struct Workspace {
    folder: TempDir,
}

// === impl Workspace ===

impl Workspace {
    /// An empty one.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// One with a generated rubric of so many leaves.
    ///
    /// # Panics
    ///
    /// When a file cannot be written.
    pub fn generated(leaves: usize) -> Self {
        let workspace = Self::empty();
        write_rubric(&workspace.file("rubric.json"), leaves);
        write_submission(&workspace.file("submission"), leaves);
        workspace
    }

    /// One with a copy of the bundled example. The copies are new, so its results are newer than
    /// its reproduction whatever was done to the repository's.
    ///
    /// # Panics
    ///
    /// When a file cannot be copied.
    pub fn example() -> Self {
        let workspace = Self::empty();
        copy(&repository("tests/fixtures/example"), workspace.path());
        workspace
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file in it.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("the file is written");
    }

    /// Reads a file in it.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Reads a JSON file in it.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[track_caller]
    pub fn json(&self, name: &str) -> Value {
        let text = self.read(name);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"))
    }

    /// A command of the binary.
    pub fn command(&self, args: &[&str]) -> Command {
        tribunal(self.path(), args)
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn run(&self, args: &[&str]) -> Output {
        Running::start(self.command(args)).finish()
    }

    /// `tribunal grade` of what is here into `out`, with the simulated judge's model at this
    /// endpoint.
    pub fn grade(&self, base_url: &str, args: &[&str]) -> Command {
        let judge = ["--base-url", base_url, "--model", "tribunal-sim"];
        self.command(&[&GRADE[..], &judge[..], args].concat())
    }

    /// `tribunal grade` of what is here into `out` by a judge of the config.
    pub fn grade_by(&self, judge: &str, args: &[&str]) -> Command {
        self.command(&[&GRADE[..], &["--judge", judge], args].concat())
    }

    /// Runs [`Workspace::grade`] to its end.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn run_grade(&self, base_url: &str, args: &[&str]) -> Output {
        Running::start(self.grade(base_url, args)).finish()
    }

    /// Every run of the store, the newest first.
    ///
    /// # Panics
    ///
    /// When `tribunal status` fails.
    #[track_caller]
    pub fn runs(&self) -> Vec<Value> {
        let output = self.run(&["status", "--json"]);
        assert_exit(&output, 0);
        let runs = document(&output)["runs"].as_array().cloned();
        runs.expect("a list of runs")
    }

    /// The only run of the store.
    ///
    /// # Panics
    ///
    /// When there is none, or another.
    #[track_caller]
    pub fn status(&self) -> Value {
        let mut runs = self.runs();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }
}

/// The arguments of every `grade` without its judge.
const GRADE: [&str; 8] =
    ["grade", "--json", "--rubric", "rubric.json", "--submission", "submission", "--out", "out"];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("the file is copied");
        }
    }
}
