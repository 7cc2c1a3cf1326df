//! One question that is no leaf's, such as a request for a better prompt.
//!
//! Owns its way to a judge: the limits that all calls of the account share, the call, and what is done
//! about a failure, as the error table has it. It records nothing: what it cost stands in its answer.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tribunal_core::{FailureClass, JudgeSpec, ReplyForm, Usage, WorkerId};
use tribunal_store::{Spend, Store};

use crate::{
    limit::{NoPermit, Permit},
    provider::{Answer, CallFailure, Endpoint, Finish, Message, Question, Reply},
    retry::RetryPolicy,
    route::{Lane, Providers, Routes},
};

/// Somebody to be asked for a text.
pub struct Consultant {
    judge: JudgeSpec,
    routes: Routes,
    policy: RetryPolicy,
}

/// What came of a question.
#[derive(Clone, Debug)]
pub struct Consulted {
    /// The answer.
    pub text: String,
    /// Tokens of all calls.
    pub usage: Usage,
    /// What they cost, in US dollars; `None` where no price is known.
    pub cost_usd: Option<f64>,
    /// Calls that were made.
    pub calls: u64,
    /// Whether a simulated judge answered.
    pub simulated: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsultError {
    /// It was told to stop.
    #[error("stopped")]
    Stopped,
    /// The account or the endpoint refuses.
    #[error("{0}")]
    Refused(String),
    /// The retries are used up, or asking again would not help.
    #[error("{0}")]
    Failed(String),
}

/// How long a question waits for its turn before it looks again.
const PATIENCE: Duration = Duration::from_secs(3_600);

// === impl Consultant ===

impl Consultant {
    /// Whoever these endpoints of the judge reach.
    ///
    /// # Errors
    ///
    /// An endpoint cannot be used.
    pub fn new(
        judge: JudgeSpec,
        endpoints: Vec<Endpoint>,
        store: &Arc<dyn Store>,
        policy: RetryPolicy,
    ) -> Result<Consultant, String> {
        let worker = WorkerId::from_bytes(rand::random());
        let routes =
            Providers::new(policy.breaker).get(endpoints, &judge.model, (store, worker))?;
        // The answer is a text of its own form, not a verdict.
        let judge = JudgeSpec { reply_form: ReplyForm::Text, fallback_forms: Vec::new(), ..judge };
        Ok(Consultant { judge, routes, policy })
    }

    /// Bytes that differ whenever the answers may.
    pub fn identity(&self) -> Vec<u8> {
        self.judge.identity()
    }

    /// The most that one call with this question may cost, in US dollars; `None` where no price is
    /// known.
    pub fn most_usd(&self, text: &str) -> Option<f64> {
        let meter = &self.routes.meter;
        let input = meter.question(meter.tokens(text), 1).most;
        let output = u64::from(self.judge.max_output_tokens);
        meter.prices().map(|prices| prices.cost_usd(&Usage { input, cached: 0, output }))
    }

    /// Asks until an answer has come.
    ///
    /// # Errors
    ///
    /// There will be none.
    pub async fn ask(
        &self,
        text: &str,
        stop: &CancellationToken,
    ) -> Result<Consulted, ConsultError> {
        let provider = self.routes.provider();
        let messages = [Message { role: "user", content: text }];
        let answer = Answer::Verdict { fractional: false };
        let parameters =
            provider.parameters(&self.judge, ReplyForm::Text, answer, &BTreeMap::new());
        let question = Question {
            judge: &self.judge,
            prefix: provider.prefix(&self.judge, &messages),
            messages: Vec::new(),
            parameters,
            cache_key: None,
        };
        let meter = &self.routes.meter;
        let input = meter.question(meter.tokens(text), 1).expected;
        let need = Spend::call(input, u64::from(self.judge.max_output_tokens));
        let (mut usage, mut calls, mut failures, mut avoided) = (Usage::default(), 0, 0, None);
        loop {
            let lane = match self.routes.choose(avoided) {
                Ok(lane) => lane,
                Err(wait) => {
                    rest(wait, stop).await?;
                    continue;
                }
            };
            let permit = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(ConsultError::Stopped),
                permit = lane.route().limiter.reserve(need, PATIENCE) => permit,
            };
            let permit = match permit {
                Ok(permit) => permit,
                Err(NoPermit::Held(wait)) => {
                    rest(wait, stop).await?;
                    continue;
                }
                Err(NoPermit::TooLarge { needs, limit, .. }) => {
                    return Err(ConsultError::Failed(format!(
                        "the question needs {needs} tokens, and the account may use {limit} in a \
                         minute"
                    )));
                }
            };
            let asked = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(ConsultError::Stopped),
                asked = self.call(&lane, &question, permit) => asked,
            };
            let Some(asked) = asked else { continue };
            calls += 1;
            let failure = match asked {
                Ok(reply) if reply.finish == Finish::Length => {
                    let cap = self.judge.max_output_tokens;
                    return Err(ConsultError::Failed(format!(
                        "the answer was cut off at {cap} tokens; raise max_output_tokens of `{}`",
                        self.judge.name
                    )));
                }
                Ok(reply) => {
                    usage += reply.usage;
                    let cost_usd = meter.prices().map(|prices| prices.cost_usd(&usage));
                    let (text, simulated) = (reply.content, reply.simulated);
                    return Ok(Consulted { text, usage, cost_usd, calls, simulated });
                }
                Err(failure) => failure,
            };
            usage += failure.usage;
            avoided = Some(lane.index);
            let wait = match failure.class {
                FailureClass::Throttled => self.policy.throttled(failure.retry_after),
                FailureClass::Transient if failures < self.policy.transient_attempts => {
                    failures += 1;
                    self.policy.delay(failures)
                }
                FailureClass::Account => return Err(ConsultError::Refused(failure.message)),
                _ => return Err(ConsultError::Failed(failure.message)),
            };
            drop(lane);
            rest(wait, stop).await?;
        }
    }

    /// One call; `None` where nothing goes this way any more.
    async fn call(
        &self,
        lane: &Lane,
        question: &Question<'_>,
        permit: Permit,
    ) -> Option<Result<Reply, CallFailure>> {
        let sent = lane.send().ok()?;
        let asked = lane.route().provider.ask(question).await;
        permit.of_probe(sent.is_probe()).end(&asked, self.policy.hold(&asked));
        sent.end(&asked, self.routes.len() == 1);
        Some(asked)
    }
}

async fn rest(wait: Duration, stop: &CancellationToken) -> Result<(), ConsultError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(ConsultError::Stopped),
        () = tokio::time::sleep(wait) => Ok(()),
    }
}
