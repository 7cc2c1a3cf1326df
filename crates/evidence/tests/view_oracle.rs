//! The category views against PaperBench's own functions, where the data is at hand.

use std::{fs, path::PathBuf};

use serde_json::Value;
use tribunal_core::{BlobHash, Category};
use tribunal_evidence::{FileEntry, Profile, Snapshot, View};

#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn oracle() -> Option<Value> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let data = std::env::var("TRIBUNAL_DATA").unwrap_or_else(|_| default.to_owned());
    let path = PathBuf::from(data).join("paperbench/oracle/evidence.json");
    match fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).expect("the oracle is JSON")),
        Err(_) => {
            println!("skipped: no oracle at TRIBUNAL_DATA");
            None
        }
    }
}

fn snapshot(case: &Value) -> Snapshot {
    let seconds = |value: &Value| value.as_i64().expect("seconds") * 1000;
    let mut files: Vec<FileEntry> = case["files"]
        .as_array()
        .expect("files")
        .iter()
        .map(|file| FileEntry {
            path: file["path"].as_str().expect("path").to_owned(),
            bytes: 1,
            mtime_ms: seconds(&file["mtime"]),
            text: Some(BlobHash::of(b"x")),
            encoding: None,
            cut_bytes: 0,
            omitted: None,
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Snapshot {
        schema: Snapshot::SCHEMA.to_owned(),
        files,
        reproduction_ms: Some(seconds(&case["reproduction_time"])),
        warnings: Vec::new(),
    }
}

#[test]
fn views_are_paperbenchs() {
    let Some(oracle) = oracle() else { return };
    let profile = Profile::builtin(Profile::PAPERBENCH).expect("built in");
    let cases = oracle["cases"].as_array().expect("cases");
    assert!(!cases.is_empty());
    for case in cases {
        let (name, expected) = (&case["name"], &case["expected"]);
        let snapshot = snapshot(case);
        for category in Category::ALL {
            for (key, max_depth) in [("files", None), ("depth4", Some(4))] {
                let view = View::new(&snapshot, category, max_depth, false, &profile);
                let paths: Vec<&str> = view.files.iter().map(|file| file.path.as_str()).collect();
                let wanted: Vec<&str> = expected[category.name()][key]
                    .as_array()
                    .expect("paths")
                    .iter()
                    .map(|path| path.as_str().expect("a path"))
                    .collect();
                assert_eq!(paths, wanted, "{name} {category} {key}");
            }
        }
        let result_analysis = View::new(&snapshot, Category::ResultAnalysis, None, false, &profile);
        let touched = expected["reproduce_touched_files"].as_bool().expect("a truth value");
        assert_eq!(result_analysis.touched, touched, "{name}");
        let development = View::new(&snapshot, Category::CodeDevelopment, None, false, &profile);
        assert_eq!(Some(development.tree().as_str()), case["code_development_tree"].as_str());
    }
}
