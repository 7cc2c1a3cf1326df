//! Faults: each kind as a client sees it.

use serde_json::{Value, json};
use tribunal_sim::SimConfig;

use crate::client::{EVIDENCE, Judge, question, start, with};

fn request() -> Value {
    let form = json!({"response_format": {"type": "json_object"}});
    with(question(EVIDENCE, "Code Development", "Gaussian noise", &[]), form)
}

fn faulty(change: fn(&mut SimConfig)) -> Judge {
    let mut config = SimConfig::default();
    change(&mut config);
    start(config)
}

#[tokio::test]
async fn server_errors_come_as_json_and_as_plain_text() {
    let judge = faulty(|c| c.error_rate = 1.0);
    let mut statuses = Vec::new();
    for _ in 0..40 {
        let reply = judge.ask(&request()).await;
        assert_eq!(reply.header("x-tribunal-simulated"), "true");
        if reply.status == 500 {
            assert_eq!(reply.error()["type"], "server_error");
        } else {
            assert_eq!(reply.header("content-type"), "text/plain");
        }
        statuses.push(reply.status);
    }
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [500, 502, 503]);
    let stats = judge.sim.stats();
    assert_eq!((stats.errors, stats.answered, stats.distinct_criteria), (40, 0, 0));
}

#[tokio::test]
async fn a_call_without_answer_leaves_when_its_client_gives_up() {
    let judge = faulty(|c| c.timeout_rate = 1.0);
    let url = format!("{}/chat/completions", judge.sim.base_url());
    let call = tokio::spawn(judge.client.post(url).body(request().to_string()).send());
    while judge.sim.stats().timeouts == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(judge.sim.stats().in_flight, 1);
    call.abort();
    assert!(call.await.expect_err("aborted").is_cancelled());
    while judge.sim.stats().in_flight > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn malformed_answers_take_turns() {
    let judge = faulty(|c| c.malformed_rate = 1.0);
    let mut replies = Vec::new();
    for _ in 0..5 {
        let reply = judge.ask(&request()).await;
        assert_eq!(reply.status, 200);
        replies.push(reply);
    }
    let answer = |n: usize| serde_json::from_str::<Value>(&replies[n].content());
    assert!(answer(0).is_err());
    assert!(answer(1).expect("JSON").get("score").is_none());
    assert_eq!(answer(2).expect("JSON")["score"], 7);
    assert!(answer(3).is_err());
    assert_eq!(replies[3].json()["choices"][0]["finish_reason"], "length");
    assert_eq!(replies[4].content(), "");
    let stats = judge.sim.stats();
    assert_eq!((stats.malformed, stats.answered), (5, 0));
    assert!(stats.completion_tokens > 0);
    // In prose, none of them has a score on the scale at its end.
    for _ in 0..5 {
        let prose = with(request(), json!({"response_format": {"type": "text"}}));
        let content = judge.ask(&prose).await.content();
        assert!(!content.ends_with("# Score\n0") && !content.ends_with("# Score\n1"), "{content}");
    }
}

#[tokio::test]
async fn refusals_come_from_the_model_and_from_the_filter() {
    let judge = faulty(|c| c.refusal_rate = 1.0);
    let first = judge.ask(&request()).await.json()["choices"][0].clone();
    assert!(first["message"]["refusal"].is_string() && first["message"]["content"].is_null());
    let second = judge.ask(&request()).await.json()["choices"][0].clone();
    assert_eq!(second["finish_reason"], "content_filter");
    assert!(second["message"]["content"].is_null());
    assert_eq!(judge.sim.stats().refusals, 2);
}

#[tokio::test]
async fn a_reset_breaks_the_body_off() {
    let judge = faulty(|c| c.reset_rate = 1.0);
    let error = judge.send(&request()).await.err().expect("broken off");
    assert!(!error.is_timeout() && !error.is_connect(), "{error:?}");
    let stats = judge.sim.stats();
    assert_eq!((stats.resets, stats.answered), (1, 0));
}

#[tokio::test]
async fn faults_depend_on_the_seed_and_the_call_alone() {
    let statuses = async |seed: u64| {
        let config = SimConfig { error_rate: 0.5, seed, ..SimConfig::default() };
        let judge = start(config);
        let mut found = Vec::new();
        for _ in 0..40 {
            found.push(judge.ask(&request()).await.status);
        }
        found
    };
    let first = statuses(1).await;
    assert!(first.contains(&200) && first.contains(&500));
    assert_eq!(statuses(1).await, first);
    assert_ne!(statuses(2).await, first);
}
