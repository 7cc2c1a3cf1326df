//! Answers in their forms, and their usage.

use serde_json::json;
use tribunal_sim::SimConfig;

use crate::client::{EVIDENCE, question, start, with};

const CODE: &str = "Code Development";

#[tokio::test]
async fn json_schema_gets_the_properties_it_names() {
    let judge = start(SimConfig::default());
    let schema = json!({"type": "object", "additionalProperties": false,
        "properties": {
            "explanation": {"type": "string"},
            "score": {"type": "integer"},
            "evidence": {"type": "array", "items": {"type": "object", "properties": {
                "file": {"type": "string"}, "lines": {"type": "string"}, "quote": {"type": "string"}},
                "required": ["file", "lines", "quote"]}},
            "checked": {"type": "boolean"}},
        "required": ["explanation", "score", "evidence", "checked"]});
    let form = json!({"response_format": {"type": "json_schema",
        "json_schema": {"name": "verdict", "strict": true, "schema": schema}}});
    let request = question(EVIDENCE, CODE, "Gaussian noise is implemented", &[]);
    let reply = judge.ask(&with(request, form)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let answer = reply.answer();
    let names: Vec<&String> = answer.as_object().expect("object").keys().collect();
    assert_eq!(names, ["explanation", "score", "evidence", "checked"]);
    assert_eq!(answer["score"], 1);
    let quote = json!({"file": "src/train.py", "lines": "3", "quote": "def gaussian_noise(x):"});
    assert_eq!(answer["evidence"][0], quote);
    let explanation = answer["explanation"].as_str().expect("text");
    assert!(explanation.starts_with("[simulated]"), "{explanation}");
}

#[tokio::test]
async fn json_object_has_every_field_and_needs_the_word() {
    let judge = start(SimConfig::default());
    let form = json!({"response_format": {"type": "json_object"}});
    let mut request = with(question(EVIDENCE, CODE, "Bayesian quadrature with splines", &[]), form);
    let answer = judge.ask(&request).await.answer();
    let names: Vec<&String> = answer.as_object().expect("object").keys().collect();
    let all = ["expectations", "reality", "evidence", "score", "explanation", "confidence"];
    assert_eq!(names, all);
    assert_eq!((&answer["score"], &answer["evidence"]), (&json!(0), &json!([])));
    let confidence = answer["confidence"].as_f64().expect("number");
    assert!((0.0..=1.0).contains(&confidence));

    request["messages"][0]["content"] = "You grade.".into();
    let reply = judge.ask(&request).await;
    assert_eq!(reply.status, 400);
    let message = reply.error()["message"].as_str().expect("text").to_owned();
    assert!(message.contains("must contain the word 'json'"), "{message}");
}

#[tokio::test]
async fn prose_ends_in_its_score() {
    let judge = start(SimConfig::default());
    let execution = question(EVIDENCE, "Code Execution", "The epoch finished", &[]);
    let content = judge.ask(&execution).await.content();
    assert!(content.ends_with("\n# Score\n1"), "{content}");
    assert!(content.contains("\n# Explanation\n[simulated] "), "{content}");
    assert!(content.contains("reproduce.log:1: `Epoch 3 finished, loss 0.25`"), "{content}");
    // A log does not say what was written.
    let development = question(EVIDENCE, CODE, "The epoch finished", &[]);
    assert!(judge.ask(&development).await.content().ends_with("\n# Score\n0"));
}

#[tokio::test]
async fn a_cap_on_tokens_cuts_the_answer() {
    let judge = start(SimConfig::default());
    let request = question(EVIDENCE, CODE, "Gaussian noise", &[]);
    let whole = judge.ask(&request).await;
    for field in ["max_tokens", "max_completion_tokens"] {
        let reply = judge.ask(&with(request.clone(), json!({field: 5}))).await;
        let body = reply.json();
        assert_eq!(body["choices"][0]["finish_reason"], "length");
        assert_eq!(body["usage"]["completion_tokens"], 5);
        assert!(whole.content().starts_with(&reply.content()));
    }
    // What was cut off is no verdict.
    let stats = judge.sim.stats();
    assert_eq!((stats.answered, stats.distinct_criteria, stats.repeated_criteria), (1, 1, 0));
}

#[tokio::test]
async fn one_long_message_and_parts_are_read_alike() {
    let judge = start(SimConfig::default());
    let padding = "def unrelated(argument):\n    pass\n".repeat(400);
    let shared = format!("{EVIDENCE}<file path=\"pad.py\">\n{padding}</file>\n");
    let separate = question(&shared, CODE, "Gaussian noise", &["root"]);
    let own = separate["messages"][2]["content"].as_str().expect("text").to_owned();
    let request = |content: serde_json::Value| {
        json!({"model": "m", "messages": [
        {"role": "system", "content": "You grade. Answer in JSON."},
        {"role": "user", "content": content}]})
    };
    let contents = [
        request(json!(format!("{shared}{own}"))),
        request(json!([{"type": "text", "text": shared}, {"type": "text", "text": own}])),
        separate,
    ];
    let mut answers = Vec::new();
    for content in &contents {
        answers.push(judge.ask(content).await.content());
    }
    assert_eq!((&answers[0], &answers[1]), (&answers[2], &answers[2]));
    assert_eq!(judge.sim.stats().distinct_criteria, 1);
    assert_eq!(judge.sim.stats().repeated_criteria, 1);
}

#[tokio::test]
async fn usage_counts_a_prefix_once_it_was_answered() {
    let judge = start(SimConfig::default());
    let shared = format!("<paper>\n{}</paper>\n", "some words of a paper\n".repeat(500));
    let usage = async |criterion: &str| {
        let reply = judge.ask(&question(&shared, CODE, criterion, &[])).await;
        let usage = reply.json()["usage"].clone();
        let number = |value: &serde_json::Value| value.as_u64().expect("number");
        let (prompt, completion) =
            (number(&usage["prompt_tokens"]), number(&usage["completion_tokens"]));
        assert_eq!(number(&usage["total_tokens"]), prompt + completion);
        assert!(usage["completion_tokens_details"]["reasoning_tokens"].is_u64());
        (prompt, number(&usage["prompt_tokens_details"]["cached_tokens"]))
    };
    let (prompt, cached) = usage("first").await;
    assert!(prompt > 2_500, "{prompt}");
    assert_eq!(cached, 0);
    let (prompt, cached) = usage("second").await;
    assert!(
        cached.is_multiple_of(128) && cached > 2_300 && cached < prompt,
        "{cached} of {prompt}"
    );
    let stats = judge.sim.stats();
    assert_eq!((stats.cached_tokens, stats.requests), (cached, 2));
    // Another model has another cache.
    let other = with(question(&shared, CODE, "third", &[]), json!({"model": "other"}));
    let body = judge.ask(&other).await.json();
    assert_eq!(body["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

#[tokio::test]
async fn calls_in_flight_together_both_miss_the_cache() {
    let judge = start(SimConfig { latency_ms: 300.0, ..SimConfig::default() });
    let words = "some words of a paper\n".repeat(500);
    // On a machine that stalls for longer than the latency, the calls may follow each other: then
    // another paper is tried.
    for attempt in 0.. {
        let shared = format!("<paper>\n{attempt}\n{words}</paper>\n");
        let request = |criterion| question(&shared, CODE, criterion, &[]);
        let (first, second) = (request("first"), request("second"));
        let together = async {
            let admitted = judge.sim.stats().admitted;
            loop {
                let stats = judge.sim.stats();
                if stats.admitted == admitted + 2 {
                    break stats.in_flight == 2;
                }
                tokio::task::yield_now().await;
            }
        };
        let (first, second, together) =
            tokio::join!(judge.ask(&first), judge.ask(&second), together);
        let cached = |reply: &crate::client::Reply| {
            reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"].clone()
        };
        if together {
            assert_eq!((cached(&first), cached(&second)), (json!(0), json!(0)));
            let third = judge.ask(&request("third")).await;
            assert_ne!(cached(&third), json!(0));
            break;
        }
    }
}
