//! The compressed records of a store: verdicts and blobs.
//!
//! Owns their byte form, reading pages of them, and what makes a verdict unfit to be stored. It knows
//! no table.

use std::cell::RefCell;

use tribunal_core::{Outcome, UngradedReason, Verdict};
use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe,
};

use crate::{error::StoreError, store::StoredVerdict};

/// Fast, and within a few percent of the default level on text.
const LEVEL: i32 = 1;

/// The largest content that is taken to be real: SQLite's own limit for one value.
const MAX_BYTES: u64 = 1 << 30;

/// Bytes that most verdicts fit in.
const USUAL_BYTES: usize = 4 << 10;

/// Verdicts that are decoded between two chances for other tasks to run.
const DECODE_AT_ONCE: usize = 64;

/// A row of the page of verdicts.
pub(crate) struct VerdictRow {
    pub(crate) position: u32,
    pub(crate) sample: u32,
    /// The compressed verdict.
    pub(crate) record: Option<Vec<u8>>,
    /// Where there is none: why, and the last message.
    pub(crate) missing: (UngradedReason, String),
}

thread_local! {
    /// Kept, because making a compressor costs more than compressing a verdict.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    /// Kept for the same reason.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses one value.
pub(crate) fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(Compressor::new(LEVEL)?),
        };
        compressor.compress(bytes)
    })
}

/// A question or a reply as stored.
pub(crate) fn pack(bytes: &[u8], store: &str) -> Result<Vec<u8>, StoreError> {
    compress(bytes).map_err(|error| StoreError::Engine {
        store: store.to_owned(),
        reason: format!("a question or reply cannot be compressed: {error}"),
    })
}

/// What [`compress`] was given, or `None` when these bytes are not its result.
pub(crate) fn decompress(bytes: &[u8]) -> Option<Vec<u8>> {
    let size = zstd_safe::get_frame_content_size(bytes).ok()??;
    if size > MAX_BYTES {
        return None;
    }
    let capacity = usize::try_from(size).ok()?;
    let content = DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(Decompressor::new().ok()?),
        };
        decompressor.decompress(bytes, capacity).ok()
    })?;
    (content.len() as u64 == size).then_some(content)
}

/// The verdict as stored.
pub(crate) fn encode(verdict: &Verdict, store: &str) -> Result<Vec<u8>, StoreError> {
    let fail = |error: &dyn std::fmt::Display| StoreError::Engine {
        store: store.to_owned(),
        reason: format!(
            "the verdict of position {} sample {} cannot be stored: {error}",
            verdict.position, verdict.sample
        ),
    };
    let mut json = Vec::with_capacity(USUAL_BYTES);
    serde_json::to_writer(&mut json, verdict).map_err(|error| fail(&error))?;
    compress(&json).map_err(|error| fail(&error))
}

/// The verdict that was stored as these bytes.
pub(crate) fn decode(
    bytes: &[u8],
    position: u32,
    sample: u32,
    store: &str,
) -> Result<Verdict, StoreError> {
    let damaged = |reason: String| StoreError::Engine {
        store: store.to_owned(),
        reason: format!("the verdict of position {position} sample {sample} is damaged: {reason}"),
    };
    let json = decompress(bytes).ok_or_else(|| damaged("it is not a zstd frame".to_owned()))?;
    serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))
}

/// The verdicts of these rows.
pub(crate) async fn decode_all(
    rows: Vec<VerdictRow>,
    store: &str,
) -> Result<Vec<StoredVerdict>, StoreError> {
    let mut verdicts = Vec::with_capacity(rows.len());
    for (at, row) in rows.into_iter().enumerate() {
        if at % DECODE_AT_ONCE == DECODE_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        let VerdictRow { position, sample, record, missing } = row;
        let verdict = record.map(|bytes| decode(&bytes, position, sample, store)).transpose()?;
        let missing = verdict.is_none().then_some(missing);
        verdicts.push(StoredVerdict { position, sample, missing, verdict });
    }
    Ok(verdicts)
}

/// Refuses a score that is no score: a NaN would be stored as missing, and no reader could tell.
pub(crate) fn check(verdict: &Verdict, store: &str) -> Result<(), StoreError> {
    match verdict.outcome {
        Outcome::Graded { score } if !(0.0..=1.0).contains(&score) => Err(StoreError::Engine {
            store: store.to_owned(),
            reason: format!(
                "the verdict of position {} sample {} has the score {score}, outside [0, 1]; \
                 nothing was written",
                verdict.position, verdict.sample
            ),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_back() {
        for content in [Vec::new(), vec![7; 3], vec![0; 5 << 20]] {
            let packed = compress(&content).unwrap();
            assert_eq!(decompress(&packed), Some(content));
        }
    }

    #[test]
    fn damage_is_seen() {
        let packed = compress(b"a leaf, a verdict, a reason").unwrap();
        assert_eq!(decompress(&packed[..packed.len() - 1]), None);
        assert_eq!(decompress(b"not a frame"), None);
        assert_eq!(decompress(b""), None);
    }
}
