//! Prediction-powered inference (PPI++, arXiv 2311.01453): the judge's mean over everything,
//! moved by what a labelled sample says about its error.
//!
//! Owns the estimates for independent, weighted and clustered items. Assumes nothing about the
//! judge, and that the labelled items are a random sample.

use crate::metric::{
    dist::{normal_critical, t_critical},
    interval::Interval,
    mean, variance,
};

/// A prediction-powered mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Powered {
    /// How much the judge is trusted, in [0, 1].
    pub lambda: f64,
    /// The estimate.
    pub estimate: f64,
    /// Its standard error.
    pub se: f64,
    /// The interval from the normal distribution.
    pub interval: Interval,
}

/// Labelled items with both grades, and what the judge says of the unlabelled ones.
#[derive(Clone, Copy, Debug)]
pub struct PpiData<'a> {
    /// The human's grades.
    pub human: &'a [f64],
    /// The judge's grades of the same items.
    pub judge: &'a [f64],
    /// The judge's grades of unlabelled items.
    pub unlabelled: &'a [f64],
}

/// The weight that makes the estimate's variance least: cov(Y, F) / ((1 + n/N) var(F)), within
/// [0, 1]. The covariance divides by `n - ddof`; 0 where the judge never varies.
fn best_lambda(data: &PpiData<'_>, ddof: usize) -> Option<f64> {
    let (n, unlabelled) = (data.human.len(), data.unlabelled.len());
    let (mean_y, mean_f) = (mean(data.human)?, mean(data.judge)?);
    let products = data.human.iter().zip(data.judge).map(|(y, f)| (y - mean_y) * (f - mean_f));
    let free = n.checked_sub(ddof).filter(|free| *free > 0)?;
    let covariance = products.sum::<f64>() / free as f64;
    let all: Vec<f64> = data.judge.iter().chain(data.unlabelled).copied().collect();
    let spread = variance(&all, 1)?;
    if spread == 0.0 {
        return Some(0.0);
    }
    let ratio = n as f64 / unlabelled as f64;
    Some((covariance / ((1.0 + ratio) * spread)).clamp(0.0, 1.0))
}

/// The prediction-powered mean of independent items; `lambda` is tuned where not given. `None`
/// when either sample is empty or the lengths differ.
pub fn ppi_mean(data: &PpiData<'_>, lambda: Option<f64>, level: f64) -> Option<Powered> {
    let ones = |len: usize| vec![1.0; len];
    let lambda = match lambda {
        Some(lambda) => lambda,
        None => best_lambda(data, 0)?,
    };
    let (n, unlabelled) = (data.human.len(), data.unlabelled.len());
    ppi_mean_weighted(data, &ones(n), &ones(unlabelled), lambda, level)
}

/// The same with weights, which are normalised to their number; `None` also where they sum to 0.
pub fn ppi_mean_weighted(
    data: &PpiData<'_>,
    weights: &[f64],
    unlabelled_weights: &[f64],
    lambda: f64,
    level: f64,
) -> Option<Powered> {
    let (n, unlabelled) = (data.human.len(), data.unlabelled.len());
    if n != data.judge.len() || n != weights.len() || unlabelled != unlabelled_weights.len() {
        return None;
    }
    let weights = normalised(weights)?;
    let unlabelled_weights = normalised(unlabelled_weights)?;
    let projected: Vec<f64> =
        data.unlabelled.iter().zip(&unlabelled_weights).map(|(f, w)| w * lambda * f).collect();
    let pairs = data.human.iter().zip(data.judge).zip(&weights);
    let rectifier: Vec<f64> = pairs.map(|((y, f), w)| w * (y - lambda * f)).collect();
    let estimate = mean(&projected)? + mean(&rectifier)?;
    let spread = variance(&projected, 0)? / unlabelled as f64 + variance(&rectifier, 0)? / n as f64;
    Some(powered(lambda, estimate, spread.sqrt(), normal_critical(level)))
}

fn normalised(weights: &[f64]) -> Option<Vec<f64>> {
    let sum: f64 = weights.iter().sum();
    let scale = weights.len() as f64 / sum;
    (sum > 0.0).then(|| weights.iter().map(|weight| weight * scale).collect())
}

fn powered(lambda: f64, estimate: f64, se: f64, critical: f64) -> Powered {
    Powered { lambda, estimate, se, interval: Interval::around(estimate, critical * se) }
}

/// The prediction-powered mean over clusters, each one item: the human's and the judge's means of
/// labelled clusters, the judge's of unlabelled ones (arXiv 2605.31278). `None` with fewer than
/// two of either.
pub fn ppi_clustered(data: &PpiData<'_>, level: f64) -> Option<Powered> {
    let (labelled, unlabelled) = (data.human.len(), data.unlabelled.len());
    if labelled < 2 || unlabelled < 2 || labelled != data.judge.len() {
        return None;
    }
    let lambda = best_lambda(data, 1)?;
    let rectifier: Vec<f64> =
        data.human.iter().zip(data.judge).map(|(y, f)| y - lambda * f).collect();
    let projected: Vec<f64> = data.unlabelled.iter().map(|f| lambda * f).collect();
    let estimate = mean(&rectifier)? + mean(&projected)?;
    let spread =
        variance(&rectifier, 1)? / labelled as f64 + variance(&projected, 1)? / unlabelled as f64;
    Some(powered(lambda, estimate, spread.sqrt(), normal_critical(level)))
}

// === impl Powered ===

impl Powered {
    /// The interval from Student's t, for few clusters; the normal one where `df` is not positive.
    pub fn interval_t(&self, level: f64, df: f64) -> Interval {
        let critical = t_critical(level, df).unwrap_or_else(|| normal_critical(level));
        Interval::around(self.estimate, critical * self.se)
    }
}
