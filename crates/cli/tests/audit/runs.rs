//! Runs of the store, and the trees that `grade` leaves, against a human's tree.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::{Folder, close, said};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::write(target, fs::read(entry.path()).expect("read")).expect("written");
        }
    }
}

#[test]
fn a_run_and_its_files_say_the_same() {
    let folder = Folder::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/example");
    copy(&example, &folder.path("example"));
    let graded = folder.run(&[
        "grade",
        "--quiet",
        "--json",
        "--rubric",
        "example/rubric.json",
        "--submission",
        "example/submission",
        "--paper",
        "example/paper.md",
        "--out",
        "graded",
    ]);
    assert!(graded.status.success(), "{}", said(&graded));
    let graded: Value = serde_json::from_slice(&graded.stdout).expect("a document");
    let run = graded["run"].as_str().expect("an id");
    let human = "example/expected_result.json";
    let audit = |judge: &str| folder.audit(&["--judge", judge, "--human", human]).0;
    let of_run = audit(run);
    assert_eq!(of_run["judge"]["simulated"], json!(true));
    assert_eq!(of_run["judge"]["model"], graded["model"]);
    close(&of_run["coverage"], 1.0);
    let root = &of_run["root_bias"][0];
    close(&root["judge"], graded["root"]["score"].as_f64().expect("a score"));
    for file in ["graded/scored_tree.json", "graded/grader_output.json", "graded"] {
        let of_file = audit(file);
        assert_eq!(of_file["judge"], of_run["judge"], "{file}");
        assert_eq!(of_file["overall"], of_run["overall"], "{file}");
        assert_eq!(of_file["root_bias"][0]["bias"], root["bias"], "{file}");
        let words = |document: &Value| document["disagreements"][0]["judge_explanation"].clone();
        assert_eq!(words(&of_file), words(&of_run), "{file}");
    }
    let none = folder.refused(&["audit", "--judge", "0123456789abcdef", "--human", human]);
    assert!(none.contains("0123456789abcdef"), "{none}");
}
