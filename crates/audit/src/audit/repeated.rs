//! The judge against itself: repeated samples, and what its confidence is worth.
//!
//! Owns the two reports. A submission's root is computed of each sample alone.

use crate::{
    document::{ConfidenceReport, ReliabilityReport, RootSpread},
    metric::{
        calibration::{self, Stated},
        reliability::{Votes, reliability, samples_for},
        variance,
    },
    pair::{Leaf, Paired},
};

use super::disagree::confidence;

/// The standard error of a root score that samples are counted for.
const ONE_POINT: f64 = 0.01;

/// The first judge's agreement with itself; `None` where no leaf has two valid verdicts.
pub(super) fn reliability_report(paired: &Paired) -> Option<ReliabilityReport> {
    let votes: Vec<Votes> = paired.leaves.iter().filter_map(votes).collect();
    let found = reliability(&votes)?;
    let roots = paired
        .submissions
        .iter()
        .zip(paired.by_submission())
        .filter_map(|(submission, leaves)| {
            let samples = leaves.iter().map(|leaf| leaf.judges[0].len()).max()?;
            let roots: Vec<f64> = (0..samples).map(|sample| root(&leaves, sample)).collect();
            let variance = variance(&roots, 1);
            Some(RootSpread {
                submission: submission.name.clone(),
                samples_for_one_point: variance.and_then(|v| samples_for(v, ONE_POINT)),
                variance,
                roots,
            })
        })
        .collect();
    Some(ReliabilityReport {
        leaves: found.leaves,
        samples: paired.leaves.iter().map(|leaf| leaf.judges[0].len()).max().unwrap_or(0),
        flip_rate: found.flip_rate,
        fleiss_kappa: found.fleiss_kappa,
        krippendorff_alpha: found.krippendorff_alpha,
        pairwise_agreement: found.pairwise_agreement,
        unanimous: found.unanimous,
        roots,
    })
}

/// The binary votes on a leaf; `None` where any is a fraction.
fn votes(leaf: &Leaf) -> Option<Votes> {
    let scores: Vec<f64> = leaf.judges.first()?.iter().filter_map(|sample| sample.score).collect();
    let binary = scores.iter().all(|score| *score == 0.0 || *score == 1.0);
    let passes = scores.iter().filter(|score| **score == 1.0).count();
    binary.then_some(Votes { passes: passes as u32, votes: scores.len() as u32 })
}

fn root(leaves: &[&Leaf], sample: usize) -> f64 {
    let score = |leaf: &Leaf| leaf.judges[0].get(sample).and_then(|grade| grade.score);
    leaves.iter().map(|leaf| leaf.weight * score(leaf).unwrap_or(0.0)).sum()
}

/// Whether the first judge's confidence means what it says; `None` where it has none on a
/// labelled leaf.
pub(super) fn confidence_report(paired: &Paired) -> Option<ConfidenceReport> {
    let mut by_votes = false;
    let stated: Vec<Stated> = paired
        .leaves
        .iter()
        .filter_map(|leaf| {
            let (human, judge) = (leaf.human().pass()?, leaf.judge(0).pass()?);
            by_votes |= leaf.judges[0].len() > 1;
            let confidence = confidence(&leaf.judges[0], f64::from(judge))?;
            Some(Stated { confidence, happened: human == judge })
        })
        .collect();
    if stated.is_empty() {
        return None;
    }
    let ece = if by_votes {
        calibration::ece_by_level(&stated)
    } else {
        calibration::ece_by_width(&stated, 10)
    };
    Some(ConfidenceReport {
        source: if by_votes { "votes" } else { "stated" },
        leaves: stated.len(),
        ece,
        brier: calibration::brier(&stated),
        auroc: calibration::auroc(&stated),
    })
}
