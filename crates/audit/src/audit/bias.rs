//! How far the judge's score of a tree is from the humans'.
//!
//! Owns the signed bias of each root and of each of its children, never averaged away, and its
//! interval: leaves err independently, at the rates of their category and label.

use std::collections::BTreeMap;

use crate::{
    document::RootBias,
    metric::{LEVEL, agreement::Confusion, dist::normal_critical},
    pair::{Leaf, Paired},
};

/// Confusion matrices by category, over every labelled leaf with a binary verdict.
pub(super) fn rates(paired: &Paired) -> BTreeMap<&str, Confusion> {
    let mut rates: BTreeMap<&str, Confusion> = BTreeMap::new();
    for leaf in &paired.leaves {
        if let (Some(human), Some(judge)) = (leaf.human().pass(), leaf.judge(0).pass()) {
            rates.entry(&leaf.category).or_default().add(human, judge);
        }
    }
    rates
}

/// The variance of a verdict on a leaf with this label: q(1 − q) of the category's rate, which is
/// smoothed so that few labels are not taken for certainty. Fractions vary as a share does.
fn variance(rates: &BTreeMap<&str, Confusion>, leaf: &Leaf, human: f64) -> f64 {
    let counts = rates.get(leaf.category.as_str()).copied().unwrap_or_default();
    let smoothed = |hits: u64, total: u64| (hits as f64 + 1.0) / (total as f64 + 2.0);
    let sensitivity = smoothed(counts.tp, counts.positives());
    let specificity = smoothed(counts.tn, counts.negatives());
    let vary = |q: f64| q * (1.0 - q);
    human * vary(sensitivity) + (1.0 - human) * vary(specificity)
}

/// The bias of every root that humans graded, and of the root's children.
pub(super) fn root_bias(paired: &Paired) -> Vec<RootBias> {
    let rates = rates(paired);
    let mut found = Vec::new();
    for (submission, leaves) in paired.submissions.iter().zip(paired.by_submission()) {
        if leaves.iter().all(|leaf| leaf.human().score().is_none()) {
            continue;
        }
        let mut add = |node: &str, share: f64, leaves: &[&Leaf]| {
            found.push(of_node(&rates, &submission.name, node, share, leaves));
        };
        add("root", 1.0, &leaves);
        for (at, child) in submission.first_level.iter().enumerate() {
            let below: Vec<&Leaf> =
                leaves.iter().copied().filter(|leaf| leaf.first_level == Some(at)).collect();
            add(&child.id, child.share, &below);
        }
    }
    found
}

fn of_node(
    rates: &BTreeMap<&str, Confusion>,
    submission: &str,
    node: &str,
    share: f64,
    leaves: &[&Leaf],
) -> RootBias {
    let (mut lower, mut upper, mut spread) = (0.0, 0.0, 0.0);
    let (mut judged, mut human_score) = (0.0, 0.0);
    let (mut labels_missing, mut verdicts_missing) = (false, false);
    for leaf in leaves {
        // A node without weight has no score to be wrong about.
        let weight = if share > 0.0 { leaf.weight / share } else { 0.0 };
        let verdict = leaf.judge(0).score();
        verdicts_missing |= verdict.is_none() && weight > 0.0;
        judged += weight * verdict.unwrap_or(0.0);
        let Some(human) = leaf.human().score() else {
            labels_missing |= weight > 0.0;
            continue;
        };
        human_score += weight * human;
        lower += weight * (verdict.unwrap_or(0.0) - human);
        upper += weight * (verdict.unwrap_or(1.0) - human);
        spread += weight * weight * variance(rates, leaf, human);
    }
    let half = normal_critical(LEVEL) * spread.sqrt();
    RootBias {
        submission: submission.to_owned(),
        node: node.to_owned(),
        share,
        bias: (!labels_missing && !verdicts_missing).then_some(lower),
        lower,
        upper,
        low: (lower - half).max(-1.0),
        high: (upper + half).min(1.0),
        judge: (!verdicts_missing).then_some(judged),
        human: human_score,
    }
}
