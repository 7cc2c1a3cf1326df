//! Replies as judges give them and as they must not be guessed at: `replies/*.toml`.

use serde::Deserialize;
use tribunal_core::{Category, ReplyForm};
use tribunal_worker::parse::parse;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    reply: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    text: String,
    category: Option<Category>,
    expected: Expected,
}

/// A score, or the word `unparseable`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Expected {
    Score(f64),
    Word(String),
}

#[test]
fn hard_replies_are_read_as_they_are_meant_or_not_at_all() {
    let forms = [
        (include_str!("replies/text.toml"), &[ReplyForm::Text][..]),
        (include_str!("replies/json.toml"), &[ReplyForm::JsonObject, ReplyForm::JsonSchema]),
    ];
    let (mut count, mut wrong) = (0, Vec::new());
    for (file, forms) in forms {
        let corpus: Corpus = toml::from_str(file).expect("a corpus");
        for Case { name, text, category, expected } in corpus.reply {
            count += 1;
            let category = category.unwrap_or(Category::CodeDevelopment);
            for form in forms {
                let read = parse(&text, *form, category).map(|parsed| parsed.score);
                let right = match &expected {
                    Expected::Score(score) => read.as_ref() == Ok(score),
                    Expected::Word(word) => {
                        assert_eq!(word, "unparseable", "{name}");
                        read.is_err()
                    }
                };
                if !right {
                    wrong.push(format!("{}, {name}: read as {read:?}", form.name()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 80, "{count}");
}
