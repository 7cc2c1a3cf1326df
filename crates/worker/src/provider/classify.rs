//! An HTTP answer that is no completion, to its class.
//!
//! Owns the reading of providers' error bodies. Statuses and codes are those of OpenAI's error
//! reference and of the servers that follow it (Azure, vLLM, llama.cpp, Ollama, LiteLLM,
//! OpenRouter).

use serde_json::Value;
use tribunal_core::FailureClass;

/// Longest message kept.
const MAX_MESSAGE: usize = 400;

/// What an error body says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorBody {
    /// The message, or the body's beginning where it has none.
    pub message: String,
    /// `error.code`, else `error.type`; in lower case.
    pub code: String,
}

// === impl ErrorBody ===

impl ErrorBody {
    /// Reads a body in any of the usual shapes.
    pub fn read(body: &[u8]) -> ErrorBody {
        let text = String::from_utf8_lossy(&body[..body.len().min(64 * 1024)]);
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let error = value.get("error").unwrap_or(&value);
        let string = |value: Option<&Value>| match value {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let message = string(error.get("message"))
            .or_else(|| string(Some(error)))
            .or_else(|| string(value.get("detail")))
            .unwrap_or_else(|| text.trim().to_owned());
        let code = [error.get("code"), error.get("type")].into_iter().find_map(string);
        ErrorBody { message: shorten(&message), code: code.unwrap_or_default().to_lowercase() }
    }
}

/// The class of an answer with an error status.
pub fn class(status: u16, body: &ErrorBody) -> FailureClass {
    let message = body.message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|w| body.code.contains(w) || message.contains(w));
    let quota = ["insufficient_quota", "billing", "exceeded your current quota", "credit balance"];
    match status {
        429 if says(&quota) => FailureClass::Account,
        429 => FailureClass::Throttled,
        401 | 402 => FailureClass::Account,
        403 if says(&["content_filter", "moderation"]) => FailureClass::Refused,
        403 | 404 => FailureClass::Account,
        408 | 409 | 425 => FailureClass::Transient,
        500..=599 => FailureClass::Transient,
        _ if says(&[
            "context_length",
            "context length",
            "maximum context",
            "too many tokens",
            "context window",
            "prompt is too long",
            "exceed_context_size",
            "exceeds the available context",
        ]) =>
        {
            FailureClass::TooLong
        }
        _ if says(&["content_filter", "content_policy", "content management policy"]) => {
            FailureClass::Refused
        }
        413 => FailureClass::TooLong,
        _ => FailureClass::BadRequest,
    }
}

/// The message on one line, at most `MAX_MESSAGE` characters.
pub fn shorten(message: &str) -> String {
    let folded = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut chars = folded.chars().filter(|c| !c.is_control());
    let mut text: String = chars.by_ref().take(MAX_MESSAGE).collect();
    if chars.next().is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_table() {
        let of = |status, body: &str| class(status, &ErrorBody::read(body.as_bytes()));
        let error = |code: &str, message: &str| {
            serde_json::json!({"error": {"code": code, "message": message}}).to_string()
        };
        use FailureClass::*;
        assert_eq!(of(429, &error("rate_limit_exceeded", "slow down")), Throttled);
        assert_eq!(of(429, "plain text"), Throttled);
        assert_eq!(
            of(429, &error("insufficient_quota", "You exceeded your current quota")),
            Account
        );
        assert_eq!(of(401, &error("invalid_api_key", "Incorrect API key")), Account);
        assert_eq!(of(404, &error("model_not_found", "no such model")), Account);
        assert_eq!(of(400, &error("context_length_exceeded", "maximum context length")), TooLong);
        assert_eq!(of(400, &error("content_filter", "filtered")), Refused);
        assert_eq!(of(400, &error("invalid_value", "temperature")), BadRequest);
        assert_eq!(of(422, r#"{"detail":"wrong"}"#), BadRequest);
        for status in [408, 409, 500, 502, 503, 504, 529] {
            assert_eq!(of(status, "<html>Bad gateway</html>"), Transient, "{status}");
        }
        let html = ErrorBody::read(b"<html>\n<b>Bad\ngateway</b>");
        assert_eq!(html.message, "<html> <b>Bad gateway</b>");
        assert_eq!(ErrorBody::read(br#"{"error":"model missing"}"#).message, "model missing");
    }
}
