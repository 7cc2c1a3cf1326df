//! Bounds and budgets for racing candidates on the same leaves.
//!
//! Owns Hoeffding's and the empirical Bernstein bound, and the rounds of successive halving.

/// Hoeffding's half width for `n` values in a range of this size, failing with probability
/// `delta`. `None` for no values.
pub fn hoeffding(range: f64, n: u64, delta: f64) -> Option<f64> {
    (n > 0).then(|| range * ((2.0 / delta).ln() / (2.0 * n as f64)).sqrt())
}

/// The empirical Bernstein half width (Audibert et al. 2009): √(2V·ln(3/δ)/n) + 3R·ln(3/δ)/n.
/// `None` for no values.
pub fn empirical_bernstein(range: f64, variance: f64, n: u64, delta: f64) -> Option<f64> {
    let (n, log) = (n as f64, (3.0 / delta).ln());
    (n > 0.0).then(|| (2.0 * variance * log / n).sqrt() + 3.0 * range * log / n)
}

/// A round of successive halving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Candidates in it.
    pub candidates: u64,
    /// Leaves for each.
    pub leaves: u64,
}

/// The rounds that spend `budget` leaves evenly over ⌈log2 n⌉ rounds, half of the candidates
/// going on each time (Jamieson and Talwalkar 2016). Empty for fewer than two candidates.
pub fn successive_halving(candidates: u64, budget: u64) -> Vec<Round> {
    let rounds = u64::from(candidates.max(1).next_power_of_two().trailing_zeros());
    let mut left = candidates;
    (0..rounds)
        .map(|_| {
            let round = Round { candidates: left, leaves: budget / (left * rounds) };
            left = left.div_ceil(2);
            round
        })
        .collect()
}
