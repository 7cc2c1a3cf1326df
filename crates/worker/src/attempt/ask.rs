//! One question on its way to the judge and back.
//!
//! Owns what a call waits for, in this order: its prefixes' turns, one of the pool's calls, the
//! run's budget, the endpoint's limit; and its record. What a reply or a failure leads to is the attempt's.

use std::sync::Arc;

use tokio::time::Instant;
use tribunal_core::{
    Attempt, CallKind, FailureClass, Outcome, UngradedReason, Usage, VerdictSource,
    verdict::Rationale,
};

use tribunal_store::Spend;

use super::{Asker, End, Turn, millis, now_ms};
use crate::{
    limit::{Permit, expected::Alike},
    provider::{Answer, CallFailure, Message, Question, Reply},
    purse::{Held, Paid},
    recorded::ContextError,
    run_context::Shared,
    select::Group,
};

/// Why a question was not sent, or its answer is of no use any more.
#[derive(Debug)]
pub(super) enum NotAsked {
    /// The attempt ends.
    End(Box<End>),
    /// The leaf is not to blame.
    Context(ContextError),
}

/// A question beside the prefix that it begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnMessages<'m> {
    /// What it is for.
    pub(super) kind: CallKind,
    /// Leaves whose first own message begins with the same files.
    pub(super) group: Option<&'m Group>,
    /// The first own message.
    pub(super) first: &'m str,
    /// Bad replies with the question that followed each.
    pub(super) repairs: &'m [(String, String)],
}

// === impl Turn ===

impl<'a> Turn<'a> {
    /// Waits until the question may be sent, and sends it.
    pub(super) async fn ask(
        &mut self,
        shared: &Shared,
        own: OwnMessages<'_>,
    ) -> Result<Result<Reply, CallFailure>, NotAsked> {
        let Asker { run, policy, stop, drain, calls, .. } = *self.asker;
        // Nobody stands in line with a place that whoever is ahead may need.
        self.call_place = None;
        let places = async {
            // The longer prefix first: whoever goes ahead with it may have to stand in line for the
            // shorter one, and never the other way round.
            let files = match own.group {
                Some(group) => Some(group.warm.place().await),
                None => None,
            };
            (files, shared.warm.place().await)
        };
        let (mut files, mut place) = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(End::Release.into()),
            places = places => places,
        };
        if run.health.refusals() != self.refusals {
            // Whoever went ahead was refused for all.
            return Err(End::Release.into());
        }
        // More leaves are claimed than calls may be in flight. One that has not begun when the pool
        // is to end goes back as it is.
        let place_among_calls = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(End::Release.into()),
            () = drain.cancelled(), if self.attempts.is_empty() => return Err(End::Release.into()),
            place = Arc::clone(calls).acquire_owned() => place,
        };
        self.call_place = place_among_calls.ok();
        let held = if self.claim.budgeted { Some(self.pay(shared, own).await?) } else { None };
        let permit = tokio::select! {
            biased;
            () = stop.cancelled() => {
                settle(held, Some(&Usage::default())).await?;
                return Err(End::Release.into());
            }
            permit = run.limiter.reserve(self.need(shared, own), policy.inline_wait) => permit,
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(why) => {
                settle(held, Some(&Usage::default())).await?;
                return self.not_permitted(why).map(Err).map_err(NotAsked::from);
            }
        };
        let call = async {
            let call = place.during(self.call(shared, own, permit));
            match &mut files {
                Some(files) => files.during(call).await,
                None => call.await,
            }
        };
        let asked = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(End::Release.into()),
            asked = call => asked,
        };
        let refused = |failure: &CallFailure| failure.class == FailureClass::Refused;
        if asked.as_ref().map_or_else(refused, |_| true) {
            place.answered();
            if let Some(files) = files {
                files.answered();
            }
        } else {
            drop((place, files));
        }
        settle(held, charged(&asked).as_ref()).await?;
        Ok(asked)
    }

    /// Reserves what the question costs at most.
    async fn pay(&self, shared: &Shared, own: OwnMessages<'_>) -> Result<Held<'a>, NotAsked> {
        let Asker { run, stop, .. } = *self.asker;
        let cap = run.run.spec.judge.max_output_tokens;
        let repairs = own.repairs.iter().flat_map(|(answer, repair)| [answer, repair]);
        let own_tokens =
            repairs.fold(run.meter.tokens(own.first), |sum, text| sum + run.meter.tokens(text));
        let messages = SHARED_MESSAGES + 1 + 2 * own.repairs.len();
        let counted = run.meter.question(shared.tokens + own_tokens, messages);
        let paid = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(End::Release.into()),
            paid = run.purse.pay(self.claim, counted, cap) => paid?,
        };
        Err(match paid {
            Paid::Held(held) => return Ok(held),
            Paid::Fenced => End::Release.into(),
            Paid::NoPrice => {
                let model = &run.run.spec.judge.model;
                let reason = format!(
                    "the run has a budget in dollars, and the price of `{model}` is not known \
                     here: name a file with its entry in run.models"
                );
                End::Pause { reason }.into()
            }
            Paid::Exhausted { amount } => {
                let most = match amount.micro_usd {
                    0 => format!("{} tokens", amount.tokens),
                    micro => format!("${:.4} or {} tokens", micro as f64 / 1e6, amount.tokens),
                };
                let explanation = format!(
                    "what is left of the run's budget does not hold this call, which may take \
                     {most}; the same command with a larger budget goes on"
                );
                let rationale = Rationale { explanation, ..Rationale::default() };
                let outcome = Outcome::Ungraded { reason: UngradedReason::Budget };
                let model = run.run.spec.judge.model.clone();
                self.verdict(outcome, VerdictSource::Judge, rationale, model, None).into()
            }
        })
    }

    /// Sends the question and records the call.
    async fn call(
        &mut self,
        shared: &Shared,
        own: OwnMessages<'_>,
        permit: Permit,
    ) -> Result<Reply, CallFailure> {
        let OwnMessages { kind, first, repairs, .. } = own;
        let Asker { run, policy, .. } = *self.asker;
        let waited = permit.waited();
        let mut messages = vec![Message { role: "user", content: first }];
        for (answer, repair) in repairs {
            messages.push(Message { role: "assistant", content: answer });
            messages.push(Message { role: "user", content: repair });
        }
        let answer = match kind {
            CallKind::Rank => Answer::Ranking,
            CallKind::Judge | CallKind::Repair => {
                Answer::Verdict { fractional: self.category.is_fractional() }
            }
        };
        let question = Question {
            judge: &run.run.spec.judge,
            prefix: shared.prefix.clone(),
            messages,
            parameters: run.parameters(self.form, answer),
            cache_key: run.cache_key(shared),
        };
        run.health.trying();
        let (start, started_ms) = (Instant::now(), now_ms());
        let asked = run.provider.ask(&question).await;
        let latency = start.elapsed();
        permit.end(&asked, policy.hold(&asked));
        if let Ok(reply) = &asked {
            run.expected.learn(self.alike(own), bytes(shared, own), &reply.usage);
        }
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

    /// What the question will probably use.
    fn need(&self, shared: &Shared, own: OwnMessages<'_>) -> Spend {
        let run = self.asker.run;
        let cap = u64::from(run.run.spec.judge.max_output_tokens);
        let counted = || {
            let tokens = shared.tokens + run.meter.tokens(own.first);
            run.meter.question(tokens, SHARED_MESSAGES + 1).expected
        };
        run.expected.call(self.alike(own), bytes(shared, own), counted, cap)
    }

    /// Calls of one kind use alike; those that ask again are as those that ask first.
    fn alike(&self, own: OwnMessages<'_>) -> Alike {
        Alike { ranks: own.kind == CallKind::Rank, category: self.category, shrunk: self.shrunk }
    }
}

fn bytes(shared: &Shared, own: OwnMessages<'_>) -> usize {
    let repairs = own.repairs.iter().map(|(answer, repair)| answer.len() + repair.len());
    shared.prefix.len() + own.first.len() + repairs.sum::<usize>()
}

/// Messages that all leaves of a category are sent alike.
const SHARED_MESSAGES: usize = 2;

async fn settle(held: Option<Held<'_>>, usage: Option<&Usage>) -> Result<(), NotAsked> {
    match held {
        Some(held) => held.settle(usage).await.map_err(NotAsked::Context),
        None => Ok(()),
    }
}

/// What a call has cost; `None` where nobody knows: it timed out, broke off, or says nothing of it.
fn charged(asked: &Result<Reply, CallFailure>) -> Option<Usage> {
    match asked {
        Ok(reply) => reply.reports_usage.then_some(reply.usage),
        Err(failure) if failure.usage != Usage::default() || !failure.reached => {
            Some(failure.usage)
        }
        // A gateway's time limit says nothing of what the model behind it did.
        Err(failure) => match failure.status {
            None | Some(..400 | 408 | 504 | 524) => None,
            Some(_) => Some(Usage::default()),
        },
    }
}

// === impl NotAsked ===

impl From<End> for NotAsked {
    fn from(end: End) -> Self {
        NotAsked::End(Box::new(end))
    }
}

impl From<ContextError> for NotAsked {
    fn from(error: ContextError) -> Self {
        NotAsked::Context(error)
    }
}
