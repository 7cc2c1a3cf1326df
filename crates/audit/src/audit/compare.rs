//! Two judges on the same leaves, and a judge among several humans.
//!
//! Owns the tests and what may be said of them: below six papers nothing is called significant.

use std::collections::BTreeMap;

use super::{AuditOptions, scope};
use crate::{
    document::{AlternativeAnnotator, Comparison, CostPoint, Flip, TestResult},
    metric::{
        agreement::Confusion,
        alt_test::alt_test,
        paired::{
            mcnemar::Discordant,
            multiple::holm,
            sign_flip::{FEWEST_FOR_SIGNIFICANCE, sign_flip},
        },
    },
    pair::{Leaf, Paired},
};

/// The discount of the alternative annotator test for graders that are no experts.
const EPSILON: f64 = 0.1;
const FALSE_DISCOVERIES: f64 = 0.05;

struct Both<'p> {
    leaf: &'p Leaf,
    paper: &'p str,
    human: bool,
    first: bool,
    second: bool,
}

/// Tests and comparison of the first two judges; `None` with one.
pub(super) fn compare(
    paired: &Paired,
    options: &AuditOptions,
) -> Option<(Vec<TestResult>, Comparison)> {
    if paired.judges.len() < 2 {
        return None;
    }
    let both: Vec<Both<'_>> = paired
        .leaves
        .iter()
        .filter_map(|leaf| {
            let human = leaf.human().pass()?;
            let (first, second) = (leaf.judge(0).pass()?, leaf.judge(1).pass()?);
            let paper = paired.submission(leaf).paper.as_str();
            Some(Both { leaf, paper, human, first, second })
        })
        .collect();
    let counts = |second: bool| {
        let judge = |one: &Both<'_>| if second { one.second } else { one.first };
        let counts = Confusion::count(both.iter().map(|one| (one.human, judge(one))));
        scope::of_counts(&counts, BTreeMap::new())
    };
    let (first, second) = (counts(false), counts(true));
    let cost = [&first, &second]
        .into_iter()
        .enumerate()
        .map(|(judge, measures)| CostPoint {
            judge: paired.judges[judge].clone(),
            cost_usd: options.costs.get(judge).copied().flatten(),
            f1: measures.f1,
        })
        .collect();
    let comparison =
        Comparison { leaves: both.len(), first, second, cost, flips: flips(paired, &both) };
    Some((tests(&both), comparison))
}

fn tests(both: &[Both<'_>]) -> Vec<TestResult> {
    let right = |one: &Both<'_>| (one.first == one.human, one.second == one.human);
    let mcnemar = |scope: &str, counts: Discordant| TestResult {
        name: "mcnemar_exact",
        scope: scope.to_owned(),
        p: counts.exact_p(),
        p_holm: None,
        first_better: counts.first,
        second_better: counts.second,
        reading: "leaves taken to be independent".to_owned(),
    };
    let mut tests = vec![mcnemar("overall", Discordant::count(both.iter().map(right)))];
    let mut categories: BTreeMap<&str, Vec<(bool, bool)>> = BTreeMap::new();
    let mut papers: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for one in both {
        let (first, second) = right(one);
        categories.entry(&one.leaf.category).or_default().push((first, second));
        let (sum, leaves) = papers.entry(one.paper).or_default();
        *sum += f64::from(first) - f64::from(second);
        *leaves += 1.0;
    }
    let mut by_category: Vec<TestResult> = categories
        .into_iter()
        .filter(|(category, _)| !category.is_empty())
        .map(|(category, pairs)| mcnemar(category, Discordant::count(pairs)))
        .collect();
    let p: Vec<f64> = by_category.iter().map(|test| test.p).collect();
    for (test, adjusted) in by_category.iter_mut().zip(holm(&p)) {
        test.p_holm = Some(adjusted);
    }
    tests.extend(by_category);
    let differences: Vec<f64> = papers.values().map(|(sum, leaves)| sum / leaves).collect();
    if let Some(found) = sign_flip(&differences) {
        let count = |better: &dyn Fn(&f64) -> bool| {
            differences.iter().filter(|difference| better(difference)).count() as u64
        };
        let papers = differences.len();
        let reading = if papers < FEWEST_FOR_SIGNIFICANCE {
            let s = if papers == 1 { "" } else { "s" };
            format!("{papers} paper{s}: p cannot fall below {}; indicative", found.least_p)
        } else if found.p < 0.05 {
            "significant at the level of papers".to_owned()
        } else {
            "not shown at the level of papers".to_owned()
        };
        tests.push(TestResult {
            name: "sign_flip_papers",
            scope: "papers".to_owned(),
            p: found.p,
            p_holm: None,
            first_better: count(&|difference| *difference > 0.0),
            second_better: count(&|difference| *difference < 0.0),
            reading,
        });
    }
    tests
}

fn flips(paired: &Paired, both: &[Both<'_>]) -> Vec<Flip> {
    let mut flips: Vec<Flip> = both
        .iter()
        .filter(|one| one.first != one.second)
        .map(|one| Flip {
            submission: paired.submission(one.leaf).name.clone(),
            index: one.leaf.index,
            id: one.leaf.id.clone(),
            weight: one.leaf.weight,
            human: f64::from(one.human),
            first: f64::from(one.first),
            second: f64::from(one.second),
        })
        .collect();
    flips.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    flips
}

/// Whether the first judge may stand in for a human, over leaves that every human graded; `None`
/// with fewer than two humans or too few leaves.
pub(super) fn alternative_annotator(paired: &Paired) -> Option<AlternativeAnnotator> {
    let count = paired.leaves.iter().map(|leaf| leaf.humans.len()).max()?;
    let mut humans = vec![Vec::new(); count];
    let mut judge = Vec::new();
    for leaf in paired.leaves.iter().filter(|leaf| leaf.humans.len() == count) {
        let binary = |score: &f64| *score == 0.0 || *score == 1.0;
        let grades: Option<Vec<bool>> = leaf
            .humans
            .iter()
            .map(|grade| grade.score.filter(binary).map(|score| score == 1.0))
            .collect();
        if let (Some(grades), Some(verdict)) = (grades, leaf.judge(0).pass()) {
            judge.push(verdict);
            for (human, grade) in humans.iter_mut().zip(grades) {
                human.push(grade);
            }
        }
    }
    let found = alt_test(&humans, &judge, EPSILON, FALSE_DISCOVERIES)?;
    Some(AlternativeAnnotator {
        humans: count,
        leaves: judge.len(),
        epsilon: EPSILON,
        p: found.p,
        winning_rate: found.winning_rate,
        advantage: found.advantage,
        passes: found.passes,
    })
}
