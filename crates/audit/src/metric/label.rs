//! Which leaves a human should look at, and what the labels then say.
//!
//! Owns inclusion probabilities πᵢ = min(1, c·wᵢ·√p_err) (active inference, arXiv 2403.03208) and
//! the inverse-probability weighted estimates. The probabilities must be kept with the labels:
//! without them the estimate is biased.

use super::{
    dist::{normal_critical, t_critical},
    interval::Interval,
    mean, variance,
};

/// One leaf of an active sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// Its share of the estimate; shares sum to 1.
    pub weight: f64,
    /// The judge's grade.
    pub judge: f64,
    /// The human's grade, where it was drawn.
    pub human: Option<f64>,
    /// The probability with which it was drawn, in (0, 1].
    pub pi: f64,
}

/// An inverse-probability weighted estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighted {
    /// How much the judge is trusted, in [0, 1].
    pub lambda: f64,
    /// The estimate.
    pub estimate: f64,
    /// Its standard error.
    pub se: f64,
    /// The interval: from the normal distribution, or of a fixed tree from Student's.
    pub interval: Interval,
}

/// Probabilities proportional to wᵢ·√p_err that sum to `budget`, each at most 1; what cannot be
/// spent so, because fewer leaves have any weight and doubt, is not spent.
pub fn inclusion(weights: &[f64], p_err: &[f64], budget: f64) -> Vec<f64> {
    let size: Vec<f64> = weights.iter().zip(p_err).map(|(w, p)| w * p.sqrt()).collect();
    let mut pi = vec![0.0; size.len()];
    let mut certain = vec![false; size.len()];
    loop {
        let taken = certain.iter().filter(|certain| **certain).count() as f64;
        let open = || size.iter().zip(&certain).filter(|(_, certain)| !**certain);
        let total: f64 = open().map(|(size, _)| size).sum();
        if total <= 0.0 {
            break;
        }
        let scale = (budget - taken).max(0.0) / total;
        let mut clipped = false;
        for (index, size) in size.iter().enumerate().filter(|(_, size)| **size > 0.0) {
            if !certain[index] {
                pi[index] = scale * size;
                if pi[index] >= 1.0 {
                    pi[index] = 1.0;
                    certain[index] = true;
                    clipped = true;
                }
            }
        }
        if !clipped {
            break;
        }
    }
    pi
}

/// The variance of the weighted estimate under Poisson sampling, Σ wᵢ²·p_err·(1/πᵢ − 1): what a
/// choice of probabilities is expected to buy.
pub fn expected_variance(weights: &[f64], p_err: &[f64], pi: &[f64]) -> f64 {
    let terms = weights.iter().zip(p_err).zip(pi).filter(|(_, pi)| **pi > 0.0);
    terms.map(|((w, p), pi)| w * w * p * (1.0 / pi - 1.0)).sum()
}

/// The mean over items of a population, each weighing the same: θ = mean(F + ξ/π·(Y − F)), with
/// the standard error sd/√N. `None` with fewer than two items.
pub fn ipw_mean(items: &[Sampled], level: f64) -> Option<Weighted> {
    let rectified: Vec<f64> = items
        .iter()
        .map(|item| item.judge + item.human.map_or(0.0, |human| (human - item.judge) / item.pi))
        .collect();
    let estimate = mean(&rectified)?;
    let se = (variance(&rectified, 1)? / rectified.len() as f64).sqrt();
    let interval = Interval::around(estimate, normal_critical(level) * se);
    Some(Weighted { lambda: 1.0, estimate, se, interval })
}

/// A fixed tree's score: Σ wᵢ·(λFᵢ + ξᵢ/πᵢ·(Yᵢ − λFᵢ)), λ tuned within [0, 1], with the error of
/// the Poisson draw alone: all leaves labelled leave none. `None` where nothing was drawn.
pub fn ipw_score(items: &[Sampled], level: f64) -> Option<Weighted> {
    let drawn = || items.iter().filter_map(|item| Some((item, item.human?)));
    drawn().next()?;
    // Var = Σ wᵢ²·(1−πᵢ)/πᵢ·(Yᵢ − λFᵢ)², estimated from the drawn ones, each standing for 1/πᵢ.
    let factor = |item: &Sampled| item.weight.powi(2) * (1.0 - item.pi) / item.pi.powi(2);
    let cross: f64 = drawn().map(|(item, y)| factor(item) * y * item.judge).sum();
    let square: f64 = drawn().map(|(item, _)| factor(item) * item.judge * item.judge).sum();
    let lambda = if square > 0.0 { (cross / square).clamp(0.0, 1.0) } else { 1.0 };
    let estimate = items
        .iter()
        .map(|item| {
            let judge = lambda * item.judge;
            item.weight * (judge + item.human.map_or(0.0, |human| (human - judge) / item.pi))
        })
        .sum();
    let terms = || drawn().map(|(item, y)| factor(item) * (y - lambda * item.judge).powi(2));
    let variance: f64 = terms().sum();
    // The variance is itself estimated, of the few drawn leaves that the judge got wrong: as many
    // degrees of freedom as terms of one size would have (Satterthwaite), less the one that λ takes.
    let squares: f64 = terms().map(|term| term * term).sum();
    let df = (squares > 0.0).then(|| (variance * variance / squares - 1.0).max(1.0));
    let critical = df.and_then(|df| t_critical(level, df)).unwrap_or(0.0);
    let se = variance.sqrt();
    let interval = Interval::around(estimate, critical * se);
    Some(Weighted { lambda, estimate, se, interval })
}
