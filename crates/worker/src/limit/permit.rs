//! The right to one call.
//!
//! Owns what is settled when the call is over: what it used, what it gave back, and what its
//! answer says of the account's limits.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tribunal_core::FailureClass;
use tribunal_store::{Meter, QuotaReport, Rejected, Spend};

use super::{Limiter, stated::Stated};
use crate::provider::{CallFailure, LimitHeaders, Reply};

/// Answers in a row that speak of overload before it is believed.
const OVERLOADED: u32 = 3;

/// A call may go out. Dropped without an end, everything that it was to use comes back.
pub struct Permit {
    limiter: Arc<Limiter>,
    need: Spend,
    /// What was let out when this was, itself included.
    mark: Spend,
    metered: bool,
    sent: Instant,
    waited: Duration,
    is_probe: bool,
    is_over: bool,
}

// === impl Permit ===

impl Permit {
    pub(super) fn new(limiter: Arc<Limiter>, need: Spend, start: Instant) -> Self {
        let (metered, mark) = limiter.lock().went(need);
        let (sent, waited) = (Instant::now(), start.elapsed());
        Self { limiter, need, mark, metered, sent, waited, is_probe: false, is_over: false }
    }

    /// How long it was waited for.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The same for a call that is to show whether a failing endpoint answers again: that it fails says
    /// nothing of the account's limits.
    pub fn of_probe(self, is_probe: bool) -> Self {
        let mut permit = self;
        permit.is_probe = is_probe;
        permit
    }

    /// The call is over. `hold` is how long nobody is to call should it have been turned away.
    pub fn end(mut self, asked: &Result<Reply, CallFailure>, hold: Duration) {
        let (used, reached, limits) = match asked {
            Ok(reply) => {
                let used = Spend::call(reply.usage.input, reply.usage.output);
                let used = if reply.reports_usage { used } else { self.need };
                (used, true, &reply.limits)
            }
            // Whether the provider counts a call that it turned away nobody knows.
            Err(failure) if failure.class == FailureClass::Throttled => {
                (self.need, true, &failure.limits)
            }
            Err(failure) if !failure.reached => (Spend::default(), false, &failure.limits),
            Err(failure) => {
                let output = i64::try_from(failure.usage.output).unwrap_or(0);
                (Spend { output, ..self.need }, true, &failure.limits)
            }
        };
        self.settle(used, reached);
        if let Some(limits) = limits {
            self.learn(limits);
        }
        if let Err(failure) = asked {
            self.failed(failure, hold);
        } else {
            self.limiter.lock().overloads = 0;
        }
    }

    fn settle(&mut self, used: Spend, reached: bool) {
        self.is_over = true;
        let first = {
            let mut state = self.limiter.lock();
            let first = !state.has_answered();
            state.ended(self.metered, self.need - used, reached);
            first
        };
        if first {
            self.limiter.changed.notify_waiters();
        }
    }

    fn learn(&self, limits: &LimitHeaders) {
        let seen = Stated::read(limits);
        let news = self.limiter.lock().state(&seen, self.sent.elapsed(), self.mark);
        if news.any() {
            self.limiter.report(QuotaReport { stated: news, ..QuotaReport::default() });
        }
    }

    fn failed(&self, failure: &CallFailure, hold: Duration) {
        let overloaded = matches!(failure.status, Some(503 | 529));
        if failure.class != FailureClass::Throttled {
            if self.is_probe {
                return;
            }
            // One such answer may be a fault of its own.
            let mut state = self.limiter.lock();
            state.overloads = if overloaded { state.overloads + 1 } else { 0 };
            if state.overloads < OVERLOADED {
                return;
            }
            state.overloads = 0;
        }
        self.limiter.reject(Rejected {
            wait: hold,
            sent_ago: self.sent.elapsed(),
            meter: meter(&failure.message),
        });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.is_over {
            self.settle(Spend::default(), false);
        }
    }
}

/// Which limit a provider's message speaks of.
fn meter(message: &str) -> Option<Meter> {
    let message = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if says(&["input token"]) {
        Some(Meter::InputTokens)
    } else if says(&["output token"]) {
        Some(Meter::OutputTokens)
    } else if says(&["tokens per", "tpm", "token limit", "on tokens"]) {
        Some(Meter::Tokens)
    } else if says(&["requests per", "rpm", "on requests"]) {
        Some(Meter::Requests)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_their_limit() {
        for (message, expected) in [
            ("Rate limit reached for m on tokens per min (TPM): Limit 1", Some(Meter::Tokens)),
            ("Rate limit reached for m on requests per min (RPM)", Some(Meter::Requests)),
            ("exceeds the limit of 40,000 input tokens per minute", Some(Meter::InputTokens)),
            ("Slow down.", None),
        ] {
            assert_eq!(meter(message), expected, "{message}");
        }
    }
}
