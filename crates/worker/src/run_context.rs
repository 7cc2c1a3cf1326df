//! What a worker holds of a run while it grades its leaves.
//!
//! Owns the ways to its judge, the reply form in use, and the shared messages of each
//! category, serialised once. Holds nothing that grows with leaves.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::OnceCell;
use tribunal_core::{
    BlobHash, Category, ReplyForm, RunId, RunSpec, ids::FieldHasher, verdict::Suspicion,
};
use tribunal_evidence::injection;
use tribunal_store::Store;

use crate::{
    health::Health,
    limit::expected::Expected,
    meter::Meter,
    provider::{Answer, Message},
    purse::Purse,
    questionnaire::Questionnaire,
    recorded::{ContextError, RecordedRun, evidence},
    route::Routes,
    select::{Groups, Selector},
    verify::ShownTexts,
    warm,
};

/// Hex digits of a prefix's hash that stand for it.
const CACHE_KEY_DIGITS: usize = 32;

/// The field of a request that sets the judge's seed.
const SEED: &str = "seed";

/// A run as a worker sees it.
pub struct RunContext {
    /// The run as recorded.
    pub run: RecordedRun,
    /// The ways to its judge.
    pub routes: Routes,
    /// How its model's tokens are counted.
    pub meter: Arc<Meter>,
    /// The run's money.
    pub purse: Purse,
    /// What calls of each category use.
    pub expected: Expected,
    /// What is known of the endpoint.
    pub health: Health,
    shared: BTreeMap<Category, [OnceCell<Arc<Shared>>; 2]>,
    /// Reply forms that the endpoint may take, the best first, and which of them is in use.
    forms: Vec<ReplyForm>,
    form: AtomicUsize,
    /// Whether questions carry their prefix's key.
    sends_cache_key: AtomicBool,
    /// What leaves that share their files share besides.
    pub groups: Groups,
    /// Requests behind their messages, for each form, answer and vote that was asked for.
    parameters: Mutex<BTreeMap<(ReplyForm, Answer, u32), Bytes>>,
    /// Where the run is.
    pub store: Arc<dyn Store>,
}

/// What all leaves of a category share.
#[derive(Debug)]
pub struct Shared {
    /// The request up to the leaf's own messages.
    pub prefix: Bytes,
    /// Hash of `prefix`.
    prefix_hash: BlobHash,
    /// The vocabulary's tokens of its messages.
    pub tokens: u64,
    /// Whether each endpoint has it in its cache.
    pub warm: warm::Prefixes,
    /// What tells the provider which questions share it.
    cache_key: String,
    /// What quotes are looked up in.
    pub texts: ShownTexts,
    /// Text shown that addresses the judge.
    pub suspicions: Vec<Suspicion>,
    /// The files' names as the judge sees them.
    pub tree: String,
    /// Where files are chosen for each leaf: what chooses them.
    pub selector: Option<Selector>,
}

// === impl Shared ===

impl Shared {
    /// Hash of a question: of the hash of this prefix, and the leaf's own message.
    pub fn prompt_hash(&self, leaf: &str) -> BlobHash {
        let mut hasher = FieldHasher::new("tribunal.prompt/1");
        hasher.field("prefix", self.prefix_hash.as_bytes());
        hasher.field("leaf", leaf.as_bytes()).finish()
    }
}

// === impl RunContext ===

impl RunContext {
    /// Loads the run as one of its judges sees it: `spec` is that judge's, `questionnaire` what all of
    /// them are asked with, and `routes` gives the ways to that judge.
    ///
    /// # Errors
    ///
    /// The store's; or the run's record cannot be used with this version or config.
    pub async fn load(
        store: Arc<dyn Store>,
        id: RunId,
        spec: RunSpec,
        questionnaire: Arc<Questionnaire>,
        routes: impl FnOnce(&RunSpec) -> Result<Routes, String>,
    ) -> Result<RunContext, ContextError> {
        let run = RecordedRun::of_spec(&*store, id.clone(), spec, questionnaire).await?;
        let spec = &run.spec;
        let routes = routes(spec)
            .map_err(|what| ContextError::Unusable(format!("run {}: {what}", run.id)))?;
        let meter = Arc::clone(&routes.meter);
        let shared = spec.evidence.keys().map(|c| (*c, Default::default())).collect();
        let mut forms = vec![spec.judge.reply_form];
        forms.extend(spec.judge.fallback_forms.iter().filter(|f| **f != spec.judge.reply_form));
        Ok(RunContext {
            run,
            routes,
            purse: Purse::new(Arc::clone(&store), id, Arc::clone(&meter)),
            meter,
            expected: Expected::default(),
            health: Health::new(),
            shared,
            forms,
            form: AtomicUsize::new(0),
            sends_cache_key: AtomicBool::new(true),
            groups: Groups::default(),
            parameters: Mutex::default(),
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

    /// The request behind the messages of a question for this answer in this form. A judge with a
    /// seed is asked for each of its votes on a leaf, counted from 0, with another one: the same
    /// would have the same answer each time.
    pub fn parameters(&self, form: ReplyForm, answer: Answer, vote: u32) -> Bytes {
        // A panic under it leaves whole entries.
        let mut made = self.parameters.lock().unwrap_or_else(PoisonError::into_inner);
        let judge = &self.run.spec.judge;
        let seed = judge.extra_body.get(SEED).and_then(serde_json::Value::as_i64);
        // Without a seed all votes are asked for with the same request.
        let vote = if seed.is_some() { vote } else { 0 };
        let make = || {
            let mut judge = judge.clone();
            if let Some(seed) = seed {
                let own = seed.wrapping_add(i64::from(vote));
                judge.extra_body.insert(SEED.to_owned(), own.into());
            }
            self.routes.provider().parameters(&judge, form, answer, &self.run.reply_fields())
        };
        made.entry((form, answer, vote)).or_insert_with(make).clone()
    }

    /// The prefix's key, for endpoints that take one.
    pub fn cache_key<'s>(&self, shared: &'s Shared) -> Option<&'s str> {
        self.sends_cache_key.load(Ordering::Relaxed).then_some(&*shared.cache_key)
    }

    /// The endpoint called a request wrong. If its message is about the prefix's key, none is sent
    /// from now on; `true` then says: ask again.
    pub fn refuse_cache_key(&self, message: &str) -> bool {
        message.contains("prompt_cache_key") && self.sends_cache_key.swap(false, Ordering::Relaxed)
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
        let hash = self.run.evidence_hash(category)?;
        let Some(cells) = self.shared.get(&category) else {
            return Err(ContextError::Unusable(format!("no place for {category}")));
        };
        let build = async || -> Result<Arc<Shared>, ContextError> {
            let mut evidence = evidence(&*self.store, hash, shrunk).await?;
            let selector = evidence.pool.take().map(Selector::new);
            let tree = evidence.tree.clone();
            let texts = ShownTexts::new(&evidence);
            let suspicions = injection::scan(&evidence);
            let prompts = self.run.prompts(self.form());
            let prompt = prompts
                .shared(evidence)
                .map_err(|error| ContextError::Unusable(error.to_string()))?;
            let shared = [
                Message { role: "system", content: &prompt.system },
                Message { role: "user", content: &prompt.shared },
            ];
            let prefix = self.routes.provider().prefix(&self.run.spec.judge, &shared);
            let prefix_hash = BlobHash::of(&prefix);
            let counted = vec![prompt.system, prompt.shared];
            let tokens = self.meter.tokens_of(&*self.store, counted).await?;
            let cache_key = prefix_hash.to_string()[..CACHE_KEY_DIGITS].to_owned();
            let warm = warm::Prefixes::default();
            Ok(Arc::new(Shared {
                prefix,
                prefix_hash,
                tokens,
                warm,
                cache_key,
                texts,
                suspicions,
                tree,
                selector,
            }))
        };
        cells[usize::from(shrunk)].get_or_try_init(build).await.cloned()
    }
}
