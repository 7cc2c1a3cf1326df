//! A judge: its settings, and what is needed to call it, the key included.
//!
//! Owns the reading of the endpoint's key, which happens only when a judge is asked for and never ends
//! in text, logs or the run's spec. What a `[judge.NAME]` may say is `rules`'s.

pub(crate) mod endpoints;
pub(crate) mod rules;

use std::{collections::BTreeMap, ffi::OsString, num::NonZeroU32, time::Duration};

use secrecy::SecretString;
use tribunal_core::{JudgeSpec, ReplyForm, run::BUILTIN_SIM_URL};
use tribunal_store::{Meter, QuotaLimits};

use self::endpoints::{EndpointSettings, ResolvedEndpoint};
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
    account: Option<String>,
    weight: NonZeroU32,
    endpoints: Vec<EndpointSettings>,
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
    /// The account that the key shares with others.
    pub(crate) account: Option<String>,
    /// Its endpoint's share of the calls.
    pub(crate) weight: NonZeroU32,
    /// Further endpoints with the same model.
    pub(crate) further: Vec<ResolvedEndpoint>,
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
        self.settings(name)?.resolve(name, self, &|_: Option<&str>| Ok(ApiKey::NotSet))
    }

    pub(super) fn judge_with(
        &self,
        name: &str,
        environment: Environment<'_>,
    ) -> Result<ResolvedJudge, JudgeError> {
        self.settings(name)?.resolve(name, self, &|named| key(name, named, environment))
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
        settings.resolve(ADHOC, self, &|named| key(ADHOC, named, environment))
    }

    /// The state of the keys of a judge's endpoints, its own first, for people: their values are never
    /// part of it.
    pub(super) fn key_states(
        &self,
        name: &str,
        environment: Environment<'_>,
    ) -> Vec<(String, Source)> {
        let Some(settings) = self.judges.get(name) else { return Vec::new() };
        if settings.base_url == BUILTIN_SIM_URL {
            return vec![("not needed".to_owned(), Source::Default)];
        }
        let own = settings.api_key_env.as_deref();
        let further = settings.endpoints.iter().map(|e| e.api_key_env.as_deref().or(own));
        let state = |named: Option<&str>| match key(name, named, environment) {
            Ok(ApiKey::Set { variable, .. }) => ("set".to_owned(), Source::Environment(variable)),
            Err(JudgeError::KeyNotText { variable }) => {
                ("not usable".to_owned(), Source::Environment(variable))
            }
            Ok(_) | Err(_) => match named {
                Some(variable) => ("not set".to_owned(), Source::Environment(variable.to_owned())),
                None => ("not set".to_owned(), Source::Default),
            },
        };
        std::iter::once(own).chain(further).map(state).collect()
    }
}

// === impl JudgeSettings ===

impl JudgeSettings {
    /// The judge with its keys, each by the variable that is named for it.
    fn resolve(
        &self,
        name: &str,
        config: &Config,
        key: &dyn Fn(Option<&str>) -> Result<ApiKey, JudgeError>,
    ) -> Result<ResolvedJudge, JudgeError> {
        let facts = config.models.get(&self.model);
        let cap_field = self.output_cap_field.unwrap_or(facts.output_cap_field);
        let own_key = self.api_key_env.as_deref();
        let api_key = match self.base_url.as_str() {
            BUILTIN_SIM_URL => ApiKey::NotNeeded,
            _ => key(own_key)?,
        };
        let further = |endpoint: &EndpointSettings| -> Result<ResolvedEndpoint, JudgeError> {
            let EndpointSettings { tokens_per_minute: tokens, .. } = endpoint;
            let own = self.tokens_per_minute;
            Ok(ResolvedEndpoint {
                base_url: endpoint.base_url.clone().unwrap_or_else(|| self.base_url.clone()),
                api_key: key(endpoint.api_key_env.as_deref().or(own_key))?,
                account: endpoint.account.clone().or_else(|| self.account.clone()),
                weight: endpoint.weight,
                requests_per_minute: endpoint.requests_per_minute.or(self.requests_per_minute),
                tokens_per_minute: TokenRates {
                    all: tokens.all.or(own.all),
                    input: tokens.input.or(own.input),
                    output: tokens.output.or(own.output),
                },
                azure_api_version: match &endpoint.azure_api_version {
                    Some(version) => Some(version.clone()),
                    None => self.azure_api_version.clone(),
                },
            })
        };
        let further = self.endpoints.iter().map(further).collect::<Result<_, _>>()?;
        Ok(ResolvedJudge {
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
            account: self.account.clone(),
            weight: self.weight,
            further,
            facts,
        })
    }
}

// === impl ResolvedJudge ===

impl ResolvedJudge {
    /// The limits to keep at its own endpoint.
    pub(crate) fn limits(&self) -> QuotaLimits {
        limits(self.requests_per_minute, self.tokens_per_minute)
    }

    /// What all its endpoints take together in a minute; `None` where one has no limit of ours.
    pub(crate) fn limits_of_all(&self) -> QuotaLimits {
        self.over_all(std::ops::Add::add)
    }

    /// What one of its endpoints takes in a minute at most; `None` where one has no limit of ours.
    pub(crate) fn widest_limits(&self) -> QuotaLimits {
        self.over_all(f64::max)
    }

    fn over_all(&self, join: impl Fn(f64, f64) -> f64) -> QuotaLimits {
        let mut all = self.limits();
        for further in self.further.iter().map(ResolvedEndpoint::limits) {
            for meter in Meter::ALL {
                let joined = all.on(meter).zip(further.on(meter)).map(|(a, b)| join(a, b));
                *all.on_mut(meter) = joined;
            }
        }
        all
    }

    /// Lays rates over those of every endpoint.
    pub(crate) fn limit(&mut self, requests: Option<NonZeroU32>, tokens: Option<NonZeroU32>) {
        self.requests_per_minute = requests.or(self.requests_per_minute);
        self.tokens_per_minute.all = tokens.or(self.tokens_per_minute.all);
        for endpoint in &mut self.further {
            endpoint.requests_per_minute = requests.or(endpoint.requests_per_minute);
            endpoint.tokens_per_minute.all = tokens.or(endpoint.tokens_per_minute.all);
        }
    }

    /// The models that share the account's limits: those of the same entry.
    pub(crate) fn family(&self) -> String {
        self.facts.entry.clone().unwrap_or_else(|| self.spec.model.clone())
    }
}

// === impl ResolvedEndpoint ===

impl ResolvedEndpoint {
    /// The limits to keep.
    pub(crate) fn limits(&self) -> QuotaLimits {
        limits(self.requests_per_minute, self.tokens_per_minute)
    }
}

fn limits(requests: Option<NonZeroU32>, tokens: TokenRates) -> QuotaLimits {
    let rate = |rate: Option<NonZeroU32>| rate.map(|rate| f64::from(rate.get()));
    QuotaLimits {
        requests: rate(requests),
        tokens: rate(tokens.all),
        input_tokens: rate(tokens.input),
        output_tokens: rate(tokens.output),
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

/// The key in the variable that is named for it, else in one of those that are read for all.
fn key(
    judge: &str,
    named: Option<&str>,
    environment: Environment<'_>,
) -> Result<ApiKey, JudgeError> {
    let variables = named.map_or(KEY_VARIABLES.to_vec(), |variable| vec![variable]);
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
                let (secret, variable) = (SecretString::from(key), variable.to_owned());
                return Ok(ApiKey::Set { secret, variable });
            }
            None => return Err(JudgeError::KeyNotText { variable: variable.to_owned() }),
        }
    }
    match named {
        None => Ok(ApiKey::NotSet),
        Some(variable) => {
            Err(JudgeError::KeyNotSet { judge: judge.to_owned(), variable: variable.to_owned() })
        }
    }
}
