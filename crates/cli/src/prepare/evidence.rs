//! What the judge of each category is shown, from the command line's inputs.
//!
//! Owns the way from a submission's folder and the texts beside it to evidence. It knows the store
//! as a place for texts alone: any will do, one in memory too.

use std::{
    path::Path,
    sync::{Arc, mpsc},
};

use anyhow::Context as _;
use tribunal_core::{BlobHash, Category, SelectionMethod};
use tribunal_evidence::{
    Assembler, Counter, Evidence, FileEntry, Limits, Pool, Profile, Snapshot, SnapshotError,
    Tokenizer as _, View,
    assemble::Context,
    pool::INDEXED_BYTES,
    snapshot::{REPRODUCE_LOG, REPRODUCE_SH},
};
use tribunal_store::Store;
use tribunal_worker::rule;

use super::{
    read,
    selection::{Load, Prompted, cheapest},
};
use crate::{
    baseline,
    config::{Config, judge::ResolvedJudge},
    progress::note,
};

/// Texts on their way from the snapshot to the store at once.
const TEXTS_IN_FLIGHT: usize = 16;

/// The texts beside the submission, each with the name of its file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    /// The paper.
    pub(crate) paper: Option<(String, String)>,
    /// The authors' clarifications.
    pub(crate) addendum: Option<(String, String)>,
    /// Hints for the judge alone.
    pub(crate) judge_addendum: Option<(String, String)>,
}

/// What all categories' evidence is made of.
pub(crate) struct Material<'a> {
    /// The texts beside the submission.
    pub(crate) texts: &'a Texts,
    /// The submission.
    pub(crate) snapshot: &'a Snapshot,
    /// Budgets.
    pub(crate) config: &'a Config,
    /// Whose window is filled.
    pub(crate) judge: &'a ResolvedJudge,
    /// What counts that judge's tokens.
    pub(crate) counter: &'a Counter,
    /// Where the snapshot's texts are.
    pub(crate) store: &'a Arc<dyn Store>,
}

/// What a category's leaves are shown.
pub(crate) struct Assembled {
    /// The evidence.
    pub(crate) evidence: Evidence,
    /// The rule that decides the category's leaves without their being shown it, where one does.
    pub(crate) rule: Option<String>,
}

/// The answer to a text that was sent to the store.
type Answer = mpsc::Sender<Result<BlobHash, String>>;

/// Walks the submission and puts its texts into the store as they come.
///
/// # Errors
///
/// The submission cannot be read or exceeds a limit, or the store failed.
pub(crate) async fn snapshot(
    submission: &Path,
    config: &Config,
    store: &Arc<dyn Store>,
) -> anyhow::Result<Snapshot> {
    let limits = Limits {
        max_entries: config.limits.max_entries,
        max_ratio: config.limits.max_ratio,
        max_total_bytes: config.limits.max_total_bytes,
        max_depth: config.limits.max_depth as usize,
        max_path_bytes: config.limits.max_path_bytes as usize,
        file_max_bytes: config.evidence.file_max_bytes,
    };
    let root = submission.to_owned();
    let (texts, mut received) = tokio::sync::mpsc::channel::<(String, Answer)>(TEXTS_IN_FLIGHT);
    let walk = tokio::task::spawn_blocking(move || {
        Snapshot::take(&root, &limits, |text| {
            let (answer, answered) = mpsc::channel();
            let gone = |_| "the store does not answer".to_owned();
            texts.blocking_send((text, answer)).map_err(|error| gone(error.to_string()))?;
            answered.recv().map_err(|error| gone(error.to_string()))?
        })
    });
    while let Some((text, answer)) = received.recv().await {
        let hashes = store.put_blobs(vec![text.into_bytes()]).await;
        let _ = answer.send(hashes.map(|hashes| hashes[0]).map_err(|error| error.to_string()));
    }
    let taken: Result<Snapshot, SnapshotError> = walk.await?;
    let snapshot = taken?;
    for warning in &snapshot.warnings {
        note(&format!("submission: {warning}"));
    }
    Ok(snapshot)
}

// === impl Texts ===

impl Texts {
    /// Reads the files that are given.
    ///
    /// # Errors
    ///
    /// One cannot be read, or is not UTF-8.
    pub(crate) fn read(
        paper: Option<&Path>,
        addendum: Option<&Path>,
        judge_addendum: Option<&Path>,
    ) -> anyhow::Result<Texts> {
        Ok(Texts {
            paper: text("paper", "--paper", paper)?,
            addendum: text("addendum", "--addendum", addendum)?,
            judge_addendum: text("judge addendum", "--judge-addendum", judge_addendum)?,
        })
    }
}

impl Texts {
    /// The hashes of those that there are.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = BlobHash> {
        let texts = [&self.paper, &self.addendum, &self.judge_addendum].into_iter().flatten();
        texts.map(|(_, text)| BlobHash::of(text.as_bytes()))
    }
}

// === impl Material ===

impl Material<'_> {
    /// The profile that the config names; it has made sure that there is one.
    fn profile(&self) -> Profile {
        let name = &self.config.evidence.profile;
        Profile::builtin(name).expect("the config refuses names that are no profile")
    }

    /// Whether the reproduction wrote any file that Result Analysis sees.
    pub(crate) fn is_touched(&self) -> bool {
        let profile = self.profile();
        View::new(self.snapshot, Category::ResultAnalysis, None, false, &profile).touched
    }

    /// Assembles the category's evidence: whole, or where that exceeds the budget its files to choose
    /// from, in the way that the config says or that is the cheapest for `load`.
    ///
    /// # Errors
    ///
    /// The store does not give the snapshot's texts.
    pub(crate) async fn assemble(
        &self,
        category: Category,
        code_only: bool,
        load: Load,
    ) -> anyhow::Result<Assembled> {
        let facts = &self.judge.facts;
        let profile = self.profile();
        let view = View::new(self.snapshot, category, None, code_only, &profile);
        let script = self.text(REPRODUCE_SH).await?;
        let log = self.text(REPRODUCE_LOG).await?;
        fn beside(text: &Option<(String, String)>) -> Option<&str> {
            text.as_ref().map(|(_, text)| text.as_str())
        }
        let context = Context {
            paper: beside(&self.texts.paper),
            addendum: beside(&self.texts.addendum),
            judge_addendum: beside(&self.texts.judge_addendum),
            script: script.as_deref(),
            log: log.as_deref(),
        };
        let window = usize::try_from(facts.prompt_tokens(self.judge.spec.max_output_tokens))?;
        let files = self.config.evidence.token_budget.map(usize::try_from).transpose()?;
        let mut assembler = Assembler::new(&view, context, self.counter, window, 0, files);
        for file in &view.files {
            let content = match file.text.filter(|_| assembler.has_room()) {
                Some(hash) => Some(self.blob(hash).await?),
                None => None,
            };
            assembler.file(file, content.as_deref());
        }
        let evidence = match assembler.fits() {
            true => assembler.finish(),
            false => self.pooled(assembler, &view, load).await?,
        };
        let untouched = category == Category::ResultAnalysis && !view.touched;
        let rule = baseline::rule(&self.judge.spec)
            .or_else(|| untouched.then(|| rule::NOTHING_REPRODUCED.to_owned()));
        Ok(Assembled { evidence, rule })
    }

    /// The evidence with the view's files to choose from.
    async fn pooled(
        &self,
        assembler: Assembler<'_>,
        view: &View<'_>,
        load: Load,
    ) -> anyhow::Result<Evidence> {
        let facts = &self.judge.facts;
        let profile = view.profile;
        let (name, tokenizer) = (&profile.name, &facts.tokenizer);
        let configured = self.config.evidence.selection;
        let mut pool = Pool::new(SelectionMethod::Lexical, 0, name, tokenizer);
        let mut left = INDEXED_BYTES;
        for file in view.files.iter().filter(|file| !assembler.shows_elsewhere(file)) {
            let tokens = match file.text.filter(|_| file.bytes <= left) {
                None => None,
                Some(hash) => {
                    left -= file.bytes;
                    let text = self.blob(hash).await?;
                    Some(self.counter.count(&profile.render(&file.path, &text)))
                }
            };
            pool.push(file, tokens);
        }
        let mut evidence = assembler.into_pool(|room| Pool { room, ..pool });
        let shared = evidence.tokens;
        if let Some(pool) = &mut evidence.pool {
            pool.method = configured.unwrap_or_else(|| {
                let files = pool.ranked_tokens();
                let method = cheapest(facts.prices, load, Prompted { shared, files });
                if !method.asks_judge() {
                    // As much as ten ranked files would show, and no more than that.
                    pool.room = files;
                }
                method
            });
        }
        Ok(evidence)
    }

    async fn text(&self, path: &str) -> anyhow::Result<Option<String>> {
        match self.snapshot.file(path).and_then(|file: &FileEntry| file.text) {
            Some(hash) => Ok(Some(self.blob(hash).await?)),
            None => Ok(None),
        }
    }

    async fn blob(&self, hash: BlobHash) -> anyhow::Result<String> {
        let bytes = self.store.blob(hash).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The file's name and text, where one is given.
fn text(noun: &str, flag: &str, path: Option<&Path>) -> anyhow::Result<Option<(String, String)>> {
    let Some(path) = path else { return Ok(None) };
    let bytes = read(noun, flag, path)?;
    let text = String::from_utf8(bytes).ok().with_context(|| {
        format!("the {noun} {} is not UTF-8 text; give Markdown or plain text", path.display())
    })?;
    Ok(Some((path.display().to_string(), text)))
}
