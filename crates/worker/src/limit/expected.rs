//! What a call will probably use.
//!
//! Owns the expectation by category: tokens for each byte of the prompt, and tokens of an answer,
//! both learnt from what calls have used. It counts nothing itself.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tribunal_core::{Category, Usage};
use tribunal_store::Spend;

/// Tokens of an answer before any was seen.
const FIRST_ANSWER: u64 = 500;

/// Weight of the newest observation.
const NEWEST: f64 = 0.1;

/// What calls must have in common to use alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alike {
    /// Whether they ask for files, and not for a verdict.
    pub ranks: bool,
    /// Their leaves' category.
    pub category: Category,
    /// Whether the evidence was shrunk.
    pub shrunk: bool,
}

/// What calls have used.
#[derive(Debug, Default)]
pub struct Expected(Mutex<BTreeMap<Alike, Learnt>>);

/// Running means of one category.
#[derive(Clone, Copy, Debug)]
struct Learnt {
    tokens_per_byte: f64,
    output: f64,
    /// Mean distance of an answer's tokens from `output`.
    deviation: f64,
}

// === impl Expected ===

impl Expected {
    /// What a call with a prompt of so many bytes will use: `counted` counts its tokens where
    /// nothing was learnt yet, `cap` is the most that its answer may have.
    pub fn call(&self, of: Alike, bytes: usize, counted: impl Fn() -> u64, cap: u64) -> Spend {
        let learnt = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&of).copied();
        match learnt {
            None => Spend::call(counted(), FIRST_ANSWER.min(cap)),
            Some(learnt) => {
                let input = learnt.tokens_per_byte * bytes as f64;
                let output = learnt.output + learnt.deviation;
                Spend::call(input.ceil() as u64, (output.ceil() as u64).min(cap))
            }
        }
    }

    /// Learns from what a call used.
    pub fn learn(&self, of: Alike, bytes: usize, usage: &Usage) {
        if usage.input == 0 || bytes == 0 {
            return;
        }
        let tokens_per_byte = usage.input as f64 / bytes as f64;
        let output = usage.output as f64;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let learnt =
            known.entry(of).or_insert(Learnt { tokens_per_byte, output, deviation: output / 4.0 });
        let toward = |mean: &mut f64, seen: f64| *mean += (seen - *mean) * NEWEST;
        toward(&mut learnt.tokens_per_byte, tokens_per_byte);
        let distance = (output - learnt.output).abs();
        toward(&mut learnt.output, output);
        toward(&mut learnt.deviation, distance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_are_learnt_by_category() {
        let expected = Expected::default();
        let of = Alike { ranks: false, category: Category::CodeDevelopment, shrunk: false };
        assert_eq!(expected.call(of, 40_000, || 11_000, 2_048), Spend::call(11_000, 500));
        assert_eq!(expected.call(of, 40_000, || 11_000, 100), Spend::call(11_000, 100));
        for _ in 0..100 {
            expected.learn(of, 40_000, &Usage { input: 10_000, cached: 0, output: 150 });
        }
        let call = expected.call(of, 44_000, || 11_000, 2_048);
        assert_eq!(call.input, 11_000);
        assert!((150..155).contains(&call.output), "{call:?}");
        let other = expected.call(
            Alike { category: Category::CodeExecution, ..of },
            40_000,
            || 9_000,
            2_048,
        );
        assert_eq!(other, Spend::call(9_000, 500));
    }
}
