//! Verdicts drawn around human grades.

use std::{fs, path::PathBuf};

use serde_json::json;
use tempfile::TempDir;
use tribunal_sim::{Sim, SimConfig, SimError};

use crate::client::{EVIDENCE, Judge, question, start, with};

const CODE: &str = "Code Development";
const EXECUTION: &str = "Code Execution";

/// A graded tree with leaves whose grades alternate, every third of them of category Code
/// Execution.
fn graded(folder: &TempDir, leaves: usize) -> PathBuf {
    let tasks: Vec<_> = (0..leaves)
        .map(|n| {
            json!({"id": format!("l{n}"), "requirements": format!("Criterion number {n}"),
                "weight": 1, "sub_tasks": [], "task_category": category(n),
                "score": n % 2, "valid_score": true})
        })
        .collect();
    write(
        folder,
        &json!({"id": "r", "requirements": "root", "weight": 1, "sub_tasks": tasks,
        "score": 0.5, "valid_score": true}),
    )
}

fn category(n: usize) -> &'static str {
    if n.is_multiple_of(3) { EXECUTION } else { CODE }
}

fn write(folder: &TempDir, tree: &serde_json::Value) -> PathBuf {
    let path = folder.path().join("expected_result.json");
    fs::write(&path, tree.to_string()).expect("written");
    path
}

async fn score(judge: &Judge, request: serde_json::Value) -> f64 {
    let form = json!({"response_format": {"type": "json_object"}});
    let answer = judge.ask(&with(request, form)).await.answer();
    answer["score"].as_f64().expect("score")
}

/// Whether `hits` of `n` lie within the two-sided exact binomial bounds for `p`, each tail a
/// millionth.
fn plausible(hits: usize, n: usize, p: f64) -> bool {
    let mut tail = [0.0, 0.0];
    let mut log_choose = 0.0;
    for k in 0..=n {
        if k > 0 {
            log_choose += ((n - k + 1) as f64).ln() - (k as f64).ln();
        }
        let mass = (log_choose + k as f64 * p.ln() + (n - k) as f64 * (1.0 - p).ln()).exp();
        tail[0] += if k <= hits { mass } else { 0.0 };
        tail[1] += if k >= hits { mass } else { 0.0 };
    }
    tail.iter().all(|tail| *tail > 1e-6)
}

#[tokio::test]
async fn verdicts_agree_with_humans_at_the_given_rates() {
    const LEAVES: usize = 600;
    let folder = tempfile::tempdir().expect("folder");
    let rates = folder.path().join("rates.toml");
    fs::write(&rates, "[\"Code Execution\"]\nsensitivity = 0.6\n").expect("written");
    let judge = start(SimConfig {
        labels: vec![graded(&folder, LEAVES)],
        rates_file: Some(rates),
        sensitivity: 0.9,
        specificity: 0.75,
        seed: 11,
        ..SimConfig::default()
    });
    // Agreements and all, by [execution][human].
    let mut cells = [[(0, 0); 2]; 2];
    for n in 0..LEAVES {
        let criterion = format!("Criterion\n number {n}");
        let verdict = score(&judge, question("", category(n), &criterion, &["root"])).await;
        let human = n % 2;
        let cell = &mut cells[usize::from(n.is_multiple_of(3))][human];
        cell.0 += usize::from(verdict == human as f64);
        cell.1 += 1;
    }
    for (execution, human, rate) in [(0, 1, 0.9), (0, 0, 0.75), (1, 1, 0.6), (1, 0, 0.75)] {
        let (agreed, of) = cells[execution][human];
        assert!(of >= 100 && plausible(agreed, of, rate), "{rate}: {agreed} of {of}");
    }
    let stats = judge.sim.stats();
    assert_eq!((stats.unknown_criteria, stats.distinct_criteria), (0, LEAVES as u64));
    assert!(!plausible(0, 100, 0.5), "the bounds bind");
}

#[tokio::test]
async fn without_noise_every_verdict_is_the_humans() {
    let folder = tempfile::tempdir().expect("folder");
    let judge = start(SimConfig { labels: vec![graded(&folder, 30)], ..SimConfig::default() });
    for n in 0..30 {
        let request = question("", category(n), &format!("Criterion number {n}"), &["root"]);
        assert_eq!(score(&judge, request).await, (n % 2) as f64);
    }
    assert_eq!(score(&judge, question(EVIDENCE, CODE, "Gaussian noise", &[])).await, 1.0);
    assert_eq!(judge.sim.stats().unknown_criteria, 1);
}

#[tokio::test]
async fn the_same_request_has_the_same_verdict_in_any_order() {
    let folder = tempfile::tempdir().expect("folder");
    let config = SimConfig {
        labels: vec![graded(&folder, 60)],
        sensitivity: 0.5,
        specificity: 0.5,
        ..SimConfig::default()
    };
    let verdicts = async |config: SimConfig, order: Vec<usize>, fields: serde_json::Value| {
        let judge = start(config);
        let mut found = vec![0.0; 60];
        for n in order {
            let request = question("", category(n), &format!("Criterion number {n}"), &["root"]);
            found[n] = score(&judge, with(request, fields.clone())).await;
        }
        found
    };
    let forwards = || (0..60).collect::<Vec<_>>();
    let first = verdicts(config.clone(), forwards(), json!({})).await;
    let backwards = (0..60).rev().collect();
    assert_eq!(verdicts(config.clone(), backwards, json!({})).await, first);
    // A seed of the server or of the request, and the model, draw anew.
    let reseeded = SimConfig { seed: 1, ..config.clone() };
    assert_ne!(verdicts(reseeded, forwards(), json!({})).await, first);
    let sampled = json!({"seed": 1, "temperature": 1.0});
    let again = verdicts(config.clone(), forwards(), sampled.clone()).await;
    assert_ne!(again, first);
    assert_eq!(verdicts(config.clone(), forwards(), sampled).await, again);
    assert_ne!(verdicts(config, forwards(), json!({"model": "other"})).await, first);
}

#[tokio::test]
async fn leaves_with_the_same_words_are_told_apart_by_their_context() {
    let folder = tempfile::tempdir().expect("folder");
    let leaf = |score: u8| {
        json!({"id": "x", "requirements": "It is trained", "weight": 1, "sub_tasks": [],
            "task_category": CODE, "score": score, "valid_score": true})
    };
    let group = |name: &str, score: u8| {
        json!({"id": name, "requirements": name, "weight": 1, "sub_tasks": [leaf(score)],
            "score": score, "valid_score": true})
    };
    let tree = json!({"id": "r", "requirements": "root", "weight": 1, "score": 0.5,
        "valid_score": true, "sub_tasks": [group("first model", 1), group("second model", 0)]});
    let judge = start(SimConfig { labels: vec![write(&folder, &tree)], ..SimConfig::default() });
    let grade =
        async |context: &[&str]| score(&judge, question("", CODE, "It is trained", context)).await;
    assert_eq!(grade(&["root", "first model"]).await, 1.0);
    assert_eq!(grade(&["root", "first model", "second model"]).await, 0.0);
    assert_eq!(grade(&["second model"]).await, 0.0);
    assert_eq!(judge.sim.stats().distinct_criteria, 3);
}

#[tokio::test]
async fn real_graded_trees_come_back_leaf_by_leaf() {
    let data = std::env::var_os("TRIBUNAL_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let path = data.join("paperbench/judge_eval/all-in-one/expected_result.json");
    let Ok(bytes) = fs::read(&path) else {
        // The harness shows this line where the data is absent.
        return drop(std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("skipped: {} is absent\n", path.display()).as_bytes(),
        ));
    };
    let tree = tribunal_core::Rubric::parse("tree", &bytes).expect("valid");
    let judge = start(SimConfig { labels: vec![path], ..SimConfig::default() });
    for (index, leaf) in tree.leaves() {
        let prior = tree.prior_nodes(index, None);
        let context: Vec<String> =
            prior.iter().map(|at| tree.nodes()[*at].requirements.replace('\n', " ")).collect();
        let context: Vec<&str> = context.iter().map(String::as_str).collect();
        let category = leaf.category.expect("a leaf").name();
        let verdict = score(&judge, question("", category, &leaf.requirements, &context)).await;
        assert_eq!(Some(verdict), leaf.valid_score(), "leaf {index}");
    }
    assert_eq!(judge.sim.stats().unknown_criteria, 0);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().expect("folder");
    let start = |config| Sim::start(config, 0).map(|_| ());
    let missing =
        SimConfig { labels: vec![folder.path().join("none.json")], ..SimConfig::default() };
    let error = start(missing).expect_err("missing");
    assert!(error.to_string().contains("none.json"), "{error}");
    let tree = json!({"id": "r", "requirements": "r", "weight": 1, "sub_tasks": [],
        "task_category": CODE});
    let ungraded = SimConfig { labels: vec![write(&folder, &tree)], ..SimConfig::default() };
    assert!(matches!(start(ungraded), Err(SimError::NoLabels { .. })));
    let setting = SimConfig { sensitivity: 2.0, ..SimConfig::default() };
    assert!(matches!(start(setting), Err(SimError::Setting { .. })));
}

#[tokio::test]
async fn rates_depend_on_what_the_prompt_says_and_not_on_what_it_shows() {
    const LEAVES: usize = 200;
    let folder = tempfile::tempdir().expect("folder");
    let profile = folder.path().join("profile.toml");
    let text = "proposals = [\"Count twice.\"]\n[[shift]]\nprompt = \"burden of proof\"\n\
                sensitivity = 0.5\nspecificity = 0.5\n";
    fs::write(&profile, text).expect("written");
    let judge = start(SimConfig {
        labels: vec![graded(&folder, LEAVES)],
        profile_file: Some(profile),
        sensitivity: 0.5,
        specificity: 0.5,
        seed: 4,
        ..SimConfig::default()
    });
    let shown = format!("{EVIDENCE}<file path=\"x\">\nburden of proof\n</file>\n");
    let mut right = [0, 0];
    for n in 0..LEAVES {
        let asked = question(&shown, category(n), &format!("Criterion number {n}"), &[]);
        let mut told = asked.clone();
        told["messages"][0]["content"] = "The burden of proof is theirs. Answer in JSON.".into();
        for (count, request) in right.iter_mut().zip([asked, told]) {
            *count += usize::from(score(&judge, request).await == (n % 2) as f64);
        }
    }
    assert_eq!(right[1], LEAVES, "what the prompt says makes it right");
    assert!(plausible(right[0], LEAVES, 0.5), "what it shows does not: {}", right[0]);

    let request = json!({"model": "m", "messages": [{"role": "user", "content":
        "<proposal_request>\n<system>\nGrade.\n</system>\nWrite a better one."}]});
    let reply = judge.send(&request).await.expect("a reply");
    assert_eq!(reply.status, 200);
    assert!(reply.text.contains("Grade.\\nCount twice.\\n</system>"), "{}", reply.text);
    assert_eq!(judge.sim.stats().proposals, 1);
}
