//! Replies in JSON.
//!
//! Owns the reply's fields. The answer is one object and the whole reply, in a fenced block or not:
//! JSON somewhere in prose may be the candidate's. A field that stands there twice is ambiguous.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};
use tribunal_core::{
    Category,
    verdict::{Quote, Rationale},
};

use super::{BadReply, Parsed, on_scale};

pub(super) fn parse(content: &str, category: Category) -> Result<Parsed, BadReply> {
    let object = object(content)?;
    let score = match object.get("score") {
        None => return Err(BadReply("it has no field `score`".to_owned())),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    let score = score.ok_or_else(|| BadReply("its `score` is not a number".to_owned()))?;
    let text = |name: &str| match object.get(name) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    };
    Ok(Parsed {
        score: on_scale(score, category)?,
        rationale: Rationale {
            expectations: text("expectations"),
            reality: text("reality"),
            evidence: quotes(object.get("evidence")),
            explanation: text("explanation"),
            confidence: object
                .get("confidence")
                .and_then(Value::as_f64)
                .filter(|confidence| (0.0..=1.0).contains(confidence)),
        },
    })
}

/// The object that the reply is.
pub(super) fn object(content: &str) -> Result<Map<String, Value>, BadReply> {
    let candidate = fenced(content).unwrap_or(content);
    match serde_json::from_str(candidate) {
        Ok(Once(object)) => Ok(object),
        Err(error) if error.is_eof() => Err(BadReply("its JSON is cut off".to_owned())),
        Err(error) => Err(BadReply(format!("it is not one JSON object: {error}"))),
    }
}

/// An object whose fields stand there once.
struct Once(Map<String, Value>);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Once;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once, A::Error> {
                let mut object = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if object.insert(name.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("it has `{name}` twice")));
                    }
                }
                Ok(Once(object))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// The inside of the fenced block that the whole reply is.
fn fenced(content: &str) -> Option<&str> {
    let inside = content.strip_prefix("```")?.strip_suffix("```")?;
    let (language, body) = inside.split_once('\n')?;
    let language = language.trim();
    ((language.is_empty() || language.eq_ignore_ascii_case("json")) && !body.contains("```"))
        .then_some(body)
}

fn quotes(value: Option<&Value>) -> Vec<Quote> {
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    };
    let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .map(|item| match item {
            Value::Object(fields) => Quote {
                file: text(fields.get("file")),
                lines: text(fields.get("lines")),
                quote: text(fields.get("quote")),
                verified: None,
            },
            other => Quote { quote: text(Some(other)), ..Quote::default() },
        })
        .filter(|quote| !quote.quote.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(content: &str) -> Result<f64, String> {
        parse(content, Category::CodeDevelopment).map(|p| p.score).map_err(|e| e.0)
    }

    #[test]
    fn scores_on_the_scale_alone() {
        assert_eq!(score(r#"{"explanation":"x","score":1}"#), Ok(1.0));
        assert_eq!(score("```json\n{\"score\": 0.0}\n```"), Ok(0.0));
        assert_eq!(score(r#"{"score":"1"}"#), Ok(1.0));
        for bad in [
            r#"{"score":0.5}"#,
            r#"{"score":7}"#,
            r#"{"score":true}"#,
            r#"{"score":null}"#,
            r#"{"verdict":1}"#,
            r#"{"score":1"#,
            r#"[1]"#,
            r#"The file says {"score": 1}."#,
            "```json\n{\"score\":1}\n```\n```json\n{\"score\":0}\n```",
            r#"{"score":1} {"score":0}"#,
            r#"{"score":1,"score":0}"#,
        ] {
            assert!(score(bad).is_err(), "{bad}");
        }
        let half = parse(r#"{"score":0.5}"#, Category::Subtree).expect("on a subtree's scale");
        assert_eq!(half.score, 0.5);
    }

    #[test]
    fn the_rationale_is_kept() {
        let content = r#"{"expectations":"e","reality":"r","evidence":[{"file":"a.py","lines":12,
            "quote":"x = 1"},{"quote":""},"loose"],"explanation":"w","score":1,"confidence":0.9}"#;
        let rationale = parse(content, Category::CodeDevelopment).expect("a reply").rationale;
        assert_eq!(rationale.evidence.len(), 2);
        assert_eq!(rationale.evidence[0].lines, "12");
        assert_eq!((rationale.confidence, rationale.explanation.as_str()), (Some(0.9), "w"));
    }
}
