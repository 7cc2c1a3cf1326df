//! The way of one call: key, body, model and prompt are read, then limits, faults, verdict and
//! latency come in this order.
//!
//! Owns the order. What each of them says lives in its own module.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::rejection::BytesRejection,
    http::{HeaderMap, Response, StatusCode, header},
};
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use super::{App, json_response, unix_seconds};
use crate::{
    cache::Prefixes,
    chance,
    faults::{self, Fault},
    profile::Instructions,
    question::Question,
    ranking::RankQuestion,
    reply::{Choice, Form, Tokens},
    request::{ApiError, ChatRequest, set_headers},
    segment::Segment,
    stats::InFlight,
    verdict::{Ask, Basis, Decision},
};

/// How long a call that is never answered is held.
const NEVER: Duration = Duration::from_secs(600);

/// Tokens that every message costs besides its text, and every reply's start.
const MESSAGE_TOKENS: u64 = 3;

/// A prompt that was read.
pub(super) struct Prompt {
    /// The texts in order, each with the index of its message.
    texts: Vec<(usize, Arc<Segment>)>,
    question: Question,
    /// The question for files, where it is one.
    ranking: Option<RankQuestion>,
    pub(super) tokens: u64,
}

// === impl App ===

impl App {
    /// Reads a call: key, body, model, prompt.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<(ChatRequest, Prompt), ApiError> {
        self.authorize(headers)?;
        let body = body.map_err(|rejection| ApiError {
            status: rejection.status(),
            ..ApiError::bad_request(None, None, rejection.body_text())
        })?;
        self.read_body(body).await
    }

    /// Reads the body of a call.
    pub(super) async fn read_body(&self, body: Bytes) -> Result<(ChatRequest, Prompt), ApiError> {
        let mut request = ChatRequest::read(&body)?;
        drop(body);
        let models = &self.config.models;
        if !models.is_empty() && !models.contains(&request.model) {
            let model = &request.model;
            return Err(ApiError {
                status: StatusCode::NOT_FOUND,
                kind: "invalid_request_error",
                code: Some("model_not_found"),
                param: None,
                message: format!(
                    "The model `{model}` does not exist or you do not have access to it."
                ),
                headers: Vec::new(),
            });
        }
        let prompt = self.read_prompt(&request).await?;
        // They hold the body, which a call with latency would keep for nothing.
        request.messages.iter_mut().for_each(|message| message.texts.clear());
        let mut segments = prompt.texts.iter().map(|(_, segment)| segment);
        if request.form == Form::Object && !segments.any(|segment| segment.mentions_json()) {
            let message = "'messages' must contain the word 'json' in some form, to use \
                           'response_format' of type 'json_object'.";
            let message = message.to_owned();
            return Err(ApiError::bad_request(Some("messages"), None, message));
        }
        Ok((request, prompt))
    }

    async fn read_prompt(&self, request: &ChatRequest) -> Result<Prompt, ApiError> {
        let mut texts = Vec::new();
        for (n, message) in request.messages.iter().enumerate() {
            for text in &message.texts {
                let read = self.segments.read(text.escaped.clone(), text.shared).await;
                let segment = read.map_err(|error| {
                    let message = format!("Invalid 'messages[{n}].content': {error}");
                    ApiError::bad_request(Some("messages"), Some("invalid_value"), message)
                })?;
                texts.push((n, segment));
            }
        }
        let role = |n: usize| request.messages[n].role.as_str();
        let asked = texts
            .iter()
            .rev()
            .filter(|(n, _)| role(*n) != "assistant")
            .find(|(_, segment)| segment.question().is_some());
        let ranking = asked.and_then(|(_, segment)| segment.ranking().cloned());
        let question = asked.and_then(|(_, segment)| segment.question().cloned());
        let question = question.unwrap_or_else(|| {
            let last = texts.iter().map(|(n, _)| *n).rfind(|n| role(*n) == "user");
            let words = texts.iter().filter(|(n, _)| Some(*n) == last);
            let words: String = words.map(|(_, segment)| segment.text()).collect();
            Question::of_text(&words)
        });
        let overhead = MESSAGE_TOKENS * (request.messages.len() as u64 + 1);
        let tokens = overhead + texts.iter().map(|(_, segment)| segment.tokens()).sum::<u64>();
        Ok(Prompt { texts, question, ranking, tokens })
    }

    /// Answers a call that could be read, or refuses to.
    pub(super) async fn answer(
        &self,
        call: &InFlight<'_>,
        request: ChatRequest,
        prompt: Prompt,
    ) -> Response<Body> {
        let now = Instant::now();
        if let Err(error) = self.limiter.admit(now, &request.model, prompt.tokens) {
            self.counters.rejected.fetch_add(1, Relaxed);
            return error.response();
        }
        self.counters.admitted.fetch_add(1, Relaxed);
        let fault = Fault::draw(&self.config, call.ordinal);
        if fault == Some(Fault::Timeout) {
            self.counters.timeouts.fetch_add(1, Relaxed);
            self.wait(NEVER).await;
            return plain(StatusCode::GATEWAY_TIMEOUT, "[simulated] Gateway Timeout\n");
        }
        if fault == Some(Fault::Error) {
            let limits = self.limiter.headers(now);
            self.wait(self.latency(call.ordinal)).await;
            self.counters.errors.fetch_add(1, Relaxed);
            let mut response = faults::server_error(self.config.seed, call.ordinal);
            set_headers(&mut response, limits);
            return response;
        }
        let prefixes = self.prefixes_of(&request, &prompt);
        let cached = self.prefixes.cached_tokens(&prefixes);
        let decision = self.decide(&request, &prompt);
        let proposal = self.proposal(&prompt);
        let choice = match (&prompt.ranking, &proposal) {
            (_, Some(proposal)) => self.choose(fault, &request, proposal.clone()),
            (Some(ranking), None) => self.rank(fault, call.ordinal, &request, ranking, &prompt),
            (None, None) => self.choose(fault, &request, request.form.render(&decision)),
        };
        self.limiter.charge_tokens(now, choice.tokens);
        let limits = self.limiter.headers(now);
        if !self.wait(self.latency(call.ordinal)).await {
            let text = "[simulated] the simulated judge is shutting down\n";
            return plain(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        let tokens = Tokens { prompt: prompt.tokens, cached, completion: choice.tokens };
        self.prefixes.remember(&prefixes);
        self.counters.spend(tokens);
        let id = self.id("chatcmpl-sim-", &call.ordinal.to_le_bytes());
        let body = choice.body(&id, unix_seconds(), &request.model, tokens);
        let mut response = match fault {
            Some(Fault::Reset) => {
                self.counters.resets.fetch_add(1, Relaxed);
                faults::reset(body)
            }
            Some(Fault::Stall) => {
                self.counters.stalls.fetch_add(1, Relaxed);
                faults::stall(body)
            }
            _ => json_response(body),
        };
        let done = fault.is_none() && choice.finish_reason == "stop";
        if done && proposal.is_some() {
            self.counters.proposals.fetch_add(1, Relaxed);
        } else if done && prompt.ranking.is_none() {
            let unknown = decision.basis == Basis::Unlabelled;
            self.counters.answer(&prompt.question, unknown);
        }
        set_headers(&mut response, limits);
        response
    }

    /// Answers a question of a batch: neither limits nor latency hold for it, and of the faults only
    /// those of a reply.
    pub(super) fn answer_posted(
        &self,
        ordinal: u64,
        request: ChatRequest,
        prompt: Prompt,
    ) -> String {
        let fault = Fault::draw(&self.config, ordinal);
        let fault = fault.filter(|fault| matches!(fault, Fault::Malformed | Fault::Refusal));
        let prefixes = self.prefixes_of(&request, &prompt);
        let cached = self.prefixes.cached_tokens(&prefixes);
        let decision = self.decide(&request, &prompt);
        let choice = match &prompt.ranking {
            Some(ranking) => self.rank(fault, ordinal, &request, ranking, &prompt),
            None => self.choose(fault, &request, request.form.render(&decision)),
        };
        let tokens = Tokens { prompt: prompt.tokens, cached, completion: choice.tokens };
        self.prefixes.remember(&prefixes);
        self.counters.spend(tokens);
        if fault.is_none() && choice.finish_reason == "stop" && prompt.ranking.is_none() {
            let unknown = decision.basis == Basis::Unlabelled;
            self.counters.answer(&prompt.question, unknown);
        }
        let id = self.id("chatcmpl-sim-batch-", &ordinal.to_le_bytes());
        choice.body(&id, unix_seconds(), &request.model, tokens)
    }

    fn decide(&self, request: &ChatRequest, prompt: &Prompt) -> Decision {
        let shown = prompt.texts.iter();
        let shown: Vec<&Segment> = shown.map(|(_, segment)| segment.as_ref()).collect();
        let role = |n: usize| request.messages[n].role.as_str();
        let texts = prompt.texts.iter();
        let system = texts.filter(|(n, _)| matches!(role(*n), "system" | "developer"));
        let system: String = system.map(|(_, segment)| segment.text()).collect();
        let behind = |segment: &Segment| {
            segment.text().rfind("</criterion").map(|at| segment.text()[at..].to_owned())
        };
        let question = shown.iter().rev().find_map(|segment| behind(segment)).unwrap_or_default();
        self.judge.decide(&Ask {
            question: &prompt.question,
            prompt: &shown,
            model: &request.model,
            request_seed: request.seed,
            instructions: Instructions { system: &system, question: &question },
        })
    }

    /// The answer to a request for a better prompt, which stands in the last message.
    fn proposal(&self, prompt: &Prompt) -> Option<String> {
        let (_, last) = prompt.texts.last()?;
        self.judge.propose(last.text())
    }

    fn choose(&self, fault: Option<Fault>, request: &ChatRequest, content: String) -> Choice {
        let cap = request.max_tokens;
        match fault {
            Some(Fault::Malformed) => {
                let count = self.counters.malformed.fetch_add(1, Relaxed);
                faults::malformed(count, &request.form, content, cap)
            }
            Some(Fault::Refusal) => faults::refusal(self.counters.refusals.fetch_add(1, Relaxed)),
            Some(Fault::Error | Fault::Timeout | Fault::Reset | Fault::Stall) | None => {
                Choice::of(content, cap)
            }
        }
    }

    /// The answer to a question for files.
    fn rank(
        &self,
        fault: Option<Fault>,
        ordinal: u64,
        request: &ChatRequest,
        ranking: &RankQuestion,
        prompt: &Prompt,
    ) -> Choice {
        if fault.is_none() && faults::spoils_ranking(&self.config, ordinal) {
            let count = self.counters.unusable_rankings.fetch_add(1, Relaxed);
            return faults::unusable_ranking(count, &request.form, request.max_tokens);
        }
        if fault.is_none() {
            self.counters.rankings.fetch_add(1, Relaxed);
        }
        let paths = prompt.texts.iter().flat_map(|(_, segment)| segment.paths());
        let paths: Vec<&str> = paths.map(String::as_str).collect();
        self.choose(fault, request, request.form.render_files(&ranking.answer(&paths)))
    }

    fn prefixes_of(&self, request: &ChatRequest, prompt: &Prompt) -> Prefixes {
        let mut before = None;
        let texts = prompt.texts.iter().map(|(n, segment)| {
            let begins = before.replace(*n) != Some(*n);
            let role = begins.then(|| request.messages[*n].role.as_str());
            (role, segment.as_ref())
        });
        Prefixes::of(&request.model, MESSAGE_TOKENS, texts)
    }

    pub(super) fn authorize(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(key) = &self.config.api_key else {
            return Ok(());
        };
        let given = headers.get(header::AUTHORIZATION);
        let given = given.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let message = match given {
            Some(given) if given == key.expose_secret() => return Ok(()),
            Some(_) => "Incorrect API key provided.",
            None => "You didn't provide an API key: send it as a bearer token.",
        };
        Err(ApiError {
            status: StatusCode::UNAUTHORIZED,
            kind: "invalid_request_error",
            code: Some("invalid_api_key"),
            param: None,
            message: message.to_owned(),
            headers: Vec::new(),
        })
    }

    /// How long the call with this ordinal takes.
    fn latency(&self, ordinal: u64) -> Duration {
        let (median, sigma) = (self.config.latency_ms, self.config.latency_sigma);
        if median == 0.0 {
            return Duration::ZERO;
        }
        let z = if sigma == 0.0 {
            0.0
        } else {
            chance::normal(self.config.seed, "latency", &[&ordinal.to_le_bytes()])
        };
        let millis = median * (sigma * z).exp();
        Duration::from_secs_f64(millis / 1000.0).min(NEVER)
    }

    /// Waits; false if the server is told to stop.
    async fn wait(&self, duration: Duration) -> bool {
        if duration.is_zero() {
            return true;
        }
        tokio::select! {
            () = tokio::time::sleep(duration) => true,
            () = self.stop.cancelled() => false,
        }
    }

    /// A name that no other reply of this server has.
    pub(super) fn id(&self, prefix: &str, of: &[u8]) -> String {
        let started = self.started.to_le_bytes();
        let hash = chance::hash(self.config.seed, prefix, &[&started, of]);
        let digits: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{prefix}{digits}")
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}
