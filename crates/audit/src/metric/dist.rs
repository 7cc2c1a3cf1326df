//! Distribution functions and their quantiles.
//!
//! Owns the accuracy: cumulative functions are statrs', quantiles are bisected from them to the
//! last bits, because approximate inverses would show in published digits.

use statrs::{
    distribution::{Binomial, ChiSquared, ContinuousCDF, DiscreteCDF, StudentsT},
    function::{beta::checked_beta_reg, gamma::checked_gamma_ur},
};

/// Steps of a bisection: more than a double has bits, and its exponent's range besides.
const STEPS: u32 = 200;

/// The standard normal's cumulative probability at `x`.
pub fn normal_cdf(x: f64) -> f64 {
    // The incomplete gamma function has more digits than statrs' own normal.
    let beyond = checked_gamma_ur(0.5, x * x / 2.0).unwrap_or(1.0) / 2.0;
    if x > 0.0 { 1.0 - beyond } else { beyond }
}

/// The standard normal's quantile at `p` in (0, 1).
pub fn normal_quantile(p: f64) -> f64 {
    bisect(normal_cdf, p, -40.0, 40.0)
}

/// The two-sided critical value of the standard normal, such as 1.96 for level 0.95.
pub fn normal_critical(level: f64) -> f64 {
    normal_quantile(0.5 + level / 2.0)
}

/// Student's t cumulative probability at `x`; `None` unless `df` is positive.
pub fn t_cdf(x: f64, df: f64) -> Option<f64> {
    StudentsT::new(0.0, 1.0, df).ok().map(|t| t.cdf(x))
}

/// The two-sided critical value of Student's t; `None` unless `df` is positive.
pub fn t_critical(level: f64, df: f64) -> Option<f64> {
    let t = StudentsT::new(0.0, 1.0, df).ok()?;
    Some(bisect(|x| t.cdf(x), 0.5 + level / 2.0, 0.0, 1e6))
}

/// The upper tail of the chi-squared distribution at `x`; `None` unless `df` is positive.
pub fn chi_squared_tail(x: f64, df: f64) -> Option<f64> {
    ChiSquared::new(df).ok().map(|chi| chi.sf(x))
}

/// P(X ≤ k) for X binomial with `n` trials of probability `p`; `None` unless `p` is in [0, 1].
pub fn binomial_cdf(k: u64, n: u64, p: f64) -> Option<f64> {
    Binomial::new(p, n).ok().map(|binomial| binomial.cdf(k))
}

/// P(X = k) for X binomial with `n` trials of probability `p`; `None` unless `p` is in [0, 1].
pub fn binomial_pmf(k: u64, n: u64, p: f64) -> Option<f64> {
    use statrs::distribution::Discrete;
    Binomial::new(p, n).ok().map(|binomial| binomial.pmf(k))
}

/// The quantile at `p` of the Beta distribution; `None` unless both shapes are positive.
pub fn beta_quantile(p: f64, a: f64, b: f64) -> Option<f64> {
    let known = |x: f64| checked_beta_reg(a, b, x).unwrap_or(0.0);
    (a > 0.0 && b > 0.0).then(|| bisect(known, p, 0.0, 1.0))
}

/// Where the increasing `cdf` reaches `p` between `low` and `high`.
fn bisect(cdf: impl Fn(f64) -> f64, p: f64, mut low: f64, mut high: f64) -> f64 {
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_to_the_digits_that_tables_have() {
        for (found, expected) in [
            (normal_quantile(0.975), 1.959_963_984_540_054),
            (normal_quantile(0.8), 0.841_621_233_572_914_3),
            (t_critical(0.95, 4.0).unwrap(), 2.776_445_105_197_798_7),
            (t_critical(0.95, 2.0).unwrap(), 4.302_652_729_696_142),
        ] {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
        assert_eq!(t_critical(0.95, 0.0), None);
    }
}
