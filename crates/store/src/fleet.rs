//! The worker processes of a store: who they are, how they do, and who is to end.
//!
//! Owns the nouns, and the part of the store's contract that is about them. What becomes of a dead
//! worker's leases is `join`'s and `reap`'s, not decided here.

use async_trait::async_trait;
use sqlx::{ColumnIndex, Decode, Row, Type};
use tribunal_core::WorkerId;

use crate::{error::StoreError, row::damaged};

/// How long a worker that says nothing is still listed, milliseconds: a day.
pub(crate) const LISTED_MS: i64 = 86_400_000;

/// A worker that has joined and has not left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRecord {
    /// Its id.
    pub id: WorkerId,
    /// The name of its machine; empty where it did not say.
    pub host: String,
    /// Its process there.
    pub pid: i64,
    /// The version of its tribunal; empty where it did not say.
    pub version: String,
    /// When it joined, milliseconds since the Unix epoch.
    pub joined_ms: i64,
    /// Since when it has said nothing, in milliseconds.
    pub silent_ms: u64,
    /// Milliseconds from its joining to its last word.
    pub worked_ms: u64,
    /// Leases that it holds.
    pub in_flight: u64,
    /// Verdicts that it has stored, by its last word.
    pub done: u64,
    /// Whether it is to finish what it holds and take no more.
    pub draining: bool,
}

/// The part of [`Store`](crate::Store) that is about worker processes; its contract holds here too.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Tells that a worker that has joined is alive and has stored so many verdicts; hears whether it
    /// is to finish what it holds and take no more. A worker that has not joined is passed over.
    async fn report(&self, worker: WorkerId, done: u64) -> Result<bool, StoreError>;

    /// The workers that have joined and not left, in the order in which they joined. One that has
    /// said nothing for a day is forgotten with the next that joins.
    async fn workers(&self) -> Result<Vec<WorkerRecord>, StoreError>;

    /// Tells a worker to finish what it holds and take no more; it hears of it when it reports. Returns
    /// whether there is one. Idempotent.
    async fn drain(&self, worker: WorkerId) -> Result<bool, StoreError>;
}

/// A worker's row at this time of the store: id, host, pid, version, joined, last word, verdicts,
/// draining, leases.
pub(crate) fn worker<'r, R: Row>(row: &'r R, now: i64) -> Result<WorkerRecord, sqlx::Error>
where
    usize: ColumnIndex<R>,
    &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    bool: Decode<'r, R::Database> + Type<R::Database>,
{
    let (joined, seen): (i64, i64) = (row.try_get(4)?, row.try_get(5)?);
    Ok(WorkerRecord {
        id: WorkerId::from_slice(row.try_get(0)?).ok_or_else(|| damaged("worker"))?,
        host: row.try_get(1)?,
        pid: row.try_get(2)?,
        version: row.try_get(3)?,
        joined_ms: joined,
        silent_ms: length(now - seen),
        worked_ms: length(seen - joined),
        in_flight: length(row.try_get(8)?),
        done: length(row.try_get(6)?),
        draining: row.try_get(7)?,
    })
}

/// A time that may have been stepped over, as a length.
pub(crate) fn length(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}
