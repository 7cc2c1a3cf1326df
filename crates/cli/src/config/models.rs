//! What is known of models: window, tokenizer, prices, reply forms.
//!
//! Owns the reading of `config/models.toml` and files laid over it, and what is assumed of a model
//! that is in none. Every assumption is said in a sentence; a price is never assumed.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use tribunal_core::{Prices, ReplyForm};
use tribunal_evidence::Counter;
use tribunal_worker::Tariff;

use super::{Problem, Source, raw::line_of};

/// The built-in models.
const MODELS_TOML: &str = include_str!("../../../../config/models.toml");

/// The vocabularies that tokens can be counted with.
const TOKENIZERS: [&str; 6] =
    ["o200k_base", "cl100k_base", "deepseek_v3", "llama3", "mistral_v3", "qwen2"];

/// Window, in tokens, of a model that is not known: what most servers give at least.
const ASSUMED_WINDOW: u64 = 32_000;
/// Cap on completion tokens where nothing else is said.
const ASSUMED_OUTPUT: u32 = 2_048;

/// Every model that is known, by name.
#[derive(Clone, Debug)]
pub(crate) struct Models {
    entries: BTreeMap<String, ModelEntry>,
}

/// What is known, or assumed, of one model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModelFacts {
    /// The model as the endpoint knows it.
    pub(crate) model: String,
    /// The entry these facts come from; `None` for a model that is not known.
    pub(crate) entry: Option<String>,
    /// Tokens of prompt and answer together.
    pub(crate) context_window: u64,
    /// Vocabulary that counts the prompt's tokens.
    pub(crate) tokenizer: String,
    /// The model's own tokens for one token of `tokenizer`, at least 1 where that counts too few.
    pub(crate) token_factor: f64,
    /// Cap on completion tokens where the judge sets none.
    pub(crate) output_tokens: u32,
    /// Prices; `None` where they are not known.
    pub(crate) prices: Option<Prices>,
    /// Reply forms, the best first; never empty.
    pub(crate) reply_forms: Vec<ReplyForm>,
    /// The field that carries the output cap.
    pub(crate) output_cap_field: OutputCapField,
    /// Whether the endpoint takes `prompt_cache_key`.
    pub(crate) prompt_cache_key: bool,
    /// What was assumed, in sentences; empty where all of it is known.
    pub(crate) assumptions: Vec<String>,
}

/// The request's field that caps completion tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutputCapField {
    /// OpenAI's own, reasoning included.
    MaxCompletionTokens,
    /// The older one, that most compatible servers take.
    MaxTokens,
}

/// An entry as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelEntry {
    context_window: u64,
    tokenizer: String,
    token_factor: Option<f64>,
    output_tokens: Option<u32>,
    price_input: Option<f64>,
    price_cached: Option<f64>,
    price_output: Option<f64>,
    batch_factor: Option<f64>,
    reply_forms: Vec<ReplyForm>,
    output_cap_field: OutputCapField,
    prompt_cache_key: Option<bool>,
    note: Option<String>,
}

// === impl Models ===

impl Models {
    /// The models that are part of the program.
    pub(crate) fn builtin() -> Models {
        let mut models = Models { entries: BTreeMap::new() };
        models
            .overlay(Path::new("config/models.toml"), MODELS_TOML)
            .expect("config/models.toml is part of the build and tested");
        models
    }

    /// Lays the entries of a file over these, whole entries at a time. On error nothing is changed.
    ///
    /// # Errors
    ///
    /// Every entry that is wrong, by its line.
    pub(crate) fn overlay(&mut self, path: &Path, text: &str) -> Result<(), Vec<Problem>> {
        let problem = |offset: usize, key: &str, message: String| Problem {
            source: Source::File { path: path.to_owned(), line: line_of(text, offset) },
            key: key.to_owned(),
            message,
        };
        let table = toml::de::DeTable::parse(text).map_err(|error| {
            let offset = error.span().map_or(text.len(), |span| span.start);
            let message = format!("not valid TOML: {}", error.message());
            vec![problem(offset, "", message)]
        })?;
        let mut entries = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, value) in table.into_inner() {
            let model = name.get_ref().to_string();
            let start = name.span().start;
            match ModelEntry::deserialize(toml::de::ValueDeserializer::from(value)) {
                Err(error) => {
                    let offset = error.span().map_or(start, |span| span.start);
                    problems.push(problem(offset, &model, error.message().to_owned()));
                }
                Ok(entry) => match entry.check() {
                    Err(message) => problems.push(problem(start, &model, message)),
                    Ok(()) => {
                        entries.insert(model, entry);
                    }
                },
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        self.entries.extend(entries);
        Ok(())
    }

    /// What is known of a model, or assumed where it is not known.
    ///
    /// A date or `-latest` at the end, and the prefix of a router (`openai/gpt-4o`), are looked past.
    /// Another name that only begins alike is another model: `gpt-5-nano` is not `gpt-5`.
    pub(crate) fn get(&self, model: &str) -> ModelFacts {
        let bare = model.rsplit('/').next().unwrap_or(model);
        let found = [model, bare].into_iter().find_map(|name| self.entry(name));
        let Some((name, entry)) = found else {
            return ModelFacts::assumed(model);
        };
        let mut facts = entry.facts(model, name);
        if bare != model && !self.entries.contains_key(model) {
            facts
                .assumptions
                .insert(0, format!("`{model}` is taken to be `{name}` at its provider's prices"));
        }
        facts
    }

    /// The entry with this name, or the longest one that it is a dated version of.
    fn entry(&self, model: &str) -> Option<(&str, &ModelEntry)> {
        self.entries
            .iter()
            .filter(|(name, _)| match model.strip_prefix(name.as_str()) {
                Some(rest) => rest.is_empty() || is_version(rest),
                None => false,
            })
            .max_by_key(|(name, _)| name.len())
            .map(|(name, entry)| (name.as_str(), entry))
    }
}

// === impl ModelEntry ===

impl ModelEntry {
    fn check(&self) -> Result<(), String> {
        let prices = [self.price_input, self.price_cached, self.price_output];
        let factor = self.token_factor.unwrap_or(1.0);
        let output = u64::from(self.output_tokens.unwrap_or(ASSUMED_OUTPUT));
        let wrong = if !TOKENIZERS.contains(&self.tokenizer.as_str()) {
            format!("tokenizer must be one of {}", TOKENIZERS.join(", "))
        } else if !(0.1..=10.0).contains(&factor) {
            "token_factor must be between 0.1 and 10".to_owned()
        } else if output < 16 || output >= self.context_window {
            "output_tokens must be at least 16 and less than context_window".to_owned()
        } else if !prices.iter().flatten().count().is_multiple_of(3) {
            "price_input, price_cached and price_output come together".to_owned()
        } else if !prices.iter().flatten().all(|price| (0.0..1e6).contains(price)) {
            "prices must not be negative".to_owned()
        } else if !(0.0..=1.0).contains(&self.batch_factor.unwrap_or(1.0)) {
            "batch_factor must be between 0 and 1".to_owned()
        } else if self.reply_forms.is_empty() {
            "reply_forms must name at least one form".to_owned()
        } else {
            return Ok(());
        };
        Err(wrong)
    }

    fn prices(&self) -> Option<Prices> {
        Some(Prices {
            input: self.price_input?,
            cached_input: self.price_cached?,
            output: self.price_output?,
            batch_factor: self.batch_factor.unwrap_or(1.0),
        })
    }

    fn facts(&self, model: &str, name: &str) -> ModelFacts {
        let prices = self.prices();
        let unpriced = prices.is_none().then(|| format!("no price is known for `{name}`"));
        ModelFacts {
            model: model.to_owned(),
            entry: Some(name.to_owned()),
            context_window: self.context_window,
            tokenizer: self.tokenizer.clone(),
            token_factor: self.token_factor.unwrap_or(1.0),
            output_tokens: self.output_tokens.unwrap_or(ASSUMED_OUTPUT),
            prices,
            reply_forms: self.reply_forms.clone(),
            output_cap_field: self.output_cap_field,
            prompt_cache_key: self.prompt_cache_key.unwrap_or(false),
            assumptions: self.note.iter().cloned().chain(unpriced).collect(),
        }
    }
}

// === impl ModelFacts ===

impl ModelFacts {
    /// What is assumed of a model that is not known.
    fn assumed(model: &str) -> ModelFacts {
        ModelFacts {
            model: model.to_owned(),
            entry: None,
            context_window: ASSUMED_WINDOW,
            tokenizer: TOKENIZERS[0].to_owned(),
            token_factor: 1.0,
            output_tokens: ASSUMED_OUTPUT,
            prices: None,
            reply_forms: vec![ReplyForm::JsonSchema, ReplyForm::JsonObject, ReplyForm::Text],
            output_cap_field: OutputCapField::MaxTokens,
            prompt_cache_key: false,
            assumptions: vec![
                format!(
                    "`{model}` is not in models.toml: a window of {ASSUMED_WINDOW} tokens is assumed"
                ),
                format!("its tokens are counted with {}", TOKENIZERS[0]),
                "its price is not known, so no cost is given".to_owned(),
                "it is asked with a JSON Schema and capped by `max_tokens`".to_owned(),
            ],
        }
    }

    /// What counts its tokens.
    pub(crate) fn counter(&self) -> Counter {
        Counter::new(&self.tokenizer)
    }

    /// How a worker counts its tokens, and what they cost.
    pub(crate) fn tariff(&self) -> Tariff {
        Tariff {
            vocabulary: self.tokenizer.clone(),
            token_factor: self.token_factor,
            prices: self.prices,
        }
    }

    /// Tokens of `tokenizer` that a prompt may have beside an answer of `max_output_tokens`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "windows are far below 2^53, and the factor is positive"
    )]
    pub(crate) fn prompt_tokens(&self, max_output_tokens: u32) -> u64 {
        let room = self.context_window.saturating_sub(u64::from(max_output_tokens));
        (room as f64 / self.token_factor) as u64
    }
}

// === impl OutputCapField ===

impl OutputCapField {
    /// The field's name in the request.
    pub(crate) fn name(self) -> &'static str {
        match self {
            OutputCapField::MaxCompletionTokens => "max_completion_tokens",
            OutputCapField::MaxTokens => "max_tokens",
        }
    }
}

/// Whether what follows a model's name is a date (`-2024-08-06`, `-20240806`, `-0613`) or `-latest`.
fn is_version(rest: &str) -> bool {
    let Some(version) = rest.strip_prefix('-').or_else(|| rest.strip_prefix('@')) else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if version == "latest" {
        return true;
    }
    let parts: Vec<&str> = version.split('-').collect();
    match parts.as_slice() {
        [year, month, day] => {
            let lengths = (year.len(), month.len(), day.len()) == (4, 2, 2);
            lengths && parts.iter().all(|part| digits(part))
        }
        [date] => matches!(date.len(), 4 | 8) && digits(date),
        _ => false,
    }
}
