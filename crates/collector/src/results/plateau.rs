//! When a score over time has come to rest.
//!
//! Owns the plateau test: the first time after which no later improvement stands out of the noise
//! between seeds. For every pair of times the improvement is paired by seed, and stands out when
//! the lower end of its one-sided 95% interval (Student's t, k − 1 degrees of freedom) is above 0.
//! No correction for the number of pairs: a false "still improving" is the safe mistake.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::aggregate::{mean, standard_error};

/// The confidence of the one-sided interval.
const CONFIDENCE: f64 = 0.95;

/// A curve's scores: for each time in hours, in order, the mean over papers of each seed.
pub type Curve = Vec<(f64, BTreeMap<String, f64>)>;

/// When a curve has come to rest.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Plateau {
    /// The first time, in hours, after which the improvement is within noise; null where it never
    /// is, or where it cannot be told.
    pub hours: Option<f64>,
    /// What can be said, in a sentence.
    pub finding: String,
    /// The improvement from each time to the last one.
    pub to_last: Vec<Improvement>,
}

/// The improvement from one time to another, paired by seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Improvement {
    /// From this time, in hours.
    pub from_hours: f64,
    /// To this time, in hours.
    pub to_hours: f64,
    /// Mean difference of the score over seeds; null without a seed that has both.
    pub mean: Option<f64>,
    /// Lower end of its one-sided 95% interval; null below two seeds.
    pub low: Option<f64>,
    /// Seeds that have both times.
    pub seeds: usize,
}

// === impl Plateau ===

impl Plateau {
    /// The test of a curve; `None` below two times.
    pub fn of(curve: &Curve) -> Option<Plateau> {
        let (last, _) = curve.last().filter(|_| curve.len() > 1)?;
        let last = *last;
        let improvements = |from: usize| {
            curve[from + 1..].iter().map(move |to| Improvement::between(&curve[from], to))
        };
        let to_last: Vec<Improvement> =
            (0..curve.len() - 1).filter_map(|from| improvements(from).next_back()).collect();
        let unknown = |improvement: &Improvement| improvement.low.is_none();
        if (0..curve.len()).any(|from| improvements(from).any(|later| unknown(&later))) {
            let finding = "noise between seeds is not known: two seeds complete at every time are \
                           needed"
                .to_owned();
            return Some(Plateau { hours: None, finding, to_last });
        }
        let rests =
            |from: &usize| improvements(*from).all(|later| later.low.is_some_and(|low| low <= 0.0));
        let hours = (0..curve.len() - 1).find(rests).map(|at| curve[at].0);
        let finding = match hours {
            Some(hours) => format!("no improvement beyond noise after {hours} h"),
            None => format!("still improving at {last} h"),
        };
        Some(Plateau { hours, finding, to_last })
    }
}

// === impl Improvement ===

impl Improvement {
    fn between(
        (from, before): &(f64, BTreeMap<String, f64>),
        (to, after): &(f64, BTreeMap<String, f64>),
    ) -> Improvement {
        let paired = |(seed, score): (&String, &f64)| Some(after.get(seed)? - score);
        let differences: Vec<f64> = before.iter().filter_map(paired).collect();
        let (mean, se) = (mean(&differences), standard_error(&differences));
        let quantile = || {
            let freedom = differences.len() as f64 - 1.0;
            StudentsT::new(0.0, 1.0, freedom).ok().map(|t| t.inverse_cdf(CONFIDENCE))
        };
        let low = match (mean, se) {
            (Some(mean), Some(se)) => quantile().map(|quantile| mean - quantile * se),
            _ => None,
        };
        Improvement { from_hours: *from, to_hours: *to, mean, low, seeds: differences.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(times: &[(f64, [f64; 3])]) -> Curve {
        let seeds = |scores: [f64; 3]| {
            scores.iter().enumerate().map(|(i, score)| (i.to_string(), *score)).collect()
        };
        times.iter().map(|(hours, scores)| (*hours, seeds(*scores))).collect()
    }

    #[test]
    fn the_first_time_without_improvement_beyond_noise() {
        // From 1 to 3 h: differences 0.10, 0.11, 0.12, far out of the noise. From 3 to 6 h:
        // -0.01, 0.01, 0.00, within it. t(0.95; 2) = 2.91999.
        let rising = [0.10, 0.12, 0.11];
        let rested = [0.20, 0.23, 0.23];
        let end = [0.19, 0.24, 0.23];
        let plateau = Plateau::of(&curve(&[(1.0, rising), (3.0, rested), (6.0, end)]));
        let plateau = plateau.expect("three times");
        assert_eq!(plateau.hours, Some(3.0));
        let first = plateau.to_last[0];
        // Differences to the last: 0.09, 0.12, 0.12; mean 0.11, s = sqrt(6e-4 / 2).
        let low = 0.11 - 2.919_985_580_355_516 * 3e-4_f64.sqrt() / 3_f64.sqrt();
        assert!((first.low.expect("three seeds") - low).abs() < 1e-9, "{first:?}");

        let still = Plateau::of(&curve(&[(1.0, rising), (3.0, rested)])).expect("two times");
        assert_eq!(still.hours, None);
        assert!(still.finding.contains("still improving at 3 h"), "{}", still.finding);
    }

    #[test]
    fn a_late_rise_is_no_plateau_before_it() {
        let low = [0.10, 0.11, 0.12];
        let high = [0.30, 0.31, 0.33];
        let plateau = Plateau::of(&curve(&[(1.0, low), (3.0, low), (6.0, high), (12.0, high)]));
        assert_eq!(plateau.expect("four times").hours, Some(6.0));
    }

    #[test]
    fn one_seed_tells_nothing_of_noise() {
        let one = |score| BTreeMap::from([("1".to_owned(), score)]);
        let plateau = Plateau::of(&vec![(1.0, one(0.1)), (3.0, one(0.4))]).expect("two times");
        assert_eq!(plateau.hours, None);
        assert!(plateau.finding.contains("not known"), "{}", plateau.finding);
        assert_eq!(Plateau::of(&vec![(1.0, one(0.1))]), None);
    }
}
