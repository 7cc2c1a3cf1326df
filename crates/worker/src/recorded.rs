//! A run as its store records it: everything that its prompts are made of.
//!
//! Owns loading a spec and its evidence, and rendering what a leaf's judge is shown. Knows no
//! endpoint and calls nobody: who only wants to see a prompt needs no more than this.

use std::{collections::BTreeMap, sync::Arc};

use tribunal_core::{
    BlobHash, Category, ReplyForm, Rubric, RunId, RunSpec,
    canary::{self, Canary},
    verdict::Shown,
};
use tribunal_evidence::{Evidence, Pool, Selected, Vocabulary, tokens::DEFAULT_VOCABULARY};
use tribunal_store::{Store, StoreError};

use crate::{
    prompt::{self, RunPrompts},
    questionnaire::Questionnaire,
    select::Selector,
};

/// A run's spec with what it names.
pub struct RecordedRun {
    /// Its id.
    pub id: RunId,
    /// Its spec.
    pub spec: RunSpec,
    /// What its questions are made of.
    questionnaire: Arc<Questionnaire>,
    /// Its canaries, each a rubric of one leaf.
    canaries: Vec<Rubric>,
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
    /// Loads the run as its first judge sees it.
    ///
    /// # Errors
    ///
    /// The store's; or the run's record cannot be used with this version.
    pub async fn load(store: &dyn Store, id: RunId) -> Result<RecordedRun, ContextError> {
        let spec = spec(store, &id).await?;
        let questionnaire = Arc::new(Questionnaire::load(store, &id, &spec).await?);
        RecordedRun::of_spec(store, id, spec, questionnaire).await
    }

    /// Loads the run as the judge of this sample sees it.
    ///
    /// # Errors
    ///
    /// The store's; or the run's record cannot be used with this version.
    pub async fn load_for(
        store: &dyn Store,
        id: RunId,
        sample: u32,
    ) -> Result<RecordedRun, ContextError> {
        let spec = spec(store, &id).await?;
        let voter = spec.ballot().voter(sample);
        let questionnaire = Arc::new(Questionnaire::load(store, &id, &spec).await?);
        RecordedRun::of_spec(store, id, spec.of_voter(voter), questionnaire).await
    }

    /// The run with this spec, and what that spec's questions are made of.
    ///
    /// # Errors
    ///
    /// The store's; or the run's record cannot be used with this version.
    pub(crate) async fn of_spec(
        store: &dyn Store,
        id: RunId,
        spec: RunSpec,
        questionnaire: Arc<Questionnaire>,
    ) -> Result<RecordedRun, ContextError> {
        let nonce = prompt::nonce(&store.key().await?, &spec.submission.hash);
        let canaries: Option<Vec<Rubric>> = spec.canaries.iter().map(Canary::rubric).collect();
        let canaries = canaries.ok_or_else(|| unusable(&id, "a canary of it is no leaf"))?;
        Ok(RecordedRun { id, spec, questionnaire, canaries, nonce })
    }

    /// The rubric as graded: pruned and cut as the spec says.
    pub fn rubric(&self) -> &Rubric {
        &self.questionnaire.rubric
    }

    /// The leaf at this position: the rubric that it is of, and its index there. A canary is the only
    /// leaf of a rubric of its own.
    pub fn leaf(&self, position: u32) -> Option<(&Rubric, usize)> {
        match position.checked_sub(canary::FIRST_POSITION) {
            Some(n) => Some((self.canaries.get(n as usize)?, 0)),
            None => Some((self.rubric(), self.rubric().by_position(position)?)),
        }
    }

    /// Its prompts about leaves of `rubric`, which is its own or a canary's.
    pub fn prompts_about<'r>(&'r self, rubric: &'r Rubric, form: ReplyForm) -> RunPrompts<'r> {
        let prompts = self.prompts(form);
        match std::ptr::eq(rubric, self.rubric()) {
            true => prompts,
            false => RunPrompts { rubric, whole: rubric, ..prompts },
        }
    }

    /// Its prompts, with the answer asked for in this form.
    pub fn prompts(&self, reply_form: ReplyForm) -> RunPrompts<'_> {
        RunPrompts {
            spec: &self.spec,
            rubric: self.rubric(),
            whole: self.questionnaire.whole(),
            prompts: &self.questionnaire.prompts,
            reply_form,
            nonce: Some(&self.nonce),
        }
    }

    /// The message that asks again after an answer that cannot be used: for a verdict, or with
    /// `ranking` for files.
    ///
    /// # Errors
    ///
    /// A template fails.
    pub fn repair(
        &self,
        problem: &str,
        category: Category,
        ranking: bool,
    ) -> Result<String, ContextError> {
        let repair = self.questionnaire.prompts.repair(problem, category, ranking);
        repair.map_err(|error| unusable(&self.id, error))
    }

    /// For each field of a verdict beside its score, what it holds.
    pub fn reply_fields(&self) -> BTreeMap<String, String> {
        self.questionnaire.prompts.reply_fields()
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
        let (rubric, index) = self.leaf(position).ok_or_else(|| self.no_leaf(position))?;
        let category = rubric.nodes()[index].category.ok_or_else(|| self.no_leaf(position))?;
        let hash = match shown.evidence {
            Some(hash) => hash,
            None => self.evidence_hash(category)?,
        };
        let mut evidence = evidence(store, hash, shown.shrunk).await?;
        let form = shown.reply_form.unwrap_or(self.spec.judge.reply_form);
        let pool = evidence.pool.take();
        let files = match pool {
            Some(pool) => self.selected(store, pool, position, &shown.selected).await?.files,
            None => Vec::new(),
        };
        let prompts = self.prompts_about(rubric, form);
        let failed = |error| unusable(&self.id, error);
        let shared = prompts.shared(evidence).map_err(failed)?;
        let leaf = prompts.leaf(index, &files).map_err(|error| unusable(&self.id, error))?;
        Ok(vec![("system", shared.system), ("user", shared.shared), ("user", leaf)])
    }

    /// What the leaf at this position was shown of a pool. `recorded` are the paths that its verdict
    /// records; a judge's ranking is only known by them, and nothing is shown while there are none.
    ///
    /// # Errors
    ///
    /// The store's; or the run has no leaf at this position.
    pub async fn selected(
        &self,
        store: &dyn Store,
        pool: Pool,
        position: u32,
        recorded: &[String],
    ) -> Result<Selected, ContextError> {
        let (rubric, index) = self.leaf(position).ok_or_else(|| self.no_leaf(position))?;
        let selector = Selector::new(pool);
        let ranking = selector.method().asks_judge().then_some(recorded);
        let group = selector.group(rubric, index);
        selector.select(store, rubric, &group, ranking).await
    }

    fn no_leaf(&self, position: u32) -> ContextError {
        unusable(&self.id, format!("it has no leaf at position {position}"))
    }
}

/// The run's spec.
///
/// # Errors
///
/// The store's; or it is not one that this version knows.
pub(crate) async fn spec(store: &dyn Store, id: &RunId) -> Result<RunSpec, ContextError> {
    let record = store.run(id).await?;
    let spec: RunSpec = json(store, record.run.spec).await?;
    if spec.schema != RunSpec::SCHEMA {
        let (found, known) = (&spec.schema, RunSpec::SCHEMA);
        return Err(unusable(id, format!("its spec is {found}; this tribunal knows {known}")));
    }
    Ok(spec)
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

pub(crate) fn unusable(id: &RunId, what: impl std::fmt::Display) -> ContextError {
    ContextError::Unusable(format!("run {id}: {what}"))
}

pub(crate) async fn json<T: serde::de::DeserializeOwned>(
    store: &dyn Store,
    hash: BlobHash,
) -> Result<T, ContextError> {
    let bytes = store.blob(hash).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        ContextError::Unusable(format!("blob {hash} is not what it should be: {error}"))
    })
}
