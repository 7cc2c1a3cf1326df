//! The resolved configuration for people and scripts: every value, and where it came from.
//!
//! Owns what is shown, and that secrets are not.

use super::{
    Config,
    document::{ConfigShow, ShownValue},
    judge::Environment,
    raw::Source,
    schema::{Kind, Schema},
};

impl Config {
    /// Every resolved value with its source, without secrets.
    pub(crate) fn show(&self) -> ConfigShow {
        self.show_with(&|variable| std::env::var_os(variable))
    }

    pub(super) fn show_with(&self, environment: Environment<'_>) -> ConfigShow {
        let mut values = Vec::new();
        for section in Schema::get().sections() {
            if section.name != "judge" {
                for (key, kind) in &section.keys {
                    self.push(&mut values, &format!("{}.{key}", section.name), *kind);
                }
                continue;
            }
            for judge in self.judges.keys() {
                for (key, kind) in &section.keys {
                    self.push(&mut values, &format!("judge.{judge}.{key}"), *kind);
                }
                let states = self.key_states(judge, environment);
                for (place, (state, source)) in states.into_iter().enumerate() {
                    let of = match place {
                        0 => String::new(),
                        number => format!("endpoint {number} "),
                    };
                    values.push(ShownValue {
                        key: format!("judge.{judge}.{of}api_key"),
                        value: state.into(),
                        source: source.to_string(),
                    });
                }
            }
        }
        ConfigShow { values }
    }

    fn push(&self, values: &mut Vec<ShownValue>, key: &str, kind: Kind) {
        let shown = |key: &str, value: serde_json::Value, source: &Source| ShownValue {
            key: key.to_owned(),
            value,
            source: source.to_string(),
        };
        if kind == Kind::FreeTable {
            let before = values.len();
            for (field, entry) in self.raw.fields(key) {
                let key = format!("{key}.{field}");
                values.push(shown(&key, json(&entry.value), &entry.source));
            }
            if values.len() == before {
                values.push(shown(key, serde_json::json!({}), &Source::Default));
            }
            return;
        }
        values.push(match self.raw.get(key) {
            None => shown(key, serde_json::Value::Null, &Source::Default),
            Some(entry) if key == "store.url" => {
                shown(key, self.store.shown_url().into(), &entry.source)
            }
            Some(entry) => shown(key, json(&entry.value), &entry.source),
        });
    }
}

/// The values as text: TOML, but for the lines of secrets, with the source behind each.
pub(crate) fn render(document: &ConfigShow) -> String {
    let mut text = String::new();
    let mut section = String::new();
    for ShownValue { key, value, source } in &document.values {
        let (table, key) = split(key);
        if table != section {
            if !section.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("[{table}]\n"));
            section = table.to_owned();
        }
        let line = match value {
            _ if key.ends_with("api_key") => {
                let state = value.as_str().unwrap_or_default();
                match source.as_str() {
                    "default" => format!("# {key} = {state}"),
                    variable => format!("# {key} = {state} (from {variable})"),
                }
            }
            serde_json::Value::Null => format!("# {key} is not set"),
            value => format!("{:<44} # {source}", format!("{key} = {}", toml_text(value))),
        };
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The table and the key below it: `judge.NAME` is a table.
fn split(key: &str) -> (&str, &str) {
    let dots = if key.starts_with("judge.") { 2 } else { 1 };
    match key.match_indices('.').nth(dots - 1) {
        Some((at, _)) => (&key[..at], &key[at + 1..]),
        None => ("", key),
    }
}

fn json(value: &toml::Value) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn toml_text(value: &serde_json::Value) -> String {
    match toml::Value::try_from(value) {
        Ok(value) => value.to_string(),
        Err(_) => value.to_string(),
    }
}
