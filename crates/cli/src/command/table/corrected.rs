//! `table --calibration`: a row's score as humans would give it.
//!
//! Owns what of a row's trees goes into the correction. The estimate is the audit's: the judge's rates
//! are the same for all trees of a row, so that they are corrected together and the rates' own error
//! counts once.

use std::{collections::BTreeMap, fs};

use anyhow::Context as _;
use tribunal_audit::{
    Calibration,
    calibration::{CorrectedRoot, Verdict},
};
use tribunal_collector::{
    GradedTree,
    results::{CorrectedScore, Note, NoteKind, ResultsRow, ResultsTable},
};
use tribunal_core::Category;

use crate::{
    command::audit::run_tree::{beside, header},
    trees::{Found, Runs, Source},
};

/// A leaf of a tree.
struct Leaf {
    category: Category,
    share: f64,
    score: Option<f64>,
}

/// A calibration with the trees that it is of.
pub(super) struct Calibrated {
    calibration: Calibration,
    /// The leaves of each judged tree, by its source.
    trees: BTreeMap<String, Vec<Leaf>>,
    /// Whether the calibration was made from any of them.
    is_own: bool,
}

// === impl Calibrated ===

impl Calibrated {
    /// Reads the trees, all of which this calibration must be of; those that were never judged are
    /// certain.
    ///
    /// # Errors
    ///
    /// A tree cannot be read, or is of another judge.
    pub(super) async fn read(
        calibration: Calibration,
        found: &[Found],
        runs: &mut Runs<'_>,
    ) -> anyhow::Result<Calibrated> {
        let (mut trees, mut is_own) = (BTreeMap::new(), false);
        for found in found.iter().filter(|found| !found.disqualified) {
            let (source, judge) = match &found.source {
                Source::Run(run) => {
                    let collected = runs.collected(run).await?;
                    (None, header(collected.spec(), run.as_str(), collected.simulated()))
                }
                Source::File(path) | Source::Scored(_, Some(path)) => {
                    let bytes = fs::read(path);
                    let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
                    let source = match &found.source {
                        Source::Scored(entry, _) => Some(entry.source.clone()),
                        _ => None,
                    };
                    (source, beside(path, &bytes).0)
                }
                Source::Scored(_, None) | Source::Zero(..) => continue,
            };
            let tree = found.tree(runs).await?;
            calibration.check(&judge).with_context(|| format!("--calibration: {}", tree.name))?;
            is_own |= judge.runs.iter().any(|run| calibration.judge.runs.contains(run));
            trees.insert(source.unwrap_or_else(|| tree.name.clone()), leaves(&tree));
        }
        Ok(Calibrated { calibration, trees, is_own })
    }

    /// Corrects every row; with `code_only`, of Code Development leaves alone.
    pub(super) fn correct(&self, table: &mut ResultsTable, code_only: bool) {
        let code = code_only.then_some(Category::CodeDevelopment);
        for row in &mut table.rows {
            let corrected = self.row(row, row.category.or(code));
            if let CorrectedScore::Refused { refused } = &corrected {
                let what = [&row.agent, &row.scaffold, &row.paper].into_iter().flatten();
                let what = what.cloned().collect::<Vec<_>>().join(", ");
                let message = format!("{what}: not corrected: {refused}");
                table.notes.push(Note::new(NoteKind::Correction, message));
            }
            row.corrected = Some(corrected);
        }
        if self.is_own {
            let message = "the calibration was made from trees of this table: this proves nothing";
            table.notes.push(Note::new(NoteKind::Correction, message));
        }
        table.notes.sort();
        table.notes.dedup();
    }

    /// The trees of a row weigh the same: so do papers of a seed, and complete seeds.
    fn row(&self, row: &ResultsRow, only: Option<Category>) -> CorrectedScore {
        let each = 1.0 / row.trees.len().max(1) as f64;
        let mut verdicts = Vec::new();
        for tree in row.trees.iter().filter_map(|source| self.trees.get(source)) {
            let counts = |leaf: &&Leaf| only.is_none_or(|only| leaf.category == only);
            let all: f64 = tree.iter().filter(counts).map(|leaf| leaf.share).sum();
            verdicts.extend(tree.iter().filter(counts).filter(|_| all > 0.0).map(|leaf| Verdict {
                category: leaf.category.name(),
                weight: leaf.share / all * each,
                score: leaf.score,
            }));
        }
        if verdicts.is_empty() {
            let refused = "no tree of it was judged".to_owned();
            return CorrectedScore::Refused { refused };
        }
        match self.calibration.correct("", &verdicts) {
            CorrectedRoot::Estimate { estimate, low, high, .. } => {
                CorrectedScore::Estimate { estimate, low, high }
            }
            CorrectedRoot::Refused { refused } => CorrectedScore::Refused { refused },
        }
    }
}

fn leaves(tree: &GradedTree) -> Vec<Leaf> {
    let shares = tree.rubric.weight_shares();
    let leaf = |(index, node): (usize, &tribunal_core::Node)| Leaf {
        category: node.category.unwrap_or(Category::Subtree),
        share: shares[index],
        score: tree.score(node),
    };
    tree.rubric.leaves().map(leaf).collect()
}
