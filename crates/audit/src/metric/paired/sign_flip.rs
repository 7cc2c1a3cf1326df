//! The exact sign-flip test of differences by paper.
//!
//! Owns the enumeration of all 2^G signs. With G papers p cannot fall below 2^(1−G): at five
//! papers that is 0.0625.

use crate::metric::mean;

/// Papers up to which all signs are tried.
pub const MOST: usize = 20;

/// Papers from which the paper level can fall below 0.05.
pub const FEWEST_FOR_SIGNIFICANCE: usize = 6;

/// A sign-flip test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignFlip {
    /// The mean difference.
    pub mean: f64,
    /// Share of sign assignments whose mean is at least as far from 0.
    pub p: f64,
    /// The least p that so many papers can reach.
    pub least_p: f64,
}

/// The test; `None` without differences, or with more than [`MOST`].
pub fn sign_flip(differences: &[f64]) -> Option<SignFlip> {
    let papers = differences.len();
    if papers > MOST {
        return None;
    }
    let observed = mean(differences)?;
    let sum: f64 = differences.iter().sum();
    // Sums that differ by rounding alone are the same.
    let far = sum.abs() - 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let extreme = (0_u32..1 << papers)
        .filter(|signs| {
            let flipped = |(paper, d): (usize, &f64)| if signs >> paper & 1 == 1 { -d } else { *d };
            differences.iter().enumerate().map(flipped).sum::<f64>().abs() >= far
        })
        .count();
    let all = f64::from(1_u32 << papers);
    Some(SignFlip { mean: observed, p: extreme as f64 / all, least_p: (2.0 / all).min(1.0) })
}
