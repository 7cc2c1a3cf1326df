//! What worker processes say of themselves, in the tables.
//!
//! Owns the statements; joining and leaving are `lease`'s.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use tribunal_core::WorkerId;

use super::{
    SqliteStore,
    request::{Answer, Request},
};
use crate::{
    error::StoreError,
    fleet::{self, Fleet, WorkerRecord, length},
};

/// What is said by or to a worker.
#[derive(Clone, Copy)]
pub(super) enum Word {
    /// It lives, and has stored so many verdicts.
    Report { worker: WorkerId, done: u64 },
    /// It is to take no more.
    Drain { worker: WorkerId },
}

#[async_trait]
impl Fleet for SqliteStore {
    async fn report(&self, worker: WorkerId, done: u64) -> Result<bool, StoreError> {
        Ok(self.count(Request::Worker(Word::Report { worker, done })).await? > 0)
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>, StoreError> {
        let now = self.clock.now_ms();
        // Nobody else holds a lease: a table of tasks is not read for them.
        let rows = sqlx::query(
            "SELECT id, host, pid, version, joined_ms, seen_ms, done, draining, \
                 (SELECT count(*) FROM tasks INDEXED BY tasks_leased \
                  WHERE state = 2 AND worker = workers.id) \
             FROM workers ORDER BY joined_ms, id",
        )
        .fetch_all(&self.readers)
        .await;
        let records =
            rows.and_then(|rows| rows.iter().map(|row| fleet::worker(row, now)).collect());
        records.map_err(|e| self.error(e))
    }

    async fn drain(&self, worker: WorkerId) -> Result<bool, StoreError> {
        Ok(self.count(Request::Worker(Word::Drain { worker })).await? > 0)
    }
}

/// Writes it down; 1 for a worker that is to take no more, or that was told so.
pub(super) async fn apply(
    conn: &mut SqliteConnection,
    word: &Word,
    now: i64,
) -> Result<Answer, sqlx::Error> {
    let count = match word {
        Word::Report { worker, done } => {
            let draining: Option<i64> = sqlx::query_scalar(
                "UPDATE workers SET seen_ms = ?, done = ? WHERE id = ? RETURNING draining",
            )
            .bind(now)
            .bind(i64::try_from(*done).unwrap_or(i64::MAX))
            .bind(worker.as_bytes().to_vec())
            .fetch_optional(conn)
            .await?;
            length(draining.unwrap_or(0))
        }
        Word::Drain { worker } => {
            let told = sqlx::query("UPDATE workers SET draining = 1 WHERE id = ?")
                .bind(worker.as_bytes().to_vec())
                .execute(conn)
                .await?;
            told.rows_affected()
        }
    };
    Ok(Answer::Count(count))
}
