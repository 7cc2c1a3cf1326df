//! The terms of a text: what two texts must have in common to be about the same.
//!
//! Owns words, identifiers, stems and stop words. English, as rubrics are.

/// Words that say nothing about what is asked, sorted: English ones, and those of which rubrics are
/// made.
const STOP_WORDS: &[&str] = &[
    "about",
    "all",
    "also",
    "an",
    "and",
    "any",
    "are",
    "as",
    "at",
    "be",
    "been",
    "being",
    "between",
    "both",
    "but",
    "by",
    "can",
    "code",
    "correct",
    "correctly",
    "described",
    "do",
    "does",
    "each",
    "either",
    "for",
    "from",
    "has",
    "have",
    "having",
    "if",
    "implement",
    "implementation",
    "implemented",
    "implements",
    "in",
    "include",
    "included",
    "includes",
    "including",
    "into",
    "is",
    "it",
    "its",
    "least",
    "may",
    "must",
    "no",
    "not",
    "of",
    "on",
    "one",
    "only",
    "or",
    "other",
    "paper",
    "same",
    "section",
    "should",
    "shown",
    "so",
    "such",
    "than",
    "that",
    "the",
    "their",
    "them",
    "then",
    "there",
    "these",
    "they",
    "this",
    "those",
    "through",
    "to",
    "two",
    "used",
    "uses",
    "using",
    "via",
    "was",
    "were",
    "when",
    "where",
    "whether",
    "which",
    "while",
    "will",
    "with",
    "within",
    "would",
    "written",
];
/// Calls `found` with every term of `text`: the lower-case stems of its words, identifiers taken
/// apart at underscores and humps, stop words and single characters left out.
pub(crate) fn for_each_term(text: &str, mut found: impl FnMut(&str)) {
    let mut word = String::new();
    let mut was_lower = false;
    for c in text.chars().chain([' ']) {
        let hump = c.is_uppercase() && was_lower;
        if !c.is_alphanumeric() || hump {
            let term = stem(&word);
            if term.len() > 1 && !is_stop_word(&word) {
                found(term);
            }
            word.clear();
        }
        was_lower = c.is_lowercase();
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        } else if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
    }
}

/// A lower-case word without the endings of inflection.
fn stem(word: &str) -> &str {
    let root = |ending: &str, keep: usize| {
        let root = word.strip_suffix(ending)?;
        (root.len() >= keep).then_some(root)
    };
    let without = root("ings", 4)
        .or_else(|| root("ing", 4))
        .or_else(|| root("sses", 2).map(|root| &word[..root.len() + 2]))
        .or_else(|| root("ies", 3))
        .or_else(|| root("es", 4))
        .or_else(|| root("ed", 4))
        .or_else(|| {
            word.strip_suffix('s')
                .filter(|root| root.len() >= 3 && !root.ends_with(['s', 'u', 'i']))
        })
        .unwrap_or(word);
    match without.strip_suffix(['e', 'y']) {
        Some(root) if root.len() >= 4 => root,
        _ => without,
    }
}

fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        for_each_term(text, |term| found.push(term.to_owned()));
        found
    }

    #[test]
    fn terms_are_stems_of_words_and_parts_of_identifiers() {
        let shown = terms("The learning_rate of trainedModels is computed; losses: LossFn(x2)");
        assert_eq!(
            shown,
            ["learn", "rate", "train", "model", "comput", "loss", "loss", "fn", "x2"]
        );
        assert_eq!(terms("compute computes computing"), ["comput", "comput", "comput"]);
    }

    #[test]
    fn stop_words_are_found() {
        assert!(STOP_WORDS.is_sorted());
        assert_eq!(terms("About the CODE, as written"), [""; 0]);
    }
}
