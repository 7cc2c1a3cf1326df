//! Labelling sheets over the binary: drawn, filled in, read back; and calibrations that are kept and
//! used, or refused.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{CODE, Folder, Leaf, RESULT, close};

const LEAVES: usize = 40;

fn leaves(score: impl Fn(usize) -> f64) -> Vec<(String, f64, &'static str, f64)> {
    let leaf = |i: usize| {
        let category = if i.is_multiple_of(2) { CODE } else { RESULT };
        (format!("l{i}"), 1.0 + (i % 5) as f64, category, score(i))
    };
    (0..LEAVES).map(leaf).collect()
}

fn write(folder: &Folder, name: &str, score: impl Fn(usize) -> f64) {
    let leaves = leaves(score);
    let borrowed: Vec<Leaf<'_>> = leaves
        .iter()
        .map(|(id, weight, category, score)| (id.as_str(), *weight, *category, Some(*score)))
        .collect();
    folder.tree(name, &borrowed);
}

/// What the human says of the leaf.
fn human(i: usize) -> f64 {
    f64::from(u8::from(!i.is_multiple_of(3)))
}

/// The root as the human would score it.
fn truth() -> f64 {
    let leaves = leaves(human);
    let all: f64 = leaves.iter().map(|(_, weight, ..)| weight).sum();
    leaves.iter().map(|(_, weight, _, score)| weight * score).sum::<f64>() / all
}

/// A judge that passes everything, whose verdicts nobody has labelled.
fn folder() -> Folder {
    let folder = Folder::new();
    write(&folder, "judge/p/grader_output.json", |_| 1.0);
    folder
}

/// The rows of a sheet, each with what the human says of it.
fn filled(sheet: &str) -> String {
    let mut reader = csv::Reader::from_reader(sheet.as_bytes());
    let headers = reader.headers().expect("a header").clone();
    let column = |name: &str| headers.iter().position(|h| h == name).expect("a column");
    let (id, grade) = (column("id"), column("human"));
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(&headers).expect("written");
    for row in reader.records() {
        let row = row.expect("a row");
        let leaf: usize = row[id].trim_start_matches('l').parse().expect("a number");
        let mut fields: Vec<&str> = row.iter().collect();
        fields[grade] = if human(leaf) == 1.0 { "pass" } else { "0" };
        out.write_record(&fields).expect("written");
    }
    String::from_utf8(out.into_inner().expect("whole")).expect("text")
}

#[test]
fn a_sheet_is_drawn_filled_in_and_read_back() {
    let folder = folder();
    let next = ["audit", "--json", "--judge", "judge", "--next", "15", "--seed", "4", "--out", "a"];
    let drawn = folder.run(&next);
    assert!(drawn.status.success());
    let drawn: Value = serde_json::from_slice(&drawn.stdout).expect("a document");
    let rows = drawn["leaves"].as_array().expect("rows");
    assert!((8..25).contains(&rows.len()), "{} rows", rows.len());
    let ids: BTreeSet<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(ids.len(), rows.len(), "no leaf is drawn twice");
    for row in rows {
        let pi = row["pi"].as_f64().expect("a probability");
        assert!(pi > 0.0 && pi <= 1.0 && row["human"] == "", "{row}");
        assert!(row.get("judge").is_none(), "who labels must not be led: {row}");
    }
    let read = |name: &str| std::fs::read_to_string(folder.path(name)).expect("a sheet");
    let again = folder.run(&next);
    assert!(again.status.success());
    assert_eq!(
        read("a/labels.csv").lines().count(),
        rows.len() + 1,
        "the same seed, the same draw"
    );

    folder.write("filled.csv", &filled(&read("a/labels.csv")));
    let of_csv = folder.audit(&["--judge", "judge", "--labels", "filled.csv"]).0;
    assert_eq!(of_csv["leaves"], json!(rows.len()));
    let ppi = &of_csv["corrected"]["ppi"];
    close(&ppi["raw"], 1.0);
    let estimate = ppi["estimate"].as_f64().unwrap_or_else(|| panic!("{ppi}"));
    assert!(estimate < 1.0, "the judge's bias is taken out: {ppi}");
    let refused = of_csv["corrected"]["rogan_gladen"]["refused"].as_str().expect("a reason");
    assert!(refused.contains("unequal chances"), "{refused}");

    // The JSON form of the same sheet says the same.
    let mut sheet: Value = serde_json::from_str(&read("a/labels.json")).expect("JSON");
    for row in sheet["leaves"].as_array_mut().expect("rows") {
        let leaf: usize = row["id"].as_str().expect("an id")[1..].parse().expect("a number");
        row["human"] = json!(if human(leaf) == 1.0 { "1" } else { "fail" });
    }
    folder.write("filled.json", &sheet.to_string());
    let of_json = folder.audit(&["--judge", "judge", "--labels", "filled.json"]).0;
    assert_eq!(of_json["overall"], of_csv["overall"]);
    assert_eq!(of_json["corrected"], of_csv["corrected"]);
}

#[test]
fn what_a_human_graded_is_not_drawn_and_the_rest_of_the_tree_is() {
    let folder = folder();
    let leaves = leaves(human);
    let graded = |i: usize, score: f64| (i < 10).then_some(score);
    let some: Vec<Leaf<'_>> = (0..)
        .zip(&leaves)
        .map(|(i, (id, weight, category, score))| {
            (id.as_str(), *weight, *category, graded(i, *score))
        })
        .collect();
    folder.tree("human/p/grader_output.json", &some);
    // Trees by other names, with the manifest beside them.
    let tree = std::fs::read_to_string(folder.path("judge/p/grader_output.json")).expect("a tree");
    folder.write("named/p/grader.json", &tree);
    folder.write("named/p/run.json", "{}");
    let human = std::fs::read_to_string(folder.path("human/p/grader_output.json")).expect("a tree");
    folder.write("others/p/grader.json", &human);
    for (judge, human) in [("judge", "human"), ("named", "others")] {
        let drawn = folder.run(&[
            "audit", "--json", "--judge", judge, "--human", human, "--next", "40", "--out", "a",
        ]);
        assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
        let drawn: Value = serde_json::from_slice(&drawn.stdout).expect("a document");
        let index = |row: &Value| row["index"].as_u64().expect("a number");
        let drawn: Vec<u64> = drawn["leaves"].as_array().expect("rows").iter().map(index).collect();
        assert!(!drawn.is_empty() && drawn.iter().all(|index| *index >= 10), "{drawn:?}");
    }
}

#[test]
fn labels_that_were_drawn_estimate_the_score_of_all_leaves() {
    let folder = folder();
    let (mut sum, mut draws) = (0.0, 0.0);
    for seed in 0..30 {
        let seed = seed.to_string();
        let next = ["audit", "--judge", "judge", "--next", "20", "--seed", &seed, "--out", "a"];
        assert!(folder.run(&next).status.success());
        let sheet = std::fs::read_to_string(folder.path("a/labels.csv")).expect("a sheet");
        folder.write("filled.csv", &filled(&sheet));
        let found = folder.audit(&["--judge", "judge", "--labels", "filled.csv"]).0;
        let estimate = found["corrected"]["ppi"]["estimate"].as_f64();
        sum += estimate.unwrap_or_else(|| panic!("{}", found["corrected"]));
        draws += 1.0;
    }
    let mean: f64 = sum / draws;
    // The standard error of a mean of 30 such draws is about 0.015.
    assert!((mean - truth()).abs() < 0.06, "{mean} against {}", truth());
}

#[test]
fn sheets_that_cannot_be_meant_are_refused() {
    let folder = folder();
    let next = ["audit", "--judge", "judge", "--next", "15", "--out", "a"];
    assert!(folder.run(&next).status.success());
    let sheet = std::fs::read_to_string(folder.path("a/labels.csv")).expect("a sheet");
    let good = filled(&sheet);
    let mut lines = good.lines();
    let (header, first) = (lines.next().expect("a header"), lines.next().expect("a row"));
    let with = |from: &str, to: &str| {
        assert!(first.contains(from), "{first}");
        format!("{header}\n{}\n", first.replacen(from, to, 1))
    };
    let id = first.split(',').nth(2).expect("an id").to_owned();
    let pi = first.split(',').nth(5).expect("a probability").to_owned();
    let grade = first.rsplit(',').nth(1).expect("a grade").to_owned();
    let drawn = std::fs::read_to_string(folder.path("a/labels.json")).expect("a sheet");
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut sheet: Value = serde_json::from_str(&drawn).expect("JSON");
        edit(&mut sheet["leaves"][1]);
        sheet.to_string()
    };
    let without_human = edited(&|row| {
        row.as_object_mut().expect("a row").remove("human");
    });
    for (text, words) in [
        (without_human, "leaves[1]: `human` is missing; expected the text 0, 1, pass or fail"),
        (edited(&|row| row["human"] = json!(1)), "leaves[1]: `human` is 1; expected the text"),
        (edited(&|row| row["human"] = json!("perhaps")), "entry 2, leaf #"),
        (edited(&|row| row["index"] = json!("one")), "leaves[1]: `index` is \"one\"; expected"),
        (good.replacen("human", "person", 1), "labels.csv:1: no column `human`; expected"),
        (with(&format!(",{pi},"), ",often,"), "labels.csv:2: `pi`: "),
        (with(&format!(",{id},"), ",other,"), "has no leaf"),
        (with(&format!(",{pi},"), ",0,"), "a probability above 0"),
        (with(&format!(",{grade},"), ",perhaps,"), "`perhaps` is no grade"),
        ("id;human\n1;1\n".to_owned(), "labels.csv"),
        ("{\"leaves\": 3}".to_owned(), "labels.csv"),
    ] {
        folder.write("labels.csv", &text);
        let said = folder.refused(&["audit", "--judge", "judge", "--labels", "labels.csv"]);
        assert!(said.contains(words) && said.contains("labels.csv"), "{words}: {said}");
    }
    // Nobody has filled it in: there is nothing to audit by.
    folder.write("labels.csv", &sheet);
    let said = folder.refused(&["audit", "--judge", "judge", "--labels", "labels.csv"]);
    assert!(said.contains("no leaf has a human's grade") && said.contains("labels.csv"), "{said}");
    let said = folder.refused(&["audit", "--judge", "judge", "--labels", "/dev/zero"]);
    assert!(said.contains("/dev/zero") && said.contains("64 MiB"), "{said}");
}

/// Grades the rubric of the leaves by a rule, which is a judge of known rates.
fn grade(folder: &Folder, judge: &str, prompt: &str, out: &str) -> Value {
    let args = ["grade", "--quiet", "--json", "--rubric", "rubric.json", "--submission", "work"];
    let by = ["--judge", judge, "--prompt-set", prompt, "--out", out];
    let graded = folder.run(&[&args[..], &by[..]].concat());
    assert!(graded.status.success(), "{}", crate::support::said(&graded));
    serde_json::from_slice(&graded.stdout).expect("a document")
}

#[test]
fn a_calibration_corrects_what_its_judge_graded_and_nothing_else() {
    let folder = Folder::new();
    let whole: Value = serde_json::from_str(&{
        write(&folder, "human/p/grader_output.json", human);
        std::fs::read_to_string(folder.path("human/p/grader_output.json")).expect("read")
    })
    .expect("JSON");
    folder.write("rubric.json", &whole["graded_task_tree"].to_string());
    folder.write("work/README.md", "# Work\n");
    let first = grade(&folder, "random", "default", "one/a/seed1");
    let run = first["run"].as_str().expect("a run");
    let save = ["audit", "--judge", run, "--human", "human", "--save", "cal.json"];
    assert!(folder.run(&save).status.success());
    let kept: Value =
        serde_json::from_slice(&std::fs::read(folder.path("cal.json")).expect("a calibration"))
            .expect("JSON");
    assert_eq!(kept["schema"], "tribunal.calibration/1");
    assert_eq!(kept["votes"], Value::Null, "one vote a leaf has no levels");

    // A coin has no rates to correct by, and the table says so; raw scores stand beside.
    let table = |sources: &[&str], extra: &[&str]| {
        let args = [&["table", "--json"][..], sources, &["--calibration", "cal.json"], extra];
        let output = folder.run(&args.concat());
        assert!(output.status.success(), "{}", crate::support::said(&output));
        serde_json::from_slice::<Value>(&output.stdout).expect("a table")
    };
    let of_runs = table(&[run], &[]);
    let corrected = &of_runs["rows"][0]["corrected"];
    let refused = corrected["refused"].is_string();
    assert!(refused || corrected["estimate"].is_f64(), "{of_runs:#}");
    let notes = of_runs["notes"].to_string();
    assert!(notes.contains("this proves nothing"), "{notes}");

    // A calibration whose judge is right three times of four is what a corrected score is made of.
    let mut good = kept.clone();
    good["judge"]["runs"] = json!([]);
    for (_, rates) in good["rates"].as_object_mut().expect("rates") {
        *rates = json!({"tp": 150, "fn": 50, "fp": 50, "tn": 150});
    }
    folder.write("cal.json", &good.to_string());
    let of_run = table(&[run], &[]);
    let row = &of_run["rows"][0];
    let raw = row["score"]["mean"].as_f64().expect("a score");
    let estimate = row["corrected"]["estimate"].as_f64().expect("an estimate");
    // θ = (p + q0 − 1) / (q0 + q1 − 1) of each category, which is (p − 0.25) / 0.5 of both.
    assert!((estimate - ((raw - 0.25) / 0.5)).abs() < 1e-9, "{row:#}");
    assert!(row["corrected"]["low"].as_f64() < Some(estimate));
    // The file that the run left says the same, and so do `collect` and `grade`.
    let of_file = table(&["one"], &["--layout", "{agent}/seed{seed}"]);
    let own = &of_file["rows"][0]["corrected"]["estimate"];
    assert!((own.as_f64().expect("an estimate") - estimate).abs() < 1e-12, "{of_file:#}");
    let collected = folder.run(&["collect", run, "--json", "--quiet", "--calibration", "cal.json"]);
    let collected: Value = serde_json::from_slice(&collected.stdout).expect("a document");
    let of_run = collected["corrected"]["estimate"].as_f64().expect("an estimate");
    assert!((of_run - estimate).abs() < 1e-12);

    // Another judge, and the same one with another prompt.
    grade(&folder, "dummy", "default", "two/a/seed1");
    let dummy = grade(&folder, "dummy", "default", "two/a/seed1");
    let prompted = grade(&folder, "random", "strict", "three/a/seed1");
    for (graded, words) in [(&dummy, "another model"), (&prompted, "another prompt")] {
        let other = graded["run"].as_str().expect("a run");
        for command in ["collect", "table"] {
            let said = folder.refused(&[command, other, "--calibration", "cal.json"]);
            assert!(said.contains(words), "{command}: {said}");
        }
    }
    let said = folder.refused(&["table", "two", "--calibration", "cal.json"]);
    assert!(said.contains("another model"), "{said}");
    folder.write("cal.json", "{\"schema\": \"tribunal.calibration/2\"}");
    let said = folder.refused(&["table", run, "--calibration", "cal.json"]);
    assert!(said.contains("not a calibration of `audit --save`"), "{said}");
}
