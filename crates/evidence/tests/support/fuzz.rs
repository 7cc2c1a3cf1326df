//! Rounds of random cases, and damage to bytes.
//!
//! By default one round; `TRIBUNAL_FUZZ_SECONDS=60` runs each for so long and prints how many cases
//! there were. A failure is shown with the input, reduced.

use std::time::{Duration, Instant};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

/// Cases in a round.
const ROUND: u32 = 64;

/// Runs rounds of cases until the time of the environment is over, at least one.
#[expect(clippy::print_stdout, reason = "a long run says what it did")]
pub(crate) fn fuzz<S: Strategy>(name: &str, strategy: &S, test: impl Fn(S::Value)) {
    let seconds = std::env::var("TRIBUNAL_FUZZ_SECONDS").ok();
    let seconds: u64 = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    let (begin, mut cases) = (Instant::now(), 0);
    loop {
        // The first round is the same every time, further ones are random.
        let config = Config { cases: ROUND, failure_persistence: None, ..Config::default() };
        let mut runner = match cases {
            0 => TestRunner::new_with_rng(
                config,
                proptest::test_runner::TestRng::deterministic_rng(
                    proptest::test_runner::RngAlgorithm::ChaCha,
                ),
            ),
            _ => TestRunner::new(config),
        };
        let result = runner.run(strategy, |value| {
            test(value);
            Ok(())
        });
        if let Err(error) = result {
            panic!("{name}: {error}");
        }
        cases += u64::from(ROUND);
        if begin.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
    }
    if seconds > 0 {
        println!("{name}: {cases} cases in {} s, no failure", begin.elapsed().as_secs());
    }
}

/// A change to bytes.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Set(usize, u8),
    Flip(usize, u8),
    Cut(usize),
    Remove(usize, usize),
    Repeat(usize, usize),
    Copy(usize, usize, usize),
    Insert(usize, Vec<u8>),
}

pub(crate) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let at = any::<usize>;
    let mutation = prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        4 => (at(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => at().prop_map(Mutation::Cut),
        1 => (at(), 1usize..600).prop_map(|(at, length)| Mutation::Remove(at, length)),
        1 => (at(), 1usize..600).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        1 => (at(), at(), 1usize..64).prop_map(|(from, to, length)| Mutation::Copy(from, to, length)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
    ];
    prop::collection::vec(mutation, 0..8)
}

pub(crate) fn mutate(mut bytes: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        let length = bytes.len();
        if length == 0 {
            break;
        }
        match mutation {
            Mutation::Set(at, byte) => bytes[at % length] = *byte,
            Mutation::Flip(at, bit) => bytes[at % length] ^= 1 << bit,
            Mutation::Cut(at) => bytes.truncate(at % length),
            Mutation::Remove(at, count) => {
                let at = at % length;
                bytes.drain(at..(at + count).min(length));
            }
            Mutation::Repeat(at, count) => {
                let at = at % length;
                let part = bytes[at..(at + count).min(length)].to_vec();
                bytes.splice(at..at, part);
            }
            Mutation::Copy(from, to, count) => {
                let count = (*count).min(length);
                let (from, to) = (from % (length - count + 1), to % (length - count + 1));
                bytes.copy_within(from..from + count, to);
            }
            Mutation::Insert(at, more) => {
                let at = at % length;
                bytes.splice(at..at, more.iter().copied());
            }
        }
    }
    bytes
}
