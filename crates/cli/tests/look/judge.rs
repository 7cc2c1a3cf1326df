//! `tribunal judge check` against simulated judges and against nobody.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::{Example, Sim, bad_input, describe, document};

const FORMS: [&str; 3] = ["json_schema", "json_object", "text"];

#[test]
fn the_simulated_judge_inside_works_in_every_form() {
    let example = Example::new();
    let document = example.document(&["judge", "check"]);
    assert_eq!(document["schema"], "tribunal.judge check/1");
    assert_eq!(
        (&document["judge"], &document["base_url"]),
        (&json!("simulated"), &json!("builtin:sim"))
    );
    assert_eq!((&document["simulated"], &document["reachable"]), (&json!(true), &json!(true)));
    assert_eq!(document["model_answered"], "tribunal-sim");
    for form in FORMS {
        let tried = &document["forms"][form];
        assert_eq!(tried["works"], true, "{tried}");
        assert!(tried["class"].is_null() && tried["message"].is_null());
        assert!(tried["usage"]["input"].as_u64().is_some_and(|tokens| tokens > 1_024), "{tried}");
    }
    assert_eq!(document["cached_tokens_reported"], true);
    assert!(document["cached_tokens"].as_u64().is_some_and(|cached| cached >= 1_024), "{document}");
    assert!(document["limits"].is_null());
    let suggestion = document["suggestion"].as_str().expect("text");
    let forms = "reply_forms = [\"json_schema\", \"json_object\", \"text\"]";
    assert!(suggestion.contains(forms), "{suggestion}");
}

#[test]
fn an_endpoint_states_its_limits() {
    let example = Example::new();
    let sim = Sim::start(&["--rpm", "6000", "--tpm", "6000000", "--burst-s", "60"], &[]);
    let judge = ["judge", "check", "--base-url", &sim.base_url, "--model", "org/some-model"];
    let document = example.document(&judge);
    assert_eq!(document["judge"], "adhoc");
    assert_eq!(document["limits"]["requests"]["limit"], 6_000);
    assert_eq!(document["limits"]["tokens"]["limit"], 6_000_000);
    assert!(document["limits"]["requests"]["reset_s"].is_number());
    assert_eq!(document["model_answered"], "org/some-model");
    let text = example.text(&judge);
    assert!(text.contains("limit of requests: 6000, "), "{text}");
    assert!(text.contains("[\"org/some-model\"]\ncontext_window = 32000"), "{text}");
    assert!(text.contains("[judge.org-some-model]\n"), "{text}");
}

#[test]
fn a_refused_key_is_exit_4_and_never_shown() {
    let (right, wrong) = ("sk-right-5d1f", "sk-wrong-8c2e");
    let example = Example::new();
    let sim = Sim::start(&["--require-key-env", "SIM_KEY"], &[("SIM_KEY", right)]);
    let args = ["judge", "check", "--base-url", &sim.base_url, "--model", "m"];
    let check = |args: &[&str], key: Option<&str>| {
        let mut command = example.command(args);
        command.envs(key.map(|key| ("TRIBUNAL_API_KEY", key)));
        let output = command.output().expect("it starts");
        let said = describe(&output);
        assert!(!said.contains(wrong) && !said.contains(right), "{said}");
        output
    };
    let json = [&args[..], &["--json"]].concat();
    for key in [None, Some(wrong)] {
        let output = check(&json, key);
        assert_eq!(output.status.code(), Some(4), "{}", describe(&output));
        let found = document(&output);
        assert_eq!(found["forms"]["json_schema"]["class"], "account");
        assert_eq!((&found["reachable"], &found["suggestion"]), (&json!(true), &json!("")));
        assert!(found["cached_tokens_reported"].is_null());
        assert_eq!(check(&args, key).status.code(), Some(4));
    }
    let output = check(&json, Some(right));
    assert_eq!(output.status.code(), Some(0), "{}", describe(&output));
    let text = check(&args, Some(right));
    assert!(describe(&text).contains("  text        works"), "{}", describe(&text));
}

#[test]
fn no_such_model_and_no_endpoint_are_exit_4() {
    let example = Example::new();
    let sim = Sim::start(&["--models", "the-one"], &[]);
    let check = |url: &str| {
        example.run(&["judge", "check", "--base-url", url, "--model", "another", "--json"])
    };
    let output = check(&sim.base_url);
    assert_eq!(output.status.code(), Some(4), "{}", describe(&output));
    let message = document(&output)["forms"]["text"]["message"].as_str().map(str::to_owned);
    assert!(message.is_some_and(|message| message.contains("another")));
    // A port that nobody listens on: the one that a listener just gave back.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let output = check(&format!("http://127.0.0.1:{port}/v1"));
    assert_eq!(output.status.code(), Some(4), "{}", describe(&output));
    let found = document(&output);
    assert_eq!(found["reachable"], false);
    assert_eq!(found["forms"]["text"]["latency_ms"], Value::Null);
}

#[test]
fn answers_that_cannot_be_used_are_exit_1() {
    let example = Example::new();
    let sim = Sim::start(&["--refusal-rate", "1"], &[]);
    let args = ["judge", "check", "--base-url", &sim.base_url, "--model", "m", "--json"];
    let output = example.run(&args);
    assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
    assert_eq!(document(&output)["forms"]["text"]["works"], false);
}

#[test]
fn judges_are_named_or_given_by_url() {
    let example = Example::new();
    assert_eq!(example.document(&["judge", "check", "simulated"])["judge"], "simulated");
    let said = bad_input(&example.run(&["judge", "check", "nobody"]));
    assert!(said.contains("known: simulated"), "{said}");
    bad_input(&example.run(&["judge", "check", "simulated", "--base-url", "http://h/v1"]));
}
