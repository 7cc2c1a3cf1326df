//! Rogan–Gladen: the true share of passes behind a judge with known error rates.
//!
//! Owns the estimate θ = (p + q0 − 1) / (q0 + q1 − 1), its interval (arXiv 2511.21140), and its
//! sum over strata. `q0` is specificity, `q1` sensitivity. Assumes that the judge errs on the
//! graded leaves at the rates of the labelled ones.

use super::{Corrected, Refused};
use crate::metric::{dist::normal_critical, interval::Interval};

/// Labelled leaves of each kind below which a rate is not estimated.
pub const FEWEST: u64 = 5;

/// What is known of one stratum.
#[derive(Clone, Debug, PartialEq)]
pub struct Stratum {
    /// Its name, for messages.
    pub scope: String,
    /// Its share of the root.
    pub share: f64,
    /// The judge's weighted share of passes in it.
    pub p: f64,
    /// Leaves behind `p`: Kish's effective number where weights differ.
    pub n: f64,
    /// The judge's specificity.
    pub q0: f64,
    /// The judge's sensitivity.
    pub q1: f64,
    /// Labelled leaves that humans failed.
    pub m0: u64,
    /// Labelled leaves that humans passed.
    pub m1: u64,
}

/// The estimate, not clipped; `None` unless q0 + q1 > 1.
pub fn estimate(p: f64, q0: f64, q1: f64) -> Option<f64> {
    let information = q0 + q1 - 1.0;
    (information > 1e-12).then(|| (p + q0 - 1.0) / information)
}

/// The centre and standard error of arXiv 2511.21140: rates smoothed, the ratio's bias shifted.
fn smoothed(stratum: &Stratum, z: f64) -> Option<(f64, f64)> {
    let (n, z2) = (stratum.n, z * z);
    let (m0, m1) = (stratum.m0 as f64, stratum.m1 as f64);
    let p = (n * stratum.p + z2 / 2.0) / (n + z2);
    let q0 = (m0 * stratum.q0 + 1.0) / (m0 + 2.0);
    let q1 = (m1 * stratum.q1 + 1.0) / (m1 + 2.0);
    let (n, m0, m1) = (n + z2, m0 + 2.0, m1 + 2.0);
    let theta = estimate(p, q0, q1)?;
    let (v0, v1) = (q0 * (1.0 - q0) / m0, q1 * (1.0 - q1) / m1);
    let shift = 2.0 * z2 * (theta * v1 - (1.0 - theta) * v0);
    let variance = p * (1.0 - p) / n + (1.0 - theta).powi(2) * v0 + theta.powi(2) * v1;
    Some((theta + shift, variance.sqrt() / (q0 + q1 - 1.0)))
}

/// The interval of one stratum alone, within [0, 1]; `None` unless the smoothed rates sum to more
/// than 1.
pub fn interval(stratum: &Stratum, level: f64) -> Option<Interval> {
    let z = normal_critical(level);
    let (centre, se) = smoothed(stratum, z)?;
    Some(Interval::around(centre, z * se).within((0.0, 1.0)))
}

/// The weighted sum over strata, each corrected by its own rates; shares sum to 1.
///
/// # Errors
///
/// A stratum that weighs anything has too few labels, or a judge no better than chance.
pub fn stratified(strata: &[Stratum], level: f64) -> Result<Corrected, Refused> {
    let z = normal_critical(level);
    let (mut sum, mut centre, mut variance) = (0.0, 0.0, 0.0);
    for stratum in strata.iter().filter(|stratum| stratum.share > 0.0) {
        let Stratum { scope, share, m0, m1, .. } = stratum;
        if *m0.min(m1) < FEWEST {
            return Err(Refused::TooFew {
                scope: scope.clone(),
                positives: *m1,
                negatives: *m0,
                needed: FEWEST,
            });
        }
        let chance = || Refused::NoBetterThanChance {
            scope: scope.clone(),
            sensitivity: stratum.q1,
            specificity: stratum.q0,
        };
        let theta = estimate(stratum.p, stratum.q0, stratum.q1).ok_or_else(chance)?;
        let (middle, se) = smoothed(stratum, z).ok_or_else(chance)?;
        sum += share * theta;
        centre += share * middle;
        variance += (share * se).powi(2);
    }
    let estimate = sum.clamp(0.0, 1.0);
    let interval = Interval::around(centre, z * variance.sqrt()).within((0.0, 1.0));
    let interval = Interval { low: interval.low.min(estimate), high: interval.high.max(estimate) };
    Ok(Corrected { estimate, interval })
}

/// How `m` labels are best split into leaves that humans failed (first) and passed (second), by
/// the judge's share of passes and the rates of a pilot of `pilot` leaves a side (arXiv
/// 2511.21140).
pub fn allocate(m: u64, p: f64, q0: f64, q1: f64, pilot: u64) -> (u64, u64) {
    let size = pilot as f64;
    let passed = if p < 1e-6 {
        m.saturating_sub(pilot)
    } else {
        let odds = if pilot == 0 {
            (1.0 - q0) / (1.0 - q1).max(1e-6)
        } else {
            (size * (1.0 - q0) + 1.0) / (size * (1.0 - q1) + 1.0)
        };
        let best = m as f64 / (1.0 + (1.0 / p - 1.0) * odds.sqrt());
        let best = best.min(m.saturating_sub(pilot) as f64).round_ties_even();
        (best as u64).max(pilot).min(m)
    };
    (m - passed, passed)
}
