//! Graded trees from wherever the command line names them: files, folders, manifests, runs.
//!
//! Owns finding them and what each is of. A folder is read as one of these, in this order: a
//! batch's results (`batch.json`), `manifest.toml` or `manifest.csv` in it, `--layout`, PaperBench's
//! `<group>/<run>/…`, or any graded files below it, where `<agent>`, `<paper>/<agent>` or
//! `<paper>/<agent>/<seed>` are the folders. What is computed from them is the collector's.

mod load;
pub(crate) mod manifest;
pub(crate) mod paperbench;
pub(crate) mod pattern;
mod place;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tribunal_collector::{
    GradedTree,
    results::{Entry, Labels, Note, NoteKind, Standing},
};
use tribunal_core::{RunId, run::GradeOptions};

pub(crate) use self::load::{Runs, rubric};
use self::{
    manifest::{Manifest, Missing, Row},
    pattern::Pattern,
    place::stem,
};
use crate::batch::document::{BATCH_FILE, BatchDocument};

/// Files of one tree, the most telling first.
const GRADED: [&str; 3] = ["scored_tree.json", "grader_output.json", "*grader_output*.json"];

/// Problems told at once, at most.
const MAX_PROBLEMS: usize = 50;

/// How folders are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    /// `--layout`: a pattern below each folder.
    pub(crate) layout: Option<String>,
    /// `--hours`: the snapshots that count in PaperBench's layout.
    pub(crate) hours: Vec<f64>,
}

/// A tree that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// What it is of.
    pub(crate) labels: Labels,
    /// Where it is.
    pub(crate) source: Source,
    /// Whether every leaf counts as 0.
    pub(crate) disqualified: bool,
}

/// Where a tree is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// In a graded file.
    File(PathBuf),
    /// In the store.
    Run(RunId),
    /// In a batch's document: its scores, and the file with its tree where there is one.
    Scored(Box<Entry>, Option<PathBuf>),
    /// Nowhere: every leaf of this rubric is 0.
    Zero(PathBuf, GradeOptions),
}

/// All trees that were found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trees {
    /// The trees, in the order of the arguments.
    pub(crate) found: Vec<Found>,
    /// What is left out.
    pub(crate) notes: Vec<Note>,
}

/// Just enough of a document to see what it is.
#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    schema: String,
}

// === impl Trees ===

impl Trees {
    /// Finds the trees that these arguments name.
    ///
    /// # Errors
    ///
    /// An argument is nothing of the kind, or a manifest has problems.
    pub(crate) async fn find(
        names: &[String],
        reading: &Reading,
        runs: &mut Runs<'_>,
    ) -> anyhow::Result<Trees> {
        let mut trees = Trees::default();
        for name in names {
            let path = Path::new(name);
            if path.is_dir() {
                trees.folder(path, reading)?;
            } else if path.is_file() {
                trees.file(path)?;
            } else {
                let run = runs.find(name).await.with_context(|| {
                    format!("`{name}` is no file, no folder and no run of the store")
                })?;
                let labels = runs.labels(&run).await?;
                let source = Source::Run(run);
                trees.found.push(Found { labels, source, disqualified: false });
            }
        }
        Ok(trees)
    }

    fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml" | "csv") => self.manifest(path),
            _ if kind(path)? == BatchDocument::SCHEMA => self.batch(path),
            _ => {
                let labels = Labels { agent: stem(path), ..Labels::default() };
                let source = Source::File(path.to_owned());
                self.found.push(Found { labels, source, disqualified: false });
                Ok(())
            }
        }
    }

    fn folder(&mut self, dir: &Path, reading: &Reading) -> anyhow::Result<()> {
        if let Some(layout) = &reading.layout {
            return self.layout(dir, layout);
        }
        for name in [BATCH_FILE, "manifest.toml", "manifest.csv"] {
            let path = dir.join(name);
            if path.is_file() {
                return self.file(&path);
            }
        }
        if self.paperbench(dir, &reading.hours)? {
            return Ok(());
        }
        ensure!(
            reading.hours.is_empty(),
            "{}: --hours is for PaperBench's <group>/<run>/submissions/<time>, which is not there",
            dir.display()
        );
        self.any(dir)
    }

    fn layout(&mut self, dir: &Path, layout: &str) -> anyhow::Result<()> {
        let pattern =
            Pattern::parse(layout).map_err(|problem| anyhow::anyhow!("--layout: {problem}"))?;
        let matches =
            pattern.find(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        let before = self.found.len();
        for found in matches {
            let label = |key: &str| found.captures.get(key).cloned();
            let file = match found.path.is_dir() {
                true => paperbench::first_of(&found.path, &GRADED)?,
                false => Some(found.path.clone()),
            };
            let Some(file) = file else { continue };
            let hours = label("elapsed_hours").as_deref().map(manifest::numbers).transpose();
            let hours =
                hours.map_err(|problem| anyhow::anyhow!("{}: {problem}", file.display()))?;
            let labels = Labels {
                paper: label("paper_id").or_else(|| label("paper")).unwrap_or_default(),
                agent: label("agent").unwrap_or_else(|| stem(&file)),
                scaffold: label("scaffold"),
                seed: label("seed").unwrap_or_default(),
                elapsed_hours: hours.and_then(|hours| hours.first().copied()),
            };
            self.found.push(Found { labels, source: Source::File(file), disqualified: false });
        }
        let none = self.found.len() == before;
        ensure!(!none, "--layout {layout} matches no graded file below {}", dir.display());
        Ok(())
    }

    /// PaperBench's runs, if there are any.
    fn paperbench(&mut self, dir: &Path, hours: &[f64]) -> anyhow::Result<bool> {
        let unread = || format!("cannot read {}", dir.display());
        let snapshots = paperbench::snapshots(dir, hours).with_context(unread)?;
        let any = !snapshots.is_empty();
        for snapshot in snapshots {
            let file = match paperbench::first_of(&snapshot.path, &GRADED)? {
                Some(file) => Some(file),
                None if hours.is_empty() => paperbench::first_of(&snapshot.run, &["grade.json"])?,
                None => None,
            };
            let labels = snapshot.labels;
            match file {
                Some(file) => {
                    let source = Source::File(file);
                    self.found.push(Found { labels, source, disqualified: false });
                }
                None => {
                    let at = snapshot.path.display();
                    let message = format!("{labels}: no graded tree in {at}");
                    self.notes.push(Note::new(NoteKind::Excluded, message));
                }
            }
        }
        Ok(any)
    }

    /// Any graded files below a folder.
    fn any(&mut self, dir: &Path) -> anyhow::Result<()> {
        let before = self.found.len();
        for depth in ["*.json", "*/*.json", "*/*/*.json", "*/*/*/*.json"] {
            let pattern = Pattern::parse(depth).map_err(anyhow::Error::msg)?;
            let matches =
                pattern.find(dir).with_context(|| format!("cannot read {}", dir.display()))?;
            let files: Vec<PathBuf> = matches.into_iter().map(|found| found.path).collect();
            for file in files.iter().filter(|file| place::is_best(file, &files)) {
                // Other documents of ours, such as an audit's, stand beside trees.
                let named = GRADED[..2].iter().any(|name| file.ends_with(name));
                let schema = if named { String::new() } else { kind(file)? };
                if schema.starts_with("tribunal.") && !schema.starts_with("tribunal.scored_tree/") {
                    continue;
                }
                let labels = place::labels_of(file.strip_prefix(dir).unwrap_or(file));
                let source = Source::File(file.clone());
                self.found.push(Found { labels, source, disqualified: false });
            }
        }
        ensure!(self.found.len() > before, "there is no graded tree below {}", dir.display());
        Ok(())
    }

    fn manifest(&mut self, path: &Path) -> anyhow::Result<()> {
        let Manifest { rows, mut problems } = Manifest::read(path)?;
        for row in rows {
            if let Err(problem) = self.graded_row(&row) {
                problems.push(format!("{}: {problem}", row.at));
            }
        }
        refuse(&problems)
    }

    fn graded_row(&mut self, row: &Row) -> Result<(), String> {
        let Some(file) = &row.graded else {
            return Err(
                "`submission` is for `tribunal batch`, whose results a table reads; for trees that \
                 are graded give `graded`"
                    .to_owned(),
            );
        };
        let (labels, disqualified) = (row.labels.clone(), row.disqualified);
        if file.is_file() {
            let source = Source::File(file.clone());
            self.found.push(Found { labels, source, disqualified });
            return Ok(());
        }
        match (row.missing, &row.rubric) {
            (Some(Missing::Zero), Some(rubric)) => {
                let options = GradeOptions {
                    code_only: row.code_only,
                    resources_provided: row.resources_provided,
                    max_depth: None,
                };
                let source = Source::Zero(rubric.clone(), options);
                self.found.push(Found { labels, source, disqualified });
            }
            (Some(Missing::Zero), None) => {
                return Err(
                    "a missing tree counts as 0 of its `rubric`, which is not given".to_owned()
                );
            }
            (Some(Missing::Exclude), _) => {
                let message = format!("{labels}: {} is not there", file.display());
                self.notes.push(Note::new(NoteKind::Excluded, message));
            }
            (None, _) => return Err(format!("{} is not there", file.display())),
        }
        Ok(())
    }

    fn batch(&mut self, path: &Path) -> anyhow::Result<()> {
        let dir = path.parent().unwrap_or(Path::new(""));
        for row in BatchDocument::rows(path)? {
            let labels = row.labels.clone();
            match row.entry() {
                Ok(entry) => {
                    let tree = row.out.as_ref().map(|out| dir.join(out).join(GRADED[0]));
                    let source = Source::Scored(Box::new(entry), tree);
                    self.found.push(Found { labels, source, disqualified: false });
                }
                Err(note) => self.notes.push(note),
            }
        }
        Ok(())
    }

    /// What a table is made of, and the notes about what is left out.
    ///
    /// # Errors
    ///
    /// Trees that cannot be read, all of them at once.
    pub(crate) async fn entries(
        self,
        runs: &mut Runs<'_>,
    ) -> anyhow::Result<(Vec<Entry>, Vec<Note>)> {
        let (mut entries, mut problems) = (Vec::new(), Vec::new());
        for found in self.found {
            match found.entry(runs).await {
                Ok(entry) => entries.push(entry),
                Err(error) => problems.push(format!("{error:#}")),
            }
        }
        refuse(&problems)?;
        Ok((entries, self.notes))
    }
}

// === impl Found ===

impl Found {
    async fn entry(self, runs: &mut Runs<'_>) -> anyhow::Result<Entry> {
        let Found { labels, source, disqualified } = self;
        let entry = match source {
            Source::Scored(entry, _) => *entry,
            Source::Zero(path, options) => {
                let rubric = options.apply(rubric(&path)?);
                let rubric = rubric.with_context(|| format!("{}: no such leaf", path.display()))?;
                Entry::zero(labels, path.display().to_string(), &rubric, Standing::Missing)
            }
            source => {
                let tree = runs.tree(&source).await?;
                Entry::graded(complete(labels, &tree), &tree)
            }
        };
        Ok(if disqualified { entry.counted_zero(Standing::Disqualified) } else { entry })
    }

    /// The tree itself, disqualified ones as they were graded.
    ///
    /// # Errors
    ///
    /// It cannot be read, or nothing was graded.
    pub(crate) async fn tree(&self, runs: &mut Runs<'_>) -> anyhow::Result<GradedTree> {
        runs.tree(&self.source).await
    }
}

/// All problems as one error.
pub(crate) fn refuse(problems: &[String]) -> anyhow::Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let mut text = problems[..problems.len().min(MAX_PROBLEMS)].join("\n");
    if let Some(more) = problems.len().checked_sub(MAX_PROBLEMS).filter(|more| *more > 0) {
        text.push_str(&format!("\nand {more} more"));
    }
    bail!("{text}")
}

fn kind(path: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(serde_json::from_slice(&bytes).map_or_else(|_| String::new(), |kind: Kind| kind.schema))
}

/// The labels with what the tree itself can say: trees of one rubric are of one paper.
fn complete(labels: Labels, tree: &GradedTree) -> Labels {
    let paper = match labels.paper.is_empty() {
        true => tree.rubric.root().id.clone(),
        false => labels.paper,
    };
    Labels { paper, ..labels }
}
