//! Runs of the store as graded trees, and what is known of who graded a file.
//!
//! Owns reading a run's samples, and the manifest beside an exported tree.

use std::{fs, path::Path, sync::Arc};

use serde_json::Value;
use tribunal_audit::{GradedTree, LeafGrade, document::JudgeHeader, pair::path::Named};
use tribunal_collector::{CollectOptions, Collected, collect};
use tribunal_core::{BlobHash, Node, RunId, RunSpec, Voting, ids::FieldHasher};
use tribunal_store::{Store, StoredVerdict};

use super::load::{Graded, MANIFEST};
use crate::{config::Config, engine};

/// Verdicts read at once.
const PAGE: usize = 256;

/// The store, opened when the first run is named.
pub(super) struct Runs<'c> {
    config: &'c Config,
    store: Option<Arc<dyn Store>>,
}

/// Whether this may be a run's id, or its beginning.
pub(super) fn may_be_run(name: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    !name.is_empty() && name.len() <= RunId::LEN && name.chars().all(hex)
}

// === impl Runs ===

impl<'c> Runs<'c> {
    pub(super) fn new(config: &'c Config) -> Self {
        Self { config, store: None }
    }

    /// The trees of a run: one a sample where the majority decides, else the one that the votes come
    /// to.
    ///
    /// # Errors
    ///
    /// No such run, or it cannot be read.
    pub(super) async fn graded(&mut self, name: &str) -> anyhow::Result<Graded> {
        let store = match &self.store {
            Some(store) => Arc::clone(store),
            None => {
                let found = engine::existing_store(self.config).await?;
                let store = found.ok_or_else(|| {
                    let url = self.config.store.shown_url();
                    anyhow::anyhow!("`{name}` is no file or folder, and there is no store at {url}")
                })?;
                Arc::clone(self.store.insert(store))
            }
        };
        let run = engine::find_run(&store, name).await?;
        let mut collected = collect(&*store, &run, &CollectOptions::default()).await?;
        collected.set_prices(self.config.models.get(&collected.spec().judge.model).prices);
        let rubric = Arc::new(collected.rubric().clone());
        let places: Vec<u32> = rubric.leaves().map(|(_, leaf)| leaf.position()).collect();
        let mut samples = vec![vec![LeafGrade::default(); places.len()]];
        let mut after = None;
        loop {
            let page = store.verdicts(&run, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some((last.position, last.sample));
            for stored in page {
                let Ok(leaf) = places.binary_search(&stored.position) else { continue };
                let sample = stored.sample as usize;
                while samples.len() <= sample {
                    samples.push(vec![LeafGrade::default(); places.len()]);
                }
                samples[sample][leaf] = grade(stored);
            }
        }
        let tree = |grades| GradedTree {
            name: format!("run {run}"),
            rubric: Arc::clone(&rubric),
            grades,
            positions_known: true,
        };
        if !matches!(collected.spec().voting, Voting::Majority) {
            samples = vec![decided(&collected, &samples)];
        }
        Ok(Graded {
            named: Named { shown: format!("run {run}"), relative: run.to_string() },
            samples: samples.into_iter().map(tree).collect(),
            header: header(collected.spec(), run.as_str(), collected.simulated()),
            cost_usd: collected.cost_usd(),
            is_run: true,
        })
    }

    /// Closes the store, if it was opened.
    pub(super) async fn close(&mut self) -> anyhow::Result<()> {
        if let Some(store) = self.store.take() {
            store.close().await?;
        }
        Ok(())
    }
}

/// What the votes on each leaf come to, in the words of a vote that says so.
fn decided(collected: &Collected, samples: &[Vec<LeafGrade>]) -> Vec<LeafGrade> {
    let leaf = |(place, (index, _)): (usize, (usize, &Node))| {
        let score = collected.outcome(index).score();
        // The last ones are those of the judge that has the last word.
        let votes = samples.iter().rev().map(|sample| &sample[place]);
        let speaks = votes.clone().find(|vote| score.is_some() && vote.score == score);
        let explanation = speaks.map(|vote| vote.explanation.clone()).unwrap_or_default();
        LeafGrade { score, explanation, confidence: None }
    };
    collected.rubric().leaves().enumerate().map(leaf).collect()
}

fn grade(stored: StoredVerdict) -> LeafGrade {
    match (stored.verdict, stored.missing) {
        (Some(verdict), _) => LeafGrade {
            score: verdict.outcome.score(),
            explanation: verdict.rationale.explanation,
            confidence: verdict.rationale.confidence,
        },
        (None, missing) => {
            let said = |(reason, message)| format!("Not graded: {reason}: {message}");
            let explanation = missing.map_or_else(String::new, said);
            LeafGrade { explanation, ..LeafGrade::default() }
        }
    }
}

/// Gives runs the relative path of the one human tree with the same leaves: a run has no path.
pub(super) fn name_by_tree(judge: &mut [Graded], humans: &[Vec<Graded>]) {
    let ids = |graded: &Graded| -> Vec<String> {
        let tree = graded.samples.first();
        let leaves = tree.iter().flat_map(|tree| tree.rubric.leaves());
        let mut ids: Vec<String> = leaves.map(|(_, leaf)| leaf.id.clone()).collect();
        ids.sort();
        ids
    };
    let runs: Vec<(usize, Vec<String>)> = judge
        .iter()
        .enumerate()
        .filter(|(_, graded)| graded.is_run)
        .map(|(at, graded)| (at, ids(graded)))
        .collect();
    for (at, own) in &runs {
        let alone = runs.iter().filter(|(_, other)| other == own).count() == 1;
        let same: Vec<&Graded> =
            humans.iter().flatten().filter(|human| ids(human) == *own).collect();
        let Some(first) = same.first().filter(|_| alone) else { continue };
        if same.iter().all(|human| human.named.relative == first.named.relative) {
            judge[*at].named.relative.clone_from(&first.named.relative);
        }
    }
}

/// Who judges a run. Several votes on a leaf are another judge than one of them.
pub(crate) fn header(spec: &RunSpec, run: &str, simulated: bool) -> JudgeHeader {
    let mut identity = spec.judge.identity();
    if !spec.ballot().is_single() {
        let mut hasher = FieldHasher::new("tribunal.panel/1");
        hasher.field("judge", &identity);
        hasher.field("samples", &spec.samples.to_le_bytes());
        for juror in &spec.jurors {
            hasher.field("judge", &juror.judge.identity());
            hasher.field("samples", &juror.samples.to_le_bytes());
        }
        hasher.field("voting", &serde_json::to_vec(&spec.voting).unwrap_or_default());
        identity = hasher.finish().as_bytes().to_vec();
    }
    JudgeHeader {
        name: spec.of_judges(|judge| &judge.name),
        model: Some(spec.of_judges(|judge| &judge.model)),
        judge_hash: Some(BlobHash::of(&identity).to_string()),
        prompt_hash: Some(spec.prompt_set.hash.to_string()),
        rubric_hashes: vec![spec.rubric.hash.to_string()],
        runs: vec![run.to_owned()],
        simulated,
    }
}

/// Who graded this file and what that cost: from the manifest beside it, else from the file.
pub(crate) fn beside(path: &Path, bytes: &[u8]) -> (JudgeHeader, Option<f64>) {
    if let Some(found) = manifest(path) {
        return found;
    }
    let text = |document: &Value, name: &str| {
        document.get(name).and_then(Value::as_str).map(str::to_owned)
    };
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else {
        // Deeper than a value may be: the tree is read all the same.
        return (JudgeHeader::default(), None);
    };
    let model = text(&document, "model").or_else(|| text(&document, "model_name"));
    let simulated = document.get("simulated").and_then(Value::as_bool).unwrap_or(false);
    let name = text(&document, "judge").unwrap_or_default();
    (JudgeHeader { name, model, simulated, ..JudgeHeader::default() }, None)
}

fn manifest(path: &Path) -> Option<(JudgeHeader, Option<f64>)> {
    let bytes = fs::read(path.with_file_name(MANIFEST)).ok()?;
    let document: Value = serde_json::from_slice(&bytes).ok()?;
    if document.get("schema")?.as_str()? != "tribunal.manifest/1" {
        return None;
    }
    let spec: RunSpec = serde_json::from_value(document.get("spec")?.clone()).ok()?;
    let simulated = document.get("simulated").and_then(Value::as_bool).unwrap_or(false);
    let run = document.get("run").and_then(Value::as_str).unwrap_or_default();
    Some((header(&spec, run, simulated), document.get("cost_usd").and_then(Value::as_f64)))
}
