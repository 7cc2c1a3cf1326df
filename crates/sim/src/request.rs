//! A chat request as it comes in, and the errors that OpenAI's API answers it with.
//!
//! Owns the reading of the body, without unescaping the long texts in it, and the shape of errors.

use std::borrow::Cow;

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{question::split_point, reply::Form, segment::MIN_REMEMBERED};

/// A request that can be answered.
pub(crate) struct ChatRequest {
    pub(crate) model: String,
    pub(crate) messages: Vec<Message>,
    /// The cap on completion tokens.
    pub(crate) max_tokens: Option<u64>,
    pub(crate) seed: Option<i64>,
    pub(crate) form: Form,
}

/// A message, its texts still JSON-escaped.
pub(crate) struct Message {
    pub(crate) role: String,
    pub(crate) texts: Vec<Text>,
}

/// A text of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Text {
    /// What stands between its quotes, JSON-escaped.
    pub(crate) escaped: Bytes,
    /// Whether other calls are likely to bring it too: it stands before what is asked.
    pub(crate) shared: bool,
}

/// An error reply.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) code: Option<&'static str>,
    pub(crate) param: Option<&'static str>,
    pub(crate) message: String,
    pub(crate) headers: Vec<(&'static str, String)>,
}

#[derive(Deserialize)]
struct RawRequest<'a> {
    model: Option<String>,
    #[serde(borrow)]
    messages: Option<Vec<RawMessage<'a>>>,
    n: Option<u64>,
    stream: Option<bool>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    temperature: Option<f64>,
    seed: Option<i64>,
    response_format: Option<RawFormat>,
}

#[derive(Deserialize)]
struct RawMessage<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawPart<'a> {
    r#type: String,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawFormat {
    r#type: String,
    json_schema: Option<RawSchema>,
}

#[derive(Deserialize)]
struct RawSchema {
    name: String,
    schema: Option<Value>,
}

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

// === impl ChatRequest ===

impl ChatRequest {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// 400, as OpenAI's API words it.
    pub(crate) fn read(body: &Bytes) -> Result<ChatRequest, ApiError> {
        let raw: RawRequest<'_> = serde_json::from_slice(body).map_err(|error| {
            let message = format!("We could not parse the JSON body of your request: {error}");
            ApiError::bad_request(None, None, message)
        })?;
        let missing = |param: &'static str| {
            let message = format!("Missing required parameter: '{param}'.");
            ApiError::bad_request(Some(param), Some("missing_required_parameter"), message)
        };
        let invalid = |param: &'static str, message: String| {
            ApiError::bad_request(Some(param), Some("invalid_value"), message)
        };
        let unsupported = |param: &'static str, message: &str| {
            ApiError::bad_request(Some(param), Some("unsupported_value"), message.to_owned())
        };
        let model = raw.model.filter(|model| !model.is_empty());
        let model = model.ok_or_else(|| missing("model"))?;
        let messages = raw.messages.filter(|messages| !messages.is_empty());
        let messages = messages.ok_or_else(|| missing("messages"))?;
        if raw.n.unwrap_or(1) != 1 {
            let message = "Unsupported value: 'n' must be 1: the simulated judge gives one choice.";
            return Err(unsupported("n", message));
        }
        if raw.stream == Some(true) {
            let message = "Unsupported value: 'stream': the simulated judge answers at once.";
            return Err(unsupported("stream", message));
        }
        let temperature = raw.temperature.unwrap_or(1.0);
        if !(0.0..=2.0).contains(&temperature) {
            let message = format!("Invalid 'temperature': {temperature} is not from 0 to 2.");
            return Err(invalid("temperature", message));
        }
        let max_tokens = raw.max_completion_tokens.or(raw.max_tokens);
        if max_tokens == Some(0) {
            let message = "Invalid 'max_tokens': expected a value of at least 1.".to_owned();
            return Err(invalid("max_tokens", message));
        }
        let last_user = messages.iter().rposition(|message| message.role == "user");
        let messages = messages
            .iter()
            .enumerate()
            .map(|(n, message)| Message::read(body, message, last_user == Some(n)))
            .collect::<Result<Vec<Message>, ApiError>>()?;
        Ok(ChatRequest {
            model,
            messages,
            max_tokens,
            seed: raw.seed,
            form: form(raw.response_format)?,
        })
    }
}

fn form(raw: Option<RawFormat>) -> Result<Form, ApiError> {
    let Some(raw) = raw else {
        return Ok(Form::Prose);
    };
    let invalid = |message: String| {
        ApiError::bad_request(Some("response_format"), Some("invalid_value"), message)
    };
    match (raw.r#type.as_str(), raw.json_schema) {
        ("text", _) => Ok(Form::Prose),
        ("json_object", _) => Ok(Form::Object),
        ("json_schema", Some(RawSchema { name, schema })) => {
            let words = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if name.is_empty() || name.len() > 64 || !name.chars().all(words) {
                let message = "Invalid 'response_format.json_schema.name': letters, digits, _ \
                               and -, at most 64.";
                return Err(invalid(message.to_owned()));
            }
            match schema {
                Some(schema @ Value::Object(_)) => Ok(Form::Schema(schema)),
                _ => Err(invalid(
                    "Invalid schema for response_format: an object is needed.".to_owned(),
                )),
            }
        }
        ("json_schema", None) => {
            Err(invalid("Missing required parameter: 'response_format.json_schema'.".to_owned()))
        }
        (other, _) => Err(invalid(format!(
            "Invalid value: '{other}'. Supported values are: 'json_object', 'json_schema', and \
             'text'."
        ))),
    }
}

// === impl Message ===

impl Message {
    fn read(body: &Bytes, raw: &RawMessage<'_>, asks: bool) -> Result<Message, ApiError> {
        let invalid = |message: String| {
            ApiError::bad_request(Some("messages"), Some("invalid_value"), message)
        };
        if !ROLES.contains(&&*raw.role) {
            return Err(invalid(format!("Invalid value: '{}' is no role.", raw.role)));
        }
        let mut texts = Vec::new();
        let mut text =
            |raw: &RawValue, asks: bool| -> bool {
                let quoted = raw.get();
                let inner = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"'));
                let Some(inner) = inner else {
                    return false;
                };
                // What leaves share is cut from what they do not, so that it is read once also where
                // both stand in one text.
                let cut = if asks && inner.len() >= MIN_REMEMBERED {
                    split_point(inner).filter(|at| inner[..*at].ends_with("\\n"))
                } else {
                    None
                };
                let (before, own) = inner.split_at(cut.unwrap_or(0));
                let parts = [(before, true), (own, !asks)];
                texts.extend(parts.into_iter().filter(|(part, _)| !part.is_empty()).map(
                    |(part, shared)| Text { escaped: body.slice_ref(part.as_bytes()), shared },
                ));
                true
            };
        match raw.content {
            // Assistant messages that call tools have no content.
            None => {}
            Some(content) if content.get().starts_with('[') => {
                let parts: Vec<RawPart<'_>> = serde_json::from_str(content.get())
                    .map_err(|error| invalid(format!("Invalid 'messages.content': {error}")))?;
                let count = parts.len();
                for (n, part) in parts.into_iter().enumerate() {
                    let is_text = part.r#type == "text";
                    let read = part.text.is_some_and(|raw| text(raw, asks && n + 1 == count));
                    if !is_text || !read {
                        let message = "Invalid 'messages.content': the simulated judge reads \
                                       parts of type 'text' alone.";
                        return Err(invalid(message.to_owned()));
                    }
                }
            }
            Some(content) if text(content, asks) => {}
            Some(_) => {
                let message = "Invalid type for 'messages.content': expected a string or a \
                               list of parts.";
                return Err(invalid(message.to_owned()));
            }
        }
        Ok(Message { role: raw.role.clone().into_owned(), texts })
    }
}

// === impl ApiError ===

impl ApiError {
    pub(crate) fn bad_request(
        param: Option<&'static str>,
        code: Option<&'static str>,
        message: String,
    ) -> ApiError {
        ApiError {
            status: StatusCode::BAD_REQUEST,
            kind: "invalid_request_error",
            code,
            param,
            message,
            headers: Vec::new(),
        }
    }

    /// The body that says it.
    pub(crate) fn document(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }

    pub(crate) fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.document().to_string()));
        *response.status_mut() = self.status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        set_headers(&mut response, self.headers);
        response
    }
}

/// Sets headers whose values are our own words and numbers.
pub(crate) fn set_headers(response: &mut Response<Body>, headers: Vec<(&'static str, String)>) {
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            let name = HeaderName::from_static(name);
            response.headers_mut().insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<ChatRequest, ApiError> {
        ChatRequest::read(&Bytes::from(body.to_owned()))
    }

    #[test]
    fn names_the_parameter_that_is_wrong() {
        let message = r#""messages":[{"role":"user","content":"hi"}]"#;
        for (body, param) in [
            ("{".to_owned(), None),
            ("{}".to_owned(), Some("model")),
            (r#"{"model":"m"}"#.to_owned(), Some("messages")),
            (r#"{"model":"m","messages":[]}"#.to_owned(), Some("messages")),
            (format!(r#"{{"model":"m","n":2,{message}}}"#), Some("n")),
            (format!(r#"{{"model":"m","stream":true,{message}}}"#), Some("stream")),
            (format!(r#"{{"model":"m","temperature":3,{message}}}"#), Some("temperature")),
            (format!(r#"{{"model":"m","max_tokens":0,{message}}}"#), Some("max_tokens")),
            (
                format!(r#"{{"model":"m","response_format":{{"type":"xml"}},{message}}}"#),
                Some("response_format"),
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":1}]}"#.to_owned(),
                Some("messages"),
            ),
            (
                r#"{"model":"m","messages":[{"role":"judge","content":"x"}]}"#.to_owned(),
                Some("messages"),
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#
                    .to_owned(),
                Some("messages"),
            ),
        ] {
            let error = read(&body).err().expect(&body);
            assert_eq!((error.status.as_u16(), error.param), (400, param), "{body}");
        }
    }

    #[test]
    fn the_question_is_cut_from_a_long_text() {
        let long = format!("{}\\n", "x".repeat(MIN_REMEMBERED));
        let own = "<context>\\n- a\\n</context>\\n<criterion>b</criterion>";
        let body = |text: &str| {
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#)
        };
        let texts = |text: &str| {
            let mut request = read(&body(text)).expect("valid");
            request.messages.remove(0).texts
        };
        let text =
            |text: &str, shared: bool| Text { escaped: Bytes::from(text.to_owned()), shared };
        let cut = [text(&long, true), text(own, false)];
        assert_eq!(texts(&format!("{long}{own}")), cut);
        assert_eq!(texts(own), [text(own, false)]);
    }
}
