//! Mean and standard error over seeds.
//!
//! Owns the arithmetic of published leaderboards: a seed's score is its mean over papers, the
//! table's is the mean of k seeds with the standard error s/√k, s having k − 1 in its denominator
//! (PaperBench's `compute_agg_stats`). Undefined is `None`: one seed has no standard error, and a
//! seed with missing leaves has bounds and no mean.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::Score;

use super::SeedMean;

/// A score over seeds, in [0, 1].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Estimate {
    /// The mean over seeds; null where there is no complete seed, or where a tree is incomplete.
    pub mean: Option<f64>,
    /// Its standard error; null below two seeds.
    pub se: Option<f64>,
    /// The mean with every missing leaf 0; null without a complete seed.
    pub lower: Option<f64>,
    /// The mean with every missing leaf 1; null without a complete seed.
    pub upper: Option<f64>,
    /// Complete seeds that it is over.
    pub seeds: usize,
    /// Papers, or trees of one seed, that each seed's mean is over.
    pub papers: usize,
}

/// The arithmetic mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() { None } else { Some(values.iter().sum::<f64>() / values.len() as f64) }
}

/// The standard error of the mean, s/√k with k − 1 in the denominator of s²; `None` below two
/// values.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let k = values.len() as f64;
    Some((squares / (k - 1.0)).sqrt() / k.sqrt())
}

/// A seed's mean over the scores of its papers; `None` of nothing.
pub fn seed_mean(scores: &[Score]) -> Option<SeedMean> {
    let over = |value: fn(&Score) -> f64| mean(&scores.iter().map(value).collect::<Vec<_>>());
    let whole: Option<Vec<f64>> = scores.iter().map(|score| score.score).collect();
    Some(SeedMean {
        mean: whole.and_then(|scores| mean(&scores)),
        lower: over(|score| score.lower)?,
        upper: over(|score| score.upper)?,
    })
}

/// The estimate over complete seeds, each of `papers` papers.
pub fn estimate(seeds: &BTreeMap<String, SeedMean>, papers: usize) -> Estimate {
    let over = |value: fn(&SeedMean) -> f64| mean(&seeds.values().map(value).collect::<Vec<_>>());
    let whole: Option<Vec<f64>> = seeds.values().map(|seed| seed.mean).collect();
    let whole = whole.unwrap_or_default();
    Estimate {
        mean: mean(&whole),
        se: standard_error(&whole),
        lower: over(|seed| seed.lower),
        upper: over(|seed| seed.upper),
        seeds: seeds.len(),
        papers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64) {
        let found = found.expect("a number");
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    #[test]
    fn the_published_arithmetic() {
        // By hand: mean 0.26; deviations -0.005, 0.001, 0.004; squares sum to 42e-6;
        // s = sqrt(21e-6); s/sqrt(3) = sqrt(7e-6).
        let seeds = [0.255, 0.261, 0.264];
        close(mean(&seeds), 0.26);
        close(standard_error(&seeds), 7e-6_f64.sqrt());
        // Two seeds: half of their distance.
        close(standard_error(&[0.2, 0.3]), 0.05);
        assert_eq!(standard_error(&[0.2]), None);
        assert_eq!((mean(&[]), standard_error(&[])), (None, None));
    }

    #[test]
    fn a_missing_leaf_leaves_bounds_and_no_mean() {
        let whole = Score { leaves: 4, ..Score::leaf(Some(0.5)) };
        let part =
            Score { score: None, lower: 0.25, upper: 0.75, coverage: 0.5, leaves: 4, ungraded: 2 };
        let seed = seed_mean(&[whole, part]).expect("two papers");
        assert_eq!(seed, SeedMean { mean: None, lower: 0.375, upper: 0.625 });
        let other = seed_mean(&[whole, whole]).expect("two papers");
        let seeds = BTreeMap::from([("1".to_owned(), seed), ("2".to_owned(), other)]);
        let estimate = estimate(&seeds, 2);
        assert_eq!((estimate.mean, estimate.se), (None, None));
        close(estimate.lower, 0.4375);
        close(estimate.upper, 0.5625);
        assert_eq!(seed_mean(&[]), None);
    }
}
