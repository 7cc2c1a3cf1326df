//! Blobs as callers put them.
//!
//! Owns writing those that are not there, and telling others that blobs are being
//! put for a run that is not created yet.

use std::sync::atomic::Ordering;

use tribunal_core::BlobHash;

use super::{PostgresStore, call::call, read, run};
use crate::{blob::NewBlobs, error::StoreError};

// === impl PostgresStore ===

impl PostgresStore {
    /// Puts blobs where they are not yet; their hashes.
    pub(super) async fn put(&self, blobs: Vec<Vec<u8>>) -> Result<Vec<BlobHash>, StoreError> {
        let mut blobs = NewBlobs::of(blobs, &self.name).await?;
        self.begin_puts().await?;
        blobs.know(call!(self, conn => read::known_blobs(conn, blobs.hashes()))?);
        while let Some(page) = blobs.next(&self.name).await? {
            call!(self, conn => run::put_blobs(conn, &page))?;
        }
        Ok(blobs.hashes().to_vec())
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
}
