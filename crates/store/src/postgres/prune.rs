//! Removing runs and what nobody needs.
//!
//! Owns doing it in short steps, so that workers are not held up: first the run is nobody's, then
//! its rows go, then the blobs that no run needs, and last the room is given back. An
//! interruption leaves what the next prune removes.

use std::collections::HashSet;

use rand::RngExt;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tribunal_core::{BlobHash, RunId};

use super::{
    PostgresStore,
    call::{call, call_run},
    lease, read,
    schema::{BEGIN_BLOBS, BEGIN_CONTROL, POSTED, now},
};
use crate::{
    error::StoreError,
    reach::{self, Documents, RecordKey},
    store::Pruned,
};

/// Rows or blobs removed in one transaction, at most.
const ROWS: usize = 2_000;

/// How long blobs may have been put before their run is created. Who takes longer has died.
const PUTTING_MS: i64 = 3_600_000;

/// The tables that shrink.
const TABLES: [&str; 5] = ["tasks", "verdicts", "attempts", "blobs", "token_counts"];

// === impl PostgresStore ===

impl PostgresStore {
    /// Removes the run and whatever nobody needs.
    pub(super) async fn remove(&self, run: &RunId) -> Result<Pruned, StoreError> {
        let before = call!(self, conn => bytes(conn))?;
        let now = self.now();
        let leases = call_run!(self, run, conn, seq => disown(conn, seq, now))?;
        if leases > 0 {
            return Err(StoreError::InUse { run: run.to_string(), leases });
        }
        let mut pruned = Pruned::default();
        loop {
            let (removed, more) = call!(self, conn => rows(conn))?;
            pruned.tasks += removed.tasks;
            pruned.verdicts += removed.verdicts;
            pruned.attempts += removed.attempts;
            if !more {
                break;
            }
        }
        let begun = call!(self, conn => puts_begun(conn))?;
        let unneeded = reach::unneeded(self).await?;
        for hashes in unneeded.chunks(ROWS) {
            pruned.blobs += call!(self, conn => blobs(conn, hashes, begun, now))?;
        }
        self.vacuum_tables(false).await?;
        let after = call!(self, conn => bytes(conn))?;
        pruned.bytes = before.saturating_sub(after);
        Ok(pruned)
    }

    /// As the store's contract says; returns the bytes that its tables are smaller by.
    pub(super) async fn shrink(&self, full: bool) -> Result<u64, StoreError> {
        let before = call!(self, conn => bytes(conn))?;
        self.vacuum_tables(full).await?;
        let after = call!(self, conn => bytes(conn))?;
        Ok(before.saturating_sub(after))
    }

    /// Lets the server use the room of removed rows again; `full` gives it back to the disk, and
    /// keeps everybody out of a table while that is done.
    pub(super) async fn vacuum_tables(&self, full: bool) -> Result<(), StoreError> {
        // It may take longer than any call, so its connection is no other call's.
        let mut conn = self.pool.acquire().await.map_err(|e| self.error(e))?.detach();
        let done = async {
            conn.execute("SET statement_timeout = 0").await?;
            let how = if full { "FULL, ANALYZE" } else { "ANALYZE" };
            for table in TABLES {
                conn.execute(AssertSqlSafe(format!("VACUUM ({how}) {table}"))).await?;
            }
            Ok(())
        };
        done.await.map_err(|e| self.error(e))?;
        let _ = conn.close().await;
        Ok(())
    }
}

impl Documents for PostgresStore {
    fn name(&self) -> &str {
        &self.name
    }

    async fn blobs(&self) -> Result<HashSet<BlobHash>, StoreError> {
        Ok(call!(self, conn => read::all_blobs(conn))?.into_iter().collect())
    }

    async fn specs(&self) -> Result<Vec<BlobHash>, StoreError> {
        let runs = call!(self, conn => read::runs(conn, None))?;
        Ok(runs.into_iter().map(|record| record.run.spec).collect())
    }

    async fn records(
        &self,
        after: RecordKey,
        limit: i64,
    ) -> Result<Vec<(RecordKey, Vec<u8>)>, StoreError> {
        call!(self, conn => read::records(conn, after, limit))
    }

    async fn content(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, StoreError> {
        let stored = call!(self, conn => read::blob(conn, hash))?;
        Ok(stored.map(|(content, _)| content))
    }
}

/// Bytes of all tables with their indices.
async fn bytes(conn: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let bytes: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c \
         WHERE c.relnamespace = to_regnamespace(current_setting('search_path')) \
             AND c.relkind = 'r'",
    )
    .fetch_one(conn)
    .await?;
    Ok(bytes.cast_unsigned())
}

/// Makes the run nobody's, if no task of it is held or posted; returns how many are.
async fn disown(conn: &mut PgConnection, run: i64, now: Option<i64>) -> Result<u64, sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN_CONTROL).await?;
    lease::reap(&mut tx, i64::MAX, now).await?;
    let leases: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM tasks WHERE run = $1 \
             AND (state = 2 OR state = 1 AND run_at = $2)",
    )
    .bind(run)
    .bind(POSTED)
    .fetch_one(&mut *tx)
    .await?;
    if leases == 0 {
        // No id of a run looks like this one.
        let id = format!("pruned-{run}-{:016x}", rand::rng().random::<u64>());
        sqlx::query(
            "UPDATE runs SET pruned = true, state = 'cancelled', contending = false, id = $2 \
             WHERE seq = $1",
        )
        .bind(run)
        .bind(id)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(leases.cast_unsigned())
}

/// Removes rows of one run that is nobody's, the run last; says whether there may be more.
async fn rows(conn: &mut PgConnection) -> Result<(Pruned, bool), sqlx::Error> {
    let mut pruned = Pruned::default();
    let run: Option<i64> =
        sqlx::query_scalar("SELECT seq FROM runs WHERE pruned ORDER BY seq LIMIT 1")
            .fetch_optional(&mut *conn)
            .await?;
    let Some(run) = run else { return Ok((pruned, false)) };
    for (at, delete) in [
        "DELETE FROM attempts WHERE seq IN (SELECT seq FROM attempts WHERE run = $1 LIMIT $2)",
        "DELETE FROM verdicts v USING (SELECT position, sample FROM verdicts \
             WHERE run = $1 LIMIT $2) d \
         WHERE v.run = $1 AND v.position = d.position AND v.sample = d.sample",
        "DELETE FROM tasks t USING (SELECT position, sample FROM tasks \
             WHERE run = $1 LIMIT $2) d \
         WHERE t.run = $1 AND t.position = d.position AND t.sample = d.sample",
    ]
    .into_iter()
    .enumerate()
    {
        let deleted = sqlx::query(delete).bind(run).bind(ROWS as i64).execute(&mut *conn).await?;
        let Pruned { attempts, verdicts, tasks, .. } = &mut pruned;
        *[attempts, verdicts, tasks][at] = deleted.rows_affected();
        if deleted.rows_affected() == ROWS as u64 {
            return Ok((pruned, true));
        }
    }
    for delete in [
        "DELETE FROM settlements WHERE run = $1",
        "DELETE FROM reservations WHERE run = $1",
        "DELETE FROM postings WHERE run = $1",
        "DELETE FROM batches WHERE run = $1",
        "DELETE FROM labels WHERE run = $1",
        "DELETE FROM runs WHERE seq = $1",
    ] {
        sqlx::query(delete).bind(run).execute(&mut *conn).await?;
    }
    Ok((pruned, true))
}

/// How often somebody has begun to put blobs.
async fn puts_begun(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT puts_begun FROM shares").fetch_one(conn).await
}

/// Removes these blobs, unless somebody has put blobs since it was found that they are unneeded,
/// or had begun before and may still need them.
async fn blobs(
    conn: &mut PgConnection,
    hashes: &[BlobHash],
    begun: i64,
    now: Option<i64>,
) -> Result<u64, sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN_BLOBS).await?;
    let row = sqlx::query(concat!(
        "SELECT puts_begun, EXISTS (SELECT 1 FROM puts WHERE begun_ms > ",
        now!(),
        " - $2) FROM shares"
    ))
    .bind(now)
    .bind(PUTTING_MS)
    .fetch_one(&mut *tx)
    .await?;
    if row.try_get::<i64, _>(0)? != begun || row.try_get(1)? {
        return Ok(0);
    }
    let hashes: Vec<&[u8]> = hashes.iter().map(|hash| &hash.as_bytes()[..]).collect();
    sqlx::query("DELETE FROM token_counts WHERE text = ANY ($1)")
        .bind(hashes.clone())
        .execute(&mut *tx)
        .await?;
    let deleted = sqlx::query("DELETE FROM blobs WHERE hash = ANY ($1)")
        .bind(hashes)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(deleted.rows_affected())
}
