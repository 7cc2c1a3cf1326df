//! Fair shares between runs: stride scheduling (Waldspurger and Weihl, 1995) by tokens.
//!
//! Owns the arithmetic that every engine shares. A run's virtual time grows by the tokens of its
//! claims over its weight; the next claim goes to the run with the least. Who is claimed is the
//! engine's.

use tribunal_core::Attempt;

/// Virtual time of one token at weight 1: a multiple of every small weight, so that shares come
/// out even.
const PER_TOKEN: u64 = 5_040;

/// A run's share against other runs: with weight 3 it gets three times the tokens of a run with
/// weight 1, as long as both have tasks that may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u32);

// === impl Weight ===

impl Weight {
    /// The largest weight.
    pub const MAX: u32 = 1_000;

    /// The weight with this number, from 1 to [`Weight::MAX`].
    pub fn new(number: u32) -> Option<Weight> {
        (1..=Weight::MAX).contains(&number).then_some(Weight(number))
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Virtual time that this many tokens cost. What a provider reports cannot overflow it.
    pub(crate) fn cost(self, tokens: u64) -> i64 {
        let cost = tokens.min(u64::from(u32::MAX)) * PER_TOKEN / u64::from(self.0);
        cost.cast_signed()
    }

    /// What a claim of a task with this estimate is charged.
    pub(crate) fn charge(self, estimated_tokens: u32) -> i64 {
        self.cost(u64::from(estimated_tokens.max(1)))
    }

    /// What is owed beyond the charge, once it is known what the claim used; negative where the
    /// estimate was too high.
    pub(crate) fn settlement(self, estimated_tokens: u32, used_tokens: u64) -> i64 {
        self.cost(used_tokens) - self.charge(estimated_tokens)
    }
}

impl Default for Weight {
    fn default() -> Self {
        Weight(1)
    }
}

impl std::fmt::Display for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Tokens in and out of these calls; a verdict without a call used none.
pub(crate) fn used_tokens(attempts: &[Attempt]) -> u64 {
    let tokens = attempts.iter().map(|attempt| attempt.usage);
    tokens.fold(0, |sum, usage| sum.saturating_add(usage.input).saturating_add(usage.output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_bounded() {
        let weight = |number| Weight::new(number).unwrap();
        assert_eq!(weight(1).cost(300), 3 * weight(3).cost(300));
        assert_eq!(weight(3).settlement(100, 100), 0);
        assert_eq!(weight(1).settlement(100, 0), -weight(1).charge(100));
        assert!(weight(1).charge(0) > 0, "a task without an estimate is not free");
        assert!(weight(1).settlement(u32::MAX, u64::MAX) == 0);
        assert_eq!((Weight::new(0), Weight::new(Weight::MAX + 1)), (None, None));
    }
}
