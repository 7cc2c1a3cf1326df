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

    /// Submissions of which any leaf was counted.
    fn rooted(&self) -> f64 {
        self.roots.iter().filter(|(total, _)| *total > 0.0).count() as f64
    }

    /// `shares`: of each submission, the share of its root that the pool's labelled leaves have.
    fn root_bias(&self, shares: &[f64]) -> Option<f64> {
        let biases = self.roots.iter().zip(shares).filter(|((total, _), _)| *total > 0.0);
        let sum: f64 = biases.map(|((total, excess), share)| share * excess / total).sum();
        let count = self.rooted();
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

/// What each leaf of a sample adds to the objective of a candidate whose root bias has this sign: the
/// objective is their sum. Their spread says how sure it is.
pub(crate) fn parts(
    labels: &Labels,
    shares: &[f64],
    sample: &[Drawn],
    answer: impl Fn(usize) -> Option<Answer>,
    lambda: f64,
) -> Vec<f64> {
    let mut sums = Sums::new(labels.submissions.len());
    let verdict =
        |drawn: &Drawn| answer(drawn.leaf).map(|of| of.verdict(labels.leaves[drawn.leaf].human));
    for drawn in sample {
        let leaf = &labels.leaves[drawn.leaf];
        if let Some(verdict) = verdict(drawn) {
            sums.add(drawn.weight, leaf.submission, leaf.weight, leaf.human, verdict);
        }
    }
    let slope = lambda * sums.root_bias(shares).map_or(0.0, f64::signum) / sums.rooted().max(1.0);
    let part = |drawn: &Drawn| {
        let leaf = &labels.leaves[drawn.leaf];
        let Some(verdict) = verdict(drawn) else { return 0.0 };
        let (class, _) = sums.classes[usize::from(!leaf.human)];
        let hit = f64::from(verdict == leaf.human) * drawn.weight / (2.0 * class);
        let (total, _) = sums.roots[leaf.submission];
        if total == 0.0 {
            return hit;
        }
        let excess = drawn.weight * leaf.weight * (f64::from(verdict) - f64::from(leaf.human));
        hit - slope * shares[leaf.submission] * excess / total
    };
    sample.iter().map(part).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Label;

    #[test]
    fn the_parts_add_up_to_the_objective() {
        let leaf = |at: usize| Label {
            submission: at % 3,
            paper: at % 3,
            category: "Code Development".to_owned(),
            human: at.is_multiple_of(2),
            weight: (at % 4) as f64 / 20.0,
            name: at.to_string(),
            source: at,
        };
        let names: Vec<String> = (0..3).map(|at| at.to_string()).collect();
        let labels = Labels {
            papers: names.clone(),
            submissions: names,
            leaves: (0..40).map(leaf).collect(),
        };
        let pool: Vec<usize> = (0..40).collect();
        let sample: Vec<Drawn> =
            (0..30).map(|leaf| Drawn { leaf, weight: 1.0 + (leaf % 5) as f64 }).collect();
        let answers = [Answer::Pass, Answer::Fail, Answer::Unparsed, Answer::Pass, Answer::Pass];
        let answer = |leaf: usize| Some(answers[leaf * 7 % 5]);
        let whole = score(&labels, &pool, &sample, answer, 1.5);
        assert!(whole.root_bias.is_some_and(|bias| bias.abs() > 0.01), "{whole:?}");
        let parts = parts(&labels, &shares(&labels, &pool), &sample, answer, 1.5);
        let sum: f64 = parts.iter().sum();
        assert!((sum - whole.objective.unwrap()).abs() < 1e-12, "{sum}, {whole:?}");
    }
}
