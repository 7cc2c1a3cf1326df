//! Leaves that share a prefix: one goes ahead, so that the provider reads the prefix once.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tribunal_e2e::{
    Reply, Request, SimProcess, TestServer, Workspace, assert_exit, document, number,
};

#[test]
fn each_category_is_read_once_and_found_cached_by_all_others() {
    let sim = SimProcess::start(&["--latency-ms", "400"]);
    let workspace = Workspace::generated(300);
    // About as long as a paper with a submission, shown whole.
    workspace.write("paper.md", &"A line of the paper, of which there are many.\n".repeat(5_000));
    let output = workspace.run_grade(&sim.base_url, &["--paper", "paper.md"]);
    assert_exit(&output, 0);
    assert_eq!((sim.requests(), sim.stat("cold_prompts")), (300, 2), "{}", sim.stats());
    let document = document(&output);
    let tokens = |kind: &str| number(&document, &format!("/tokens/{kind}"));
    assert!(tokens("input") > 300 * 50_000, "{document:#}");
    assert!(tokens("cached") * 100 >= tokens("input") * 90, "{document:#}");
}

#[test]
fn a_failed_call_ahead_is_followed_by_another() {
    let sim = SimProcess::start(&["--latency-ms", "20", "--error-rate", "0.4", "--seed", "3"]);
    let workspace = Workspace::generated(40);
    workspace
        .write("tribunal.toml", "[retry]\nbase_ms = 1\nmax_ms = 20\ntransient_attempts = 50\n");
    let output = workspace.run_grade(&sim.base_url, &[]);
    assert_exit(&output, 0);
    assert_eq!(number(&document(&output), "/outcomes/graded"), 40);
    assert!(sim.stat("errors") > 0, "{}", sim.stats());
}

/// Grades against a server that keeps the keys of what it is asked, and refuses some requests.
fn keys(model: &str, refuses: fn(&Value) -> Option<Reply>) -> Vec<Option<String>> {
    let keys: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let kept = Arc::clone(&keys);
    let server = TestServer::start(move |request: &Request| {
        let body: Value = serde_json::from_str(&request.body).expect("JSON");
        let key = body["prompt_cache_key"].as_str().map(str::to_owned);
        kept.lock().expect("whole").push(key);
        refuses(&body).unwrap_or_else(|| Reply::verdict(1))
    });
    let workspace = Workspace::generated(20);
    let url = server.base_url();
    let inputs = ["grade", "--rubric", "rubric.json", "--submission", "submission"];
    let judge = ["--base-url", &url, "--model", model, "--concurrency", "1"];
    assert_exit(&workspace.run(&[&inputs[..], &judge].concat()), 0);
    let keys = keys.lock().expect("whole");
    keys.clone()
}

#[test]
fn a_prefix_has_a_key_where_the_api_takes_one() {
    let mut sent = keys("gpt-4.1", |_| None);
    assert_eq!(sent.len(), 20);
    sent.sort();
    sent.dedup();
    assert!(sent.len() == 2 && sent.iter().all(Option::is_some), "a key a category: {sent:?}");

    let sent = keys("a-model-of-ones-own", |_| None);
    assert!(sent.len() == 20 && sent.iter().all(Option::is_none), "{sent:?}");

    let sent = keys("gpt-4.1", |body| {
        let refusal = "Unrecognized request argument supplied: prompt_cache_key";
        body.get("prompt_cache_key").map(|_| Reply::error(400, "unknown_parameter", refusal))
    });
    assert_eq!(sent.len(), 21, "one refusal is enough");
    assert!(sent[0].is_some() && sent[1..].iter().all(Option::is_none), "{sent:?}");
}

#[test]
fn one_refusal_of_the_account_is_one_call() {
    let refuses = |_: &Request| Reply::error(401, "invalid_api_key", "Incorrect API key.");
    let (workspace, server) = (Workspace::generated(60), TestServer::start(refuses));
    let output = workspace.run_grade(&server.base_url(), &[]);
    assert_exit(&output, 4);
    assert!(server.requests() <= 2, "a call a category: {}", server.requests());
    assert_eq!(number(&workspace.status(), "/pending"), 60);
}
