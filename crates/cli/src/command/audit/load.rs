//! Grades in: files, folders and runs, by grader.
//!
//! Owns what counts as a graded tree in a folder, and bringing judges' and humans' files together
//! by their paths. Pairing leaves is the audit's.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use tribunal_audit::{
    GradedTree, Paired,
    document::JudgeHeader,
    pair::{
        path::{Named, partners, submission_name},
        table::{Columns, read_table},
        tree::{Trees, pair_trees},
    },
};

use super::{
    arguments::Sources,
    pair_file::PairFile,
    run_tree::{self, Runs},
};
use crate::{config::Config, input};

/// Everything that an audit needs.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) paired: Paired,
    pub(super) judges: Vec<JudgeHeader>,
    pub(super) costs: Vec<Option<f64>>,
}

/// One graded tree, or the samples of one run.
#[derive(Debug)]
pub(super) struct Graded {
    pub(super) named: Named,
    pub(super) samples: Vec<GradedTree>,
    pub(super) header: JudgeHeader,
    pub(super) cost_usd: Option<f64>,
    pub(super) is_run: bool,
}

/// The manifest of a run, which stands beside its trees.
pub(super) const MANIFEST: &str = "run.json";

/// The names of files that hold a graded tree, the best one of a folder first.
const TREES: [&str; 3] = ["scored_tree.json", "grader_output.json", "expected_result.json"];

/// Folders below a named one that are searched.
const DEEPEST: usize = 8;

/// Reads tables of verdicts.
///
/// # Errors
///
/// A file or the mapping of its columns is not valid.
pub(super) fn tables(files: &[PathBuf], columns: &str) -> anyhow::Result<Loaded> {
    let columns = Columns::parse(columns).map_err(|error| anyhow::anyhow!("--columns: {error}"))?;
    let mut paired = Paired { judges: vec!["judge".to_owned()], ..Paired::default() };
    for file in files {
        let bytes = input::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        read_table(&file.display().to_string(), &bytes, &columns, &mut paired)?;
    }
    Ok(Loaded { paired, ..Loaded::default() })
}

/// Reads and pairs trees.
///
/// # Errors
///
/// A file is no graded tree, a run cannot be collected, or something has no partner.
pub(super) async fn trees(
    sources: &Sources,
    pair: Option<&Path>,
    labels_follow: bool,
    config: &Config,
) -> anyhow::Result<Loaded> {
    let pair_file = pair.map(PairFile::read).transpose()?.unwrap_or_default();
    let mut runs = Runs::new(config);
    let mut judges = graders(&sources.judges, &mut runs).await?;
    let mut humans = graders(&sources.humans, &mut runs).await?;
    runs.close().await?;
    let told = pair_file.apply(&mut judges, &mut humans)?;
    ensure!(!judges.is_empty(), "nothing to audit: name the judge's graded trees with --judge");
    ensure!(judges.len() <= 2, "{} judges: compare two at a time", judges.len());
    ensure!(
        labels_follow || !humans.is_empty(),
        "nothing to audit against: name the humans' trees with --human, or a filled sheet with --labels"
    );
    run_tree::name_by_tree(&mut judges[0], &humans);
    let (first, rest) = judges.split_first().context("a judge")?;
    let names: Vec<Named> = distinct(first);
    let mut submissions: Vec<Trees> = names
        .iter()
        .map(|named| Trees {
            name: submission_name(&named.relative),
            paper: told.paper(&named.relative),
            system: told.system(&named.relative),
            judges: vec![samples(first, &named.relative)],
            humans: Vec::new(),
        })
        .collect();
    for judge in rest {
        for (trees, found) in submissions.iter_mut().zip(partnered(&names, judge)?) {
            trees.judges.push(found);
        }
    }
    for human in &humans {
        for (trees, found) in submissions.iter_mut().zip(partnered(&names, human)?) {
            trees.humans.extend(found);
        }
    }
    let headers: Vec<JudgeHeader> = judges.iter().map(|judge| header(judge)).collect();
    let judge_names: Vec<String> = headers.iter().map(|header| header.name.clone()).collect();
    let paired = pair_trees(&judge_names, &submissions)?;
    Ok(Loaded { paired, judges: headers, costs: judges.iter().map(|judge| cost(judge)).collect() })
}

async fn graders(
    sources: &[Vec<PathBuf>],
    runs: &mut Runs<'_>,
) -> anyhow::Result<Vec<Vec<Graded>>> {
    let mut graders = Vec::new();
    for paths in sources {
        let mut graded = Vec::new();
        for path in paths {
            if path.is_dir() {
                folder(path, &mut graded)?;
            } else if path.exists() {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                graded.push(file(path, with_folder(path, &name))?);
            } else if let Some(name) = path.to_str().filter(|name| run_tree::may_be_run(name)) {
                graded.push(runs.graded(name).await?);
            } else {
                bail!("{}: no such file, folder or run", path.display());
            }
        }
        graders.push(graded);
    }
    Ok(graders)
}

/// A file's relative path where the file itself is named: a name that many folders have, such as
/// `grader_output.json`, says something only with its folder's.
fn with_folder(path: &Path, name: &str) -> String {
    let folder = path.parent().and_then(Path::file_name).filter(|_| TREES.contains(&name));
    folder.map_or_else(|| name.to_owned(), |folder| format!("{}/{name}", folder.to_string_lossy()))
}

/// The graded trees of a folder: of each folder within it the best known name, else every `.json` but
/// a run's manifest.
fn folder(path: &Path, graded: &mut Vec<Graded>) -> anyhow::Result<()> {
    let before = graded.len();
    walk(path, path, 0, graded)?;
    ensure!(graded.len() > before, "{}: no .json file in this folder", path.display());
    Ok(())
}

fn walk(root: &Path, path: &Path, depth: usize, graded: &mut Vec<Graded>) -> anyhow::Result<()> {
    let unreadable = || format!("cannot read {}", path.display());
    let mut entries: Vec<PathBuf> = fs::read_dir(path)
        .with_context(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .with_context(unreadable)?;
    entries.sort();
    let named = |name: &str| entries.iter().find(|entry| entry.ends_with(name));
    let known = TREES.into_iter().find_map(named);
    let is_tree = |entry: &&PathBuf| match known {
        Some(known) => *entry == known,
        None => {
            let json = entry.extension().is_some_and(|extension| extension == "json");
            json && !entry.ends_with(MANIFEST)
        }
    };
    for entry in entries.iter().filter(|entry| entry.is_file()).filter(is_tree) {
        let relative = entry.strip_prefix(root).unwrap_or(entry);
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        graded.push(file(entry, parts.join("/"))?);
    }
    if depth < DEEPEST {
        for entry in entries.iter().filter(|entry| entry.is_dir()) {
            walk(root, entry, depth + 1, graded)?;
        }
    }
    Ok(())
}

/// Reads one graded tree, and who graded it from the manifest beside it.
pub(super) fn file(path: &Path, relative: String) -> anyhow::Result<Graded> {
    let shown = path.display().to_string();
    let bytes = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let tree = GradedTree::parse(&shown, &bytes)?;
    let (header, cost_usd) = run_tree::beside(path, &bytes);
    let named = Named { shown, relative };
    Ok(Graded { named, samples: vec![tree], header, cost_usd, is_run: false })
}

/// The distinct relative paths, in order; a path that stands twice is another sample.
fn distinct(graded: &[Graded]) -> Vec<Named> {
    let mut names: Vec<Named> = Vec::new();
    for one in graded {
        if !names.iter().any(|named| named.relative == one.named.relative) {
            names.push(one.named.clone());
        }
    }
    names
}

fn samples(graded: &[Graded], relative: &str) -> Vec<GradedTree> {
    let same = graded.iter().filter(|one| one.named.relative == relative);
    same.flat_map(|one| one.samples.iter().cloned()).collect()
}

/// For each of `names` the trees of this grader that are its partner's.
fn partnered(names: &[Named], grader: &[Graded]) -> anyhow::Result<Vec<Vec<GradedTree>>> {
    let others = distinct(grader);
    let found = partners(names, &others)?;
    let of = |partner: Option<usize>| {
        partner.map_or_else(Vec::new, |at| samples(grader, &others[at].relative))
    };
    Ok(found.into_iter().map(of).collect())
}

/// Who judged, as far as every file of a judge says the same.
fn header(graded: &[Graded]) -> JudgeHeader {
    let same = |of: &dyn Fn(&JudgeHeader) -> Option<String>| {
        let mut values = graded.iter().map(|one| of(&one.header));
        let first = values.next().flatten();
        values.all(|value| value == first).then_some(first).flatten()
    };
    let all = |of: &dyn Fn(&JudgeHeader) -> &Vec<String>| {
        let mut values: Vec<String> =
            graded.iter().flat_map(|one| of(&one.header).iter().cloned()).collect();
        values.sort();
        values.dedup();
        values
    };
    let model = same(&|header| header.model.clone());
    let name = same(&|header| Some(header.name.clone()).filter(|name| !name.is_empty()));
    let file = graded.first().map(|one| one.named.shown.clone()).unwrap_or_default();
    JudgeHeader {
        name: name.or_else(|| model.clone()).unwrap_or(file),
        model,
        judge_hash: same(&|header| header.judge_hash.clone()),
        prompt_hash: same(&|header| header.prompt_hash.clone()),
        rubric_hashes: all(&|header| &header.rubric_hashes),
        runs: all(&|header| &header.runs),
        simulated: graded.iter().any(|one| one.header.simulated),
    }
}

/// What a judge cost in all, where every part of it is known.
fn cost(graded: &[Graded]) -> Option<f64> {
    graded.iter().map(|one| one.cost_usd).sum()
}

/// Files by relative path, for lookups.
pub(super) fn by_relative(graded: &[Graded]) -> BTreeMap<&str, usize> {
    graded.iter().enumerate().map(|(at, one)| (one.named.relative.as_str(), at)).collect()
}
