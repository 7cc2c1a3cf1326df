//! The judge's endpoint: one call in, a reply or a classed failure out.
//!
//! Owns the trait and its nouns. A provider makes exactly one request a call: it never retries,
//! never waits, never logs a body. Who retries is the attempt.

pub mod batch;
pub mod classify;
pub mod headers;
pub mod openai;

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use tribunal_core::{FailureClass, JudgeSpec, ReplyForm, Usage, ids::FieldHasher};
use tribunal_store::{QuotaLimits, QuotaPool};

use self::batch::BatchApi;
use crate::meter::Tariff;

/// Hex digits that tell the accounts of a host apart.
const ACCOUNT_DIGITS: usize = 16;

/// Where calls go and how, secrets included: made from the config of this machine, never stored.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The URL with its `/v1`; `/chat/completions` is appended.
    pub base_url: String,
    /// The key; none for local servers.
    pub api_key: Option<SecretString>,
    /// For Azure: the `api-version`; the key is then sent as `api-key`.
    pub azure_api_version: Option<String>,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// Limit of one whole call.
    pub timeout: Duration,
    /// Limit of connecting.
    pub connect_timeout: Duration,
    /// Whether it takes `prompt_cache_key`: servers that do not know the field may refuse it.
    pub prompt_cache_key: bool,
    /// How its model's tokens are counted, and what they cost.
    pub tariff: Tariff,
    /// The limits to keep, besides those that the endpoint states or that are found out.
    pub limits: QuotaLimits,
    /// The models that share the account's limits; `None` for an endpoint of this process's own,
    /// which nobody else calls.
    pub family: Option<String>,
    /// The account whose limits the key shares with other keys; `None` for an account of its own.
    pub account: Option<String>,
    /// Its share of the judge's calls against the judge's other endpoints.
    pub weight: NonZeroU32,
}

// === impl Endpoint ===

impl Endpoint {
    /// An endpoint of this process's own, without key or limit; its URL is to be filled in.
    pub fn local() -> Self {
        Self {
            base_url: String::new(),
            api_key: None,
            azure_api_version: None,
            headers: BTreeMap::new(),
            timeout: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(10),
            prompt_cache_key: false,
            tariff: Tariff::default(),
            limits: QuotaLimits::default(),
            family: None,
            account: None,
            weight: NonZeroU32::MIN,
        }
    }

    /// What the account's calls of this family share: known by the host and the account's name, else
    /// a hash of the key.
    pub fn pool(&self) -> Option<QuotaPool> {
        let family = self.family.clone()?;
        let host = self.base_url.split("://").last().unwrap_or_default();
        let host = host.split('/').next().unwrap_or_default();
        let account = match &self.account {
            Some(account) => account.clone(),
            None => self.hash("tribunal.account/1", "host", host),
        };
        Some(QuotaPool { account: format!("{host} {account}"), family })
    }

    /// What tells it from other endpoints of the process; holds no secret.
    pub fn identity(&self) -> String {
        let hash = self.hash("tribunal.endpoint/1", "url", &self.base_url);
        format!("{} {hash}", self.base_url)
    }

    fn hash(&self, what: &'static str, field: &'static str, value: &str) -> String {
        let mut hasher = FieldHasher::new(what);
        hasher.field(field, value.as_bytes());
        if let Some(key) = &self.api_key {
            hasher.field("key", key.expose_secret().as_bytes());
        }
        hasher.finish().to_string()[..ACCOUNT_DIGITS].to_owned()
    }
}

/// Gives a judge's endpoints: from the config, and the simulated judge's where it runs inside.
pub trait ResolveEndpoints: Send + Sync {
    /// The endpoints, the one that the run names first.
    ///
    /// # Errors
    ///
    /// Why there is none here, and what to do.
    fn endpoints(&self, judge: &JudgeSpec) -> Result<Vec<Endpoint>, String>;
}

/// One message.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Message<'m> {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// The text.
    pub content: &'m str,
}

/// What an answer is to hold, for the forms that carry a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// A verdict.
    Verdict {
        /// Whether the scale is fractional.
        fractional: bool,
    },
    /// Paths of files.
    Ranking,
}

/// A question to the judge.
#[derive(Clone, Debug)]
pub struct Question<'q> {
    /// Model and parameters, which are in the bytes below already.
    pub judge: &'q JudgeSpec,
    /// The request up to the leaf's own messages, as [`Provider::prefix`] made it.
    pub prefix: Bytes,
    /// The leaf's own messages.
    pub messages: Vec<Message<'q>>,
    /// The request behind the messages, as [`Provider::parameters`] made it.
    pub parameters: Bytes,
    /// What tells the provider which questions share a prefix; sent where the endpoint takes it.
    pub cache_key: Option<&'q str>,
}

/// Why the model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It was done.
    Stop,
    /// The cap on completion tokens.
    Length,
    /// Anything else that came with content.
    Other,
}

/// One of an account's limits, as an answer's headers state it; every part may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LimitWindow {
    /// What the window allows: requests or tokens.
    pub limit: Option<u64>,
    /// What is left of it.
    pub remaining: Option<u64>,
    /// Time until the window is whole again, from the moment of the answer.
    pub reset: Option<Duration>,
}

/// What an answer's headers say of the account's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LimitHeaders {
    /// Of requests.
    pub requests: Option<LimitWindow>,
    /// Of tokens of prompts and answers together.
    pub tokens: Option<LimitWindow>,
    /// Of tokens of prompts.
    pub input_tokens: Option<LimitWindow>,
    /// Of tokens of answers.
    pub output_tokens: Option<LimitWindow>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The judge's text.
    pub content: String,
    /// Why the model stopped.
    pub finish: Finish,
    /// The model that the reply names.
    pub model: String,
    /// Tokens.
    pub usage: Usage,
    /// Whether the reply states its tokens; zeros stand in `usage` where it does not.
    pub reports_usage: bool,
    /// Whether it states how many of them were cached, be it none.
    pub reports_cached: bool,
    /// Whether the reply says that it is simulated.
    pub simulated: bool,
    /// HTTP status.
    pub status: u16,
    /// The provider's request id.
    pub request_id: Option<String>,
    /// The account's limits, where headers state any.
    pub limits: Option<Box<LimitHeaders>>,
}

/// A call that gave no answer.
#[derive(Clone, Debug)]
pub struct CallFailure {
    /// What it is, and so what to do.
    pub class: FailureClass,
    /// HTTP status, where an answer came.
    pub status: Option<u16>,
    /// The provider's message, shortened, without the key.
    pub message: String,
    /// How long the provider asked to wait.
    pub retry_after: Option<Duration>,
    /// The provider's request id.
    pub request_id: Option<String>,
    /// Tokens, where a refusal came with usage.
    pub usage: Usage,
    /// Whether the endpoint answered at all.
    pub reached: bool,
    /// Whether an answer that came says that it is simulated.
    pub simulated: bool,
    /// The account's limits, where headers state any.
    pub limits: Option<Box<LimitHeaders>>,
}

// === impl CallFailure ===

impl CallFailure {
    /// Whether the endpoint alone is to blame, whatever was asked: nobody was reached, or what stands
    /// before the model says that the model is away.
    pub fn is_outage(&self) -> bool {
        let away = matches!(self.status, Some(502 | 503 | 504 | 529));
        self.class == FailureClass::Transient && (!self.reached || away)
    }

    /// A failure of this class without an answer.
    pub fn unanswered(class: FailureClass, message: String) -> Self {
        Self {
            class,
            status: None,
            message,
            retry_after: None,
            request_id: None,
            usage: Usage::default(),
            reached: false,
            simulated: false,
            limits: None,
        }
    }
}

/// Sends one question.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The request up to the leaf's own messages: made once for all leaves that share these
    /// messages, and never copied for a call.
    fn prefix(&self, judge: &JudgeSpec, shared: &[Message<'_>]) -> Bytes;

    /// The request behind the messages: made once for all calls that ask for the same answer in
    /// the same form. `reply` says, for each field of a verdict beside its score, what it holds.
    fn parameters(
        &self,
        judge: &JudgeSpec,
        form: ReplyForm,
        answer: Answer,
        reply: &BTreeMap<String, String>,
    ) -> Bytes;

    /// Asks once. Cancel-safe: dropping the future abandons the call, of which the provider may
    /// still bill the tokens.
    async fn ask(&self, question: &Question<'_>) -> Result<Reply, CallFailure>;

    /// Its batch API; `None` where it has none.
    fn batch_api(&self) -> Option<&dyn BatchApi> {
        None
    }
}
