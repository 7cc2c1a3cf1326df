//! What a worker holds of a run while it grades its leaves.
//!
//! Owns loading a run's spec and blobs from the store, once, and the shared messages of each
//! category, serialised once. Holds nothing that grows with leaves.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::OnceCell, time::Instant};
use tribunal_core::{BlobHash, Category, ReplyForm, Rubric, RunId, RunSpec, verdict::Suspicion};
use tribunal_evidence::{Evidence, Vocabulary, injection, tokens::DEFAULT_VOCABULARY};
use tribunal_store::{Store, StoreError};

use crate::{
    limit::Limiter,
    prompt::{self, PromptSet, Prompts, RunPrompts},
    provider::{Endpoint, Message, Provider},
    verify::ShownTexts,
};

/// Calls with the same 400 before any success that make it the account's fault, not a leaf's.
const SAME_BAD_REQUESTS: u32 = 3;

/// A run as a worker sees it.
pub struct RunContext {
    /// Its id.
    pub id: RunId,
    /// Its spec.
    pub spec: RunSpec,
    /// The rubric, pruned as the spec says.
    pub rubric: Rubric,
    /// The same without the cut at a greatest depth, where there is one.
    uncut: Option<Rubric>,
    /// The fence of the submission's texts in prompts.
    nonce: Option<String>,
    /// The prompts.
    pub prompts: Prompts,
    /// Its judge's endpoint.
    pub provider: Arc<dyn Provider>,
    /// That endpoint's limit.
    pub limiter: Arc<Limiter>,
    /// What is known of the endpoint.
    pub health: Health,
    shared: BTreeMap<Category, [OnceCell<Arc<Shared>>; 2]>,
    /// Reply forms that the endpoint may take, the best first, and which of them is in use.
    forms: Vec<ReplyForm>,
    form: AtomicUsize,
    store: Arc<dyn Store>,
}

/// What all leaves of a category share.
#[derive(Debug)]
pub struct Shared {
    /// The request up to the leaf's own messages.
    pub prefix: Bytes,
    /// What quotes are looked up in.
    pub texts: ShownTexts,
    /// Text shown that addresses the judge.
    pub suspicions: Vec<Suspicion>,
}

/// A run that cannot be worked on here.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run's own record, its prompts or this machine's config do not allow it.
    #[error("{0}")]
    Unusable(String),
}

/// Whether the judge's endpoint has answered this process, and how.
#[derive(Debug)]
pub struct Health {
    reached: AtomicBool,
    succeeded: AtomicBool,
    first_try: Mutex<Option<Instant>>,
    bad_requests: Mutex<(String, u32)>,
}

// === impl RunContext ===

impl RunContext {
    /// Loads the run. `endpoint` gives its provider and limiter.
    ///
    /// # Errors
    ///
    /// The store's; or the run's record cannot be used with this version or config.
    pub async fn load(
        store: Arc<dyn Store>,
        id: RunId,
        endpoint: impl FnOnce(&RunSpec) -> Result<LimitedProvider, String>,
    ) -> Result<RunContext, ContextError> {
        let unusable = |what: String| ContextError::Unusable(format!("run {id}: {what}"));
        let record = store.run(&id).await?;
        let spec: RunSpec = json(&*store, record.run.spec).await?;
        if spec.schema != RunSpec::SCHEMA {
            let (found, known) = (&spec.schema, RunSpec::SCHEMA);
            return Err(unusable(format!("its spec is {found}; this tribunal knows {known}")));
        }
        let bytes = store.blob(spec.rubric.hash).await?;
        let parsed =
            Rubric::parse(&spec.rubric.name, &bytes).map_err(|e| unusable(e.to_string()))?;
        let uncut = spec.options.uncut(&parsed);
        let rubric = spec
            .options
            .apply(parsed)
            .ok_or_else(|| unusable("its rubric has no Code Development leaf".to_owned()))?;
        let set: PromptSet = json(&*store, spec.prompt_set.hash).await?;
        let prompts = Prompts::compile(set).map_err(|error| unusable(error.to_string()))?;
        let (provider, limiter) = endpoint(&spec).map_err(unusable)?;
        let shared = spec.evidence.keys().map(|c| (*c, Default::default())).collect();
        let nonce = prompt::nonce(&store.key().await?, &spec.submission.hash);
        let mut forms = vec![spec.judge.reply_form];
        forms.extend(spec.judge.fallback_forms.iter().filter(|f| **f != spec.judge.reply_form));
        Ok(RunContext {
            id,
            spec,
            rubric,
            uncut,
            nonce: Some(nonce),
            prompts,
            provider,
            limiter,
            health: Health::new(),
            shared,
            forms,
            form: AtomicUsize::new(0),
            store,
        })
    }

    /// How the answer is asked for at present.
    pub fn form(&self) -> ReplyForm {
        self.forms[self.form.load(Ordering::Relaxed).min(self.forms.len() - 1)]
    }

    /// The endpoint called a request in this form wrong. If its message is about the form and
    /// there is another one, that one is used from now on; `true` then says: ask again.
    pub fn refuse_form(&self, form: ReplyForm, message: &str) -> bool {
        let message = message.to_lowercase();
        let about =
            ["response_format", "json_schema", "json_object", "structured output", "grammar"];
        if !about.iter().any(|words| message.contains(words)) {
            return false;
        }
        let Some(at) = self.forms.iter().position(|known| *known == form) else { return false };
        if at + 1 < self.forms.len() {
            self.form.fetch_max(at + 1, Ordering::Relaxed);
            return true;
        }
        false
    }

    /// Its prompts, with the answer asked for in this form.
    pub fn run_prompts(&self, reply_form: ReplyForm) -> RunPrompts<'_> {
        RunPrompts {
            spec: &self.spec,
            rubric: &self.rubric,
            whole: self.uncut.as_ref().unwrap_or(&self.rubric),
            prompts: &self.prompts,
            reply_form,
            nonce: self.nonce.as_deref(),
        }
    }

    /// What the category's leaves share; with `shrunk`, in about half the tokens.
    ///
    /// # Errors
    ///
    /// The store's, or a template's.
    pub async fn shared(
        &self,
        category: Category,
        shrunk: bool,
    ) -> Result<Arc<Shared>, ContextError> {
        let unusable = |what: String| ContextError::Unusable(format!("run {}: {what}", self.id));
        let cells = self
            .shared
            .get(&category)
            .ok_or_else(|| unusable(format!("its spec has no evidence for {category}")))?;
        let cell = &cells[usize::from(shrunk)];
        let build = async || -> Result<Arc<Shared>, ContextError> {
            let mut evidence: Evidence = json(&*self.store, self.spec.evidence[&category]).await?;
            if shrunk {
                let vocabulary = Vocabulary::named(DEFAULT_VOCABULARY)
                    .ok_or_else(|| unusable(format!("no vocabulary {DEFAULT_VOCABULARY}")))?;
                // Counting megabytes takes long: not on the runtime's threads.
                evidence = tokio::task::spawn_blocking(move || evidence.shrunk(&vocabulary))
                    .await
                    .map_err(|error| unusable(error.to_string()))?;
            }
            let texts = ShownTexts::new(&evidence);
            let suspicions = injection::scan(&evidence);
            let prompts = self.run_prompts(self.form());
            let prompt = prompts.shared(evidence).map_err(|error| unusable(error.to_string()))?;
            let shared = [
                Message { role: "system", content: &prompt.system },
                Message { role: "user", content: &prompt.shared },
            ];
            let prefix = self.provider.prefix(&self.spec.judge, &shared);
            Ok(Arc::new(Shared { prefix, texts, suspicions }))
        };
        cell.get_or_try_init(build).await.cloned()
    }
}

async fn json<T: serde::de::DeserializeOwned>(
    store: &dyn Store,
    hash: BlobHash,
) -> Result<T, ContextError> {
    let bytes = store.blob(hash).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        ContextError::Unusable(format!("blob {hash} is not what it should be: {error}"))
    })
}

/// Which provider and limiter serve an endpoint: one of each for all runs of a process.
#[derive(Default)]
pub struct Providers(Mutex<BTreeMap<String, LimitedProvider>>);

/// A provider and the limit of its endpoint.
pub type LimitedProvider = (Arc<dyn Provider>, Arc<Limiter>);

// === impl Providers ===

impl Providers {
    /// The provider and limiter for this endpoint and model.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used.
    pub fn get(&self, endpoint: Endpoint, model: &str) -> Result<LimitedProvider, String> {
        let key = format!("{}\n{model}", endpoint.base_url);
        let mut providers = self.0.lock().map_err(|_| "a provider was lost".to_owned())?;
        if let Some(known) = providers.get(&key) {
            return Ok(known.clone());
        }
        let limiter = Arc::new(Limiter::new(endpoint.requests_per_minute));
        let provider = crate::provider::openai::OpenAiProvider::new(endpoint)?;
        let made = (Arc::new(provider) as Arc<dyn Provider>, limiter);
        providers.insert(key, made.clone());
        Ok(made)
    }
}

// === impl Health ===

impl Health {
    fn new() -> Self {
        Self {
            reached: AtomicBool::new(false),
            succeeded: AtomicBool::new(false),
            first_try: Mutex::new(None),
            bad_requests: Mutex::default(),
        }
    }

    /// A call goes out.
    pub fn trying(&self) {
        if !self.has_been_reached()
            && let Ok(mut first) = self.first_try.lock()
        {
            first.get_or_insert_with(Instant::now);
        }
    }

    /// The endpoint answered.
    pub fn reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// The endpoint answered with a completion.
    pub fn succeeded(&self) {
        self.reached();
        self.succeeded.store(true, Ordering::Relaxed);
    }

    /// Whether the endpoint ever answered this process.
    pub fn has_been_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// Whether the endpoint was never reached for so long.
    pub fn unreachable_for(&self, limit: Duration) -> bool {
        let since = self.first_try.lock().ok().and_then(|first| *first);
        !self.has_been_reached() && since.is_some_and(|since| since.elapsed() >= limit)
    }

    /// What a 400 means: the leaf's fault once anything succeeded, the account's when the same
    /// came three times before that, and not known yet in between.
    pub fn bad_request(&self, message: &str) -> BadRequest {
        if self.succeeded.load(Ordering::Relaxed) {
            return BadRequest::Leaf;
        }
        let Ok(mut seen) = self.bad_requests.lock() else {
            return BadRequest::Leaf;
        };
        if seen.0 == message {
            seen.1 += 1;
        } else {
            *seen = (message.to_owned(), 1);
        }
        if seen.1 >= SAME_BAD_REQUESTS { BadRequest::Account } else { BadRequest::Undecided }
    }
}

/// Whose fault a 400 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// The leaf's: it fails.
    Leaf,
    /// The account's or the config's: the run pauses.
    Account,
    /// Not known before other leaves were asked.
    Undecided,
}
