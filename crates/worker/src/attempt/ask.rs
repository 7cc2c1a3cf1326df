//! One question on its way to the judge.
//!
//! Owns whose turn it is, the permit, the call and its record. What comes of the answer is not
//! decided here.

use std::time::Duration;

use tokio::time::Instant;
use tribunal_core::{Attempt, CallKind, FailureClass};

use super::{Asker, Turn, millis, now_ms};
use crate::{
    provider::{Answer, CallFailure, Message, Question, Reply},
    run_context::Shared,
    select::Group,
};

// === impl Turn ===

impl Turn<'_> {
    /// Waits for a place and a permit, and sends a question; `None` when the attempt is to stop.
    pub(super) async fn ask(
        &mut self,
        shared: &Shared,
        group: Option<&Group>,
        kind: CallKind,
        own: &str,
        repairs: &[(String, String)],
    ) -> Option<Result<Reply, CallFailure>> {
        let Asker { run, stop, .. } = *self.asker;
        let places = async {
            // The longer prefix first: whoever goes ahead with it may have to stand in line for the
            // shorter one, and never the other way round.
            let files = match group {
                Some(group) => Some(group.warm.place().await),
                None => None,
            };
            (files, shared.warm.place().await)
        };
        let (mut files, mut place) = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            places = places => places,
        };
        if run.health.refusals() != self.refusals {
            // Whoever went ahead was refused for all.
            return None;
        }
        let waited = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            waited = run.limiter.permit() => waited,
        };
        let call = async {
            let call = place.during(self.call(shared, kind, own, repairs, waited));
            match &mut files {
                Some(files) => files.during(call).await,
                None => call.await,
            }
        };
        let asked = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            asked = call => asked,
        };
        let refused = |failure: &CallFailure| failure.class == FailureClass::Refused;
        if asked.as_ref().map_or_else(refused, |_| true) {
            place.answered();
            if let Some(files) = files {
                files.answered();
            }
        }
        Some(asked)
    }

    /// Sends the question and records the call.
    async fn call(
        &mut self,
        shared: &Shared,
        kind: CallKind,
        own: &str,
        repairs: &[(String, String)],
        waited: Duration,
    ) -> Result<Reply, CallFailure> {
        let run = self.asker.run;
        let mut messages = vec![Message { role: "user", content: own }];
        for (answer, repair) in repairs {
            messages.push(Message { role: "assistant", content: answer });
            messages.push(Message { role: "user", content: repair });
        }
        let answer = match kind {
            CallKind::Rank => Answer::Ranking,
            CallKind::Judge | CallKind::Repair => Answer::Verdict {
                fractional: self.category.is_fractional(),
                reply: &run.reply_fields,
            },
        };
        let question = Question {
            judge: &run.run.spec.judge,
            form: self.form,
            prefix: shared.prefix.clone(),
            messages,
            answer,
            cache_key: run.cache_key(shared),
        };
        run.health.trying();
        let (start, started_ms) = (Instant::now(), now_ms());
        let asked = run.provider.ask(&question).await;
        let latency = start.elapsed();
        let attempt = match &asked {
            Ok(reply) => {
                run.health.succeeded();
                self.simulated |= reply.simulated;
                Attempt {
                    kind,
                    class: None,
                    status: Some(reply.status),
                    error: String::new(),
                    request_id: reply.request_id.clone(),
                    started_ms,
                    waited_ms: millis(waited),
                    latency_ms: millis(latency),
                    usage: reply.usage,
                }
            }
            Err(failure) => {
                if failure.reached {
                    run.health.reached();
                }
                self.simulated |= failure.simulated;
                Attempt {
                    kind,
                    class: Some(failure.class),
                    status: failure.status,
                    error: failure.message.clone(),
                    request_id: failure.request_id.clone(),
                    started_ms,
                    waited_ms: millis(waited),
                    latency_ms: millis(latency),
                    usage: failure.usage,
                }
            }
        };
        if asked.is_err() {
            self.report(&attempt, latency);
        }
        self.attempts.push(attempt);
        asked
    }
}
