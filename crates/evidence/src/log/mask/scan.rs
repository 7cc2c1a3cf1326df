//! A place in a line, and looking ahead from it.

/// A place in a line.
pub(super) struct Scan<'l> {
    bytes: &'l [u8],
    at: usize,
}

/// Whether the byte belongs to words; so do all beyond ASCII, so that characters stay whole.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

// === impl Scan ===

impl<'l> Scan<'l> {
    pub(super) fn new(bytes: &'l [u8]) -> Self {
        Scan { bytes, at: 0 }
    }

    /// The byte here.
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The byte `by` bytes further on.
    pub(super) fn ahead(&self, by: usize) -> Option<u8> {
        self.bytes.get(self.at + by).copied()
    }

    /// The byte before this one.
    pub(super) fn before(&self) -> Option<u8> {
        self.bytes.get(self.at.checked_sub(1)?).copied()
    }

    /// Whether no word goes on here; a number's fraction is part of its word.
    pub(super) fn at_word_start(&self) -> bool {
        match self.before() {
            Some(b'.') => !self.bytes[..self.at - 1].last().is_some_and(u8::is_ascii_digit),
            Some(before) => !is_word(before),
            None => true,
        }
    }

    /// The ASCII letters, digits and underscores from here on.
    pub(super) fn word(&self) -> &'l [u8] {
        let length = self.run(0, |b| b.is_ascii_alphanumeric() || b == b'_');
        &self.bytes[self.at..self.at + length]
    }

    /// The bytes `from` bytes further on.
    pub(super) fn slice(&self, from: usize, length: usize) -> &'l [u8] {
        &self.bytes[self.at + from..self.at + from + length]
    }

    /// How many bytes, beginning `from` bytes further on, are of a kind.
    pub(super) fn run(&self, from: usize, is: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(self.at + from..).unwrap_or_default();
        rest.iter().position(|byte| !is(*byte)).unwrap_or(rest.len())
    }

    /// Goes on.
    pub(super) fn advance(&mut self, by: usize) {
        self.at += by;
    }

    /// Copies bytes and goes on behind them.
    pub(super) fn copy(&mut self, length: usize, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.bytes[self.at..self.at + length]);
        self.at += length;
    }
}
