//! By how much the best of several equal candidates looks better than it is.
//!
//! Owns the expected maximum of independent normals: an upper bound for paired candidates.

use super::dist::normal_cdf;

/// Where the normal density is 0 to double precision.
const END: f64 = 12.0;
const STEPS: u32 = 4800;

/// The expected maximum of `k` independent standard normals, by Simpson's rule; 0 for `k` ≤ 1.
pub fn expected_max(k: u32) -> f64 {
    if k <= 1 {
        return 0.0;
    }
    let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let term = |x: f64| f64::from(k) * x * density(x) * normal_cdf(x).powi(k.cast_signed() - 1);
    let step = 2.0 * END / f64::from(STEPS);
    let at = |i: u32| term(-END + step * f64::from(i));
    let inner: f64 = (1..STEPS).map(|i| at(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    (at(0) + inner + at(STEPS)) * step / 3.0
}

/// The optimism of the best of `k` at accuracy `p` over `n` leaves: E\[max\]·√(p(1−p)/n). `None`
/// for no leaves.
pub fn optimism(k: u32, p: f64, n: u64) -> Option<f64> {
    (n > 0).then(|| expected_max(k) * (p * (1.0 - p) / n as f64).sqrt())
}
