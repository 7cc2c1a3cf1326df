//! Which grade belongs to which: files, leaves, humans; and what is refused.

use serde_json::json;

use crate::support::{CODE, Folder, RESULT, close};

const ONE: Option<f64> = Some(1.0);
const ZERO: Option<f64> = Some(0.0);

/// Two papers; the judge misses a leaf and errs on one that weighs half.
fn papers() -> Folder {
    let folder = Folder::new();
    let human = [("a", 2.0, CODE, ONE), ("b", 1.0, CODE, ZERO), ("c", 1.0, RESULT, ONE)];
    let first = [("a", 2.0, CODE, ZERO), ("b", 1.0, CODE, ZERO), ("c", 1.0, RESULT, ONE)];
    let second = [("a", 2.0, CODE, ONE), ("b", 1.0, CODE, ONE), ("c", 1.0, RESULT, None)];
    folder.tree("human/rice/expected_result.json", &human);
    // Trees of one rubric are of one paper.
    let human = human.map(|(id, weight, category, score)| (id, 2.0 * weight, category, score));
    folder.tree("human/pinn/expected_result.json", &human);
    folder.tree("judge/rice/grader_output.json", &first);
    let second = second.map(|(id, weight, category, score)| (id, 2.0 * weight, category, score));
    folder.tree("judge/pinn/grader_output.json", &second);
    folder
}

#[test]
fn a_judge_against_a_human() {
    let folder = papers();
    let (found, exit) = folder.audit(&["--judge", "judge", "--human", "human", "--out", "out"]);
    assert_eq!(exit, 0);
    assert_eq!((&found["pairs"], &found["leaves"]), (&json!(2), &json!(6)));
    close(&found["coverage"], 5.0 / 6.0);
    let dropped = &found["overall"]["dropped"];
    let cells = ["tp", "fn", "fp", "tn"].map(|cell| dropped[cell].as_u64());
    assert_eq!(cells, [Some(2), Some(1), Some(1), Some(1)]);
    close(&dropped["accuracy"], 0.6);
    let counted = &found["overall"]["counted_as_fail"];
    assert_eq!(counted["fn"], json!(2));
    close(&counted["accuracy"], 0.5);
    let intervals = dropped["intervals"]["accuracy"].as_array().expect("a list");
    let levels: Vec<&str> = intervals.iter().filter_map(|i| i["level"].as_str()).collect();
    assert_eq!(levels, ["leaf", "paper"]);
    close(&found["by_category"][CODE]["dropped"]["specificity"], 0.5);
    // The root of rice: half of the weight was failed that should have passed.
    let biases = found["root_bias"].as_array().expect("a list");
    let bias = |submission: &str, node: &str| {
        let same =
            |bias: &&serde_json::Value| bias["submission"] == submission && bias["node"] == node;
        biases.iter().find(same).expect("there").clone()
    };
    close(&bias("rice", "root")["bias"], -0.5);
    close(&bias("rice", "a")["bias"], -1.0);
    let open = bias("pinn", "root");
    assert_eq!(open["bias"], json!(null));
    close(&open["lower"], 0.0);
    close(&open["upper"], 0.25);
    let worst = &found["disagreements"][0];
    assert_eq!((&worst["id"], &worst["submission"]), (&json!("a"), &json!("rice")));
    close(&worst["weight"], 0.5);
    assert_eq!(worst["judge_explanation"], json!("a: Some(0.0)"));
    // Three positive labels of five, two rates of one category from too few leaves.
    let refused = found["corrected"]["rogan_gladen"]["refused"].as_str().expect("refused");
    assert!(refused.contains("at least 5"), "{refused}");
    let written = std::fs::read(folder.path("out/audit.json")).expect("written");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&written).expect("JSON"), found);
    let lines = std::fs::read_to_string(folder.path("out/disagreements.csv")).expect("written");
    assert_eq!(lines.lines().count(), 3);
    let shown = folder.run(&["audit", "--judge", "judge", "--human", "human"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("coverage 0.8333") && shown.contains("0.6000"), "{shown}");
}

#[test]
fn floors_end_with_five() {
    let folder = papers();
    let audit = |floors: &str| {
        folder.audit(&["--judge", "judge", "--human", "human", "--fail-under", floors]).1
    };
    assert_eq!(audit("accuracy=0.6,coverage=0.8"), 0);
    assert_eq!(audit("accuracy=0.61"), 5);
    assert_eq!(audit("accuracy=0.6,coverage=0.9"), 5);
    assert_eq!(audit("counted_as_fail.accuracy=0.6"), 5);
    let said = folder.refused(&["audit", "--judge", "judge", "--fail-under", "f2=1"]);
    assert!(said.contains("f1"), "{said}");
}

#[test]
fn leaves_are_paired_by_position_else_by_id() {
    let folder = Folder::new();
    let twice = [("a", 1.0, CODE, ONE), ("twice", 1.0, CODE, ONE), ("twice", 1.0, CODE, ZERO)];
    folder.tree("human.json", &twice);
    folder.tree("judge.json", &twice);
    let args = ["--judge", "judge.json", "--human", "human.json"];
    close(&folder.audit(&args).0["overall"]["dropped"]["accuracy"], 1.0);

    // The human saw every category; the judge was asked for code alone, in another order.
    folder.tree(
        "human.json",
        &[("r", 1.0, RESULT, ONE), ("a", 1.0, CODE, ONE), ("b", 1.0, CODE, ZERO)],
    );
    folder.tree("judge.json", &[("b", 1.0, CODE, ZERO), ("a", 1.0, CODE, ZERO)]);
    let (found, _) = folder.audit(&args);
    assert_eq!(found["leaves"], json!(2));
    close(&found["overall"]["dropped"]["accuracy"], 0.5);
    let notes = found["notes"].to_string();
    assert!(notes.contains(RESULT), "{notes}");

    folder.tree("human.json", &twice);
    folder.tree("judge.json", &[("a", 1.0, CODE, ONE), ("twice", 1.0, CODE, ONE)]);
    let said = folder.refused(&[&["audit"][..], &args].concat());
    assert!(said.contains("#1 twice") && said.contains("judge.json"), "{said}");
}

#[test]
fn files_without_a_common_path_need_a_pair_file() {
    let folder = Folder::new();
    for name in ["j/x.json", "j/y.json", "h/one.json", "h/two.json"] {
        folder.tree(name, &[("a", 1.0, CODE, ONE), ("b", 3.0, CODE, ZERO)]);
    }
    let args = ["--judge", "j", "--human", "h"];
    let said = folder.refused(&[&["audit"][..], &args].concat());
    assert!(said.contains("one.json") && said.contains("--pair"), "{said}");
    folder.write(
        "pair.toml",
        "[[pair]]\njudge = \"x.json\"\nhuman = \"two.json\"\npaper = \"rice\"\nsystem = \"s1\"\n\
         [[pair]]\njudge = \"y.json\"\nhuman = \"one.json\"\npaper = \"rice\"\nsystem = \"s2\"\n",
    );
    let (found, _) = folder.audit(&[&args[..], &["--pair", "pair.toml"]].concat());
    assert_eq!((&found["pairs"], &found["papers"]), (&json!(2), &json!(1)));
    assert_eq!(found["by_system"].as_object().map(serde_json::Map::len), Some(2));
    folder.write("pair.toml", "[[pair]]\njudge = \"nowhere.json\"\n");
    let said = folder.refused(&[&["audit"][..], &args, &["--pair", "pair.toml"]].concat());
    assert!(said.contains("nowhere.json"), "{said}");
}

#[test]
fn several_humans_and_two_judges() {
    let folder = Folder::new();
    let ids: Vec<String> = (0..40).map(|i| format!("l{i:02}")).collect();
    let grade = |wrong: usize| {
        let score = move |i: usize| {
            Some(f64::from(i.is_multiple_of(3) != (wrong > 0 && i.is_multiple_of(wrong))))
        };
        let leaf = move |(i, id): (usize, &'_ String)| (id.clone(), score(i));
        ids.iter().enumerate().map(leaf).collect::<Vec<_>>()
    };
    for (name, wrong) in [("h1", 0), ("h2", 0), ("h3", 7), ("a", 9), ("b", 4)] {
        let leaves = grade(wrong);
        let leaves: Vec<_> = leaves.iter().map(|(id, s)| (id.as_str(), 1.0, CODE, *s)).collect();
        folder.tree(&format!("{name}/rice.json"), &leaves);
    }
    let (found, _) = folder.audit(&[
        "--judge", "a", "--judge", "b", "--human", "h1", "--human", "h2", "--human", "h3",
    ]);
    assert_eq!(found["tied_labels"], json!(0));
    close(&found["overall"]["dropped"]["accuracy"], 35.0 / 40.0);
    assert_eq!(found["alternative_annotator"]["humans"], json!(3));
    let tests = found["tests"].as_array().expect("a list");
    let overall = &tests[0];
    // 0, 9, 18, 27, 36 and 0, 4, 8 …: both are wrong on 0 and 36.
    assert_eq!((&overall["first_better"], &overall["second_better"]), (&json!(8), &json!(3)));
    let papers = tests.last().expect("a test");
    assert_eq!((&papers["name"], &papers["p"]), (&json!("sign_flip_papers"), &json!(1.0)));
    assert!(!papers["reading"].to_string().contains("significant"), "{papers}");
    assert_eq!(found["comparison"]["flips"].as_array().map(Vec::len), Some(11));
    // Two against one is a majority; one against one is none.
    let (tied, _) = folder.audit(&["--judge", "a", "--human", "h1", "--human", "h3"]);
    assert_eq!(tied["tied_labels"], json!(6));
}

#[test]
fn bad_input_says_what_and_where() {
    let folder = papers();
    folder.write("rubric.json", "{\"id\": \"r\", \"requirements\": \"\", \"weight\": 1, \"sub_tasks\": [], \"task_category\": \"Code Development\"}");
    folder.write("table.csv", "id,h,j\nx,1,0\nx,1,1\n");
    folder.write("verdict.csv", "id,h,j\nx,1,perhaps\n");
    for (args, expected) in [
        (&["--judge", "nowhere", "--human", "human"][..], "nowhere"),
        (&["--judge", "judge"], "--human"),
        (&["--judge", "rubric.json", "--human", "human"], "no node has a score"),
        (&["--csv", "table.csv", "--columns", "item=id,human=h,judge=j"], "table.csv:3"),
        (&["--csv", "verdict.csv", "--columns", "item=id,human=h,judge=j"], "perhaps"),
        (&["--csv", "table.csv", "--columns", "item=id,human=h,judge=none"], "no column `none`"),
        (&["--csv", "table.csv", "--columns", "item=id,human=h"], "judge=COLUMN"),
    ] {
        let said = folder.refused(&[&["audit"][..], args].concat());
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}
