//! `--labels`: submissions that humans graded.
//!
//! Owns the two ways to name them, a folder with a folder a submission and a TOML file, and pairing
//! the humans' trees with the leaves that are asked about. Relative paths start at the file.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tribunal_audit::{
    GradedTree, LeafGrade, Paired,
    pair::tree::{Trees, pair_trees},
};
use tribunal_core::Rubric;
use tribunal_tune::power::{Basis, Rates};

use crate::args::{InputArgs, OptionArgs};

/// A submission with the humans' grades of it.
#[derive(Clone, Debug)]
pub(crate) struct Labelled {
    /// Its name.
    pub(crate) name: String,
    /// The paper, where the file says; else that of other submissions to the same rubric.
    pub(crate) paper: Option<String>,
    /// The humans' trees.
    pub(crate) humans: Vec<PathBuf>,
    /// What is graded.
    pub(crate) inputs: InputArgs,
}

/// What `--labels` names.
#[derive(Debug)]
pub(crate) struct LabelFile {
    /// The submissions.
    pub(crate) labelled: Vec<Labelled>,
    /// The baseline's rates, where the file says them.
    pub(crate) rates: Option<Rates>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    tree: Vec<Row>,
    baseline: Option<BaselineRow>,
}

/// `[baseline]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaselineRow {
    sensitivity: f64,
    specificity: f64,
}

/// One `[[tree]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    human: Names,
    submission: PathBuf,
    rubric: Option<PathBuf>,
    paper: Option<PathBuf>,
    addendum: Option<PathBuf>,
    judge_addendum: Option<PathBuf>,
    paper_id: Option<String>,
    name: Option<String>,
    #[serde(default)]
    code_only: bool,
    #[serde(default)]
    resources_provided: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Names {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

/// The names that a human's tree has in a folder, the best one first.
const TREES: [&str; 3] = ["expected_result.json", "human.json", "graded.json"];

/// What may hold the submission in a folder.
const SUBMISSIONS: [&str; 4] =
    ["submission", "submission.tar.gz", "submission.tar.zst", "submission.zip"];

/// The labelled submissions that `path` names.
///
/// # Errors
///
/// It names none, or a file that is not there: all of them at once.
pub(crate) fn read(path: &Path, options: &OptionArgs) -> anyhow::Result<LabelFile> {
    let (found, rates) =
        if path.is_dir() { (folder(path, options)?, None) } else { file(path, options)? };
    let mut problems = Vec::new();
    for labelled in &found {
        let InputArgs { rubric, submission, paper, addendum, judge_addendum, .. } =
            &labelled.inputs;
        let named = [Some(rubric), paper.as_ref(), addendum.as_ref(), judge_addendum.as_ref()];
        let files = named.into_iter().flatten().chain(&labelled.humans);
        let gone =
            files.filter(|file| !file.is_file()).chain(Some(submission).filter(|s| !s.exists()));
        problems
            .extend(gone.map(|gone| format!("{}: {} is not there", labelled.name, gone.display())));
    }
    crate::trees::refuse(&problems)?;
    ensure!(!found.is_empty(), "{} names no labelled submission", path.display());
    Ok(LabelFile { labelled: found, rates })
}

fn options_of(options: &OptionArgs, code_only: bool, resources_provided: bool) -> OptionArgs {
    OptionArgs {
        code_only: options.code_only || code_only,
        resources_provided: options.resources_provided || resources_provided,
        ..options.clone()
    }
}

fn file(path: &Path, options: &OptionArgs) -> anyhow::Result<(Vec<Labelled>, Option<Rates>)> {
    let shown = path.display();
    let text =
        fs::read_to_string(path).with_context(|| format!("--labels: cannot read {shown}"))?;
    let document: Document = toml::from_str(&text).with_context(|| {
        format!("{shown}: labels are [[tree]] with human, submission and, as wanted, rubric, paper, addendum, judge_addendum, paper_id, name, code_only, resources_provided; and [baseline] with sensitivity and specificity, where they are known")
    })?;
    let rates = document.baseline.map(|BaselineRow { sensitivity, specificity }| {
        let known = |rate: f64| (0.0..=1.0).contains(&rate);
        ensure!(
            known(sensitivity) && known(specificity),
            "{shown}: [baseline] has sensitivity {sensitivity} and specificity {specificity}; rates are from 0 to 1"
        );
        Ok(Rates { sensitivity, specificity, basis: Basis::Labels })
    });
    let folder = path.parent().unwrap_or(Path::new(""));
    let at = |path: &PathBuf| folder.join(path);
    let labelled = |row: Row| {
        let humans = match row.human {
            Names::One(name) => vec![at(&name)],
            Names::Several(names) => names.iter().map(at).collect(),
        };
        let Some(first) = humans.first() else {
            bail!("{shown}: a [[tree]] names no tree of a human");
        };
        let own = || {
            let folder = first.parent().and_then(Path::file_name);
            folder.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
        };
        Ok(Labelled {
            name: row.name.or(row.paper_id.clone()).unwrap_or_else(own),
            paper: row.paper_id,
            inputs: InputArgs {
                rubric: row.rubric.as_ref().map_or_else(|| first.clone(), at),
                submission: at(&row.submission),
                paper: row.paper.as_ref().map(at),
                addendum: row.addendum.as_ref().map(at),
                judge_addendum: row.judge_addendum.as_ref().map(at),
                options: options_of(options, row.code_only, row.resources_provided),
            },
            humans,
        })
    };
    let mut found = document.tree.into_iter().map(labelled).collect::<anyhow::Result<Vec<_>>>()?;
    distinct(&mut found);
    Ok((found, rates.transpose()?))
}

/// Every folder within `path` that holds a human's tree and a submission, or `path` itself.
fn folder(path: &Path, options: &OptionArgs) -> anyhow::Result<Vec<Labelled>> {
    let mut folders = vec![path.to_owned()];
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut below: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    below.sort();
    folders.extend(below.into_iter().filter(|path| path.is_dir()));
    let mut found = Vec::new();
    for folder in folders {
        let there = |name: &&str| folder.join(name).exists();
        let file = |name: &str| Some(folder.join(name)).filter(|file| file.is_file());
        let Some(human) = TREES.into_iter().find(there).map(|name| folder.join(name)) else {
            continue;
        };
        let submission = SUBMISSIONS.into_iter().find(there).with_context(|| {
            format!("{}: a human's tree, but no submission beside it", folder.display())
        })?;
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        found.push(Labelled {
            name: name.unwrap_or_default(),
            paper: None,
            inputs: InputArgs {
                rubric: file("rubric.json").unwrap_or_else(|| human.clone()),
                submission: folder.join(submission),
                paper: file("paper.md"),
                addendum: file("addendum.md"),
                judge_addendum: file("judge_addendum.md").or(file("judge.addendum.md")),
                options: options.clone(),
            },
            humans: vec![human],
        });
    }
    ensure!(
        !found.is_empty(),
        "{}: no folder within it has {} and a submission; or name a TOML file with [[tree]]",
        path.display(),
        TREES[0]
    );
    Ok(found)
}

/// Gives submissions of the same name a number.
fn distinct(found: &mut [Labelled]) {
    for at in 0..found.len() {
        let before = found[..at].iter().filter(|other| other.name == found[at].name).count();
        if before > 0 {
            let name = format!("{}-{}", found[at].name, at + 1);
            found[at].name = name;
        }
    }
}

/// Every leaf of these rubrics, which are the labelled submissions' as they are graded, with the
/// humans' grades.
///
/// # Errors
///
/// A human's tree cannot be read, or does not have the rubric's leaves.
pub(crate) fn pair(labelled: &[Labelled], rubrics: &[Rubric]) -> anyhow::Result<Paired> {
    let trees = |(labelled, rubric): (&Labelled, &Rubric)| {
        let human = |path: &PathBuf| -> anyhow::Result<GradedTree> {
            let shown = path.display().to_string();
            let bytes = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
            Ok(GradedTree::parse(&shown, &bytes)?)
        };
        let asked = GradedTree {
            name: labelled.inputs.rubric.display().to_string(),
            grades: vec![LeafGrade::default(); rubric.leaf_count()],
            rubric: Arc::new(rubric.clone()),
            positions_known: true,
        };
        anyhow::Ok(Trees {
            name: labelled.name.clone(),
            paper: labelled.paper.clone(),
            system: None,
            judges: vec![vec![asked]],
            humans: labelled.humans.iter().map(human).collect::<Result<_, _>>()?,
        })
    };
    let trees: Vec<Trees> =
        labelled.iter().zip(rubrics).map(trees).collect::<anyhow::Result<_>>()?;
    Ok(pair_trees(&["candidate".to_owned()], &trees)?)
}
