//! What to write into the config about a judge that was tried.
//!
//! Owns the TOML snippet: an entry for `models.toml` and a judge for `tribunal.toml`. It never holds
//! a key.

use std::collections::BTreeMap;

use serde::Serialize;
use tribunal_core::{JudgeSpec, ReplyForm};
use tribunal_worker::provider::LimitHeaders;

use crate::config::{judge::ADHOC, models::ModelFacts};

/// An entry of `models.toml`.
#[derive(Serialize)]
struct Entry<'a> {
    context_window: u64,
    tokenizer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_factor: Option<f64>,
    output_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    price_input: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price_cached: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price_output: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_factor: Option<f64>,
    reply_forms: Vec<&'static str>,
    output_cap_field: &'a str,
}

/// A `[judge.NAME]`.
#[derive(Serialize)]
struct Judge<'a> {
    base_url: &'a str,
    model: &'a str,
}

/// The snippet for a judge of which these forms work, the best first; empty where none does.
///
/// # Errors
///
/// Never in practice: strings and numbers have a form in TOML.
pub(super) fn suggestion(
    judge: &JudgeSpec,
    facts: &ModelFacts,
    working: &[ReplyForm],
    limits: Option<&LimitHeaders>,
) -> Result<String, toml::ser::Error> {
    if working.is_empty() {
        return Ok(String::new());
    }
    let prices = facts.prices;
    let entry = Entry {
        context_window: facts.context_window,
        tokenizer: &facts.tokenizer,
        token_factor: Some(facts.token_factor).filter(|factor| *factor != 1.0),
        output_tokens: facts.output_tokens,
        price_input: prices.map(|prices| prices.input),
        price_cached: prices.map(|prices| prices.cached_input),
        price_output: prices.map(|prices| prices.output),
        batch_factor: prices.map(|prices| prices.batch_factor).filter(|factor| *factor != 1.0),
        reply_forms: working.iter().map(|form| form.name()).collect(),
        output_cap_field: &judge.output_cap_field,
    };
    let known =
        facts.reply_forms == working && facts.output_cap_field.name() == judge.output_cap_field;
    let mut text = "# For the file that `[run] models` names".to_owned();
    text.push_str(match (&facts.entry, known) {
        (Some(_), true) => "; Tribunal knows the model so already.\n",
        (Some(_), false) => ".\n",
        (None, _) => {
            ". Window, tokenizer and cap are assumed: put in the model's own, and its\n# prices \
             (price_input, price_cached, price_output, in USD for a million tokens).\n"
        }
    });
    text.push_str(&toml::to_string(&BTreeMap::from([(judge.model.as_str(), entry)]))?);
    text.push_str("\n# For tribunal.toml.\n");
    let table = Judge { base_url: &judge.base_url, model: &judge.model };
    let table = BTreeMap::from([(name(judge), table)]);
    text.push_str(&toml::to_string(&BTreeMap::from([("judge", table)]))?);
    let limit = limits.and_then(|limits| limits.requests).and_then(|requests| requests.limit);
    if let Some(limit) = limit {
        text.push_str(&format!(
            "# The endpoint states a limit of {limit} requests. If that is for a minute:\n\
             #requests_per_minute = {limit}\n"
        ));
    }
    Ok(text)
}

/// The judge's name in the config, or one made of its model's.
fn name(judge: &JudgeSpec) -> String {
    if judge.name != ADHOC {
        return judge.name.clone();
    }
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    judge.model.chars().map(allowed).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tribunal_worker::provider::LimitWindow;

    use super::*;
    use crate::config::{Config, models::Models};

    fn suggest(model: &str, working: &[ReplyForm], limits: Option<&LimitHeaders>) -> String {
        let config = Config::load(None, &[]).expect("the defaults are valid");
        let judge = config.adhoc_judge("http://127.0.0.1:1/v1", model).expect("a judge");
        suggestion(&judge.spec, &judge.facts, working, limits).expect("TOML")
    }

    #[test]
    fn the_snippet_is_what_the_config_reads() {
        let requests = LimitWindow { limit: Some(500), ..LimitWindow::default() };
        let limits = LimitHeaders { requests: Some(requests), ..LimitHeaders::default() };
        for model in ["org/model: \"7b\"", "gpt-4o-2024-08-06", "claude-haiku-4-5"] {
            let text = suggest(model, &[ReplyForm::Text, ReplyForm::JsonObject], Some(&limits));
            let mut table: toml::Table = text.parse().expect("TOML");
            let judges = table.remove("judge").expect("a judge");
            let (name, judge) = judges.as_table().and_then(|t| t.iter().next()).expect("one");
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)), "{name}");
            assert_eq!(judge["model"].as_str(), Some(model));
            let mut models = Models::builtin();
            let before = models.get(model);
            let entry = toml::to_string(&table).expect("TOML");
            models.overlay(Path::new("models.toml"), &entry).expect("an entry");
            let after = models.get(model);
            assert_eq!(after.reply_forms, [ReplyForm::Text, ReplyForm::JsonObject]);
            assert_eq!(after.prices, before.prices);
            assert_eq!(after.context_window, before.context_window);
            assert_eq!(after.token_factor, before.token_factor);
            assert!(text.contains("#requests_per_minute = 500"), "{text}");
        }
        assert_eq!(suggest("m", &[], None), "");
    }

    #[test]
    fn what_is_known_says_so() {
        let all = [ReplyForm::JsonSchema, ReplyForm::JsonObject, ReplyForm::Text];
        assert!(suggest("gpt-4o", &all, None).contains("knows the model so already"));
        assert!(!suggest("gpt-4o", &all[1..], None).contains("already"));
        assert!(suggest("unheard-of", &all, None).contains("are assumed"));
    }
}
