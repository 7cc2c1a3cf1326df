//! JudgeEval's published tables, and PaperBench's own metrics of five judges on three trees.

use std::{collections::BTreeMap, fs};

use serde_json::Value;
use tribunal_audit::metric::{
    agreement::{Confusion, Measure},
    interval::wilson::wilson,
};
use tribunal_core::{Category, Rubric};

use crate::support::{CLOSED, all_close, close, confusion, data, entry, measure};

const PUBLISHED: [(&str, Measure); 10] = [
    ("accuracy", Measure::Accuracy),
    ("precision_macro", Measure::Precision),
    ("recall_macro", Measure::Recall),
    ("f1_macro", Measure::F1),
    ("sensitivity", Measure::Sensitivity),
    ("specificity", Measure::Specificity),
    ("kappa", Measure::Kappa),
    ("mcc_phi", Measure::Phi),
    ("gwet_ac1", Measure::Ac1),
    ("youden_j", Measure::BalancedAccuracy),
];

fn check(name: &str, expected: &Value) -> Confusion {
    let counts = confusion(&expected["cm"]);
    for (field, of) in PUBLISHED {
        let found = measure(&counts, of);
        let found = if field == "youden_j" { 2.0 * found - 1.0 } else { found };
        close(&format!("{name} {field}"), found, &expected[field], CLOSED);
    }
    assert_eq!(Some(counts.samples()), expected["n"].as_u64());
    for (field, hits, n) in [
        ("acc_wilson95", counts.tp + counts.tn, counts.samples()),
        ("sens_wilson95", counts.tp, counts.positives()),
        ("spec_wilson95", counts.tn, counts.negatives()),
    ] {
        let interval = wilson(hits, n, 0.95).expect("leaves");
        let found = [interval.low, interval.high];
        all_close(&format!("{name} {field}"), &found, &expected[field], CLOSED);
    }
    counts
}

#[test]
fn confusion_matrices_give_the_published_tables() {
    let Some((_, outputs)) = entry("judgeeval_confusion_matrices") else { return };
    let published = data().expect("there").join("paperbench/published");
    let tables = outputs.as_object().expect("an object");
    assert_eq!(tables.len(), 20);
    for (name, expected) in tables {
        let counts = check(name, expected);
        let (model, scope) = name.split_once('|').expect("model|scope");
        let table = published.join(format!("metrics_table_{model}.csv"));
        let table = fs::read_to_string(table).expect("a published table");
        let line = table.lines().find_map(|line| line.strip_prefix(&format!("{scope},")));
        let published: Vec<f64> =
            line.expect("a line").split(',').map(|n| n.parse().expect("a number")).collect();
        let found = [Measure::Accuracy, Measure::Precision, Measure::Recall, Measure::F1]
            .map(|of| measure(&counts, of));
        for (found, published) in found.iter().zip(published) {
            assert!((found - published).abs() < CLOSED, "{name}: {found} against {published}");
        }
    }
}

#[test]
fn missing_verdicts_counted_as_fails_lower_the_figures() {
    let Some((_, outputs)) = entry("judgeeval_o1mini_invalid_imputation") else { return };
    for name in ["Code Execution invalid->0", "Overall invalid->0"] {
        check(name, &outputs[name]);
    }
}

#[test]
fn one_class_alone_is_averaged_alone() {
    let Some((_, outputs)) = entry("sklearn_macro_edge_cases") else { return };
    let of = |human: &[u8], judge: &[u8]| {
        let pairs = human.iter().zip(judge).map(|(h, j)| (*h == 1, *j == 1));
        let counts = Confusion::count(pairs);
        [Measure::Precision, Measure::Recall, Measure::F1].map(|of| of.of(&counts))
    };
    let all = |found: [Option<f64>; 3]| found.map(|value| value.expect("defined"));
    let at = |name: &str| &outputs[name];
    let found = all(of(&[1, 1, 1, 0, 0], &[1; 5]));
    all_close(
        "one judge class",
        &found,
        at("y_true=[1,1,1,0,0],y_pred=[1,1,1,1,1] macro P,R,F1"),
        CLOSED,
    );
    let name = "y_true=[1,1],y_pred=[1,1] macro F1 (single label present -> averaged over 1 class)";
    close("one class", all(of(&[1, 1], &[1, 1]))[2], at(name), CLOSED);
    close(
        "opposite",
        all(of(&[1, 1], &[0, 0]))[2],
        at("y_true=[1,1],y_pred=[0,0] macro F1"),
        CLOSED,
    );
    let found = all(of(&[0, 0, 0], &[0, 0, 1]));
    all_close("one human class", &found, at("y_true=[0,0,0],y_pred=[0,0,1] macro P,R,F1"), CLOSED);
    assert_eq!(of(&[], &[]), [None; 3]);
}

#[test]
fn metrics_agree_with_paperbench_on_every_judge_and_tree() {
    let Some(data) = data() else { return };
    let mut judges = 0;
    for paper in ["all-in-one", "pinn", "stay-on-topic-with-classifier-free-guidance"] {
        let human = data.join(format!("paperbench/judge_eval/{paper}/expected_result.json"));
        let human = Rubric::parse(paper, &fs::read(human).expect("readable")).expect("valid");
        let oracle = data.join(format!("paperbench/oracle/judge-{paper}.json"));
        let oracle: Value =
            serde_json::from_slice(&fs::read(oracle).expect("readable")).expect("JSON");
        for judge in oracle["predictions"].as_array().expect("a list") {
            judges += 1;
            let mut overall = Confusion::default();
            let mut strata: BTreeMap<Category, Confusion> = BTreeMap::new();
            let leaves = human.leaves().zip(
                judge["scores"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .zip(judge["valid"].as_array().into_iter().flatten()),
            );
            for ((_, leaf), (score, valid)) in leaves {
                let human = leaf.valid_score();
                if let (Some(human), Some(true)) = (human, valid.as_bool()) {
                    let pair = (human > 0.5, score.as_f64().expect("a score") > 0.5);
                    overall.add(pair.0, pair.1);
                    strata.entry(leaf.category.expect("a leaf")).or_default().add(pair.0, pair.1);
                }
            }
            let mut scopes = vec![("overall", overall, &judge["overall"])];
            for (category, counts) in strata {
                scopes.push((category.name(), counts, &judge["stratified"][category.name()]));
            }
            for (scope, counts, expected) in scopes {
                let what = format!("{paper} {} {scope}", judge["name"]);
                for of in [Measure::Accuracy, Measure::Precision, Measure::Recall, Measure::F1] {
                    let found = measure(&counts, of);
                    close(&format!("{what} {}", of.name()), found, &expected[of.name()], 1e-12);
                }
                let counted = [counts.positives(), counts.negatives(), counts.samples()];
                let names = ["num_positives", "num_negatives", "num_samples"];
                assert_eq!(names.map(|name| expected[name].as_u64()), counted.map(Some), "{what}");
            }
        }
    }
    assert_eq!(judges, 15);
}
