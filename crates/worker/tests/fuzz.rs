//! The parsers of replies against damaged and random input; see `tribunal-evidence`'s
//! `support/fuzz.rs`.

use proptest::prelude::*;
use tribunal_core::{Category, ReplyForm};
use tribunal_worker::parse::{parse, ranking};

use crate::rounds::{fuzz, mutate, mutations};

#[path = "../../evidence/tests/support/fuzz.rs"]
mod rounds;

const FORMS: [ReplyForm; 3] = [ReplyForm::JsonSchema, ReplyForm::JsonObject, ReplyForm::Text];

const VERDICTS: [&str; 3] = [
    "{\"expectations\": \"e\", \"reality\": \"r\", \"evidence\": [{\"file\": \"a.py\", \"lines\": \"1-2\", \
     \"quote\": \"x = 1\"}], \"explanation\": \"größer\", \"score\": 1, \"confidence\": 0.9}",
    "# Expectations\nA loop.\n\n# Reality\n```python\nfor x in y:\n```\n> Score: 1\n\n# Explanation\n\
     It is there.\n\n# Score\n**0** – not at all, though 3 of 4 parts are.\n",
    "<think>\nhm, score 1?\n</think>\n```json\n{\"score\": \"0.0\", \"evidence\": [\"a\", null]}\n```",
];

const RANKINGS: [&str; 3] = [
    "{\"files\": [\"src/a.py\", \"b ü.md\", \"./c.txt\"]}",
    "1. `src/a.py`\n2) b ü.md\n- c.txt\n",
    "<think>a.py</think>\n```json\n{\"files\": [\"a.py\"]}\n```",
];

/// Pieces of which replies that mean several things are made.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "# Score\n",
        "**Score:** ",
        "score",
        " is ",
        " of ",
        "0",
        "1",
        "0.5",
        "/",
        "%",
        "-1",
        "−1",
        "\n",
        "```\n",
        "> ",
        "{\"score\": 1}",
        "\"score\"",
        ":",
        "{",
        "}",
        "# Explanation\n",
        "<think>",
        "</think>",
        " ",
        "ü",
        "NaN",
        "1e0",
    ]);
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

fn replies(seeds: [&'static str; 3]) -> impl Strategy<Value = String> {
    let damaged = (0..seeds.len(), mutations()).prop_map(move |(seed, mutations)| {
        String::from_utf8_lossy(&mutate(seeds[seed].as_bytes().to_vec(), &mutations)).into_owned()
    });
    prop_oneof![4 => damaged, 3 => pieces(), 1 => any::<String>()]
}

#[test]
fn verdicts() {
    fuzz("verdicts", &replies(VERDICTS), |reply| {
        for form in FORMS {
            for category in [Category::CodeDevelopment, Category::Subtree] {
                let read = parse(&reply, form, category);
                assert_eq!(read, parse(&reply, form, category));
                let Ok(parsed) = read else { continue };
                let fits = match category.is_fractional() {
                    true => (0.0..=1.0).contains(&parsed.score),
                    false => parsed.score == 0.0 || parsed.score == 1.0,
                };
                assert!(fits, "{} from {reply:?}", parsed.score);
                assert!(parsed.rationale.confidence.is_none_or(|c| (0.0..=1.0).contains(&c)));
                // Another score in its own words makes it ambiguous, a quoted one does not.
                if form == ReplyForm::Text {
                    let quoted = format!("> # Score\n> {}\n{reply}", 1.0 - parsed.score);
                    let tagged = reply.trim_start().starts_with('<');
                    if !tagged && !reply.trim_start().starts_with('\u{feff}') {
                        let again = parse(&quoted, form, category).map(|parsed| parsed.score);
                        assert_eq!(again, Ok(parsed.score), "{quoted:?}");
                    }
                } else {
                    let twice = format!("{reply}{reply}");
                    assert!(parse(&twice, form, category).is_err(), "{twice:?}");
                }
            }
        }
    });
}

#[test]
fn rankings() {
    fuzz("rankings", &replies(RANKINGS), |reply| {
        for form in FORMS {
            let Ok(paths) = ranking(&reply, form) else { continue };
            assert!(!paths.is_empty());
            let mut distinct = paths.clone();
            distinct.sort();
            distinct.dedup();
            assert!(distinct.len() == paths.len(), "{paths:?}");
            assert!(paths.iter().all(|path| !path.trim().is_empty()), "{paths:?}");
        }
    });
}
