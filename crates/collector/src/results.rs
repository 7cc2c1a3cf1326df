//! The tables that people publish: scores of agents over papers and seeds.
//!
//! Owns what goes into such a table and what comes out. Per seed the mean over papers is taken,
//! then mean and standard error over the complete seeds (PaperBench, arXiv 2504.01848, section
//! 5): [`aggregate`]. Which trees make a row is `rows`'s, whether a curve over time has come to
//! rest [`plateau`]'s, text [`render`]'s, pictures [`plot`]'s. Nothing here reads a file.

pub mod aggregate;
pub mod plateau;
pub mod plot;
pub mod render;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tribunal_core::{
    Category, Node, Rubric, Score,
    score::{TreeScores, by_category},
};

pub use self::{aggregate::Estimate, plateau::Plateau};
use crate::graded::GradedTree;

/// What a tree is of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Labels {
    /// The paper's id.
    pub paper: String,
    /// The agent that made the submission.
    pub agent: String,
    /// The agent's scaffold, where it is told apart.
    pub scaffold: Option<String>,
    /// Which of the agent's independent runs it is.
    pub seed: String,
    /// Hours of work after which the snapshot was taken, where there are snapshots.
    pub elapsed_hours: Option<f64>,
}

/// How a tree came to its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It was judged.
    Graded,
    /// It was disqualified: every leaf counts as 0.
    Disqualified,
    /// There is no submission: every leaf counts as 0.
    Missing,
}

/// A scored tree with its labels: one sample of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// What it is of.
    #[serde(flatten)]
    pub labels: Labels,
    /// The file or run.
    pub source: String,
    /// How it came to its score.
    pub standing: Standing,
    /// Whether a simulated judge answered.
    pub simulated: bool,
    /// The root's score.
    pub root: Score,
    /// The score of each requirement type; `None` where the paper has no leaf of it.
    pub by_category: BTreeMap<Category, Option<Score>>,
}

/// What the rows of a table are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A row for each agent and scaffold, over their last snapshots.
    #[default]
    Agent,
    /// A row for each scaffold, over its agents' last snapshots.
    Scaffold,
    /// A row for each agent, scaffold and paper, over their last snapshots.
    Paper,
    /// A row for each agent, scaffold and requirement type, over their last snapshots.
    Category,
    /// A row for each agent, scaffold and time.
    Elapsed,
}

/// How a table is made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResultsOptions {
    /// What its rows are.
    pub by: By,
    /// The papers that count, all others being left out; every paper of the entries when `None`.
    pub split: Option<BTreeSet<String>>,
    /// Whether only Code Development leaves count.
    pub code_only: bool,
    /// Agents of which the best seed of each paper counts, as one seed.
    pub best_of: BTreeSet<String>,
}

/// A table of results: the document of `table`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ResultsTable {
    /// What its rows are.
    pub by: By,
    /// The papers that every seed must have.
    pub papers: Vec<String>,
    /// Whether a simulated judge answered any of it: the scores then say nothing.
    pub simulated: bool,
    /// The rows: by agent or scaffold the best first, else in the order of their labels.
    pub rows: Vec<ResultsRow>,
    /// What is left out or counts in another way than it was graded, a line each.
    pub notes: Vec<Note>,
}

/// A row of a table. Labels that the table does not tell apart are null.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ResultsRow {
    /// The agent.
    pub agent: Option<String>,
    /// Its scaffold.
    pub scaffold: Option<String>,
    /// The paper, in a table by paper.
    pub paper: Option<String>,
    /// The requirement type, in a table by category.
    pub category: Option<Category>,
    /// Hours of work, in a table by elapsed time.
    pub elapsed_hours: Option<f64>,
    /// The whole score; the category's in a table by category.
    pub score: Estimate,
    /// The score of each requirement type; null where no paper has a leaf of it, and in a table
    /// by category.
    pub by_category: BTreeMap<Category, Option<Estimate>>,
    /// The score as humans would give it, by what is known of the judge's errors; null without a
    /// calibration.
    pub corrected: Option<CorrectedScore>,
    /// The trees of its complete seeds, each by its source.
    #[serde(skip)]
    pub trees: Vec<String>,
    /// All seeds, complete or not.
    pub seeds: usize,
    /// The mean over papers of each complete seed.
    pub per_seed: BTreeMap<String, SeedMean>,
    /// In a table by elapsed time, on each agent's last row: when its curve has come to rest.
    pub plateau: Option<Plateau>,
}

/// A row's score, corrected for the judge's errors.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum CorrectedScore {
    /// The corrected score.
    Estimate {
        /// The score that humans would give.
        estimate: f64,
        /// Lower end of its 95% interval, the error of the judge's rates included.
        low: f64,
        /// Upper end of it.
        high: f64,
    },
    /// There is none.
    Refused {
        /// Why.
        refused: String,
    },
}

/// A seed's mean over its papers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SeedMean {
    /// The mean; null where a tree is incomplete.
    pub mean: Option<f64>,
    /// With every missing leaf 0.
    pub lower: f64,
    /// With every missing leaf 1.
    pub upper: f64,
}

/// Something that a reader of the table must know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Note {
    /// What kind of thing it is.
    pub kind: NoteKind,
    /// What it is about, and what came of it.
    pub message: String,
}

/// The kinds of notes, in the order in which they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// A seed that lacks papers and is left out.
    IncompleteSeed,
    /// A paper without leaves of a requirement type, left out of that column.
    NoCategory,
    /// A tree with leaves that are not graded: its rows have bounds instead of a score.
    IncompleteTree,
    /// A disqualified submission that counts as 0.
    Disqualified,
    /// A missing submission that counts as 0.
    MissingCountsZero,
    /// A tree or submission that is left out.
    Excluded,
    /// A snapshot that stands for a later time.
    CarriedForward,
    /// The best seed of each paper counts.
    BestOf,
    /// A row whose score could not be corrected, or the correction of which proves nothing.
    Correction,
    /// Trees of one paper that differ in their leaves.
    UnlikeTrees,
}

/// Entries that no table can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResultsError {
    /// Nothing is there, or nothing is left of it.
    #[error("there is no tree to make a table of{0}")]
    Empty(String),
    /// Several trees have the same labels.
    #[error(
        "these trees are labelled alike, so that nobody can say which one counts:\n{0}\ngive them \
         different seeds (a labels file, a manifest or --layout), or leave all but one out"
    )]
    Duplicates(String),
    /// A table by time without times.
    #[error(
        "no tree says after how many hours it was taken; give elapsed_hours in a labels file or \
         manifest, or {{elapsed_hours}} in --layout"
    )]
    NoTimes,
}

// === impl Entry ===

impl Entry {
    /// A judged tree.
    pub fn graded(labels: Labels, tree: &GradedTree) -> Entry {
        Entry {
            labels,
            source: tree.name.clone(),
            standing: Standing::Graded,
            simulated: tree.simulated,
            root: *tree.tree_scores().root(),
            by_category: tree.by_category(),
        }
    }

    /// A tree of this rubric with 0 on every leaf.
    pub fn zero(labels: Labels, source: String, rubric: &Rubric, standing: Standing) -> Entry {
        let zero = |_: &Node| Some(0.0);
        Entry {
            labels,
            source,
            standing,
            simulated: false,
            root: *TreeScores::compute(rubric, zero).root(),
            by_category: by_category(rubric, zero),
        }
    }

    /// The same tree pruned to its Code Development leaves; `None` where it has none.
    fn code_only(self) -> Option<Entry> {
        let code = Category::CodeDevelopment;
        let root = self.by_category.get(&code).copied().flatten()?;
        Some(Entry { root, by_category: BTreeMap::from([(code, Some(root))]), ..self })
    }

    /// The same entry with 0 on every leaf.
    pub fn counted_zero(self, standing: Standing) -> Entry {
        let zero = |score: Score| Score {
            score: Some(0.0),
            lower: 0.0,
            upper: 0.0,
            coverage: 1.0,
            ungraded: 0,
            ..score
        };
        let by_category = self.by_category.into_iter().map(|(name, s)| (name, s.map(zero)));
        Entry {
            standing,
            simulated: false,
            root: zero(self.root),
            by_category: by_category.collect(),
            ..self
        }
    }

    /// Agent and scaffold: what is compared.
    pub(crate) fn system(&self) -> (String, Option<String>) {
        (self.labels.agent.clone(), self.labels.scaffold.clone())
    }
}

// === impl Labels ===

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", system_name(&self.agent, self.scaffold.as_deref()), self.paper)?;
        if !self.seed.is_empty() {
            write!(f, ", seed {}", self.seed)?;
        }
        if let Some(hours) = self.elapsed_hours {
            write!(f, ", {hours} h")?;
        }
        Ok(())
    }
}

/// How an agent with its scaffold is called in text.
pub(crate) fn system_name(agent: &str, scaffold: Option<&str>) -> String {
    match scaffold {
        Some(scaffold) => format!("{agent} ({scaffold})"),
        None => agent.to_owned(),
    }
}

// === impl By ===

impl By {
    /// Every kind of table.
    pub const ALL: [By; 5] = [By::Agent, By::Scaffold, By::Paper, By::Category, By::Elapsed];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            By::Agent => "agent",
            By::Scaffold => "scaffold",
            By::Paper => "paper",
            By::Category => "category",
            By::Elapsed => "elapsed",
        }
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(name: &str) -> Result<By, String> {
        let found = By::ALL.into_iter().find(|by| by.name() == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = By::ALL.iter().map(|by| by.name()).collect();
            format!("`{name}` is none of {}", names.join(", "))
        })
    }
}

// === impl NoteKind ===

impl NoteKind {
    /// The words that begin its line below a table.
    pub fn name(self) -> &'static str {
        match self {
            NoteKind::IncompleteSeed => "incomplete seed, left out",
            NoteKind::NoCategory => "no such requirement",
            NoteKind::IncompleteTree => "incomplete tree",
            NoteKind::Disqualified => "disqualified",
            NoteKind::MissingCountsZero => "missing",
            NoteKind::Excluded => "left out",
            NoteKind::CarriedForward => "carried forward",
            NoteKind::BestOf => "best of seeds",
            NoteKind::Correction => "correction",
            NoteKind::UnlikeTrees => "unlike trees",
        }
    }
}

// === impl Note ===

impl Note {
    /// A note.
    pub fn new(kind: NoteKind, message: impl Into<String>) -> Note {
        Note { kind, message: message.into() }
    }
}

// === impl ResultsTable ===

impl ResultsTable {
    /// Makes a table of these entries. `notes` are the caller's own, about what never became an
    /// entry.
    ///
    /// # Errors
    ///
    /// Nothing is left to make a table of, several entries have the same labels, or a table by
    /// time has no times.
    pub fn new(
        entries: Vec<Entry>,
        options: &ResultsOptions,
        notes: Vec<Note>,
    ) -> Result<ResultsTable, ResultsError> {
        rows::table(entries, options, notes)
    }

    /// Whether every row has a score.
    pub fn is_complete(&self) -> bool {
        self.rows.iter().all(|row| row.score.mean.is_some())
    }

    /// The lowest score of a row, with missing leaves counted as 0; `None` if no row has one.
    pub fn lowest(&self) -> Option<f64> {
        self.rows.iter().filter_map(|row| row.score.lower).min_by(f64::total_cmp)
    }
}
