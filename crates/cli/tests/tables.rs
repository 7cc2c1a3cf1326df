//! `table` and `compare` over files, folders, manifests and layouts, as a script runs them.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A graded tree of ten leaves, `passed` of them met; `None` leaves one ungraded.
fn graded(passed: usize, missing: usize) -> String {
    let leaf = |i: usize| {
        json!({
            "id": format!("leaf-{i}"), "requirements": format!("criterion {i}"), "weight": 1,
            "sub_tasks": [], "task_category": "Code Development",
            "score": u8::from(i < passed), "valid_score": i < 10 - missing,
        })
    };
    let tree = json!({
        "id": "root", "requirements": "all", "weight": 1, "score": 0, "valid_score": true,
        "sub_tasks": (0..10).map(leaf).collect::<Vec<_>>(),
    });
    json!({"graded_task_tree": tree}).to_string()
}

fn write(dir: &TempDir, files: &[(&str, String)]) {
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
}

fn tribunal(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tribunal"));
    command.args(args).current_dir(dir).env_clear().output().expect("the binary starts")
}

/// The exit code, the document of `--json`, and what was said besides.
fn document(dir: &TempDir, args: &[&str]) -> (i32, Value, String) {
    let output = tribunal(dir.path(), &[args, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().expect("an exit code"), document, said)
}

#[test]
fn folders_layouts_and_manifests_give_one_table() {
    let dir = TempDir::new().expect("a folder");
    write(
        &dir,
        &[
            ("results/a/fre/seed1/grader_output.json", graded(2, 0)),
            ("results/a/fre/seed2/grader_output.json", graded(4, 0)),
            ("results/b/fre/seed1/grader_output.json", graded(9, 0)),
            (
                "m.csv",
                "graded,agent,paper_id,seed,disqualified,missing,rubric\n\
             results/{agent}/fre/seed{seed}/grader_output.json,,fre,,,,\n\
             none.json,c,fre,1,,zero,results/a/fre/seed1/grader_output.json\n\
             results/b/fre/seed1/grader_output.json,d,fre,1,true,,\n"
                    .to_owned(),
            ),
            ("split.txt", "# one\nfre\n\n".to_owned()),
        ],
    );
    let layout = ["table", "results", "--layout", "{agent}/{paper_id}/seed{seed}"];
    let (code, found, said) = document(&dir, &layout);
    assert_eq!(code, 0, "{said}");
    assert_eq!(found["schema"], "tribunal.table/1");
    let rows = found["rows"].as_array().expect("rows");
    assert_eq!((rows[0]["agent"].as_str(), rows[1]["agent"].as_str()), (Some("b"), Some("a")));
    let mean = rows[1]["score"]["mean"].as_f64().expect("a score");
    let se = rows[1]["score"]["se"].as_f64().expect("an error");
    assert!((mean - 0.3).abs() < 1e-12 && (se - 0.1).abs() < 1e-12, "{rows:?}");
    assert_eq!(rows[0]["score"]["se"], Value::Null);

    let (code, found, said) = document(&dir, &["table", "m.csv", "--split", "split.txt"]);
    assert_eq!(code, 0, "{said}");
    let rows = found["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 4);
    let zero = |row: &&Value| row["score"]["mean"] == json!(0.0);
    assert_eq!(rows.iter().filter(zero).count(), 2);
    let kinds: Vec<_> =
        found["notes"].as_array().expect("notes").iter().map(|n| &n["kind"]).collect();
    assert_eq!(kinds, ["disqualified", "missing_counts_zero"]);
    let by_elapsed = document(&dir, &["table", "m.csv", "--by", "elapsed"]);
    assert_eq!(by_elapsed.0, 2);
    assert!(by_elapsed.2.contains("after how many hours"), "{}", by_elapsed.2);
}

#[test]
fn a_folder_may_hold_other_documents_beside_its_trees() {
    let dir = TempDir::new().expect("a folder");
    let audit = r#"{"schema":"tribunal.audit/1","leaves":[]}"#;
    write(
        &dir,
        &[
            ("results/a/grader_output.json", graded(2, 0)),
            ("results/b/b.json", graded(4, 0)),
            ("results/audit/audit.json", audit.to_owned()),
        ],
    );
    let (code, found, said) = document(&dir, &["table", "results"]);
    assert_eq!(code, 0, "{said} {found}");
    assert_eq!(found["rows"].as_array().map(Vec::len), Some(2), "{found}");
    write(&dir, &[("results/audit/other.json", "{}".to_owned())]);
    let (code, _, said) = document(&dir, &["table", "results"]);
    assert_eq!(code, 2);
    assert!(said.contains("other.json") && said.contains("requirements"), "{said}");
}

#[test]
fn every_bad_row_is_told_at_once() {
    let dir = TempDir::new().expect("a folder");
    write(&dir, &[
        ("tree.json", graded(1, 0)),
        (
            "m.toml",
            "[defaults]\npaper_id = \"x\"\n[[row]]\ngraded = \"tree.json\"\nsed = 1\n\
             [[row]]\ngraded = \"gone.json\"\n[[row]]\nagent = \"a\"\n\
             [[row]]\ngraded = \"*.tar\"\n[[row]]\ngraded = \"tree.json\"\ndisqualified = \"maybe\"\n"
                .to_owned(),
        ),
    ]);
    let (code, _, said) = document(&dir, &["table", "m.toml"]);
    assert_eq!(code, 2);
    for problem in [
        "m.toml:3: no such key: `sed`",
        "m.toml:6: ",
        "gone.json is not there",
        "m.toml:8: neither `submission` nor `graded`",
        "m.toml:10: `*.tar` matches nothing",
        "m.toml:12: `disqualified` is `maybe`",
    ] {
        assert!(said.contains(problem), "{problem}\n{said}");
    }
}

#[test]
fn paperbench_runs_give_agents_seeds_and_hours() {
    let dir = TempDir::new().expect("a folder");
    let at = |run: &str, time: &str, name: &str| {
        format!("runs/2025-01-01_run-group_agent/{run}/submissions/{time}/{name}")
    };
    let name = "submission_executed_grader_output_0.json";
    write(
        &dir,
        &[
            (&at("fre_1", "2025-01-01T00-00-00-GMT", name), graded(1, 0)),
            (&at("fre_1", "2025-01-01T03-00-00-GMT", name), graded(3, 0)),
            (&at("fre_2", "2025-01-01T00-00-00-GMT", name), graded(3, 0)),
            (&at("fre_2", "2025-01-01T03-01-00-GMT", name), graded(5, 0)),
        ],
    );
    let (code, found, said) = document(&dir, &["table", "runs"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(found["rows"][0]["score"]["mean"], json!(0.4));
    assert_eq!(found["rows"][0]["agent"], "agent");
    let curve = ["table", "runs", "--hours", "0,3", "--by", "elapsed", "--plot", "c.svg"];
    let (code, found, said) = document(&dir, &curve);
    assert_eq!(code, 0, "{said}");
    let hours: Vec<_> =
        found["rows"].as_array().expect("rows").iter().map(|row| &row["elapsed_hours"]).collect();
    assert_eq!(hours, [0.0, 3.0]);
    assert!(fs::read_to_string(dir.path().join("c.svg")).expect("a plot").starts_with("<svg"));
}

#[test]
fn exit_codes_of_tables_and_comparisons() {
    let dir = TempDir::new().expect("a folder");
    let files = [("a.json", graded(3, 0)), ("b.json", graded(5, 0)), ("part.json", graded(5, 2))];
    write(&dir, &files);
    assert_eq!(document(&dir, &["table", "a.json", "b.json", "--fail-under", "0.3"]).0, 0);
    assert_eq!(document(&dir, &["table", "a.json", "b.json", "--fail-under", "0.4"]).0, 5);
    assert_eq!(document(&dir, &["table", "part.json", "--fail-under", "0.9"]).0, 3);
    assert_eq!(document(&dir, &["table", "gone"]).0, 2);
    let (code, found, _) = document(&dir, &["compare", "a.json", "b.json"]);
    assert_eq!((code, &found["flips"]["up"], &found["flips"]["down"]), (0, &json!(2), &json!(0)));
    assert_eq!(document(&dir, &["compare", "a.json", "part.json"]).0, 3);
    for format in ["text", "md", "csv", "latex"] {
        let output = tribunal(dir.path(), &["table", "a.json", "--format", format]);
        assert!(String::from_utf8_lossy(&output.stdout).contains("score"), "{format}");
    }
}
