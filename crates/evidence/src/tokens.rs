//! Counting and cutting in tokens.
//!
//! Owns the vocabularies. Counts are the model's own where its vocabulary is known; elsewhere they
//! are an estimate, which the caller must say.

use tiktoken::CoreBpe;

/// Counts tokens of text.
pub trait Tokenizer: Send + Sync {
    /// Number of tokens of the text, special tokens read as plain text.
    fn count(&self, text: &str) -> usize;

    /// The longest prefix of whole lines with at most `max` tokens; of whole characters where not
    /// even the first line fits.
    fn truncate<'t>(&self, text: &'t str, max: usize) -> &'t str;
}

/// One of the embedded vocabularies.
#[derive(Clone, Copy)]
pub struct Vocabulary(&'static CoreBpe);

/// The vocabulary that is used for models whose own is not known.
pub const DEFAULT_VOCABULARY: &str = "o200k_base";

/// Text counted at once. A pre-tokenised piece never crosses a line break that ends a block, so
/// the sum over blocks is off by at most a token each.
const BLOCK_BYTES: usize = 64 * 1024;

// === impl Vocabulary ===

impl Vocabulary {
    /// The vocabulary with this name, such as `o200k_base` or `cl100k_base`.
    pub fn named(name: &str) -> Option<Vocabulary> {
        tiktoken::get_encoding(name).map(Vocabulary)
    }
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vocabulary")
    }
}

impl Tokenizer for Vocabulary {
    fn count(&self, text: &str) -> usize {
        blocks(text).map(|block| self.0.count(block)).sum()
    }

    fn truncate<'t>(&self, text: &'t str, max: usize) -> &'t str {
        let mut left = max;
        let mut kept = 0;
        for block in blocks(text) {
            let tokens = self.0.count(block);
            if tokens <= left {
                left -= tokens;
                kept += block.len();
                continue;
            }
            kept += self.longest(block, left);
            break;
        }
        whole_lines(text, kept)
    }
}

impl Vocabulary {
    /// Bytes of the longest prefix of whole characters with at most `max` tokens.
    fn longest(&self, block: &str, max: usize) -> usize {
        let tokens = self.0.encode(block);
        let mut end = self.0.decode(&tokens[..max.min(tokens.len())]).len().min(block.len());
        while !block.is_char_boundary(end) {
            end -= 1;
        }
        // Cutting may change how the last word splits: the count of the prefix decides.
        while end > 0 && self.0.count(&block[..end]) > max {
            end -= 1;
            while !block.is_char_boundary(end) {
                end -= 1;
            }
        }
        end
    }
}

/// The text's prefix of `kept` bytes, shortened to its last line break if it has one.
fn whole_lines(text: &str, kept: usize) -> &str {
    if kept == text.len() {
        return text;
    }
    match text[..kept].rfind('\n') {
        Some(newline) => &text[..=newline],
        None => &text[..kept],
    }
}

/// Consecutive blocks of about [`BLOCK_BYTES`], ending at a line break where there is one.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(BLOCK_BYTES);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        if end < rest.len()
            && let Some(newline) = rest.as_bytes()[..end].iter().rposition(|b| *b == b'\n')
        {
            end = newline + 1;
        }
        let (block, after) = rest.split_at(end);
        rest = after;
        Some(block)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vocabulary() -> Vocabulary {
        Vocabulary::named(DEFAULT_VOCABULARY).expect("embedded")
    }

    #[test]
    fn a_megabyte_of_white_space_is_counted() {
        let text = " ".repeat(1 << 20);
        assert!(vocabulary().count(&text) > 0);
        assert!(vocabulary().count(vocabulary().truncate(&text, 10)) <= 10);
    }

    proptest! {
        #[test]
        fn truncation_never_exceeds_the_budget(text in "(\\PC|\n){0,400}", max in 0usize..60) {
            let kept = vocabulary().truncate(&text, max);
            prop_assert!(text.starts_with(kept));
            prop_assert!(vocabulary().count(kept) <= max);
            if vocabulary().count(&text) <= max {
                prop_assert_eq!(kept, text.as_str());
            }
        }
    }
}
