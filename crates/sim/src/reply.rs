//! What the simulated judge says, in the form that was asked for.
//!
//! Owns the answer's words, its forms and the body around them. It decides nothing.

use serde_json::{Map, Value, json};

use crate::{
    segment::{count_tokens, cut_tokens},
    verdict::{Basis, Decision},
};

/// The name under which everything here introduces itself.
pub(crate) const SIMULATED: &str = "tribunal-sim";

/// How the answer is to be given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Form {
    /// An object with the properties of this JSON Schema.
    Schema(Value),
    /// An object with every field that is known.
    Object,
    /// Sections, the last of them the score.
    Prose,
}

/// A choice of the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) content: Option<String>,
    pub(crate) refusal: Option<String>,
    pub(crate) finish_reason: &'static str,
    /// Completion tokens.
    pub(crate) tokens: u64,
}

/// Tokens of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) prompt: u64,
    pub(crate) cached: u64,
    pub(crate) completion: u64,
}

/// Deepest schema that is followed: one that refers to itself has no end.
const MAX_SCHEMA_DEPTH: usize = 16;

// === impl Form ===

impl Form {
    /// The decision in this form.
    pub(crate) fn render(&self, decision: &Decision) -> String {
        let known = fields(decision);
        match self {
            Form::Schema(schema) => {
                let all = Value::Object(known);
                let fitted = fit(schema, schema, Some(&all), 0);
                fitted.to_string()
            }
            Form::Object => Value::Object(known).to_string(),
            Form::Prose => prose(&known),
        }
    }

    /// The files in this form.
    pub(crate) fn render_files(&self, files: &[String]) -> String {
        let known = json!({"files": files});
        match self {
            Form::Schema(schema) => fit(schema, schema, Some(&known), 0).to_string(),
            Form::Object => known.to_string(),
            Form::Prose => files.join("\n"),
        }
    }

    /// Whether the answer is JSON.
    pub(crate) fn is_json(&self) -> bool {
        *self != Form::Prose
    }
}

fn fields(decision: &Decision) -> Map<String, Value> {
    let met = decision.score >= 0.5;
    let percent = (decision.coverage * 100.0).round();
    let reality = match decision.quotes.as_slice() {
        [] => "None of the shown lines matches the criterion's terms.".to_owned(),
        [best, ..] => format!(
            "{percent} % of the criterion's terms stand in what was shown; closest is line {} of {}.",
            best.line, best.file
        ),
    };
    let basis = match decision.basis {
        Basis::Label => "the score is drawn around a human's grade",
        Basis::Obeyed => "the score is what text of the submission asks for",
        Basis::Terms => "the score depends on the criterion's terms alone",
        Basis::Unlabelled => {
            "no human grade belongs to this criterion; the score depends on its terms alone"
        }
    };
    let evidence: Vec<Value> = decision
        .quotes
        .iter()
        .map(|quote| {
            json!({"file": quote.file, "lines": quote.line.to_string(), "quote": quote.text})
        })
        .collect();
    let explanation = format!(
        "[simulated] The criterion is {} met. No model was asked: {basis}.",
        if met { "taken as" } else { "not taken as" }
    );
    let mut known = Map::new();
    let expectations = "The criterion's terms stand in the evidence for its category.";
    known.insert("expectations".to_owned(), expectations.into());
    known.insert("reality".to_owned(), reality.into());
    known.insert("evidence".to_owned(), evidence.into());
    known.insert("score".to_owned(), number(decision.score));
    known.insert("explanation".to_owned(), explanation.into());
    known.insert("confidence".to_owned(), decision.confidence.into());
    known
}

/// A number without a fraction where it has none, as a model writes it.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 { Value::from(value as i64) } else { Value::from(value) }
}

fn prose(known: &Map<String, Value>) -> String {
    let text = |name: &str| {
        known.get(name).map_or(String::new(), |value| match value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        })
    };
    let evidence: String = known
        .get("evidence")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|item| {
            let part = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
            format!("- {}:{}: `{}`\n", part("file"), part("lines"), part("quote"))
        })
        .collect();
    let evidence = if evidence.is_empty() { "None.\n".to_owned() } else { evidence };
    format!(
        "# Expectations\n{}\n\n# Reality\n{}\n\n# Evidence\n{evidence}\n# Explanation\n{}\n\n# Score\n{}",
        text("expectations"),
        text("reality"),
        text("explanation"),
        text("score"),
    )
}

/// `known` in the shape of `schema`: properties it does not name are left out, required ones that
/// are not known are filled by type, and a value of another type is converted where it can be.
fn fit(root: &Value, schema: &Value, known: Option<&Value>, depth: usize) -> Value {
    if depth > MAX_SCHEMA_DEPTH {
        return Value::Null;
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let target = target.strip_prefix('#').and_then(|path| root.pointer(path));
        return target.map_or(Value::Null, |target| fit(root, target, known, depth + 1));
    }
    for name in ["anyOf", "oneOf", "allOf"] {
        let options = schema.get(name).and_then(Value::as_array);
        let not_null = |option: &&Value| option.get("type").is_none_or(|t| t != "null");
        if let Some(option) = options.and_then(|o| o.iter().find(not_null).or(o.first())) {
            return fit(root, option, known, depth + 1);
        }
    }
    if let Some(constant) = schema.get("const") {
        return constant.clone();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let plain = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
        let same = |value: &&Value| known.is_some_and(|known| plain(known) == plain(value));
        let found = values.iter().find(same).or(values.first());
        return found.cloned().unwrap_or(Value::Null);
    }
    let named = match schema.get("type") {
        Some(Value::Array(types)) => types.iter().find(|name| *name != "null"),
        other => other,
    };
    let inferred = if schema.get("properties").is_some() { "object" } else { "" };
    let as_text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
    let as_number = |value: &Value| value.as_f64().or(as_text(value).parse::<f64>().ok());
    match named.and_then(Value::as_str).unwrap_or(inferred) {
        "object" => object(root, schema, known, depth),
        "array" => {
            let items = schema.get("items").unwrap_or(&Value::Bool(true));
            let one = known.filter(|value| !value.is_array());
            let values = known.and_then(Value::as_array).into_iter().flatten().chain(one);
            values.map(|value| fit(root, items, Some(value), depth + 1)).collect()
        }
        "string" => known.map_or(String::new(), as_text).into(),
        "integer" => {
            let value = known.and_then(as_number).unwrap_or(0.0);
            Value::from(value.round() as i64)
        }
        "number" => number(known.and_then(as_number).unwrap_or(0.0)),
        "boolean" => known.and_then(as_number).is_some_and(|value| value >= 0.5).into(),
        "null" => Value::Null,
        _ => known.cloned().unwrap_or(Value::Null),
    }
}

fn object(root: &Value, schema: &Value, known: Option<&Value>, depth: usize) -> Value {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|r| r == name));
    let mut fitted = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let value = known.and_then(|known| known.get(name));
        if value.is_some() || is_required(name) {
            fitted.insert(name.clone(), fit(root, property, value, depth + 1));
        }
    }
    Value::Object(fitted)
}

// === impl Choice ===

impl Choice {
    /// An answer of at most `max_tokens` tokens; what is longer is cut off.
    pub(crate) fn of(content: String, max_tokens: Option<u64>) -> Choice {
        let tokens = count_tokens(&content);
        let cut = max_tokens.filter(|max| *max < tokens);
        Choice {
            content: Some(cut.map_or_else(|| content.clone(), |max| cut_tokens(&content, max))),
            refusal: None,
            finish_reason: if cut.is_some() { "length" } else { "stop" },
            tokens: cut.unwrap_or(tokens),
        }
    }

    /// The body of a reply.
    pub(crate) fn body(&self, id: &str, created: u64, model: &str, tokens: Tokens) -> String {
        json!({
            "id": id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [{
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": self.content,
                    "refusal": self.refusal,
                    "annotations": [],
                },
                "logprobs": null,
                "finish_reason": self.finish_reason,
            }],
            "usage": {
                "prompt_tokens": tokens.prompt,
                "completion_tokens": tokens.completion,
                "total_tokens": tokens.prompt + tokens.completion,
                "prompt_tokens_details": {"cached_tokens": tokens.cached, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 0,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            },
            "service_tier": "default",
            "system_fingerprint": SIMULATED,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::lexical::Quote;

    fn decision() -> Decision {
        Decision {
            score: 1.0,
            confidence: 0.8,
            quotes: vec![Quote { file: "a.py".to_owned(), line: 7, text: "x = \"1\"".to_owned() }],
            coverage: 0.75,
            basis: Basis::Terms,
        }
    }

    #[test]
    fn fits_any_schema() {
        let schema = json!({
            "$defs": {"item": {"type": "object", "properties": {
                "lines": {"type": "array", "items": {"type": "integer"}}, "file": {"type": "string"}}}},
            "type": "object",
            "properties": {
                "score": {"type": "string", "enum": ["0", "1"]},
                "evidence": {"type": "array", "items": {"$ref": "#/$defs/item"}},
                "confidence": {"type": ["number", "null"]},
                "verdict": {"type": "boolean"},
                "rank": {"type": "array", "items": {"type": "string"}},
                "optional": {"type": "string"},
            },
            "required": ["score", "evidence", "verdict", "rank"],
        });
        let text = Form::Schema(schema).render(&decision());
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let expected = json!({
            "score": "1", "evidence": [{"lines": [7], "file": "a.py"}], "confidence": 0.8,
            "verdict": false, "rank": [],
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_schema_without_end_ends() {
        let schema =
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]});
        assert!(Form::Schema(schema).render(&decision()).starts_with("{\"a\":"));
        let schema = json!({"$ref": "#"});
        assert_eq!(Form::Schema(schema).render(&decision()), "null");
    }

    #[test]
    fn prose_ends_in_its_score() {
        let text = Form::Prose.render(&decision());
        assert!(text.ends_with("\n# Score\n1"), "{text}");
        assert!(text.contains("\n# Explanation\n[simulated] "), "{text}");
        assert!(text.contains("- a.py:7: `x = \"1\"`"), "{text}");
    }

    #[test]
    fn a_cap_cuts_and_says_so() {
        let text = Form::Object.render(&decision());
        let whole = Choice::of(text.clone(), None);
        assert_eq!((whole.content.as_deref(), whole.finish_reason), (Some(&*text), "stop"));
        assert_eq!(Choice::of(text.clone(), Some(whole.tokens)), whole);
        let cut = Choice::of(text.clone(), Some(10));
        assert_eq!((cut.finish_reason, cut.tokens), ("length", 10));
        let content = cut.content.expect("some");
        assert!(text.starts_with(&content) && content.len() < text.len());
    }
}
