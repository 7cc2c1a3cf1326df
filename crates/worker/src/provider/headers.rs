//! What a provider's response headers say.
//!
//! Owns `Retry-After` (RFC 9110, section 10.2.3: seconds or an HTTP date), `retry-after-ms`, and
//! the request id.

use std::time::Duration;

use http::HeaderMap;
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

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

#[cfg(test)]
mod tests {
    use super::*;

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
