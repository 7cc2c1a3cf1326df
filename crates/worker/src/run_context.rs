//! What a worker holds of a run while it grades its leaves.
//!
//! Owns loading a run's spec and blobs from the store, once, and the shared messages of each
//! category, serialised once. Holds nothing that grows with leaves.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::OnceCell, time::Instant};
use tribunal_core::{BlobHash, Category, Rubric, RunId, RunSpec, verdict::Shown};
use tribunal_evidence::{Evidence, Vocabulary, tokens::DEFAULT_VOCABULARY};
use tribunal_store::{Store, StoreError};

use crate::{
    limit::Limiter,
    prompt::{PromptSet, Prompts, SharedPrompt},
    provider::{Endpoint, Message, Provider},
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
    /// The prompts.
    pub prompts: Prompts,
    /// Its judge's endpoint.
    pub provider: Arc<dyn Provider>,
    /// That endpoint's limit.
    pub limiter: Arc<Limiter>,
    /// What is known of the endpoint.
    pub health: Health,
    shared: BTreeMap<Category, [OnceCell<Bytes>; 2]>,
    store: Arc<dyn Store>,
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
        let (spec, rubric) = recorded(&*store, &id).await?;
        let prompts = prompts(&*store, &id, &spec).await?;
        let (provider, limiter) = endpoint(&spec).map_err(|what| unusable(&id, what))?;
        let shared = spec.evidence.keys().map(|c| (*c, Default::default())).collect();
        Ok(RunContext {
            id,
            spec,
            rubric,
            prompts,
            provider,
            limiter,
            health: Health::new(),
            shared,
            store,
        })
    }

    /// The request up to the leaf's own messages, with what the category's leaves share; with
    /// `shrunk`, in about half the tokens.
    ///
    /// # Errors
    ///
    /// The store's, or a template's.
    pub async fn shared(&self, category: Category, shrunk: bool) -> Result<Bytes, ContextError> {
        let cells = self.shared.get(&category).ok_or_else(|| no_evidence(&self.id, category))?;
        let cell = &cells[usize::from(shrunk)];
        let build = async || -> Result<Bytes, ContextError> {
            let evidence = evidence(&*self.store, self.spec.evidence[&category], shrunk).await?;
            let prompt = shared_prompt(&self.id, &self.spec, &self.prompts, category, evidence)?;
            let shared = [
                Message { role: "system", content: &prompt.system },
                Message { role: "user", content: &prompt.shared },
            ];
            Ok(self.provider.prefix(&self.spec.judge, &shared))
        };
        cell.get_or_try_init(build).await.cloned()
    }
}

/// The run's spec, and its rubric, pruned as the spec says.
///
/// # Errors
///
/// The store's; or the run's record cannot be used with this version.
pub async fn recorded(store: &dyn Store, id: &RunId) -> Result<(RunSpec, Rubric), ContextError> {
    let record = store.run(id).await?;
    let spec: RunSpec = json(store, record.run.spec).await?;
    if spec.schema != RunSpec::SCHEMA {
        let (found, known) = (&spec.schema, RunSpec::SCHEMA);
        return Err(unusable(id, format!("its spec is {found}; this tribunal knows {known}")));
    }
    let bytes = store.blob(spec.rubric.hash).await?;
    let parsed = Rubric::parse(&spec.rubric.name, &bytes).map_err(|e| unusable(id, e))?;
    let rubric = spec.options.apply(&parsed);
    let rubric = rubric.ok_or_else(|| unusable(id, "its rubric has no Code Development leaf"))?;
    Ok((spec, rubric))
}

/// A category's evidence as a judge is shown it; with `shrunk`, in about half the tokens.
///
/// # Errors
///
/// The store's; or the blob is no evidence.
pub async fn evidence(
    store: &dyn Store,
    hash: BlobHash,
    shrunk: bool,
) -> Result<Evidence, ContextError> {
    let evidence: Evidence = json(store, hash).await?;
    if !shrunk {
        return Ok(evidence);
    }
    let vocabulary = Vocabulary::named(DEFAULT_VOCABULARY)
        .ok_or_else(|| ContextError::Unusable(format!("no vocabulary {DEFAULT_VOCABULARY}")))?;
    // Counting megabytes takes long: not on the runtime's threads.
    let shrink = tokio::task::spawn_blocking(move || evidence.shrunk(&vocabulary));
    shrink.await.map_err(|error| ContextError::Unusable(error.to_string()))
}

/// The messages of the first question about the leaf at this position, each with its role, as they
/// go to the judge: rendered again from the run's blobs. `shown` is the verdict's record of what
/// was shown, or the default for a leaf that was not asked about yet. Calls nobody.
///
/// # Errors
///
/// The store's; or the run's record cannot be used, or has no leaf at this position.
pub async fn messages(
    store: &dyn Store,
    id: &RunId,
    position: u32,
    shown: &Shown,
) -> Result<Vec<(&'static str, String)>, ContextError> {
    let (spec, rubric) = recorded(store, id).await?;
    let prompts = prompts(store, id, &spec).await?;
    let leaf = rubric.by_position(position);
    let leaf = leaf.and_then(|index| Some((index, rubric.nodes()[index].category?)));
    let (index, category) =
        leaf.ok_or_else(|| unusable(id, format!("it has no leaf at position {position}")))?;
    let hash = shown.evidence.or_else(|| spec.evidence.get(&category).copied());
    let hash = hash.ok_or_else(|| no_evidence(id, category))?;
    let evidence = evidence(store, hash, shown.shrunk).await?;
    let shared = shared_prompt(id, &spec, &prompts, category, evidence)?;
    let prior = spec.max_prior_nodes.map(|max| max as usize);
    let form = shown.reply_form.unwrap_or(spec.judge.reply_form);
    let leaf = prompts.leaf(&rubric, index, prior, form).map_err(|e| unusable(id, e))?;
    Ok(vec![("system", shared.system), ("user", shared.shared), ("user", leaf)])
}

async fn prompts(store: &dyn Store, id: &RunId, spec: &RunSpec) -> Result<Prompts, ContextError> {
    let set: PromptSet = json(store, spec.prompt_set.hash).await?;
    Prompts::compile(set).map_err(|error| unusable(id, error))
}

/// The messages that all leaves of the category share.
fn shared_prompt(
    id: &RunId,
    spec: &RunSpec,
    prompts: &Prompts,
    category: Category,
    evidence: Evidence,
) -> Result<SharedPrompt, ContextError> {
    let script = !spec.options.code_only;
    let log = script && category != Category::CodeDevelopment;
    prompts.shared(evidence, script, log).map_err(|error| unusable(id, error))
}

fn unusable(id: &RunId, what: impl std::fmt::Display) -> ContextError {
    ContextError::Unusable(format!("run {id}: {what}"))
}

fn no_evidence(id: &RunId, category: Category) -> ContextError {
    unusable(id, format!("its spec has no evidence for {category}"))
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
