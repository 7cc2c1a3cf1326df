//! Models: names, assumptions, prices, wrong entries.

use tribunal_core::Usage;

use super::*;

#[test]
fn every_price_has_a_day_in_the_comment_above() {
    let mut comment = String::new();
    let mut dated = false;
    for line in MODELS_TOML.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push_str(text);
        } else if line.starts_with('[') {
            let day = comment.split_once("Prices of ").map(|(_, rest)| &rest[..10]);
            dated = day.is_some_and(|day| is_version(&format!("-{day}")));
            comment.clear();
        } else if let Some(price) = line.strip_prefix("price_input = ") {
            assert!(dated || price == "0.0", "no day above the price {price}");
        }
    }
    assert!(dated);
}

#[test]
fn dated_names_take_the_entry_without_the_date_and_only_they() {
    let models = Models::builtin();
    let entry = |model: &str| models.get(model).entry;
    for (model, name) in [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-haiku-4-5@20251001", "claude-haiku-4-5"),
        ("gpt-4o-latest", "gpt-4o"),
        ("openai/gpt-4o-2024-08-06", "gpt-4o"),
    ] {
        assert_eq!(entry(model).as_deref(), Some(name), "{model}");
    }
    for model in ["gpt-5-nano", "gpt-4", "gpt-4o-audio-preview", "o3-pro", "", "my-gpt-4o"] {
        assert_eq!(entry(model), None, "{model}");
    }
    assert_eq!(models.get("openai/gpt-4o").assumptions.len(), 1);
}

#[test]
fn an_unknown_model_comes_with_what_was_assumed_and_no_price() {
    let facts = Models::builtin().get("my-model");
    assert_eq!(facts.context_window, 32_000);
    assert_eq!(facts.tokenizer, "o200k_base");
    assert_eq!(facts.prices, None);
    assert_eq!(facts.reply_forms[0], ReplyForm::JsonSchema);
    assert!(facts.assumptions.len() >= 3);
    assert_eq!(facts.prompt_tokens(2_000), 30_000);
}

#[test]
fn cached_tokens_cost_their_own_price() {
    let prices = Models::builtin().get("gpt-4o").prices.unwrap();
    let usage = Usage { input: 1_000_000, cached: 400_000, output: 100_000 };
    assert!((prices.cost_usd(&usage) - (1.5 + 0.5 + 1.0)).abs() < 1e-12);
    let free = Models::builtin().get("tribunal-sim").prices.unwrap();
    assert_eq!(free.cost_usd(&usage), 0.0);
}

#[test]
fn wrong_entries_are_named_by_line_and_change_nothing() {
    let good = "context_window = 9000\ntokenizer = \"qwen2\"\nreply_forms = \
                    [\"text\"]\noutput_cap_field = \"max_tokens\"\n";
    for (extra, wrong) in [
        ("price_input = 1.0\n", "come together"),
        ("batch_factor = 2.0\n", "batch_factor"),
        ("output_tokens = 9000\n", "output_tokens"),
        ("token_factor = 0.0\n", "token_factor"),
        ("price_input = -1.0\nprice_cached = 0.0\nprice_output = 0.0\n", "negative"),
        ("colour = 1\n", "unknown field"),
    ] {
        let mut models = Models::builtin();
        let text = format!("[fine]\n{good}\n[\"bad-1\"]\n{good}{extra}");
        let problems = models.overlay(Path::new("m.toml"), &text).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].message.contains(wrong), "{}", problems[0]);
        assert!(problems[0].line() >= Some(7), "{}", problems[0]);
        assert_eq!(models.get("fine").entry, None);
    }
}
