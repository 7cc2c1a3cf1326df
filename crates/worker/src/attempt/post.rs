//! A question that goes by the judge's batch API, and its reply.
//!
//! Owns posting the one and reading the other. The reply then takes the way of any other; what it
//! leads to is the attempt's.

use serde::{Deserialize, Serialize};
use tribunal_core::{
    Attempt, BatchId, CallKind, FailureClass, ReplyForm, Usage, Via, verdict::PossibleSpend,
};
use tribunal_store::{Claim, PostOutcome, Posting, ReservationId};

use super::{
    Asker, End, Turn,
    ask::{NotAsked, OwnMessages},
    now_ms,
};
use crate::{
    provider::{
        CallFailure, Reply,
        batch::{LineName, LineReply},
    },
    recorded::ContextError,
    run_context::Shared,
};

/// What is recorded of a question with its posting.
#[derive(Deserialize, Serialize)]
struct Record {
    form: ReplyForm,
    /// The files that were chosen for the leaf.
    selected: Vec<String>,
    posted_ms: i64,
    /// What it may use at most.
    possible: PossibleSpend,
}

/// A question that was posted, with its reply.
pub(super) struct PostedQuestion {
    /// How the answer was asked for.
    pub(super) form: ReplyForm,
    /// The files that were chosen for the leaf, where some were.
    pub(super) selected: Vec<String>,
    posted_ms: i64,
    possible: PossibleSpend,
    reservation: Option<ReservationId>,
    /// The line of the batch's file.
    line: std::sync::Arc<[u8]>,
}

// === impl PostedQuestion ===

impl PostedQuestion {
    /// What the claim brings; `None` where nothing was posted, or by a version whose record this one
    /// does not know.
    pub(super) fn of(claim: &Claim) -> Option<PostedQuestion> {
        let answered = claim.answered.as_deref()?;
        let record: Record = serde_json::from_slice(&answered.question).ok()?;
        Some(PostedQuestion {
            form: record.form,
            selected: record.selected,
            posted_ms: record.posted_ms,
            possible: record.possible,
            reservation: answered.reservation,
            line: answered.reply.clone(),
        })
    }
}

// === impl Turn ===

impl Turn<'_> {
    /// Posts the question: the claim ends with it.
    pub(super) async fn post(
        &mut self,
        shared: &Shared,
        own: OwnMessages<'_>,
    ) -> Result<End, ContextError> {
        let Asker { run, batcher, drain, events, .. } = *self.asker;
        if drain.is_cancelled() {
            return Ok(End::Release);
        }
        let Some(api) = run.routes.first().provider.batch_api() else {
            let reason = "the judge's endpoint has no batch API; go on without it: --via live";
            return Ok(End::Pause { reason: reason.to_owned() });
        };
        let held = match self.claim.budgeted {
            false => None,
            true => match self.pay(shared, own, Via::Batch).await {
                Ok(held) => Some(held),
                Err(NotAsked::End(end)) => return Ok(*end),
                Err(NotAsked::Context(error)) => return Err(error),
            },
        };
        let selected = self.chosen.as_ref().map(|chosen| chosen.files.selected.paths.clone());
        let possible = self.possible(shared, own);
        let possible = PossibleSpend {
            cost_usd: run.meter.prices().map(|p| p.cost_via(Via::Batch, &possible.usage)),
            ..possible
        };
        let record = Record {
            form: self.form,
            selected: selected.unwrap_or_default(),
            posted_ms: now_ms(),
            possible,
        };
        let question = serde_json::to_vec(&record);
        let question = question.map_err(|error| ContextError::Unusable(error.to_string()))?;
        let (position, sample) = (self.claim.task.position, self.claim.task.sample);
        let line = api.line(LineName { position, sample }, &self.question(shared, own));
        let posting = Posting {
            run: self.claim.run.clone(),
            position,
            sample,
            lease: self.claim.lease,
            // The batcher's to fill in.
            batch: BatchId::from_bytes([0; 16]),
            reservation: held.as_ref().map(|held| held.id()),
            question,
            attempts: self.attempts.clone(),
        };
        let outcome = batcher.post(run, posting, line).await?;
        match outcome {
            PostOutcome::Posted => {
                self.attempts.clear();
                events.event(tribunal_core::event::Event::Posted { task: self.task.clone() });
                Ok(End::Posted)
            }
            PostOutcome::Fenced => {
                if let Some(held) = held {
                    held.settle(Some(&Usage::default())).await?;
                }
                Ok(End::Release)
            }
        }
    }

    /// The reply to a question that was posted, recorded as a call.
    pub(super) async fn reply_of(
        &mut self,
        posted: PostedQuestion,
    ) -> Result<Result<Reply, CallFailure>, ContextError> {
        let run = self.asker.run;
        let route = run.routes.first();
        let model = &run.run.spec.judge.model;
        let read = route.provider.batch_api().and_then(|api| api.read_line(&posted.line, model));
        let asked = match read {
            Some((_, LineReply::Asked(asked))) => *asked,
            Some((_, LineReply::NotAsked)) | None => {
                let message = "the line of the batch says nothing".to_owned();
                let failure = CallFailure::unanswered(FailureClass::BadReply, message);
                Err(CallFailure { reached: true, ..failure })
            }
        };
        let prices = run.meter.prices();
        let mut attempt = Attempt {
            kind: CallKind::Judge,
            via: Via::Batch,
            class: None,
            status: None,
            error: String::new(),
            request_id: None,
            started_ms: posted.posted_ms,
            waited_ms: 0,
            latency_ms: u64::try_from(now_ms() - posted.posted_ms).unwrap_or(0),
            usage: Usage::default(),
            endpoint: route.name.clone(),
            cost_usd: None,
            possible: None,
        };
        // What a batch could not answer costs nothing.
        let charged = match &asked {
            Ok(reply) => {
                run.health.succeeded();
                self.simulated |= reply.simulated;
                attempt.status = Some(reply.status);
                attempt.request_id.clone_from(&reply.request_id);
                reply.reports_usage.then_some(reply.usage)
            }
            Err(failure) => {
                run.health.reached();
                self.simulated |= failure.simulated;
                attempt.class = Some(failure.class);
                attempt.status = failure.status;
                attempt.error.clone_from(&failure.message);
                attempt.request_id.clone_from(&failure.request_id);
                Some(failure.usage)
            }
        };
        match charged {
            Some(usage) => {
                attempt.usage = usage;
                attempt.cost_usd = prices.map(|prices| prices.cost_via(Via::Batch, &usage));
            }
            None => attempt.possible = Some(posted.possible),
        }
        if let Some(id) = posted.reservation {
            run.purse.settle_posted(id, charged.as_ref()).await?;
        }
        let latency = std::time::Duration::from_millis(attempt.latency_ms);
        self.attempts.push(attempt);
        if asked.is_err() {
            self.report(latency);
        }
        Ok(asked)
    }

    /// What a leaf does that the budget may hold once batches have given something back.
    pub(super) fn later(&self) -> End {
        let (class, delay) = (FailureClass::Throttled, self.asker.batcher.wait());
        let error = "the budget is held by batches that are not answered yet".to_owned();
        End::Retry { class, delay, charged: self.charge(), error }
    }
}
