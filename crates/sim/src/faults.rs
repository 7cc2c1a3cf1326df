//! Faults: which call goes wrong, and how.
//!
//! Owns the choice and the words of each fault. Throttling is no fault: [`crate::limit`].

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, StatusCode, header},
};
use futures_util::{StreamExt as _, stream};

use crate::{
    chance,
    config::SimConfig,
    reply::{Choice, Form},
    request::ApiError,
    segment::{count_tokens, cut_tokens},
};

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 500, or 502 or 503 in plain text.
    Error,
    /// Never answered.
    Timeout,
    /// Answered with something that is no verdict.
    Malformed,
    /// Refused, or filtered.
    Refusal,
    /// The connection closes in mid-body.
    Reset,
    /// The answer stops in mid-body.
    Stall,
}

/// The ways of a malformed answer, taken in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Malformed {
    NotJson,
    WrongSchema,
    OffScale,
    Truncated,
    Empty,
}

// === impl Fault ===

impl Fault {
    /// The fault of the call with this 0-based ordinal, if any.
    pub(crate) fn draw(config: &SimConfig, ordinal: u64) -> Option<Fault> {
        let drawn = chance::uniform(config.seed, "fault", &[&ordinal.to_le_bytes()]);
        let mut below = 0.0;
        [
            (Fault::Error, config.error_rate),
            (Fault::Timeout, config.timeout_rate),
            (Fault::Malformed, config.malformed_rate),
            (Fault::Refusal, config.refusal_rate),
            (Fault::Reset, config.reset_rate),
            (Fault::Stall, config.stall_rate),
        ]
        .into_iter()
        .find_map(|(fault, rate)| {
            below += rate;
            (drawn < below).then_some(fault)
        })
    }
}

/// A server error: half of them OpenAI's own, half a proxy's.
pub(crate) fn server_error(seed: u64, ordinal: u64) -> Response<Body> {
    let drawn = chance::uniform(seed, "error", &[&ordinal.to_le_bytes()]);
    if drawn < 0.5 {
        let message = "[simulated] The server had an error while processing your request.";
        return ApiError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            kind: "server_error",
            code: None,
            param: None,
            message: message.to_owned(),
            headers: Vec::new(),
        }
        .response();
    }
    let (status, text) = if drawn < 0.75 {
        (StatusCode::BAD_GATEWAY, "[simulated] Bad Gateway\n")
    } else {
        let text = "[simulated] upstream connect error or disconnect/reset before headers\n";
        (StatusCode::SERVICE_UNAVAILABLE, text)
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// The `count`th malformed answer instead of `content`.
pub(crate) fn malformed(count: u64, form: &Form, content: String, cap: Option<u64>) -> Choice {
    const KINDS: [Malformed; 5] = [
        Malformed::NotJson,
        Malformed::WrongSchema,
        Malformed::OffScale,
        Malformed::Truncated,
        Malformed::Empty,
    ];
    let kind = KINDS[(count % KINDS.len() as u64) as usize];
    let json = form.is_json();
    let text = match kind {
        Malformed::NotJson if json => "[simulated] I looked at it {and} it seems fine.",
        Malformed::NotJson => "[simulated] I looked at it and it seems fine.",
        Malformed::WrongSchema if json => r#"{"verdict":"[simulated] yes","points":[1,2]}"#,
        Malformed::WrongSchema => "# Verdict\n[simulated] yes, both points",
        Malformed::OffScale if json => {
            r#"{"expectations":"","reality":"","evidence":[],"score":7,"explanation":"[simulated] seven","confidence":0.9}"#
        }
        Malformed::OffScale => "# Explanation\n[simulated] seven\n\n# Score\n7",
        Malformed::Truncated => {
            let half = count_tokens(&content).div_ceil(2);
            let half = cap.map_or(half, |cap| cap.min(half));
            return Choice {
                content: Some(cut_tokens(&content, half)),
                refusal: None,
                finish_reason: "length",
                tokens: half,
            };
        }
        Malformed::Empty => "",
    };
    Choice::of(text.to_owned(), cap)
}

/// Whether the answer to the question for files with this ordinal cannot be used.
pub(crate) fn spoils_ranking(config: &SimConfig, ordinal: u64) -> bool {
    let drawn = chance::uniform(config.seed, "ranking", &[&ordinal.to_le_bytes()]);
    drawn < config.unusable_ranking_rate
}

/// The `count`th ranking that cannot be used: names that there are not, none, a verdict, or words.
pub(crate) fn unusable_ranking(count: u64, form: &Form, cap: Option<u64>) -> Choice {
    let names = ["simulated/no_such_file.py".to_owned(), "simulated/nor_this.py".to_owned()];
    let text = match count % 4 {
        0 => form.render_files(&names),
        1 => form.render_files(&[]),
        2 if form.is_json() => r#"{"score":1,"explanation":"[simulated] no files"}"#.to_owned(),
        2 => "# Score\n1".to_owned(),
        _ => "[simulated] I would look at the main file.".to_owned(),
    };
    Choice::of(text, cap)
}

/// The `count`th refusal: the model's own words, or the provider's filter.
pub(crate) fn refusal(count: u64) -> Choice {
    if count.is_multiple_of(2) {
        let words = "[simulated] I'm sorry, but I can't help with that.";
        Choice {
            content: None,
            refusal: Some(words.to_owned()),
            finish_reason: "stop",
            tokens: count_tokens(words),
        }
    } else {
        Choice { content: None, refusal: None, finish_reason: "content_filter", tokens: 0 }
    }
}

/// A body that breaks off in the middle; the length before it is the whole one's.
pub(crate) fn reset(body: String) -> Response<Body> {
    half_of(body, async {
        // Lets the first half out before the connection closes.
        tokio::task::yield_now().await;
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    })
}

/// A body that stops in the middle, and a connection that stays open.
pub(crate) fn stall(body: String) -> Response<Body> {
    half_of(body, std::future::pending())
}

/// Half a body and what comes then.
fn half_of(
    body: String,
    broken: impl Future<Output = std::io::Result<Bytes>> + Send + 'static,
) -> Response<Body> {
    let length = HeaderValue::from(body.len());
    let mut bytes = Bytes::from(body);
    bytes.truncate(bytes.len() / 2);
    let half = stream::iter([Ok(bytes)]).chain(stream::once(broken));
    let mut response = Response::new(Body::from_stream(half));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_at_their_rates_and_in_their_order() {
        let config = SimConfig {
            error_rate: 0.1,
            timeout_rate: 0.05,
            malformed_rate: 0.2,
            refusal_rate: 0.0,
            reset_rate: 0.15,
            seed: 3,
            ..SimConfig::default()
        };
        let faults: Vec<Option<Fault>> = (0..10_000).map(|n| Fault::draw(&config, n)).collect();
        let share = |fault| faults.iter().filter(|f| **f == fault).count() as f64 / 10_000.0;
        // Five standard errors of the largest rate are 0.025.
        for (fault, rate) in [
            (Some(Fault::Error), 0.1),
            (Some(Fault::Timeout), 0.05),
            (Some(Fault::Malformed), 0.2),
            (Some(Fault::Reset), 0.15),
            (None, 0.5),
        ] {
            assert!((share(fault) - rate).abs() < 0.025, "{fault:?}");
        }
        assert_eq!(share(Some(Fault::Refusal)), 0.0);
        let again: Vec<Option<Fault>> = (0..10_000).map(|n| Fault::draw(&config, n)).collect();
        assert_eq!(faults, again);
    }
}
