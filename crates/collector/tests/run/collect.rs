//! Scores, counts and state against figures computed by hand.

use serde_json::{Value, json};
use tribunal_collector::{
    CollectError, CollectOptions, GradeDocument, GradeState, ScoreSummary, collect, graded_part,
};
use tribunal_core::{
    Category, ContentKey, LeafTask, Rubric, RunState, Score, UngradedReason, run::GradeOptions,
};
use tribunal_store::{Store, StoreError};

use crate::support::{Answer, example, group, leaf, mixed, mixed_run, start};

#[tokio::test]
async fn a_run_with_every_kind_of_outcome() {
    let run = mixed_run(false).await;
    let collected = run.collect().await;
    // left: 3/4 met, 1/4 missing. right: 1/2 unmet, 1/2 missing. e weighs nothing.
    let score = |lower, upper, coverage, leaves, ungraded| Score {
        score: None,
        lower,
        upper,
        coverage,
        leaves,
        ungraded,
    };
    let summary = collected.summary();
    assert_eq!(summary.root, score(0.1875, 0.625, 0.5625, 5, 3));
    let first: Vec<_> = summary.first_level.iter().map(|n| (n.id.as_str(), n.score)).collect();
    assert_eq!(first[0], ("left", score(0.75, 1.0, 0.75, 2, 1)));
    assert_eq!(first[1], ("right", score(0.0, 0.5, 0.5, 2, 1)));
    assert_eq!(first[2], ("e", Score::leaf(None)));
    assert_eq!(summary.ungraded_leaves, [1, 3, 4]);
    // Code alone: left 1, right 0, with weights 1 and 3.
    let code = summary.by_category[&Category::CodeDevelopment].expect("some");
    assert_eq!((code.score, code.leaves, code.ungraded), (Some(0.25), 3, 1));
    let execution = summary.by_category[&Category::CodeExecution].expect("some");
    assert_eq!(execution, score(0.0, 1.0, 0.0, 1, 1));

    let counts = collected.counts();
    assert_eq!((counts.graded, counts.by_rule, counts.reused), (2, 1, 0));
    let expected = [
        (UngradedReason::Refused, 1),
        (UngradedReason::BadRequest, 1),
        (UngradedReason::Pending, 1),
    ];
    assert_eq!(counts.ungraded, expected.into());
    assert_eq!(collected.state(), GradeState::Incomplete);
    assert!(!collected.simulated());
}

#[tokio::test]
async fn the_document_has_the_promised_fields() {
    let run = mixed_run(true).await;
    let document = run.collect().await.document(Some("out/x".as_ref()));
    let value = serde_json::to_value(&document).expect("JSON");
    let names: Vec<&str> = value.as_object().expect("an object").keys().map(|k| &**k).collect();
    let expected = [
        "run",
        "state",
        "simulated",
        "judge",
        "model",
        "root",
        "first_level",
        "by_category",
        "ungraded_leaves",
        "outcomes",
        "canaries",
        "votes",
        "calls",
        "tokens",
        "cost_usd",
        "bill",
        "wall_s",
        "out",
    ];
    assert_eq!(names, expected);
    assert_eq!(value["run"], run.id.as_str());
    assert_eq!(value["state"], "incomplete");
    assert_eq!(value["simulated"], true);
    assert_eq!(value["judge"], "test judge");
    assert_eq!(value["model"], "model-1");
    assert_eq!(value["root"]["score"], Value::Null);
    let left = json!({"id": "left", "score": null, "lower": 0.75, "upper": 1.0,
                      "coverage": 0.75, "leaves": 2, "ungraded": 1});
    assert_eq!(value["first_level"][0], left);
    assert_eq!(value["by_category"]["Code Development"]["score"], 0.25);
    let outcomes = json!({"graded": 2, "by_rule": 1, "reused": 0,
                          "ungraded": {"refused": 1, "bad_request": 1, "pending": 1}});
    assert_eq!(value["outcomes"], outcomes);
    let calls = json!({"judge": 2, "rank": 0, "repair": 0, "rejected": 0, "failed": 1});
    assert_eq!(value["calls"], calls);
    assert_eq!(value["tokens"], json!({"input": 3000, "cached": 1800, "output": 150}));
    assert_eq!(value["cost_usd"], Value::Null);
    assert_eq!(value["wall_s"], 2.5);
    assert_eq!(value["out"], "out/x");

    let schema = serde_json::to_value(schemars::schema_for!(GradeDocument)).expect("JSON");
    for name in expected {
        assert!(schema["properties"].get(name).is_some(), "{name}: {schema}");
    }
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let errors: Vec<String> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
}

#[tokio::test]
async fn pages_of_any_size_give_the_same() {
    let run = mixed_run(false).await;
    let whole = run.collect().await;
    for outcome_page in [0, 1, 2, 5] {
        let options = CollectOptions { outcome_page, ..CollectOptions::default() };
        assert_eq!(run.collect_with(&options).await.summary(), whole.summary());
    }
}

#[tokio::test]
async fn a_finished_run_is_complete() {
    let run = start(&example(), GradeOptions::default(), false).await;
    run.answer(|id| Answer::Score(f64::from(u8::from(id == "c" || id == "b")))).await;
    let collected = run.collect().await;
    // left 1/4, right 1/2, with weights 1 and 3.
    assert_eq!(collected.summary().root.score, Some(0.4375));
    assert_eq!(collected.state(), GradeState::Complete);
    assert_eq!(collected.summary().ungraded_leaves, Vec::<u32>::new());
}

#[tokio::test]
async fn the_floor_decides_what_is_complete() {
    let run = start(&example(), GradeOptions::default(), false).await;
    run.answer(|id| if id == "b" { Answer::Refused } else { Answer::Score(1.0) }).await;
    // b is a quarter of a quarter.
    assert_eq!(run.collect().await.state(), GradeState::Incomplete);
    for (coverage_floor, state) in [(0.9375, GradeState::Complete), (0.94, GradeState::Incomplete)]
    {
        let options = CollectOptions { coverage_floor, ..CollectOptions::default() };
        assert_eq!(run.collect_with(&options).await.state(), state);
    }
}

#[tokio::test]
async fn paused_and_cancelled_runs_say_so() {
    let run = mixed_run(false).await;
    run.store.control(&run.id, RunState::Paused, "wrong key").await.expect("paused");
    let options = CollectOptions { interrupted: true, ..CollectOptions::default() };
    assert_eq!(run.collect().await.state(), GradeState::Paused);
    run.store.control(&run.id, RunState::Active, "").await.expect("resumed");
    assert_eq!(run.collect_with(&options).await.state(), GradeState::Interrupted);
    run.store.control(&run.id, RunState::Cancelled, "").await.expect("cancelled");
    let collected = run.collect_with(&options).await;
    assert_eq!(collected.state(), GradeState::Cancelled);
    assert_eq!(collected.counts().ungraded[&UngradedReason::Cancelled], 1);
}

#[tokio::test]
async fn code_only_and_resources_provided() {
    let options = GradeOptions { code_only: true, resources_provided: true, max_depth: None };
    let run = start(&example(), options, false).await;
    run.answer(mixed).await;
    let collected = run.collect().await;
    let ids: Vec<&str> = collected.rubric().nodes().iter().map(|n| n.id.as_str()).collect();
    assert_eq!(ids, ["root", "left", "a", "right", "c", "e"]);
    // c weighs nothing, so right scores 0 with weight 3.
    let root = collected.summary().root;
    assert_eq!((root.score, root.leaves, root.ungraded), (Some(0.25), 3, 1));
    // Leaf indices are those of the unpruned rubric.
    assert_eq!(collected.summary().ungraded_leaves, [4]);
    let categories = &collected.summary().by_category;
    assert_eq!(categories[&Category::CodeExecution], None);
    assert_eq!(categories.len(), 3);
}

#[tokio::test]
async fn further_samples_do_not_count() {
    let run = mixed_run(false).await;
    let before = run.collect().await.summary().clone();
    let again = LeafTask {
        position: 2,
        sample: 1,
        id: "a".to_owned(),
        category: Category::CodeDevelopment,
        content_key: ContentKey::from_bytes([1; 32]),
        order: 0,
        estimated_tokens: 1,
        rule: None,
    };
    run.store.enqueue(&run.id, vec![again]).await.expect("enqueued");
    run.answer(|id| if id == "a" { Answer::Score(0.0) } else { Answer::Open }).await;
    assert_eq!(*run.collect().await.summary(), before);
}

#[tokio::test]
async fn what_cannot_be_collected() {
    let run = mixed_run(false).await;
    let options = CollectOptions::default();
    let other = "0123456789abcdef".parse().expect("a run id");
    let error = collect(&run.store, &other, &options).await.expect_err("no such run");
    assert!(matches!(error, CollectError::Store(StoreError::NoSuchRun { .. })), "{error}");
}

fn parse(document: &Value) -> Rubric {
    Rubric::parse("r.json", document.to_string().as_bytes()).expect("valid")
}

#[test]
fn a_disqualified_submission_is_graded_zero_everywhere() {
    let summary = ScoreSummary::new(&parse(&example()), |_| None, true);
    assert_eq!(summary.root.score, Some(0.0));
    assert_eq!((summary.root.coverage, summary.root.ungraded), (1.0, 0));
    assert!(summary.ungraded_leaves.is_empty());
    let all_zero = summary.by_category.values().all(|s| s.is_some_and(|s| s.score == Some(0.0)));
    assert!(all_zero, "{summary:?}");
}

#[test]
fn a_rubric_without_code_has_no_code_only_part() {
    let document = group("r", 1.0, vec![leaf("x", 1.0, Category::CodeExecution)]);
    let options = GradeOptions { code_only: true, resources_provided: false, max_depth: None };
    let error = graded_part(parse(&document), options).expect_err("no code");
    assert!(error.to_string().contains("no Code Development leaf"), "{error}");
    assert_eq!(graded_part(parse(&document), GradeOptions::default()), Ok(parse(&document)));
}

#[test]
fn a_rubric_of_one_leaf_has_no_first_level() {
    let rubric = parse(&leaf("x", 1.0, Category::CodeExecution));
    let summary = ScoreSummary::new(&rubric, |_| Some(1.0), false);
    assert_eq!(summary.first_level, []);
    assert_eq!(summary.root.score, Some(1.0));
}
