//! OpenAI-compatible chat completions.
//!
//! Owns sending and the lenient reading of the answer. async-openai makes the request, once an endpoint;
//! the transport is our own reqwest client, so that there is no retry inside and the status and
//! headers are seen before anything is parsed. The body is `body`'s.

mod batch;
mod body;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_openai::{Client, config::Config, error::OpenAIError, middleware::HttpRequestFactory};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use tokio::sync::OnceCell;
use tower::service_fn;
use tribunal_core::{FailureClass, JudgeSpec, ReplyForm, Usage};

use self::body::SplicedBody;
use super::{
    CallFailure, Endpoint, Finish, Message, Provider, Question, Reply,
    batch::BatchApi,
    classify::{ErrorBody, class, shorten},
    headers,
};

/// Bytes of an answer that are read at most.
const MAX_ANSWER: usize = 16 << 20;

/// A client of one endpoint.
pub struct OpenAiProvider {
    http: reqwest::Client,
    config: Arc<EndpointConfig>,
    /// A question's request but for its body, as it was made for the first one.
    request: OnceCell<reqwest::Request>,
}

/// The endpoint as async-openai asks for it.
struct EndpointConfig {
    endpoint: Endpoint,
    headers: HeaderMap,
    key: SecretString,
}

/// An HTTP answer, read whole.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

// The answer: every field may be missing, unknown values are no error.

#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<RawUsage>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    system_fingerprint: Option<String>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    message: Option<AnswerMessage>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct AnswerMessage {
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    refusal: Option<String>,
}

#[derive(Default, Deserialize)]
struct RawUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    /// DeepSeek's name for cached tokens.
    #[serde(default)]
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

// === impl OpenAiProvider ===

impl OpenAiProvider {
    /// A client of the endpoint. The process must have installed a rustls provider.
    ///
    /// # Errors
    ///
    /// A header or the key has characters that HTTP does not allow.
    pub fn new(endpoint: Endpoint) -> Result<Self, String> {
        let client = reqwest::Client::builder();
        // The system's certificates take longer to read than all else before the first call; where
        // nothing is encrypted they have no use.
        let plain = endpoint.base_url.starts_with("http://");
        let http = if plain { client.tls_certs_only([]) } else { client }
            .timeout(endpoint.timeout)
            .connect_timeout(endpoint.connect_timeout)
            .pool_max_idle_per_host(usize::MAX)
            .retry(reqwest::retry::never())
            .user_agent(concat!("tribunal/", env!("CARGO_PKG_VERSION")))
            // Proxies come from the config or not at all: no environment is read silently.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("the HTTP client cannot be made: {error}"))?;
        let config = Arc::new(EndpointConfig::new(endpoint)?);
        Ok(Self { http, config, request: OnceCell::new() })
    }

    /// Sends the body.
    async fn send(&self, body: SplicedBody) -> Result<Answer, OpenAIError> {
        let request = self.request.get_or_try_init(|| self.make_request()).await?;
        let mut request = request.try_clone().ok_or_else(|| failed("the request has a body"))?;
        *request.body_mut() = Some(reqwest::Body::wrap(body));
        let answer = Answer::read(self.http.execute(request).await?).await?;
        match answer.is_cut() {
            true => Err(failed("the answer is longer than 16 MiB")),
            false => Ok(answer),
        }
    }

    /// The request as async-openai makes it, without its body: method, URL and headers are the same for
    /// every question. It is caught on its way out.
    async fn make_request(&self) -> Result<reqwest::Request, OpenAIError> {
        let slot: Arc<Mutex<Option<reqwest::Request>>> = Arc::default();
        let caught = Arc::clone(&slot);
        let service = service_fn(move |factory: HttpRequestFactory| {
            let caught = Arc::clone(&caught);
            async move {
                let mut request = factory.build().await?;
                *request.body_mut() = None;
                if let Ok(mut slot) = caught.lock() {
                    *slot = Some(request);
                }
                let answer = reqwest::Response::from(http::Response::new("null"));
                Ok::<_, OpenAIError>(answer)
            }
        });
        let config: Arc<dyn Config> = Arc::clone(&self.config) as Arc<dyn Config>;
        let client = Client::build(self.http.clone(), config).with_http_service(service);
        let _: IgnoredAny = client.chat().create_byot(()).await?;
        let request = slot.lock().ok().and_then(|mut slot| slot.take());
        request.ok_or_else(|| failed("no request was made"))
    }

    /// A message without the key, should a provider have repeated it.
    fn scrub(&self, message: &str) -> String {
        match self.config.key.expose_secret() {
            "" => shorten(message),
            key => shorten(&message.replace(key, "[key]")),
        }
    }

    fn failed(&self, class: FailureClass, answer: &Answer, message: &str) -> CallFailure {
        CallFailure {
            class,
            status: Some(answer.status).filter(|status| *status > 0),
            message: self.scrub(message),
            retry_after: headers::retry_after(&answer.headers, jiff::Timestamp::now()),
            request_id: headers::request_id(&answer.headers),
            usage: Usage::default(),
            reached: true,
            simulated: headers::simulated(&answer.headers),
            limits: headers::limits(&answer.headers, jiff::Timestamp::now()).map(Box::new),
        }
    }

    /// An answer with an error status.
    fn refused(&self, answer: &Answer) -> CallFailure {
        let body = ErrorBody::read(&answer.body);
        self.failed(class(answer.status, &body), answer, &body.message)
    }

    fn not_answered(&self, error: &OpenAIError) -> CallFailure {
        match error {
            OpenAIError::Reqwest(error) => self.not_sent(error),
            other => self.unsent(FailureClass::Transient, &other.to_string(), true),
        }
    }

    /// A request that got no whole answer.
    fn not_sent(&self, error: &reqwest::Error) -> CallFailure {
        // The URL is in the config; a query of it might hold what is not for logs.
        let words = causes(error);
        let connect = error.is_connect();
        let class =
            if error.is_builder() { FailureClass::BadRequest } else { FailureClass::Transient };
        let what = if connect {
            "cannot connect"
        } else if error.is_timeout() {
            "no answer within the time limit"
        } else {
            "the connection broke"
        };
        self.unsent(class, &format!("{what}: {words}"), !connect)
    }

    fn unsent(&self, class: FailureClass, message: &str, reached: bool) -> CallFailure {
        CallFailure { reached, ..CallFailure::unanswered(class, self.scrub(message)) }
    }

    /// What an answer says that was read whole; `model` is the one that was asked.
    fn read_answer(&self, answer: &Answer, model: &str) -> Result<Reply, CallFailure> {
        if !(200..300).contains(&answer.status) {
            return Err(self.refused(answer));
        }
        let completion: Option<Completion> = serde_json::from_slice(&answer.body).ok();
        // Some gateways answer 200 with an error inside.
        let error = match &completion {
            Some(completion) => completion.error.clone(),
            None => serde_json::from_slice::<Value>(&answer.body)
                .ok()
                .and_then(|mut value| value.get_mut("error").map(Value::take))
                .filter(|error| !error.is_null()),
        };
        if let Some(error) = error {
            let body = ErrorBody::read(&answer.body);
            let status = error.get("code").and_then(Value::as_u64).unwrap_or(500);
            let status = u16::try_from(status).unwrap_or(500);
            return Err(self.failed(class(status, &body), answer, &body.message));
        }
        let Some(completion) = completion.filter(|completion| !completion.choices.is_empty())
        else {
            let message = "the answer is not a chat completion";
            return Err(self.failed(FailureClass::BadReply, answer, message));
        };
        let simulated = headers::simulated(&answer.headers)
            || completion.system_fingerprint.as_deref() == Some("tribunal-sim");
        let reports_usage = completion.usage.is_some();
        let raw_usage = completion.usage.unwrap_or_default();
        let reports_cached = raw_usage.cached().is_some();
        let usage = raw_usage.into();
        let choice = completion.choices.into_iter().next();
        let (message, finish) = choice.map_or((None, None), |c| (c.message, c.finish_reason));
        let (content, refusal) = message.map_or((None, None), |m| (m.content, m.refusal));
        let content = content.map(text).unwrap_or_default();
        let filtered = matches!(finish.as_deref(), Some("content_filter" | "safety" | "refusal"));
        if filtered || (content.is_empty() && refusal.is_some()) {
            let refusal = refusal.unwrap_or_else(|| "the content filter refused".to_owned());
            let failure = self.failed(FailureClass::Refused, answer, &refusal);
            return Err(CallFailure { usage, simulated, ..failure });
        }
        Ok(Reply {
            content,
            finish: match finish.as_deref() {
                Some("length" | "max_tokens") => Finish::Length,
                Some("stop") | None => Finish::Stop,
                Some(_) => Finish::Other,
            },
            model: completion.model.unwrap_or_else(|| model.to_owned()),
            usage,
            reports_usage,
            reports_cached,
            simulated,
            status: answer.status,
            request_id: headers::request_id(&answer.headers),
            limits: headers::limits(&answer.headers, jiff::Timestamp::now()).map(Box::new),
        })
    }
}

#[async_trait]
impl Provider for OpenAiProvider {
    fn prefix(&self, judge: &JudgeSpec, shared: &[Message<'_>]) -> Bytes {
        body::prefix(judge, shared)
    }

    fn parameters(
        &self,
        judge: &JudgeSpec,
        form: ReplyForm,
        answer: super::Answer,
        reply: &BTreeMap<String, String>,
    ) -> Bytes {
        body::parameters(judge, form, answer, reply)
    }

    async fn ask(&self, question: &Question<'_>) -> Result<Reply, CallFailure> {
        let body = body::body(question, self.config.endpoint.prompt_cache_key);
        let answer = self.send(body).await.map_err(|error| self.not_answered(&error))?;
        self.read_answer(&answer, &question.judge.model)
    }

    fn batch_api(&self) -> Option<&dyn BatchApi> {
        Some(self)
    }
}

// === impl Answer ===

impl Answer {
    async fn read(mut response: reqwest::Response) -> Result<Answer, reqwest::Error> {
        let (status, headers) =
            (response.status().as_u16(), std::mem::take(response.headers_mut()));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                break;
            }
        }
        Ok(Answer { status, headers, body })
    }

    /// Whether it is longer than what is read.
    fn is_cut(&self) -> bool {
        self.body.len() > MAX_ANSWER
    }

    /// What stands for an answer that a batch did not get.
    fn without_status() -> Answer {
        Answer { status: 0, headers: HeaderMap::new(), body: Vec::new() }
    }
}

// === impl EndpointConfig ===

impl EndpointConfig {
    fn new(endpoint: Endpoint) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &endpoint.headers {
            let wrong = || format!("the header `{name}` of the config is not valid HTTP");
            let name: HeaderName = name.parse().map_err(|_| wrong())?;
            headers.insert(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
        }
        if let Some(key) = &endpoint.api_key {
            let azure = endpoint.azure_api_version.is_some();
            let key = key.expose_secret();
            let text = if azure { key.to_owned() } else { format!("Bearer {key}") };
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| "the API key has characters that HTTP does not allow".to_owned())?;
            value.set_sensitive(true);
            let name = if azure { HeaderName::from_static("api-key") } else { AUTHORIZATION };
            headers.insert(name, value);
        }
        let key = endpoint.api_key.clone().unwrap_or_else(|| SecretString::from(String::new()));
        Ok(Self { endpoint, headers, key })
    }
}

impl Config for EndpointConfig {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint.base_url)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        let version = self.endpoint.azure_api_version.as_deref();
        version.map(|version| vec![("api-version", version)]).unwrap_or_default()
    }

    fn api_base(&self) -> &str {
        &self.endpoint.base_url
    }

    fn api_key(&self) -> &SecretString {
        &self.key
    }
}

// === impl RawUsage ===

impl RawUsage {
    /// Cached prompt tokens, where the answer states them.
    fn cached(&self) -> Option<u64> {
        let details = self.prompt_tokens_details.as_ref().and_then(|d| d.cached_tokens);
        details.or(self.prompt_cache_hit_tokens)
    }
}

impl From<RawUsage> for Usage {
    fn from(raw: RawUsage) -> Usage {
        let input = raw.prompt_tokens.unwrap_or(0);
        let cached = raw.cached().unwrap_or(0).min(input);
        Usage { input, cached, output: raw.completion_tokens.unwrap_or(0) }
    }
}

fn failed(what: &str) -> OpenAIError {
    OpenAIError::InvalidArgument(what.to_owned())
}

/// A message's text: a string, or the text parts of a list.
fn text(content: Value) -> String {
    match content {
        Value::String(text) => text,
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part.get("text")?.as_str()).collect::<String>()
        }
        _ => String::new(),
    }
}

/// The chain of causes of a transport error, without its URL.
fn causes(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    words.dedup();
    if words.is_empty() { "no further reason".to_owned() } else { words.join(": ") }
}
