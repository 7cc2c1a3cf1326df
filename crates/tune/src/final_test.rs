//! The one test: the winner against the baseline, on leaves that nothing was chosen by.
//!
//! Owns the test on the objective itself, by resampling leaves in pairs within papers, and what stands
//! beside it: McNemar over all leaves and, by Holm, over categories, and the sign flip over papers. The
//! answer is one of improved, not shown, worse.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tribunal_audit::metric::{
    LEVEL,
    interval::bootstrap::percentile,
    paired::{
        mcnemar::Discordant,
        multiple::holm,
        sign_flip::{FEWEST_FOR_SIGNIFICANCE, sign_flip},
    },
};

use crate::{
    answer::Table,
    labels::Labels,
    race::{BASELINE, Rules},
    random::Random,
    sample::Drawn,
    score::{Score, Sums, score, shares},
};

/// What the test says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The whole interval of the difference lies above 0.
    Improved,
    /// It holds 0.
    NotShown,
    /// It lies below 0.
    Worse,
}

/// A test of right against wrong answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairedTest {
    /// `all`, a category, or `papers`.
    pub scope: String,
    /// Leaves, or papers, where the baseline alone is right or better.
    pub baseline_better: u64,
    /// Where the winner alone is.
    pub winner_better: u64,
    /// Exact and two-sided.
    pub p: f64,
    /// Adjusted over the categories; null where it is not one of several.
    pub p_holm: Option<f64>,
}

/// A leaf on which the two differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Flip {
    /// Index of the leaf.
    pub leaf: usize,
    /// Its name.
    pub name: String,
    /// Its requirement type.
    pub category: String,
    /// Its share of the root.
    pub weight: f64,
    /// Whether the human passed it.
    pub human: bool,
    /// Whether the winner is the one who is right.
    pub gained: bool,
}

/// The winner against the baseline on the test leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FinalTest {
    /// The answer.
    pub finding: Finding,
    /// The answer in words, with how far it reaches.
    pub reading: String,
    /// Test papers.
    pub papers: usize,
    /// The baseline's score.
    pub baseline: Score,
    /// The winner's score.
    pub winner: Score,
    /// The winner's objective less the baseline's; null where one is undefined.
    pub difference: Option<f64>,
    /// Lower end of its 95% interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// McNemar over all leaves, then by category, then the sign flip over papers.
    pub tests: Vec<PairedTest>,
    /// Leaves on which the two differ, the weightiest first.
    pub flips: Vec<Flip>,
}

/// A test leaf with both verdicts.
struct Both {
    leaf: usize,
    submission: usize,
    share: f64,
    human: bool,
    baseline: bool,
    winner: bool,
}

/// Tests the candidate that `winner` names for each leaf; a leaf without both answers is left out.
pub fn final_test(
    labels: &Labels,
    leaves: &[usize],
    winner: impl Fn(usize) -> usize,
    table: &Table,
    rules: &Rules,
    seed: u64,
) -> FinalTest {
    let answers = |leaf: usize| Some((table.get(BASELINE, leaf)?, table.get(winner(leaf), leaf)?));
    let mut papers: BTreeMap<usize, Vec<Both>> = BTreeMap::new();
    for leaf in leaves {
        let label = &labels.leaves[*leaf];
        let Some((baseline, own)) = answers(*leaf) else { continue };
        papers.entry(label.paper).or_default().push(Both {
            leaf: *leaf,
            submission: label.submission,
            share: label.weight,
            human: label.human,
            baseline: baseline.verdict(label.human),
            winner: own.verdict(label.human),
        });
    }
    let sample: Vec<Drawn> = leaves.iter().map(|leaf| Drawn { leaf: *leaf, weight: 1.0 }).collect();
    let of = |candidate: &dyn Fn(usize) -> usize| {
        let answer = |leaf| table.get(candidate(leaf), leaf);
        score(labels, leaves, &sample, answer, rules.lambda)
    };
    let (baseline, own) = (of(&|_| BASELINE), of(&|leaf| winner(leaf)));
    let difference = own.objective.zip(baseline.objective).map(|(own, before)| own - before);
    let interval = percentile(resampled(labels, leaves, &papers, rules, seed), LEVEL);
    let finding = match interval {
        Some(interval) if interval.low > 0.0 => Finding::Improved,
        Some(interval) if interval.high < 0.0 => Finding::Worse,
        _ => Finding::NotShown,
    };
    FinalTest {
        reading: reading(finding, papers.len()),
        finding,
        papers: papers.len(),
        baseline,
        winner: own,
        difference,
        low: interval.map(|interval| interval.low),
        high: interval.map(|interval| interval.high),
        tests: tests(labels, &papers),
        flips: flips(labels, &papers),
    }
}

fn reading(finding: Finding, papers: usize) -> String {
    if papers < FEWEST_FOR_SIGNIFICANCE && finding != Finding::NotShown {
        let s = if papers == 1 { "this paper" } else { "these papers" };
        return format!("{finding} on {s}");
    }
    finding.to_string()
}

/// The differences of the objective over leaves drawn anew within each paper.
fn resampled(
    labels: &Labels,
    leaves: &[usize],
    papers: &BTreeMap<usize, Vec<Both>>,
    rules: &Rules,
    seed: u64,
) -> Vec<Option<f64>> {
    let shares = shares(labels, leaves);
    let mut random = Random::new(seed, "final test");
    let (mut before, mut after) =
        (Sums::new(labels.submissions.len()), Sums::new(labels.submissions.len()));
    let mut once = || {
        before.clear();
        after.clear();
        for paper in papers.values() {
            for _ in 0..paper.len() {
                let leaf = &paper[random.below(paper.len())];
                before.add(1.0, leaf.submission, leaf.share, leaf.human, leaf.baseline);
                after.add(1.0, leaf.submission, leaf.share, leaf.human, leaf.winner);
            }
        }
        let lambda = rules.lambda;
        Some(after.objective(&shares, lambda)? - before.objective(&shares, lambda)?)
    };
    (0..rules.resamples).map(|_| once()).collect()
}

fn tests(labels: &Labels, papers: &BTreeMap<usize, Vec<Both>>) -> Vec<PairedTest> {
    let right = |one: &Both| (one.baseline == one.human, one.winner == one.human);
    let mcnemar = |scope: &str, counts: Discordant| PairedTest {
        scope: scope.to_owned(),
        baseline_better: counts.first,
        winner_better: counts.second,
        p: counts.exact_p(),
        p_holm: None,
    };
    let all = || papers.values().flatten();
    let mut tests = vec![mcnemar("all", Discordant::count(all().map(right)))];
    let mut categories: BTreeMap<&str, Vec<(bool, bool)>> = BTreeMap::new();
    for one in all() {
        let category = labels.leaves[one.leaf].category.as_str();
        categories.entry(category).or_default().push(right(one));
    }
    let mut by_category: Vec<PairedTest> = categories
        .into_iter()
        .map(|(category, pairs)| mcnemar(category, Discordant::count(pairs)))
        .collect();
    let p: Vec<f64> = by_category.iter().map(|test| test.p).collect();
    for (test, adjusted) in by_category.iter_mut().zip(holm(&p)) {
        test.p_holm = Some(adjusted);
    }
    tests.append(&mut by_category);
    let differences: Vec<f64> = papers
        .values()
        .map(|leaves| {
            let gained = |one: &Both| {
                let (before, after) = right(one);
                f64::from(after) - f64::from(before)
            };
            leaves.iter().map(gained).sum::<f64>() / leaves.len() as f64
        })
        .collect();
    if let Some(found) = sign_flip(&differences) {
        let count = |better: &dyn Fn(&&f64) -> bool| differences.iter().filter(better).count();
        tests.push(PairedTest {
            scope: "papers".to_owned(),
            baseline_better: count(&|difference| **difference < 0.0) as u64,
            winner_better: count(&|difference| **difference > 0.0) as u64,
            p: found.p,
            p_holm: None,
        });
    }
    tests
}

fn flips(labels: &Labels, papers: &BTreeMap<usize, Vec<Both>>) -> Vec<Flip> {
    let differ = papers.values().flatten().filter(|one| one.baseline != one.winner);
    let mut flips: Vec<Flip> = differ
        .map(|one| {
            let label = &labels.leaves[one.leaf];
            Flip {
                leaf: one.leaf,
                name: label.name.clone(),
                category: label.category.clone(),
                weight: label.weight,
                human: label.human,
                gained: one.winner == one.human,
            }
        })
        .collect();
    flips.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    flips
}

// === impl Finding ===

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Finding::Improved => "improved",
            Finding::NotShown => "not shown",
            Finding::Worse => "worse",
        })
    }
}
