//! `tribunal evidence` of the example, and of what is not plain in it.

use serde_json::{Value, json};

use crate::support::{Example, bad_input};

fn paths(category: &Value) -> Vec<&str> {
    let files = category["files"].as_array().expect("files");
    files.iter().filter_map(|file| file["path"].as_str()).collect()
}

fn file<'d>(category: &'d Value, path: &str) -> &'d Value {
    let files = category["files"].as_array().expect("files");
    files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("no {path}"))
}

#[test]
fn the_examples_files_are_listed_by_category() {
    let example = Example::new();
    let document = example.document(&["evidence", "submission", "--paper", "paper.md"]);
    assert_eq!(document["schema"], "tribunal.evidence/1");
    assert_eq!(document["profile"], "paperbench");
    let began = std::fs::read_to_string(example.file("submission/reproduce.log.creation_time"));
    let began: f64 = began.expect("the file").trim().parse().expect("seconds");
    assert_eq!(document["reproduction_time"].as_f64(), Some(began));
    assert_eq!(document["reproduction_touched_files"], true);
    let categories = document["categories"].as_object().expect("categories");
    let names: Vec<&str> = categories.keys().map(String::as_str).collect();
    assert_eq!(names, ["Code Development", "Code Execution", "Result Analysis"]);
    let code = &categories["Code Development"];
    let shown = [
        "README.md",
        "reproduce.sh",
        "results/summary.md",
        "src/anchor.py",
        "src/experiments.py",
        "src/halving.py",
        "src/stats.py",
        "src/summary.py",
        "src/tasks.py",
    ];
    assert_eq!(paths(code), shown);
    assert_eq!(
        (&code["fits"], &code["cuts"], &code["other_files"]),
        (&json!(true), &json!([]), &json!(3))
    );
    let size = std::fs::metadata(example.file("submission/src/stats.py")).expect("the file").len();
    let stats = file(code, "src/stats.py");
    assert_eq!(stats["bytes"].as_u64(), Some(size));
    assert_eq!((&stats["state"], &stats["reason"]), (&json!("shown"), &Value::Null));
    assert_eq!(stats["tokens_cut"], 0);
    let parts = code["parts"].as_array().expect("parts");
    let names: Vec<&str> = parts.iter().filter_map(|part| part["part"].as_str()).collect();
    assert_eq!(names, ["paper", "script", "tree"]);
    let of_parts: u64 = parts.iter().filter_map(|part| part["tokens"].as_u64()).sum();
    let script = file(code, "reproduce.sh")["tokens"].as_u64();
    assert_eq!(script, parts[1]["tokens"].as_u64(), "it is shown once, as the script");
    let of_files: u64 = code["files"]
        .as_array()
        .expect("files")
        .iter()
        .map(|file| file["tokens"].as_u64().expect("tokens"))
        .sum();
    // Each file has a fence of 40 tokens; the script's is its part's.
    let fences = 40 * (shown.len() as u64 - 1);
    let script = script.unwrap_or_default();
    assert_eq!(code["tokens"].as_u64(), Some(of_parts + of_files - script + fences));
    assert!(code["tree"].as_str().is_some_and(|tree| tree.contains("└── tasks.py")));
    let results = [
        "README.md",
        "results/history.csv",
        "results/main.csv",
        "results/summary.md",
        "results/sweep.csv",
    ];
    assert_eq!(paths(&categories["Result Analysis"]), results);
    assert!(!example.file(".tribunal").exists(), "nothing is stored");

    let text = example.text(&["evidence", "submission", "--category", "result-analysis"]);
    assert!(text.contains("\nResult Analysis: ") && !text.contains("Code"), "{text}");
    assert!(text.contains("results/sweep.csv"), "{text}");
    assert!(text.contains("  the script\n") && text.contains("  the log\n"), "{text}");
    assert!(text.contains("7 other files are not shown"), "{text}");
}

#[test]
fn what_is_left_out_is_listed_with_its_reason() {
    let example = Example::new();
    std::os::unix::fs::symlink("stats.py", example.file("submission/src/link.py")).expect("a link");
    std::fs::write(example.file("submission/src/blob.py"), b"\x7fELF\0\0\x01").expect("written");
    std::fs::write(example.file("submission/plot.png"), b"\x89PNG\0").expect("written");
    example.write("submission/src/long.py", &"value = 1\n".repeat(3_000));
    example.write("tribunal.toml", "[evidence]\nfile_max_bytes = 20000\n");
    let document = example.document(&["evidence", "submission", "--code-only"]);
    let categories = document["categories"].as_object().expect("categories");
    assert_eq!(categories.len(), 1);
    let code = &categories["Code Development"];
    let reason = |path: &str| {
        let file = file(code, path);
        (file["state"].clone(), file["reason"].clone(), file["tokens_cut"].clone())
    };
    assert_eq!(reason("src/link.py"), (json!("omitted"), json!("link"), Value::Null));
    assert_eq!(reason("src/blob.py"), (json!("omitted"), json!("binary"), Value::Null));
    // The rest of it was not read.
    assert_eq!(reason("src/long.py"), (json!("truncated"), json!("file_max_bytes"), Value::Null));
    assert_eq!(file(code, "src/long.py")["bytes"], 30_000);
    assert!(!paths(code).contains(&"plot.png"), "no file of this type is ever shown");

    example.write("tribunal.toml", "[evidence]\ntoken_budget = 4000\n");
    let document = example.document(&["evidence", "submission", "--code-only"]);
    let code = &document["categories"]["Code Development"];
    assert_eq!(code["fits"], false);
    let files = code["files"].as_array().expect("files");
    let chosen: Vec<&Value> = files.iter().filter(|file| file["reason"] == "selection").collect();
    assert_eq!(chosen.len(), files.len() - 2, "all but the link and the binary: {files:?}");
    assert!(chosen.iter().all(|file| file["tokens_cut"].as_u64().is_some_and(|cut| cut > 0)));
    assert!(code["selection"]["budget"].as_u64().is_some_and(|budget| budget <= 4_000));
    assert!(code["tokens"].as_u64().is_some_and(|tokens| tokens < 1_000), "the tree alone");
    let text = example.text(&["evidence", "submission", "--code-only"]);
    assert!(text.contains("chooses files for the leaves of each parent"), "{text}");
}

#[test]
fn what_the_reproduction_did_not_touch_is_said() {
    let example = Example::new();
    example.write("submission/reproduce.log.creation_time", "4102444800");
    let document = example.document(&["evidence", "submission"]);
    assert_eq!(document["reproduction_touched_files"], false);
    let text = example.text(&["evidence", "submission"]);
    assert!(text.contains("Result Analysis leaves are 0 by rule"), "{text}");
    std::fs::remove_file(example.file("submission/reproduce.log")).expect("removed");
    std::fs::remove_file(example.file("submission/reproduce.log.creation_time")).expect("removed");
    let document = example.document(&["evidence", "submission"]);
    assert!(document["reproduction_time"].is_null());
}

#[test]
fn a_judge_needs_no_key_to_have_its_window_filled() {
    let example = Example::new();
    let judge = "[judge.mine]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"gpt-4o\"\n\
                 api_key_env = \"A_KEY_THAT_IS_NOT_SET\"\n";
    example.write("tribunal.toml", judge);
    let document = example.document(&["evidence", "submission", "--judge", "mine"]);
    assert_eq!(document["categories"]["Code Execution"]["fits"], true);
}

#[test]
fn bad_input_is_named() {
    let example = Example::new();
    let said = |args: &[&str]| bad_input(&example.run(&[&["evidence"], args].concat()));
    assert!(said(&["nowhere"]).contains("nowhere"));
    assert!(said(&["submission", "--profile", "mine"]).contains("--profile"));
    assert!(said(&["submission", "--category", "code"]).contains("Code Development"));
    let both = said(&["submission", "--code-only", "--category", "Result Analysis"]);
    assert!(both.contains("--code-only"), "{both}");
}
