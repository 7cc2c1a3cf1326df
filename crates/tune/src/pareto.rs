//! Candidates that no other one beats in everything.
//!
//! Owns the order: sensitivity and specificity up, cost down.

/// What a candidate reaches and costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// Sensitivity, in [0, 1].
    pub sensitivity: f64,
    /// Specificity, in [0, 1].
    pub specificity: f64,
    /// US dollars a leaf; `None` where no price is known, and cost then tells nobody apart.
    pub cost: Option<f64>,
}

// === impl Reached ===

impl Reached {
    fn beats(&self, other: &Reached) -> bool {
        let dearer = |(own, others): (f64, f64)| own > others;
        let worse = self.sensitivity < other.sensitivity
            || self.specificity < other.specificity
            || self.cost.zip(other.cost).is_some_and(dearer);
        let better = self.sensitivity > other.sensitivity
            || self.specificity > other.specificity
            || other.cost.zip(self.cost).is_some_and(dearer);
        better && !worse
    }
}

/// Indices of those that none beats.
pub fn pareto(all: &[Reached]) -> Vec<usize> {
    let beaten = |one: &Reached| all.iter().any(|other| other.beats(one));
    all.iter().enumerate().filter(|(_, one)| !beaten(one)).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beaten_are_left_out() {
        let reached = |sensitivity, specificity, cost| Reached { sensitivity, specificity, cost };
        let all = [
            reached(0.8, 0.8, Some(1.0)),
            reached(0.9, 0.7, Some(1.0)),
            reached(0.8, 0.7, Some(1.0)),
            reached(0.8, 0.8, Some(2.0)),
            reached(0.7, 0.7, Some(0.5)),
        ];
        assert_eq!(pareto(&all), [0, 1, 4]);
        // Equals do not beat each other, and an unknown cost beats nobody.
        assert_eq!(pareto(&[reached(0.5, 0.5, None), reached(0.5, 0.5, Some(9.0))]), [0, 1]);
    }
}
