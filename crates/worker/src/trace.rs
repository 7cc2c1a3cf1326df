//! What a leaf and its calls look like in logs and traces.
//!
//! Owns names and fields: of the span of a claim, which every line about its leaf carries, of the span of
//! a call, and of the line that says how a call ended. Where they go is the subscriber's; no word of a
//! question, a reply or a rationale is in them.

use std::time::Duration;

use reqwest::Url;
use tracing::{Span, field};
use tribunal_core::{Attempt, CallKind, JudgeSpec, Outcome, Usage};
use tribunal_store::Claim;

use crate::{
    attempt::End,
    provider::{CallFailure, Finish, Reply},
};

/// The target of spans and events that follow OpenTelemetry's conventions for generative AI
/// (<https://github.com/open-telemetry/semantic-conventions-genai>): for exporters, not for logs.
pub const GEN_AI: &str = "gen_ai";

/// The name of a claim's span. Its fields `run`, `position` and `sample` name the task; `leaf` is the
/// node's id, which need not be its alone.
pub const LEAF: &str = "leaf";

/// The span of a claim. At the level of an error, so that a log of any level has its fields.
pub(crate) fn leaf(claim: &Claim) -> Span {
    tracing::error_span!(
        LEAF,
        run = %claim.run,
        leaf = claim.task.id,
        position = i64::from(claim.task.position),
        sample = i64::from(claim.task.sample),
        lease = %claim.lease,
        tribunal.outcome = field::Empty,
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
    )
}

/// How the claim of the current span ended.
pub(crate) fn ended(end: &End) {
    let span = Span::current();
    match end {
        End::Verdict(verdict) => match verdict.outcome {
            Outcome::Graded { score } => {
                span.record("tribunal.outcome", "graded");
                tracing::info!(
                    target: GEN_AI,
                    { gen_ai.evaluation.name = "rubric leaf", gen_ai.evaluation.score.value = score },
                    "gen_ai.evaluation.result"
                );
            }
            Outcome::Ungraded { .. } => {
                span.record("tribunal.outcome", "ungraded");
            }
        },
        End::Retry { error, .. } => failed(&span, "retried", error),
        End::Dead { error, .. } => failed(&span, "dead", error),
        End::Pause { reason } => failed(&span, "paused", reason),
        End::Posted => {
            span.record("tribunal.outcome", "posted");
        }
        End::Release => {
            span.record("tribunal.outcome", "released");
        }
    }
}

fn failed(span: &Span, outcome: &str, error: &str) {
    span.record("tribunal.outcome", outcome);
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", error);
}

/// The span of call number `attempt` of a claim, counted from 1, to the endpoint of this URL.
pub(crate) fn call(
    judge: &JudgeSpec,
    kind: CallKind,
    attempt: usize,
    url: &str,
    waited: Duration,
) -> Span {
    let span = tracing::info_span!(
        target: GEN_AI,
        "chat",
        otel.name = format!("chat {}", judge.model),
        otel.kind = "client",
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
        gen_ai.operation.name = "chat",
        // What speaks this protocol: who stands behind it only its address shows.
        gen_ai.provider.name = "openai",
        gen_ai.request.model = judge.model,
        gen_ai.request.max_tokens = i64::from(judge.max_output_tokens),
        gen_ai.request.temperature = judge.temperature,
        gen_ai.response.model = field::Empty,
        tribunal.finish_reason = field::Empty,
        gen_ai.usage.input_tokens = field::Empty,
        gen_ai.usage.cache_read.input_tokens = field::Empty,
        gen_ai.usage.output_tokens = field::Empty,
        server.address = field::Empty,
        server.port = field::Empty,
        http.response.status_code = field::Empty,
        error.type = field::Empty,
        tribunal.attempt = int(attempt),
        tribunal.call = kind.name(),
        tribunal.waited_ms = int(waited.as_millis()),
        tribunal.request_id = field::Empty,
        tribunal.simulated = field::Empty,
    );
    if !span.is_disabled()
        && let Ok(url) = Url::parse(url)
    {
        span.record("server.address", url.host_str());
        span.record("server.port", url.port_or_known_default().map(i64::from));
    }
    span
}

/// What came of the call of the span.
pub(crate) fn answered(span: &Span, asked: &Result<Reply, CallFailure>) {
    if span.is_disabled() {
        return;
    }
    let (status, request_id, usage, simulated) = match asked {
        Ok(reply) => {
            let finish = match reply.finish {
                Finish::Stop => "stop",
                Finish::Length => "length",
                Finish::Other => "other",
            };
            span.record("gen_ai.response.model", &*reply.model);
            span.record("tribunal.finish_reason", finish);
            (Some(reply.status), &reply.request_id, reply.usage, reply.simulated)
        }
        Err(failure) => {
            span.record("error.type", field::display(failure.class));
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", &*failure.message);
            (failure.status, &failure.request_id, failure.usage, failure.simulated)
        }
    };
    span.record("http.response.status_code", status.map(i64::from));
    span.record("tribunal.request_id", request_id.as_deref());
    span.record("tribunal.simulated", simulated);
    if usage != Usage::default() {
        span.record("gen_ai.usage.input_tokens", int(usage.input));
        span.record("gen_ai.usage.cache_read.input_tokens", int(usage.cached));
        span.record("gen_ai.usage.output_tokens", int(usage.output));
    }
}

/// The line of call number `number` of a claim, counted from 1.
pub(crate) fn call_ended(number: usize, attempt: &Attempt) {
    let Attempt { kind, status, endpoint, waited_ms, latency_ms, .. } = attempt;
    let request_id = attempt.request_id.as_deref();
    match attempt.class {
        None => tracing::debug!(
            attempt = number,
            request_id,
            kind = kind.name(),
            status,
            endpoint,
            waited_ms,
            latency_ms,
            "the judge answered"
        ),
        Some(class) => tracing::info!(
            attempt = number,
            request_id,
            kind = kind.name(),
            %class,
            status,
            endpoint,
            waited_ms,
            latency_ms,
            error = attempt.error,
            "a call failed"
        ),
    }
}

/// As exporters take whole numbers: the others they would write as text.
fn int(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
