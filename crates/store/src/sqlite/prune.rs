//! Removing runs, and giving their room back.
//!
//! Owns the steps, each bounded and in a transaction that others share, and their order. Which
//! blobs are needed still is found by `reach`, from what readers see while nobody puts blobs.

use std::collections::HashSet;

use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};
use tribunal_core::{BlobHash, RunId};

use super::{
    SqliteStore, counts, error,
    lease::{self, Loss},
    read,
    request::{Answer, Request},
    schema,
};
use crate::{
    error::StoreError,
    reach::{self, Documents, RecordKey},
    store::Pruned,
};

/// Rows or blobs removed in one transaction, at most.
const ROWS: usize = 2_000;

/// Pages of 4,096 bytes given back in one transaction, at most.
const PAGES: i64 = 2_000;

/// One bounded step.
pub(super) enum Step {
    /// Makes the run nobody's, if no task of it is held or posted; answered with their number.
    Disown { run: i64 },
    /// Removes rows of runs that are nobody's.
    Rows,
    /// Removes these blobs.
    Blobs(Vec<BlobHash>),
    /// Gives free pages back.
    Pages,
}

/// What a step did.
#[derive(Default)]
pub(super) struct Stepped {
    pub(super) pruned: Pruned,
    /// Leases that are held.
    pub(super) leases: u64,
    /// Whether the same step would do more.
    pub(super) more: bool,
}

// === impl SqliteStore ===

impl SqliteStore {
    /// Removes the run and whatever nobody needs.
    pub(super) async fn remove(&self, run: &RunId) -> Result<Pruned, StoreError> {
        let seq = self.seq(run).await?;
        let before = self.file_bytes().await?;
        let leases = self.step(Step::Disown { run: seq }).await?.leases;
        if leases > 0 {
            return Err(StoreError::InUse { run: run.to_string(), leases });
        }
        self.forget(run);
        let mut pruned = Pruned::default();
        loop {
            let step = self.step(Step::Rows).await?;
            pruned.tasks += step.pruned.tasks;
            pruned.verdicts += step.pruned.verdicts;
            pruned.attempts += step.pruned.attempts;
            if !step.more {
                break;
            }
        }
        if let Some(_alone) = self.puts.nobody_else().map_err(|e| self.file_error(&e))? {
            let unneeded = reach::unneeded(self).await?;
            for hashes in unneeded.chunks(ROWS) {
                pruned.blobs += self.step(Step::Blobs(hashes.to_vec())).await?.pruned.blobs;
            }
        }
        self.give_back().await?;
        pruned.bytes = before.saturating_sub(self.file_bytes().await?);
        Ok(pruned)
    }

    /// Makes the file as small as it can be: without holding anybody up that gives back all there is.
    pub(super) async fn shrink(&self) -> Result<u64, StoreError> {
        let before = self.file_bytes().await?;
        self.give_back().await?;
        Ok(before.saturating_sub(self.file_bytes().await?))
    }

    async fn step(&self, step: Step) -> Result<Stepped, StoreError> {
        match self.writer.send(Request::Prune(step)).await? {
            Answer::Stepped(stepped) => Ok(stepped),
            _ => Err(self.wrong_answer()),
        }
    }

    /// Makes the file as small as it can be.
    async fn give_back(&self) -> Result<(), StoreError> {
        let mut conn = self.maintenance().await?;
        let mode: i64 = pragma(&mut conn, "PRAGMA auto_vacuum").await.map_err(|e| self.error(e))?;
        if mode == 0 {
            // A store of version 1, once: rewritten with what giving back in steps needs. Should
            // there be no room for that, the free pages are used for what comes.
            let rewritten = async {
                sqlx::query(schema::GIVE_BACK).execute(&mut conn).await?;
                sqlx::query("VACUUM").execute(&mut conn).await
            };
            if let Err(error) = rewritten.await {
                let error = self.error(error);
                tracing::warn!(%error, "the store's file keeps its size for now");
            }
        } else {
            while self.step(Step::Pages).await?.more {}
        }
        // Until then the file keeps its size. A reader in the way is not waited for.
        let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(&mut conn).await;
        let _ = conn.close().await;
        Ok(())
    }

    async fn file_bytes(&self) -> Result<u64, StoreError> {
        let mut conn = self.maintenance().await?;
        let bytes = async {
            let pages: i64 = pragma(&mut conn, "PRAGMA page_count").await?;
            let size: i64 = pragma(&mut conn, "PRAGMA page_size").await?;
            Ok((pages * size).cast_unsigned())
        };
        let bytes = bytes.await.map_err(|e| self.error(e))?;
        let _ = conn.close().await;
        Ok(bytes)
    }

    async fn maintenance(&self) -> Result<SqliteConnection, StoreError> {
        self.connect.connect().await.map_err(|e| self.error(e))
    }

    pub(super) fn file_error(&self, error: &std::io::Error) -> StoreError {
        error::file(&self.name, std::path::Path::new(&self.name), error)
    }
}

impl Documents for SqliteStore {
    fn name(&self) -> &str {
        &self.name
    }

    async fn blobs(&self) -> Result<HashSet<BlobHash>, StoreError> {
        read::all_blobs(&self.readers).await.map_err(|e| self.error(e))
    }

    async fn specs(&self) -> Result<Vec<BlobHash>, StoreError> {
        let runs = read::runs(&self.readers).await.map_err(|e| self.error(e))?;
        Ok(runs.into_iter().map(|record| record.run.spec).collect())
    }

    async fn records(
        &self,
        after: RecordKey,
        limit: i64,
    ) -> Result<Vec<(RecordKey, Vec<u8>)>, StoreError> {
        read::records(&self.readers, after, limit).await.map_err(|e| self.error(e))
    }

    async fn content(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, StoreError> {
        let stored = read::blob(&self.readers, hash).await.map_err(|e| self.error(e))?;
        Ok(stored.map(|(content, _)| content))
    }
}

async fn pragma(conn: &mut SqliteConnection, text: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(text).fetch_one(conn).await
}

/// Executes a step.
pub(super) async fn step(
    conn: &mut SqliteConnection,
    step: &Step,
    now: i64,
) -> Result<Stepped, sqlx::Error> {
    match step {
        Step::Disown { run } => disown(conn, *run, now).await,
        Step::Rows => rows(conn).await,
        Step::Blobs(hashes) => blobs(conn, hashes).await,
        Step::Pages => pages(conn).await,
    }
}

async fn disown(conn: &mut SqliteConnection, run: i64, now: i64) -> Result<Stepped, sqlx::Error> {
    lease::take_back(conn, &Loss::Ended { now, limit: -1 }).await?;
    let leases: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM tasks INDEXED BY tasks_leased WHERE state = 2 AND run = ?1) \
             + (SELECT count(*) FROM tasks WHERE state = 1 AND run = ?1 AND run_at = ?2)",
    )
    .bind(run)
    .bind(schema::POSTED)
    .fetch_one(&mut *conn)
    .await?;
    if leases == 0 {
        sqlx::query(
            "UPDATE runs SET pruned = 1, state = 'cancelled', contending = 0, \
                 id = printf('pruned-%d', seq) WHERE seq = ?",
        )
        .bind(run)
        .execute(&mut *conn)
        .await?;
        sqlx::query("UPDATE store_meta SET value = max(value, ?) WHERE key = ?")
            .bind(run)
            .bind(schema::LAST_SEQ)
            .execute(conn)
            .await?;
    }
    Ok(Stepped { leases: leases.cast_unsigned(), ..Stepped::default() })
}

/// Removes rows of one run that is nobody's: what refers to tasks first, the run last.
async fn rows(conn: &mut SqliteConnection) -> Result<Stepped, sqlx::Error> {
    let mut stepped = Stepped::default();
    let run: Option<i64> = sqlx::query_scalar("SELECT min(seq) FROM runs WHERE pruned = 1")
        .fetch_one(&mut *conn)
        .await?;
    let Some(run) = run else { return Ok(stepped) };
    stepped.more = true;
    for (at, delete) in [
        "DELETE FROM attempts WHERE seq IN (SELECT seq FROM attempts WHERE run = ? LIMIT ?)",
        "DELETE FROM verdicts WHERE rowid IN (SELECT rowid FROM verdicts WHERE run = ? LIMIT ?)",
        "DELETE FROM tasks WHERE (run, position, sample) IN \
             (SELECT run, position, sample FROM tasks WHERE run = ? LIMIT ?)",
    ]
    .into_iter()
    .enumerate()
    {
        let deleted = sqlx::query(delete).bind(run).bind(ROWS as i64).execute(&mut *conn).await?;
        let Pruned { attempts, verdicts, tasks, .. } = &mut stepped.pruned;
        *[attempts, verdicts, tasks][at] = deleted.rows_affected();
        if deleted.rows_affected() == ROWS as u64 {
            return Ok(stepped);
        }
    }
    for delete in [
        "DELETE FROM reservations WHERE run = ?",
        "DELETE FROM postings WHERE run = ?",
        "DELETE FROM batches WHERE run = ?",
        "DELETE FROM labels WHERE run = ?",
        "DELETE FROM runs WHERE seq = ?",
    ] {
        sqlx::query(delete).bind(run).execute(&mut *conn).await?;
    }
    Ok(stepped)
}

async fn blobs(conn: &mut SqliteConnection, hashes: &[BlobHash]) -> Result<Stepped, sqlx::Error> {
    let mut stepped = Stepped::default();
    for hash in hashes {
        let deleted = sqlx::query("DELETE FROM blobs WHERE hash = ?")
            .bind(hash.as_bytes().to_vec())
            .execute(&mut *conn)
            .await?;
        stepped.pruned.blobs += deleted.rows_affected();
    }
    counts::forget(conn, hashes).await?;
    Ok(stepped)
}

async fn pages(conn: &mut SqliteConnection) -> Result<Stepped, sqlx::Error> {
    let free = async |conn: &mut SqliteConnection| {
        sqlx::query("PRAGMA freelist_count").fetch_one(conn).await?.try_get::<i64, _>(0)
    };
    let before = free(conn).await?;
    let vacuum = format!("PRAGMA incremental_vacuum({PAGES})");
    super::batch::statement(vacuum).fetch_all(&mut *conn).await?;
    let after = free(conn).await?;
    Ok(Stepped { more: after > 0 && after < before, ..Stepped::default() })
}
