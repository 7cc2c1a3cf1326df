//! What stands above a tree: root, categories, outcomes, spend, hashes, and what a reader must know
//! before the first number.
//!
//! Owns the choice and the order. Numbers come from the collector.

use minijinja::Value;
use serde::Serialize;
use tribunal_audit::calibration::CorrectedRoot;
use tribunal_collector::{Canaries, GradeState};
use tribunal_core::{Category, Rubric, Score, score::TreeScores};

use super::nodes::{FLAGS, Flag};
use crate::{
    labelled::overruling,
    model::{GradedTree, RunFacts},
    plot::{self, Spot},
    sampling::{Sampled, sampled},
};

/// What the template shows above the tree.
#[derive(Debug, Serialize)]
pub(super) struct Header<'t> {
    name: &'t str,
    /// The root's requirements.
    title: &'t str,
    run: bool,
    banners: Vec<Banner>,
    root: Score,
    /// Of the root over the leaves that are graded.
    interval: Option<Sampled>,
    corrected: Option<&'t CorrectedRoot>,
    overruled: Option<Overruled>,
    by_category: Vec<CategoryRow>,
    /// The categories as a plot, of the numbers in the rows.
    plot: Option<Value>,
    /// Leaves by outcome, each with its count.
    outcomes: Vec<(String, u64)>,
    /// Leaves with a badge, each with its count.
    badges: Vec<(&'static str, u64)>,
    spend: Option<Spend>,
    facts: Vec<(String, String)>,
    hashes: Vec<(&'static str, String)>,
}

/// A category alone.
#[derive(Debug, Serialize)]
struct CategoryRow {
    name: &'static str,
    score: Score,
    interval: Option<Sampled>,
}

/// The root with people's grades in the judge's place, where they gave one.
#[derive(Debug, Serialize)]
struct Overruled {
    root: Score,
    /// Leaves that people have graded.
    graded: usize,
    /// Those of them that they see differently.
    different: usize,
}

/// What a reader must know first.
#[derive(Debug, Serialize)]
struct Banner {
    /// `bad`, `warn` or `note`.
    kind: &'static str,
    text: String,
}

#[derive(Debug, Serialize)]
struct Spend {
    cost_usd: Option<f64>,
    input: u64,
    output: u64,
    cached_share: Option<f64>,
    calls: u64,
    rejected: u64,
    failed: u64,
    wall_s: f64,
}

// === impl Header ===

impl<'t> Header<'t> {
    pub(super) fn of(tree: &'t GradedTree) -> Header<'t> {
        let leaves = || tree.leaves.iter().flatten();
        let badge = |(name, holds): Flag| {
            let count = leaves().filter(|leaf| holds(leaf)).count() as u64;
            (count > 0).then_some((name, count))
        };
        let by_category = by_category(tree);
        Header {
            name: &tree.name,
            title: &tree.rubric.root().requirements,
            run: tree.run.is_some(),
            banners: banners(tree),
            root: tree.summary.root,
            interval: interval(tree, &tree.rubric),
            corrected: tree.run.as_ref().and_then(|run| run.corrected.as_ref()),
            overruled: Overruled::of(tree),
            plot: (by_category.len() > 1).then(|| Value::from_safe_string(plot(&by_category))),
            by_category,
            outcomes: outcomes(tree),
            badges: FLAGS.into_iter().filter_map(badge).collect(),
            spend: tree.run.as_ref().map(Spend::of),
            facts: tree.run.as_ref().map_or_else(|| tree.facts.clone(), run_facts),
            hashes: tree.run.as_ref().map(hashes).unwrap_or_default(),
        }
    }
}

/// Of the root of this part of the tree's rubric.
fn interval(tree: &GradedTree, part: &Rubric) -> Option<Sampled> {
    let shares = part.weight_shares();
    let leaves = part.leaves().filter_map(|(index, leaf)| Some((shares[index], tree.score(leaf)?)));
    sampled(leaves, (0.0, 1.0))
}

fn by_category(tree: &GradedTree) -> Vec<CategoryRow> {
    let found = |category: Category| {
        let score = (*tree.summary.by_category.get(&category)?)?;
        let interval = tree.rubric.only(category).and_then(|part| interval(tree, &part));
        Some(CategoryRow { name: category.name(), score, interval })
    };
    Category::ALL.into_iter().filter_map(found).collect()
}

fn plot(rows: &[CategoryRow]) -> String {
    let spot = |row: &CategoryRow| {
        let Score { score, lower, upper, .. } = row.score;
        let (low, high) = match row.interval.filter(|_| score.is_some()) {
            Some(interval) => (interval.low, interval.high),
            None => (lower, upper),
        };
        Spot { value: score, low, high }
    };
    let rows: Vec<_> =
        rows.iter().map(|row| (row.name.to_owned(), vec![Some(spot(row))])).collect();
    plot::dots("Scores by category", &["score".to_owned()], &rows)
}

fn outcomes(tree: &GradedTree) -> Vec<(String, u64)> {
    let leaves = || tree.leaves.iter().flatten();
    let count = |holds: fn(f64) -> bool| {
        leaves().filter(|leaf| leaf.score.is_some_and(holds)).count() as u64
    };
    let mut counts = vec![
        ("passed".to_owned(), count(|score| score >= 1.0)),
        ("failed".to_owned(), count(|score| score <= 0.0)),
        ("in part".to_owned(), count(|score| score > 0.0 && score < 1.0)),
    ];
    for reason in tribunal_core::UngradedReason::ALL {
        let missing = leaves().filter(|leaf| leaf.outcome().ungraded() == Some(reason)).count();
        counts.push((format!("not graded: {reason}").replace('_', " "), missing as u64));
    }
    counts.retain(|(_, count)| *count > 0);
    counts
}

fn banners(tree: &GradedTree) -> Vec<Banner> {
    let mut banners = Vec::new();
    let mut say = |kind, text: String| banners.push(Banner { kind, text });
    let root = &tree.summary.root;
    let missing = format!("{} of {} leaves are not graded", root.ungraded, root.leaves);
    if tree.simulated() {
        say(
            "bad",
            "Simulated judge: no model has read the submission; these scores say nothing about it."
                .to_owned(),
        );
    }
    match tree.run.as_ref().map(|run| (run.document.state, run.reason.as_str())) {
        Some((GradeState::Complete, _)) | None if root.ungraded > 0 => {
            say("warn", format!("{missing}: the score lies between its bounds."));
        }
        Some((GradeState::Complete, _)) | None => {}
        Some((GradeState::Paused, reason)) if !reason.is_empty() => {
            say("warn", format!("The run is paused: {reason}. {missing}."));
        }
        Some((state, _)) => say("warn", format!("The run is {state}: {missing}.")),
    }
    let canaries = tree.run.as_ref().and_then(|run| run.document.canaries.as_ref());
    if let Some(warning) = canaries.and_then(Canaries::warning) {
        say("bad", warning);
    }
    let suspected = tree.leaves.iter().flatten().filter(|leaf| !leaf.suspicions.is_empty()).count();
    if suspected > 0 {
        say(
            "warn",
            format!(
                "The submission holds text that addresses the judge; {suspected} leaves were graded \
                 with it in view."
            ),
        );
    }
    banners
}

fn run_facts(run: &RunFacts) -> Vec<(String, String)> {
    let (document, spec) = (&run.document, &run.spec);
    let mut facts = vec![
        ("run".to_owned(), document.run.to_string()),
        ("state".to_owned(), document.state.to_string()),
        ("judge".to_owned(), document.judge.clone()),
        ("model".to_owned(), document.model.clone()),
        ("endpoint".to_owned(), spec.judge.base_url.clone()),
        ("prompt set".to_owned(), spec.prompt_set.name.clone()),
        ("rubric".to_owned(), spec.rubric.name.clone()),
        ("submission".to_owned(), spec.submission.name.clone()),
    ];
    let optional = [("paper", &spec.paper), ("addendum", &spec.addendum)];
    for (name, input) in optional {
        facts.extend(input.as_ref().map(|input| (name.to_owned(), input.name.clone())));
    }
    facts.extend(run.created_at.clone().map(|at| ("begun".to_owned(), at)));
    facts
}

fn hashes(run: &RunFacts) -> Vec<(&'static str, String)> {
    let spec = &run.spec;
    let judge = tribunal_core::BlobHash::of(&spec.judge.identity());
    vec![
        ("judge", judge.to_string()),
        ("prompt set", spec.prompt_set.hash.to_string()),
        ("rubric", spec.rubric.hash.to_string()),
        ("submission", spec.submission.hash.to_string()),
    ]
}

// === impl Overruled ===

impl Overruled {
    /// `None` where nobody has graded anything.
    fn of(tree: &GradedTree) -> Option<Overruled> {
        let own = |index: usize| overruling(&tree.leaf(index)?.labels);
        let graded = || tree.rubric.leaves().filter_map(|(index, _)| Some((index, own(index)?)));
        let different = |(index, human): &(usize, f64)| {
            tree.leaf(*index).and_then(|leaf| leaf.score) != Some(*human)
        };
        (graded().next().is_some()).then(|| {
            let scores = TreeScores::compute(&tree.rubric, |leaf| {
                let index = tree.rubric.by_position(leaf.position())?;
                own(index).or_else(|| tree.leaf(index)?.score)
            });
            Overruled {
                root: *scores.root(),
                graded: graded().count(),
                different: graded().filter(different).count(),
            }
        })
    }
}

// === impl Spend ===

impl Spend {
    fn of(run: &RunFacts) -> Spend {
        let (tokens, calls) = (&run.document.tokens, &run.document.calls);
        Spend {
            cost_usd: run.document.cost_usd,
            input: tokens.input,
            output: tokens.output,
            cached_share: (tokens.input > 0).then(|| tokens.cached as f64 / tokens.input as f64),
            calls: calls.judge + calls.rank + calls.repair,
            rejected: calls.rejected,
            failed: calls.failed,
            wall_s: run.document.wall_s,
        }
    }
}
