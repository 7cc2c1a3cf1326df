//! Batches in the tables.
//!
//! Owns their statements; what is posted in them is `postings`'s. A posted task is a waiting one whose
//! time never comes; what wakes it is its reply, or the end of its batch.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use tribunal_core::{BatchId, RunId, Via, WorkerId};

use super::{
    SqliteStore,
    batch::{slices, with_rows},
    budget::{self, NewSettlement},
    millis,
    outcome::Key,
    postings::{AnsweredRow, NewPosting},
    request::{Answer, Request},
    schema::POSTED,
};
use crate::{
    batches::{Answered, BatchRecord, BatchReply, Batches, PostOutcome, Posting},
    budget::{Amount, ReservationId},
    error::StoreError,
    record,
    row::damaged,
};

/// What is done with batches beside posting.
pub(super) enum Change {
    Via {
        run: i64,
        via: Via,
    },
    Open {
        batch: BatchId,
        run: i64,
        voter: u32,
        worker: WorkerId,
        ttl_ms: i64,
    },
    Take {
        worker: WorkerId,
        ttl_ms: i64,
        runs: Option<Vec<i64>>,
    },
    Mark {
        batch: BatchId,
        worker: WorkerId,
        ttl_ms: i64,
        remote: Option<String>,
    },
    /// Position, sample, compressed reply.
    Answer {
        batch: BatchId,
        replies: Vec<(u32, u32, Vec<u8>)>,
    },
    End {
        batch: BatchId,
    },
}

const COLUMNS: &str = "SELECT b.id, runs.id, b.remote, b.opened_ms, \
    (SELECT count(*) FROM postings p INDEXED BY postings_open \
     WHERE p.batch = b.id AND p.reply IS NULL), b.voter \
    FROM batches b CROSS JOIN runs ON runs.seq = b.run AND runs.pruned = 0";

#[async_trait]
impl Batches for SqliteStore {
    async fn set_via(&self, run: &RunId, via: Via) -> Result<(), StoreError> {
        let run = self.seq(run).await?;
        self.done(Request::Batch(Change::Via { run, via })).await
    }

    async fn open_batch(
        &self,
        batch: BatchId,
        (run, voter): (&RunId, u32),
        worker: WorkerId,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let (run, ttl_ms) = (self.seq(run).await?, millis(ttl));
        self.done(Request::Batch(Change::Open { batch, run, voter, worker, ttl_ms })).await
    }

    async fn post(
        &self,
        worker: WorkerId,
        postings: Vec<Posting>,
    ) -> Result<Vec<PostOutcome>, StoreError> {
        let mut items = Vec::with_capacity(postings.len());
        for posting in postings {
            let Posting { run, position, sample, lease, batch, reservation, question, attempts } =
                posting;
            let lease = self.lease(&run, position, sample, lease).await?;
            let question = record::pack(&question, &self.name)?;
            items.push(NewPosting { lease, worker, batch, reservation, question, attempts });
        }
        match self.writer.send(Request::Post(items)).await? {
            Answer::Posted(outcomes) => Ok(outcomes),
            _ => Err(self.wrong_answer()),
        }
    }

    async fn take_batches(
        &self,
        worker: WorkerId,
        ttl: Duration,
        runs: Option<&[RunId]>,
    ) -> Result<Vec<BatchRecord>, StoreError> {
        let runs = match runs {
            None => None,
            Some(ids) => {
                let mut runs = Vec::with_capacity(ids.len());
                for id in ids {
                    runs.extend(self.find(id).await?);
                }
                Some(runs)
            }
        };
        let change = Change::Take { worker, ttl_ms: millis(ttl), runs };
        match self.writer.send(Request::Batch(change)).await? {
            Answer::Batches(records) => Ok(records),
            _ => Err(self.wrong_answer()),
        }
    }

    async fn batches(&self, run: &RunId) -> Result<Vec<BatchRecord>, StoreError> {
        let run = self.seq(run).await?;
        let query = format!("{COLUMNS} WHERE b.run = ? ORDER BY b.opened_ms, b.id");
        let rows = super::batch::statement(query).bind(run).fetch_all(&self.readers).await;
        let rows = rows.map_err(|e| self.error(e))?;
        rows.iter().map(batch_record).collect::<Result<_, _>>().map_err(|e| self.error(e))
    }

    async fn mark_batch(
        &self,
        batch: BatchId,
        worker: WorkerId,
        ttl: Duration,
        remote: Option<String>,
    ) -> Result<bool, StoreError> {
        let change = Change::Mark { batch, worker, ttl_ms: millis(ttl), remote };
        Ok(self.count(Request::Batch(change)).await? > 0)
    }

    async fn answer(&self, batch: BatchId, replies: Vec<BatchReply>) -> Result<u64, StoreError> {
        let pack = |reply: BatchReply| {
            Ok((reply.position, reply.sample, record::pack(&reply.reply, &self.name)?))
        };
        let replies = replies.into_iter().map(pack).collect::<Result<_, StoreError>>()?;
        self.count(Request::Batch(Change::Answer { batch, replies })).await
    }

    async fn end_batch(&self, batch: BatchId) -> Result<u64, StoreError> {
        self.count(Request::Batch(Change::End { batch })).await
    }
}

// === impl SqliteStore ===

impl SqliteStore {
    /// A question and its reply as callers see them.
    pub(super) fn answered(&self, row: AnsweredRow) -> Result<Box<Answered>, StoreError> {
        let unpack = |bytes: &[u8]| {
            let bytes = record::decompress(bytes).map(Arc::from);
            bytes.ok_or_else(|| self.error(damaged("reply of a batch")))
        };
        Ok(Box::new(Answered {
            question: unpack(&row.question)?,
            reservation: row.reservation,
            reply: unpack(&row.reply)?,
        }))
    }
}

/// Lets anybody take the batches of a worker that is gone.
pub(super) async fn let_go(
    conn: &mut SqliteConnection,
    worker: WorkerId,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE batches SET held_until = 0 WHERE worker = ?")
        .bind(worker.as_bytes().to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

/// Executes a change.
pub(super) async fn apply(
    conn: &mut SqliteConnection,
    change: &Change,
    now: i64,
) -> Result<Answer, sqlx::Error> {
    match change {
        Change::Via { run, via } => {
            let query = sqlx::query("UPDATE runs SET via = ? WHERE seq = ?").bind(via.name());
            query.bind(*run).execute(conn).await?;
            Ok(Answer::Done)
        }
        Change::Open { batch, run, voter, worker, ttl_ms } => {
            sqlx::query(
                "INSERT INTO batches (id, run, voter, worker, held_until, opened_ms) \
                 VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            )
            .bind(batch.as_bytes().to_vec())
            .bind(*run)
            .bind(*voter)
            .bind(worker.as_bytes().to_vec())
            .bind(now.saturating_add(*ttl_ms))
            .bind(now)
            .execute(conn)
            .await?;
            Ok(Answer::Done)
        }
        Change::Take { worker, ttl_ms, runs } => {
            take(conn, *worker, now, now.saturating_add(*ttl_ms), runs.as_deref()).await
        }
        Change::Mark { batch, worker, ttl_ms, remote } => {
            let marked = sqlx::query(
                "UPDATE batches SET remote = ?, held_until = ? \
                 WHERE id = ? AND worker = ? AND held_until > ?",
            )
            .bind(remote.clone())
            .bind(now.saturating_add(*ttl_ms))
            .bind(batch.as_bytes().to_vec())
            .bind(worker.as_bytes().to_vec())
            .bind(now)
            .execute(conn)
            .await?;
            Ok(Answer::Count(marked.rows_affected()))
        }
        Change::Answer { batch, replies } => answer(conn, *batch, replies).await,
        Change::End { batch } => end(conn, *batch).await,
    }
}

async fn take(
    conn: &mut SqliteConnection,
    worker: WorkerId,
    now: i64,
    end: i64,
    runs: Option<&[i64]>,
) -> Result<Answer, sqlx::Error> {
    let runs = runs.map(|runs| serde_json::Value::from(runs).to_string());
    let worker = worker.as_bytes().to_vec();
    sqlx::query(
        "UPDATE batches SET worker = ?1, held_until = ?2 \
         WHERE (worker = ?1 OR held_until <= ?3) \
             AND (?4 IS NULL OR run IN (SELECT value FROM json_each(?4)))",
    )
    .bind(worker.clone())
    .bind(end)
    .bind(now)
    .bind(runs.clone())
    .execute(&mut *conn)
    .await?;
    let query = format!(
        "{COLUMNS} WHERE b.worker = ?1 \
             AND (?2 IS NULL OR b.run IN (SELECT value FROM json_each(?2))) \
         ORDER BY b.opened_ms, b.id"
    );
    let query = super::batch::statement(query).bind(worker).bind(runs);
    let rows = query.fetch_all(conn).await?;
    Ok(Answer::Batches(rows.iter().map(batch_record).collect::<Result<_, _>>()?))
}

async fn answer(
    conn: &mut SqliteConnection,
    batch: BatchId,
    replies: &[(u32, u32, Vec<u8>)],
) -> Result<Answer, sqlx::Error> {
    let mut new = 0;
    for slice in slices(replies) {
        let mut query = with_rows(
            "position, sample, reply",
            slice.len(),
            1,
            "UPDATE postings SET reply = j.reply FROM j CROSS JOIN batches b ON b.id = ?1 \
             WHERE postings.run = b.run AND postings.position = j.position \
                 AND postings.sample = j.sample AND postings.batch = b.id \
                 AND postings.reply IS NULL \
             RETURNING run, position, sample",
        )
        .bind(batch.as_bytes().to_vec());
        for (position, sample, reply) in slice {
            query = query.bind(*position).bind(*sample).bind(reply.clone());
        }
        let rows = query.fetch_all(&mut *conn).await?;
        new += rows.len() as u64;
        wake(conn, &rows).await?;
    }
    Ok(Answer::Count(new))
}

async fn end(conn: &mut SqliteConnection, batch: BatchId) -> Result<Answer, sqlx::Error> {
    let rows = sqlx::query(
        "DELETE FROM postings WHERE batch = ? AND reply IS NULL \
         RETURNING run, position, sample, reservation",
    )
    .bind(batch.as_bytes().to_vec())
    .fetch_all(&mut *conn)
    .await?;
    wake(conn, &rows).await?;
    let mut free = Vec::new();
    for row in &rows {
        let freed = |id| NewSettlement { id, actual: Amount::default() };
        free.extend(reservation(row, 3)?.map(freed));
    }
    budget::settle(conn, &free.iter().collect::<Vec<_>>()).await?;
    sqlx::query("DELETE FROM batches WHERE id = ?")
        .bind(batch.as_bytes().to_vec())
        .execute(conn)
        .await?;
    Ok(Answer::Count(rows.len() as u64))
}

/// Makes these tasks ready, where they wait for a batch.
async fn wake(conn: &mut SqliteConnection, rows: &[SqliteRow]) -> Result<(), sqlx::Error> {
    for slice in slices(rows) {
        let mut query = with_rows(
            "run, position, sample",
            slice.len(),
            1,
            "UPDATE tasks SET state = 0, run_at = NULL FROM j \
             WHERE tasks.run = j.run AND tasks.position = j.position \
                 AND tasks.sample = j.sample AND +tasks.state = 1 AND +tasks.run_at = ?1",
        )
        .bind(POSTED);
        for row in slice {
            let (run, position, sample): Key = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            query = query.bind(run).bind(position).bind(sample);
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

fn batch_record(row: &SqliteRow) -> Result<BatchRecord, sqlx::Error> {
    let run: &str = row.try_get(1)?;
    Ok(BatchRecord {
        id: BatchId::from_slice(row.try_get(0)?).ok_or_else(|| damaged("batch id"))?,
        run: run.parse().map_err(|_| damaged("run id"))?,
        remote: row.try_get(2)?,
        opened_ms: row.try_get(3)?,
        open: row.try_get::<i64, _>(4)?.cast_unsigned(),
        voter: row.try_get(5)?,
    })
}

pub(super) fn reservation(
    row: &SqliteRow,
    at: usize,
) -> Result<Option<ReservationId>, sqlx::Error> {
    let id = row.try_get::<Option<&[u8]>, _>(at)?;
    id.map(|id| ReservationId::from_slice(id).ok_or_else(|| damaged("reservation"))).transpose()
}
