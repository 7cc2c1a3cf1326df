//! The rules of `[judge.NAME]`: what each key may hold.
//!
//! Owns the checks, that of the endpoint's URL included. No finding repeats a value that may be a
//! misplaced secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use reqwest::header::{HeaderName, HeaderValue};
use tribunal_core::{ReplyForm, run::BUILTIN_SIM_URL};

use super::{JudgeSettings, TokenRates, endpoints};
use crate::config::{models::OutputCapField, raw::Source, resolve::Reader};

/// Fields of the request that have a place of their own.
const OWN_FIELDS: [(&str, &str); 11] = [
    ("model", "`model`"),
    ("messages", "the prompt set"),
    ("response_format", "`reply_form`"),
    ("max_tokens", "`max_output_tokens`"),
    ("max_completion_tokens", "`max_output_tokens`"),
    ("temperature", "`temperature`"),
    ("reasoning_effort", "`reasoning_effort`"),
    ("prompt_cache_key", "`prompt_cache_key` of the model's entry in models.toml"),
    ("n", "Tribunal: it reads one choice"),
    ("stream", "Tribunal: it does not stream"),
    ("stream_options", "Tribunal: it does not stream"),
];
/// Parts of header names that carry secrets.
const SECRET_HEADERS: [&str; 6] = ["auth", "key", "token", "secret", "password", "cookie"];

/// Why a base URL is refused. Never holds the URL, which may carry a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BaseUrlError {
    /// Not a URL at all.
    #[error("is not a URL; give one like https://api.openai.com/v1")]
    NotAUrl,
    /// Neither http nor https.
    #[error("must begin with http:// or https:// and name a host")]
    NotHttp,
    /// A user or password in it.
    #[error(
        "must not hold a user or password: put the key in the environment (TRIBUNAL_API_KEY, or the \
         variable named by `api_key_env`)"
    )]
    Credentials,
    /// A query or fragment.
    #[error("must not have a query or fragment; for Azure, set `azure_api_version`")]
    Query,
    /// The path of the call itself.
    #[error("must end before /chat/completions, which is appended")]
    WholePath,
}

/// Reads and checks the settings of one judge.
pub(in crate::config) fn read(reader: &mut Reader<'_>, name: &str) -> JudgeSettings {
    let key = |key: &str| format!("judge.{name}.{key}");
    let required = |reader: &mut Reader<'_>, key: &str| match reader.raw.get(key) {
        Some(_) => reader.text(key),
        None => {
            let source = reader.raw.judges().get(name).cloned();
            reader.fail_at(source.unwrap_or(Source::Default), key, "must be set");
            String::new()
        }
    };
    let base_url = required(reader, &key("base_url"));
    let base_url = match base_url.as_str() {
        // Already reported.
        "" => base_url,
        url => normalize_base_url(url).unwrap_or_else(|error| {
            reader.fail(&key("base_url"), error.to_string());
            String::new()
        }),
    };
    let model = required(reader, &key("model"));
    let api_key_env = reader.optional_text(&key("api_key_env"));
    if api_key_env.as_deref().is_some_and(|name| !is_variable(name)) {
        reader.fail(
            &key("api_key_env"),
            "must be the name of an environment variable (letters, digits, `_`), not the key itself",
        );
    }
    let azure_api_version = reader.optional_text(&key("azure_api_version"));
    if azure_api_version.as_deref().is_some_and(|version| !is_version(version)) {
        reader.fail(&key("azure_api_version"), "must look like 2024-10-21");
    }
    let cap = reader.small(&key("max_output_tokens"), 0..=1_000_000);
    if (1..16).contains(&cap) {
        reader.fail(&key("max_output_tokens"), "must be 0 (from the model's entry) or at least 16");
    }
    let endpoints = endpoints::read(reader, &key("endpoints"));
    if base_url == BUILTIN_SIM_URL && !endpoints.is_empty() {
        reader.fail(&key("endpoints"), "the simulated judge inside the process is alone");
    }
    let weight = endpoints::weight(reader, &key("weight"));
    let timeout = reader.seconds(&key("timeout_s"), 1..=86_400);
    let connect_timeout = reader.seconds(&key("connect_timeout_s"), 1..=3_600);
    let forms =
        [None, Some(ReplyForm::JsonSchema), Some(ReplyForm::JsonObject), Some(ReplyForm::Text)];
    let caps = [None, Some(OutputCapField::MaxCompletionTokens), Some(OutputCapField::MaxTokens)];
    JudgeSettings {
        base_url,
        model,
        api_key_env,
        account: reader.optional_text(&key("account")),
        weight,
        endpoints,
        temperature: reader.optional_float(&key("temperature"), 0.0..=2.0),
        reasoning_effort: reader.optional_text(&key("reasoning_effort")),
        max_output_tokens: (cap > 0).then_some(cap),
        reply_form: reader
            .choice(&key("reply_form"), &forms, |form| form.map_or("auto", ReplyForm::name)),
        output_cap_field: reader.choice(&key("output_cap_field"), &caps, |field| {
            field.map_or("auto", OutputCapField::name)
        }),
        requests_per_minute: rate(reader, &key("requests_per_minute")),
        tokens_per_minute: TokenRates {
            all: rate(reader, &key("tokens_per_minute")),
            input: rate(reader, &key("input_tokens_per_minute")),
            output: rate(reader, &key("output_tokens_per_minute")),
        },
        timeout,
        connect_timeout,
        azure_api_version,
        extra_body: extra_body(reader, &key("extra_body")),
        headers: headers(reader, &key("headers")),
    }
}

/// A rate by the minute; 0 is none.
fn rate(reader: &mut Reader<'_>, key: &str) -> Option<NonZeroU32> {
    NonZeroU32::new(reader.small(key, 0..=i64::from(u32::MAX)))
}

fn extra_body(reader: &mut Reader<'_>, key: &str) -> BTreeMap<String, serde_json::Value> {
    let mut body = BTreeMap::new();
    let mut wrong = Vec::new();
    for (field, entry) in reader.raw.fields(key) {
        if let Some((_, owner)) = OWN_FIELDS.iter().find(|(name, _)| *name == field) {
            wrong.push((field.to_owned(), format!("is set by {owner}")));
        } else if !is_finite(&entry.value) {
            wrong.push((field.to_owned(), "has a number that JSON cannot say".to_owned()));
        } else if let Ok(value) = serde_json::to_value(&entry.value) {
            body.insert(field.to_owned(), value);
        }
    }
    for (field, message) in wrong {
        reader.fail(&format!("{key}.{field}"), message);
    }
    body
}

fn headers(reader: &mut Reader<'_>, key: &str) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, entry) in reader.raw.fields(key) {
        let lower = name.to_ascii_lowercase();
        let message = if SECRET_HEADERS.iter().any(|part| lower.contains(part)) {
            "may carry a secret: put the key in the environment and name it in `api_key_env`"
        } else if HeaderName::from_bytes(name.as_bytes()).is_err() {
            "is not the name of a header"
        } else if !seen.insert(lower) {
            "is there twice"
        } else {
            match entry.value.as_str() {
                Some(value) if HeaderValue::from_str(value).is_ok() => {
                    headers.insert(name.to_owned(), value.to_owned());
                    continue;
                }
                Some(_) => "has characters that a header cannot carry",
                None => "must be a string",
            }
        };
        wrong.push((name.to_owned(), message));
    }
    for (name, message) in wrong {
        reader.fail(&format!("{key}.{name}"), message);
    }
    headers
}

/// The URL of an endpoint up to its `/v1`, without a trailing slash; `builtin:sim` as it is.
///
/// # Errors
///
/// It is not an http or https URL with a host, or has credentials, a query or a fragment.
pub(crate) fn normalize_base_url(text: &str) -> Result<String, BaseUrlError> {
    if text == BUILTIN_SIM_URL {
        return Ok(text.to_owned());
    }
    let url = reqwest::Url::parse(text.trim()).map_err(|_| BaseUrlError::NotAUrl)?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(BaseUrlError::NotHttp);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BaseUrlError::Credentials);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(BaseUrlError::Query);
    }
    let normal = url.as_str().trim_end_matches('/');
    if normal.ends_with("/chat/completions") {
        return Err(BaseUrlError::WholePath);
    }
    Ok(normal.to_owned())
}

/// Whether it may stand in a query as it is.
pub(super) fn is_version(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

pub(super) fn is_variable(name: &str) -> bool {
    // Keys of providers look like names now and then, but for a hyphen or their length.
    name.len() <= 64
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_finite(value: &toml::Value) -> bool {
    match value {
        toml::Value::Float(value) => value.is_finite(),
        toml::Value::Array(values) => values.iter().all(is_finite),
        toml::Value::Table(table) => table.values().all(is_finite),
        _ => true,
    }
}
