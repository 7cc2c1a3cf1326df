//! What readers see of an SQLite store.
//!
//! Owns the queries. Each is one statement, so that what it shows was true at one moment; none
//! reads a verdict's record unless the record is asked for.

use std::collections::HashSet;

use sqlx::{Row, SqlitePool, sqlite::SqliteRow};
use tribunal_core::{
    Attempt, BlobHash, CallKind, FailureClass, Outcome, RunId, RunState, UngradedReason, Usage,
    Via, verdict::PossibleSpend,
};

use super::{
    budget::{self, ACCOUNT_COLUMNS},
    schema,
};
use crate::{
    budget::{Amount, Spending},
    reach::RecordKey,
    record::VerdictRow,
    row::{damaged, hash, named, optional_name},
    share::Weight,
    store::{NewRun, Progress, RunRecord, TaskOutcome},
    totals::{KindTotals, RunTotals},
};

const RUN_COLUMNS: &str = "SELECT id, inputs, generation, spec, judge, model, simulated, state, \
                           reason, created_ms, weight, reuse, via, \
                           max_in_flight, priority FROM runs WHERE pruned = 0";

/// The number that stands for a run in the tables.
pub(super) async fn seq(pool: &SqlitePool, run: &RunId) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT seq FROM runs WHERE id = ?")
        .bind(run.as_str().to_owned())
        .fetch_optional(pool)
        .await
}

pub(super) async fn run(pool: &SqlitePool, seq: i64) -> Result<Option<RunRecord>, sqlx::Error> {
    let query = super::batch::statement(format!("{RUN_COLUMNS} AND seq = ?")).bind(seq);
    query.fetch_optional(pool).await?.as_ref().map(run_record).transpose()
}

pub(super) async fn runs(pool: &SqlitePool) -> Result<Vec<RunRecord>, sqlx::Error> {
    let query = super::batch::statement(format!("{RUN_COLUMNS} ORDER BY seq DESC"));
    query.fetch_all(pool).await?.iter().map(run_record).collect()
}

fn run_record(row: &SqliteRow) -> Result<RunRecord, sqlx::Error> {
    let id: &str = row.try_get(0)?;
    Ok(RunRecord {
        run: NewRun {
            id: id.parse().map_err(|_| damaged("run id"))?,
            inputs: hash(row, 1)?,
            generation: row.try_get(2)?,
            spec: hash(row, 3)?,
            judge: row.try_get(4)?,
            model: row.try_get(5)?,
            simulated: row.try_get(6)?,
            reuse: row.try_get(11)?,
        },
        state: named(row, 7, RunState::from_name)?,
        reason: row.try_get(8)?,
        created_ms: row.try_get(9)?,
        weight: Weight::new(row.try_get(10)?).ok_or_else(|| damaged("weight"))?,
        via: named(row, 12, Via::from_name)?,
        max_in_flight: row.try_get(13)?,
        priority: row.try_get(14)?,
    })
}

/// Of these hashes, those whose blobs are there.
pub(super) async fn known_blobs(
    pool: &SqlitePool,
    hashes: &[BlobHash],
) -> Result<Vec<BlobHash>, sqlx::Error> {
    let hex: Vec<String> = hashes.iter().map(BlobHash::to_string).collect();
    let rows =
        sqlx::query("SELECT hash FROM blobs WHERE hash IN (SELECT unhex(value) FROM json_each(?))")
            .bind(serde_json::Value::from(hex).to_string())
            .fetch_all(pool)
            .await?;
    rows.iter().map(|row| hash(row, 0)).collect()
}

/// The hashes of all blobs.
pub(super) async fn all_blobs(pool: &SqlitePool) -> Result<HashSet<BlobHash>, sqlx::Error> {
    let rows = sqlx::query("SELECT hash FROM blobs").fetch_all(pool).await?;
    rows.iter().map(|row| hash(row, 0)).collect()
}

/// The compressed verdicts of all runs in order of their keys, from the first one after a key.
pub(super) async fn records(
    pool: &SqlitePool,
    (run, position, sample): RecordKey,
    limit: i64,
) -> Result<Vec<(RecordKey, Vec<u8>)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT run, position, sample, record FROM verdicts \
         WHERE (run, position, sample) > (?, ?, ?) ORDER BY run, position, sample LIMIT ?",
    )
    .bind(run)
    .bind(position)
    .bind(sample)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let record = |row: &SqliteRow| {
        Ok(((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?), row.try_get(3)?))
    };
    rows.iter().map(record).collect()
}

/// A blob's compressed bytes and its length before.
pub(super) async fn blob(
    pool: &SqlitePool,
    hash: BlobHash,
) -> Result<Option<(Vec<u8>, u64)>, sqlx::Error> {
    let row = sqlx::query("SELECT content, size FROM blobs WHERE hash = ?")
        .bind(hash.as_bytes().to_vec())
        .fetch_optional(pool)
        .await?;
    row.map(|row| Ok((row.try_get(0)?, count(&row, 1)?))).transpose()
}

/// The store's key.
pub(super) async fn key(pool: &SqlitePool) -> Result<[u8; 32], sqlx::Error> {
    let bytes: Vec<u8> = sqlx::query_scalar("SELECT value FROM store_meta WHERE key = ?")
        .bind(schema::STORE_KEY)
        .fetch_one(pool)
        .await?;
    let wrong = |_| sqlx::Error::Protocol("the store's key is not 32 bytes".to_owned());
    bytes.try_into().map_err(wrong)
}

/// A page of verdicts and of tasks that have none.
pub(super) async fn verdicts(
    pool: &SqlitePool,
    run: i64,
    after: Option<(u32, u32)>,
    limit: usize,
) -> Result<Vec<VerdictRow>, sqlx::Error> {
    let rows =
        page(pool, "SELECT t.position, t.sample, t.reason, t.error, v.record", (run, after, limit));
    let row = |row: &SqliteRow| {
        let reason = optional_name(row, 2, UngradedReason::from_name)?;
        Ok(VerdictRow {
            position: row.try_get(0)?,
            sample: row.try_get(1)?,
            record: row.try_get(4)?,
            missing: (reason.unwrap_or(UngradedReason::Pending), row.try_get(3)?),
        })
    };
    rows.await?.iter().map(row).collect()
}

/// A page of outcomes.
pub(super) async fn outcomes(
    pool: &SqlitePool,
    run: i64,
    after: Option<(u32, u32)>,
    limit: usize,
) -> Result<Vec<TaskOutcome>, sqlx::Error> {
    let rows = page(pool, "SELECT t.position, t.sample, t.reason, v.score", (run, after, limit));
    let row = |row: &SqliteRow| {
        let reason = optional_name(row, 2, UngradedReason::from_name)?;
        let score: Option<f64> = row.try_get(3)?;
        Ok(TaskOutcome {
            position: row.try_get(0)?,
            sample: row.try_get(1)?,
            outcome: match score {
                Some(score) => Outcome::Graded { score },
                None => Outcome::Ungraded { reason: reason.unwrap_or(UngradedReason::Pending) },
            },
        })
    };
    rows.await?.iter().map(row).collect()
}

async fn page(
    pool: &SqlitePool,
    columns: &str,
    (run, after, limit): (i64, Option<(u32, u32)>, usize),
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    let (position, sample) = match after {
        Some((position, sample)) => (i64::from(position), i64::from(sample)),
        None => (-1, -1),
    };
    super::batch::statement(format!(
        "{columns} FROM tasks t LEFT JOIN verdicts v \
             ON v.run = t.run AND v.position = t.position AND v.sample = t.sample \
         WHERE t.run = ? AND (t.position, t.sample) > (?, ?) \
         ORDER BY t.position, t.sample LIMIT ?"
    ))
    .bind(run)
    .bind(position)
    .bind(sample)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await
}

/// Counts of tasks by state, from one walk over the run's tasks.
pub(super) async fn progress(
    pool: &SqlitePool,
    run: i64,
    now: i64,
) -> Result<Progress, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT state, reason, count(*), min(iif(waits_from > ?2, ?2, run_at)) FROM tasks \
         WHERE run = ?1 GROUP BY state, reason, run_at IS ?3",
    )
    .bind(run)
    .bind(now)
    .bind(schema::POSTED)
    .fetch_all(pool)
    .await?;
    let mut progress = Progress::default();
    for row in &rows {
        let tasks = count(row, 2)?;
        progress.leaves += tasks;
        let state: i64 = row.try_get(0)?;
        *match state {
            schema::READY | schema::WAITING => &mut progress.pending,
            schema::LEASED => &mut progress.leased,
            schema::DONE => &mut progress.done,
            schema::DEAD => &mut progress.dead,
            schema::CANCELLED => &mut progress.cancelled,
            _ => return Err(damaged("state of a task")),
        } += tasks;
        if let Some(reason) = optional_name(row, 1, UngradedReason::from_name)? {
            *progress.ungraded.entry(reason).or_default() += tasks;
        }
        if matches!(state, schema::READY | schema::WAITING) {
            let run_at: Option<i64> = row.try_get(3)?;
            if run_at == Some(schema::POSTED) {
                progress.posted += tasks;
                continue;
            }
            let wait = run_at.map_or(0, |run_at| run_at.saturating_sub(now));
            let wait = u64::try_from(wait).unwrap_or(0);
            let known = progress.next_in_ms.unwrap_or(u64::MAX);
            progress.next_in_ms = Some(known.min(wait));
        }
    }
    Ok(progress)
}

/// What the run has cost.
pub(super) async fn totals(pool: &SqlitePool, run: i64) -> Result<RunTotals, sqlx::Error> {
    // Calls and verdicts in one statement, so that both are of one moment.
    let rows = sqlx::query(
        "SELECT 'calls', kind, class, count(*), sum(input), sum(cached), sum(output), \
             count(possible_input), coalesce(sum(possible_input), 0), \
             coalesce(sum(possible_output), 0), via, \
             CASE WHEN count(*) = count(CASE WHEN input + output = 0 THEN 0 ELSE cost_usd END) \
                 THEN coalesce(sum(cost_usd), 0.0) END, \
             CASE WHEN count(possible_input) = count(possible_usd) THEN sum(possible_usd) END \
         FROM attempts WHERE run = ?1 GROUP BY kind, class, via \
         UNION ALL \
         SELECT 'verdicts', source, iif(score IS NULL, NULL, 'graded'), count(*), \
             max(simulated), max(stored_ms), (SELECT first_claim_ms FROM runs WHERE seq = ?1), \
             0, 0, 0, NULL, NULL, NULL \
         FROM verdicts WHERE run = ?1 GROUP BY source, score IS NULL",
    )
    .bind(run)
    .fetch_all(pool)
    .await?;
    let mut totals = RunTotals { spending: spending(pool, run).await?, ..RunTotals::default() };
    for row in &rows {
        let number = count(row, 3)?;
        match row.try_get(0)? {
            "calls" => {
                let usage =
                    Usage { input: count(row, 4)?, cached: count(row, 5)?, output: count(row, 6)? };
                let kind = named(row, 1, CallKind::from_name)?;
                let class = optional_name(row, 2, FailureClass::from_name)?;
                let via = named(row, 10, Via::from_name)?;
                let calls = KindTotals::of(via, number, usage, row.try_get(11)?);
                totals.add_calls(kind, class, calls);
                let calls = count(row, 7)?;
                let usage = Usage { input: count(row, 8)?, cached: 0, output: count(row, 9)? };
                if calls > 0 {
                    let possible = KindTotals::of(via, calls, usage, row.try_get(12)?);
                    totals.possible.add(possible);
                }
            }
            _ => {
                totals.any_simulated |= row.try_get::<bool, _>(4)?;
                let last: i64 = row.try_get(5)?;
                let first: Option<i64> = row.try_get(6)?;
                totals.lasted(first.unwrap_or(last), last);
                if row.try_get::<Option<&str>, _>(2)?.is_some() {
                    totals.add_graded(row.try_get(1)?, number);
                }
            }
        }
    }
    Ok(totals)
}

/// The run's budget and what has become of it. A call is in flight while its lease is held, or it is
/// posted.
async fn spending(pool: &SqlitePool, run: i64) -> Result<Option<Spending>, sqlx::Error> {
    let query = format!(
        "SELECT {ACCOUNT_COLUMNS}, flying.micro_usd, flying.tokens FROM runs CROSS JOIN (\
             SELECT coalesce(sum(r.micro_usd), 0) AS micro_usd, \
                 coalesce(sum(r.tokens), 0) AS tokens \
             FROM reservations r \
             WHERE r.run = ?1 AND (EXISTS (SELECT 1 FROM tasks t WHERE t.run = r.run \
                     AND t.position = r.position AND t.sample = r.sample AND t.lease = r.lease) \
                 OR EXISTS (SELECT 1 FROM postings p WHERE p.run = r.run \
                     AND p.position = r.position AND p.sample = r.sample \
                     AND p.reservation = r.id))) AS flying \
         WHERE runs.seq = ?1"
    );
    let row = super::batch::statement(query).bind(run).fetch_optional(pool).await?;
    let Some(row) = row else { return Ok(None) };
    let in_flight = Amount { micro_usd: count(&row, 6)?, tokens: count(&row, 7)? };
    Ok(budget::account(&row)?.spending(in_flight))
}

/// The attempts at one task, in order.
pub(super) async fn attempts(
    pool: &SqlitePool,
    run: i64,
    position: u32,
    sample: u32,
) -> Result<Vec<Attempt>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT kind, class, status, error, request_id, started_ms, waited_ms, latency_ms, \
             input, cached, output, endpoint, cost_usd, possible_input, possible_output, \
             possible_usd, via \
         FROM attempts WHERE run = ? AND position = ? AND sample = ? ORDER BY seq",
    )
    .bind(run)
    .bind(position)
    .bind(sample)
    .fetch_all(pool)
    .await?;
    let attempt = |row: &SqliteRow| {
        let possible = match row.try_get::<Option<i64>, _>(13)? {
            Some(input) => {
                let (input, output) = (input.cast_unsigned(), count(row, 14)?);
                let usage = Usage { input, cached: 0, output };
                Some(PossibleSpend { usage, cost_usd: row.try_get(15)? })
            }
            None => None,
        };
        Ok(Attempt {
            kind: named(row, 0, CallKind::from_name)?,
            via: named(row, 16, Via::from_name)?,
            class: optional_name(row, 1, FailureClass::from_name)?,
            status: row.try_get(2)?,
            error: row.try_get(3)?,
            request_id: row.try_get(4)?,
            started_ms: row.try_get(5)?,
            waited_ms: count(row, 6)?,
            latency_ms: count(row, 7)?,
            usage: Usage { input: count(row, 8)?, cached: count(row, 9)?, output: count(row, 10)? },
            endpoint: row.try_get(11)?,
            cost_usd: row.try_get(12)?,
            possible,
        })
    };
    rows.iter().map(attempt).collect()
}

fn count(row: &SqliteRow, at: usize) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(at)?.cast_unsigned())
}
