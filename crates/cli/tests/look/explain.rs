//! `tribunal explain` of leaves in every state.

use serde_json::{Value, json};

use crate::support::{Example, INPUTS, Recorder, Sim, bad_input};

/// `#0` of the example.
const FIRST: &str = "schedule-rounds";

#[test]
fn a_graded_leaf_is_explained() {
    let example = Example::new();
    let run = example.grade(&[]);
    let document = example.document(&["explain", &run[..6], "#0", "--prompt", "--reply"]);
    assert_eq!(document["run"], run.as_str());
    assert_eq!((&document["id"], &document["leaf"]), (&json!(FIRST), &json!(0)));
    let crumbs = document["breadcrumb"].as_array().expect("ancestors");
    let ids: Vec<&str> = crumbs.iter().filter_map(|crumb| crumb["id"].as_str()).collect();
    assert_eq!(ids, ["anchored-halving", "method", "schedule"]);
    assert_eq!(document["category"], "Code Development");
    assert_eq!((&document["weight"], &document["state"]), (&json!(2.0), &json!("graded")));
    let share = document["share"].as_f64().expect("a share");
    assert!(share > 0.0 && share < 0.1, "{share}");
    assert!(document["score"].is_number() && document["reason"].is_null());
    assert_eq!((&document["decided_by"], &document["simulated"]), (&json!("judge"), &json!(true)));
    assert_eq!(document["answered_by"], "tribunal-sim");
    let rationale = &document["rationale"];
    assert!(rationale["explanation"].as_str().is_some_and(|text| text.contains("[simulated]")));
    let quotes = rationale["evidence"].as_array().expect("quotes");
    assert!(quotes.iter().all(|quote| quote.get("verified").is_some()));
    let files = document["shown"]["files"].as_array().expect("files");
    let halving = files.iter().find(|file| file["path"] == "src/halving.py").expect("shown");
    assert_eq!(halving["state"], "shown");
    assert!(halving["tokens"].as_u64().is_some_and(|tokens| tokens > 100));
    assert_eq!(document["shown"]["parts"], json!(["paper", "script"]));
    let calls = document["attempts"].as_array().expect("calls");
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!((&calls[0]["kind"], &calls[0]["status"]), (&json!("judge"), &json!(200)));
    assert_eq!(calls[0]["usage"], document["usage"]);
    assert!(calls[0]["class"].is_null() && calls[0]["request_id"].is_string());
    assert_eq!(document["cost_usd"], json!(0.0));
    for name in ["content_key", "evidence", "prompt_set", "rubric", "submission"] {
        let hash = document["hashes"][name].as_str();
        assert!(hash.is_some_and(|hash| hash.len() == 64), "{name}: {hash:?}");
    }
    let reply: Value = serde_json::from_str(document["reply"].as_str().expect("a reply"))
        .expect("the sim's reply is JSON");
    assert_eq!(reply["score"].as_f64(), document["score"].as_f64());

    let messages = document["prompt"].as_array().expect("messages");
    let roles: Vec<&str> = messages.iter().filter_map(|m| m["role"].as_str()).collect();
    assert_eq!(roles, ["system", "user", "user"]);
    let own = messages[2]["content"].as_str().expect("text");
    let criterion = document["requirements"].as_str().expect("text");
    assert!(own.contains("<criterion") && own.contains(criterion), "{own}");
    let shared = messages[1]["content"].as_str().expect("text");
    assert!(shared.contains("def halving("), "the file's text is shown");

    let text = example.text(&["explain", &run, FIRST]);
    for part in [
        "leaf #0 `schedule-rounds`",
        "The schedule of Section 2.1 has been implemented.",
        "Code Development",
        "decided by the judge tribunal-sim",
        "[verified] ",
        "src/halving.py",
        "1. judge: usable (200)",
        "content key",
    ] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    assert!(!text.contains("\nReply") && !text.contains("--- system ---"), "{text}");
}

#[test]
fn the_prompt_is_what_was_sent() {
    let example = Example::new();
    let judge = Recorder::start(r#"{"explanation": "It is \u001b[1m there.", "score": 1}"#);
    let run = example.grade(&["--code-only", "--base-url", &judge.base_url, "--model", "m"]);
    let asked = judge.asked();
    for leaf in ["#0", "generators-item"] {
        let document = example.document(&["explain", &run, leaf, "--prompt", "--reply"]);
        let sent = asked.iter().filter(|request| request["messages"] == document["prompt"]);
        assert_eq!(sent.count(), 1, "{leaf}: {:?}", document["prompt"]);
        assert_eq!(document["rationale"]["explanation"], "It is \u{1b}[1m there.");
        assert!(document["cost_usd"].is_null());
    }
    let text = example.text(&["explain", &run, "#0", "--reply"]);
    assert!(text.contains("It is \\u{1b}[1m there."), "{text}");
}

#[test]
fn names_that_fit_no_leaf_or_several_are_bad_input() {
    let example = Example::new();
    example.edit_rubric("\"id\": \"schedule-ties\"", "\"id\": \"schedule-rounds\"");
    let run = example.grade(&["--code-only"]);
    let said = |leaf: &str| bad_input(&example.run(&["explain", &run, leaf]));
    let ambiguous = said(FIRST);
    assert!(ambiguous.contains("2 leaves") && ambiguous.contains("#0, #2"), "{ambiguous}");
    assert!(said("#29").contains("no leaf `#29`"));
    assert!(said("no-such-leaf").contains("#0 to #28"));
    assert!(said("schedule").contains("is a group"));
    let left_out = said("one-command");
    assert!(left_out.contains("Code Execution"), "{left_out}");
    let no_run = bad_input(&example.run(&["explain", "ffffff", "#0"]));
    assert!(no_run.contains("no run `ffffff`"), "{no_run}");
    assert!(example.text(&["explain", &run, "#2"]).contains("leaf #2 `schedule-rounds`"));
}

#[test]
fn a_leaf_that_waits_says_so_and_shows_its_question() {
    let example = Example::new();
    let run = example.document(&[&["submit"][..], &INPUTS].concat());
    let run = run["run"].as_str().expect("an id");
    let document = example.document(&["explain", run, "#0", "--prompt", "--reply"]);
    assert_eq!((&document["state"], &document["reason"]), (&json!("pending"), &json!("pending")));
    for name in ["score", "rationale", "decided_by", "shown", "reply"] {
        assert!(document[name].is_null(), "{name}");
    }
    assert_eq!(document["attempts"], json!([]));
    assert_eq!(document["prompt"].as_array().map(Vec::len), Some(3));
    let text = example.text(&["explain", run, "#0"]);
    assert!(text.contains("pending: it waits for a worker"), "{text}");
    example.text(&["pause", run]);
    let text = example.text(&["explain", run, "#0"]);
    assert!(text.contains("the run is paused"), "{text}");
    example.text(&["cancel", run]);
    let document = example.document(&["explain", run, "#0"]);
    assert_eq!(document["state"], "cancelled");
}

#[test]
fn a_leaf_that_was_given_up_says_why() {
    let example = Example::new();
    // With the breaker an endpoint that only fails is nobody's leaf's fault.
    example.write("tribunal.toml", "[retry]\ntransient_attempts = 0\nbreaker_failures = 0\n");
    let sim = Sim::start(&["--error-rate", "1"], &[]);
    let judge = ["--base-url", &sim.base_url, "--model", "some-model", "--quiet", "--json"];
    let output = example.run(&[&["grade"][..], &INPUTS, &judge].concat());
    assert_eq!(output.status.code(), Some(3));
    let graded: Value = serde_json::from_slice(&output.stdout).expect("a document");
    let run = graded["run"].as_str().expect("an id");
    let document = example.document(&["explain", run, "#0"]);
    assert_eq!((&document["state"], &document["class"]), (&json!("dead"), &json!("transient")));
    assert_eq!(document["reason"], "provider_error");
    assert!(document["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    let calls = document["attempts"].as_array().expect("calls");
    assert_eq!(calls.len(), 1);
    assert!(calls[0]["status"].as_u64().is_some_and(|status| status >= 500), "{calls:?}");
    assert!(document["cost_usd"].is_null(), "the price of `some-model` is not known");
    let text = example.text(&["explain", run, "#0"]);
    assert!(text.contains("given up: provider_error, class transient"), "{text}");
}

#[test]
fn a_leaf_decided_by_rule_was_shown_nothing() {
    let example = Example::new();
    // In 2100: nothing is newer.
    example.write("submission/reproduce.log.creation_time", "4102444800");
    let run = example.grade(&[]);
    let document = example.document(&["explain", &run, "main-results-order", "--prompt"]);
    assert_eq!(document["decided_by"], "rule");
    assert_eq!(document["rule"], "nothing_reproduced");
    assert_eq!(document["score"], json!(0.0));
    for name in ["shown", "prompt", "answered_by"] {
        assert!(document[name].is_null(), "{name}");
    }
    assert_eq!(document["attempts"], json!([]));
    let text = example.text(&["explain", &run, "main-results-order", "--prompt"]);
    assert!(text.contains("decided by the rule nothing_reproduced"), "{text}");
    assert!(text.contains("Prompt: none, a rule decided"), "{text}");
}

#[test]
fn a_cut_group_is_explained_by_its_id() {
    let example = Example::new();
    let run = example.grade(&["--max-depth", "2"]);
    let document = example.document(&["explain", &run, "method"]);
    assert_eq!((&document["leaf"], &document["category"]), (&Value::Null, &json!("Subtree")));
    let said = bad_input(&example.run(&["explain", &run, "#0"]));
    assert!(said.contains("as part of `method`"), "{said}");
}

#[test]
fn nothing_that_a_terminal_acts_on_is_printed() {
    let example = Example::new();
    example.edit_rubric(
        "The schedule of Section 2.1 has been implemented.",
        "The \\u001b[2J\\u202eschedule\\u0007.",
    );
    std::fs::write(example.file("submission/src/\u{1b}[31m\n.py"), "x = 1\n").expect("written");
    std::fs::write(example.file("submission/src/esc.py"), "x = '\u{1b}]0;title\u{7}'\n")
        .expect("written");
    let run = example.grade(&[]);
    let text = example.text(&["explain", &run, "#0", "--prompt", "--reply"]);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
    assert!(!text.contains('\u{202e}'));
    assert!(text.contains("\\u{1b}[2J\\u{202e}schedule"), "{text}");
    assert!(text.contains("\\u{1b}[31m\\n.py") && text.contains("\\u{1b}]0;title"), "{text}");
    let text = example.text(&["evidence", "submission"]);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}
