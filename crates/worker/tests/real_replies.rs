//! Prose replies of a real judge, against the scores recorded for them, where the data is at hand.

use std::{fs, path::PathBuf};

use serde_json::Value;
use tribunal_core::{Category, ReplyForm};
use tribunal_worker::parse::parse;

fn leaves(node: &Value, found: &mut Vec<(f64, String)>) {
    let children = node["sub_tasks"].as_array().expect("a list");
    if children.is_empty() {
        let reply = node["judge_metadata"]["full_judge_response"].as_str().expect("a reply");
        found.push((node["score"].as_f64().expect("a score"), reply.to_owned()));
    }
    children.iter().for_each(|child| leaves(child, found));
}

#[test]
fn every_recorded_score_is_read() {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let data = std::env::var("TRIBUNAL_DATA").unwrap_or_else(|_| default.to_owned());
    let folder = PathBuf::from(data).join("simplejudge_runs");
    let Ok(files) = fs::read_dir(&folder) else {
        println!("skipped: no simplejudge_runs at TRIBUNAL_DATA");
        return;
    };
    let mut found = Vec::new();
    for file in files {
        let bytes = fs::read(file.expect("an entry").path()).expect("a file");
        let run: Value = serde_json::from_slice(&bytes).expect("JSON");
        leaves(&run["graded_task_tree"], &mut found);
    }
    assert_eq!(found.len(), 534);
    let wrong: Vec<String> = found
        .iter()
        .filter_map(|(score, reply)| {
            let read = parse(reply, ReplyForm::Text, Category::CodeDevelopment);
            let read = read.map(|parsed| parsed.score).map_err(|error| error.0);
            let tail: String =
                reply.chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
            (read != Ok(*score)).then(|| format!("{score} read as {read:?}: {tail}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of 534:\n{}", wrong.len(), wrong.join("\n----\n"));
}
