//! The body of a chat completion, spliced from a shared part and a leaf's own.
//!
//! Owns the request's JSON and its layout: model and shared messages first, so that they are the
//! same bytes for every leaf, serialised once; then the leaf's messages, then the parameters, which
//! all calls of a kind share.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use serde::Serialize;
use serde_json::{Value, json};
use tribunal_core::{JudgeSpec, ReplyForm};

use super::super::{Answer, Message, Question};

/// A body in parts, of known length, sent without being copied together.
#[derive(Clone, Debug)]
pub(super) struct SplicedBody(VecDeque<Bytes>);

/// The request up to the leaf's own messages.
pub(super) fn prefix(judge: &JudgeSpec, shared: &[Message<'_>]) -> Bytes {
    let mut text = b"{\"model\":".to_vec();
    append(&mut text, &judge.model);
    text.extend_from_slice(b",\"messages\":[");
    for (i, message) in shared.iter().enumerate() {
        if i > 0 {
            text.push(b',');
        }
        append(&mut text, message);
    }
    text.into()
}

/// The request behind the messages and the prefix's key.
pub(super) fn parameters(
    judge: &JudgeSpec,
    form: ReplyForm,
    answer: Answer,
    reply: &BTreeMap<String, String>,
) -> Bytes {
    let mut text = Vec::new();
    let mut field = |name: &str, value: &Value| self::field(&mut text, name, value);
    if let Some(format) = response_format(form, answer, reply) {
        field("response_format", &format);
    }
    field(&judge.output_cap_field, &judge.max_output_tokens.into());
    if let Some(temperature) = judge.temperature {
        field("temperature", &temperature.into());
    }
    if let Some(effort) = &judge.reasoning_effort {
        field("reasoning_effort", &effort.as_str().into());
    }
    for (name, value) in &judge.extra_body {
        field(name, value);
    }
    text.push(b'}');
    text.into()
}

/// The whole body of a question, with its prefix's key where the endpoint takes one.
pub(super) fn body(question: &Question<'_>, takes_cache_key: bool) -> SplicedBody {
    let Question { prefix, messages, parameters, cache_key, .. } = question;
    let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
    // Line ends and quotation marks are escaped; whatever is over makes it grow once.
    let mut own = Vec::with_capacity(bytes + bytes / 8 + 256);
    for message in messages {
        own.push(b',');
        append(&mut own, message);
    }
    own.push(b']');
    if let Some(key) = cache_key.filter(|_| takes_cache_key) {
        field(&mut own, "prompt_cache_key", key);
    }
    SplicedBody([prefix.clone(), own.into(), parameters.clone()].into())
}

fn field(text: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) {
    text.push(b',');
    append(text, name);
    text.push(b':');
    append(text, value);
}

fn append(text: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Strings, numbers and JSON values into memory: nothing of it can fail.
    let _ = serde_json::to_writer(text, value);
}

// === impl SplicedBody ===

impl SplicedBody {
    /// The body that these parts are.
    pub(super) fn of(parts: Vec<Bytes>) -> Self {
        Self(parts.into())
    }

    /// Its parts, in order.
    pub(super) fn into_parts(self) -> impl Iterator<Item = Bytes> {
        self.0.into_iter()
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|part| part.len() as u64).sum()
    }
}

impl Body for SplicedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes())
    }
}

/// The `response_format` of a reply form, as OpenAI's API has it.
fn response_format(
    form: ReplyForm,
    answer: Answer,
    reply: &BTreeMap<String, String>,
) -> Option<Value> {
    match form {
        ReplyForm::Text => None,
        ReplyForm::JsonObject => Some(json!({"type": "json_object"})),
        ReplyForm::JsonSchema => {
            let (name, schema) = match answer {
                Answer::Verdict { fractional } => ("verdict", verdict(fractional, reply)),
                Answer::Ranking => ("ranking", ranking()),
            };
            Some(json!({
                "type": "json_schema",
                "json_schema": {"name": name, "strict": true, "schema": schema},
            }))
        }
    }
}

/// The schema of a verdict; what each field holds is said in the prompt set's words.
fn verdict(fractional: bool, reply: &BTreeMap<String, String>) -> Value {
    let described = |name: &str, mut field: Value| {
        if let Some(holds) = reply.get(name) {
            field["description"] = holds.as_str().into();
        }
        field
    };
    let text = |name: &str| described(name, json!({"type": "string"}));
    let string = || json!({"type": "string"});
    let score = if fractional {
        json!({"type": "number", "minimum": 0, "maximum": 1})
    } else {
        json!({"type": "integer", "enum": [0, 1]})
    };
    let quotes = json!({
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": false,
            "required": ["file", "lines", "quote"],
            "properties": {"file": string(), "lines": string(), "quote": string()},
        },
    });
    let confidence = json!({"type": "number", "minimum": 0, "maximum": 1});
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["expectations", "reality", "evidence", "explanation", "score", "confidence"],
        "properties": {
            "expectations": text("expectations"),
            "reality": text("reality"),
            "evidence": described("evidence", quotes),
            "explanation": text("explanation"),
            "score": score,
            "confidence": described("confidence", confidence),
        },
    })
}

/// The schema of a ranking of files.
fn ranking() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["files"],
        "properties": {"files": {"type": "array", "items": {"type": "string"}}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_one_request() {
        let judge = JudgeSpec {
            name: "judge".to_owned(),
            base_url: "http://127.0.0.1/v1".to_owned(),
            model: "a \"model\"".to_owned(),
            reply_form: ReplyForm::JsonSchema,
            fallback_forms: Vec::new(),
            max_output_tokens: 100,
            output_cap_field: "max_tokens".to_owned(),
            temperature: Some(0.5),
            reasoning_effort: None,
            extra_body: BTreeMap::from([("seed".to_owned(), json!(7))]),
        };
        let message = |role, content| Message { role, content };
        let shared = [message("system", "grade\n"), message("user", "<paper>")];
        let reply = BTreeMap::from([("reality".to_owned(), "what is there".to_owned())]);
        let answer = Answer::Verdict { fractional: false };
        let question = Question {
            judge: &judge,
            prefix: prefix(&judge, &shared),
            messages: vec![message("user", "criterion")],
            parameters: parameters(&judge, ReplyForm::JsonSchema, answer, &reply),
            cache_key: Some("key"),
        };
        assert_eq!(body(&question, false).size_hint().exact().map(|bytes| bytes + 25), {
            body(&question, true).size_hint().exact()
        });
        let body = body(&question, true);
        let length = body.size_hint().exact();
        let bytes: Vec<u8> = body.0.iter().flatten().copied().collect();
        assert_eq!(length, Some(bytes.len() as u64));
        let value: Value = serde_json::from_slice(&bytes).expect("one JSON document");
        assert_eq!(value["model"], "a \"model\"");
        assert_eq!(value["messages"].as_array().map(Vec::len), Some(3));
        assert_eq!(value["messages"][2], json!({"role": "user", "content": "criterion"}));
        assert_eq!(
            (&value["max_tokens"], &value["prompt_cache_key"]),
            (&json!(100), &json!("key"))
        );
        assert_eq!((&value["temperature"], &value["seed"]), (&json!(0.5), &json!(7)));
        let schema = &value["response_format"]["json_schema"];
        let properties = &schema["schema"]["properties"];
        assert_eq!(properties["score"]["enum"], json!([0, 1]));
        assert_eq!(properties["reality"]["description"], "what is there");
        assert!(properties["expectations"].get("description").is_none());
        let ranking = response_format(ReplyForm::JsonSchema, Answer::Ranking, &reply);
        let ranking = ranking.expect("a schema");
        let files = &ranking["json_schema"]["schema"]["properties"]["files"];
        assert_eq!(files["items"]["type"], "string");
    }
}
