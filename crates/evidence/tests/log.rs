//! Logs, reduced.

use std::{collections::HashSet, io::Cursor};

use proptest::prelude::*;
use tribunal_evidence::{
    Tokenizer, Vocabulary,
    log::{
        HEAD_LINES, LogLimits, Reducer, TAIL_LINES, fit, looks_like_error, mask, reduce,
        reduce_reader,
    },
};

/// The lines of a log that is reduced, without the numbers of repetitions.
fn shown(reduced: &str) -> Vec<&str> {
    let mark = |line: &&str| !line.starts_with("(the ") && !line.starts_with("[… ");
    let bare = |line| match str::rsplit_once(line, " (repeated ") {
        Some((text, count)) if count.ends_with(" times)") => text,
        _ => line,
    };
    reduced.split('\n').filter(mark).map(bare).collect()
}

#[test]
fn lines_that_repeat_collapse() {
    let cases = [
        ("a\na\na\nb\n", "a (repeated 3 times)\nb\n"),
        ("a\nb\n", "a\nb\n"),
        ("a", "a"),
        ("", ""),
        ("\n\n\na\n", "\na\n"),
        ("a\r\na\r\nb", "a (repeated 2 times)\nb"),
        ("step 1/9 ok\nstep 2/9 ok\n", "step 1/9 ok\nstep 2/9 ok\n"),
        (
            "step 1/9 ok\nstep 2/9 ok\nstep 3/9 ok\n",
            "step 1/9 ok (repeated 3 times)\nstep 3/9 ok\n",
        ),
        ("loss 0.5\nloss 0.4\nloss 0.3\n", "loss 0.5\nloss 0.4\nloss 0.3\n"),
        ("\x1b[31mred\x1b[0m\nred\n", "red (repeated 2 times)\n"),
    ];
    for (log, expected) in cases {
        assert_eq!(reduce(log), expected, "{log:?}");
    }
}

#[test]
fn progress_bars_collapse() {
    let mut log = String::from("training\n");
    for step in 0..=500 {
        let bar = "█".repeat(step / 50);
        log.push_str(&format!(
            "\rEpoch 0: {:3}%|{bar:<10}| {step}/500 [00:{:02}<00:05, {}.{}it/s, loss={}]",
            step / 5,
            step / 10,
            step % 7,
            step % 10,
            1000 - step
        ));
    }
    log.push_str("\ndone\n");
    let reduced = reduce(&log);
    let lines: Vec<&str> = reduced.lines().collect();
    assert_eq!(lines.len(), 4, "{reduced}");
    assert!(lines[1].starts_with("Epoch 0:   0%|") && lines[1].ends_with("(repeated 501 times)"));
    assert!(lines[2].contains("500/500") && lines[2].ends_with("loss=500]"), "{reduced}");

    let lines = |n: u64| {
        vec![
            format!("{n}/100 [==========>.........] - ETA: {n}s - loss: 0.{n}"),
            format!("Downloading: {n}% complete"),
            format!("   ━━━━━━━━ {n}.2/45.3 MB {n}.1 MB/s eta 0:00:{n}"),
            format!("Receiving objects:  {n}% ({n}/456), 1.{n} MiB | 3.{n} MiB/s"),
            format!("{n}it [00:{n}, 3.{n}it/s]"),
        ]
    };
    for (line, next) in lines(42).iter().zip(lines(57)) {
        assert_eq!(mask(line), mask(&next), "{line}");
    }
}

#[test]
fn masks_take_out_what_changes_by_itself() {
    let same = [
        ("2024-01-31T10:20:30.123Z INFO x", "2025-12-01 01:02:03,456 INFO x"),
        ("[01/31/2024 10:20:30] x", "[02/01/2024 00:00:01] x"),
        ("Jan 31 10:20:30 host x", "Feb  1 10:20:31 host x"),
        ("10:20:30 x", "11:21:31 x"),
        ("at 1700000000.123 x", "at 1700000001.5 x"),
        ("obj 0x7f3a00c1 x", "obj 0x7f3a00d2 x"),
        ("commit deadbeef01 x", "commit 0123456789abcdef x"),
        ("id 123e4567-e89b-12d3-a456-426614174000", "id 00000000-e89b-12d3-a456-42661417400f"),
        ("from 10.0.0.1:8080 x", "from 192.168.100.7:22 x"),
        ("took 3.2s", "took 14.75s"),
        ("took 1h02m03s.", "took 5 seconds."),
        ("100ms/step", "95ms/step"),
        ("epoch 3: x", "epoch 4: x"),
        ("Epoch [3/10] x", "Epoch [4/10] x"),
        ("step=100 x", "step=200 x"),
        ("[ 12/100] x", "[ 13/100] x"),
    ];
    for (a, b) in same {
        assert_eq!(mask(a), mask(b), "{a:?} and {b:?}");
    }
    let different = [
        ("loss 0.5", "loss 0.4"),
        ("accuracy: 85%", "accuracy: 86%"),
        ("epoch 3 loss 0.5", "epoch 3 loss 0.4"),
        ("python 3.10", "python 3.11"),
        ("a.py:10:20: x", "a.py:11:20: x"),
        ("size 5 m", "size 6 m"),
        ("seed 12345678", "seed 12345679"),
        ("decade", "facade"),
    ];
    for (a, b) in different {
        assert_ne!(mask(a), mask(b), "{a:?} and {b:?}");
    }
}

#[test]
fn cycles_collapse() {
    let mut log = String::from("start\n");
    for n in 0..200 {
        log.push_str(&format!("epoch {n}\n  train 10:00:{:02}\n  eval {n}ms\n", n % 60));
    }
    log.push_str("epoch 200\nend\n");
    let expected = "start\nepoch 0\n  train 10:00:00\n  eval 0ms\n\
        (the 3 lines above repeated 200 times; the last time:)\n\
        epoch 199\n  train 10:00:19\n  eval 199ms\nepoch 200\nend\n";
    assert_eq!(reduce(&log), expected);
    let exact = "a\nb\n".repeat(5);
    assert_eq!(reduce(&exact), "a\nb\n(the 2 lines above repeated 5 times)\n");
    assert_eq!(reduce(&"a\nb\n".repeat(2)), "a\nb\na\nb\n");
    // A cycle of runs.
    let runs = "a\na\nb\nb\nb\n".repeat(4);
    let expected =
        "a (repeated 2 times)\nb (repeated 3 times)\n(the 2 lines above repeated 4 times)\n";
    assert_eq!(reduce(&runs), expected);
}

/// Limits that leave out nearly everything.
const TIGHT: LogLimits =
    LogLimits { line_bytes: 5_000, front_bytes: 400, back_bytes: 400, error_kinds: 50 };

fn reduce_tightly(log: &str) -> String {
    let mut reducer = Reducer::new(TIGHT);
    reducer.push(log);
    reducer.finish()
}

#[test]
fn of_a_log_that_is_too_long_head_tail_and_errors_stay() {
    let mut log = String::new();
    for n in 0..5_000 {
        let line = match n {
            2_000..=2_010 => format!("ERROR: disk {} is full\n", n * 13),
            3_000 => "Traceback (most recent call last):\n  File \"a.py\", line 3\n    f()\n\
                      KeyError: 'x'\n"
                .to_owned(),
            _ => format!("line {n} says {}\n", n * 31 % 97),
        };
        log.push_str(&line);
    }
    let reduced = reduce_tightly(&log);
    let lines: Vec<&str> = log.lines().collect();
    let kept: Vec<&str> = reduced.lines().collect();
    assert_eq!(kept[..HEAD_LINES], lines[..HEAD_LINES]);
    assert_eq!(kept[kept.len() - TAIL_LINES..], lines[lines.len() - TAIL_LINES..]);
    for line in lines.iter().filter(|line| line.starts_with("ERROR")) {
        assert!(kept.contains(line), "{line}");
    }
    assert!(reduced.contains("  File \"a.py\", line 3\n    f()\nKeyError: 'x'\n"), "{reduced}");
    let left_out = lines.len() - kept.len() + 2;
    assert!(reduced.contains(&format!("[… {left_out} lines left out;")), "{reduced}");
    // Many of one kind: the first and the last.
    let many: String =
        (0..5_000).map(|n| format!("error at 10:00:{:02} x\nok {n}\n", n % 60)).collect();
    let reduced = reduce_tightly(&many);
    let between = reduced.split("[… ").nth(1).expect("a gap");
    assert_eq!(between.matches("error at").count(), 2, "{between}");
}

#[test]
fn readers_and_pieces_give_the_same_bytes() {
    let log = "ä 1%\r\n".repeat(50_000) + "end \u{fffd}";
    let by_reader = reduce_reader(Cursor::new(log.as_bytes())).expect("in memory");
    assert_eq!(by_reader, reduce(&log));
    let lossy = reduce_reader(Cursor::new(b"a\xff\n")).expect("in memory");
    assert_eq!(lossy, "a\u{fffd}\n");
}

#[test]
fn a_log_is_cut_in_its_middle() {
    let tokenizer = Vocabulary::named("o200k_base").expect("embedded");
    let mut log: String = (0..3_000).map(|n| format!("line {n} value {}\n", n * 7)).collect();
    log.insert_str(log.len() / 2, "\nRuntimeError: it broke\n");
    for max in [0, 3, 40, 500, 5_000, 10_000] {
        let (shown, cut) = fit(&log, max, &tokenizer);
        let tokens = tokenizer.count(&shown);
        assert!(tokens <= max, "{tokens} > {max}");
        assert_eq!(cut, tokenizer.count(&log) - tokens);
        if max >= 500 {
            assert!(shown.starts_with("line 0 ") && shown.contains("line 2999 "), "{shown}");
            assert!(shown.contains("RuntimeError: it broke") && shown.contains("lines left out"));
        }
    }
    assert_eq!(fit("a\nb", 100, &tokenizer), ("a\nb".to_owned(), 0));
}

/// Lines as logs have them.
fn a_line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-c]{1,2}",
        "(epoch|step) [0-9]{1,2}",
        "2024-01-0[1-9] 10:00:0[0-9] (INFO|ERROR) [ab]",
        "(Traceback \\(most recent call last\\):|  File \"x\", line [0-9]|KeyError: '[ab]')",
        "[0-9]{1,2}%\\|#+ *\\| [0-9]/10 \\[00:0[0-9]<00:05, 3\\.1it/s\\]",
        "(\\PC|\u{1b}\\[0m|\r|\u{8}){0,8}",
    ]
}

fn a_log() -> impl Strategy<Value = String> {
    let block = (prop::collection::vec(a_line(), 1..5), 1usize..6);
    let block = block.prop_map(|(lines, times)| lines.join("\n").repeat(times));
    prop::collection::vec(block, 0..60).prop_map(|blocks| blocks.join("\n"))
}

/// The lines of a log as they are shown where nothing collapses.
fn plain_lines(log: &str) -> Vec<String> {
    let escapes = without_escapes(log);
    let mut lines = Vec::new();
    for line in escapes.split('\n') {
        let updates: Vec<&str> = line.split(['\r', '\u{8}']).filter(|u| !u.is_empty()).collect();
        match updates.is_empty() {
            true => lines.push(String::new()),
            false => lines.extend(updates.into_iter().map(str::to_owned)),
        }
    }
    lines
}

/// Takes off the one escape that [`a_line`] makes.
fn without_escapes(log: &str) -> String {
    log.replace("\u{1b}[0m", "")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_shown_was_there(log in a_log()) {
        let reduced = reduce(&log);
        let lines = plain_lines(&log);
        let all: HashSet<&str> = lines.iter().map(String::as_str).collect();
        for line in shown(&reduced) {
            prop_assert!(line.is_empty() || all.contains(line), "{:?} in {:?}", line, reduced);
        }
        let marks = reduced.lines().filter(|line| line.starts_with("(the ")).count();
        prop_assert!(reduced.split('\n').count() <= lines.len() + marks);
        prop_assert_eq!(&reduce(&log), &reduced, "same input, same bytes");
    }

    #[test]
    fn every_kind_of_line_survives(log in a_log()) {
        // Nothing is left out: every mask of the log is a mask of what is shown.
        let reduced = reduce(&log);
        let kinds: HashSet<String> = shown(&reduced).into_iter().map(mask).collect();
        for line in plain_lines(&log) {
            prop_assert!(line.trim().is_empty() || kinds.contains(&mask(&line)), "{:?}", line);
        }
        let twice = reduce(&reduced);
        let kept: HashSet<String> = shown(&twice).into_iter().map(mask).collect();
        for line in shown(&reduced).into_iter().filter(|line| looks_like_error(line)) {
            prop_assert!(kept.contains(&mask(line)), "{:?} lost when reduced again", line);
        }
    }

    #[test]
    fn under_tight_limits_errors_survive(log in a_log()) {
        let reduced = reduce_tightly(&log);
        let kinds: HashSet<String> = shown(&reduced).into_iter().map(mask).collect();
        let errors = plain_lines(&log).into_iter().filter(|line| looks_like_error(line));
        for line in errors {
            prop_assert!(kinds.contains(&mask(&line)), "{:?} in {:?}", line, reduced);
        }
        let lines = plain_lines(&log);
        let first = lines.iter().find(|line| !line.is_empty());
        let last = lines.iter().rfind(|line| !line.is_empty());
        if let (Some(first), Some(last)) = (first, last) {
            let kept = shown(&reduced);
            prop_assert!(kept.contains(&first.as_str()) && kept.contains(&last.as_str()));
        }
    }

    #[test]
    fn pieces_do_not_matter(log in a_log(), at in 0.0f64..1.0) {
        let mut at = (log.len() as f64 * at) as usize;
        while !log.is_char_boundary(at) {
            at -= 1;
        }
        let mut reducer = Reducer::default();
        reducer.push(&log[..at]);
        reducer.push(&log[at..]);
        prop_assert_eq!(reducer.finish(), reduce(&log));
    }
}
