//! What a candidate is worth on a sample.
//!
//! Owns the objective: balanced accuracy, each leaf weighing by the inverse of its probability of
//! being drawn, less λ times the absolute mean of the signed root bias over submissions. Both rates
//! always stand beside it: a stricter prompt mostly moves the operating point.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{answer::Answer, labels::Labels, sample::Drawn};

/// A candidate's score on a sample. Undefined values are `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Score {
    /// Leaves of the sample.
    pub leaves: usize,
    /// Those of them whose answer could not be read; they count as wrong.
    pub unparsed: usize,
    /// Share of the human's passes that are passed.
    pub sensitivity: Option<f64>,
    /// Share of the human's fails that are failed.
    pub specificity: Option<f64>,
    /// Mean of the two.
    pub balanced_accuracy: Option<f64>,
    /// Mean over submissions of the judge's root score less the human's, over labelled leaves.
    pub root_bias: Option<f64>,
    /// Balanced accuracy − λ·|root bias|.
    pub objective: Option<f64>,
    /// Specificity by category.
    pub specificity_by_category: BTreeMap<String, f64>,
}

/// Running sums behind an objective.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    /// Weight and hits of the human's passes, then of the fails.
    classes: [(f64, f64); 2],
    /// By submission: weight of the leaves, and of what the judge gave too much.
    roots: Vec<(f64, f64)>,
}

// === impl Sums ===

impl Sums {
    pub(crate) fn new(submissions: usize) -> Sums {
        Sums { classes: [(0.0, 0.0); 2], roots: vec![(0.0, 0.0); submissions] }
    }

    pub(crate) fn clear(&mut self) {
        self.classes = [(0.0, 0.0); 2];
        self.roots.fill((0.0, 0.0));
    }

    /// Counts a leaf: for how many it stands, its submission, its share of the root, both verdicts.
    pub(crate) fn add(
        &mut self,
        stands_for: f64,
        submission: usize,
        share: f64,
        human: bool,
        verdict: bool,
    ) {
        let (weight, hits) = &mut self.classes[usize::from(!human)];
        *weight += stands_for;
        if human == verdict {
            *hits += stands_for;
        }
        let (total, excess) = &mut self.roots[submission];
        *total += stands_for * share;
        *excess += stands_for * share * (f64::from(verdict) - f64::from(human));
    }

    fn rate(&self, class: usize) -> Option<f64> {
        let (weight, hits) = self.classes[class];
        (weight > 0.0).then(|| hits / weight)
    }

    fn balanced_accuracy(&self) -> Option<f64> {
        Some(f64::midpoint(self.rate(0)?, self.rate(1)?))
    }

    /// `shares`: of each submission, the share of its root that the pool's labelled leaves have.
    fn root_bias(&self, shares: &[f64]) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for ((total, excess), share) in self.roots.iter().zip(shares) {
            if *total > 0.0 {
                sum += share * excess / total;
                count += 1.0;
            }
        }
        (count > 0.0).then(|| sum / count)
    }

    pub(crate) fn objective(&self, shares: &[f64], lambda: f64) -> Option<f64> {
        // A root without any weight has no bias.
        let bias = self.root_bias(shares).unwrap_or(0.0);
        Some(self.balanced_accuracy()? - lambda * bias.abs())
    }
}

/// Of each submission, the share of its root that these leaves have.
pub(crate) fn shares(labels: &Labels, pool: &[usize]) -> Vec<f64> {
    let mut shares = vec![0.0; labels.submissions.len()];
    for leaf in pool {
        let leaf = &labels.leaves[*leaf];
        shares[leaf.submission] += leaf.weight;
    }
    shares
}

/// The score of these answers about a sample of `pool`; leaves without an answer are left out.
pub fn score(
    labels: &Labels,
    pool: &[usize],
    sample: &[Drawn],
    answer: impl Fn(usize) -> Option<Answer>,
    lambda: f64,
) -> Score {
    let mut sums = Sums::new(labels.submissions.len());
    let mut categories: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let mut score = Score::default();
    for drawn in sample {
        let leaf = &labels.leaves[drawn.leaf];
        let Some(answer) = answer(drawn.leaf) else { continue };
        let verdict = answer.verdict(leaf.human);
        score.leaves += 1;
        score.unparsed += usize::from(answer == Answer::Unparsed);
        sums.add(drawn.weight, leaf.submission, leaf.weight, leaf.human, verdict);
        if !leaf.human {
            let (weight, hits) = categories.entry(&leaf.category).or_default();
            *weight += drawn.weight;
            *hits += drawn.weight * f64::from(!verdict);
        }
    }
    let shares = shares(labels, pool);
    Score {
        sensitivity: sums.rate(0),
        specificity: sums.rate(1),
        balanced_accuracy: sums.balanced_accuracy(),
        root_bias: sums.root_bias(&shares),
        objective: sums.objective(&shares, lambda),
        specificity_by_category: categories
            .into_iter()
            .map(|(category, (weight, hits))| (category.to_owned(), hits / weight))
            .collect(),
        ..score
    }
}
