//! How numbers look in a page.
//!
//! Owns the filters of the templates. What is undefined is a dash, never a number.

use minijinja::{Environment, Value};
use tribunal_collector as text;

const NOTHING: &str = "–";

/// Makes the filters known to the templates: `score`, `percent`, `share`, `signed`, `thousands`, `usd`,
/// `duration`, `short`, `urlencoded`.
pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("score", |value: Value| number(&value, |n| format!("{n:.4}")));
    environment.add_filter("percent", |value: Value| number(&value, text::percent));
    environment
        .add_filter("share", |value: Value| number(&value, |n| format!("{:.1}%", n * 100.0)));
    environment.add_filter("signed", |value: Value| number(&value, |n| format!("{n:+.4}")));
    environment.add_filter("usd", |value: Value| number(&value, |n| format!("${n:.4}")));
    environment.add_filter("thousands", |value: Value| match value.as_i64() {
        Some(count) if count >= 0 => text::thousands(count.unsigned_abs()),
        Some(count) => format!("-{}", text::thousands(count.unsigned_abs())),
        None => NOTHING.to_owned(),
    });
    // Seconds.
    environment.add_filter("duration", |value: Value| {
        number(&value, |seconds| text::duration((seconds.max(0.0) * 1000.0) as u64))
    });
    environment.add_filter("short", |value: String| value.chars().take(12).collect::<String>());
    environment.add_filter("urlencoded", |value: String| urlencoded(&value));
}

/// The text as a part of an address's query (RFC 3986, section 2.1).
fn urlencoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn number(value: &Value, format: impl Fn(f64) -> String) -> String {
    match f64::try_from(value.clone()) {
        Ok(n) if n.is_finite() => format(n),
        _ => NOTHING.to_owned(),
    }
}
