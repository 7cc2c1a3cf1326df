//! How far a weighted mean over leaves would move with other leaves of the kind.
//!
//! Owns the interval that pages show. The statistics are the audit's.

use serde::Serialize;
use tribunal_audit::metric::interval::{
    Interval,
    cluster::{ClusterSum, clustered},
};

/// The level of every interval on a page.
pub(crate) const LEVEL: f64 = 0.95;

/// A weighted mean with its interval at [`LEVEL`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Sampled {
    /// The mean.
    pub(crate) mean: f64,
    /// Lower end.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
}

/// The mean of `(weight, value)` and its interval within `range`, leaves taken as drawn one by one;
/// `None` with fewer than two leaves of weight.
pub(crate) fn sampled(
    leaves: impl IntoIterator<Item = (f64, f64)>,
    range: (f64, f64),
) -> Option<Sampled> {
    let sums: Vec<ClusterSum> = leaves
        .into_iter()
        .map(|(weight, value)| ClusterSum { hits: weight * value, total: weight })
        .collect();
    let estimate = clustered(&sums)?;
    let Interval { low, high } = estimate.interval(LEVEL).within(range);
    Some(Sampled { mean: estimate.mean, low, high })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_widens_with_fewer_leaves_and_stays_in_range() {
        let half = |n: usize| {
            let leaves = (0..n).map(|i| (1.0, (i % 2) as f64));
            let made = sampled(leaves, (0.0, 1.0)).unwrap();
            assert!(0.0 <= made.low && made.low <= made.mean && made.mean <= made.high);
            assert!(made.high <= 1.0);
            made.high - made.low
        };
        assert!(half(100) < half(10) && half(10) < half(4));
        assert_eq!(sampled([(1.0, 1.0)], (0.0, 1.0)), None);
        assert_eq!(sampled([(1.0, 1.0), (0.0, 1.0)], (0.0, 1.0)), None, "one has no weight");
    }
}
