//! The provider's rate limits, as its side of the wire counts them.
//!
//! Owns the two buckets, the headers about them, and the words of a rejection. Time comes in as an
//! argument.

use std::{sync::Mutex, time::Duration};

use axum::http::StatusCode;
use tokio::time::Instant;

use crate::{cache::lock, config::SimConfig, request::ApiError};

/// Requests and tokens a minute, over the whole server.
pub(crate) struct Limiter {
    buckets: Option<Mutex<Buckets>>,
    count_rejected: bool,
    hide: bool,
}

struct Buckets {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    /// Requests to admit before the limits are halved.
    halve_after: Option<u64>,
}

/// A token bucket that refills evenly. It may be in debt: a call larger than the bucket is let
/// through when the bucket is full, and those after it wait until that is paid.
struct Bucket {
    per_minute: f64,
    capacity: f64,
    level: f64,
    at: Instant,
    /// What the limit allowed since the first call; `None` before it.
    allowed: Option<f64>,
}

/// Which limit a call met.
struct Rejection {
    noun: &'static str,
    short: &'static str,
    limit: f64,
    requested: f64,
    /// How long until the call would be let through; `None` if it never will.
    wait: Option<Duration>,
}

// === impl Limiter ===

impl Limiter {
    pub(crate) fn new(config: &SimConfig, now: Instant) -> Limiter {
        let bucket =
            |limit: Option<u64>| limit.map(|limit| Bucket::new(limit as f64, config.burst_s, now));
        let buckets = Buckets {
            requests: bucket(config.rpm),
            tokens: bucket(config.tpm),
            halve_after: config.halve_after,
        };
        let any = buckets.requests.is_some() || buckets.tokens.is_some();
        Limiter {
            buckets: any.then(|| Mutex::new(buckets)),
            count_rejected: config.count_rejected,
            hide: config.hide_limits,
        }
    }

    /// Lets a call with so many prompt tokens through, or says when it may come again.
    ///
    /// # Errors
    ///
    /// 429, as OpenAI's API words it, with `Retry-After` unless the call is larger than a whole
    /// minute's limit.
    pub(crate) fn admit(&self, now: Instant, model: &str, tokens: u64) -> Result<(), ApiError> {
        let Some(buckets) = &self.buckets else {
            return Ok(());
        };
        let mut buckets = lock(buckets);
        let mut rejection = None;
        for (bucket, amount, noun, short) in buckets.each(tokens) {
            bucket.refill(now);
            bucket.allowed.get_or_insert(0.0);
            if rejection.is_none() && !bucket.holds(amount) {
                rejection = Some(Rejection {
                    noun,
                    short,
                    limit: bucket.per_minute,
                    requested: amount,
                    wait: bucket.wait(amount),
                });
            }
        }
        if rejection.is_none() || self.count_rejected {
            for (bucket, amount, ..) in buckets.each(tokens) {
                bucket.charge(amount);
            }
        }
        if rejection.is_none() {
            buckets.admitted();
        }
        rejection.map_or(Ok(()), |rejection| Err(rejection.reply(model)))
    }

    /// Charges the tokens of an answer.
    pub(crate) fn charge_tokens(&self, now: Instant, tokens: u64) {
        if let Some(buckets) = &self.buckets
            && let Some(bucket) = &mut lock(buckets).tokens
        {
            bucket.refill(now);
            bucket.charge(tokens as f64);
        }
    }

    /// The headers that tell a client where it stands; none without a limit.
    pub(crate) fn headers(&self, now: Instant) -> Vec<(&'static str, String)> {
        const NAMES: [[&str; 3]; 2] = [
            [
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-requests",
                "x-ratelimit-reset-requests",
            ],
            [
                "x-ratelimit-limit-tokens",
                "x-ratelimit-remaining-tokens",
                "x-ratelimit-reset-tokens",
            ],
        ];
        let Some(buckets) = self.buckets.as_ref().filter(|_| !self.hide) else {
            return Vec::new();
        };
        let mut buckets = lock(buckets);
        let Buckets { requests, tokens, .. } = &mut *buckets;
        let mut headers = Vec::new();
        for (bucket, [limit, remaining, reset]) in [requests, tokens].into_iter().zip(NAMES) {
            if let Some(bucket) = bucket {
                bucket.refill(now);
                let missing = (bucket.capacity - bucket.level) * 60.0 / bucket.per_minute;
                headers.push((limit, format!("{}", bucket.per_minute)));
                headers.push((remaining, format!("{}", bucket.level.max(0.0).floor())));
                headers.push((reset, span(Duration::from_secs_f64(missing.max(0.0)))));
            }
        }
        headers
    }
}

impl Limiter {
    /// Requests and tokens that the limits allowed from the first call to the last.
    pub(crate) fn allowed(&self) -> [u64; 2] {
        let Some(buckets) = &self.buckets else {
            return [0, 0];
        };
        let buckets = lock(buckets);
        let allowed = |bucket: &Option<Bucket>| bucket.as_ref().and_then(|b| b.allowed);
        [&buckets.requests, &buckets.tokens].map(|bucket| allowed(bucket).unwrap_or(0.0) as u64)
    }
}

// === impl Buckets ===

impl Buckets {
    /// A call was admitted: the limits may be halved now.
    fn admitted(&mut self) {
        let Some(left) = self.halve_after.as_mut() else {
            return;
        };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.halve_after = None;
            for bucket in [&mut self.requests, &mut self.tokens].into_iter().flatten() {
                bucket.per_minute /= 2.0;
                bucket.capacity = (bucket.capacity / 2.0).max(1.0);
                bucket.level = bucket.level.min(bucket.capacity);
            }
        }
    }

    fn each(
        &mut self,
        tokens: u64,
    ) -> impl Iterator<Item = (&mut Bucket, f64, &'static str, &'static str)> {
        let requests = self.requests.as_mut().map(|b| (b, 1.0, "requests", "RPM"));
        let tokens = self.tokens.as_mut().map(|b| (b, tokens as f64, "tokens", "TPM"));
        requests.into_iter().chain(tokens)
    }
}

// === impl Bucket ===

impl Bucket {
    fn new(per_minute: f64, burst_s: f64, now: Instant) -> Bucket {
        let capacity = (per_minute * burst_s / 60.0).max(1.0);
        Bucket { per_minute, capacity, level: capacity, at: now, allowed: None }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        if let Some(allowed) = &mut self.allowed {
            *allowed += passed * self.per_minute / 60.0;
        }
        self.level = (self.level + passed * self.per_minute / 60.0).min(self.capacity);
        self.at = self.at.max(now);
    }

    /// What the bucket must hold for a call to be let through.
    fn needed(&self, amount: f64) -> f64 {
        // A little less, for what rounding took from whole seconds of refilling.
        amount.min(self.capacity) - 1e-6
    }

    fn holds(&self, amount: f64) -> bool {
        amount <= self.per_minute && self.level >= self.needed(amount)
    }

    fn wait(&self, amount: f64) -> Option<Duration> {
        let missing = (amount.min(self.capacity) - self.level).max(0.0);
        let seconds = missing * 60.0 / self.per_minute;
        (amount <= self.per_minute).then(|| Duration::from_secs_f64(seconds))
    }

    /// Takes an amount out; nobody owes more than a minute.
    fn charge(&mut self, amount: f64) {
        self.level = (self.level - amount).max(-self.per_minute);
    }
}

// === impl Rejection ===

impl Rejection {
    fn reply(&self, model: &str) -> ApiError {
        let Rejection { noun, short, limit, requested, wait } = self;
        let (message, headers) = match wait {
            None => {
                let message = format!(
                    "[simulated] Request too large for {model} on {noun} per min ({short}): \
                     Limit {limit}, Requested {requested}."
                );
                (message, Vec::new())
            }
            Some(wait) => {
                let millis = wait.as_secs_f64() * 1000.0;
                let seconds = wait.as_secs_f64().ceil().max(1.0);
                let again = span(*wait);
                let message = format!(
                    "[simulated] Rate limit reached for {model} on {noun} per min ({short}): \
                     Limit {limit}, Requested {requested}. Please try again in {again}."
                );
                let headers = vec![
                    ("retry-after", format!("{seconds}")),
                    ("retry-after-ms", format!("{}", millis.ceil().max(1.0))),
                ];
                (message, headers)
            }
        };
        ApiError {
            status: StatusCode::TOO_MANY_REQUESTS,
            kind: noun,
            code: Some("rate_limit_exceeded"),
            param: None,
            message,
            headers,
        }
    }
}

/// A span as OpenAI's headers write it: `0s`, `120ms`, `1.5s`, `6m0s`, `1h0m2s`.
fn span(duration: Duration) -> String {
    let millis = duration.as_micros().div_ceil(1000) as u64;
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let seconds = rest as f64 / 1000.0;
    match (minutes / 60, minutes % 60) {
        (0, 0) if rest == 0 => "0s".to_owned(),
        (0, 0) if rest < 1000 => format!("{rest}ms"),
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limiter(rpm: Option<u64>, tpm: Option<u64>, count_rejected: bool) -> (Limiter, Instant) {
        let now = Instant::now();
        let config = SimConfig { rpm, tpm, count_rejected, ..SimConfig::default() };
        (Limiter::new(&config, now), now)
    }

    fn header<'a>(headers: &'a [(&'static str, String)], name: &str) -> &'a str {
        let found = headers.iter().find(|(key, _)| *key == name);
        &found.expect(name).1
    }

    #[test]
    fn spans_are_written_as_the_api_does() {
        for (millis, text) in
            [(0, "0s"), (120, "120ms"), (1_500, "1.5s"), (360_000, "6m0s"), (3_602_000, "1h0m2s")]
        {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_rejected_call_is_told_when_to_come_back() {
        let (limiter, now) = limiter(Some(30), None, false);
        limiter.admit(now, "m", 10).expect("the first");
        let headers = limiter.headers(now);
        assert_eq!(header(&headers, "x-ratelimit-limit-requests"), "30");
        assert_eq!(header(&headers, "x-ratelimit-remaining-requests"), "0");
        assert_eq!(header(&headers, "x-ratelimit-reset-requests"), "2s");
        let error = limiter.admit(now, "m", 10).expect_err("too soon");
        assert_eq!((error.status.as_u16(), error.kind), (429, "requests"));
        assert_eq!(error.code, Some("rate_limit_exceeded"));
        assert_eq!(header(&error.headers, "retry-after"), "2");
        assert_eq!(header(&error.headers, "retry-after-ms"), "2000");
        let soon = now + Duration::from_millis(1_900);
        let error = limiter.admit(soon, "m", 10).expect_err("too soon");
        assert_eq!(header(&error.headers, "retry-after"), "1");
        limiter.admit(now + Duration::from_secs(2), "m", 10).expect("as told");
    }

    #[test]
    fn a_call_larger_than_the_bucket_is_paid_by_those_after_it() {
        let (limiter, now) = limiter(None, Some(6_000), false);
        limiter.admit(now, "m", 1_100).expect("the bucket of 100 is full");
        let error = limiter.admit(now, "m", 100).expect_err("in debt by 1,000");
        assert_eq!((error.kind, header(&error.headers, "retry-after")), ("tokens", "11"));
        limiter.charge_tokens(now, 100);
        let error = limiter.admit(now, "m", 100).expect_err("in debt by 1,100");
        assert_eq!(header(&error.headers, "retry-after"), "12");
        let error = limiter.admit(now, "m", 6_001).expect_err("never");
        assert!(error.message.contains("Request too large") && error.headers.is_empty());
    }

    #[test]
    fn rejected_calls_can_be_charged() {
        for (count_rejected, waits) in [(false, "1"), (true, "3")] {
            let (limiter, now) = limiter(Some(60), None, count_rejected);
            limiter.admit(now, "m", 1).expect("the first");
            for _ in 0..2 {
                limiter.admit(now, "m", 1).expect_err("too soon");
            }
            let error = limiter.admit(now, "m", 1).expect_err("too soon");
            assert_eq!(header(&error.headers, "retry-after"), waits);
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_and_a_burst(
            calls in proptest::collection::vec((0_u64..400, 1_u64..50), 1..400),
            rpm in 60_u64..3_000,
            tpm in 600_u64..30_000,
        ) {
            let (limiter, start) = limiter(Some(rpm), Some(tpm), false);
            let mut now = start;
            let (mut requests, mut tokens) = (0_u64, 0_u64);
            for (gap, size) in calls {
                now += Duration::from_millis(gap);
                if limiter.admit(now, "m", size).is_ok() {
                    requests += 1;
                    tokens += size;
                }
                let seconds = (now - start).as_secs_f64() + 1.0;
                prop_assert!(requests as f64 <= rpm as f64 / 60.0 * seconds + 1e-3);
                prop_assert!(tokens as f64 <= tpm as f64 / 60.0 * seconds + 50.0);
            }
        }
    }
}
