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
    /// The standard error with each cluster's square over one less its share of the total (CR2, Bell
    /// and McCaffrey 2002): with few clusters of unlike sizes the others are too small.
    pub se_cr2: f64,
    /// Degrees of freedom of CR2 (Imbens and Kolesár 2016): G − 1 where clusters are alike in size,
    /// fewer where they are not.
    pub df: f64,
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
    // What is left of each cluster's own influence.
    let rest = |sum: &ClusterSum| 1.0 - sum.total / total;
    let squares: f64 =
        sums.iter().map(|sum| (sum.hits - mean * sum.total).powi(2) / rest(sum)).sum();
    // The squares of the quadratic form under equal variances, its trace being the total.
    let own: f64 = sums.iter().map(|sum| sum.total.powi(2)).sum();
    let part = |sum: &ClusterSum| (sum.total / total).powi(2) / rest(sum);
    let parts: f64 = sums.iter().map(|sum| part(sum)).sum();
    let alone: f64 = sums.iter().map(|sum| part(sum).powi(2)).sum();
    let df = total.powi(2) / (own + total.powi(2) * (parts.powi(2) - alone));
    Some(Clustered {
        mean,
        se_cr0,
        se_cr1: se_cr0 * few.sqrt(),
        se_cr2: squares.sqrt() / total,
        df,
        clusters,
    })
}

// === impl Clustered ===

impl Clustered {
    /// The interval from CR2 and Student's t with its degrees of freedom.
    pub fn interval(&self, level: f64) -> Interval {
        let t = t_critical(level, self.df).unwrap_or(f64::INFINITY);
        Interval::around(self.mean, t * self.se_cr2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(hits: f64, total: f64) -> ClusterSum {
        ClusterSum { hits, total }
    }

    #[test]
    fn clusters_alike_in_size_have_the_plain_error_and_degrees() {
        let found = clustered(&[sum(7.0, 10.0), sum(5.0, 10.0), sum(9.0, 10.0), sum(6.0, 10.0)]);
        let found = found.expect("four clusters");
        assert!((found.se_cr2 - found.se_cr1).abs() < 1e-12, "{found:?}");
        assert!((found.df - 3.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn one_large_cluster_leaves_few_degrees() {
        let unlike = [sum(70.0, 100.0), sum(3.0, 5.0), sum(4.0, 5.0), sum(2.0, 5.0)];
        let found = clustered(&unlike).expect("four clusters");
        assert!(found.df < 2.0 && found.df > 0.0, "{found:?}");
        assert!(found.se_cr2 > found.se_cr0, "{found:?}");
    }
}
