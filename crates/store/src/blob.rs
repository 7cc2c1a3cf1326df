//! Blobs between callers and tables: hashed and compressed on the way in, checked on the way out.
//!
//! Owns what is done to their bytes, on threads where it holds nobody up. Engines write and read.

use std::{collections::HashSet, sync::Arc};

use tribunal_core::BlobHash;

use crate::{error::StoreError, record};

/// Compressed bytes of blobs that are gathered before they are written.
const BLOBS_AT_ONCE: usize = 4 << 20;

/// A blob as it is stored.
pub(crate) struct PackedBlob {
    pub(crate) hash: BlobHash,
    /// Bytes before compression.
    pub(crate) size: u64,
    pub(crate) content: Vec<u8>,
}

/// Blobs that were hashed, and wait for being compressed and written.
pub(crate) struct NewBlobs {
    hashes: Vec<BlobHash>,
    left: std::vec::IntoIter<(BlobHash, Vec<u8>)>,
    /// Those that are there, or were given out.
    known: HashSet<BlobHash>,
}

// === impl NewBlobs ===

impl NewBlobs {
    /// Hashes these blobs.
    pub(crate) async fn of(blobs: Vec<Vec<u8>>, store: &str) -> Result<NewBlobs, StoreError> {
        let hashed = blocking(store, move || {
            let hash = |blob: Vec<u8>| (BlobHash::of(&blob), blob);
            blobs.into_iter().map(hash).collect::<Vec<_>>()
        });
        let hashed = hashed.await?;
        let hashes = hashed.iter().map(|(hash, _)| *hash).collect();
        Ok(NewBlobs { hashes, left: hashed.into_iter(), known: HashSet::new() })
    }

    /// The hashes of all, in the order given.
    pub(crate) fn hashes(&self) -> &[BlobHash] {
        &self.hashes
    }

    /// These need not be written.
    pub(crate) fn know(&mut self, known: impl IntoIterator<Item = BlobHash>) {
        self.known.extend(known);
    }

    /// The next blobs to write at once; `None` after the last.
    pub(crate) async fn next(
        &mut self,
        store: &str,
    ) -> Result<Option<Vec<PackedBlob>>, StoreError> {
        let mut page = Vec::new();
        let mut bytes = 0;
        while bytes < BLOBS_AT_ONCE
            && let Some((hash, blob)) = self.left.next()
        {
            if self.known.insert(hash) {
                let blob = pack(hash, blob, store).await?;
                bytes += blob.content.len();
                page.push(blob);
            }
        }
        Ok((!page.is_empty()).then_some(page))
    }
}

async fn pack(hash: BlobHash, bytes: Vec<u8>, store: &str) -> Result<PackedBlob, StoreError> {
    let size = bytes.len() as u64;
    let content = blocking(store, move || record::compress(&bytes)).await?;
    let content = content.map_err(|error| StoreError::Engine {
        store: store.to_owned(),
        reason: format!("blob {hash} cannot be compressed: {error}"),
    })?;
    Ok(PackedBlob { hash, size, content })
}

/// The blob with this hash, of what the tables have for it: compressed bytes and the length before.
pub(crate) async fn unpack(
    hash: BlobHash,
    stored: Option<(Vec<u8>, u64)>,
    store: &str,
) -> Result<Arc<[u8]>, StoreError> {
    let fail = |what| StoreError::Blob { hash: hash.to_string(), what };
    let (content, size) = stored.ok_or_else(|| fail("missing"))?;
    let bytes = blocking(store, move || {
        let bytes = record::decompress(&content)?;
        let sound = bytes.len() as u64 == size && BlobHash::of(&bytes) == hash;
        sound.then(|| Arc::from(bytes))
    });
    bytes.await?.ok_or_else(|| fail("damaged"))
}

/// Runs work that would hold up other tasks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    store: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::Engine { store: store.to_owned(), reason: error.to_string() })
}
