//! Who gets which task next.
//!
//! Owns fair claiming: stride scheduling over runs. Every ready run lines its tasks up by the
//! virtual time at which they would be claimed; the earliest of all lines are taken. That is the
//! same as taking one task after the other from the run with the least virtual time, and it is
//! one statement.

use sqlx::{Connection, PgConnection, Row, postgres::PgRow};
use tribunal_core::{Category, ContentKey, LeafTask, LeaseId, RunId, WorkerId};

use super::{
    call::{damaged, named, number},
    lease, read,
    schema::{BEGIN_CLAIM, now},
    text,
};
use crate::store::Claim;

/// Tasks claimed in one statement, at most.
const MOST: usize = 1024;

/// Leases taken back by one claim, at most.
const REAPED: i64 = 1024;

/// Counts what runs owe since the last claim, and makes tasks ready whose wait is over.
const PREPARE: &str = concat!(
    "WITH counted AS (DELETE FROM settlements RETURNING run, owed), \
     owed AS ( \
         UPDATE runs SET virtual_time = runs.virtual_time + c.owed \
         FROM (SELECT run, sum(owed) AS owed FROM counted GROUP BY run) c \
         WHERE runs.seq = c.run), \
     over AS MATERIALIZED ( \
         SELECT run, position, sample FROM tasks WHERE state = 1 AND run_at <= ",
    now!(),
    " ORDER BY run, position, sample FOR UPDATE SKIP LOCKED) \
     UPDATE tasks t SET state = 0, run_at = NULL FROM over o \
     WHERE t.run = o.run AND t.position = o.position AND t.sample = o.sample AND t.state = 1"
);

/// Picks and leases. Parameters: now, worker, ttl in ms, fresh leases, the only run or null.
///
/// - `hop` walks the index of ready tasks from run to run.
/// - `ready`: who had nothing to claim starts level with the others, neither behind, nor owed
///   what it did not use.
/// - `lines`: of the runs with the least virtual time, as many as there are slots, the first
///   tasks in claim order, with the virtual time that claiming those before them costs.
/// - `after`: whether a run has ready tasks left is known from one more task than it lost.
const PICK: &str = concat!(
    "WITH RECURSIVE hop (run) AS ( \
         (SELECT run FROM tasks WHERE state = 0 ORDER BY run LIMIT 1) \
         UNION ALL \
         SELECT (SELECT t.run FROM tasks t WHERE t.state = 0 AND t.run > hop.run \
                 ORDER BY t.run LIMIT 1) \
         FROM hop WHERE hop.run IS NOT NULL), \
     ready AS MATERIALIZED ( \
         SELECT r.seq, r.weight, r.contending, r.virtual_time AS stored, \
             CASE WHEN r.contending THEN r.virtual_time \
                 ELSE greatest(r.virtual_time, s.virtual_time) END AS virtual_time \
         FROM hop JOIN runs r ON r.seq = hop.run CROSS JOIN shares s WHERE r.state = 'active'), \
     few AS ( \
         SELECT seq, weight, virtual_time FROM ready WHERE $5::bigint IS NULL OR seq = $5 \
         ORDER BY virtual_time, seq LIMIT cardinality($4::bytea[])), \
     lines AS ( \
         SELECT few.seq, few.weight, t.position, t.sample, t.estimated_tokens, \
             few.virtual_time + coalesce(sum(greatest(t.estimated_tokens, 1) * 5040 / few.weight) \
                 OVER (PARTITION BY few.seq ORDER BY t.turn, t.place, t.position, t.sample \
                       ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS starts \
         FROM few CROSS JOIN LATERAL ( \
             SELECT turn, place, position, sample, estimated_tokens FROM tasks \
             WHERE tasks.run = few.seq AND tasks.state = 0 \
             ORDER BY turn, place, position, sample LIMIT cardinality($4::bytea[])) t), \
     first AS ( \
         SELECT *, row_number() OVER (ORDER BY starts, seq) AS n FROM lines \
         ORDER BY starts, seq LIMIT cardinality($4::bytea[])), \
     picked AS MATERIALIZED ( \
         SELECT f.seq, f.n, f.position, f.sample, \
             greatest(f.estimated_tokens, 1) * 5040 / f.weight AS charge \
         FROM first f JOIN tasks t \
             ON t.run = f.seq AND t.position = f.position AND t.sample = f.sample \
         WHERE t.state = 0 ORDER BY f.n FOR UPDATE OF t SKIP LOCKED), \
     after AS MATERIALIZED ( \
         SELECT ready.seq, ready.contending, ready.stored, \
             ready.virtual_time + coalesce(p.charged, 0) AS virtual_time, \
             p.seq IS NOT NULL AS claimed, \
             p.seq IS NULL OR EXISTS ( \
                 SELECT 1 FROM tasks WHERE tasks.run = ready.seq AND tasks.state = 0 \
                 OFFSET p.picked) AS still \
         FROM ready LEFT JOIN ( \
             SELECT seq, count(*) AS picked, sum(charge) AS charged FROM picked GROUP BY seq) p \
             ON p.seq = ready.seq), \
     moved AS ( \
         UPDATE runs SET virtual_time = a.virtual_time, contending = a.still, \
             first_claim_ms = CASE WHEN a.claimed \
                 THEN coalesce(first_claim_ms, ",
    now!(),
    ") ELSE first_claim_ms END \
         FROM after a WHERE runs.seq = a.seq \
             AND (a.claimed OR a.still <> a.contending OR a.virtual_time <> a.stored)), \
     idle AS ( \
         UPDATE runs SET contending = false \
         WHERE contending AND NOT EXISTS (SELECT 1 FROM ready WHERE ready.seq = runs.seq)), \
     level AS ( \
         UPDATE shares SET virtual_time = l.least \
         FROM (SELECT min(virtual_time) AS least FROM after WHERE still) l \
         WHERE l.least > shares.virtual_time) \
     UPDATE tasks t SET state = 2, lease = ($4::bytea[])[p.n], worker = $2, \
         lease_end = ",
    now!(),
    " + $3 \
     FROM picked p JOIN runs r ON r.seq = p.seq \
     WHERE t.run = p.seq AND t.position = p.position AND t.sample = p.sample AND t.state = 0 \
     RETURNING p.n, r.id, t.lease, t.position, t.sample, t.id, t.category, t.content_key, \
         t.place, t.estimated_tokens, t.rule, t.failures"
);

/// Claims up to `slots` tasks; `None` when `only` names no run.
pub(super) async fn claim(
    conn: &mut PgConnection,
    worker: WorkerId,
    slots: usize,
    ttl_ms: i64,
    only: Option<&RunId>,
    now: Option<i64>,
) -> Result<Option<Vec<Claim>>, sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN_CLAIM).await?;
    let only: Option<i64> = match only {
        None => None,
        Some(run) => match read::seq(&mut tx, run).await? {
            None => return Ok(None),
            seq => seq,
        },
    };
    while lease::reap(&mut tx, REAPED, now).await? == REAPED.unsigned_abs() {}
    sqlx::query(PREPARE).bind(now).execute(&mut *tx).await?;
    let fresh = |_| rand::random::<[u8; 16]>().to_vec();
    let leases: Vec<Vec<u8>> = (0..slots.min(MOST)).map(fresh).collect();
    let rows = sqlx::query(PICK)
        .bind(now)
        .bind(worker.as_bytes().to_vec())
        .bind(ttl_ms)
        .bind(leases)
        .bind(only)
        .fetch_all(&mut *tx)
        .await?;
    let mut claims: Vec<(i64, Claim)> = rows.iter().map(read_claim).collect::<Result<_, _>>()?;
    tx.commit().await?;
    claims.sort_by_key(|(n, _)| *n);
    Ok(Some(claims.into_iter().map(|(_, claim)| claim).collect()))
}

fn read_claim(row: &PgRow) -> Result<(i64, Claim), sqlx::Error> {
    let run: &str = row.try_get(1)?;
    let rule: Option<String> = row.try_get(10)?;
    let task = LeafTask {
        position: number(row, 3)?,
        sample: number(row, 4)?,
        id: text::get(row.try_get(5)?),
        category: named(row, 6, Category::from_name)?,
        content_key: ContentKey::from_slice(row.try_get(7)?)
            .ok_or_else(|| damaged("content key"))?,
        order: number(row, 8)?,
        estimated_tokens: number(row, 9)?,
        rule: rule.map(text::get),
    };
    let claim = Claim {
        lease: LeaseId::from_slice(row.try_get(2)?).ok_or_else(|| damaged("lease"))?,
        run: run.parse().map_err(|_| damaged("run id"))?,
        task,
        failures: number(row, 11)?,
    };
    Ok((row.try_get(0)?, claim))
}
