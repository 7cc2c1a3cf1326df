//! What a judge was shown, shown again for pages.
//!
//! Owns the way from a verdict's record to prompt and files: evidence from the store, prompts
//! rendered again by the worker's templates. What leaves share is made once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tribunal_core::{BlobHash, ReplyForm, RunId, verdict::Shown};
use tribunal_evidence::{Evidence, FileRecord, ShownFile, pool::PoolFile};
use tribunal_report::{
    model::{Exhibit, ExhibitFile, Leaf, SharedExhibit, Source},
    read::Exhibits,
};
use tribunal_store::Store;
use tribunal_worker::recorded::{self, RecordedRun};

/// Runs whose rubric and prompts are kept at once, at most.
const RUNS_KEPT: usize = 4;

/// Shared parts kept at once, at most; each may be megabytes.
const SHARED_KEPT: usize = 16;

/// What was shown under one record: run, evidence, whether shrunk, form, and whether whole.
type Key = (RunId, BlobHash, bool, &'static str, bool);

/// Exhibits of the runs of a store.
pub(crate) struct StoreExhibits {
    store: Arc<dyn Store>,
    /// Each as one of its judges sees it, by the first of that judge's samples.
    runs: Mutex<HashMap<(RunId, u32), Arc<RecordedRun>>>,
    shared: Mutex<HashMap<Key, Arc<SharedExhibit>>>,
}

// === impl StoreExhibits ===

impl StoreExhibits {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, runs: Mutex::default(), shared: Mutex::default() }
    }

    /// The run as the judge of this sample sees it.
    async fn recorded(&self, run: &RunId, sample: u32) -> Result<Arc<RecordedRun>, String> {
        let first = self.loaded(run, 0).await?;
        let ballot = first.spec.ballot();
        match sample - ballot.own_sample(sample) {
            0 => Ok(first),
            own => self.loaded(run, own).await,
        }
    }

    async fn loaded(&self, run: &RunId, sample: u32) -> Result<Arc<RecordedRun>, String> {
        let key = (run.clone(), sample);
        let kept = self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(recorded) = kept {
            return Ok(recorded);
        }
        let loaded = RecordedRun::load_for(&*self.store, run.clone(), sample).await;
        let loaded = Arc::new(loaded.map_err(|error| error.to_string())?);
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.len() >= RUNS_KEPT {
            runs.clear();
        }
        runs.insert(key, Arc::clone(&loaded));
        Ok(loaded)
    }

    fn kept(&self, key: &Key) -> Option<Arc<SharedExhibit>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn keep(&self, key: Key, shared: SharedExhibit) -> Arc<SharedExhibit> {
        let shared = Arc::new(shared);
        let mut kept = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= SHARED_KEPT {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&shared));
        shared
    }

    /// The files that were chosen for the leaf, as shown.
    async fn chosen(
        &self,
        recorded: &RecordedRun,
        position: u32,
        shown: &Shown,
        hash: BlobHash,
    ) -> Result<Vec<Source>, String> {
        let evidence = recorded::evidence(&*self.store, hash, shown.shrunk).await;
        let pool = evidence.map_err(|error| error.to_string())?.pool;
        let Some(pool) = pool else { return Ok(Vec::new()) };
        let selected = recorded.selected(&*self.store, pool, position, &shown.selected).await;
        let selected = selected.map_err(|error| error.to_string())?;
        Ok(selected.files.into_iter().map(of_file).collect())
    }

    async fn shared(
        &self,
        key: Key,
        messages: Vec<(&'static str, String)>,
    ) -> Result<Arc<SharedExhibit>, String> {
        if let Some(kept) = self.kept(&key) {
            return Ok(kept);
        }
        let (_, hash, shrunk, form, full) = key;
        let evidence = recorded::evidence(&*self.store, hash, shrunk).await;
        let evidence = evidence.map_err(|error| error.to_string())?;
        let mut shared = of_evidence(evidence, shrunk, full);
        let hash: String = hash.to_string().chars().take(16).collect();
        shared.key = format!("{hash}{}{form}", if shrunk { "-shrunk-" } else { "-" });
        shared.messages = messages;
        Ok(self.keep(key, shared))
    }
}

#[async_trait]
impl Exhibits for StoreExhibits {
    async fn exhibit(
        &self,
        run: &RunId,
        (position, sample): (u32, u32),
        leaf: &Leaf,
        full: bool,
    ) -> Result<Option<Exhibit>, String> {
        let Some((shown, hash)) = leaf.shown.as_ref().and_then(|s| Some((s, s.evidence?))) else {
            return Ok(None);
        };
        let form = shown.reply_form.map_or("", ReplyForm::name);
        let key = (run.clone(), hash, shown.shrunk, form, full);
        let (mut messages, mut question, mut chosen) = (Vec::new(), None, Vec::new());
        if full {
            let recorded = self.recorded(run, sample).await?;
            let rendered = recorded.messages(&*self.store, position, shown).await;
            messages = rendered.map_err(|error| error.to_string())?;
            // The last message is the leaf's own; what stands before it is shared.
            question = messages.pop().map(|(_, text)| text);
            if !shown.selected.is_empty() {
                chosen = self.chosen(&recorded, position, shown, hash).await?;
            }
        }
        let shared = self.shared(key, messages).await?;
        Ok(Some(Exhibit { shared, selected: shown.selected.clone(), chosen, question }))
    }
}

fn of_evidence(evidence: Evidence, shrunk: bool, full: bool) -> SharedExhibit {
    let sources = evidence.files.into_iter().filter(|_| full);
    let cuts = evidence.parts.into_iter().filter(|part| part.tokens_cut > 0);
    let pool = evidence.pool.into_iter().flat_map(|pool| pool.files);
    SharedExhibit {
        key: String::new(),
        fits: evidence.fits,
        shrunk,
        tokens: evidence.tokens,
        cuts: cuts.map(|part| (part.part, part.tokens_cut)).collect(),
        files: evidence.records.into_iter().map(of_record).chain(pool.map(of_pool)).collect(),
        messages: Vec::new(),
        sources: sources.map(of_file).collect(),
    }
}

fn of_file(file: ShownFile) -> Source {
    Source { path: file.path, text: file.text }
}

/// A file that leaves choose from: each leaf's own list says which it was shown.
fn of_pool(file: PoolFile) -> ExhibitFile {
    let PoolFile { path, bytes, reason, tokens, .. } = file;
    let state = if reason.is_some() { "omitted" } else { "to choose from" };
    ExhibitFile { path, state, reason, bytes, tokens: tokens.unwrap_or(0), tokens_cut: None }
}

fn of_record(record: FileRecord) -> ExhibitFile {
    let FileRecord { path, state, reason, bytes, tokens, tokens_cut } = record;
    let state = state.name();
    ExhibitFile { path, state, reason, bytes, tokens, tokens_cut }
}
