//! Which verdicts of a cheap judge to keep, and which to send on (arXiv 2407.18370).
//!
//! Owns the risk's upper bound and the fixed sequence of tests from the most confident level
//! down: the first level that fails ends it, so that no correction for many tests is needed.

use super::dist::beta_quantile;

/// Labelled verdicts at one level of confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// The confidence.
    pub confidence: f64,
    /// Labelled verdicts with it.
    pub verdicts: u64,
    /// Those that differ from the human's.
    pub errors: u64,
}

/// What keeping every verdict down to a level means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kept {
    /// The level.
    pub confidence: f64,
    /// Verdicts kept.
    pub verdicts: u64,
    /// Errors among them.
    pub errors: u64,
    /// Their share.
    pub risk: f64,
    /// The upper bound of the risk, with confidence 1 − δ.
    pub risk_bound: f64,
    /// Whether the bound is within what is wanted.
    pub passed: bool,
}

/// The threshold that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// Verdicts with at least this confidence are kept; `None` when not even the first level
    /// passed, and everything is sent on.
    pub confidence: Option<f64>,
    /// Share of the labelled verdicts that is kept.
    pub kept: f64,
    /// Every level tried, the last one failed unless all passed.
    pub levels: Vec<Kept>,
}

/// The greatest risk that still explains at most `errors` in `n` with probability `delta`
/// (Clopper and Pearson); 1 where all are errors.
pub fn risk_bound(errors: u64, n: u64, delta: f64) -> f64 {
    if errors >= n {
        return 1.0;
    }
    beta_quantile(1.0 - delta, errors as f64 + 1.0, (n - errors) as f64).unwrap_or(1.0)
}

/// Tests levels from the most confident down until the bound exceeds `alpha`.
pub fn fixed_sequence(levels: &[Level], alpha: f64, delta: f64) -> Threshold {
    let mut order: Vec<Level> = levels.iter().copied().filter(|l| l.verdicts > 0).collect();
    order.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let all: u64 = order.iter().map(|level| level.verdicts).sum();
    let mut threshold = Threshold { confidence: None, kept: 0.0, levels: Vec::new() };
    let (mut verdicts, mut errors) = (0, 0);
    for level in order {
        verdicts += level.verdicts;
        errors += level.errors;
        let risk_bound = risk_bound(errors, verdicts, delta);
        let passed = risk_bound <= alpha;
        let (confidence, risk) = (level.confidence, errors as f64 / verdicts as f64);
        threshold.levels.push(Kept { confidence, verdicts, errors, risk, risk_bound, passed });
        if !passed {
            break;
        }
        threshold.confidence = Some(confidence);
        threshold.kept = verdicts as f64 / all as f64;
    }
    threshold
}
