//! `tribunal judge check`: an endpoint tried before it grades.
//!
//! Owns which forms are tried in which order, the document, its text and the exit code. The key is
//! part of none of them.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_collector::sanitize;
use tribunal_core::{FailureClass, JudgeSpec, ReplyForm, Usage};
use tribunal_worker::{
    ResolveEndpoints as _,
    provider::{LimitHeaders, LimitWindow, Provider, openai::OpenAiProvider},
};

use super::{
    probe::{self, Tried},
    suggestion::suggestion,
};
use crate::{
    args::{JudgeArgs, RateArgs},
    command,
    config::models::{ModelFacts, OutputCapField},
    engine::Endpoints,
    exit::Exit,
    output, prepare,
    progress::note,
};

/// The forms, the best first.
const FORMS: [ReplyForm; 3] = [ReplyForm::JsonSchema, ReplyForm::JsonObject, ReplyForm::Text];

/// The document of `tribunal judge check`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct JudgeCheckDocument {
    /// The judge's name in the config, or `adhoc`.
    judge: String,
    /// The endpoint with its `/v1`, or `builtin:sim`.
    base_url: String,
    /// The model's name as it was asked for.
    model: String,
    /// The model that the answers name; null where none came.
    model_answered: Option<String>,
    /// Whether an answer says that it is simulated.
    simulated: bool,
    /// Whether the endpoint answered at all.
    reachable: bool,
    /// What came of each form of reply.
    forms: BTreeMap<&'static str, FormDocument>,
    /// Whether answers state how many prompt tokens were cached; null where no form works.
    cached_tokens_reported: Option<bool>,
    /// Prompt tokens served from the cache when the same question came again; null where that is
    /// not stated.
    cached_tokens: Option<u64>,
    /// The account's limits as the headers state them; null where they state none.
    limits: Option<LimitsDocument>,
    /// The judge's further endpoints, each asked once in the first form that works.
    endpoints: Vec<EndpointDocument>,
    /// What to write into the config, as TOML; empty where no form works.
    suggestion: String,
}

/// What came of one form.
#[derive(Debug, Serialize, JsonSchema)]
struct FormDocument {
    /// Whether leaves can be graded with it.
    works: bool,
    /// The failure's class; null where a completion came, usable or not.
    class: Option<FailureClass>,
    /// What is wrong; null where it works.
    message: Option<String>,
    /// Milliseconds from sending to the whole answer; null where nothing was sent.
    latency_ms: Option<u64>,
    /// Tokens of the call; null where they are not stated.
    usage: Option<Usage>,
}

/// A further endpoint.
#[derive(Debug, Serialize, JsonSchema)]
struct EndpointDocument {
    /// The endpoint with its `/v1`.
    base_url: String,
    /// What came of the question.
    #[serde(flatten)]
    tried: FormDocument,
}

/// The account's limits.
#[derive(Debug, Serialize, JsonSchema)]
struct LimitsDocument {
    /// Of requests.
    requests: Option<WindowDocument>,
    /// Of tokens.
    tokens: Option<WindowDocument>,
}

/// One limit.
#[derive(Debug, Serialize, JsonSchema)]
struct WindowDocument {
    /// What the window allows; how long a window is, no header says.
    limit: Option<u64>,
    /// What was left of it.
    remaining: Option<u64>,
    /// Seconds until it was whole again.
    reset_s: Option<f64>,
}

/// What all calls together have shown.
#[derive(Debug, Default)]
struct Findings {
    /// Each form's outcome, in the order tried.
    forms: Vec<(ReplyForm, Tried)>,
    /// The question that came again, in a form that works.
    again: Option<Tried>,
    /// The field that carries the cap, where another than the judge's was needed.
    cap_field: Option<OutputCapField>,
    /// Further endpoints, in the order of the config.
    further: Vec<(String, Tried)>,
}

/// Runs `tribunal judge check`.
///
/// # Errors
///
/// No such judge, or its settings cannot be used.
pub(super) async fn run(args: &JudgeArgs, context: &command::Context) -> anyhow::Result<Exit> {
    let config = context.load(&[])?;
    let judge = prepare::judge(args, RateArgs::default(), &config)?;
    let (spec, facts) = (judge.spec.clone(), judge.facts.clone());
    // The simulated judge inside this process lives as long as this does.
    let known = Endpoints::new(config, vec![judge]);
    let endpoints = known.endpoints(&spec).map_err(anyhow::Error::msg)?;
    let mut providers = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let base_url = endpoint.base_url.clone();
        providers.push((base_url, OpenAiProvider::new(endpoint).map_err(anyhow::Error::msg)?));
    }
    let (_, own) = providers.first().context("the judge has no endpoint")?;
    if !context.json {
        for assumption in &facts.assumptions {
            note(&format!("assuming: {assumption}"));
        }
    }
    let mut findings = findings(own, &spec).await;
    for (base_url, provider) in &providers[1..] {
        findings.try_further(base_url.clone(), provider, &spec).await;
    }
    let document = findings.document(&spec, &facts)?;
    match context.json {
        true => output::print_json("judge check", &document)?,
        false => output::print_text(&sanitize(&render(&document)))?,
    }
    Ok(findings.exit())
}

/// Tries every form, and the first that works once more.
async fn findings(provider: &dyn Provider, judge: &JudgeSpec) -> Findings {
    let mut findings = Findings::default();
    let mut spec = judge.clone();
    let mut given_up: Option<&str> = None;
    for form in FORMS {
        if let Some(why) = given_up {
            findings.forms.push((form, Tried::skipped(why)));
            continue;
        }
        let mut tried = probe::ask(provider, &spec, form).await;
        // A model that is not known may want the cap under its other name.
        if let Some(other) = other_cap_field(&tried, &spec.output_cap_field) {
            let with_other =
                JudgeSpec { output_cap_field: other.name().to_owned(), ..spec.clone() };
            let again = probe::ask(provider, &with_other, form).await;
            if again.works() {
                (tried, spec, findings.cap_field) = (again, with_other, Some(other));
            }
        }
        given_up = match (tried.class, tried.status) {
            (Some(_), None) => Some("the endpoint did not answer the first call"),
            (Some(FailureClass::Account), Some(401..=403)) => Some("the account is refused"),
            _ => None,
        };
        findings.forms.push((form, tried));
    }
    if let Some(form) = findings.working().first() {
        findings.again = Some(probe::ask(provider, &spec, *form).await);
    }
    findings
}

/// The other field for the cap, where the endpoint refused this one.
fn other_cap_field(tried: &Tried, field: &str) -> Option<OutputCapField> {
    let refused = tried.class == Some(FailureClass::BadRequest);
    let named = tried.message.as_ref().is_some_and(|message| message.contains(field));
    let other = match field == OutputCapField::MaxTokens.name() {
        true => OutputCapField::MaxCompletionTokens,
        false => OutputCapField::MaxTokens,
    };
    (refused && named).then_some(other)
}

// === impl Findings ===

impl Findings {
    fn working(&self) -> Vec<ReplyForm> {
        self.forms.iter().filter(|(_, tried)| tried.works()).map(|(form, _)| *form).collect()
    }

    fn calls(&self) -> impl DoubleEndedIterator<Item = &Tried> {
        self.forms.iter().map(|(_, tried)| tried).chain(&self.again)
    }

    /// Asks a further endpoint what the first one answers.
    async fn try_further(&mut self, base_url: String, provider: &dyn Provider, judge: &JudgeSpec) {
        let form = self.working().first().copied().unwrap_or(judge.reply_form);
        let tried = probe::ask(provider, &self.spec(judge), form).await;
        self.further.push((base_url, tried));
    }

    /// The judge as it is to be asked.
    fn spec(&self, judge: &JudgeSpec) -> JudgeSpec {
        let mut spec = judge.clone();
        if let Some(field) = self.cap_field {
            spec.output_cap_field = field.name().to_owned();
        }
        spec
    }

    fn exit(&self) -> Exit {
        let refused = |tried: &Tried| tried.class == Some(FailureClass::Account);
        let mut further = self.further.iter().map(|(_, tried)| tried);
        if !self.working().is_empty()
            && let Some(broken) = further.find(|tried| !tried.works())
        {
            match broken.reached && !refused(broken) {
                true => Exit::CheckFailed,
                false => Exit::Refused,
            }
        } else if !self.working().is_empty() {
            Exit::Complete
        } else if !self.calls().any(|tried| tried.reached) || self.calls().any(refused) {
            Exit::Refused
        } else {
            Exit::CheckFailed
        }
    }

    fn document(
        &self,
        judge: &JudgeSpec,
        facts: &ModelFacts,
    ) -> anyhow::Result<JudgeCheckDocument> {
        let spec = self.spec(judge);
        let limits = self.calls().rev().find_map(|tried| tried.limits.as_deref());
        let again = self.again.as_ref().filter(|again| again.class.is_none());
        let reports_cached = self.calls().any(|tried| tried.reports_cached);
        Ok(JudgeCheckDocument {
            judge: judge.name.clone(),
            base_url: judge.base_url.clone(),
            model: judge.model.clone(),
            model_answered: self.calls().find_map(|tried| tried.model.clone()),
            simulated: judge.is_builtin_sim() || self.calls().any(|tried| tried.simulated),
            reachable: self.calls().any(|tried| tried.reached),
            forms: self.forms.iter().map(|(form, tried)| (form.name(), tried.into())).collect(),
            cached_tokens_reported: self.again.as_ref().map(|_| reports_cached),
            cached_tokens: again
                .filter(|again| again.reports_cached)
                .and_then(|again| again.usage)
                .map(|usage| usage.cached),
            limits: limits.copied().map(Into::into),
            endpoints: self.further.iter().map(EndpointDocument::new).collect(),
            suggestion: suggestion(&spec, facts, &self.working(), limits)?,
        })
    }
}

// === impl FormDocument ===

impl From<&Tried> for FormDocument {
    fn from(tried: &Tried) -> Self {
        FormDocument {
            works: tried.works(),
            class: tried.class,
            message: tried.message.clone(),
            latency_ms: tried.latency.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            usage: tried.usage,
        }
    }
}

// === impl EndpointDocument ===

impl EndpointDocument {
    fn new((base_url, tried): &(String, Tried)) -> Self {
        EndpointDocument { base_url: base_url.clone(), tried: tried.into() }
    }
}

// === impl LimitsDocument ===

impl From<LimitHeaders> for LimitsDocument {
    fn from(limits: LimitHeaders) -> Self {
        let window = |LimitWindow { limit, remaining, reset }| WindowDocument {
            limit,
            remaining,
            reset_s: reset.map(|reset| reset.as_secs_f64()),
        };
        LimitsDocument {
            requests: limits.requests.map(window),
            tokens: limits.tokens.or(limits.input_tokens).map(window),
        }
    }
}

// === text ===

fn render(document: &JudgeCheckDocument) -> String {
    let JudgeCheckDocument { judge, base_url, model, .. } = document;
    let mut text = format!("judge {judge}: {model} at {base_url}\n");
    if let Some(answered) = document.model_answered.as_ref().filter(|name| *name != model) {
        let _ = writeln!(text, "its answers name the model {answered}");
    }
    if document.simulated {
        text.push_str("it is simulated\n");
    }
    for form in FORMS {
        let name = form.name();
        let Some(tried) = document.forms.get(name) else { continue };
        let _ = writeln!(text, "  {name:<11}{}", outcome(tried));
    }
    match (document.cached_tokens_reported, document.cached_tokens) {
        (Some(true), Some(cached)) => {
            let _ =
                writeln!(text, "cached tokens are stated: {cached} when the question came again");
        }
        (Some(true), None) => text.push_str("cached tokens are stated\n"),
        (Some(false), _) => text.push_str("cached tokens are not stated\n"),
        (None, _) => {}
    }
    if let Some(limits) = &document.limits {
        for (noun, window) in [("requests", &limits.requests), ("tokens", &limits.tokens)] {
            if let Some(window) = window {
                text.push_str(&limit_line(noun, window));
            }
        }
    } else if document.reachable {
        text.push_str("no limits in the headers\n");
    }
    for EndpointDocument { base_url, tried } in &document.endpoints {
        let _ = writeln!(text, "endpoint {base_url}{}", outcome(tried));
    }
    if !document.suggestion.is_empty() {
        let _ = write!(text, "\n{}", document.suggestion);
    }
    text
}

/// What came of a question, behind what was asked.
fn outcome(tried: &FormDocument) -> String {
    let refuses = |class| {
        use FailureClass::{Account, BadRequest, Refused};
        matches!(class, Account | BadRequest | Refused)
    };
    let state = match (tried.works, tried.class) {
        (true, _) => " works".to_owned(),
        (false, Some(class)) if refuses(class) => format!(" refused, {class}"),
        (false, Some(class)) => format!(" failed, {class}"),
        (false, None) if tried.latency_ms.is_some() => " unusable".to_owned(),
        (false, None) => String::new(),
    };
    let mut text = state.clone();
    if let Some(ms) = tried.latency_ms {
        let _ = write!(text, ", {ms} ms");
    }
    if let Some(usage) = tried.usage {
        let _ = write!(text, ", {} + {} tokens", usage.input, usage.output);
    }
    if let Some(message) = &tried.message {
        let colon = if state.is_empty() { "" } else { ":" };
        let _ = write!(text, "{colon} {message}");
    }
    text
}

fn limit_line(noun: &str, window: &WindowDocument) -> String {
    let number = |n: Option<u64>| n.map_or("?".to_owned(), |n| n.to_string());
    let reset = window.reset_s.map_or(String::new(), |s| format!(", whole again in {s} s"));
    let (limit, remaining) = (number(window.limit), number(window.remaining));
    format!("limit of {noun}: {limit}, {remaining} left{reset}\n")
}

#[cfg(test)]
mod tests;
