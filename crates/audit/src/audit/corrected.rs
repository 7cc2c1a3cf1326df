//! Root scores corrected for the judge's error.
//!
//! Owns which estimator applies to which submission and what must hold. Rogan–Gladen takes each
//! category's own rates over the category's share of the root; prediction-powered inference takes
//! labels whose chance of being drawn is known.

use super::{AuditOptions, bias::rates};
use crate::{
    calibration::{Verdict, strata},
    document::{CorrectedEstimate, CorrectedScore, CorrectedScores, SubmissionEstimate},
    metric::{
        LEVEL,
        corrected::{
            Corrected, Refused,
            ppi::{PpiData, ppi_clustered},
            rogan_gladen::stratified,
        },
        interval::Interval,
        label::{Sampled, ipw_score},
        mean,
    },
    pair::{Leaf, Paired},
};

const UNEQUAL: &str = "the labelled leaves were drawn with unequal chances that follow the judge's \
                       verdicts: its rates over them are not those of all leaves";
const NO_LABELS: &str = "no leaf has a human's label: there is nothing to correct by";

pub(super) fn corrected(paired: &Paired, options: &AuditOptions) -> CorrectedScores {
    let refused = |refused: Refused| CorrectedScore::Refused { refused: refused.to_string() };
    CorrectedScores {
        rogan_gladen: rogan_gladen(paired).map_or_else(refused, CorrectedScore::Estimate),
        ppi: ppi(paired, options).map_or_else(refused, CorrectedScore::Estimate),
    }
}

fn rogan_gladen(paired: &Paired) -> Result<CorrectedEstimate, Refused> {
    let rates = rates(paired);
    if rates.is_empty() {
        return Err(Refused::NoRandomSample(NO_LABELS.to_owned()));
    }
    if paired.leaves.iter().any(|leaf| leaf.pi.is_some()) {
        return Err(Refused::NoRandomSample(UNEQUAL.to_owned()));
    }
    let mut by_submission = Vec::new();
    for (submission, leaves) in paired.submissions.iter().zip(paired.by_submission()) {
        let verdicts: Vec<Verdict<'_>> = leaves.iter().map(|leaf| verdict(leaf)).collect();
        let of = |category: &str| rates.get(category).copied().unwrap_or_default();
        let found = stratified(&strata(&verdicts, &of), LEVEL)?;
        by_submission.push(estimate_of(&submission.name, raw(&leaves), found));
    }
    let own = paired.leaves.iter().all(|leaf| leaf.human().score().is_some());
    let mut assumptions = vec![
        "the judge errs on every leaf of a category at the same rates, whatever the submission"
            .to_owned(),
        "leaves are graded independently".to_owned(),
    ];
    if own {
        assumptions.push(
            "the rates come from the same leaves that are corrected: this proves nothing about \
             other submissions"
                .to_owned(),
        );
    }
    // The same rates are in every submission: their errors add up and do not average out.
    Ok(summary(by_submission, assumptions, |halves| mean(halves).unwrap_or(0.0)))
}

fn verdict(leaf: &Leaf) -> Verdict<'_> {
    Verdict { category: &leaf.category, weight: leaf.weight, score: leaf.judge(0).score() }
}

fn estimate_of(submission: &str, raw: f64, found: Corrected) -> SubmissionEstimate {
    SubmissionEstimate {
        submission: submission.to_owned(),
        estimate: found.estimate,
        low: found.interval.low,
        high: found.interval.high,
        raw,
    }
}

/// The judge's own root score, a missing verdict counting as 0.
fn raw(leaves: &[&Leaf]) -> f64 {
    leaves.iter().map(|leaf| leaf.weight * leaf.judge(0).score().unwrap_or(0.0)).sum()
}

/// The mean over submissions; `pool` says how halves of intervals combine.
fn summary(
    by_submission: Vec<SubmissionEstimate>,
    assumptions: Vec<String>,
    pool: impl Fn(&[f64]) -> f64,
) -> CorrectedEstimate {
    let over = |value: &dyn Fn(&SubmissionEstimate) -> f64| -> Vec<f64> {
        by_submission.iter().map(value).collect()
    };
    let middle = |values: Vec<f64>| mean(&values).unwrap_or(0.0);
    let estimate = middle(over(&|one| one.estimate));
    let below = pool(&over(&|one| one.estimate - one.low));
    let above = pool(&over(&|one| one.high - one.estimate));
    let raw = middle(over(&|one| one.raw));
    let Interval { low, high } =
        Interval { low: estimate - below, high: estimate + above }.within((0.0, 1.0));
    CorrectedEstimate { estimate, low, high, raw, assumptions, by_submission }
}

fn ppi(paired: &Paired, options: &AuditOptions) -> Result<CorrectedEstimate, Refused> {
    let refuse = |words: &str| Err(Refused::NoRandomSample(words.to_owned()));
    let labelled = |leaf: &&Leaf| leaf.human().score().is_some();
    let labels = paired.leaves.iter().filter(labelled).count();
    if labels == 0 {
        return refuse(NO_LABELS);
    }
    if labels == paired.leaves.len() {
        return refuse(
            "every leaf has a human's label: the humans' score is known and needs no judge",
        );
    }
    let whole = |leaves: &Vec<&Leaf>| {
        let some = leaves.iter().any(labelled);
        let all = leaves.iter().all(labelled);
        (some, all)
    };
    let by_submission = paired.by_submission();
    let drawn_within = by_submission.iter().any(|leaves| matches!(whole(leaves), (true, false)));
    if paired.leaves.iter().filter(labelled).all(|leaf| leaf.pi.is_some()) {
        return within(paired, &by_submission, &|leaf, _| leaf.pi);
    }
    if !options.labelled_at_random {
        return refuse(
            "nothing says that the labelled leaves are a random sample: draw them with --next, or \
             vouch for it with --labelled-at-random",
        );
    }
    if drawn_within {
        return within(paired, &by_submission, &|_, share| Some(share));
    }
    between(&by_submission)
}

/// Labels drawn within submissions, each with its probability.
fn within(
    paired: &Paired,
    by_submission: &[Vec<&Leaf>],
    pi: &dyn Fn(&Leaf, f64) -> Option<f64>,
) -> Result<CorrectedEstimate, Refused> {
    let mut estimates = Vec::new();
    for (submission, leaves) in paired.submissions.iter().zip(by_submission) {
        let labels = leaves.iter().filter(|leaf| leaf.human().score().is_some()).count();
        if labels == 0 {
            continue;
        }
        let share = labels as f64 / leaves.len() as f64;
        let items: Vec<Sampled> = leaves
            .iter()
            .map(|leaf| Sampled {
                weight: leaf.weight,
                judge: leaf.judge(0).score().unwrap_or(0.0),
                human: leaf.human().score(),
                pi: pi(leaf, share).unwrap_or(1.0),
            })
            .collect();
        if let Some(found) = ipw_score(&items, LEVEL) {
            let corrected = Corrected {
                estimate: found.estimate.clamp(0.0, 1.0),
                interval: found.interval.within((0.0, 1.0)),
            };
            estimates.push(estimate_of(&submission.name, raw(leaves), corrected));
        }
    }
    let assumptions = vec![
        "every leaf had the recorded chance of being labelled".to_owned(),
        "a missing verdict counts as 0 before it is corrected".to_owned(),
    ];
    let count = estimates.len() as f64;
    let root = |halves: &[f64]| halves.iter().map(|half| half * half).sum::<f64>().sqrt() / count;
    Ok(summary(estimates, assumptions, root))
}

/// Whole submissions labelled at random: each is one item.
fn between(by_submission: &[Vec<&Leaf>]) -> Result<CorrectedEstimate, Refused> {
    let (mut human, mut judge, mut unlabelled) = (Vec::new(), Vec::new(), Vec::new());
    for leaves in by_submission {
        let label: Option<f64> =
            leaves.iter().map(|leaf| leaf.human().score().map(|s| s * leaf.weight)).sum();
        match label {
            Some(label) => {
                human.push(label);
                judge.push(raw(leaves));
            }
            None => unlabelled.push(raw(leaves)),
        }
    }
    let data = PpiData { human: &human, judge: &judge, unlabelled: &unlabelled };
    let few = || {
        Refused::NoRandomSample(format!(
            "{} labelled submissions and {} without labels; the mean over submissions needs two of \
             each",
            human.len(),
            unlabelled.len()
        ))
    };
    let found = ppi_clustered(&data, LEVEL).ok_or_else(few)?;
    let df = human.len().min(unlabelled.len()) as f64 - 1.0;
    let interval = found.interval_t(LEVEL, df).within((0.0, 1.0));
    let everything: Vec<f64> = judge.iter().chain(&unlabelled).copied().collect();
    Ok(CorrectedEstimate {
        estimate: found.estimate.clamp(0.0, 1.0),
        low: interval.low,
        high: interval.high,
        raw: mean(&everything).unwrap_or(0.0),
        assumptions: vec![
            "the labelled submissions are a random sample of all of them".to_owned(),
            "submissions are independent".to_owned(),
        ],
        by_submission: Vec::new(),
    })
}
