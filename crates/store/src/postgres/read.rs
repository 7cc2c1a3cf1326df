//! What readers see of a PostgreSQL store.
//!
//! Owns the queries. Each is one statement, so that what it shows was true at one moment, and no
//! snapshot is held between two of them; none reads a verdict's record unless it is asked for.

use std::num::NonZeroU32;

use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};
use tribunal_core::{
    Attempt, BlobHash, CallKind, FailureClass, Outcome, RunId, RunState, UngradedReason, Usage,
    Via, verdict::PossibleSpend,
};

use super::{
    budget,
    call::number,
    schema::{POSTED, now},
    text,
};
use crate::{
    reach::RecordKey,
    record::VerdictRow,
    row::{damaged, hash, named, optional_name},
    share::Weight,
    store::{NewRun, Progress, RunRecord, TaskOutcome},
    totals::{KindTotals, RunTotals},
};

/// The number that stands for a run in the tables.
pub(super) async fn seq(conn: &mut PgConnection, run: &RunId) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT seq FROM runs WHERE id = $1")
        .bind(run.as_str())
        .fetch_optional(conn)
        .await
}

/// Runs, the newest first; with a number, that one.
pub(super) async fn runs(
    conn: &mut PgConnection,
    seq: Option<i64>,
) -> Result<Vec<RunRecord>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT id, inputs, generation, spec, judge, model, simulated, state, reason, weight, \
             created_ms, reuse, via, max_in_flight, priority \
         FROM runs WHERE NOT pruned AND ($1::bigint IS NULL OR seq = $1) ORDER BY seq DESC",
    )
    .bind(seq)
    .fetch_all(conn)
    .await?;
    rows.iter().map(run_record).collect()
}

/// A run's priority.
pub(super) fn priority(row: &PgRow, at: usize) -> Result<i32, sqlx::Error> {
    row.try_get::<i64, _>(at)?.try_into().map_err(|_| damaged("priority"))
}

fn run_record(row: &PgRow) -> Result<RunRecord, sqlx::Error> {
    let id: &str = row.try_get(0)?;
    let weight = Weight::new(number(row, 9)?);
    Ok(RunRecord {
        run: NewRun {
            id: id.parse().map_err(|_| damaged("run id"))?,
            inputs: hash(row, 1)?,
            generation: number(row, 2)?,
            spec: hash(row, 3)?,
            judge: text::get(row.try_get(4)?),
            model: text::get(row.try_get(5)?),
            simulated: row.try_get(6)?,
            reuse: row.try_get(11)?,
        },
        state: named(row, 7, RunState::from_name)?,
        reason: text::get(row.try_get(8)?),
        weight: weight.ok_or_else(|| damaged("weight"))?,
        via: named(row, 12, Via::from_name)?,
        created_ms: row.try_get(10)?,
        priority: priority(row, 14)?,
        max_in_flight: row
            .try_get::<Option<i64>, _>(13)?
            .and_then(|cap| NonZeroU32::new(u32::try_from(cap).ok()?)),
    })
}

/// Of these hashes, those whose blobs are there.
pub(super) async fn known_blobs(
    conn: &mut PgConnection,
    hashes: &[BlobHash],
) -> Result<Vec<BlobHash>, sqlx::Error> {
    let hashes: Vec<&[u8]> = hashes.iter().map(|hash| &hash.as_bytes()[..]).collect();
    let rows = sqlx::query("SELECT hash FROM blobs WHERE hash = ANY ($1)").bind(hashes);
    rows.fetch_all(conn).await?.iter().map(|row| hash(row, 0)).collect()
}

/// The hashes of all blobs.
pub(super) async fn all_blobs(conn: &mut PgConnection) -> Result<Vec<BlobHash>, sqlx::Error> {
    let rows = sqlx::query("SELECT hash FROM blobs").fetch_all(conn).await?;
    rows.iter().map(|row| hash(row, 0)).collect()
}

/// A blob's compressed bytes and its length before.
pub(super) async fn blob(
    conn: &mut PgConnection,
    hash: BlobHash,
) -> Result<Option<(Vec<u8>, u64)>, sqlx::Error> {
    let row = sqlx::query("SELECT content, size FROM blobs WHERE hash = $1")
        .bind(hash.as_bytes().to_vec())
        .fetch_optional(conn)
        .await?;
    row.map(|row| Ok((row.try_get(0)?, number(&row, 1)?))).transpose()
}

/// The store's key.
pub(super) async fn key(conn: &mut PgConnection) -> Result<[u8; 32], sqlx::Error> {
    let bytes: Vec<u8> =
        sqlx::query_scalar("SELECT store_key FROM store_meta").fetch_one(conn).await?;
    bytes.try_into().map_err(|_| damaged("key"))
}

/// A page of verdicts and of tasks that have none.
pub(super) async fn verdicts(
    conn: &mut PgConnection,
    run: i64,
    after: Option<(u32, u32)>,
    limit: usize,
) -> Result<Vec<VerdictRow>, sqlx::Error> {
    let rows =
        page(conn, "SELECT t.position, t.sample, t.reason, t.error, v.record", (run, after, limit));
    let row = |row: &PgRow| {
        let reason = optional_name(row, 2, UngradedReason::from_name)?;
        let error = text::get(row.try_get(3)?);
        Ok(VerdictRow {
            position: number(row, 0)?,
            sample: number(row, 1)?,
            record: row.try_get(4)?,
            missing: (reason.unwrap_or(UngradedReason::Pending), error),
        })
    };
    rows.await?.iter().map(row).collect()
}

/// A page of outcomes.
pub(super) async fn outcomes(
    conn: &mut PgConnection,
    run: i64,
    after: Option<(u32, u32)>,
    limit: usize,
) -> Result<Vec<TaskOutcome>, sqlx::Error> {
    let rows = page(conn, "SELECT t.position, t.sample, t.reason, v.score", (run, after, limit));
    let row = |row: &PgRow| {
        let reason = optional_name(row, 2, UngradedReason::from_name)?;
        let score: Option<f64> = row.try_get(3)?;
        Ok(TaskOutcome {
            position: number(row, 0)?,
            sample: number(row, 1)?,
            outcome: match score {
                Some(score) => Outcome::Graded { score },
                None => Outcome::Ungraded { reason: reason.unwrap_or(UngradedReason::Pending) },
            },
        })
    };
    rows.await?.iter().map(row).collect()
}

async fn page(
    conn: &mut PgConnection,
    columns: &'static str,
    (run, after, limit): (i64, Option<(u32, u32)>, usize),
) -> Result<Vec<PgRow>, sqlx::Error> {
    let (position, sample) = match after {
        Some((position, sample)) => (i64::from(position), i64::from(sample)),
        None => (-1, -1),
    };
    let text = format!(
        "{columns} FROM tasks t LEFT JOIN verdicts v \
             ON v.run = t.run AND v.position = t.position AND v.sample = t.sample \
         WHERE t.run = $1 AND (t.position, t.sample) > ($2, $3) \
         ORDER BY t.position, t.sample LIMIT $4"
    );
    sqlx::query(AssertSqlSafe(text))
        .bind(run)
        .bind(position)
        .bind(sample)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await
}

/// Records of verdicts of any run, after this key.
pub(super) async fn records(
    conn: &mut PgConnection,
    (run, position, sample): RecordKey,
    limit: i64,
) -> Result<Vec<(RecordKey, Vec<u8>)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT run, position, sample, record FROM verdicts \
         WHERE (run, position, sample) > ($1, $2, $3) ORDER BY run, position, sample LIMIT $4",
    )
    .bind(run)
    .bind(position)
    .bind(sample)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let record =
        |row: &PgRow| Ok(((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?), row.try_get(3)?));
    rows.iter().map(record).collect()
}

/// Counts of tasks by state, from one walk over the run's tasks.
pub(super) async fn progress(
    conn: &mut PgConnection,
    run: i64,
    now: Option<i64>,
) -> Result<Progress, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "SELECT state::bigint, reason, count(*), min(CASE WHEN waits_from > ",
        now!(),
        " THEN 0 ELSE run_at END) - ",
        now!(),
        ", run_at IS NOT DISTINCT FROM $3 \
         FROM tasks WHERE run = $2 GROUP BY state, reason, run_at IS NOT DISTINCT FROM $3"
    ))
    .bind(now)
    .bind(run)
    .bind(POSTED)
    .fetch_all(conn)
    .await?;
    let mut progress = Progress::default();
    for row in &rows {
        let tasks: u64 = number(row, 2)?;
        progress.leaves += tasks;
        let state: i64 = row.try_get(0)?;
        *match state {
            0 | 1 => &mut progress.pending,
            2 => &mut progress.leased,
            3 => &mut progress.done,
            4 => &mut progress.dead,
            5 => &mut progress.cancelled,
            _ => return Err(damaged("state of a task")),
        } += tasks;
        if let Some(reason) = optional_name(row, 1, UngradedReason::from_name)? {
            *progress.ungraded.entry(reason).or_default() += tasks;
        }
        if row.try_get(4)? {
            progress.posted += tasks;
        } else if state <= 1 {
            let wait: Option<i64> = row.try_get(3)?;
            let wait = u64::try_from(wait.unwrap_or(0)).unwrap_or(0);
            let known = progress.next_in_ms.unwrap_or(u64::MAX);
            progress.next_in_ms = Some(known.min(wait));
        }
    }
    Ok(progress)
}

/// What the run has cost.
pub(super) async fn totals(conn: &mut PgConnection, run: i64) -> Result<RunTotals, sqlx::Error> {
    // Calls and verdicts in one statement, so that both are of one moment.
    let rows = sqlx::query(
        "SELECT 'calls', kind, class, count(*), sum(input)::bigint, sum(cached)::bigint, \
             sum(output)::bigint, false, count(possible_input), \
             coalesce(sum(possible_input), 0)::bigint, coalesce(sum(possible_output), 0)::bigint, \
             via, \
             CASE WHEN count(*) = count(CASE WHEN input + output = 0 THEN 0 ELSE cost_usd END) \
                 THEN coalesce(sum(cost_usd), 0) END, \
             CASE WHEN count(possible_input) = count(possible_usd) THEN sum(possible_usd) END \
         FROM attempts WHERE run = $1 GROUP BY kind, class, via \
         UNION ALL \
         SELECT 'verdicts', source, CASE WHEN score IS NOT NULL THEN 'graded' END, count(*), \
             max(stored_ms), (SELECT first_claim_ms FROM runs WHERE seq = $1), 0, \
             bool_or(simulated), 0, 0, 0, NULL, NULL, NULL \
         FROM verdicts WHERE run = $1 GROUP BY source, score IS NOT NULL",
    )
    .bind(run)
    .fetch_all(&mut *conn)
    .await?;
    let spending = budget::spending(conn, run).await?;
    let mut totals = RunTotals { spending, ..RunTotals::default() };
    for row in &rows {
        let count: u64 = number(row, 3)?;
        match row.try_get(0)? {
            "calls" => {
                let kind = named(row, 1, CallKind::from_name)?;
                let class = optional_name(row, 2, FailureClass::from_name)?;
                let via = named(row, 11, Via::from_name)?;
                let calls = KindTotals::of(via, count, usage(row, 4)?, row.try_get(12)?);
                totals.add_calls(kind, class, calls);
                let calls: u64 = number(row, 8)?;
                let usage = Usage { input: number(row, 9)?, cached: 0, output: number(row, 10)? };
                if calls > 0 {
                    let possible = KindTotals::of(via, calls, usage, row.try_get(13)?);
                    totals.possible.add(possible);
                }
            }
            _ => {
                totals.any_simulated |= row.try_get::<bool, _>(7)?;
                let last: i64 = row.try_get(4)?;
                let first: Option<i64> = row.try_get(5)?;
                totals.lasted(first.unwrap_or(last), last);
                if row.try_get::<Option<&str>, _>(2)?.is_some() {
                    totals.add_graded(row.try_get(1)?, count);
                }
            }
        }
    }
    Ok(totals)
}

/// The attempts at one task, in order.
pub(super) async fn attempts(
    conn: &mut PgConnection,
    run: i64,
    position: u32,
    sample: u32,
) -> Result<Vec<Attempt>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT kind, class, status, error, request_id, started_ms, waited_ms, latency_ms, \
             input, cached, output, endpoint, cost_usd, possible_input, possible_output, \
             possible_usd, via \
         FROM attempts WHERE run = $1 AND position = $2 AND sample = $3 ORDER BY seq",
    )
    .bind(run)
    .bind(i64::from(position))
    .bind(i64::from(sample))
    .fetch_all(conn)
    .await?;
    let attempt = |row: &PgRow| {
        let status: Option<i32> = row.try_get(2)?;
        let status = status.map(u16::try_from).transpose().map_err(|_| damaged("status"))?;
        let request_id: Option<String> = row.try_get(4)?;
        let possible = match row.try_get::<Option<i64>, _>(13)? {
            Some(input) => {
                let output = row.try_get::<i64, _>(14)?.cast_unsigned();
                let usage = Usage { input: input.cast_unsigned(), cached: 0, output };
                Some(PossibleSpend { usage, cost_usd: row.try_get(15)? })
            }
            None => None,
        };
        Ok(Attempt {
            kind: named(row, 0, CallKind::from_name)?,
            via: named(row, 16, Via::from_name)?,
            class: optional_name(row, 1, FailureClass::from_name)?,
            status,
            error: text::get(row.try_get(3)?),
            request_id: request_id.map(text::get),
            started_ms: row.try_get(5)?,
            waited_ms: row.try_get::<i64, _>(6)?.cast_unsigned(),
            latency_ms: row.try_get::<i64, _>(7)?.cast_unsigned(),
            usage: usage(row, 8)?,
            endpoint: text::get(row.try_get(11)?),
            cost_usd: row.try_get(12)?,
            possible,
        })
    };
    rows.iter().map(attempt).collect()
}

/// Three columns of tokens: input, cached, output.
fn usage(row: &PgRow, at: usize) -> Result<Usage, sqlx::Error> {
    let count = |at| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(at)?.cast_unsigned());
    Ok(Usage { input: count(at)?, cached: count(at + 1)?, output: count(at + 2)? })
}
