//! The measures of a set of leaves, with intervals at the leaf and at the paper.
//!
//! Owns which interval belongs to which measure: Wilson and the clustered error for shares, the
//! bootstrap and the jackknife over papers for the rest.

use std::collections::BTreeMap;

use super::AuditOptions;
use crate::{
    document::{IntervalLevel, Measures, NamedInterval},
    metric::{
        LEVEL,
        agreement::{Confusion, Measure},
        dist::t_critical,
        interval::{
            Interval,
            bootstrap::{Drawn, percentile, resample},
            cluster::{ClusterSum, clustered},
            jackknife::jackknife,
            wilson::wilson,
        },
        mean, variance,
    },
    pair::Leaf,
};

/// A leaf with a binary label.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grade<'p> {
    pub(super) leaf: &'p Leaf,
    pub(super) paper: &'p str,
    pub(super) human: bool,
    /// `None` without a valid verdict.
    pub(super) judge: Option<bool>,
}

type Intervals = BTreeMap<String, Vec<NamedInterval>>;

/// The measures of these leaves; one without a verdict counts as failed by the judge.
pub(super) fn measures(grades: &[&Grade<'_>], options: &AuditOptions) -> Measures {
    let pair = |grade: &&Grade<'_>| (grade.human, grade.judge.unwrap_or(false));
    let counts = Confusion::count(grades.iter().map(pair));
    let mut intervals = Intervals::new();
    leaf_level(&counts, grades, options, &mut intervals);
    let mut papers: BTreeMap<&str, Confusion> = BTreeMap::new();
    for grade in grades {
        let (human, judge) = pair(grade);
        papers.entry(grade.paper).or_default().add(human, judge);
    }
    let papers: Vec<Confusion> = papers.into_values().collect();
    if papers.len() > 1 {
        paper_level(&papers, &mut intervals);
    }
    of_counts(&counts, intervals)
}

/// The measures of a confusion matrix.
pub(super) fn of_counts(counts: &Confusion, intervals: Intervals) -> Measures {
    let of = |measure: Measure| measure.of(counts);
    Measures {
        tp: counts.tp,
        fn_: counts.fn_,
        fp: counts.fp,
        tn: counts.tn,
        accuracy: of(Measure::Accuracy),
        precision: of(Measure::Precision),
        recall: of(Measure::Recall),
        f1: of(Measure::F1),
        num_positives: counts.positives(),
        num_negatives: counts.negatives(),
        num_samples: counts.samples(),
        sensitivity: of(Measure::Sensitivity),
        specificity: of(Measure::Specificity),
        balanced_accuracy: of(Measure::BalancedAccuracy),
        kappa: of(Measure::Kappa),
        phi: of(Measure::Phi),
        ac1: of(Measure::Ac1),
        intervals,
    }
}

fn set(intervals: &mut Intervals, measure: Measure, named: NamedInterval) {
    intervals.entry(measure.name().to_owned()).or_default().push(named);
}

/// Hits and total of a measure that is a share; `None` for any other.
fn share(measure: Measure, counts: &Confusion) -> Option<(u64, u64)> {
    match measure {
        Measure::Accuracy => Some((counts.tp + counts.tn, counts.samples())),
        Measure::Sensitivity => Some((counts.tp, counts.positives())),
        Measure::Specificity => Some((counts.tn, counts.negatives())),
        _ => None,
    }
}

fn leaf_level(
    counts: &Confusion,
    grades: &[&Grade<'_>],
    options: &AuditOptions,
    intervals: &mut Intervals,
) {
    let drawn: Vec<Drawn> = grades
        .iter()
        .map(|grade| Drawn::new(grade.human, grade.judge.unwrap_or(false), 0.0))
        .collect();
    let resampled = resample(&drawn, options.resamples.0, options.seed);
    for measure in Measure::ALL {
        let (method, interval) = match share(measure, counts) {
            Some((hits, total)) => ("wilson", wilson(hits, total, LEVEL)),
            None => {
                let values = resampled.counts.iter().map(|counts| measure.of(counts));
                ("bootstrap", percentile(values, LEVEL).filter(|_| measure.of(counts).is_some()))
            }
        };
        if let Some(interval) = interval {
            set(intervals, measure, NamedInterval::new(IntervalLevel::Leaf, method, interval));
        }
    }
}

fn paper_level(papers: &[Confusion], intervals: &mut Intervals) {
    for measure in Measure::ALL {
        let add = |intervals: &mut Intervals, method, interval: Interval| {
            let interval = interval.within(measure.range());
            set(intervals, measure, NamedInterval::new(IntervalLevel::Paper, method, interval));
        };
        let sums: Option<Vec<ClusterSum>> = papers
            .iter()
            .map(|counts| {
                let (hits, total) = share(measure, counts)?;
                Some(ClusterSum { hits: hits as f64, total: total as f64 })
            })
            .collect();
        if let Some(sums) = sums {
            if let Some(found) = clustered(&sums) {
                add(intervals, "clustered", found.interval(LEVEL));
            }
            // Of a share the jackknife says the same less well: it takes all papers to be alike in size.
            continue;
        }
        let found = jackknife(papers.len(), |keep| {
            let kept = papers.iter().enumerate().filter(|(paper, _)| keep(*paper));
            measure.of(&kept.map(|(_, counts)| *counts).sum())
        });
        if let Some(found) = found {
            add(intervals, "jackknife", found.interval(LEVEL));
        }
    }
}

/// The mean over papers of each measure, verdicts that are missing dropped.
pub(super) fn paper_mean(grades: &[Grade<'_>]) -> Measures {
    let mut papers: BTreeMap<&str, Confusion> = BTreeMap::new();
    for grade in grades {
        if let Some(judge) = grade.judge {
            papers.entry(grade.paper).or_default().add(grade.human, judge);
        }
    }
    let mut intervals = Intervals::new();
    let mut means = BTreeMap::new();
    for measure in Measure::ALL {
        let values: Vec<f64> = papers.values().filter_map(|counts| measure.of(counts)).collect();
        let Some(middle) = mean(&values) else { continue };
        means.insert(measure, middle);
        let spread = variance(&values, 1).zip(t_critical(LEVEL, values.len() as f64 - 1.0));
        if let Some((spread, t)) = spread {
            let half = t * (spread / values.len() as f64).sqrt();
            let interval = Interval::around(middle, half).within(measure.range());
            let named = NamedInterval::new(IntervalLevel::Paper, "t_over_papers", interval);
            set(&mut intervals, measure, named);
        }
    }
    let of = |measure: Measure| means.get(&measure).copied();
    Measures {
        accuracy: of(Measure::Accuracy),
        precision: of(Measure::Precision),
        recall: of(Measure::Recall),
        f1: of(Measure::F1),
        sensitivity: of(Measure::Sensitivity),
        specificity: of(Measure::Specificity),
        balanced_accuracy: of(Measure::BalancedAccuracy),
        kappa: of(Measure::Kappa),
        phi: of(Measure::Phi),
        ac1: of(Measure::Ac1),
        ..of_counts(&papers.into_values().sum(), intervals)
    }
}

/// What graders without judgement reach on the same leaves.
pub(super) fn baselines(grades: &[Grade<'_>]) -> BTreeMap<String, Measures> {
    let passed = grades.iter().filter(|grade| grade.human).count() as u64;
    let failed = grades.len() as u64 - passed;
    let coin = |n: u64| (n / 2, n - n / 2);
    let ((tp, fn_), (fp, tn)) = (coin(passed), coin(failed));
    [
        ("always_pass", Confusion { tp: passed, fn_: 0, fp: failed, tn: 0 }),
        ("always_fail", Confusion { tp: 0, fn_: passed, fp: 0, tn: failed }),
        ("random", Confusion { tp, fn_, fp, tn }),
    ]
    .map(|(name, counts)| (name.to_owned(), of_counts(&counts, Intervals::new())))
    .into()
}
