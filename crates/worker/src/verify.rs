//! Whether a judge's quotes stand in what it was shown.
//!
//! Owns the comparison: white space is folded, an ellipsis may leave something out, nothing else
//! is forgiven. It changes no score.

use std::collections::BTreeMap;

use tribunal_core::verdict::Quote;
use tribunal_evidence::{Evidence, ShownFile};

/// Shorter quotes prove nothing.
const SHORTEST: usize = 3;

/// The texts that a category's judge was shown, white space folded, by path.
#[derive(Debug, Default)]
pub struct ShownTexts(BTreeMap<String, String>);

// === impl ShownTexts ===

impl ShownTexts {
    /// The files, script, log and paper of the evidence.
    pub fn new(evidence: &Evidence) -> Self {
        let mut texts = BTreeMap::new();
        let mut add = |path: &str, text: &str| drop(texts.insert(path.to_owned(), folded(text)));
        for (path, text) in [
            ("reproduce.sh", &evidence.script),
            ("reproduce.log", &evidence.log),
            ("paper", &evidence.paper),
        ] {
            if let Some(text) = text {
                add(path, text);
            }
        }
        for file in &evidence.files {
            add(&file.path, &file.text);
        }
        Self(texts)
    }

    /// The files that a leaf is shown beside what all leaves are.
    pub fn of_files(files: &[ShownFile]) -> Self {
        Self(files.iter().map(|file| (file.path.clone(), folded(&file.text))).collect())
    }

    /// Marks each quote as standing in its file or not. `own` is what the leaf alone is shown.
    pub fn verify(&self, own: Option<&ShownTexts>, quotes: &mut [Quote]) {
        for quote in quotes {
            let in_own = own.is_some_and(|own| own.contains(quote));
            quote.verified = Some(in_own || self.contains(quote));
        }
    }

    fn contains(&self, quote: &Quote) -> bool {
        let Some(text) = self.text(&quote.file) else { return false };
        let quoted = folded(&quote.quote.replace("...", "…"));
        let mut rest = text;
        let mut length = 0;
        for part in quoted.split('…').map(str::trim).filter(|part| !part.is_empty()) {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
            length += part.chars().count();
        }
        length >= SHORTEST
    }

    /// The text of the path, as judges write paths.
    fn text(&self, path: &str) -> Option<&str> {
        let path = path.trim().trim_matches('`');
        let path = path.strip_prefix("./").unwrap_or(path);
        let path = path.strip_prefix("submission/").unwrap_or(path);
        self.0.get(path).map(String::as_str)
    }
}

fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(word);
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_stand_in_their_file_or_do_not() {
        let text = "def train(model):\n    for epoch in range(10):\n        step(model)\n";
        let shown = ShownTexts(BTreeMap::from([("src/a.py".to_owned(), folded(text))]));
        let verified = |file: &str, quote: &str| {
            let mut quotes =
                [Quote { file: file.to_owned(), quote: quote.to_owned(), ..Quote::default() }];
            shown.verify(None, &mut quotes);
            quotes[0].verified
        };
        assert_eq!(verified("src/a.py", "for epoch in range(10):\n  step(model)"), Some(true));
        assert_eq!(verified("./src/a.py", "def train(model): ... step(model)"), Some(true));
        assert_eq!(verified("src/a.py", "for epoch in range(100):"), Some(false));
        assert_eq!(verified("src/b.py", "def train(model):"), Some(false));
        assert_eq!(verified("src/a.py", "step(model) … def train"), Some(false));
        assert_eq!(verified("src/a.py", "…"), Some(false));
        assert_eq!(verified("src/a.py", ""), Some(false));
        let own = ShownFile { path: "b.py".to_owned(), text: "y =  2\n".to_owned(), tokens: 3 };
        let mut quotes =
            [Quote { file: "b.py".to_owned(), quote: "y = 2".to_owned(), ..Quote::default() }];
        shown.verify(Some(&ShownTexts::of_files(&[own])), &mut quotes);
        assert_eq!(quotes[0].verified, Some(true), "what the leaf alone is shown");
    }
}
