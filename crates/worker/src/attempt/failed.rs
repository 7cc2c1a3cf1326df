//! What a failed call does.
//!
//! Owns the error table's right column: wait, here or in the queue, shrink, give up, or pause the
//! run. Waits are drawn by `retry`.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tribunal_core::{FailureClass, UngradedReason, event::Event};

use super::{Asker, End, Turn};
use crate::{health::BadRequest, limit::NoPermit, provider::CallFailure};

/// Wait before a leaf is claimed again after a 400 of which nobody knows yet whose fault it is.
const UNDECIDED_WAIT: Duration = Duration::from_secs(1);

/// Wait before a leaf is claimed again that only endpoints which hold their calls would take.
const OTHERS_WAIT: Duration = Duration::from_secs(1);

/// What a failed call leads to.
enum Next {
    Again,
    End(End),
}

// === impl Turn ===

impl Turn<'_> {
    /// What a failed call does, by its class. `None` asks again now.
    pub(super) async fn failed(&mut self, failure: CallFailure) -> Option<End> {
        let Asker { run, policy, events, .. } = *self.asker;
        let (is_outage, status) = (failure.is_outage(), failure.status);
        let CallFailure { class, message, retry_after, .. } = failure;
        let model = run.run.spec.judge.model.clone();
        let next = match class {
            FailureClass::Throttled => {
                // Nothing where another endpoint takes calls.
                let delay = run.routes.held();
                events.event(Event::Throttled { delay });
                if delay <= policy.inline_wait {
                    Next::Again
                } else {
                    let error = message;
                    Next::End(End::Retry { class, delay, charged: self.charge(), error })
                }
            }
            FailureClass::Transient => self.transient(message, retry_after, is_outage).await,
            // The answer was no completion at all: there is nothing to show the judge.
            FailureClass::BadReply => self.transient(message, retry_after, false).await,
            FailureClass::TooLong if self.shrunk => {
                let reason = UngradedReason::ContextOverflow;
                let words = format!("too long for the judge's context, shrunk too: {message}");
                Next::End(self.ungraded(reason, words, model, None))
            }
            FailureClass::TooLong => {
                self.shrunk = true;
                Next::Again
            }
            FailureClass::Refused => {
                let words = format!("the judge refused: {message}");
                Next::End(self.ungraded(UngradedReason::Refused, words, model, None))
            }
            FailureClass::BadRequest if run.refuse_form(self.form, &message) => Next::Again,
            FailureClass::BadRequest if run.refuse_cache_key(&message) => Next::Again,
            FailureClass::BadRequest => match run.health.bad_request(&message) {
                BadRequest::Leaf => Next::End(End::Dead { class, error: message }),
                BadRequest::Account => {
                    let reason = format!(
                        "the judge calls every request wrong: {message}. Check the judge's \
                         parameters in the config"
                    );
                    Next::End(End::Pause { reason })
                }
                BadRequest::Undecided => {
                    let (delay, charged) = (UNDECIDED_WAIT, self.charge());
                    Next::End(End::Retry { class, delay, charged, error: message })
                }
            },
            FailureClass::Account => match self.failed_on {
                // Another endpoint, or another key, does not refuse.
                Some(way) if !run.routes.refused(way) => Next::Again,
                _ => Next::End(End::Pause { reason: self.account(status, &message) }),
            },
            FailureClass::LostLease | FailureClass::Internal => {
                Next::End(End::Dead { class, error: message })
            }
        };
        match next {
            Next::Again => None,
            Next::End(end) => Some(end),
        }
    }

    /// What a leaf does while no endpoint is called: it waits in the queue, and nothing is charged to
    /// it for that.
    pub(super) fn no_route(&self, delay: Duration) -> End {
        let error = "no endpoint of the judge answers; one call at a time tries again".to_owned();
        End::Retry { class: FailureClass::Transient, delay, charged: self.charge(), error }
    }

    /// Whether nothing of the question was paid for: no call went out, or each was turned away.
    pub(super) fn is_unanswered(&self) -> bool {
        self.attempts.iter().all(|attempt| attempt.class == Some(FailureClass::Throttled))
    }

    /// What becomes of such a leaf when the pool is to end.
    pub(super) fn set_aside(&self) -> End {
        if self.attempts.is_empty() {
            return End::Release;
        }
        let error = "turned away until the worker ended".to_owned();
        let (class, charged) = (FailureClass::Throttled, self.charge());
        End::Retry { class, delay: Duration::ZERO, charged, error }
    }

    /// What becomes of a leaf whose call may not go out on this way: it goes another way with `None`,
    /// or back to the queue, or the run is paused, since no limit that is too small for one question
    /// may cost the leaf its evidence or its verdict.
    pub(super) fn not_permitted(&mut self, way: usize, why: NoPermit) -> Option<End> {
        match why {
            NoPermit::Held(_) if self.asker.run.routes.held().is_zero() => None,
            NoPermit::Held(delay) => {
                let class = FailureClass::Throttled;
                let error = "the provider asked to wait".to_owned();
                Some(End::Retry { class, delay, charged: self.charge(), error })
            }
            NoPermit::TooLarge { .. } if !self.asker.run.routes.refused(way) => {
                if self.failed_on.replace(way) != Some(way) {
                    return None;
                }
                // The others hold their calls at present: trying here again and again helps nobody.
                let (class, charged) = (FailureClass::Throttled, self.charge());
                let error = "the endpoints that let so much through hold their calls".to_owned();
                Some(End::Retry { class, delay: OTHERS_WAIT, charged, error })
            }
            NoPermit::TooLarge { meter, needs, limit } => {
                let reason = format!(
                    "a question needs about {needs} {}, more than the {limit:.0} that the account \
                     may use in a minute, as its endpoint or the config says. A smaller \
                     evidence.token_budget makes questions shorter; once the limit is larger, \
                     `tribunal resume` goes on",
                    meter.noun()
                );
                Some(End::Pause { reason })
            }
        }
    }

    /// A failure that may pass: waits, here or in the queue, or gives the leaf up.
    async fn transient(
        &mut self,
        message: String,
        retry_after: Option<Duration>,
        is_outage: bool,
    ) -> Next {
        let Asker { run, policy, budget, stop, .. } = *self.asker;
        let class = FailureClass::Transient;
        if !run.health.has_been_reached() {
            // Nothing is known to be wrong with the leaf while nobody has ever answered.
            if run.health.unreachable_for(policy.unreachable_after) {
                let seconds = policy.unreachable_after.as_secs();
                let reason = format!(
                    "the judge's {} could not be reached within {seconds} s: {message}. Check \
                     --base-url and that the server runs",
                    run.routes.named()
                );
                return Next::End(End::Pause { reason });
            }
            // Two tries a second of every leaf would be a storm for a server that is starting.
            let doubled = policy.base.saturating_mul(1 << self.unreached.min(4));
            let delay = doubled.min(policy.inline_wait).max(Duration::from_millis(100));
            self.unreached += 1;
            return self.sleep(delay, stop).await;
        }
        if let Some(failing) = run.routes.failing_for()
            && failing >= policy.outage_after
        {
            let seconds = failing.as_secs();
            let reason = format!(
                "the judge's {} gave no answer for {seconds} s: {message}. Once the server runs, go on",
                run.routes.named()
            );
            return Next::End(End::Pause { reason });
        }
        if is_outage && self.probed {
            // It was asked to see whether anybody answers: that is no failure of the leaf. It waits
            // longer than the others, so that another leaf is next to try.
            let delay = (run.routes.held() * 2).max(policy.base);
            return Next::End(End::Retry { class, delay, charged: self.charge(), error: message });
        }
        self.failures += 1;
        if self.failures > policy.transient_attempts {
            let tries = self.failures;
            let error = format!("failed {tries} times; the last time: {message}");
            return Next::End(End::Dead { class, error });
        }
        let mut delay = policy.delay(self.failures);
        if let Some(asked) = retry_after {
            delay = delay.max(asked.min(policy.throttle_cap));
        }
        if !budget.spend() {
            delay = delay.max(policy.max);
        }
        if delay <= policy.inline_wait {
            return self.sleep(delay, stop).await;
        }
        Next::End(End::Retry { class, delay, charged: self.charge(), error: message })
    }

    async fn sleep(&self, delay: Duration, stop: &CancellationToken) -> Next {
        tokio::select! {
            biased;
            () = stop.cancelled() => Next::End(End::Release),
            () = self.asker.drain.cancelled() => Next::End(End::Release),
            () = tokio::time::sleep(delay) => Next::Again,
        }
    }

    /// Failures to charge the leaf for this claim.
    pub(super) fn charge(&self) -> u32 {
        self.failures - self.claim.failures
    }

    fn account(&self, status: Option<u16>, message: &str) -> String {
        let judge = &self.asker.run.run.spec.judge;
        let advice = match status {
            Some(401 | 403) => "Check the key in TRIBUNAL_API_KEY or OPENAI_API_KEY",
            Some(404) => "Check --model and --base-url (with its /v1)",
            _ => "Check the account's quota and billing",
        };
        let status = status.map_or(String::new(), |status| format!(" ({status})"));
        let message = message.trim_end_matches('.');
        format!(
            "the judge {} at {} refuses{status}: {message}. {advice}",
            judge.model, judge.base_url
        )
    }
}
