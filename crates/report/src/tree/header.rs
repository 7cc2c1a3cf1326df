//! What stands above a tree: root, categories, outcomes, spend, hashes, and what a reader must know
//! before the first number.
//!
//! Owns the choice and the order. Numbers come from the collector.

use serde::Serialize;
use tribunal_collector::{GradeState, ScoreSummary};
use tribunal_core::{Category, Score};

use super::nodes::FLAGS;
use crate::model::{GradedTree, RunFacts};

/// What the template shows above the tree.
#[derive(Debug, Serialize)]
pub(super) struct Header<'t> {
    name: &'t str,
    /// The root's requirements.
    title: &'t str,
    run: bool,
    banners: Vec<Banner>,
    root: Score,
    by_category: Vec<(&'static str, Score, u32)>,
    first_level: Vec<(&'t str, f64, Score)>,
    /// Leaves by outcome, each with its count.
    outcomes: Vec<(String, u64)>,
    /// Leaves with a badge, each with its count.
    badges: Vec<(&'static str, u64)>,
    spend: Option<Spend>,
    facts: Vec<(String, String)>,
    hashes: Vec<(&'static str, String)>,
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
        let shares = tree.rubric.weight_shares();
        let nodes = tree.rubric.nodes();
        let summary = &tree.summary;
        let first_level = tree.rubric.children(0).map(|child| {
            (nodes[child].requirements.as_str(), shares[child], *tree.scores.node(child))
        });
        let leaves = || tree.leaves.iter().flatten();
        let badge = |(name, holds): (&'static str, fn(&crate::model::Leaf) -> bool)| {
            let count = leaves().filter(|leaf| holds(leaf)).count() as u64;
            (count > 0).then_some((name, count))
        };
        Header {
            name: &tree.name,
            title: &tree.rubric.root().requirements,
            run: tree.run.is_some(),
            banners: banners(tree),
            root: summary.root,
            by_category: by_category(summary),
            first_level: first_level.collect(),
            outcomes: outcomes(tree),
            badges: FLAGS.into_iter().filter_map(badge).collect(),
            spend: tree.run.as_ref().map(Spend::of),
            facts: tree.run.as_ref().map_or_else(|| tree.facts.clone(), run_facts),
            hashes: tree.run.as_ref().map(hashes).unwrap_or_default(),
        }
    }
}

fn by_category(summary: &ScoreSummary) -> Vec<(&'static str, Score, u32)> {
    let found = |category: Category| {
        let score = (*summary.by_category.get(&category)?)?;
        Some((category.name(), score, score.leaves))
    };
    Category::ALL.into_iter().filter_map(found).collect()
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
