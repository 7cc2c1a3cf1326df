//! Counting and cutting in tokens.
//!
//! Owns the vocabularies, and what was counted with them. Counts are the model's own where its
//! vocabulary is known; elsewhere they are an estimate, which the caller must say.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
};

use rayon::prelude::*;
use tiktoken::CoreBpe;
use tribunal_core::BlobHash;

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

/// Counts with a vocabulary that is unpacked when first needed, and remembers the counts of long
/// texts.
#[derive(Debug)]
pub struct Counter {
    name: String,
    vocabulary: OnceLock<Option<Vocabulary>>,
    counts: Mutex<Counts>,
}

/// Tokens by the texts' hashes.
#[derive(Debug, Default)]
struct Counts {
    known: BTreeMap<BlobHash, u64>,
    /// Those that nobody has told of.
    learnt: Vec<(BlobHash, u64)>,
}

/// Bytes from which on a text's count is remembered: counting less is faster than looking it up.
const REMEMBERED_BYTES: usize = 1024;

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

    /// Begins to unpack the vocabulary of this name on a thread of its own: that takes a tenth of a
    /// second, which whoever counts first would wait for. The memory that it takes for a moment stays
    /// with that thread: it is for commands that are in a hurry, not for those that run all night.
    pub fn unpack(name: &str) {
        let name = name.to_owned();
        // Should there be no thread to have, who counts first unpacks it.
        let _ = thread::Builder::new().spawn(move || Vocabulary::named(&name));
    }
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vocabulary")
    }
}

impl Tokenizer for Vocabulary {
    fn count(&self, text: &str) -> usize {
        if text.len() <= BLOCK_BYTES {
            return self.0.count(text);
        }
        let blocks: Vec<&str> = blocks(text).collect();
        blocks.par_iter().map(|block| self.0.count(block)).sum()
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

// === impl Counter ===

impl Counter {
    /// A counter with the vocabulary of this name, or the default where there is none.
    pub fn new(name: &str) -> Counter {
        Counter { name: name.to_owned(), vocabulary: OnceLock::new(), counts: Mutex::default() }
    }

    /// The name that counts are remembered under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts without remembering: for texts that nobody counts again.
    pub fn count_once(&self, text: &str) -> usize {
        // Without any vocabulary no text has more tokens than bytes.
        self.vocabulary().map_or(text.len(), |vocabulary| vocabulary.count(text))
    }

    /// Which of these texts would be counted anew, by their hashes.
    pub fn unknown(&self, texts: &[&str]) -> Vec<BlobHash> {
        let long = texts.iter().filter(|text| text.len() >= REMEMBERED_BYTES);
        let hashes = long.map(|text| BlobHash::of(text.as_bytes()));
        let counts = self.counts();
        hashes.filter(|hash| !counts.known.contains_key(hash)).collect()
    }

    /// Takes over counts of this vocabulary that were made before.
    pub fn know(&self, counts: impl IntoIterator<Item = (BlobHash, u64)>) {
        self.counts().known.extend(counts);
    }

    /// The counts that were made since the last time.
    pub fn take_learnt(&self) -> Vec<(BlobHash, u64)> {
        std::mem::take(&mut self.counts().learnt)
    }

    fn vocabulary(&self) -> Option<Vocabulary> {
        let named =
            || Vocabulary::named(&self.name).or_else(|| Vocabulary::named(DEFAULT_VOCABULARY));
        *self.vocabulary.get_or_init(named)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // A panic under it leaves whole entries.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tokenizer for Counter {
    fn count(&self, text: &str) -> usize {
        if text.len() < REMEMBERED_BYTES {
            return self.count_once(text);
        }
        let hash = BlobHash::of(text.as_bytes());
        let known = self.counts().known.get(&hash).copied();
        // A count from elsewhere that cannot be is none.
        if let Some(tokens) = known.and_then(|tokens| usize::try_from(tokens).ok()) {
            return tokens;
        }
        let tokens = self.count_once(text);
        let mut counts = self.counts();
        counts.known.insert(hash, tokens as u64);
        counts.learnt.push((hash, tokens as u64));
        tokens
    }

    fn truncate<'t>(&self, text: &'t str, max: usize) -> &'t str {
        match self.vocabulary() {
            Some(vocabulary) => vocabulary.truncate(text, max),
            None => whole_lines(text, text.floor_char_boundary(max)),
        }
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
    fn a_long_text_is_counted_once_and_never_where_its_count_is_known() {
        let counter = Counter::new(DEFAULT_VOCABULARY);
        let (short, long) = ("a few words", "a few words ".repeat(200));
        let tokens = vocabulary().count(&long);
        assert_eq!(counter.unknown(&[short, &long]), [BlobHash::of(long.as_bytes())]);
        assert_eq!((counter.count(short), counter.count(&long)), (3, tokens));
        let learnt = counter.take_learnt();
        assert_eq!(learnt, [(BlobHash::of(long.as_bytes()), tokens as u64)]);
        assert_eq!((counter.count(&long), counter.take_learnt()), (tokens, vec![]));
        assert!(counter.unknown(&[&long]).is_empty());

        let told = Counter::new(DEFAULT_VOCABULARY);
        told.know([(BlobHash::of(long.as_bytes()), 7)]);
        assert_eq!(told.count(&long), 7, "what is known is not counted");
        assert_eq!(Counter::new("no such vocabulary").count(&long), tokens);
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
