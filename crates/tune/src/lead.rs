//! Who is clearly ahead of whom on the same leaves.
//!
//! Owns the comparison of two objectives by the leaves that both were asked about. It only saves calls
//! of a race: what a tuning believes is the test's to say.

use tribunal_audit::metric::dist::normal_quantile;

/// How sure a lead is to be, one-sided. Candidates are compared at every rung, so that this is no level
/// of a test; `tests/known_best.rs` measures what comes of it.
const CLEAR: f64 = 0.9;

/// Whether the first objective is clearly above the second, each given by what the leaves of the
/// sample, in the same order, add to it.
pub(crate) fn is_clear(first: &[f64], second: &[f64]) -> bool {
    let differences = || first.iter().zip(second).map(|(first, second)| first - second);
    let count = first.len().min(second.len()) as f64;
    if count < 2.0 {
        return false;
    }
    let lead: f64 = differences().sum();
    let mean = lead / count;
    let squares: f64 = differences().map(|difference| (difference - mean).powi(2)).sum();
    lead > 0.0 && lead > normal_quantile(CLEAR) * (squares * count / (count - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_is_clear_where_chance_would_seldom_make_it() {
        // Right on 80 and on 70 of 100 leaves: 20 differ, 15 of them in the first one's favour.
        let first: Vec<f64> = (0..100).map(|leaf| f64::from(leaf < 80) / 100.0).collect();
        let differs = |leaf: i32| (65..80).contains(&leaf) || (80..85).contains(&leaf);
        let second: Vec<f64> =
            (0..100).map(|leaf| f64::from((leaf < 80) != differs(leaf)) / 100.0).collect();
        assert!(is_clear(&first, &second));
        assert!(!is_clear(&second, &first));
        // One leaf in favour of the first is no lead; nor is a tie, nor nothing.
        let mut close = first.clone();
        close[0] = 0.0;
        assert!(!is_clear(&first, &close));
        assert!(!is_clear(&first, &first));
        assert!(!is_clear(&[], &[]));
        assert!(!is_clear(&[1.0], &[0.0]));
    }
}
