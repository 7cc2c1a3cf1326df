//! Files that appear whole or not at all.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;
use tribunal_collector::{CollectOptions, ExportError, check_writable, export};
use tribunal_core::run::GradeOptions;

use crate::support::{Answer, Run, example, group, leaf, mixed_run, start};

const FILES: &[&str] = &[
    "scored_tree.json",
    "grader_output.json",
    "leaves.csv",
    #[cfg(feature = "parquet")]
    "leaves.parquet",
    "junit.xml",
    "run.json",
];

pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("readable")).expect("JSON")
}

/// Names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> =
        entries.map(|entry| name(entry).into_string().expect("a plain name")).collect();
    names.sort();
    names
}

/// The rows of `leaves.csv` by the leaf's id, each by column.
fn rows(path: &Path) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).expect("readable");
    let rows = reader.deserialize().map(|row| row.expect("a row"));
    rows.map(|row: BTreeMap<String, String>| (row["id"].clone(), row)).collect()
}

async fn exported(run: &Run) -> TempDir {
    let dir = TempDir::new().expect("a folder");
    let collected = run.collect().await;
    export(&collected, &run.store, dir.path()).await.expect("exported");
    dir
}

#[tokio::test]
async fn the_manifest_lists_what_stands_beside_it() {
    let run = mixed_run(false).await;
    let dir = TempDir::new().expect("a folder");
    let out = dir.path().join("made/on/the/way");
    let collected = run.collect().await;
    let exported = export(&collected, &run.store, &out).await.expect("exported");
    let mut expected = FILES.to_vec();
    expected.sort_unstable();
    assert_eq!(names(&out), expected);
    let written: Vec<&str> = exported.files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(written, FILES);

    let manifest = read_json(&out.join("run.json"));
    let listed = manifest["files"].as_array().expect("a list");
    assert_eq!(listed.len(), FILES.len() - 1);
    for file in listed {
        let bytes = fs::read(out.join(file["name"].as_str().expect("a name"))).expect("there");
        assert_eq!(file["bytes"], bytes.len() as u64);
        assert_eq!(file["blake3"], blake3::hash(&bytes).to_hex().as_str());
    }
    assert_eq!(manifest["schema"], "tribunal.manifest/1");
    assert_eq!(manifest["run"], run.id.as_str());
    assert_eq!(manifest["state"], "incomplete");
    assert_eq!(manifest["spec"]["judge"]["model"], "model-1");
    assert_eq!(manifest["created_at"], "1970-01-01T00:16:40Z");
    assert_eq!(manifest["out"], out.display().to_string());
    assert_eq!(manifest["cost_usd"], Value::Null);
    assert_eq!(manifest["root"]["lower"], 0.1875);
}

#[tokio::test]
async fn the_scored_tree_has_every_node() {
    let dir = exported(&mixed_run(false).await).await;
    let document = read_json(&dir.path().join("scored_tree.json"));
    assert_eq!(document["schema"], "tribunal.scored_tree/1");
    assert_eq!(document["summary"]["root"]["upper"], 0.625);
    let root = &document["tree"];
    for (name, value) in [
        ("id", json!("root")),
        ("weight", json!(1)),
        ("position", json!(0)),
        ("leaf_index", Value::Null),
        ("depth", json!(1)),
        ("weight_share", json!(1.0)),
        ("score", Value::Null),
        ("lower", json!(0.1875)),
        ("upper", json!(0.625)),
        ("coverage", json!(0.5625)),
        ("leaves", json!(5)),
        ("ungraded", json!(3)),
    ] {
        assert_eq!(root[name], value, "{name}");
    }
    assert!(root.get("outcome").is_none());

    let a = &root["sub_tasks"][0]["sub_tasks"][0];
    assert_eq!(a["leaf_index"], 0);
    assert_eq!(a["weight_share"], 0.1875);
    assert_eq!(a["outcome"], json!({"state": "graded", "score": 1.0}));
    assert_eq!(a["source"], json!({"by": "judge"}));
    assert_eq!(a["explanation"], "=because(a)");
    assert_eq!(a["rationale"]["evidence"][0]["file"], "src/main.py");
    assert_eq!(a["rationale"]["confidence"], 0.75);
    assert_eq!(a["model"], "model-1-0613");
    assert_eq!(a["simulated"], false);
    let b = &root["sub_tasks"][0]["sub_tasks"][1];
    assert_eq!(b["outcome"], json!({"state": "ungraded", "reason": "refused"}));
    assert_eq!(b["score"], Value::Null);
    assert_eq!(b["explanation"], "Not graded: refused: =because(b)");
    let c = &root["sub_tasks"][1]["sub_tasks"][0];
    assert_eq!(c["source"], json!({"by": "rule", "name": "no_results"}));
    assert_eq!(c["finegrained_task_category"], "Dataset and Model Acquisition");
    let d = &root["sub_tasks"][1]["sub_tasks"][1];
    assert_eq!(d["outcome"], json!({"state": "ungraded", "reason": "bad_request"}));
    assert_eq!(d["explanation"], "Not graded: bad_request: 400: no");
    assert_eq!((&d["source"], &d["rationale"]), (&Value::Null, &Value::Null));
    let e = &root["sub_tasks"][2];
    assert_eq!(e["explanation"], "Not graded: pending");
    assert_eq!(e["model"], "model-1");
}

#[tokio::test]
async fn leaves_are_rows_with_exact_text() {
    let dir = exported(&mixed_run(false).await).await;
    let rows = rows(&dir.path().join("leaves.csv"));
    let ids: Vec<&str> = rows.keys().map(String::as_str).collect();
    assert_eq!(ids, ["a", "b", "c", "d", "e"]);
    for (id, column, value) in [
        ("a", "index", "0"),
        ("a", "position", "2"),
        ("a", "depth", "3"),
        ("a", "category", "Code Development"),
        ("a", "fine_category", ""),
        ("a", "weight", "3"),
        ("a", "root_share", "0.1875"),
        ("a", "outcome", "graded"),
        ("a", "score", "1"),
        ("a", "reason", ""),
        ("a", "source", "judge"),
        ("a", "confidence", "0.75"),
        ("a", "explanation", "=because(a)"),
        ("a", "reality", "found \"this\",\nand that"),
        ("a", "model", "model-1-0613"),
        ("a", "simulated", "false"),
        ("a", "requirements", "criterion a"),
        ("b", "outcome", "ungraded"),
        ("b", "score", ""),
        ("b", "reason", "refused"),
        ("c", "source", "rule"),
        ("c", "source_detail", "no_results"),
        ("d", "source", ""),
        ("d", "reason", "bad_request"),
        ("e", "reason", "pending"),
        ("e", "position", "7"),
    ] {
        assert_eq!(rows[id][column], value, "{id} {column}");
    }
    let evidence: Value = serde_json::from_str(&rows["a"]["evidence"]).expect("JSON");
    assert_eq!(evidence[0]["quote"], "=1+1");
}

#[tokio::test]
async fn every_file_says_that_the_judge_is_simulated() {
    let dir = exported(&mixed_run(true).await).await;
    for name in ["scored_tree.json", "grader_output.json", "run.json"] {
        assert_eq!(read_json(&dir.path().join(name))["simulated"], true, "{name}");
    }
    let tree = read_json(&dir.path().join("scored_tree.json"));
    // No judge answered for c, which a rule decided, and the run is a simulated one.
    assert_eq!(tree["tree"]["sub_tasks"][1]["sub_tasks"][0]["simulated"], true);
    let output = read_json(&dir.path().join("grader_output.json"));
    assert_eq!(output["judge_type"], "tribunal (simulated)");
    let rows = rows(&dir.path().join("leaves.csv"));
    assert_eq!(rows["e"]["simulated"], "true");
}

#[tokio::test]
async fn pages_of_any_size_write_the_same_files() {
    let run = mixed_run(false).await;
    let whole = exported(&run).await;
    for verdict_page in [0, 1, 2, 4] {
        let options = CollectOptions { verdict_page, ..CollectOptions::default() };
        let dir = TempDir::new().expect("a folder");
        let collected = run.collect_with(&options).await;
        export(&collected, &run.store, dir.path()).await.expect("exported");
        for name in ["scored_tree.json", "leaves.csv"] {
            let bytes = |dir: &TempDir| fs::read(dir.path().join(name)).expect("there");
            assert!(bytes(&dir) == bytes(&whole), "{name} in pages of {verdict_page}");
        }
    }
}

#[tokio::test]
async fn a_leaf_answered_meanwhile_changes_no_file() {
    let run = mixed_run(false).await;
    let collected = run.collect().await;
    run.answer(|_| Answer::Score(1.0)).await;
    let dir = TempDir::new().expect("a folder");
    export(&collected, &run.store, dir.path()).await.expect("exported");
    let tree = read_json(&dir.path().join("scored_tree.json"));
    let e = &tree["tree"]["sub_tasks"][2];
    assert_eq!(e["outcome"], json!({"state": "ungraded", "reason": "pending"}));
    assert_eq!(e["explanation"], "Not graded: pending");
    assert_eq!(e["source"], Value::Null);
    assert_eq!(run.collect().await.summary().ungraded_leaves, [1, 3]);
}

#[tokio::test]
async fn a_failing_store_changes_no_file() {
    let run = mixed_run(false).await;
    let dir = exported(&run).await;
    let before: Vec<Vec<u8>> =
        FILES.iter().map(|name| fs::read(dir.path().join(name)).expect("there")).collect();
    let collected = run.collect().await;
    let other = group("other", 1.0, vec![leaf("x", 1.0, tribunal_core::Category::CodeExecution)]);
    let other = start(&other, GradeOptions::default(), false).await;
    let error = export(&collected, &other.store, dir.path()).await.expect_err("no such run");
    assert!(matches!(error, ExportError::Store(_)), "{error}");
    assert_eq!(names(dir.path()).len(), FILES.len());
    for (name, before) in FILES.iter().zip(before) {
        assert!(fs::read(dir.path().join(name)).expect("there") == before, "{name}");
    }
}

#[tokio::test]
async fn a_file_where_the_folder_should_be() {
    let dir = TempDir::new().expect("a folder");
    let file = dir.path().join("taken");
    fs::write(&file, "mine").expect("written");
    let run = mixed_run(false).await;
    let collected = run.collect().await;
    for out in [file.clone(), file.join("deeper")] {
        for error in [
            check_writable(&out).expect_err("no folder"),
            export(&collected, &run.store, &out).await.expect_err("no folder"),
        ] {
            let text = error.to_string();
            assert!(text.contains(&out.display().to_string()), "{text}");
            assert!(text.contains("Move the file"), "{text}");
            assert!(text.contains("--out"), "{text}");
        }
    }
    assert_eq!(fs::read_to_string(&file).expect("there"), "mine");
}

#[tokio::test]
async fn a_name_that_cannot_be_taken_leaves_no_temporary_file() {
    let dir = TempDir::new().expect("a folder");
    fs::create_dir(dir.path().join("leaves.csv")).expect("made");
    let run = mixed_run(false).await;
    let collected = run.collect().await;
    let error = export(&collected, &run.store, dir.path()).await.expect_err("a folder is there");
    assert!(matches!(error, ExportError::Rename { .. }), "{error}");
    let left = names(dir.path());
    assert!(left.iter().all(|name| !name.ends_with("tmp")), "{left:?}");
    assert!(!left.contains(&"run.json".to_owned()), "{left:?}");
}

#[test]
fn leftovers_of_a_dead_process_go_away() {
    let dir = TempDir::new().expect("a folder");
    let write = |name: &str| fs::write(dir.path().join(name), "x").expect("written");
    // No process has this id: Linux's are below 2^22.
    write(".run.json.4294967294-0.tribunal-tmp");
    let own = format!(".run.json.{}-77.tribunal-tmp", std::process::id());
    write(&own);
    write("mine.txt");
    check_writable(dir.path()).expect("writable");
    if Path::new("/proc/self").exists() {
        assert_eq!(names(dir.path()), [own.as_str(), "mine.txt"]);
    }
}

#[tokio::test]
async fn a_second_export_replaces_the_first() {
    let run = start(&example(), GradeOptions::default(), false).await;
    let dir = exported(&run).await;
    fs::write(dir.path().join("notes.txt"), "mine").expect("written");
    run.answer(|_| Answer::Score(1.0)).await;
    let collected = run.collect().await;
    export(&collected, &run.store, dir.path()).await.expect("exported");
    let tree = read_json(&dir.path().join("scored_tree.json"));
    assert_eq!(tree["tree"]["score"], 1.0);
    assert_eq!(tree["state"], "complete");
    assert_eq!(names(dir.path()).len(), FILES.len() + 1);
}

#[cfg(feature = "parquet")]
#[tokio::test]
async fn the_parquet_file_says_what_the_table_says() {
    use parquet::{
        file::reader::{FileReader as _, SerializedFileReader},
        record::Field,
    };

    let run = mixed_run(false).await;
    let dir = exported(&run).await;
    let mut table = csv::Reader::from_path(dir.path().join("leaves.csv")).expect("readable");
    let columns: Vec<String> =
        table.headers().expect("a header").iter().map(str::to_owned).collect();
    let file = fs::File::open(dir.path().join("leaves.parquet")).expect("there");
    let reader = SerializedFileReader::new(file).expect("Parquet");
    let rows: Vec<_> =
        reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
    let lines: Vec<_> = table.records().map(|line| line.expect("a line")).collect();
    assert_eq!(rows.len(), lines.len());
    let mut typed = 0;
    for (row, line) in rows.iter().zip(&lines) {
        let names: Vec<&String> = row.get_column_iter().map(|(name, _)| name).collect();
        assert_eq!(names, columns.iter().collect::<Vec<_>>());
        for ((name, field), text) in row.get_column_iter().zip(line) {
            let said = match field {
                Field::Null => String::new(),
                Field::Str(text) => text.clone(),
                Field::Long(number) => number.to_string(),
                Field::Double(number) => number.to_string(),
                Field::Bool(flag) => flag.to_string(),
                other => panic!("{name} is {other:?}"),
            };
            typed += usize::from(!matches!(field, Field::Str(_) | Field::Null));
            assert_eq!(said, text, "{name}");
        }
    }
    assert!(typed > rows.len() * 5, "numbers are numbers");
}
