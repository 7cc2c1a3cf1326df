//! How far a weighted mean over leaves would move with other leaves of the kind.
//!
//! Owns the interval that pages show. The statistics are the audit's.

use serde::Serialize;
use tribunal_audit::metric::interval::{
    Interval,
    cluster::{ClusterSum, clustered},
    wilson::wilson,
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
/// `None` with fewer than two leaves of weight. Where all are at one end of a score's range their
/// spread says nothing, and Wilson's interval of so many equal leaves stands for it (Kish's effective
/// number: the square of the weights' sum by the sum of their squares).
pub(crate) fn sampled(
    leaves: impl IntoIterator<Item = (f64, f64)>,
    range: (f64, f64),
) -> Option<Sampled> {
    let sums: Vec<ClusterSum> = leaves
        .into_iter()
        .map(|(weight, value)| ClusterSum { hits: weight * value, total: weight })
        .collect();
    let estimate = clustered(&sums)?;
    let end = |end: f64| range == (0.0, 1.0) && estimate.mean == end;
    let Interval { low, high } = if end(0.0) || end(1.0) {
        let total = |power: i32| sums.iter().map(|leaf| leaf.total.powi(power)).sum::<f64>();
        let effective = (total(1).powi(2) / total(2)).floor().max(1.0) as u64;
        wilson(if end(1.0) { effective } else { 0 }, effective, LEVEL)?
    } else {
        estimate.interval(LEVEL).within(range)
    };
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
        let passed = sampled([(1.0, 1.0); 29], (0.0, 1.0)).unwrap();
        assert!(passed.high == 1.0 && (passed.low - 0.883).abs() < 0.001, "{passed:?}");
        assert_eq!(sampled([(1.0, 1.0)], (0.0, 1.0)), None);
        assert_eq!(sampled([(1.0, 1.0), (0.0, 1.0)], (0.0, 1.0)), None, "one has no weight");
    }
}
