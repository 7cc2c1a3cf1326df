//! The configuration as users meet it: files in a folder, flags, an environment.

mod judge;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tribunal_core::ReplyForm;

use super::{check, document::ConfigCheck, raw, *};

const SECRET: &str = "sk-do-not-show-me";

struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Folder {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// With `tribunal.toml` and, where it exists, `explicit.toml`.
    fn load(&self, flags: &[FlagValue<'_>]) -> Result<Config, ConfigError> {
        let explicit = self.path("explicit.toml");
        let explicit = explicit.exists().then_some(explicit.as_path());
        Config::load_in(self.0.path(), explicit, flags)
    }
}

fn check_text(text: &str) -> ConfigCheck {
    let folder = Folder::new(&[("c.toml", text)]);
    check::check(&folder.path("c.toml")).unwrap()
}

/// `LINE KEY: MESSAGE` of everything wrong in the text.
fn findings(text: &str) -> Vec<String> {
    let document = check_text(text);
    assert_eq!(document.valid, document.problems.is_empty());
    document
        .problems
        .iter()
        .map(|problem| format!("{} {}: {}", problem.line, problem.key, problem.message))
        .collect()
}

fn problems(result: Result<Config, ConfigError>) -> Vec<Problem> {
    match result {
        Err(ConfigError::Invalid(problems)) => problems,
        other => panic!("should be invalid: {other:?}"),
    }
}

fn nothing_set(_: &str) -> Option<OsString> {
    None
}

fn only(variable: &'static str, value: &'static str) -> impl Fn(&str) -> Option<OsString> {
    move |name| (name == variable).then(|| value.into())
}

#[test]
fn a_prompt_set_is_a_name_or_a_folder_beside_its_file() {
    let folder = Folder::new(&[("tribunal.toml", "[run]\nprompt_set = \"mine\"\n")]);
    let expected = folder.path("mine");
    assert_eq!(Path::new(&folder.load(&[]).unwrap().run.prompt_set), expected);
    // A flag's folder is the shell's, from where the command runs.
    let flag = ("run.prompt_set", "other".into(), "--prompt-set");
    assert_eq!(folder.load(&[flag]).unwrap().run.prompt_set, "other");
    let named = Folder::new(&[("tribunal.toml", "[run]\nprompt_set = \"strict\"\n")]);
    assert_eq!(named.load(&[]).unwrap().run.prompt_set, "strict");
}

#[test]
fn defaults_are_valid_and_the_simulated_judge_grades() {
    let config = Folder::new(&[]).load(&[]).unwrap();
    assert_eq!(config.run.judge, "simulated");
    assert_eq!(config.run.max_prior_nodes, None);
    assert_eq!(config.store.url, "sqlite:.tribunal/store.db");
    assert_eq!(config.worker.lease, Duration::from_secs(60));
    assert_eq!(config.evidence.token_budget, None);

    // The simulated judge is never sent a key.
    let judge = config.judge_with("simulated", &only("OPENAI_API_KEY", SECRET)).unwrap();
    assert!(judge.spec.is_builtin_sim());
    assert!(judge.api_key.secret().is_none());
    assert_eq!(judge.spec.max_output_tokens, 2048);
    assert_eq!(judge.spec.reply_form, ReplyForm::JsonSchema);
    assert_eq!(judge.facts.assumptions, Vec::<String>::new());
}

#[test]
fn every_key_of_the_default_file_has_a_comment_above_it() {
    let mut before = "";
    for (index, line) in raw::DEFAULT_TOML.lines().enumerate() {
        let optional = line.strip_prefix('#').unwrap_or(line);
        let is_key = optional.starts_with(|c: char| c.is_ascii_lowercase());
        assert!(
            !is_key || before.starts_with("# "),
            "config/default.toml:{}: no comment above `{line}`",
            index + 1
        );
        before = line;
    }
}

#[test]
fn unknown_keys_are_named_by_line_with_the_nearest_known_one() {
    let found = findings(
        "[worker]\nconcurrency = 2\nconcurency = 3\n\n[wroker]\n\n[judge.mine]\nbase_url = \
         \"http://localhost:8000/v1\"\nmodel = \"m\"\nmax_tokens_out = 3\napi_key = \"k\"\n",
    );
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].starts_with("3 worker.concurency: unknown key"));
    assert!(found[0].contains("`worker.concurrency`"));
    assert!(found[1].starts_with("5 wroker:") && found[1].contains("`worker`"));
    assert!(found[2].starts_with("10 judge.mine.max_tokens_out: unknown key"));
    assert!(
        found[3].starts_with("11 judge.mine.api_key:") && found[3].contains("TRIBUNAL_API_KEY")
    );
}

#[test]
fn wrong_types_are_named_by_line() {
    let found = findings(
        "store = 3\n[worker]\nlease_s = \"long\"\npoll_ms = 1.5\n[run]\nprompt_set = \
         1\ncoverage_floor = 1\n[judge]\nmine = \"x\"\n[judge.other]\nbase_url = \
         \"http://h/v1\"\nmodel = \"m\"\nheaders = 3\n",
    );
    assert_eq!(
        found,
        [
            "1 store: must be a table, found an integer",
            "3 worker.lease_s: must be an integer, found a string",
            "4 worker.poll_ms: must be an integer, found a float",
            "6 run.prompt_set: must be a string, found an integer",
            "9 judge.mine: must be a table, found a string",
            "13 judge.other.headers: must be a table, found an integer",
        ]
    );
}

#[test]
fn values_out_of_range_are_named_by_line() {
    let found = findings(
        "[run]\ncoverage_floor = 1.5\nmax_prior_nodes = -1\njudge = \"nobody\"\n[worker]\nheartbeat_s = \
         20\n[retry]\nbase_ms = 40000\nretry_budget_ratio = nan\n[log]\nlevel = \
         \"loud\"\n[evidence]\ntoken_budget = 10\nprofile = \"other\"\n",
    );
    assert_eq!(
        found,
        [
            "2 run.coverage_floor: must be between 0 and 1",
            "3 run.max_prior_nodes: must be between 0 and 1000000",
            "4 run.judge: no judge `nobody`; known: simulated",
            "6 worker.heartbeat_s: must be less than a third of worker.lease_s",
            "8 retry.base_ms: must not exceed retry.max_ms",
            "9 retry.retry_budget_ratio: must be between 0 and 1",
            "11 log.level: must be one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \
             \"trace\"",
            "13 evidence.token_budget: must be 0 (from the model's window) or at least 1000",
            "14 evidence.profile: must be one of \"paperbench\", \"default\"",
        ]
    );
    // The key that was set bears the blame, not the default.
    let found = findings("[worker]\nlease_s = 30\n");
    assert!(found[0].starts_with("2 worker.lease_s:"), "{found:?}");
}

#[test]
fn text_that_is_not_toml_is_named_by_line_and_an_unreadable_file_is_an_error() {
    let found = findings("[run]\njudge = \"x\"\njudge = = 2\n");
    assert!(found[0].starts_with("3 : not valid TOML:"), "{found:?}");
    let prose = findings(&"This is no configuration at all.\n".repeat(100));
    assert!(prose.len() <= 6 && prose.last().unwrap().contains("more lines"), "{prose:?}");
    let folder = Folder::new(&[]);
    let error = check::check(&folder.path("absent.toml")).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    let folder = Folder::new(&[("tribunal.toml", "")]);
    fs::write(folder.path("tribunal.toml"), [0xff, 0xfe]).unwrap();
    assert!(matches!(folder.load(&[]), Err(ConfigError::Unreadable { .. })));
}

#[test]
fn later_layers_win_and_every_value_knows_its_source() {
    let folder = Folder::new(&[
        ("tribunal.toml", "[worker]\nconcurrency = 2\npoll_ms = 100\ngrace_s = 5\n"),
        ("explicit.toml", "[worker]\n\nconcurrency = 3\npoll_ms = 50\n"),
    ]);
    let flag = ("worker.concurrency", toml::Value::Integer(4), "--concurrency");
    let config = folder.load(&[flag]).unwrap();
    assert_eq!(config.worker.concurrency.get(), 4);
    assert_eq!(config.worker.poll, Duration::from_millis(50));
    assert_eq!(config.worker.grace, Duration::from_secs(5));
    let shown = config.show_with(&nothing_set);
    let source = |key: &str| {
        let value = shown.values.iter().find(|value| value.key == key).unwrap();
        value.source.clone()
    };
    assert_eq!(source("worker.concurrency"), "--concurrency");
    assert_eq!(source("worker.poll_ms"), format!("{}:4", folder.path("explicit.toml").display()));
    assert_eq!(source("worker.grace_s"), format!("{}:4", folder.path("tribunal.toml").display()));
    assert_eq!(source("worker.lease_s"), "default");
}

#[test]
fn problems_of_every_layer_are_listed_together() {
    let folder = Folder::new(&[
        ("tribunal.toml", "[run]\nsample = 1\n"),
        ("explicit.toml", "[worker]\nclaim_batch = 0\n"),
    ]);
    let flag = ("worker.concurrency", toml::Value::Integer(0), "--concurrency");
    let error = folder.load(&[flag]).unwrap_err().to_string();
    assert!(error.contains("tribunal.toml:2: run.sample: unknown key"), "{error}");
    assert!(error.contains("explicit.toml:2: worker.claim_batch: must be"), "{error}");
    assert!(error.contains("--concurrency: worker.concurrency: must be"), "{error}");
}

#[test]
fn flags_that_are_no_keys_are_problems() {
    let folder = Folder::new(&[]);
    for key in ["worker.nothing", "judge.ghost.model", "worker"] {
        let flag = (key, toml::Value::String("x".to_owned()), "--flag");
        let problems = problems(folder.load(&[flag]));
        assert_eq!(problems[0].source, Source::Flag("--flag".to_owned()), "{key}");
    }
}

#[test]
fn a_models_file_lies_beside_the_file_that_names_it() {
    let entry = "[\"mine-1\"]\ncontext_window = 64000\ntokenizer = \"cl100k_base\"\nreply_forms = \
                 [\"json_object\"]\noutput_cap_field = \"max_tokens\"\n";
    let folder =
        Folder::new(&[("tribunal.toml", "[run]\nmodels = \"m.toml\"\n"), ("m.toml", entry)]);
    let facts = folder.load(&[]).unwrap().models.get("mine-1");
    assert_eq!(facts.context_window, 64_000);
    assert_eq!(facts.prices, None);
    assert_eq!(facts.assumptions, ["no price is known for `mine-1`"]);

    fs::write(folder.path("m.toml"), entry.replace("tokenizer", "tokeniser")).unwrap();
    let problem = &problems(folder.load(&[]))[0];
    assert_eq!(problem.line(), Some(3), "{problem}");
    assert!(problem.to_string().contains("m.toml:3: mine-1: unknown field"), "{problem}");
    fs::remove_file(folder.path("m.toml")).unwrap();
    let problem = &problems(folder.load(&[]))[0];
    assert!(problem.message.starts_with("cannot read "), "{problem}");
}
