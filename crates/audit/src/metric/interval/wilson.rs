//! Wilson's score interval of a share, at the level of leaves.
//!
//! Owns the formula alone: leaves are taken to be independent, which leaves of one paper are not.

use super::Interval;
use crate::metric::dist::normal_critical;

/// The interval of `hits` out of `n` at this confidence level; `None` for `n` = 0.
///
/// E. B. Wilson, JASA 22 (1927).
pub fn wilson(hits: u64, n: u64, level: f64) -> Option<Interval> {
    if n == 0 {
        return None;
    }
    let (n, z) = (n as f64, normal_critical(level));
    let share = hits as f64 / n;
    let z2 = z * z;
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let Interval { low, high } = Interval::around(centre, half);
    // At the ends the limit is the end itself; rounding would put it a hair outside.
    let (low, high) = (if hits == 0 { 0.0 } else { low }, if share >= 1.0 { 1.0 } else { high });
    Some(Interval { low, high })
}
