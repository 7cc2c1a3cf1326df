//! Rate limits: headers, rejections, tokens.

use serde_json::json;
use tribunal_sim::SimConfig;

use crate::client::{question, start};

const CODE: &str = "Code Development";

#[tokio::test]
async fn every_reply_shows_the_limits() {
    let judge = start(SimConfig { rpm: Some(6), tpm: Some(60_000), ..SimConfig::default() });
    let first = judge.ask(&question("", CODE, "x", &[])).await;
    assert_eq!(first.status, 200);
    let models = judge.get(&format!("{}/models", judge.sim.base_url())).await;
    let bad = judge.ask(&json!({})).await;
    for reply in [&first, &models, &bad] {
        assert_eq!(reply.header("x-ratelimit-limit-requests"), "6");
        assert_eq!(reply.header("x-ratelimit-limit-tokens"), "60000");
        let reset = reply.header("x-ratelimit-reset-requests");
        assert!(reset.ends_with('s'), "{reset}");
    }
    assert_eq!(first.header("x-ratelimit-remaining-requests"), "0");
    assert_eq!(first.header("x-ratelimit-reset-requests"), "10s");
    let left: u64 = first.header("x-ratelimit-remaining-tokens").parse().expect("a number");
    let used = first.json()["usage"]["total_tokens"].as_u64().expect("a number");
    assert_eq!(left, 1_000 - used);
}

#[tokio::test]
async fn over_the_limit_is_a_real_429() {
    // One a minute: the smallest limit there is, so that no machine is too slow to meet it.
    let judge = start(SimConfig { rpm: Some(1), ..SimConfig::default() });
    let request = question("", CODE, "x", &[]);
    assert_eq!(judge.ask(&request).await.status, 200);
    let reply = judge.ask(&request).await;
    assert_eq!(reply.status, 429);
    let error = reply.error();
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("requests"), &json!("rate_limit_exceeded"))
    );
    let seconds: u64 = reply.header("retry-after").parse().expect("whole seconds");
    let millis: u64 = reply.header("retry-after-ms").parse().expect("milliseconds");
    assert!((1..=60).contains(&seconds) && millis <= seconds * 1_000, "{seconds} {millis}");
    assert_eq!(reply.header("x-ratelimit-remaining-requests"), "0");
    let stats = judge.sim.stats();
    assert_eq!((stats.admitted, stats.rejected, stats.answered), (1, 1, 1));
}

#[tokio::test]
async fn tokens_are_limited_too() {
    let judge = start(SimConfig { tpm: Some(1_200), ..SimConfig::default() });
    let request = question(&"word ".repeat(1_000), CODE, "x", &[]);
    // Larger than the bucket of 20, but not than a minute: let through, and paid afterwards.
    assert_eq!(judge.ask(&request).await.status, 200);
    let reply = judge.ask(&request).await;
    assert_eq!((reply.status, &reply.error()["type"]), (429, &json!("tokens")));
    let large = question(&"word ".repeat(1_300), CODE, "x", &[]);
    let reply = judge.ask(&large).await;
    let message = reply.error()["message"].as_str().expect("text").to_owned();
    assert!(message.contains("Request too large"), "{message}");
    assert!(reply.headers.get("retry-after").is_none());
}
