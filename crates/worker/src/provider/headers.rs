//! What a provider's response headers say.
//!
//! Owns `Retry-After` (RFC 9110, section 10.2.3: seconds or an HTTP date), `retry-after-ms`, the
//! request id, and the account's limits under the names that OpenAI and the servers like it use
//! (`x-ratelimit-*-requests`), Anthropic (`anthropic-ratelimit-requests-*`) and OpenRouter
//! (`x-ratelimit-*`, of requests).

use std::time::Duration;

use http::HeaderMap;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};

use super::{LimitHeaders, LimitWindow};

/// How long the provider asks to wait, from `now`.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let milliseconds = text("retry-after-ms").and_then(|ms| ms.parse::<f64>().ok());
    if let Some(ms) = milliseconds.filter(|ms| ms.is_finite() && *ms >= 0.0) {
        return Some(Duration::from_secs_f64((ms / 1000.0).min(MAX_SECONDS)));
    }
    let value = text("retry-after")?;
    if let Ok(seconds) = value.parse::<f64>() {
        let valid = seconds.is_finite() && seconds >= 0.0;
        return valid.then(|| Duration::from_secs_f64(seconds.min(MAX_SECONDS)));
    }
    let date = DateTimeParser::new().parse_timestamp(value).ok()?;
    let wait = date.duration_since(now);
    Some(Duration::try_from(wait).unwrap_or(Duration::ZERO))
}

/// A day: nothing asks for more in earnest, and the caller has its own cap.
const MAX_SECONDS: f64 = 86_400.0;

/// The provider's id of the request, under any of its usual names.
pub fn request_id(headers: &HeaderMap) -> Option<String> {
    ["x-request-id", "request-id", "apim-request-id", "cf-ray"].iter().find_map(|name| {
        let value = headers.get(*name)?.to_str().ok()?;
        Some(value.chars().take(100).collect())
    })
}

/// Whether the answer says that it is simulated.
pub fn simulated(headers: &HeaderMap) -> bool {
    headers.get("x-tribunal-simulated").is_some_and(|value| value == "true")
}

/// The account's limits, as the headers of an answer that came at `now` state them; `None` where
/// they state none.
pub fn limits(headers: &HeaderMap, now: Timestamp) -> Option<LimitHeaders> {
    // Each name that is looked up is parsed, and most servers of one's own state none.
    if !headers.keys().any(|name| name.as_str().contains("-ratelimit-")) {
        return None;
    }
    let window = |names: &[[&str; 3]]| names.iter().find_map(|names| window(headers, names, now));
    let limits = LimitHeaders {
        requests: window(&REQUESTS),
        tokens: window(&TOKENS),
        input_tokens: window(&INPUT_TOKENS),
        output_tokens: window(&OUTPUT_TOKENS),
    };
    (limits != LimitHeaders::default()).then_some(limits)
}

/// Headers of a limit of requests: limit, remaining, reset; the first family that is there counts.
const REQUESTS: [[&str; 3]; 3] = [
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
    [
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ],
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"],
];

/// Headers of a limit of tokens.
const TOKENS: [[&str; 3]; 2] = [
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
    [
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ],
];

/// Headers of a limit of tokens of prompts.
const INPUT_TOKENS: [[&str; 3]; 1] = [[
    "anthropic-ratelimit-input-tokens-limit",
    "anthropic-ratelimit-input-tokens-remaining",
    "anthropic-ratelimit-input-tokens-reset",
]];

/// Headers of a limit of tokens of answers.
const OUTPUT_TOKENS: [[&str; 3]; 1] = [[
    "anthropic-ratelimit-output-tokens-limit",
    "anthropic-ratelimit-output-tokens-remaining",
    "anthropic-ratelimit-output-tokens-reset",
]];

fn window(headers: &HeaderMap, names: &[&str; 3], now: Timestamp) -> Option<LimitWindow> {
    let [limit, remaining, reset] =
        names.map(|name| headers.get(name)?.to_str().ok().map(str::trim));
    let window = LimitWindow {
        limit: limit.and_then(count),
        remaining: remaining.and_then(count),
        reset: reset.and_then(|text| until_reset(text, now)),
    };
    (window != LimitWindow::default()).then_some(window)
}

/// A count; what is overdrawn counts as 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is cut to a range that fits, and counts are whole"
)]
fn count(text: &str) -> Option<u64> {
    let number: f64 = text.parse().ok()?;
    number.is_finite().then(|| number.clamp(0.0, 1e15) as u64)
}

/// Time from `now` until a reset that is written as a span (`6m0s`, `120ms`), as seconds, as a Unix
/// time in seconds or milliseconds, or as an RFC 3339 time.
fn until_reset(text: &str, now: Timestamp) -> Option<Duration> {
    let seconds = |seconds: f64| Duration::from_secs_f64(seconds.clamp(0.0, MAX_SECONDS));
    if let Ok(number) = text.parse::<f64>() {
        if !number.is_finite() || number < 0.0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of today are below 2^53")]
        let now_ms = now.as_millisecond() as f64;
        return Some(match number {
            UNIX_MILLIS.. => seconds((number - now_ms) / 1000.0),
            UNIX_SECONDS.. => seconds(number - now_ms / 1000.0),
            _ => seconds(number),
        });
    }
    let span = match text.parse::<Timestamp>() {
        Ok(time) => time.duration_since(now).max(SignedDuration::ZERO),
        Err(_) => text.parse::<SignedDuration>().ok()?,
    };
    Duration::try_from(span).ok().map(|span| span.min(seconds(MAX_SECONDS)))
}

/// No span in seconds is that long, and every Unix time since 2001 is longer.
const UNIX_SECONDS: f64 = 1e9;

/// The same in milliseconds.
const UNIX_MILLIS: f64 = 1e12;

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().expect("a time")
    }

    #[test]
    fn every_form_of_a_reset() {
        let reset = |text: &str| until_reset(text, now());
        let millis = |ms| Some(Duration::from_millis(ms));
        for (text, expected) in [
            ("0s", millis(0)),
            ("120ms", millis(120)),
            ("1.5s", millis(1_500)),
            ("6m0s", millis(360_000)),
            ("2m59.56s", millis(179_560)),
            ("1h0m2s", millis(3_602_000)),
            ("7", millis(7_000)),
            ("0.25", millis(250)),
            ("2026-03-01T12:01:00Z", millis(60_000)),
            ("2026-03-01T13:00:30+01:00", millis(30_000)),
            ("2026-03-01T11:00:00Z", millis(0)),
            ("1772366405", millis(5_000)),
            ("1772366402500", millis(2_500)),
            ("9999-01-01T00:00:00Z", millis(86_400_000)),
        ] {
            assert_eq!(reset(text), expected, "{text}");
        }
        for bad in ["", "soon", "-3", "-3s", "NaN", "inf", "6x"] {
            assert_eq!(reset(bad), None, "{bad}");
        }
    }

    #[test]
    fn limits_of_every_family() {
        let of = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().expect("a header value"));
            }
            limits(&headers, now())
        };
        assert_eq!(of(&[("x-request-id", "r")]), None);
        assert_eq!(of(&[("x-ratelimit-limit-requests", "many")]), None);
        let found = of(&[
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("x-ratelimit-limit-tokens", "30000"),
        ])
        .expect("limits");
        let requests = LimitWindow {
            limit: Some(500),
            remaining: Some(499),
            reset: Some(Duration::from_millis(120)),
        };
        assert_eq!(found.requests, Some(requests));
        assert_eq!(found.tokens.and_then(|tokens| tokens.limit), Some(30_000));
        let found = of(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-reset", "2026-03-01T12:00:10Z"),
            ("anthropic-ratelimit-input-tokens-remaining", "-5"),
        ])
        .expect("limits");
        let requests = found.requests.expect("of requests");
        assert_eq!((requests.limit, requests.remaining), (Some(50), None));
        assert_eq!(requests.reset, Some(Duration::from_secs(10)));
        assert_eq!(found.input_tokens.and_then(|tokens| tokens.remaining), Some(0));
        assert_eq!(found.tokens, None);
        let found = of(&[("x-ratelimit-limit", "20"), ("x-ratelimit-reset", "1772366401000")]);
        let requests = found.and_then(|limits| limits.requests).expect("of requests");
        assert_eq!((requests.limit, requests.reset), (Some(20), Some(Duration::from_secs(1))));
    }

    fn wait(name: &'static str, value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a header value"));
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().expect("a time");
        retry_after(&headers, now)
    }

    #[test]
    fn every_form_of_retry_after() {
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(wait("retry-after", "7"), seconds(7));
        assert_eq!(wait("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), seconds(7));
        assert_eq!(wait("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT"), seconds(0));
        assert_eq!(wait("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(wait("retry-after", "1e300"), seconds(86_400));
        for bad in ["-1", "soon", "", "NaN", "inf"] {
            assert_eq!(wait("retry-after", bad), None, "{bad}");
        }
    }
}
