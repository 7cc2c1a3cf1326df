//! Clustered standard errors of a ratio, at the level of papers.
//!
//! Owns the sandwich over clusters (Miller, arXiv 2411.00640): leaves of one paper are not
//! independent, papers are.

use super::Interval;
use crate::metric::dist::t_critical;

/// A cluster's share of a ratio: what is counted, and out of how much.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClusterSum {
    /// Sum of the values, such as hits.
    pub hits: f64,
    /// Sum of the weights, such as leaves.
    pub total: f64,
}

/// A ratio with its clustered errors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clustered {
    /// Sum of hits over sum of totals.
    pub mean: f64,
    /// The standard error without a correction for few clusters (CR0).
    pub se_cr0: f64,
    /// The standard error with the factor √(G/(G−1)) (CR1).
    pub se_cr1: f64,
    /// Clusters with a total above 0.
    pub clusters: usize,
}

/// The ratio and its errors; `None` with fewer than two clusters that have anything.
pub fn clustered(sums: &[ClusterSum]) -> Option<Clustered> {
    let sums: Vec<&ClusterSum> = sums.iter().filter(|sum| sum.total > 0.0).collect();
    let clusters = sums.len();
    if clusters < 2 {
        return None;
    }
    let total: f64 = sums.iter().map(|sum| sum.total).sum();
    let mean = sums.iter().map(|sum| sum.hits).sum::<f64>() / total;
    let squares: f64 = sums.iter().map(|sum| (sum.hits - mean * sum.total).powi(2)).sum();
    let se_cr0 = squares.sqrt() / total;
    let few = clusters as f64 / (clusters as f64 - 1.0);
    Some(Clustered { mean, se_cr0, se_cr1: se_cr0 * few.sqrt(), clusters })
}

// === impl Clustered ===

impl Clustered {
    /// The interval from CR1 and Student's t with G − 1 degrees of freedom.
    pub fn interval(&self, level: f64) -> Interval {
        let t = t_critical(level, self.clusters as f64 - 1.0).unwrap_or(f64::INFINITY);
        Interval::around(self.mean, t * self.se_cr1)
    }
}
