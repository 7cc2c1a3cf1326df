//! Graded trees in a temporary folder, and processes of the binary.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with graded trees.
pub(crate) struct Folder {
    folder: TempDir,
}

/// A leaf of a tree: id, weight, category, score; no score is one that is not valid.
pub(crate) type Leaf<'l> = (&'l str, f64, &'l str, Option<f64>);

pub(crate) const CODE: &str = "Code Development";
pub(crate) const RESULT: &str = "Result Analysis";

// === impl Folder ===

impl Folder {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// Writes a graded tree of one group.
    pub(crate) fn tree(&self, name: &str, leaves: &[Leaf<'_>]) {
        self.write(name, &json!({"graded_task_tree": tree(leaves)}).to_string());
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tribunal"));
        let command = command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.output().expect("the binary starts")
    }

    /// The document of an audit, checked against its schema; and the exit code.
    #[track_caller]
    pub(crate) fn audit(&self, args: &[&str]) -> (Value, i32) {
        let output = self.run(&[&["audit", "--json"][..], args].concat());
        let document: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("no document ({error}): {}", said(&output)));
        let schema = self.run(&["schema", "audit"]);
        let schema: Value = serde_json::from_slice(&schema.stdout).expect("a schema");
        let validator = jsonschema::validator_for(&schema).expect("a schema that can be used");
        let wrong: Vec<String> = validator.iter_errors(&document).map(|e| e.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        (document, output.status.code().expect("an exit"))
    }

    /// What a command that must end with 2 says.
    #[track_caller]
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(output.stdout.is_empty(), "{}", said(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

pub(crate) fn tree(leaves: &[Leaf<'_>]) -> Value {
    let node = |id: &str, weight: f64, category: Value, score: Option<f64>, children: Value| {
        json!({
            "id": id, "requirements": format!("About {id}"), "weight": weight,
            "task_category": category, "sub_tasks": children, "score": score.unwrap_or(0.0),
            "valid_score": score.is_some(), "explanation": format!("{id}: {score:?}"),
            "judge_metadata": null,
        })
    };
    let leaf = |(id, weight, category, score): &Leaf<'_>| {
        node(id, *weight, json!(category), *score, json!([]))
    };
    let children: Vec<Value> = leaves.iter().map(leaf).collect();
    node("root", 1.0, Value::Null, Some(0.0), json!(children))
}

pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

#[track_caller]
pub(crate) fn close(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{found} is no number"));
    assert!((found - expected).abs() < 1e-12, "{found} against {expected}");
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn data() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("TRIBUNAL_DATA").map_or(default, PathBuf::from);
    if data.join("paperbench/oracle").is_dir() {
        return Some(data);
    }
    eprintln!("skipped: no reference data in {} (TRIBUNAL_DATA names it)", data.display());
    None
}
