//! Agreement of two binary graders, from the four counts of their confusion matrix.
//!
//! Owns the measures that JudgeEval prints (accuracy; precision, recall and F1 averaged over the
//! classes that occur, as scikit-learn's `average="macro"` with an empty ratio counting 0) and
//! those beside them. Positive is "passed".

use std::ops::{AddAssign, Sub};

/// Leaves by the human's grade (first) and the judge's (second).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    /// Passed by both.
    pub tp: u64,
    /// Passed by the human alone.
    pub fn_: u64,
    /// Passed by the judge alone.
    pub fp: u64,
    /// Failed by both.
    pub tn: u64,
}

/// A number computed from a [`Confusion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Share of leaves on which both agree.
    Accuracy,
    /// Precision, averaged over the classes that occur.
    Precision,
    /// Recall, averaged over the classes that occur.
    Recall,
    /// F1, averaged over the classes that occur.
    F1,
    /// Share of the human's passes that the judge passes.
    Sensitivity,
    /// Share of the human's fails that the judge fails.
    Specificity,
    /// Mean of sensitivity and specificity.
    BalancedAccuracy,
    /// Cohen's kappa.
    Kappa,
    /// The phi coefficient: on binary grades also Pearson's, Spearman's and Kendall's.
    Phi,
    /// Gwet's AC1.
    Ac1,
}

// === impl Measure ===

impl Measure {
    /// Every measure, in the order of all tables.
    pub const ALL: [Measure; 10] = [
        Measure::Accuracy,
        Measure::Precision,
        Measure::Recall,
        Measure::F1,
        Measure::Sensitivity,
        Measure::Specificity,
        Measure::BalancedAccuracy,
        Measure::Kappa,
        Measure::Phi,
        Measure::Ac1,
    ];

    /// The name in documents and flags.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Accuracy => "accuracy",
            Measure::Precision => "precision",
            Measure::Recall => "recall",
            Measure::F1 => "f1",
            Measure::Sensitivity => "sensitivity",
            Measure::Specificity => "specificity",
            Measure::BalancedAccuracy => "balanced_accuracy",
            Measure::Kappa => "kappa",
            Measure::Phi => "phi",
            Measure::Ac1 => "ac1",
        }
    }

    /// The measure with exactly this name, or `None`.
    pub fn from_name(name: &str) -> Option<Measure> {
        Measure::ALL.into_iter().find(|measure| measure.name() == name)
    }

    /// The least and greatest value that the measure can take.
    pub fn range(self) -> (f64, f64) {
        match self {
            Measure::Kappa | Measure::Phi | Measure::Ac1 => (-1.0, 1.0),
            _ => (0.0, 1.0),
        }
    }

    /// The measure of these counts; `None` where it is undefined.
    pub fn of(self, counts: &Confusion) -> Option<f64> {
        match self {
            Measure::Accuracy => counts.accuracy(),
            Measure::Precision => counts.precision(),
            Measure::Recall => counts.recall(),
            Measure::F1 => counts.f1(),
            Measure::Sensitivity => counts.sensitivity(),
            Measure::Specificity => counts.specificity(),
            Measure::BalancedAccuracy => counts.balanced_accuracy(),
            Measure::Kappa => counts.kappa(),
            Measure::Phi => counts.phi(),
            Measure::Ac1 => counts.ac1(),
        }
    }
}

// === impl Confusion ===

fn ratio(numerator: u64, denominator: u64) -> Option<f64> {
    (denominator > 0).then(|| numerator as f64 / denominator as f64)
}

impl Confusion {
    /// Counts pairs of (human, judge).
    pub fn count(pairs: impl IntoIterator<Item = (bool, bool)>) -> Confusion {
        let mut counts = Confusion::default();
        for (human, judge) in pairs {
            counts.add(human, judge);
        }
        counts
    }

    /// Counts one leaf.
    pub fn add(&mut self, human: bool, judge: bool) {
        *match (human, judge) {
            (true, true) => &mut self.tp,
            (true, false) => &mut self.fn_,
            (false, true) => &mut self.fp,
            (false, false) => &mut self.tn,
        } += 1;
    }

    /// Leaves.
    pub fn samples(&self) -> u64 {
        self.tp + self.fn_ + self.fp + self.tn
    }

    /// Leaves that the human passed.
    pub fn positives(&self) -> u64 {
        self.tp + self.fn_
    }

    /// Leaves that the human failed.
    pub fn negatives(&self) -> u64 {
        self.fp + self.tn
    }

    /// Share of leaves on which both agree.
    pub fn accuracy(&self) -> Option<f64> {
        ratio(self.tp + self.tn, self.samples())
    }

    /// Mean of `of(hits, human's, judge's)` over the classes that anyone gave. An undefined ratio
    /// counts 0.
    fn macro_mean(&self, of: impl Fn(u64, u64, u64) -> Option<f64>) -> Option<f64> {
        let classes = [
            (self.tp, self.positives(), self.tp + self.fp),
            (self.tn, self.negatives(), self.tn + self.fn_),
        ];
        let occurs = |(_, human, judge): &(u64, u64, u64)| human + judge > 0;
        let values: Vec<f64> = classes
            .into_iter()
            .filter(occurs)
            .map(|(hits, human, judge)| of(hits, human, judge).unwrap_or(0.0))
            .collect();
        super::mean(&values)
    }

    /// Macro precision.
    pub fn precision(&self) -> Option<f64> {
        self.macro_mean(|hits, _, judge| ratio(hits, judge))
    }

    /// Macro recall.
    pub fn recall(&self) -> Option<f64> {
        self.macro_mean(|hits, human, _| ratio(hits, human))
    }

    /// Macro F1.
    pub fn f1(&self) -> Option<f64> {
        self.macro_mean(|hits, human, judge| ratio(2 * hits, human + judge))
    }

    /// Share of the human's passes that the judge passes.
    pub fn sensitivity(&self) -> Option<f64> {
        ratio(self.tp, self.positives())
    }

    /// Share of the human's fails that the judge fails.
    pub fn specificity(&self) -> Option<f64> {
        ratio(self.tn, self.negatives())
    }

    /// Mean of sensitivity and specificity.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        Some(f64::midpoint(self.sensitivity()?, self.specificity()?))
    }

    /// The judge's share of passes.
    pub fn judge_rate(&self) -> Option<f64> {
        ratio(self.tp + self.fp, self.samples())
    }

    /// The human's share of passes.
    pub fn human_rate(&self) -> Option<f64> {
        ratio(self.positives(), self.samples())
    }

    /// Cohen's kappa: (po − pe) / (1 − pe) with pe from both margins.
    pub fn kappa(&self) -> Option<f64> {
        let (human, judge) = (self.human_rate()?, self.judge_rate()?);
        chance_corrected(self.accuracy()?, human * judge + (1.0 - human) * (1.0 - judge))
    }

    /// Gwet's AC1: pe = 2π(1 − π), π being the mean of the margins.
    pub fn ac1(&self) -> Option<f64> {
        let pi = f64::midpoint(self.human_rate()?, self.judge_rate()?);
        chance_corrected(self.accuracy()?, 2.0 * pi * (1.0 - pi))
    }

    /// The phi coefficient (Matthews').
    pub fn phi(&self) -> Option<f64> {
        let [tp, fn_, fp, tn] = [self.tp, self.fn_, self.fp, self.tn].map(|n| n as f64);
        let margins = (tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_);
        (margins > 0.0).then(|| (tp * tn - fp * fn_) / margins.sqrt())
    }
}

fn chance_corrected(observed: f64, expected: f64) -> Option<f64> {
    (expected < 1.0).then(|| (observed - expected) / (1.0 - expected))
}

impl AddAssign for Confusion {
    fn add_assign(&mut self, other: Confusion) {
        self.tp += other.tp;
        self.fn_ += other.fn_;
        self.fp += other.fp;
        self.tn += other.tn;
    }
}

impl Sub for Confusion {
    type Output = Confusion;

    fn sub(self, other: Confusion) -> Confusion {
        Confusion {
            tp: self.tp.saturating_sub(other.tp),
            fn_: self.fn_.saturating_sub(other.fn_),
            fp: self.fp.saturating_sub(other.fp),
            tn: self.tn.saturating_sub(other.tn),
        }
    }
}

impl std::iter::Sum for Confusion {
    fn sum<I: Iterator<Item = Confusion>>(iter: I) -> Confusion {
        iter.fold(Confusion::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn measures_stay_in_their_range(tp in 0..40u64, fn_ in 0..40u64, fp in 0..40u64, tn in 0..40u64) {
            let counts = Confusion { tp, fn_, fp, tn };
            for measure in Measure::ALL {
                if let Some(value) = measure.of(&counts) {
                    let (low, high) = measure.range();
                    prop_assert!(value >= low - 1e-12 && value <= high + 1e-12, "{measure:?} {value}");
                }
            }
            prop_assert_eq!(counts.accuracy().is_none(), counts.samples() == 0);
        }
    }
}
