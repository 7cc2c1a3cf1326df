//! Which blobs a stored document names.
//!
//! Owns finding hashes in bytes. A document names a blob by its hash in hex digits, whatever its
//! format; text that merely looks like a hash keeps a blob that could go, never the other way.

use std::collections::HashSet;

use tribunal_core::BlobHash;

/// Hex digits of a hash.
const DIGITS: usize = 64;

/// Blobs of a store, and which of them are needed.
pub(crate) struct Reach {
    /// Not known to be needed.
    unmarked: HashSet<BlobHash>,
    /// Needed, and not looked into yet.
    open: Vec<BlobHash>,
}

// === impl Reach ===

impl Reach {
    /// Of these blobs none is needed, as far as is known.
    pub(crate) fn new(blobs: HashSet<BlobHash>) -> Self {
        Self { unmarked: blobs, open: Vec::new() }
    }

    /// A blob that is needed.
    pub(crate) fn mark(&mut self, hash: BlobHash) {
        if self.unmarked.remove(&hash) {
            self.open.push(hash);
        }
    }

    /// A document that is needed: all that it names is too.
    pub(crate) fn look_into(&mut self, document: &[u8]) {
        named(document).for_each(|hash| self.mark(hash));
    }

    /// The next blob to look into.
    pub(crate) fn next(&mut self) -> Option<BlobHash> {
        self.open.pop()
    }

    /// The blobs that nothing names.
    pub(crate) fn unmarked(&self) -> &HashSet<BlobHash> {
        &self.unmarked
    }
}

/// Every hash that stands in these bytes by itself.
fn named(bytes: &[u8]) -> impl Iterator<Item = BlobHash> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let words = bytes.split(move |byte| !is_digit(byte)).filter(|word| word.len() == DIGITS);
    words.filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_found_in_any_text() {
        let (a, b) = (BlobHash::of(b"a"), BlobHash::of(b"b"));
        let text =
            format!("{{\"hash\": \"{a}\", \"files\": [[\"{b}\",1]]}} {a}0 {}", "é".repeat(64));
        assert_eq!(named(text.as_bytes()).collect::<Vec<_>>(), [a, b]);
        let mut reach = Reach::new([a, b].into());
        reach.mark(a);
        assert_eq!((reach.next(), reach.next()), (Some(a), None));
        assert_eq!(reach.unmarked(), &HashSet::from([b]));
    }
}
