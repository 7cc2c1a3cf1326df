//! McNemar's test of two judges on the same leaves.
//!
//! Owns the exact p and its mid-p and chi-squared forms; leaves on which both are right or both
//! are wrong say nothing.

use crate::metric::dist::{binomial_cdf, binomial_pmf, chi_squared_tail};

/// Leaves on which exactly one of two judges is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discordant {
    /// Where only the first is right.
    pub first: u64,
    /// Where only the second is right.
    pub second: u64,
}

// === impl Discordant ===

impl Discordant {
    /// Counts pairs of (first right, second right).
    pub fn count(pairs: impl IntoIterator<Item = (bool, bool)>) -> Discordant {
        let mut counts = Discordant::default();
        for (first, second) in pairs {
            counts.first += u64::from(first && !second);
            counts.second += u64::from(second && !first);
        }
        counts
    }

    fn total(&self) -> u64 {
        self.first + self.second
    }

    /// The exact two-sided p: the binomial of one half. 1 where nothing differs.
    pub fn exact_p(&self) -> f64 {
        let fewer = self.first.min(self.second);
        binomial_cdf(fewer, self.total(), 0.5).map_or(1.0, |tail| (2.0 * tail).min(1.0))
    }

    /// The mid-p, which counts the observed outcome half.
    pub fn mid_p(&self) -> f64 {
        let fewer = self.first.min(self.second);
        let tail = binomial_cdf(fewer, self.total(), 0.5).unwrap_or(1.0);
        let point = binomial_pmf(fewer, self.total(), 0.5).unwrap_or(1.0);
        (2.0 * tail - point).clamp(0.0, 1.0)
    }

    /// The chi-squared statistic and its p; `None` where nothing differs.
    pub fn chi_squared(&self, continuity: bool) -> Option<(f64, f64)> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let difference = self.first.abs_diff(self.second) as f64;
        let corrected = if continuity { (difference - 1.0).max(0.0) } else { difference };
        let statistic = corrected.powi(2) / total as f64;
        Some((statistic, chi_squared_tail(statistic, 1.0)?))
    }
}
