//! What `batch` says, and what it leaves in its folder as `batch.json` for tables to read.
//!
//! Owns the document's shape, and writing it whole or not at all.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tribunal_collector::{
    CallCounts, GradeState,
    results::{Entry, Labels, Note, NoteKind, Standing},
};
use tribunal_core::{Category, Rubric, RunId, Score, Usage};

use super::Job;
use crate::output::Document;

/// The document's name in a batch's folder.
pub(crate) const BATCH_FILE: &str = "batch.json";

/// The document of `batch`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct BatchDocument {
    /// The batch's id.
    pub(crate) batch: RunId,
    /// The manifest, as it was named.
    pub(crate) manifest: String,
    /// How far the batch got: the state of the run that got least far.
    pub(crate) state: GradeState,
    /// Whether a simulated judge answered: the scores then say nothing about the submissions.
    pub(crate) simulated: bool,
    /// The judge's name in the config.
    pub(crate) judge: String,
    /// The model's name as the endpoint knows it.
    pub(crate) model: String,
    /// The rows of the manifest, in its order.
    pub(crate) rows: Vec<BatchRow>,
    /// All leaves that are judged.
    pub(crate) leaves: u64,
    /// Those without a score.
    pub(crate) ungraded: u64,
    /// Calls, whatever came of them.
    pub(crate) calls: CallCounts,
    /// Tokens of all calls.
    pub(crate) tokens: Usage,
    /// What the calls cost, in US dollars; null where no price is known.
    pub(crate) cost_usd: Option<f64>,
    /// The folder with the batch's files.
    pub(crate) out: String,
}

/// A row of a batch.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct BatchRow {
    /// Where the manifest has it.
    pub(crate) row: String,
    /// What it is of.
    #[serde(flatten)]
    pub(crate) labels: Labels,
    /// How it came to its score; null where it has none.
    pub(crate) standing: Option<Standing>,
    /// Its run; null where nothing is to be judged.
    pub(crate) run: Option<RunId>,
    /// How far its run got; null where nothing is to be judged.
    pub(crate) state: Option<String>,
    /// The folder with its files, below the batch's own; null before its run has ended.
    pub(crate) out: Option<String>,
    /// Why it has no score.
    pub(crate) reason: Option<String>,
    /// Whether a simulated judge answered.
    pub(crate) simulated: bool,
    /// The root's score.
    pub(crate) root: Option<Score>,
    /// The score of each requirement type; null where the paper has no leaf of it.
    pub(crate) by_category: BTreeMap<Category, Option<Score>>,
    /// What its calls cost, in US dollars; null where that is not known.
    pub(crate) cost_usd: Option<f64>,
}

/// What a table needs of the document.
#[derive(Deserialize)]
struct Rows {
    rows: Vec<BatchRow>,
}

// === impl BatchDocument ===

impl BatchDocument {
    /// The value of the document's `schema`.
    pub(crate) const SCHEMA: &'static str = "tribunal.batch/1";

    /// The rows that a batch's file has.
    ///
    /// # Errors
    ///
    /// It is no such document.
    pub(crate) fn rows(path: &Path) -> anyhow::Result<Vec<BatchRow>> {
        let name = path.display();
        let bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
        let rows: Rows = serde_json::from_slice(&bytes)
            .with_context(|| format!("{name} is no batch's document of this version"))?;
        Ok(rows.rows)
    }

    /// Writes the document to its folder.
    ///
    /// # Errors
    ///
    /// It cannot be written; what was there before is as it was.
    pub(crate) fn write(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        let path = dir.join(BATCH_FILE);
        let failed = || format!("cannot write {}", path.display());
        let mut text = serde_json::to_vec_pretty(&Document::new("batch", self))?;
        text.push(b'\n');
        let whole = dir.join(format!(".{BATCH_FILE}.{}", std::process::id()));
        let written = fs::File::create(&whole)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&whole, &path));
        if written.is_err() {
            let _ = fs::remove_file(&whole);
        }
        written.with_context(failed)?;
        Ok(path)
    }
}

// === impl BatchRow ===

impl BatchRow {
    /// The row of this job, of which nothing is known yet.
    pub(crate) fn new(job: &Job) -> BatchRow {
        BatchRow {
            row: job.at.clone(),
            labels: job.labels.clone(),
            standing: None,
            run: None,
            state: None,
            out: None,
            reason: None,
            simulated: false,
            root: None,
            by_category: BTreeMap::new(),
            cost_usd: None,
        }
    }

    /// The row with 0 on every leaf of this rubric.
    pub(crate) fn zero(self, rubric: &Rubric, standing: Standing) -> BatchRow {
        let Entry { root, by_category, .. } =
            Entry::zero(self.labels.clone(), self.row.clone(), rubric, standing);
        BatchRow { standing: Some(standing), root: Some(root), by_category, ..self }
    }

    /// The row without a score, for this reason.
    pub(crate) fn excluded(self, reason: &str) -> BatchRow {
        BatchRow { reason: Some(reason.to_owned()), ..self }
    }

    /// The row as a sample of a table, or why it is none.
    pub(crate) fn entry(&self) -> Result<Entry, Note> {
        let excluded = || {
            let reason = self.reason.as_deref().unwrap_or("not graded");
            Note::new(NoteKind::Excluded, format!("{}: {reason}", self.labels))
        };
        let (standing, root) = self.standing.zip(self.root).ok_or_else(excluded)?;
        Ok(Entry {
            labels: self.labels.clone(),
            source: self.run.as_ref().map_or_else(|| self.row.clone(), RunId::to_string),
            standing,
            simulated: self.simulated,
            root,
            by_category: self.by_category.clone(),
        })
    }
}
