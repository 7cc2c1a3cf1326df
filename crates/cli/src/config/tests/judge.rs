//! Judges: their settings, keys and endpoints; secrets that must not show.

use secrecy::ExposeSecret;

use super::*;
use crate::config::{
    judge::{
        ADHOC, ApiKey, Environment, JudgeError,
        rules::{BaseUrlError, normalize_base_url},
    },
    show,
};

#[test]
fn a_judge_of_ones_own_takes_the_rest_from_the_defaults() {
    let text = "[run]\njudge = \"mine\"\n[judge.simulated]\ntimeout_s = 9\n[judge.mine]\nbase_url = \
                \"https://api.example.com/v1/\"\nmodel = \"o3-2025-04-16\"\nreply_form = \
                \"text\"\nrequests_per_minute = 60\nheaders = { X-Title = \"t\" \
                }\n[judge.mine.extra_body]\nseed = 7\n";
    let config = Folder::new(&[("tribunal.toml", text)]).load(&[]).unwrap();
    let judge = config.judge_with("mine", &nothing_set).unwrap();
    assert_eq!(judge.spec.name, "mine");
    assert_eq!(judge.spec.base_url, "https://api.example.com/v1");
    assert_eq!(judge.spec.reply_form, ReplyForm::Text);
    assert_eq!(judge.spec.max_output_tokens, 16_384);
    assert_eq!(judge.spec.output_cap_field, "max_completion_tokens");
    assert_eq!(judge.spec.extra_body["seed"], 7);
    assert_eq!(judge.headers["X-Title"], "t");
    assert_eq!(judge.requests_per_minute.map(NonZeroU32::get), Some(60));
    // Another judge's settings are not defaults.
    assert_eq!(judge.timeout, Duration::from_secs(300));
    assert!(matches!(judge.api_key, ApiKey::NotSet));
    let error = config.judge_with("yours", &nothing_set).unwrap_err();
    assert!(error.to_string().contains("known: mine, simulated"));

    let found = findings("[judge.mine]\nmodel = \"m\"\n[judge.adhoc]\n[judge.\"a b\"]\n");
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], "1 judge.mine.base_url: must be set");
}

#[test]
fn keys_come_from_the_named_variable_or_the_two_that_are_documented() {
    let text = "[judge.named]\nbase_url = \"https://h/v1\"\nmodel = \"m\"\napi_key_env = \
                \"MY_KEY\"\n[judge.plain]\nbase_url = \"https://h/v1\"\nmodel = \"m\"\n";
    let config = Folder::new(&[("tribunal.toml", text)]).load(&[]).unwrap();
    let key = |judge: &str, environment: Environment<'_>| {
        let judge = config.judge_with(judge, environment)?;
        let secret = judge.api_key.secret().map(|key| key.expose_secret().to_owned());
        Ok::<_, JudgeError>(secret)
    };
    let both = |name: &str| match name {
        "TRIBUNAL_API_KEY" => Some(OsString::from("first\n")),
        "OPENAI_API_KEY" => Some(OsString::from("second")),
        _ => None,
    };
    assert_eq!(key("plain", &both).unwrap().as_deref(), Some("first"));
    let second = only("OPENAI_API_KEY", "second");
    assert_eq!(key("plain", &second).unwrap().as_deref(), Some("second"));
    assert_eq!(key("plain", &only("TRIBUNAL_API_KEY", " ")).unwrap(), None);
    assert_eq!(key("named", &only("MY_KEY", "mine")).unwrap().as_deref(), Some("mine"));
    let keyless = config.judge_without_key("named").unwrap();
    assert!(matches!(keyless.api_key, ApiKey::NotSet));
    assert!(matches!(key("named", &both), Err(JudgeError::KeyNotSet { .. })));
    let error = key("named", &only("MY_KEY", "two words")).unwrap_err();
    assert!(!error.to_string().contains("words"));
}

#[test]
fn further_endpoints_take_from_the_judge_what_they_do_not_name() {
    let text = "[judge.mine]\nbase_url = \"https://h/v1\"\nmodel = \"m\"\nrequests_per_minute = \
                60\nendpoints = [{ api_key_env = \"SECOND\" }, { base_url = \"http://other:8/v1/\", \
                weight = 3, account = \"team\", requests_per_minute = 30 }]\n";
    let config = Folder::new(&[("tribunal.toml", text)]).load(&[]).unwrap();
    let environment = |name: &str| match name {
        "SECOND" => Some(OsString::from(SECRET)),
        "TRIBUNAL_API_KEY" => Some(OsString::from("first")),
        _ => None,
    };
    let mut judge = config.judge_with("mine", &environment).unwrap();
    let [second, other] = &judge.further[..] else { panic!("{judge:?}") };
    let secret = |key: &ApiKey| key.secret().map(|key| key.expose_secret().to_owned());
    assert_eq!((second.base_url.as_str(), second.weight.get()), ("https://h/v1", 1));
    assert_eq!(secret(&second.api_key).as_deref(), Some(SECRET));
    assert_eq!((other.base_url.as_str(), other.weight.get()), ("http://other:8/v1", 3));
    assert_eq!(secret(&other.api_key).as_deref(), Some("first"));
    assert_eq!(other.account.as_deref(), Some("team"));
    assert_eq!(judge.limits_of_all().requests, Some(60.0 + 60.0 + 30.0));
    judge.limit(NonZeroU32::new(10), None);
    assert_eq!(judge.limits_of_all().requests, Some(30.0));
    let alone = text.split("endpoints").next().unwrap();
    let alone = Folder::new(&[("tribunal.toml", alone)]).load(&[]).unwrap();
    let alone = alone.judge_with("mine", &environment).unwrap();
    assert_eq!(alone.spec, judge.spec, "they are no part of a run's id");
    let missing = config.judge_with("mine", &nothing_set).unwrap_err();
    assert!(matches!(missing, JudgeError::KeyNotSet { .. }));
    let document = config.show_with(&environment);
    let shown = show::render(&document);
    assert!(shown.contains("endpoint 1 api_key = set (from SECOND)"), "{shown}");
    assert!(!shown.contains(SECRET) && shown.contains("http://other:8"), "{shown}");

    let wrong = format!(
        "[judge.mine]\nbase_url = \"https://h/v1\"\nmodel = \"m\"\nendpoints = [{{ api_key = \
         \"{SECRET}\", api_key_env = \"{SECRET}\" }}, {{ base_url = \"ftp://h\", weight = 0 }}, {{ \
         wieght = 2 }}, 7]\n[judge.simulated]\nendpoints = [{{}}]\n"
    );
    let found = findings(&wrong);
    assert_eq!(found.len(), 7, "{found:?}");
    assert!(found.iter().all(|finding| !finding.contains(SECRET)), "{found:?}");
    assert!(found[0].starts_with("4 judge.mine.endpoints: endpoint 1: `api_key`"), "{found:?}");
}

#[test]
fn secrets_are_in_no_output() {
    let text = "[store]\nurl = \"postgres://me:sk-do-not-show-me@db/x\"\n[judge.mine]\nbase_url = \
                \"https://h/v1\"\nmodel = \"m\"\n";
    let config = Folder::new(&[("tribunal.toml", text)]).load(&[]).unwrap();
    let environment = only("TRIBUNAL_API_KEY", SECRET);
    let document = config.show_with(&environment);
    let text = show::render(&document);
    let judge = config.judge_with("mine", &environment).unwrap();
    let json = serde_json::to_string(&document).unwrap();
    for shown in [&text, &json, &format!("{config:?}"), &format!("{judge:?}")] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
    assert!(text.contains("# api_key = set (from TRIBUNAL_API_KEY)"), "{text}");
    let text = show::render(&config.show_with(&nothing_set));
    assert!(text.contains("# api_key = not set"), "{text}");
    // What is shown can be read again.
    let table: toml::Table = toml::from_str(&text).unwrap();
    assert_eq!(table["judge"]["mine"]["model"].as_str(), Some("m"));
}

#[test]
fn misplaced_secrets_are_refused_and_not_repeated() {
    let found = findings(&format!(
        "[judge.mine]\nbase_url = \"https://user:{SECRET}@h/v1\"\nmodel = \"m\"\napi_key_env = \
         \"{SECRET}\"\nheaders = {{ Authorization = \"Bearer {SECRET}\" }}\n"
    ));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|finding| !finding.contains(SECRET)));
    assert!(found[0].starts_with("2 judge.mine.base_url: must not hold a user or password"));
}

#[test]
fn base_urls_are_normalized_or_refused() {
    let normal = |url: &str| normalize_base_url(url);
    assert_eq!(normal("http://LOCALHOST:8000/v1//").unwrap(), "http://localhost:8000/v1");
    assert_eq!(normal("https://h").unwrap(), "https://h");
    assert_eq!(normal("builtin:sim").unwrap(), "builtin:sim");
    for (url, error) in [
        ("localhost", BaseUrlError::NotAUrl),
        ("", BaseUrlError::NotAUrl),
        ("localhost:8000/v1", BaseUrlError::NotHttp),
        ("ftp://h/v1", BaseUrlError::NotHttp),
        ("builtin:other", BaseUrlError::NotHttp),
        ("https://user@h/v1", BaseUrlError::Credentials),
        ("https://:pw@h/v1", BaseUrlError::Credentials),
        ("https://h/v1?api-version=1", BaseUrlError::Query),
        ("https://h/v1#x", BaseUrlError::Query),
        ("https://h/v1/chat/completions/", BaseUrlError::WholePath),
    ] {
        assert_eq!(normal(url), Err(error), "{url}");
    }
}

#[test]
fn the_judge_of_the_command_line_needs_only_an_url_and_a_model() {
    let config = Folder::new(&[]).load(&[]).unwrap();
    let judge = config.adhoc_judge_with("http://127.0.0.1:8080/v1", "qwen", &nothing_set).unwrap();
    assert_eq!(judge.spec.name, ADHOC);
    assert_eq!(judge.spec.output_cap_field, "max_tokens");
    assert!(matches!(judge.api_key, ApiKey::NotSet));
    let error = config.adhoc_judge_with("nonsense", "", &nothing_set).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("--base-url: ") && error.contains("--model: "), "{error}");
}

#[test]
fn fields_with_a_place_of_their_own_and_impossible_ones_are_refused() {
    let found = findings(
        "[judge.mine]\nbase_url = \"https://h/v1\"\nmodel = \"m\"\n[judge.mine.extra_body]\nmodel = \
         \"other\"\ntop_p = inf\n[judge.mine.headers]\n\"a b\" = \"x\"\nX-A = 3\nX-B = \"\\n\"\n",
    );
    assert_eq!(
        found,
        [
            "5 judge.mine.extra_body.model: is set by `model`",
            "6 judge.mine.extra_body.top_p: has a number that JSON cannot say",
            "8 judge.mine.headers.a b: is not the name of a header",
            "9 judge.mine.headers.X-A: must be a string",
            "10 judge.mine.headers.X-B: has characters that a header cannot carry",
        ]
    );
}
