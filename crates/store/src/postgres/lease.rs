//! Leases as time and processes treat them.
//!
//! Owns heartbeats, and what becomes of a task whose lease ended by time or whose worker died or
//! left. Every statement compares the lease, or that it has ended, with the row that it writes.

use std::collections::HashMap;

use sqlx::{PgConnection, Row};
use tribunal_core::{LeaseId, RunId, RunState, WorkerId};

use super::{call::number, schema::now};
use crate::{
    row::damaged,
    store::{Held, MAX_DEAD_WORKERS, MAX_LOST_LEASES, SUSPECT_DEAD_WORKERS},
};

/// A lease and the task that it was given for.
pub(super) type LeaseKey = (RunId, u32, u32, LeaseId);

/// Leases, column by column.
#[derive(Default)]
pub(super) struct LeaseColumns {
    runs: Vec<String>,
    positions: Vec<i64>,
    samples: Vec<i64>,
    leases: Vec<Vec<u8>>,
}

/// A query of PostgreSQL with its arguments.
pub(super) type Query = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// The rows named by the parameters 2 to 5, in one order, locked: `h` with the columns of `j`.
/// `$columns` are further columns of the parameters, `$arrays` their arrays.
macro_rules! held {
    ($arrays:literal, $columns:literal) => {
        concat!(
            "WITH held AS MATERIALIZED ( \
                 SELECT t.run, t.position, t.sample, t.lease, t.estimated_tokens, \
                     r.id AS run_id, r.state AS run_state, r.weight, j.item",
            $columns,
            " FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bytea[]",
            $arrays,
            ") WITH ORDINALITY AS j (run_id, position, sample, lease",
            $columns,
            ", item) \
                 JOIN runs r ON r.id = j.run_id \
                 JOIN tasks t ON t.run = r.seq AND t.position = j.position AND t.sample = j.sample \
                 WHERE t.lease = j.lease AND t.state = 2 AND t.lease_end > ",
            $crate::postgres::schema::now!(),
            " ORDER BY t.run, t.position, t.sample FOR UPDATE OF t) "
        )
    };
}
pub(super) use held;

/// Whether a row is the one that was locked, under the same lease.
macro_rules! same_lease {
    () => {
        "t.run = h.run AND t.position = h.position AND t.sample = h.sample \
         AND t.lease = h.lease AND t.state = 2 "
    };
}
pub(super) use same_lease;

// === impl LeaseColumns ===

impl LeaseColumns {
    pub(super) fn push(&mut self, run: &RunId, position: u32, sample: u32, lease: LeaseId) {
        self.runs.push(run.as_str().to_owned());
        self.positions.push(position.into());
        self.samples.push(sample.into());
        self.leases.push(lease.as_bytes().to_vec());
    }

    /// Binds the time and the parameters 2 to 5.
    pub(super) fn bind(self, query: Query, now: Option<i64>) -> Query {
        let Self { runs, positions, samples, leases } = self;
        query.bind(now).bind(runs).bind(positions).bind(samples).bind(leases)
    }
}

/// Extends leases by `ttl_ms` from now; one answer for each, in their order.
pub(super) async fn heartbeat(
    conn: &mut PgConnection,
    leases: &[LeaseKey],
    now: Option<i64>,
    ttl_ms: i64,
) -> Result<Vec<Held>, sqlx::Error> {
    let mut columns = LeaseColumns::default();
    for (run, position, sample, lease) in leases {
        columns.push(run, *position, *sample, *lease);
    }
    let query = sqlx::query(concat!(
        held!("", ""),
        "UPDATE tasks t SET lease_end = ",
        now!(),
        " + $6 FROM held h WHERE ",
        same_lease!(),
        "RETURNING h.run_id, h.position, h.sample, h.lease, h.run_state"
    ));
    let mut held: HashMap<LeaseKey, Held> = HashMap::with_capacity(leases.len());
    for row in columns.bind(query, now).bind(ttl_ms).fetch_all(conn).await? {
        let run: &str = row.try_get(0)?;
        let run = run.parse().map_err(|_| damaged("run id"))?;
        let lease = LeaseId::from_slice(row.try_get(3)?).ok_or_else(|| damaged("lease"))?;
        let answer = match RunState::from_name(row.try_get(4)?) {
            Some(RunState::Paused) => Held::Drain,
            Some(RunState::Cancelled) => Held::Cancel,
            Some(RunState::Active) | None => Held::Held,
        };
        held.insert((run, number(&row, 1)?, number(&row, 2)?, lease), answer);
    }
    Ok(leases.iter().map(|lease| held.get(lease).copied().unwrap_or(Held::Lost)).collect())
}

/// What becomes of lost tasks: `lost` has their keys.
macro_rules! lose {
    () => {
        "UPDATE tasks t SET \
             state = CASE WHEN r.state = 'cancelled' THEN 5 \
                 WHEN ended_leases + $2 >= $4 OR dead_workers + $3 >= $5 THEN 4 ELSE 0 END, \
             reason = CASE WHEN r.state = 'cancelled' THEN 'cancelled' \
                 WHEN ended_leases + $2 >= $4 OR dead_workers + $3 >= $5 THEN 'lost_lease' END, \
             class = 'lost_lease', \
             error = format('lost without an answer: %s leases ended, %s worker processes died', \
                 ended_leases + $2, dead_workers + $3), \
             ended_leases = ended_leases + $2, dead_workers = dead_workers + $3, \
             turn = turn + 1, lease = NULL, lease_end = NULL, worker = NULL \
         FROM lost l JOIN runs r ON r.seq = l.run \
         WHERE t.run = l.run AND t.position = l.position AND t.sample = l.sample \
             AND t.lease = l.lease AND t.state = 2"
    };
}

/// Takes back leases that have ended, the oldest end first; returns how many. A task goes behind
/// those of its run that were lost less often, or is dead when its losses reach their cap, or
/// cancelled with its run.
pub(super) async fn reap(
    conn: &mut PgConnection,
    limit: i64,
    now: Option<i64>,
) -> Result<u64, sqlx::Error> {
    let query = sqlx::query(concat!(
        "WITH lost AS MATERIALIZED ( \
             SELECT run, position, sample, lease FROM tasks \
             WHERE state = 2 AND lease_end <= ",
        now!(),
        " ORDER BY lease_end, run, position, sample LIMIT $6 FOR UPDATE SKIP LOCKED) ",
        lose!()
    ));
    let query = query.bind(now).bind(1_i64).bind(0_i64);
    let query = query.bind(i64::from(MAX_LOST_LEASES)).bind(i64::from(MAX_DEAD_WORKERS));
    Ok(query.bind(limit).execute(conn).await?.rows_affected())
}

/// Takes back the leases of workers whose processes are known to be dead; returns how many.
pub(super) async fn bury(conn: &mut PgConnection, workers: &[Vec<u8>]) -> Result<u64, sqlx::Error> {
    let query = sqlx::query(concat!(
        "WITH lost AS MATERIALIZED ( \
             SELECT run, position, sample, lease FROM tasks \
             WHERE state = 2 AND worker = ANY ($1) \
             ORDER BY run, position, sample FOR UPDATE) ",
        lose!()
    ));
    let query = query.bind(workers.to_vec()).bind(0_i64).bind(1_i64);
    let query = query.bind(i64::from(MAX_LOST_LEASES)).bind(i64::from(MAX_DEAD_WORKERS));
    Ok(query.execute(conn).await?.rows_affected())
}

/// Whether a worker holds a task whose workers keep dying.
pub(super) async fn holds_suspect(
    conn: &mut PgConnection,
    worker: WorkerId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM tasks \
             WHERE state = 2 AND worker = $1 AND dead_workers >= $2)",
    )
    .bind(worker.as_bytes().to_vec())
    .bind(i64::from(SUSPECT_DEAD_WORKERS))
    .fetch_one(conn)
    .await
}

/// Forgets a worker that leaves. What it holds still goes back as if it had not been claimed:
/// nobody will answer for it.
pub(super) async fn leave(conn: &mut PgConnection, worker: WorkerId) -> Result<(), sqlx::Error> {
    let worker = worker.as_bytes().to_vec();
    sqlx::query(
        "WITH lost AS MATERIALIZED ( \
             SELECT run, position, sample, lease FROM tasks WHERE state = 2 AND worker = $1 \
             ORDER BY run, position, sample FOR UPDATE), \
         back AS ( \
             UPDATE tasks t SET state = CASE r.state WHEN 'cancelled' THEN 5 ELSE 0 END, \
                 reason = CASE r.state WHEN 'cancelled' THEN 'cancelled' END, \
                 first_claim_ms = NULL, lease = NULL, lease_end = NULL, worker = NULL \
             FROM lost l JOIN runs r ON r.seq = l.run \
             WHERE t.run = l.run AND t.position = l.position AND t.sample = l.sample \
                 AND t.lease = l.lease AND t.state = 2 \
             RETURNING t.run, t.estimated_tokens, r.weight) \
         INSERT INTO settlements (run, owed) \
         SELECT run, -sum(greatest(estimated_tokens, 1) * 5040 / weight) FROM back GROUP BY run",
    )
    .bind(worker.clone())
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM workers WHERE id = $1").bind(worker).execute(conn).await?;
    Ok(())
}
