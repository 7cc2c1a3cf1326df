//! Blobs as callers put them.
//!
//! Owns compressing them, writing those that are not there, and telling others that blobs are being
//! put for a run that is not created yet.

use std::{collections::HashSet, sync::atomic::Ordering};

use tribunal_core::BlobHash;

use super::{PostgresStore, call::call, read, run};
use crate::{error::StoreError, record};

/// Compressed bytes of blobs that are gathered before they are written.
const BLOBS_AT_ONCE: usize = 4 << 20;

// === impl PostgresStore ===

impl PostgresStore {
    /// Puts blobs where they are not yet; their hashes.
    pub(super) async fn put(&self, blobs: Vec<Vec<u8>>) -> Result<Vec<BlobHash>, StoreError> {
        let hash = move || {
            let hashes: Vec<BlobHash> = blobs.iter().map(|blob| BlobHash::of(blob)).collect();
            (hashes, blobs)
        };
        let (hashes, blobs) = self.blocking(hash).await?;
        self.begin_puts().await?;
        let known = call!(self, conn => read::known_blobs(conn, &hashes))?;
        let mut known: HashSet<BlobHash> = known.into_iter().collect();
        let mut new = Vec::new();
        let mut new_bytes = 0;
        for (&hash, bytes) in hashes.iter().zip(blobs) {
            if !known.insert(hash) {
                continue;
            }
            let blob = self.compress(hash, bytes).await?;
            new_bytes += blob.2.len();
            new.push(blob);
            if new_bytes >= BLOBS_AT_ONCE {
                new_bytes = 0;
                self.write_blobs(std::mem::take(&mut new)).await?;
            }
        }
        if !new.is_empty() {
            self.write_blobs(new).await?;
        }
        Ok(hashes)
    }

    /// Before it is looked which blobs are there: those must stay too.
    async fn begin_puts(&self) -> Result<(), StoreError> {
        if !self.putting.load(Ordering::SeqCst) {
            let (handle, now) = (self.handle, self.now());
            call!(self, conn => run::begin_puts(conn, handle, now))?;
            self.putting.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// All that was put is named by a run now, or never will be.
    pub(super) async fn end_puts(&self) -> Result<(), StoreError> {
        if self.putting.swap(false, Ordering::SeqCst) {
            let handle = self.handle;
            call!(self, conn => run::end_puts(conn, handle))?;
        }
        Ok(())
    }

    async fn write_blobs(&self, blobs: Vec<(BlobHash, u64, Vec<u8>)>) -> Result<(), StoreError> {
        call!(self, conn => run::put_blobs(conn, &blobs))
    }

    /// A blob as it is stored: hash, length before, compressed bytes.
    async fn compress(
        &self,
        hash: BlobHash,
        bytes: Vec<u8>,
    ) -> Result<(BlobHash, u64, Vec<u8>), StoreError> {
        let size = bytes.len() as u64;
        let content = self.blocking(move || record::compress(&bytes)).await?;
        let content = content.map_err(|error| StoreError::Engine {
            store: self.name.clone(),
            reason: format!("blob {hash} cannot be compressed: {error}"),
        })?;
        Ok((hash, size, content))
    }
}
