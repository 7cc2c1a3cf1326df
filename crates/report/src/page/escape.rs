//! Text of others in a page: what a reader sees is what stands there, and nothing of it acts.
//!
//! Owns the escapes for HTML and for JSON within HTML. What a terminal or a reader's eye would be
//! misled by is made visible by the collector's `sanitize`.

use serde_json::Value;
use tribunal_collector::sanitize;

/// The text as it may stand between tags and in quoted attributes. Control characters, escape
/// sequences and characters that reorder or hide text are visible, such as `\u{1b}`.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + text.len() / 8);
    for c in sanitize(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// The data with every text in it as [`escape`] would show it, for scripts that set text alone.
pub fn visible(data: Value) -> Value {
    match data {
        Value::String(text) => Value::String(sanitize(&text)),
        Value::Array(items) => items.into_iter().map(visible).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, visible(value))).collect()
        }
        other => other,
    }
}

/// JSON as it may stand in a `<script>`: no tag or comment can begin or end in it. It is the same
/// JSON still.
pub fn escape_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len() + json.len() / 16);
    for c in json.chars() {
        match c {
            // None of them stands outside a string in JSON.
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            '\u{2028}' => safe.push_str("\\u2028"),
            '\u{2029}' => safe.push_str("\\u2029"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts() {
        assert_eq!(
            escape(r#"<b a="1" c='2'>&amp;"#),
            "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;"
        );
        assert_eq!(escape("a\u{1b}[31m\u{202e}b\0"), "a\\u{1b}[31m\\u{202e}b\\u{0}");
        assert_eq!(escape("line\n\ttab é 日本"), "line\n\ttab é 日本");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({"a": "</script><!-- \u{2028} & é"});
        let safe = escape_json(&value.to_string());
        assert!(!safe.contains(['<', '>', '&', '\u{2028}']), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
