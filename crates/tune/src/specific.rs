//! Text that knows the papers it was made from.
//!
//! Owns the rule that refuses it: numbers and names of the criteria, words that only one paper's
//! criteria have, and passages copied from them. What the parent's text has already is nobody's
//! memory. It may refuse a harmless word; that costs one more question to the proposer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Words of a passage that counts as copied.
const PASSAGE: usize = 7;

/// Letters from which a word can be telling.
const LONG: usize = 5;

/// Criteria of the one paper in which a telling word stands at least.
const OFTEN: usize = 2;

/// What the criteria of the labelled papers say.
#[derive(Clone, Debug, Default)]
pub struct Specific {
    /// For each word in lower case, the papers that have it, and in how many criteria.
    words: HashMap<String, (BTreeSet<usize>, usize)>,
    /// Names: words with a capital or a digit inside, or never without a capital.
    names: BTreeSet<String>,
    numbers: BTreeSet<String>,
    passages: BTreeSet<Vec<String>>,
    papers: usize,
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_' || c == '.'))
        .map(|word| word.trim_matches(['.', '-', '_']))
        .filter(|word| !word.is_empty())
}

fn is_number(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_digit() || c == '.' || c == 'e' || c == '-';
    word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(plain)
}

/// A word with a capital behind its first letter, or a digit: an acronym, a model, a dataset.
fn is_marked(word: &str) -> bool {
    let letters = word.chars().any(char::is_alphabetic);
    letters
        && (word.chars().skip(1).any(char::is_uppercase)
            || word.chars().any(|c| c.is_ascii_digit()))
}

fn lower(text: &str) -> Vec<String> {
    words(text).map(str::to_lowercase).collect()
}

// === impl Specific ===

impl Specific {
    /// What these criteria, each with its paper, make telling.
    pub fn of<'c>(criteria: impl Iterator<Item = (usize, &'c str)>) -> Specific {
        let mut specific = Specific::default();
        let mut papers = BTreeSet::new();
        let mut capital: BTreeMap<String, bool> = BTreeMap::new();
        for (paper, text) in criteria {
            papers.insert(paper);
            let mut seen = BTreeSet::new();
            for (place, word) in words(text).enumerate() {
                if is_number(word) {
                    // One digit is an item of a list, or a score.
                    if word.len() > 1 {
                        specific.numbers.insert(word.to_owned());
                    }
                    continue;
                }
                if is_marked(word) {
                    specific.names.insert(word.to_lowercase());
                }
                let upper = word.starts_with(char::is_uppercase);
                if place > 0 {
                    let always = capital.entry(word.to_lowercase()).or_insert(true);
                    *always &= upper;
                }
                seen.insert(word.to_lowercase());
            }
            for word in seen {
                let (of, count) = specific.words.entry(word).or_default();
                of.insert(paper);
                *count += 1;
            }
            let all = lower(text);
            specific.passages.extend(all.windows(PASSAGE).map(<[String]>::to_vec));
        }
        let always = capital.into_iter().filter(|(_, always)| *always).map(|(word, _)| word);
        specific.names.extend(always);
        specific.papers = papers.len();
        specific
    }

    /// What of `text`, but not of `parent`, is of one of the papers; empty where nothing is.
    pub fn found(&self, text: &str, parent: &str) -> Vec<String> {
        let known: BTreeSet<String> = lower(parent).into_iter().collect();
        let mut found = Vec::new();
        let mut told = BTreeSet::new();
        for word in words(text) {
            let plain = word.to_lowercase();
            if known.contains(&plain) || !told.insert(plain.clone()) {
                continue;
            }
            let upper = word.chars().any(char::is_uppercase) || is_marked(word);
            if self.numbers.contains(word) {
                found.push(format!("`{word}` is a number of the criteria"));
            } else if upper && self.names.contains(&plain) && !begins_sentence(text, word) {
                found.push(format!("`{word}` is a name of the criteria"));
            } else if self.is_telling(&plain) {
                found.push(format!("`{word}` stands in the criteria of one paper alone"));
            }
        }
        let (own, before) = (lower(text), lower(parent));
        let copied = own.windows(PASSAGE).find(|passage| {
            self.passages.contains(*passage) && !before.windows(PASSAGE).any(|old| old == *passage)
        });
        found.extend(copied.map(|passage| format!("`{}` is copied", passage.join(" "))));
        found
    }

    fn is_telling(&self, word: &str) -> bool {
        let of = self.words.get(word);
        self.papers > 1
            && word.chars().count() >= LONG
            && of.is_some_and(|(papers, count)| papers.len() == 1 && *count >= OFTEN)
    }
}

/// Whether the word stands in the text only where any word would have a capital.
fn begins_sentence(text: &str, word: &str) -> bool {
    !is_marked(word)
        && text.match_indices(word).all(|(at, _)| {
            let before = text[..at].trim_end();
            before.is_empty() || before.ends_with(['.', ':', '!', '?', '-', '*', '\n'])
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "Grade the submission on that criterion alone. Tables may stand in a log.";

    fn specific() -> Specific {
        Specific::of(
            [
                (0, "The PINN is trained for 41000 iterations with L-BFGS on the convection problem."),
                (0, "The convection loss is reported for the wave equation by Adam."),
                (1, "Training is repeated with five seeds and Adam."),
            ]
            .into_iter(),
        )
    }

    #[test]
    fn text_of_one_paper_is_found() {
        let found = |text: &str| specific().found(text, PARENT).join("; ");
        for (text, expected) in [
            ("Runs of 41000 iterations count.", "`41000` is a number"),
            ("An L-BFGS run counts too.", "`L-BFGS` is a name"),
            ("If Adam was used, pass. With Adam too.", "`Adam` is a name"),
            ("Be careful with convection.", "`convection` stands in the criteria of one"),
            (
                "The loss is reported for the wave equation by somebody: loss is reported for the wave equation",
                "is copied",
            ),
        ] {
            assert!(found(text).contains(expected), "{text}: {}", found(text));
        }
    }

    #[test]
    fn general_advice_and_the_parents_own_words_pass() {
        let specific = specific();
        for text in [
            "Look for the code that is called. If a value differs, fail the criterion: 1 or 0.",
            "The burden of proof is the submission's. Training that never ran proves nothing.",
            PARENT,
        ] {
            assert_eq!(specific.found(text, PARENT), Vec::<String>::new(), "{text}");
        }
        let parent = "Convection counts.";
        assert!(specific.found("So convection counts.", parent).is_empty());
    }
}
