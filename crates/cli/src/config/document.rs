//! The JSON documents of `config show` and `config check`.
//!
//! Owns their shapes, which scripts rely on. No value in them is a secret.

use schemars::JsonSchema;
use serde::Serialize;

/// `config show`: every value, and where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct ConfigShow {
    /// By section, in the order of `config/default.toml`.
    pub(crate) values: Vec<ShownValue>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct ShownValue {
    /// The dotted key. `judge.NAME.api_key` is no key of a file, but the state of the secret.
    pub(crate) key: String,
    /// The value; null where nothing is set. Of a secret: `set`, `not set`, `not needed` or `not usable`.
    pub(crate) value: serde_json::Value,
    /// `default`, `FILE:LINE`, `--FLAG`, or the name of an environment variable.
    pub(crate) source: String,
}

/// `config check`: what is wrong in one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct ConfigCheck {
    /// The file as it was named.
    pub(crate) file: String,
    /// Whether nothing is wrong.
    pub(crate) valid: bool,
    /// Everything that is wrong, by line.
    pub(crate) problems: Vec<CheckedProblem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct CheckedProblem {
    /// The file it stands in: the checked one, or the models file that it names.
    pub(crate) file: String,
    /// 1-based.
    pub(crate) line: usize,
    /// The dotted key; empty where the text is not TOML.
    pub(crate) key: String,
    /// What is wrong and what to do.
    pub(crate) message: String,
}
