//! The published data as it is: PaperBench's judges on its human-graded trees, and DevAI's table.

use serde_json::{Value, json};

use crate::support::{Folder, close, data};

const PAPERS: [&str; 3] = ["all-in-one", "pinn", "stay-on-topic-with-classifier-free-guidance"];

fn grade(node: &mut Value, verdicts: &mut impl Iterator<Item = (Value, Value)>) {
    let children = node["sub_tasks"].as_array_mut().expect("a list");
    if children.is_empty() {
        (node["score"], node["valid_score"]) = verdicts.next().expect("a verdict a leaf");
        return;
    }
    for child in node["sub_tasks"].as_array_mut().expect("a list") {
        grade(child, verdicts);
    }
}

#[test]
fn five_judges_over_three_trees() {
    let Some(data) = data() else { return };
    let human = data.join("paperbench/judge_eval");
    let human = human.to_str().expect("UTF-8");
    let read = |name: String| -> Value {
        let bytes = std::fs::read(data.join("paperbench").join(name)).expect("readable");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    for judge in 0..5 {
        let folder = Folder::new();
        let mut expected = Vec::new();
        for paper in PAPERS {
            let verdicts = read(format!("oracle/judge-{paper}.json"))["predictions"][judge].clone();
            let list = |name: &str| verdicts[name].as_array().expect("a list").clone();
            let mut tree = read(format!("judge_eval/{paper}/expected_result.json"));
            grade(&mut tree, &mut list("scores").into_iter().zip(list("valid")));
            folder.write(&format!("judge/{paper}/grader_output.json"), &tree.to_string());
            expected.push((paper, verdicts));
        }
        let (found, exit) = folder.audit(&["--judge", "judge", "--human", human]);
        assert_eq!(exit, 0);
        let mut samples = 0;
        for (paper, verdicts) in &expected {
            let measures = &found["by_paper"][paper]["dropped"];
            for name in ["accuracy", "precision", "recall", "f1"] {
                close(&measures[name], verdicts["overall"][name].as_f64().expect("a number"));
            }
            for name in ["num_positives", "num_negatives", "num_samples"] {
                assert_eq!(measures[name], verdicts["overall"][name], "{paper} {name}");
            }
            samples += verdicts["overall"]["num_samples"].as_u64().expect("a count");
        }
        assert_eq!(found["overall"]["dropped"]["num_samples"], json!(samples));
        assert_eq!(found["dominant_paper"]["paper"], json!("pinn"));
    }
}

#[test]
fn devai_as_it_is() {
    let Some(data) = data() else { return };
    let folder = Folder::new();
    let table = data.join("devai/judgments.csv");
    let (found, exit) = folder.audit(&[
        "--csv",
        table.to_str().expect("UTF-8"),
        "--columns",
        "item=agent+task+requirement_id,group=task,system=agent,category=category,human=human,\
         judge=judge_satisfied",
    ]);
    assert_eq!(exit, 0);
    assert_eq!((&found["leaves"], &found["papers"]), (&json!(732), &json!(55)));
    assert_eq!(found["by_system"].as_object().map(serde_json::Map::len), Some(2));
    close(&found["overall"]["dropped"]["accuracy"], 654.0 / 732.0);
}
