//! What worker processes say of themselves, in the tables.
//!
//! Owns the statements; joining and leaving are `worker`'s.

use async_trait::async_trait;
use sqlx::{PgConnection, Row};
use tribunal_core::WorkerId;

use super::{PostgresStore, call::call, schema::now};
use crate::{
    error::StoreError,
    fleet::{self, Fleet, WorkerRecord},
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
    rows.iter().map(|row| fleet::worker(row, row.try_get(9)?)).collect()
}

async fn drain(conn: &mut PgConnection, worker: WorkerId) -> Result<bool, sqlx::Error> {
    let told = sqlx::query("UPDATE workers SET draining = true WHERE id = $1")
        .bind(worker.as_bytes().to_vec())
        .execute(conn)
        .await?;
    Ok(told.rows_affected() > 0)
}
