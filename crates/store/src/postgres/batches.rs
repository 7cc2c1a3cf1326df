//! Batches and what is posted in them, in the tables.
//!
//! Owns the statements. A posted task is a waiting one whose time never comes; what wakes it is its
//! reply, or the end of its batch. Who posts in a batch locks its row against who ends it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, postgres::PgRow};
use tribunal_core::{BatchId, RunId, Via, WorkerId};

use super::{
    PostgresStore, budget,
    call::{call, call_run, number},
    lease::LeaseKey,
    millis, outcome,
    run::notify,
    schema::{BEGIN_PUT, POSTED, now},
};
use crate::{
    batches::{Answered, BatchRecord, BatchReply, Batches, PostOutcome, Posting},
    budget::{Amount, ReservationId},
    error::StoreError,
    record,
    row::damaged,
};

const COLUMNS: &str = "SELECT b.id, r.id, b.remote, b.opened_ms, \
    (SELECT count(*) FROM postings p WHERE p.batch = b.id AND p.reply IS NULL), \
    b.voter FROM batches b JOIN runs r ON r.seq = b.run AND NOT r.pruned";

#[async_trait]
impl Batches for PostgresStore {
    async fn set_via(&self, run: &RunId, via: Via) -> Result<(), StoreError> {
        call_run!(self, run, conn, seq => set_via(conn, seq, via))
    }

    async fn open_batch(
        &self,
        batch: BatchId,
        (run, voter): (&RunId, u32),
        worker: WorkerId,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let (now, ttl) = (self.now(), millis(ttl));
        call_run!(self, run, conn, seq => open(conn, (batch, seq, voter), worker, ttl, now))
    }

    async fn post(
        &self,
        worker: WorkerId,
        postings: Vec<Posting>,
    ) -> Result<Vec<PostOutcome>, StoreError> {
        let now = self.now();
        let pack = |posting| {
            let Posting { question, .. } = &posting;
            let question = record::pack(question, &self.name)?;
            Ok(Posting { question, ..posting })
        };
        let postings = postings.into_iter().map(pack).collect::<Result<Vec<_>, StoreError>>()?;
        call!(self, conn => outcome::post(conn, worker, &postings, now))
    }

    async fn take_batches(
        &self,
        worker: WorkerId,
        ttl: Duration,
        runs: Option<&[RunId]>,
    ) -> Result<Vec<BatchRecord>, StoreError> {
        let (now, ttl) = (self.now(), millis(ttl));
        let runs: Option<Vec<String>> =
            runs.map(|runs| runs.iter().map(|run| run.as_str().to_owned()).collect());
        call!(self, conn => take(conn, worker, ttl, runs.as_deref(), now))
    }

    async fn batches(&self, run: &RunId) -> Result<Vec<BatchRecord>, StoreError> {
        call_run!(self, run, conn, seq => list(conn, seq))
    }

    async fn mark_batch(
        &self,
        batch: BatchId,
        worker: WorkerId,
        ttl: Duration,
        remote: Option<String>,
    ) -> Result<bool, StoreError> {
        let (now, ttl) = (self.now(), millis(ttl));
        call!(self, conn => mark(conn, batch, worker, ttl, remote.as_deref(), now))
    }

    async fn answer(&self, batch: BatchId, replies: Vec<BatchReply>) -> Result<u64, StoreError> {
        let pack = |reply: BatchReply| {
            Ok(BatchReply { reply: record::pack(&reply.reply, &self.name)?, ..reply })
        };
        let replies = replies.into_iter().map(pack).collect::<Result<Vec<_>, StoreError>>()?;
        call!(self, conn => answer(conn, batch, &replies))
    }

    async fn end_batch(&self, batch: BatchId) -> Result<u64, StoreError> {
        call!(self, conn => end(conn, batch))
    }
}

async fn set_via(conn: &mut PgConnection, run: i64, via: Via) -> Result<(), sqlx::Error> {
    let query = sqlx::query("UPDATE runs SET via = $2 WHERE seq = $1").bind(run);
    query.bind(via.name()).execute(conn).await?;
    Ok(())
}

async fn open(
    conn: &mut PgConnection,
    (batch, run, voter): (BatchId, i64, u32),
    worker: WorkerId,
    ttl_ms: i64,
    now: Option<i64>,
) -> Result<(), sqlx::Error> {
    sqlx::query(concat!(
        "INSERT INTO batches (id, run, voter, worker, held_until, opened_ms) \
         VALUES ($2, $3, $6, $4, ",
        now!(),
        " + $5, ",
        now!(),
        ") ON CONFLICT DO NOTHING"
    ))
    .bind(now)
    .bind(batch.as_bytes().to_vec())
    .bind(run)
    .bind(worker.as_bytes().to_vec())
    .bind(ttl_ms)
    .bind(i64::from(voter))
    .execute(conn)
    .await?;
    Ok(())
}

async fn take(
    conn: &mut PgConnection,
    worker: WorkerId,
    ttl_ms: i64,
    runs: Option<&[String]>,
    now: Option<i64>,
) -> Result<Vec<BatchRecord>, sqlx::Error> {
    let worker = worker.as_bytes().to_vec();
    sqlx::query(concat!(
        "UPDATE batches b SET worker = $2, held_until = ",
        now!(),
        " + $3 FROM runs r WHERE r.seq = b.run AND (b.worker = $2 OR b.held_until <= ",
        now!(),
        ") AND ($4::text[] IS NULL OR r.id = ANY ($4))"
    ))
    .bind(now)
    .bind(worker.clone())
    .bind(ttl_ms)
    .bind(runs)
    .execute(&mut *conn)
    .await?;
    let query = format!(
        "{COLUMNS} WHERE b.worker = $1 AND ($2::text[] IS NULL OR r.id = ANY ($2)) \
         ORDER BY b.opened_ms, b.id"
    );
    let query = sqlx::query(AssertSqlSafe(query)).bind(worker).bind(runs);
    query.fetch_all(conn).await?.iter().map(batch_record).collect()
}

async fn list(conn: &mut PgConnection, run: i64) -> Result<Vec<BatchRecord>, sqlx::Error> {
    let query = format!("{COLUMNS} WHERE b.run = $1 ORDER BY b.opened_ms, b.id");
    let rows = sqlx::query(AssertSqlSafe(query)).bind(run).fetch_all(conn).await?;
    rows.iter().map(batch_record).collect()
}

async fn mark(
    conn: &mut PgConnection,
    batch: BatchId,
    worker: WorkerId,
    ttl_ms: i64,
    remote: Option<&str>,
    now: Option<i64>,
) -> Result<bool, sqlx::Error> {
    let marked = sqlx::query(concat!(
        "UPDATE batches SET remote = $2, held_until = ",
        now!(),
        " + $3 WHERE id = $4 AND worker = $5 AND held_until > ",
        now!()
    ))
    .bind(now)
    .bind(remote)
    .bind(ttl_ms)
    .bind(batch.as_bytes().to_vec())
    .bind(worker.as_bytes().to_vec())
    .execute(conn)
    .await?;
    Ok(marked.rows_affected() > 0)
}

async fn answer(
    conn: &mut PgConnection,
    batch: BatchId,
    replies: &[BatchReply],
) -> Result<u64, sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN_PUT).await?;
    let new = sqlx::query(
        "WITH answered AS ( \
             UPDATE postings p SET reply = j.reply \
             FROM unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS j (position, sample, reply) \
             JOIN batches b ON b.id = $1 \
             WHERE p.run = b.run AND p.position = j.position AND p.sample = j.sample \
                 AND p.batch = b.id AND p.reply IS NULL \
             RETURNING p.run, p.position, p.sample), \
         woken AS ( \
             UPDATE tasks t SET state = 0, run_at = NULL FROM answered a \
             WHERE t.run = a.run AND t.position = a.position AND t.sample = a.sample \
                 AND t.state = 1 AND t.run_at = $5) \
         SELECT count(*) FROM answered",
    )
    .bind(batch.as_bytes().to_vec())
    .bind(replies.iter().map(|reply| i64::from(reply.position)).collect::<Vec<_>>())
    .bind(replies.iter().map(|reply| i64::from(reply.sample)).collect::<Vec<_>>())
    .bind(replies.iter().map(|reply| &reply.reply[..]).collect::<Vec<_>>())
    .bind(POSTED)
    .fetch_one(&mut *tx)
    .await?;
    notify(&mut tx).await?;
    tx.commit().await?;
    number(&new, 0)
}

async fn end(conn: &mut PgConnection, batch: BatchId) -> Result<u64, sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN_PUT).await?;
    let id = batch.as_bytes().to_vec();
    // Whoever is posting in it comes first; whoever comes later finds it gone.
    sqlx::query("DELETE FROM batches WHERE id = $1").bind(id.clone()).execute(&mut *tx).await?;
    let rows = sqlx::query(
        "WITH back AS ( \
             DELETE FROM postings WHERE batch = $1 AND reply IS NULL \
             RETURNING run, position, sample, reservation), \
         woken AS ( \
             UPDATE tasks t SET state = 0, run_at = NULL FROM back b \
             WHERE t.run = b.run AND t.position = b.position AND t.sample = b.sample \
                 AND t.state = 1 AND t.run_at = $2) \
         SELECT reservation FROM back",
    )
    .bind(id)
    .bind(POSTED)
    .fetch_all(&mut *tx)
    .await?;
    let mut free = Vec::new();
    for row in &rows {
        free.extend(reservation(row, 0)?.map(|id| (id, Amount::default())));
    }
    budget::settle_within(&mut tx, &free).await?;
    notify(&mut tx).await?;
    tx.commit().await?;
    Ok(rows.len() as u64)
}

/// Lets tasks of a run that are ready wait again for what was posted for them.
pub(super) async fn wait_on(conn: &mut PgConnection, run: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE tasks t SET state = 1, run_at = $2, waits_from = NULL FROM postings p \
         WHERE t.run = $1 AND t.state = 0 AND p.run = $1 AND p.position = t.position \
             AND p.sample = t.sample AND p.reply IS NULL",
    )
    .bind(run)
    .bind(POSTED)
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets anybody take the batches of workers that are gone.
pub(super) async fn let_go(
    conn: &mut PgConnection,
    workers: &[Vec<u8>],
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE batches SET held_until = 0 WHERE worker = ANY ($1)")
        .bind(workers.to_vec())
        .execute(conn)
        .await?;
    Ok(())
}

/// The questions and replies that there are for these tasks: run, position, sample.
pub(super) async fn replies(
    conn: &mut PgConnection,
    tasks: &[(i64, i64, i64)],
) -> Result<HashMap<(i64, i64, i64), Answered>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT p.run, p.position, p.sample, p.question, p.reservation, p.reply \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS j (run, position, sample) \
         JOIN postings p ON p.run = j.run AND p.position = j.position AND p.sample = j.sample \
         WHERE p.reply IS NOT NULL",
    )
    .bind(tasks.iter().map(|task| task.0).collect::<Vec<_>>())
    .bind(tasks.iter().map(|task| task.1).collect::<Vec<_>>())
    .bind(tasks.iter().map(|task| task.2).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    let unpack = |bytes: &[u8]| -> Result<Arc<[u8]>, sqlx::Error> {
        record::decompress(bytes).map(Arc::from).ok_or_else(|| damaged("reply of a batch"))
    };
    let read = |row: &PgRow| {
        let key = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (question, reply) = (unpack(row.try_get(3)?)?, unpack(row.try_get(5)?)?);
        Ok((key, Answered { question, reservation: reservation(row, 4)?, reply }))
    };
    rows.iter().map(read).collect()
}

/// A posting's lease as the other statements have it.
pub(super) fn key(posting: &Posting) -> LeaseKey {
    (posting.run.clone(), posting.position, posting.sample, posting.lease)
}

fn batch_record(row: &PgRow) -> Result<BatchRecord, sqlx::Error> {
    let run: &str = row.try_get(1)?;
    Ok(BatchRecord {
        id: BatchId::from_slice(row.try_get(0)?).ok_or_else(|| damaged("batch id"))?,
        run: run.parse().map_err(|_| damaged("run id"))?,
        remote: row.try_get(2)?,
        opened_ms: row.try_get(3)?,
        open: number(row, 4)?,
        voter: number(row, 5)?,
    })
}

fn reservation(row: &PgRow, at: usize) -> Result<Option<ReservationId>, sqlx::Error> {
    let id = row.try_get::<Option<&[u8]>, _>(at)?;
    id.map(|id| ReservationId::from_slice(id).ok_or_else(|| damaged("reservation"))).transpose()
}
