//! One question on its way to the judge and back.
//!
//! Owns what a call waits for, in this order: its way, its prefixes' turns there, one of the pool's
//! calls, the run's budget, the endpoint's limit; and its record. What a reply or a failure leads to is the attempt's.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::Instrument as _;
use tribunal_core::{
    Attempt, CallKind, FailureClass, Outcome, UngradedReason, Usage, VerdictSource, Via,
    event::Event,
    verdict::{PossibleSpend, Rationale},
};

use tribunal_store::Spend;

use super::{Asker, End, Turn, cut::Cut, millis, now_ms};
use crate::{
    breaker::Change,
    limit::{Permit, expected::Alike},
    meter::{Counted, Meter},
    provider::{Answer, CallFailure, Message, Question, Reply},
    purse::{Held, Paid},
    recorded::ContextError,
    route::{Lane, Sent},
    run_context::Shared,
    select::Group,
    trace,
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
    /// The vocabulary's tokens of it, where they are known without counting.
    pub(super) first_tokens: Option<u64>,
    /// Bad replies with the question that followed each.
    pub(super) repairs: &'m [(String, String)],
}

// === impl OwnMessages ===

impl OwnMessages<'_> {
    fn first_tokens(&self, meter: &Meter) -> u64 {
        self.first_tokens.unwrap_or_else(|| meter.tokens(self.first))
    }
}

// === impl Turn ===

impl<'a> Turn<'a> {
    /// Waits until the question may be sent, and sends it: by another way where the one that it was on
    /// closed meanwhile.
    pub(super) async fn ask(
        &mut self,
        shared: &Shared,
        own: OwnMessages<'_>,
    ) -> Result<Result<Reply, CallFailure>, NotAsked> {
        loop {
            let lane = self.asker.run.routes.choose(self.failed_on);
            let lane = lane.map_err(|wait| self.no_route(wait))?;
            if let Some(asked) = self.ask_on(&lane, shared, own).await? {
                return Ok(asked);
            }
        }
    }

    /// The same by one way; `None` where no call goes that way any more.
    async fn ask_on(
        &mut self,
        lane: &Lane,
        shared: &Shared,
        own: OwnMessages<'_>,
    ) -> Result<Option<Result<Reply, CallFailure>>, NotAsked> {
        let Asker { run, policy, stop, drain, calls, .. } = *self.asker;
        let deadline = self.deadline;
        let limiter = &lane.route().limiter;
        // Nobody stands in line with a place that whoever is ahead may need.
        self.call_place = None;
        let files = own.group.map(|group| group.warm.at(lane.index));
        let prefix = shared.warm.at(lane.index);
        let places = async {
            // The longer prefix first: whoever goes ahead with it may have to stand in line for the
            // shorter one, and never the other way round.
            let files = match &files {
                Some(files) => Some(files.place().await),
                None => None,
            };
            (files, prefix.place().await)
        };
        let (mut files, mut place) = tokio::select! {
            biased;
            cut = Cut::of(stop, deadline) => return Err(self.cut(cut).into()),
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
            cut = Cut::of(stop, deadline) => return Err(self.cut(cut).into()),
            () = drain.cancelled(), if self.is_unanswered() => return Err(self.set_aside().into()),
            place = Arc::clone(calls).acquire_owned() => place,
        };
        self.call_place = place_among_calls.ok();
        let held =
            if self.claim.budgeted { Some(self.pay(shared, own, Via::Live).await?) } else { None };
        let permit = tokio::select! {
            biased;
            cut = Cut::of(stop, deadline) => {
                settle(held, Some(&Usage::default())).await?;
                return Err(self.cut(cut).into());
            }
            // Nor has one that stands in line.
            () = drain.cancelled(), if self.is_unanswered() => {
                settle(held, Some(&Usage::default())).await?;
                return Err(self.set_aside().into());
            }
            permit = limiter.reserve(self.need(shared, own), policy.inline_wait) => permit,
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(why) => {
                settle(held, Some(&Usage::default())).await?;
                return match self.not_permitted(lane.index, why) {
                    Some(end) => Err(end.into()),
                    None => Ok(None),
                };
            }
        };
        // The way may have closed while the question stood in its lines.
        let Ok(sent) = lane.send() else {
            drop(permit);
            settle(held, Some(&Usage::default())).await?;
            return Ok(None);
        };
        let (begun, waited) = (Begun::now(), permit.waited());
        let call = async {
            let call = place.during(self.call(lane, shared, own, permit, sent));
            match &mut files {
                Some(files) => files.during(call).await,
                None => call.await,
            }
        };
        let asked = tokio::select! {
            biased;
            cut = Cut::of(stop, deadline) => {
                let mut attempt = begun.attempt(own.kind, lane, waited);
                attempt.class = Some(FailureClass::Transient);
                attempt.error = cut.words().to_owned();
                attempt.possible = Some(self.possible(shared, own));
                self.attempts.push(attempt);
                self.report(begun.start.elapsed());
                return Err(self.cut(cut).into());
            }
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
        Ok(Some(asked))
    }

    /// Reserves what the question costs at most.
    pub(super) async fn pay(
        &self,
        shared: &Shared,
        own: OwnMessages<'_>,
        via: Via,
    ) -> Result<Held<'a>, NotAsked> {
        let Asker { run, stop, .. } = *self.asker;
        let cap = run.run.spec.judge.max_output_tokens;
        let counted = self.counted(shared, own);
        let paid = tokio::select! {
            biased;
            cut = Cut::of(stop, self.deadline) => return Err(self.cut(cut).into()),
            paid = run.purse.pay(self.claim, counted, cap, via) => paid?,
        };
        Err(match paid {
            Paid::Held(held) => return Ok(held),
            Paid::Fenced => End::Release.into(),
            Paid::Later => self.later().into(),
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

    /// The question's tokens.
    fn counted(&self, shared: &Shared, own: OwnMessages<'_>) -> Counted {
        let meter = &self.asker.run.meter;
        let repairs = own.repairs.iter().flat_map(|(answer, repair)| [answer, repair]);
        let own_tokens =
            repairs.fold(own.first_tokens(meter), |sum, text| sum + meter.tokens(text));
        meter.question(shared.tokens + own_tokens, SHARED_MESSAGES + 1 + 2 * own.repairs.len())
    }

    /// What the call may use at most.
    pub(super) fn possible(&self, shared: &Shared, own: OwnMessages<'_>) -> PossibleSpend {
        let run = self.asker.run;
        let output = u64::from(run.run.spec.judge.max_output_tokens);
        let usage = Usage { input: self.counted(shared, own).most, cached: 0, output };
        PossibleSpend { usage, cost_usd: run.meter.prices().map(|prices| prices.cost_usd(&usage)) }
    }

    /// The question as a provider takes it.
    pub(super) fn question<'q>(&self, shared: &'q Shared, own: OwnMessages<'q>) -> Question<'q>
    where
        'a: 'q,
    {
        let OwnMessages { kind, first, repairs, .. } = own;
        let run = self.asker.run;
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
        Question {
            judge: &run.run.spec.judge,
            prefix: shared.prefix.clone(),
            messages,
            parameters: run.parameters(self.form, answer, self.vote()),
            cache_key: run.cache_key(shared),
        }
    }

    /// Sends the question and records the call.
    async fn call(
        &mut self,
        lane: &Lane,
        shared: &Shared,
        own: OwnMessages<'_>,
        permit: Permit,
        sent: Sent<'_>,
    ) -> Result<Reply, CallFailure> {
        let Asker { run, policy, .. } = *self.asker;
        let (kind, waited) = (own.kind, permit.waited());
        let question = self.question(shared, own);
        run.health.trying();
        let begun = Begun::now();
        let number = self.attempts.len() + 1;
        let span = trace::call(&run.run.spec.judge, kind, number, &lane.route().name, waited);
        let asked = lane.route().provider.ask(&question).instrument(span.clone()).await;
        trace::answered(&span, &asked);
        let latency = begun.start.elapsed();
        permit.of_probe(sent.is_probe()).end(&asked, policy.hold(&asked));
        self.judge_of_endpoint(lane, sent, &asked);
        if let Ok(reply) = &asked {
            run.expected.learn(self.alike(own), bytes(shared, own), &reply.usage);
        }
        let mut attempt = begun.attempt(kind, lane, waited);
        match &asked {
            Ok(reply) => {
                run.health.succeeded();
                self.simulated |= reply.simulated;
                attempt.status = Some(reply.status);
                attempt.request_id.clone_from(&reply.request_id);
                attempt.usage = reply.usage;
            }
            Err(failure) => {
                if failure.reached {
                    run.health.reached();
                }
                self.simulated |= failure.simulated;
                attempt.class = Some(failure.class);
                attempt.status = failure.status;
                attempt.error.clone_from(&failure.message);
                attempt.request_id.clone_from(&failure.request_id);
                attempt.usage = failure.usage;
            }
        }
        match charged(&asked) {
            Some(usage) => {
                attempt.cost_usd = run.meter.prices().map(|prices| prices.cost_usd(&usage));
            }
            None => attempt.possible = Some(self.possible(shared, own)),
        }
        self.attempts.push(attempt);
        if asked.is_err() {
            self.report(latency);
        }
        asked
    }

    /// What the call shows of the endpoint.
    fn judge_of_endpoint(
        &mut self,
        lane: &Lane,
        sent: Sent<'_>,
        asked: &Result<Reply, CallFailure>,
    ) {
        let Asker { run, events, .. } = *self.asker;
        self.failed_on = asked.is_err().then_some(lane.index);
        self.probed = sent.is_probe();
        let endpoint = lane.route().name.clone();
        match (sent.end(asked, run.routes.len() == 1), asked) {
            (Some(Change::Opened(rest)), Err(failure)) => {
                let error = failure.message.clone();
                tracing::info!(endpoint, error, ?rest, "an endpoint rests");
                events.event(Event::EndpointDown { endpoint, error, rest });
            }
            (Some(Change::Closed), _) => {
                tracing::info!(endpoint, "an endpoint answers again");
                events.event(Event::EndpointUp { endpoint });
            }
            _ => {}
        }
    }

    /// What the question will probably use.
    fn need(&self, shared: &Shared, own: OwnMessages<'_>) -> Spend {
        let run = self.asker.run;
        let cap = u64::from(run.run.spec.judge.max_output_tokens);
        let counted = || {
            // As many for a byte as the shared part has, which is nearly all: the vocabulary takes longer to
            // unpack than all else before the first call.
            let own_tokens = own.first_tokens.unwrap_or_else(|| {
                let per_byte = shared.tokens as f64 / shared.prefix.len().max(1) as f64;
                (per_byte * own.first.len() as f64).ceil() as u64
            });
            run.meter.question(shared.tokens + own_tokens, SHARED_MESSAGES + 1).expected
        };
        run.expected.call(self.alike(own), bytes(shared, own), counted, cap)
    }

    /// Calls of one kind use alike; those that ask again are as those that ask first.
    fn alike(&self, own: OwnMessages<'_>) -> Alike {
        Alike { ranks: own.kind == CallKind::Rank, category: self.category, shrunk: self.shrunk }
    }
}

/// When a call went out.
#[derive(Clone, Copy, Debug)]
struct Begun {
    start: Instant,
    started_ms: i64,
}

// === impl Begun ===

impl Begun {
    fn now() -> Self {
        Self { start: Instant::now(), started_ms: now_ms() }
    }

    /// The record of the call, without what came of it.
    fn attempt(self, kind: CallKind, lane: &Lane, waited: Duration) -> Attempt {
        Attempt {
            kind,
            via: Via::Live,
            class: None,
            status: None,
            error: String::new(),
            request_id: None,
            started_ms: self.started_ms,
            waited_ms: millis(waited),
            latency_ms: millis(self.start.elapsed()),
            usage: Usage::default(),
            endpoint: lane.route().name.clone(),
            cost_usd: None,
            possible: None,
        }
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
