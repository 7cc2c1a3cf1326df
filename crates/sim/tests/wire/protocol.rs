//! The frame of the API: marks, errors, keys, models, counts, start and stop.

use serde_json::json;
use tribunal_sim::{Sim, SimConfig, SimError, SimStats};

use crate::client::{EVIDENCE, question, start, with};

const CODE: &str = "Code Development";

#[tokio::test]
async fn every_reply_says_that_it_is_simulated() {
    let judge = start(SimConfig::default());
    let good = judge.ask(&question(EVIDENCE, CODE, "Gaussian noise", &[])).await;
    assert_eq!(good.json()["system_fingerprint"], "tribunal-sim");
    assert_eq!(good.json()["model"], "m");
    let models = judge.get(&format!("{}/models", judge.sim.base_url())).await;
    assert_eq!(models.json()["data"][0]["id"], "tribunal-sim");
    assert_eq!(models.json()["data"][0]["owned_by"], "tribunal-sim");
    let stats = judge.get(&judge.sim.stats_url()).await;
    let bad = judge.ask(&json!({})).await;
    let nowhere = judge.get(&format!("{}/images", judge.sim.base_url())).await;
    assert_eq!((bad.status, nowhere.status), (400, 404));
    assert_eq!(nowhere.error()["code"], "unknown_url");
    let replies = [good, models, stats, bad, nowhere];
    for reply in &replies {
        assert_eq!(reply.header("x-tribunal-simulated"), "true");
        assert!(reply.headers.get("x-ratelimit-limit-requests").is_none());
    }
    let mut ids: Vec<&str> = replies.iter().map(|reply| reply.header("x-request-id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), replies.len());
}

#[tokio::test]
async fn bad_requests_get_the_apis_errors() {
    let judge = start(SimConfig::default());
    let url = format!("{}/chat/completions", judge.sim.base_url());
    let sent = judge.client.post(&url).body("{\"model\": ").send().await.expect("a reply");
    assert_eq!(sent.status(), 400);
    let good = question(EVIDENCE, CODE, "Gaussian noise", &[]);
    for (fields, param) in [
        (json!({"n": 2}), "n"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": [{"role": "user", "content": "\u{0}"}], "stream": true}), "stream"),
    ] {
        let error = judge.ask(&with(good.clone(), fields)).await.error();
        assert_eq!(
            (&error["type"], &error["param"]),
            (&json!("invalid_request_error"), &json!(param))
        );
        assert!(error["message"].is_string() && error["code"].is_string());
    }
    // A surrogate without its other half is no text.
    let lone = r#"{"model":"m","messages":[{"role":"user","content":"\ud800"}]}"#;
    let sent = judge.client.post(&url).body(lone).send().await.expect("a reply");
    assert_eq!(sent.status(), 400);
    assert_eq!(judge.sim.stats().invalid, 5);
}

#[tokio::test]
async fn keys_and_models_are_checked_where_they_are_set() {
    let judge = start(SimConfig {
        api_key: Some("right".into()),
        models: vec!["known".to_owned()],
        ..SimConfig::default()
    });
    let url = format!("{}/chat/completions", judge.sim.base_url());
    let send = async |key: Option<&str>, model: &str| {
        let request = with(question("", CODE, "x", &[]), json!({"model": model}));
        let mut call = judge.client.post(&url).body(request.to_string());
        if let Some(key) = key {
            call = call.bearer_auth(key);
        }
        let sent = call.send().await.expect("a reply");
        let status = sent.status().as_u16();
        let text = sent.text().await.expect("a body");
        let body: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        (status, body["error"]["code"].clone())
    };
    assert_eq!(send(None, "known").await, (401, json!("invalid_api_key")));
    assert_eq!(send(Some("wrong"), "known").await, (401, json!("invalid_api_key")));
    assert_eq!(send(Some("right"), "other").await, (404, json!("model_not_found")));
    assert_eq!(send(Some("right"), "known").await, (200, json!(null)));
    let models = format!("{}/models", judge.sim.base_url());
    assert_eq!(judge.get(&models).await.status, 401);
    assert!(!format!("{:?}", judge.sim).contains("right"));
}

#[tokio::test]
async fn stats_tell_criteria_apart_by_their_context() {
    let judge = start(SimConfig::default());
    for context in ["a", "b", "a", "a"] {
        judge.ask(&question("", CODE, "same words", &[context])).await;
    }
    let reply = judge.get(&judge.sim.stats_url()).await;
    let stats: SimStats = serde_json::from_str(&reply.text).expect("stats");
    assert!(stats.simulated && stats.started >= 0.0);
    assert_eq!((stats.requests, stats.admitted, stats.answered), (4, 4, 4));
    assert_eq!((stats.distinct_criteria, stats.repeated_criteria), (2, 1));
    assert!(stats.prompt_tokens > 0 && stats.completion_tokens > 0);
}

#[tokio::test]
async fn a_prompt_without_elements_is_the_criterion() {
    let judge = start(SimConfig::default());
    let shown = json!({"role": "system", "content": EVIDENCE});
    let ask = async |words: &str| {
        let user = json!({"role": "user", "content": words});
        let reply = judge.ask(&json!({"model": "m", "messages": [shown.clone(), user]})).await;
        reply.content().ends_with("# Score\n1")
    };
    assert!(ask("gaussian noise").await);
    assert!(!ask("spline quadrature").await);
}

#[tokio::test]
async fn a_port_is_taken_once_and_free_again_after_shutdown() {
    let judge = start(SimConfig { latency_ms: 3_600_000.0, ..SimConfig::default() });
    let base = judge.sim.base_url();
    let port = base.trim_end_matches("/v1").rsplit(':').next().expect("a port");
    let port: u16 = port.parse().expect("a number");
    let taken = Sim::start(SimConfig::default(), port).map(|_| ());
    assert!(matches!(taken, Err(SimError::Listen { .. })), "{taken:?}");

    // A call in flight ends with the server.
    let request = question("", CODE, "x", &[]);
    let call = judge.client.post(format!("{base}/chat/completions")).body(request.to_string());
    let call = tokio::spawn(call.send());
    while judge.sim.stats().admitted == 0 {
        tokio::task::yield_now().await;
    }
    judge.sim.shutdown().await;
    let reply = call.await.expect("no panic").expect("a reply");
    assert_eq!(reply.status(), 503);
    let again = Sim::start(SimConfig::default(), port).expect("the port is free");
    again.shutdown().await;
}
