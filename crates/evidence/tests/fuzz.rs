//! Every parser of this crate against damaged and random input; see `support/fuzz.rs`.

use proptest::prelude::*;
use tribunal_core::Category;
use tribunal_evidence::{
    OmittedReason, Profile, Snapshot, View,
    log::{LogLimits, Reducer, mask, reduce},
    notebook,
    text::decode,
};

use crate::{
    pack::{Item, LIMITS, TIMESTAMP, file, take_bytes},
    rounds::{fuzz, mutate, mutations},
};

#[path = "support/fuzz.rs"]
mod rounds;

#[path = "support/pack.rs"]
#[expect(dead_code, reason = "shared with the tests of archives")]
mod pack;

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
