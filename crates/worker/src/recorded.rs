//! A run as its store records it: everything that its prompts are made of.
//!
//! Owns loading spec, rubric and prompt set, and rendering what a leaf's judge is shown. Knows no
//! endpoint and calls nobody: who only wants to see a prompt needs no more than this.

use tribunal_core::{BlobHash, Category, ReplyForm, Rubric, RunId, RunSpec, verdict::Shown};
use tribunal_evidence::{Evidence, Vocabulary, tokens::DEFAULT_VOCABULARY};
use tribunal_store::{Store, StoreError};

use crate::prompt::{self, PromptSet, Prompts, RunPrompts};

/// A run's spec with what it names.
pub struct RecordedRun {
    /// Its id.
    pub id: RunId,
    /// Its spec.
    pub spec: RunSpec,
    /// The rubric as graded: pruned and cut as the spec says.
    pub rubric: Rubric,
    /// The same without the cut at a greatest depth, where there is one.
    uncut: Option<Rubric>,
    prompts: Prompts,
    nonce: String,
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

// === impl RecordedRun ===

impl RecordedRun {
    /// Loads the run.
    ///
    /// # Errors
    ///
    /// The store's; or the run's record cannot be used with this version.
    pub async fn load(store: &dyn Store, id: RunId) -> Result<RecordedRun, ContextError> {
        let record = store.run(&id).await?;
        let spec: RunSpec = json(store, record.run.spec).await?;
        if spec.schema != RunSpec::SCHEMA {
            let (found, known) = (&spec.schema, RunSpec::SCHEMA);
            return Err(unusable(&id, format!("its spec is {found}; this tribunal knows {known}")));
        }
        let bytes = store.blob(spec.rubric.hash).await?;
        let parsed = Rubric::parse(&spec.rubric.name, &bytes).map_err(|e| unusable(&id, e))?;
        let uncut = spec.options.uncut(&parsed);
        let rubric = spec.options.apply(parsed);
        let rubric =
            rubric.ok_or_else(|| unusable(&id, "its rubric has no Code Development leaf"))?;
        let set: PromptSet = json(store, spec.prompt_set.hash).await?;
        let prompts = Prompts::compile(set).map_err(|error| unusable(&id, error))?;
        let nonce = prompt::nonce(&store.key().await?, &spec.submission.hash);
        Ok(RecordedRun { id, spec, rubric, uncut, prompts, nonce })
    }

    /// Its prompts, with the answer asked for in this form.
    pub fn prompts(&self, reply_form: ReplyForm) -> RunPrompts<'_> {
        RunPrompts {
            spec: &self.spec,
            rubric: &self.rubric,
            whole: self.uncut.as_ref().unwrap_or(&self.rubric),
            prompts: &self.prompts,
            reply_form,
            nonce: Some(&self.nonce),
        }
    }

    /// The message that asks again after an answer that cannot be used.
    ///
    /// # Errors
    ///
    /// A template fails.
    pub fn repair(&self, problem: &str, category: Category) -> Result<String, ContextError> {
        self.prompts.repair(problem, category).map_err(|error| unusable(&self.id, error))
    }

    /// The blob with the category's evidence.
    ///
    /// # Errors
    ///
    /// The run has none for this category.
    pub fn evidence_hash(&self, category: Category) -> Result<BlobHash, ContextError> {
        let hash = self.spec.evidence.get(&category).copied();
        hash.ok_or_else(|| unusable(&self.id, format!("its spec has no evidence for {category}")))
    }

    /// The messages of the first question about the leaf at this position, each with its role, as
    /// they go to the judge, rendered again. `shown` is the verdict's record of what was shown, or
    /// the default for a leaf that was not asked about yet.
    ///
    /// # Errors
    ///
    /// The store's; or the run has no leaf at this position.
    pub async fn messages(
        &self,
        store: &dyn Store,
        position: u32,
        shown: &Shown,
    ) -> Result<Vec<(&'static str, String)>, ContextError> {
        let leaf = self.rubric.by_position(position);
        let leaf = leaf.and_then(|index| Some((index, self.rubric.nodes()[index].category?)));
        let (index, category) = leaf
            .ok_or_else(|| unusable(&self.id, format!("it has no leaf at position {position}")))?;
        let hash = match shown.evidence {
            Some(hash) => hash,
            None => self.evidence_hash(category)?,
        };
        let evidence = evidence(store, hash, shown.shrunk).await?;
        let prompts = self.prompts(shown.reply_form.unwrap_or(self.spec.judge.reply_form));
        let failed = |error| unusable(&self.id, error);
        let shared = prompts.shared(evidence).map_err(failed)?;
        let leaf = prompts.leaf(index, &[]).map_err(|error| unusable(&self.id, error))?;
        Ok(vec![("system", shared.system), ("user", shared.shared), ("user", leaf)])
    }
}

/// Evidence as a judge is shown it; with `shrunk`, in about half the tokens.
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

fn unusable(id: &RunId, what: impl std::fmt::Display) -> ContextError {
    ContextError::Unusable(format!("run {id}: {what}"))
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
