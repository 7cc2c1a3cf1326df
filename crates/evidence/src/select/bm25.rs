//! BM25.
//!
//! Owns the words of texts and the weights of Robertson & Zaragoza, "The Probabilistic Relevance
//! Framework: BM25 and Beyond" (2009), with the inverse document frequency that is never negative.
//! What is scored is called a text here; elsewhere it is a chunk of a file.

use std::collections::HashMap;

/// How fast further occurrences of a word lose weight.
pub const K1: f64 = 1.2;

/// How much a text's length counts.
pub const B: f64 = 0.75;

/// Words that say nothing about a text.
const STOP_WORDS: [&str; 58] = [
    "a", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been", "both", "but", "by",
    "can", "do", "does", "each", "for", "from", "has", "have", "if", "in", "into", "is", "it",
    "its", "may", "more", "must", "not", "of", "on", "only", "or", "our", "should", "so", "such",
    "than", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "we",
    "were", "when", "which", "will", "with", "would",
];

/// Bytes of the longest word; longer ones are data.
const WORD_MAX: usize = 40;

/// The words of a number of texts.
#[derive(Debug, Default)]
pub struct Bm25 {
    /// For each word the texts that have it, with how often.
    postings: HashMap<Box<str>, Vec<(u32, u32)>>,
    /// Words in each text.
    lengths: Vec<u32>,
    mean_length: f64,
}

// === impl Bm25 ===

impl Bm25 {
    /// Adds the next text.
    pub fn add(&mut self, text: &str) {
        // More texts than fit are more than fit into memory.
        let number = u32::try_from(self.lengths.len()).unwrap_or(u32::MAX);
        let mut length = 0;
        each_term(text, |term| {
            length += 1;
            match self.postings.get_mut(term) {
                Some(list) => match list.last_mut() {
                    Some((last, count)) if *last == number => *count += 1,
                    _ => list.push((number, 1)),
                },
                None => {
                    self.postings.insert(term.into(), vec![(number, 1)]);
                }
            }
        });
        self.lengths.push(length);
    }

    /// Says that all texts are there.
    pub fn finish(&mut self) {
        let total: f64 = self.lengths.iter().map(|length| f64::from(*length)).sum();
        self.mean_length = total / (self.lengths.len().max(1) as f64);
    }

    /// The inverse document frequency of a word as [`terms`] gives it; that of a word in no text is
    /// the highest.
    pub fn weight(&self, term: &str) -> f64 {
        let texts = self.lengths.len() as f64;
        let having = self.postings.get(term).map_or(0.0, |list| list.len() as f64);
        (1.0 + (texts - having + 0.5) / (having + 0.5)).ln()
    }

    /// The score of each text for the query, by number; 0 where they share no word.
    pub fn scores(&self, query: &str) -> Vec<f64> {
        let mut scores = vec![0.0; self.lengths.len()];
        for term in terms(query) {
            let weight = self.weight(&term);
            for (text, count) in self.postings.get(term.as_str()).into_iter().flatten() {
                let text = *text as usize;
                let length = f64::from(self.lengths[text]) / self.mean_length.max(1.0);
                let count = f64::from(*count);
                scores[text] += weight * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length));
            }
        }
        scores
    }
}

/// The words of a text, each once, in order: the parts of identifiers in lower case and without
/// their endings, without stop words.
pub fn terms(text: &str) -> Vec<String> {
    let mut terms: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    each_term(text, |term| {
        if seen.insert(term.to_owned()) {
            terms.push(term.to_owned());
        }
    });
    terms
}

/// Gives every word, `snake_case` and `camelCase` taken apart.
fn each_term(text: &str, mut give: impl FnMut(&str)) {
    let mut word = String::new();
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    let mut end = |word: &mut String| {
        if (1..=WORD_MAX).contains(&word.len()) && !STOP_WORDS.contains(&word.as_str()) {
            stem(word);
            give(word);
        }
        word.clear();
    };
    while let Some(c) = chars.next() {
        if !c.is_alphanumeric() {
            end(&mut word);
            before = c;
            continue;
        }
        let next_is_lower = chars.peek().is_some_and(|next| next.is_lowercase());
        let begins = before.is_alphanumeric()
            && (c.is_numeric() != before.is_numeric()
                || (c.is_uppercase() && (!before.is_uppercase() || next_is_lower))
                || is_ideograph(c)
                || is_ideograph(before));
        if begins {
            end(&mut word);
        }
        if word.len() <= WORD_MAX {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    end(&mut word);
}

/// Scripts that do not separate words: each of their characters is one.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// Takes off the endings of plurals and verbs, so that `training`, `trained` and `trains` are one.
fn stem(word: &mut String) {
    if !word.is_ascii() || word.len() < 4 || word.as_bytes()[0].is_ascii_digit() {
        return;
    }
    if word.ends_with("ies") && word.len() > 4 {
        word.truncate(word.len() - 3);
        word.push('y');
    } else if word.ends_with("sses") {
        word.truncate(word.len() - 2);
    } else if word.ends_with('s') && !word.ends_with("ss") && !word.ends_with("us") {
        word.truncate(word.len() - 1);
    }
    for ending in ["ing", "ed"] {
        let Some(rest) = word.strip_suffix(ending).map(str::len) else { continue };
        let has_vowel = word[..rest].contains(['a', 'e', 'i', 'o', 'u', 'y']);
        if rest >= 3 && has_vowel {
            word.truncate(rest);
            let bytes = word.as_bytes();
            let doubled = bytes[rest - 1] == bytes[rest - 2];
            if doubled && !matches!(bytes[rest - 1], b'l' | b's' | b'z') {
                word.truncate(rest - 1);
            }
            break;
        }
    }
    if word.len() > 4 && word.ends_with('e') {
        word.truncate(word.len() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_taken_apart() {
        assert_eq!(terms("crossEntropyLoss"), ["cross", "entropy", "loss"]);
        assert_eq!(terms("load_HTTPServer2"), ["load", "http", "server", "2"]);
        assert_eq!(terms("The ResNet-50 is on the GPU"), ["res", "net", "50", "gpu"]);
        assert_eq!(terms("学习 rate"), ["学", "习", "rate"]);
        assert_eq!(terms(&"x".repeat(100)), Vec::<String>::new());
    }

    #[test]
    fn endings_are_taken_off() {
        for words in [
            ["training", "trained", "trains"],
            ["computing", "computed", "computes"],
            ["running", "run", "runs"],
            ["queries", "query", "querying"],
            ["classes", "class", "class"],
            ["batches", "batche", "batching"],
        ] {
            let stems: Vec<String> = words.iter().flat_map(|word| terms(word)).collect();
            assert!(stems.iter().all(|stem| *stem == stems[0]), "{words:?}: {stems:?}");
        }
    }

    #[test]
    fn scores_are_those_of_the_formula() {
        let mut words = Bm25::default();
        for text in ["alpha beta beta", "beta gamma", "delta"] {
            words.add(text);
        }
        words.finish();
        let scores = words.scores("alpha beta");
        // Lengths 3, 2, 1 with mean 2; alpha is in 1 of 3 texts, beta in 2.
        let (alpha, beta) = ((1.0 + 2.5 / 1.5_f64).ln(), (1.0 + 1.5 / 2.5_f64).ln());
        let first = alpha * 2.2 / (1.0 + 1.2 * (0.25 + 0.75 * 1.5))
            + beta * 2.0 * 2.2 / (2.0 + 1.2 * (0.25 + 0.75 * 1.5));
        let second = beta * 2.2 / (1.0 + 1.2);
        assert!((scores[0] - first).abs() < 1e-12, "{scores:?}");
        assert!((scores[1] - second).abs() < 1e-12, "{scores:?}");
        assert_eq!(scores[2], 0.0);
        assert_eq!(Bm25::default().scores("alpha"), Vec::<f64>::new());
    }
}
