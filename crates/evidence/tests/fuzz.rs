//! Every parser of this crate against damaged and random input.
//!
//! By default a few cases each; `TRIBUNAL_FUZZ_SECONDS=60` runs each for so long and prints how many
//! cases there were. A failure is shown with the input, reduced.

use std::time::{Duration, Instant};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tribunal_core::Category;
use tribunal_evidence::{
    OmittedReason, Profile, Snapshot, View,
    log::{LogLimits, Reducer, mask, reduce},
    notebook,
    text::decode,
};

use crate::pack::{Item, LIMITS, TIMESTAMP, file, take_bytes};

#[path = "support/pack.rs"]
#[expect(dead_code, reason = "shared with the tests of archives")]
mod pack;

/// Cases in a round.
const ROUND: u32 = 64;

/// Runs rounds of cases until the time of the environment is over, at least one.
#[expect(clippy::print_stdout, reason = "a long run says what it did")]
fn fuzz<S: Strategy>(name: &str, strategy: &S, test: impl Fn(S::Value)) {
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
enum Mutation {
    Set(usize, u8),
    Flip(usize, u8),
    Cut(usize),
    Remove(usize, usize),
    Repeat(usize, usize),
    Copy(usize, usize, usize),
    Insert(usize, Vec<u8>),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
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

fn mutate(mut bytes: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
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

/// No path of the snapshot that has content or is in a view leads out of it.
fn assert_inside(snapshot: &Snapshot) {
    for file in &snapshot.files {
        let outside = file.path.starts_with('/')
            || file.path.split('/').any(|part| matches!(part, "" | "." | ".."));
        if outside {
            assert_eq!(file.omitted, Some(OmittedReason::Outside), "{:?}", file.path);
        }
        assert!(file.text.is_none() || file.omitted.is_none(), "{file:?}");
    }
    let profile = Profile::builtin("default").expect("built in");
    for category in Category::ALL {
        let view = View::new(snapshot, category, None, false, &profile);
        assert!(view.files.iter().all(|file| file.omitted != Some(OmittedReason::Outside)));
        let _ = view.tree();
    }
}

/// Names that try to lead out, and such that do not.
fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just(String::new()),
        Just("submission".to_owned()),
        Just(".git".to_owned()),
        Just("reproduce.log".to_owned()),
        "[a-zü .]{1,4}(\\.py)?",
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let kind = prop::sample::select(vec![
        b'0', b'0', b'0', b'1', b'2', b'5', b'6', b'L', b'S', b'x', b'g',
    ]);
    let item = (name(), kind, prop::collection::vec(any::<u8>(), 0..300)).prop_map(
        |(name, kind, data)| Item { kind: tar::EntryType::new(kind), ..file(name, data) },
    );
    prop::collection::vec(item, 0..6)
}

#[test]
fn archives() {
    let strategy = (items(), 0usize..4, mutations());
    fuzz("archives", &strategy, |(items, format, mutations)| {
        let tar = || pack::tar(&items);
        let bytes = match format {
            0 => mutate(tar(), &mutations),
            // Damage within and around the compression.
            1 => mutate(pack::gzip(&mutate(tar(), &mutations)), &mutations[..mutations.len() / 2]),
            2 => mutate(pack::zstd(&mutate(tar(), &mutations)), &mutations[..mutations.len() / 2]),
            _ => {
                let mut names = std::collections::HashSet::new();
                let mut items = items.clone();
                items.retain(|item| !item.name.is_empty() && names.insert(item.name.clone()));
                items.iter_mut().for_each(|item| item.kind = tar::EntryType::Regular);
                mutate(pack::zip(&items, Some(TIMESTAMP)), &mutations)
            }
        };
        if let Ok((snapshot, _)) = take_bytes(&bytes, &LIMITS) {
            assert_inside(&snapshot);
        }
    });
}

#[test]
fn notebooks() {
    const NOTEBOOK: &str = r##"{"cells": [{"cell_type": "code", "source": ["a\u00e4\n"], "outputs": [
        {"output_type": "stream", "text": ["x\r\u001b[0my\n"]},
        {"output_type": "error", "ename": "E", "traceback": ["t"]},
        {"data": {"image/png": "iVBO", "text/html": ["<b>"]}}]}], "metadata": {}, "nbformat": 4}"##;
    fuzz("notebooks", &(mutations(), 0usize..200), |(mutations, chars)| {
        let bytes = mutate(NOTEBOOK.as_bytes().to_vec(), &mutations);
        let text = String::from_utf8_lossy(&bytes);
        let rendered = notebook::render(&text, chars);
        assert_eq!(rendered, notebook::render(&text, chars));
    });
}

#[test]
fn logs() {
    const LOG: &str = "start\n 10%|#   | 1/10 [00:01<00:09, 1.0it/s]\r 20%|##  | 2/10 [00:02<00:08]\n\
        2024-01-31T10:20:30.123Z [ 3/10] epoch 3: 0x7f3a00c1 took 1h02m03s at 10.0.0.1:80\n\
        Traceback (most recent call last):\n  File \"a.py\", line 3\nKeyError: 'ä'\n\x1b[31mend\x1b[0m\n";
    let tight = LogLimits { line_bytes: 40, front_bytes: 50, back_bytes: 50, error_kinds: 2 };
    fuzz("logs", &(mutations(), 1usize..40), |(mutations, times)| {
        let bytes = mutate(LOG.repeat(times).into_bytes(), &mutations);
        let text = String::from_utf8_lossy(&bytes);
        text.lines().for_each(|line| drop(mask(line)));
        let reduced = reduce(&text);
        assert_eq!(reduced, reduce(&text));
        let _ = reduce(&reduced);
        let mut reducer = Reducer::new(tight);
        reducer.push(&text);
        let _ = reducer.finish();
    });
}

#[test]
fn texts() {
    const TEXT: &str = "def größe(x):\n    return 'naïve 你好 😀'\n";
    let strategy = (mutations(), 0usize..5, any::<bool>());
    fuzz("texts", &strategy, |(mutations, encoding, cut)| {
        let utf_16 = |unit: fn(u16) -> [u8; 2]| TEXT.encode_utf16().flat_map(unit).collect();
        let bytes: Vec<u8> = match encoding {
            0 => TEXT.as_bytes().to_vec(),
            1 => utf_16(u16::to_le_bytes),
            2 => utf_16(u16::to_be_bytes),
            3 => [b"\xff\xfe".as_slice(), &utf_16(u16::to_le_bytes)].concat(),
            _ => TEXT.chars().map(|c| c as u8).collect(),
        };
        let bytes = mutate(bytes, &mutations);
        assert_eq!(decode(&bytes, cut), decode(&bytes, cut));
    });
}

#[test]
fn profiles() {
    const PROFILES: &str = include_str!("../../../config/profiles.toml");
    fuzz("profiles", &mutations(), |mutations| {
        let bytes = mutate(PROFILES.as_bytes().to_vec(), &mutations);
        let _ = Profile::parse(&String::from_utf8_lossy(&bytes));
    });
}
