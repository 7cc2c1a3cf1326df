//! A judge: its settings, and what is needed to call it, the key included.
//!
//! Owns the reading of the endpoint's key, which happens only when a judge is asked for and never ends
//! in text, logs or the run's spec. What a `[judge.NAME]` may say is `rules`'s.

pub(crate) mod rules;

use std::{collections::BTreeMap, ffi::OsString, num::NonZeroU32, time::Duration};

use secrecy::SecretString;
use tribunal_core::{JudgeSpec, ReplyForm, run::BUILTIN_SIM_URL};
use tribunal_store::QuotaLimits;

pub(super) use self::rules::read;
use super::{
    Config, Problem, Source,
    models::{ModelFacts, OutputCapField},
    raw::{RawConfig, lines},
    resolve::Reader,
};

/// The name of the judge made of `--base-url` and `--model`.
pub(crate) const ADHOC: &str = "adhoc";
/// The variables that are read for a judge that names none, in this order.
pub(crate) const KEY_VARIABLES: [&str; 2] = ["TRIBUNAL_API_KEY", "OPENAI_API_KEY"];

/// Reads a variable of the environment.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// `[judge.NAME]`, valid by itself; what the model decides is still open.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JudgeSettings {
    base_url: String,
    model: String,
    api_key_env: Option<String>,
    temperature: Option<f64>,
    reasoning_effort: Option<String>,
    max_output_tokens: Option<u32>,
    reply_form: Option<ReplyForm>,
    output_cap_field: Option<OutputCapField>,
    requests_per_minute: Option<NonZeroU32>,
    tokens_per_minute: TokenRates,
    timeout: Duration,
    connect_timeout: Duration,
    azure_api_version: Option<String>,
    extra_body: BTreeMap<String, serde_json::Value>,
    headers: BTreeMap<String, String>,
}

/// Tokens a minute that an account allows; `None` = no limit of our own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenRates {
    /// Of prompts and answers together.
    pub(crate) all: Option<NonZeroU32>,
    /// Of prompts.
    pub(crate) input: Option<NonZeroU32>,
    /// Of answers.
    pub(crate) output: Option<NonZeroU32>,
}

/// Everything that is needed to call a judge.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedJudge {
    /// What the run's spec says of it.
    pub(crate) spec: JudgeSpec,
    /// The endpoint's key.
    pub(crate) api_key: ApiKey,
    /// Calls a minute at most; `None` = no limit of our own.
    pub(crate) requests_per_minute: Option<NonZeroU32>,
    /// Tokens a minute at most.
    pub(crate) tokens_per_minute: TokenRates,
    /// For a whole call.
    pub(crate) timeout: Duration,
    /// For the connection alone.
    pub(crate) connect_timeout: Duration,
    /// Azure's `api-version`, which also means that the key travels as `api-key`.
    pub(crate) azure_api_version: Option<String>,
    /// Further request headers, by name.
    pub(crate) headers: BTreeMap<String, String>,
    /// What is known, or assumed, of the model.
    pub(crate) facts: ModelFacts,
}

/// The key of an endpoint, and where it was found. `Debug` hides it.
#[derive(Clone, Debug)]
pub(crate) enum ApiKey {
    /// The simulated judge needs none.
    NotNeeded,
    /// None of the variables is set: calls go out without a key, as local servers take them.
    NotSet,
    /// A key.
    Set {
        /// The key itself.
        secret: SecretString,
        /// The variable that held it.
        variable: String,
    },
}

/// Why a judge cannot be called.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JudgeError {
    /// No `[judge.NAME]` with this name.
    #[error("no judge `{name}` in the configuration; known: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// `--base-url` or `--model` is wrong.
    #[error("{}", lines(.0))]
    Flags(Vec<Problem>),
    /// The variable that the judge names is not set.
    #[error(
        "judge `{judge}` takes its key from the environment variable {variable}, which is not set"
    )]
    KeyNotSet {
        /// The judge.
        judge: String,
        /// The variable.
        variable: String,
    },
    /// What the variable holds cannot be a key.
    #[error("{variable} does not hold a key: it has characters that a request header cannot carry")]
    KeyNotText {
        /// The variable.
        variable: String,
    },
}

// === impl Config ===

impl Config {
    /// The judge with this name, its key read from the environment.
    ///
    /// # Errors
    ///
    /// There is none with the name, or the variable that it names holds no key.
    pub(crate) fn judge(&self, name: &str) -> Result<ResolvedJudge, JudgeError> {
        self.judge_with(name, &|variable| std::env::var_os(variable))
    }

    /// The judge of `--base-url` and `--model`: every other setting has its default, its name is
    /// [`ADHOC`].
    ///
    /// # Errors
    ///
    /// The URL is not one of an endpoint, the model is empty, or the key is no key.
    pub(crate) fn adhoc_judge(
        &self,
        base_url: &str,
        model: &str,
    ) -> Result<ResolvedJudge, JudgeError> {
        self.adhoc_judge_with(base_url, model, &|variable| std::env::var_os(variable))
    }

    /// The judge with this name, for commands that call nobody: no key is read.
    ///
    /// # Errors
    ///
    /// There is none with the name.
    pub(crate) fn judge_without_key(&self, name: &str) -> Result<ResolvedJudge, JudgeError> {
        Ok(self.settings(name)?.resolve(name, self, ApiKey::NotSet))
    }

    pub(super) fn judge_with(
        &self,
        name: &str,
        environment: Environment<'_>,
    ) -> Result<ResolvedJudge, JudgeError> {
        let settings = self.settings(name)?;
        Ok(settings.resolve(name, self, settings.key(name, environment)?))
    }

    fn settings(&self, name: &str) -> Result<&JudgeSettings, JudgeError> {
        self.judges.get(name).ok_or_else(|| JudgeError::Unknown {
            name: name.to_owned(),
            known: self.judge_names().collect::<Vec<_>>().join(", "),
        })
    }

    pub(super) fn adhoc_judge_with(
        &self,
        base_url: &str,
        model: &str,
        environment: Environment<'_>,
    ) -> Result<ResolvedJudge, JudgeError> {
        let mut raw = RawConfig::defaults();
        raw.declare_judge(ADHOC, Source::Flag("--base-url".to_owned()));
        let mut problems: Vec<Problem> = Vec::new();
        for (key, value, flag) in
            [("base_url", base_url, "--base-url"), ("model", model, "--model")]
        {
            let value = toml::Value::String(value.to_owned());
            let applied = raw.apply_flag(&format!("judge.{ADHOC}.{key}"), value, flag);
            problems.extend(applied.err());
        }
        let mut reader = Reader { raw: &raw, problems };
        let settings = read(&mut reader, ADHOC);
        if !reader.problems.is_empty() {
            // The user knows the flag, not the key that stands for it.
            let nameless = |problem| Problem { key: String::new(), ..problem };
            return Err(JudgeError::Flags(reader.problems.into_iter().map(nameless).collect()));
        }
        Ok(settings.resolve(ADHOC, self, settings.key(ADHOC, environment)?))
    }

    /// The state of a judge's key, for people: its value is never part of it.
    pub(super) fn key_state(&self, name: &str, environment: Environment<'_>) -> (String, Source) {
        let Some(settings) = self.judges.get(name) else {
            return ("not set".to_owned(), Source::Default);
        };
        match settings.key(name, environment) {
            Ok(ApiKey::Set { variable, .. }) => ("set".to_owned(), Source::Environment(variable)),
            Ok(ApiKey::NotNeeded) => ("not needed".to_owned(), Source::Default),
            Ok(ApiKey::NotSet) => ("not set".to_owned(), Source::Default),
            Err(JudgeError::KeyNotText { variable }) => {
                ("not usable".to_owned(), Source::Environment(variable))
            }
            Err(_) => match &settings.api_key_env {
                Some(variable) => ("not set".to_owned(), Source::Environment(variable.clone())),
                None => ("not set".to_owned(), Source::Default),
            },
        }
    }
}

// === impl JudgeSettings ===

impl JudgeSettings {
    fn resolve(&self, name: &str, config: &Config, api_key: ApiKey) -> ResolvedJudge {
        let facts = config.models.get(&self.model);
        let cap_field = self.output_cap_field.unwrap_or(facts.output_cap_field);
        ResolvedJudge {
            spec: JudgeSpec {
                name: name.to_owned(),
                base_url: self.base_url.clone(),
                model: self.model.clone(),
                reply_form: self.reply_form.unwrap_or(facts.reply_forms[0]),
                // A form that the user names is the one that is meant.
                fallback_forms: match self.reply_form {
                    Some(_) => Vec::new(),
                    None => facts.reply_forms[1..].to_vec(),
                },
                max_output_tokens: self.max_output_tokens.unwrap_or(facts.output_tokens),
                output_cap_field: cap_field.name().to_owned(),
                temperature: self.temperature,
                reasoning_effort: self.reasoning_effort.clone(),
                extra_body: self.extra_body.clone(),
            },
            api_key,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            azure_api_version: self.azure_api_version.clone(),
            headers: self.headers.clone(),
            facts,
        }
    }

    fn key(&self, judge: &str, environment: Environment<'_>) -> Result<ApiKey, JudgeError> {
        if self.base_url == BUILTIN_SIM_URL {
            return Ok(ApiKey::NotNeeded);
        }
        let variables: Vec<&str> = match &self.api_key_env {
            Some(variable) => vec![variable],
            None => KEY_VARIABLES.to_vec(),
        };
        for variable in variables {
            let Some(value) = environment(variable) else {
                continue;
            };
            // A key read from a file often ends in a line break.
            let key = value
                .to_str()
                .map(str::trim)
                .filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic()));
            match key {
                Some("") => continue,
                Some(key) => {
                    return Ok(ApiKey::Set {
                        secret: SecretString::from(key),
                        variable: variable.to_owned(),
                    });
                }
                None => {
                    return Err(JudgeError::KeyNotText { variable: variable.to_owned() });
                }
            }
        }
        match &self.api_key_env {
            None => Ok(ApiKey::NotSet),
            Some(variable) => {
                Err(JudgeError::KeyNotSet { judge: judge.to_owned(), variable: variable.clone() })
            }
        }
    }
}

impl ResolvedJudge {
    /// The limits to keep.
    pub(crate) fn limits(&self) -> QuotaLimits {
        let rate = |rate: Option<NonZeroU32>| rate.map(|rate| f64::from(rate.get()));
        QuotaLimits {
            requests: rate(self.requests_per_minute),
            tokens: rate(self.tokens_per_minute.all),
            input_tokens: rate(self.tokens_per_minute.input),
            output_tokens: rate(self.tokens_per_minute.output),
        }
    }

    /// The models that share the account's limits: those of the same entry.
    pub(crate) fn family(&self) -> String {
        self.facts.entry.clone().unwrap_or_else(|| self.spec.model.clone())
    }
}

// === impl ApiKey ===

impl ApiKey {
    /// The key, where there is one.
    pub(crate) fn secret(&self) -> Option<&SecretString> {
        match self {
            ApiKey::Set { secret, .. } => Some(secret),
            ApiKey::NotNeeded | ApiKey::NotSet => None,
        }
    }
}
