//! What `batch` says, and what it leaves in its folder as `batch.json` for tables to read.
//!
//! Owns the document's shape.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tribunal_collector::results::{Entry, Labels, Standing};
use tribunal_core::{Category, RunId, Score};

/// The document's name in a batch's folder.
pub(crate) const BATCH_FILE: &str = "batch.json";

/// The document of `batch`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct BatchDocument {
    /// The rows of the manifest, in its order.
    pub(crate) rows: Vec<BatchRow>,
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
    /// The folder with its files, below the batch's own.
    pub(crate) out: Option<String>,
    /// Why it has no score, or counts as it does.
    pub(crate) reason: Option<String>,
    /// Whether a simulated judge answered.
    pub(crate) simulated: bool,
    /// The root's score.
    pub(crate) root: Option<Score>,
    /// The score of each requirement type; null where the paper has no leaf of it.
    pub(crate) by_category: BTreeMap<Category, Option<Score>>,
}

// === impl BatchDocument ===

impl BatchDocument {
    /// The value of the document's `schema`.
    pub(crate) const SCHEMA: &'static str = "tribunal.batch/1";
}

// === impl BatchRow ===

impl BatchRow {
    /// The row as a sample of a table; `None` where it has no score.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let source = self.run.as_ref().map_or_else(|| self.row.clone(), RunId::to_string);
        Some(Entry {
            labels: self.labels.clone(),
            source,
            standing: self.standing?,
            simulated: self.simulated,
            root: self.root?,
            by_category: self.by_category.clone(),
        })
    }
}
