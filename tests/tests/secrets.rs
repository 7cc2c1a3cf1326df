//! A key goes to its endpoint and nowhere else.

use std::{
    path::Path,
    process::{Command, Output},
};

use tribunal_e2e::{
    Reply, Running, SimProcess, TestServer, Workspace, assert_exit, describe, document, number,
};

const KEY: &str = "sk-secret-canary-0123456789";

fn with_key(mut command: Command) -> Output {
    command.env("TRIBUNAL_API_KEY", KEY);
    Running::start(command).finish()
}

fn holds_key(bytes: &[u8]) -> bool {
    bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes())
}

/// Looks for the key in every file below the folder; how many there were.
fn search(folder: &Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files += search(&path);
        } else {
            assert!(!holds_key(&std::fs::read(&path).expect("a file")), "{}", path.display());
            files += 1;
        }
    }
    files
}

#[track_caller]
fn assert_silent(output: &Output) {
    assert!(!holds_key(&output.stdout) && !holds_key(&output.stderr), "{}", describe(output));
}

/// Whatever a user can have shown of the store and the config.
#[track_caller]
fn assert_nothing_shown(workspace: &Workspace) {
    for args in [&["status", "--json"][..], &["config", "show", "--json"], &["config", "show"]] {
        let output = with_key(workspace.command(args));
        assert_exit(&output, 0);
        assert_silent(&output);
    }
}

#[test]
fn a_key_reaches_the_endpoint_and_no_file() {
    let require = ["--require-key-env", "E2E_KEY"];
    let sim = SimProcess::start_with_env(&require, &[("E2E_KEY", KEY)]);
    let workspace = Workspace::generated(20);
    workspace.write("tribunal.toml", "[log]\nlevel = \"trace\"\n");
    let output = with_key(workspace.grade(&sim.base_url, &[]));
    assert_exit(&output, 0);
    assert_eq!((sim.requests(), sim.stat("invalid")), (20, 0), "the key was sent");
    assert_silent(&output);
    assert!(search(workspace.path()) > 6, "store, results and inputs were searched");
    assert_nothing_shown(&workspace);
}

#[test]
fn a_key_of_the_config_shows_only_that_it_is_set() {
    let workspace = Workspace::empty();
    workspace.write(
        "tribunal.toml",
        "[judge.mine]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\n",
    );
    let output = with_key(workspace.command(&["config", "show", "--json"]));
    assert_exit(&output, 0);
    assert_silent(&output);
    let shown = document(&output);
    let values = shown["values"].as_array().expect("a list");
    let state = values.iter().find(|value| value["key"] == "judge.mine.api_key");
    let state = state.expect("the key's state");
    assert_eq!((&state["value"], &state["source"]), (&"set".into(), &"TRIBUNAL_API_KEY".into()));
}

#[test]
fn a_key_that_the_endpoint_repeats_is_cut_out() {
    let server = TestServer::start(|request| {
        let key = request.header("authorization").and_then(|v| v.strip_prefix("Bearer "));
        let message = format!("Incorrect API key provided: {}.", key.unwrap_or_default());
        Reply::error(401, "invalid_api_key", &message)
    });
    let workspace = Workspace::generated(20);
    workspace.write("tribunal.toml", "[log]\nlevel = \"trace\"\n");
    let output = with_key(workspace.grade(&server.base_url(), &[]));
    assert_exit(&output, 4);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Incorrect API key provided"), "{said}");
    assert_silent(&output);
    search(workspace.path());
    let status = workspace.status();
    let reason = status["reason"].as_str().expect("why it is paused");
    assert!(reason.contains("Incorrect API key provided") && !reason.contains(KEY), "{reason}");
    assert_eq!(number(&status, "/pending"), 20);
    assert_nothing_shown(&workspace);
}
