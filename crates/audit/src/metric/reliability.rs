//! How far a judge agrees with itself over repeated samples of the same leaves.
//!
//! Owns Fleiss' kappa, Krippendorff's alpha, pairwise agreement and flips, and how many samples
//! would be enough. Leaves with fewer than two votes say nothing.

/// The votes on one leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Votes {
    /// Votes that pass it.
    pub passes: u32,
    /// All votes.
    pub votes: u32,
}

/// What repeated votes say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reliability {
    /// Leaves with at least two votes.
    pub leaves: usize,
    /// Fleiss' kappa; `None` where every vote is the same.
    pub fleiss_kappa: Option<f64>,
    /// Krippendorff's alpha for nominal values; `None` where every vote is the same.
    pub krippendorff_alpha: Option<f64>,
    /// The chance that two votes on one leaf agree.
    pub pairwise_agreement: f64,
    /// Share of votes that differ from their leaf's majority; of a tie, half.
    pub flip_rate: f64,
    /// Share of leaves with one mind.
    pub unanimous: f64,
}

// === impl Votes ===

impl Votes {
    fn agreement(self) -> f64 {
        let (pass, all) = (f64::from(self.passes), f64::from(self.votes));
        let fail = all - pass;
        (pass * (pass - 1.0) + fail * (fail - 1.0)) / (all * (all - 1.0))
    }
}

/// What these votes say; `None` where no leaf has two.
pub fn reliability(votes: &[Votes]) -> Option<Reliability> {
    let repeated: Vec<Votes> = votes.iter().copied().filter(|leaf| leaf.votes > 1).collect();
    let leaves = repeated.len();
    if leaves == 0 {
        return None;
    }
    let count = leaves as f64;
    let of = |value: &dyn Fn(&Votes) -> f64| repeated.iter().map(value).sum::<f64>();
    let all = of(&|leaf| f64::from(leaf.votes));
    let passes = of(&|leaf| f64::from(leaf.passes));
    let observed = of(&|leaf| leaf.agreement()) / count;
    let share = passes / all;
    let expected = share * share + (1.0 - share) * (1.0 - share);
    // Krippendorff weighs a leaf by its votes, and expects pairs without replacement.
    let weighted = of(&|leaf| f64::from(leaf.votes) * leaf.agreement()) / all;
    let fails = all - passes;
    let pairs = (passes * (passes - 1.0) + fails * (fails - 1.0)) / (all * (all - 1.0));
    let corrected = |observed: f64, expected: f64| {
        (expected < 1.0).then(|| (observed - expected) / (1.0 - expected))
    };
    Some(Reliability {
        leaves,
        fleiss_kappa: corrected(observed, expected),
        krippendorff_alpha: corrected(weighted, pairs),
        pairwise_agreement: observed,
        flip_rate: of(&|leaf| f64::from(leaf.passes.min(leaf.votes - leaf.passes))) / all,
        unanimous: of(&|leaf| f64::from(leaf.passes == 0 || leaf.passes == leaf.votes).abs())
            / count,
    })
}

/// The samples whose mean root score has at most this standard error, from the variance of the
/// root over single samples: ⌈s²/se²⌉, at least 1. `None` unless `se` is positive.
pub fn samples_for(root_variance: f64, se: f64) -> Option<u64> {
    (se > 0.0).then(|| ((root_variance / (se * se)).ceil() as u64).max(1))
}

/// The accuracy of the majority of `k` independent votes that are right with probability `p`
/// (Condorcet): an upper bound, because real votes share their errors. `None` for even `k`.
pub fn majority_accuracy(p: f64, k: u64) -> Option<f64> {
    if k.is_multiple_of(2) {
        return None;
    }
    super::dist::binomial_cdf(k / 2, k, 1.0 - p)
}
