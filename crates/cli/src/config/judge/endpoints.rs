//! `endpoints` of `[judge.NAME]`: further endpoints with the same model, further keys for the same one.
//!
//! Owns what a table of the list may hold. No finding repeats a value that may be a misplaced secret.

use std::num::NonZeroU32;

use super::{ApiKey, TokenRates, rules};
use crate::config::{raw::Entry, resolve::Reader};

/// The keys of a table.
const KEYS: [&str; 9] = [
    "base_url",
    "api_key_env",
    "account",
    "weight",
    "requests_per_minute",
    "tokens_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "azure_api_version",
];

/// The greatest weight.
const MAX_WEIGHT: i64 = 1_000;

/// A further endpoint; what is `None` is the judge's own.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) struct EndpointSettings {
    pub(super) base_url: Option<String>,
    pub(super) api_key_env: Option<String>,
    pub(super) account: Option<String>,
    pub(super) weight: NonZeroU32,
    pub(super) requests_per_minute: Option<NonZeroU32>,
    pub(super) tokens_per_minute: TokenRates,
    pub(super) azure_api_version: Option<String>,
}

/// Everything that is needed to call a further endpoint.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedEndpoint {
    /// The URL with its `/v1`.
    pub(crate) base_url: String,
    /// Its key.
    pub(crate) api_key: ApiKey,
    /// The account that the key shares with others.
    pub(crate) account: Option<String>,
    /// Its share of the calls.
    pub(crate) weight: NonZeroU32,
    /// Calls a minute at most.
    pub(crate) requests_per_minute: Option<NonZeroU32>,
    /// Tokens a minute at most.
    pub(crate) tokens_per_minute: TokenRates,
    /// Azure's `api-version`.
    pub(crate) azure_api_version: Option<String>,
}

/// One table, whose findings are the list's.
struct Table<'a, 'r> {
    reader: &'a mut Reader<'r>,
    key: &'a str,
    /// 1-based place in the list.
    number: usize,
    fields: &'a toml::Table,
}

/// Reads and checks the list at this key.
pub(super) fn read(reader: &mut Reader<'_>, key: &str) -> Vec<EndpointSettings> {
    let Some(Entry { value, .. }) = reader.raw.get(key) else { return Vec::new() };
    let tables = value.as_array().cloned().unwrap_or_default();
    let mut endpoints = Vec::with_capacity(tables.len());
    for (number, value) in (1..).zip(&tables) {
        match value.as_table() {
            Some(fields) => {
                endpoints.push(Table { reader: &mut *reader, key, number, fields }.read());
            }
            None => reader.fail(key, format!("endpoint {number}: must be a table")),
        }
    }
    endpoints
}

/// The share of a judge's own endpoint.
pub(super) fn weight(reader: &mut Reader<'_>, key: &str) -> NonZeroU32 {
    NonZeroU32::new(reader.small(key, 1..=MAX_WEIGHT)).unwrap_or(NonZeroU32::MIN)
}

// === impl Table ===

impl Table<'_, '_> {
    fn read(&mut self) -> EndpointSettings {
        for key in self.fields.keys() {
            if key == "api_key" || key == "key" {
                let said = "a file never holds a secret; name a variable in `api_key_env`";
                self.fail(&format!("`{key}`: {said}"));
            } else if !KEYS.contains(&key.as_str()) {
                self.fail(&format!("`{key}` is none of {}", KEYS.join(", ")));
            }
        }
        let base_url = self.text("base_url").and_then(|url| {
            let normal = rules::normalize_base_url(&url);
            normal.inspect_err(|error| self.fail(&format!("`base_url` {error}"))).ok()
        });
        let api_key_env = self.text("api_key_env");
        if api_key_env.as_deref().is_some_and(|name| !rules::is_variable(name)) {
            self.fail("`api_key_env` must be the name of an environment variable, not the key");
        }
        let azure_api_version = self.text("azure_api_version");
        if azure_api_version.as_deref().is_some_and(|version| !rules::is_version(version)) {
            self.fail("`azure_api_version` must look like 2024-10-21");
        }
        let mut rate = |key| self.integer(key, 1..=i64::from(u32::MAX));
        EndpointSettings {
            requests_per_minute: rate("requests_per_minute"),
            tokens_per_minute: TokenRates {
                all: rate("tokens_per_minute"),
                input: rate("input_tokens_per_minute"),
                output: rate("output_tokens_per_minute"),
            },
            weight: self.integer("weight", 1..=MAX_WEIGHT).unwrap_or(NonZeroU32::MIN),
            account: self.text("account"),
            base_url,
            api_key_env,
            azure_api_version,
        }
    }

    fn text(&mut self, key: &str) -> Option<String> {
        let text = self.fields.get(key)?.as_str().filter(|text| !text.trim().is_empty());
        if text.is_none() {
            self.fail(&format!("`{key}` must be a string, and not be empty"));
        }
        text.map(str::to_owned)
    }

    fn integer(&mut self, key: &str, range: std::ops::RangeInclusive<i64>) -> Option<NonZeroU32> {
        let value = self.fields.get(key)?.as_integer().filter(|value| range.contains(value));
        let value = value.and_then(|value| u32::try_from(value).ok()).and_then(NonZeroU32::new);
        if value.is_none() {
            let (low, high) = (range.start(), range.end());
            self.fail(&format!("`{key}` must be a whole number between {low} and {high}"));
        }
        value
    }

    fn fail(&mut self, message: &str) {
        self.reader.fail(self.key, format!("endpoint {}: {message}", self.number));
    }
}
