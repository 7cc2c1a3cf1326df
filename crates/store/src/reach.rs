//! Which blobs a stored document names.
//!
//! Owns finding hashes in bytes, and following them through a store's documents. A document names a blob by its hash in hex digits, whatever its
//! format; text that merely looks like a hash keeps a blob that could go, never the other way.

use std::collections::HashSet;

use tribunal_core::BlobHash;

use crate::{blob::blocking, error::StoreError, record};

/// Hex digits of a hash.
const DIGITS: usize = 64;

/// Verdicts that are looked into at once.
const RECORDS: i64 = 1_000;

/// Where a verdict stands in the tables: the run's number, position, sample.
pub(crate) type RecordKey = (i64, i64, i64);

/// What a store holds that may name blobs. Nobody puts blobs meanwhile, or it is seen afterwards.
pub(crate) trait Documents {
    /// What errors call the store.
    fn name(&self) -> &str;

    /// The hashes of all blobs.
    async fn blobs(&self) -> Result<HashSet<BlobHash>, StoreError>;

    /// The blobs that runs name themselves.
    async fn specs(&self) -> Result<Vec<BlobHash>, StoreError>;

    /// Compressed verdicts of all runs in order of their keys, from the first one after a key.
    async fn records(
        &self,
        after: RecordKey,
        limit: i64,
    ) -> Result<Vec<(RecordKey, Vec<u8>)>, StoreError>;

    /// A blob's compressed bytes.
    async fn content(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, StoreError>;
}

/// The blobs that no run names, directly or by what it names.
pub(crate) async fn unneeded(documents: &impl Documents) -> Result<Vec<BlobHash>, StoreError> {
    let mut reach = Reach::new(documents.blobs().await?);
    documents.specs().await?.into_iter().for_each(|spec| reach.mark(spec));
    let mut reach = follow(documents, reach).await?;
    // Verdicts say what their judge was shown. Only what is unmarked so far can depend on it.
    let mut after = (-1, -1, -1);
    while !reach.unmarked().is_empty() {
        let page = documents.records(after, RECORDS).await?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        let look = move || {
            for bytes in page.iter().filter_map(|(_, bytes)| record::decompress(bytes)) {
                reach.look_into(&bytes);
            }
            reach
        };
        reach = follow(documents, blocking(documents.name(), look).await?).await?;
    }
    Ok(reach.unmarked.into_iter().collect())
}

/// Looks into everything that is marked.
async fn follow(documents: &impl Documents, mut reach: Reach) -> Result<Reach, StoreError> {
    while let Some(hash) = reach.next() {
        let Some(content) = documents.content(hash).await? else { continue };
        let look = move || {
            if let Some(bytes) = record::decompress(&content) {
                reach.look_into(&bytes);
            }
            reach
        };
        reach = blocking(documents.name(), look).await?;
    }
    Ok(reach)
}

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
