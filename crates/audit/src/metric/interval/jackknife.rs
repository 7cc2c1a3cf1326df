//! The delete-one-paper jackknife, for measures that are no ratio.
//!
//! Owns the formula; what is computed of the papers that stay is the caller's.

use super::Interval;
use crate::metric::{dist::t_critical, mean};

/// An estimate with its jackknife error.
#[derive(Clone, Debug, PartialEq)]
pub struct Jackknife {
    /// The estimate from all groups.
    pub estimate: f64,
    /// The estimate without each group in turn.
    pub leave_one_out: Vec<f64>,
    /// √((G−1)/G · Σ (θᵢ − θ̄)²).
    pub se: f64,
}

/// Jackknifes over groups; `estimate` computes from those that it is told to keep. `None` with
/// fewer than two groups, or where any estimate is undefined.
pub fn jackknife(
    groups: usize,
    estimate: impl Fn(&dyn Fn(usize) -> bool) -> Option<f64>,
) -> Option<Jackknife> {
    if groups < 2 {
        return None;
    }
    let all = estimate(&|_| true)?;
    let leave_one_out: Option<Vec<f64>> =
        (0..groups).map(|out| estimate(&|group| group != out)).collect();
    let leave_one_out = leave_one_out?;
    let middle = mean(&leave_one_out)?;
    let squares: f64 = leave_one_out.iter().map(|value| (value - middle).powi(2)).sum();
    let count = groups as f64;
    let se = ((count - 1.0) / count * squares).sqrt();
    Some(Jackknife { estimate: all, leave_one_out, se })
}

// === impl Jackknife ===

impl Jackknife {
    /// The interval from Student's t with G − 1 degrees of freedom.
    pub fn interval(&self, level: f64) -> Interval {
        let df = self.leave_one_out.len() as f64 - 1.0;
        let t = t_critical(level, df).unwrap_or(f64::INFINITY);
        Interval::around(self.estimate, t * self.se)
    }
}
