//! What worker processes say of themselves, in the tables.
//!
//! Owns the statements; joining and leaving are `worker`'s.

use async_trait::async_trait;
use sqlx::{PgConnection, Row, postgres::PgRow};
use tribunal_core::WorkerId;

use super::{
    PostgresStore,
    call::{call, number},
    schema::now,
};
use crate::{
    error::StoreError,
    fleet::{Fleet, WorkerRecord, length},
    row::damaged,
};

#[async_trait]
impl Fleet for PostgresStore {
    async fn report(&self, worker: WorkerId, done: u64) -> Result<bool, StoreError> {
        let now = self.now();
        call!(self, conn => report(conn, worker, done, now))
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>, StoreError> {
        let now = self.now();
        call!(self, conn => workers(conn, now))
    }

    async fn drain(&self, worker: WorkerId) -> Result<bool, StoreError> {
        call!(self, conn => drain(conn, worker))
    }
}

async fn report(
    conn: &mut PgConnection,
    worker: WorkerId,
    done: u64,
    now: Option<i64>,
) -> Result<bool, sqlx::Error> {
    let draining = sqlx::query_scalar(concat!(
        "UPDATE workers SET seen_ms = ",
        now!(),
        ", done = $3 WHERE id = $2 RETURNING draining"
    ))
    .bind(now)
    .bind(worker.as_bytes().to_vec())
    .bind(i64::try_from(done).unwrap_or(i64::MAX))
    .fetch_optional(conn)
    .await?;
    Ok(draining.unwrap_or(false))
}

async fn workers(
    conn: &mut PgConnection,
    now: Option<i64>,
) -> Result<Vec<WorkerRecord>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "WITH held AS (SELECT worker, count(*) AS leases FROM tasks WHERE state = 2 GROUP BY worker) \
         SELECT w.id, w.host, w.pid, w.version, w.joined_ms, w.seen_ms, w.done, w.draining, \
             coalesce(h.leases, 0), ",
        now!(),
        " FROM workers w LEFT JOIN held h ON h.worker = w.id ORDER BY w.joined_ms, w.id"
    ))
    .bind(now)
    .fetch_all(conn)
    .await?;
    rows.iter().map(record).collect()
}

fn record(row: &PgRow) -> Result<WorkerRecord, sqlx::Error> {
    let (joined, seen, now): (i64, i64, i64) = (row.try_get(4)?, row.try_get(5)?, row.try_get(9)?);
    Ok(WorkerRecord {
        id: WorkerId::from_slice(row.try_get(0)?).ok_or_else(|| damaged("worker"))?,
        host: row.try_get(1)?,
        pid: row.try_get(2)?,
        version: row.try_get(3)?,
        joined_ms: joined,
        silent_ms: length(now - seen),
        worked_ms: length(seen - joined),
        in_flight: number(row, 8)?,
        done: number(row, 6)?,
        draining: row.try_get(7)?,
    })
}

async fn drain(conn: &mut PgConnection, worker: WorkerId) -> Result<bool, sqlx::Error> {
    let told = sqlx::query("UPDATE workers SET draining = true WHERE id = $1")
        .bind(worker.as_bytes().to_vec())
        .execute(conn)
        .await?;
    Ok(told.rows_affected() > 0)
}
