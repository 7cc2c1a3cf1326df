//! Leases as time and processes treat them.
//!
//! Owns heartbeats, and what becomes of a task whose lease ended by time or whose worker died.

use std::collections::HashMap;

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use tribunal_core::{LeaseId, RunState, WorkerId};

use super::{
    batch::{Script, slices, with_rows},
    request::LeaseRef,
    share::{self, Settled},
};
use crate::{
    fleet::LISTED_MS,
    process::Process,
    share::Weight,
    store::{Held, MAX_DEAD_WORKERS, MAX_LOST_LEASES, SUSPECT_DEAD_WORKERS},
};

/// Which leases are taken back, and why.
pub(super) enum Loss {
    /// Those that have ended, the oldest end first.
    Ended { now: i64, limit: i64 },
    /// Those of a process known to be dead.
    Died { worker: WorkerId },
}

/// Extends leases until `end`; one answer for each, in their order.
pub(super) async fn heartbeat(
    conn: &mut SqliteConnection,
    leases: &[LeaseRef],
    now: i64,
    end: i64,
) -> Result<Vec<Held>, sqlx::Error> {
    let mut held: HashMap<LeaseRef, Held> = HashMap::with_capacity(leases.len());
    for slice in slices(leases) {
        let mut query = with_rows(
            "run, position, sample, lease",
            slice.len(),
            2,
            "UPDATE tasks SET lease_end = ?1 FROM j \
             WHERE tasks.run = j.run AND tasks.position = j.position \
                 AND tasks.sample = j.sample AND tasks.lease = j.lease \
                 AND +tasks.state = 2 AND +tasks.lease_end > ?2 \
             RETURNING run, position, sample, lease, \
                 (SELECT runs.state FROM runs WHERE runs.seq = tasks.run)",
        )
        .bind(end)
        .bind(now);
        for lease in slice {
            query = query.bind_lease(lease);
        }
        for row in query.fetch_all(&mut *conn).await? {
            let id = LeaseId::from_slice(row.try_get(3)?)
                .ok_or_else(|| sqlx::Error::Decode("a lease of another length".into()))?;
            let lease = LeaseRef {
                run: row.try_get(0)?,
                position: row.try_get(1)?,
                sample: row.try_get(2)?,
                lease: id,
            };
            let answer = match RunState::from_name(row.try_get(4)?) {
                Some(RunState::Paused) => Held::Drain,
                Some(RunState::Cancelled) => Held::Cancel,
                Some(RunState::Active) | None => Held::Held,
            };
            held.insert(lease, answer);
        }
    }
    let answer = |lease| held.get(lease).copied().unwrap_or(Held::Lost);
    Ok(leases.iter().map(answer).collect())
}

/// Takes leases back; returns how many.
///
/// The task goes behind those of its run that were lost less often, or is dead when its losses of
/// this kind reach their cap, or cancelled with its run.
pub(super) async fn take_back(
    conn: &mut SqliteConnection,
    loss: &Loss,
) -> Result<u64, sqlx::Error> {
    const LOSE: &str = "UPDATE tasks SET \
        state = CASE \
            WHEN (SELECT runs.state FROM runs WHERE runs.seq = tasks.run) = 'cancelled' THEN 5 \
            WHEN ended_leases + ?1 >= ?3 OR dead_workers + ?2 >= ?4 THEN 4 ELSE 0 END, \
        reason = CASE \
            WHEN (SELECT runs.state FROM runs WHERE runs.seq = tasks.run) = 'cancelled' \
            THEN 'cancelled' \
            WHEN ended_leases + ?1 >= ?3 OR dead_workers + ?2 >= ?4 THEN 'lost_lease' END, \
        class = 'lost_lease', \
        error = printf('lost without an answer: %d leases ended, %d worker processes died', \
            ended_leases + ?1, dead_workers + ?2), \
        ended_leases = ended_leases + ?1, dead_workers = dead_workers + ?2, turn = turn + 1, \
        lease = NULL, lease_end = NULL, worker = NULL WHERE ";
    // `+ 0`: SQLite prepares a statement anew for every value of a bare `LIMIT ?`.
    const ENDED: &str = "(run, position, sample) IN (\
        SELECT run, position, sample FROM tasks INDEXED BY tasks_leased \
        WHERE state = 2 AND lease_end <= ?5 \
        ORDER BY lease_end, run, position, sample LIMIT ?6 + 0)";
    const DIED: &str = "(run, position, sample) IN (\
        SELECT run, position, sample FROM tasks INDEXED BY tasks_leased \
        WHERE state = 2 AND worker = ?5)";
    let (ended, died, which) = match loss {
        Loss::Ended { .. } => (1, 0, ENDED),
        Loss::Died { .. } => (0, 1, DIED),
    };
    let query = super::batch::statement([LOSE, which].concat())
        .bind(ended)
        .bind(died)
        .bind(MAX_LOST_LEASES)
        .bind(MAX_DEAD_WORKERS);
    let query = match loss {
        Loss::Ended { now, limit } => query.bind(*now).bind(*limit),
        Loss::Died { worker } => query.bind(worker.as_bytes().to_vec()),
    };
    Ok(query.execute(conn).await?.rows_affected())
}

/// Whether a worker holds a task whose workers keep dying.
pub(super) async fn holds_suspect(
    conn: &mut SqliteConnection,
    worker: WorkerId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_leased \
             WHERE state = 2 AND worker = ? AND dead_workers >= ?)",
    )
    .bind(worker.as_bytes().to_vec())
    .bind(SUSPECT_DEAD_WORKERS)
    .fetch_one(conn)
    .await
}

/// Records a worker process.
pub(super) async fn join(
    conn: &mut SqliteConnection,
    worker: WorkerId,
    now: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM workers WHERE max(seen_ms, joined_ms) < ?")
        .bind(now.saturating_sub(LISTED_MS))
        .execute(&mut *conn)
        .await?;
    let own = Process::own();
    sqlx::query(
        "INSERT INTO workers (id, pid, joined_ms, host, version, seen_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?3) ON CONFLICT DO NOTHING",
    )
    .bind(worker.as_bytes().to_vec())
    .bind(own.pid)
    .bind(now)
    .bind(own.host)
    .bind(env!("CARGO_PKG_VERSION"))
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets a worker process that leaves. What it holds still goes back as if it had not been
/// claimed: nobody will answer for it.
pub(super) async fn leave(
    conn: &mut SqliteConnection,
    worker: WorkerId,
) -> Result<(), sqlx::Error> {
    let back = sqlx::query(
        "UPDATE tasks SET state = iif(runs.state = 'cancelled', 5, 0), \
             reason = iif(runs.state = 'cancelled', 'cancelled', NULL), \
             first_claim_ms = NULL, lease = NULL, lease_end = NULL, worker = NULL \
         FROM runs WHERE runs.seq = tasks.run AND (run, position, sample) IN (\
             SELECT run, position, sample FROM tasks INDEXED BY tasks_leased \
             WHERE state = 2 AND worker = ?) \
         RETURNING run, estimated_tokens, \
             (SELECT runs.weight FROM runs WHERE runs.seq = tasks.run)",
    )
    .bind(worker.as_bytes().to_vec())
    .fetch_all(&mut *conn)
    .await?;
    let settled = |row: &SqliteRow| {
        let weight = Weight::new(row.try_get(2)?).unwrap_or_default();
        Ok(Settled { run: row.try_get(0)?, weight, estimated: row.try_get(1)?, used: 0 })
    };
    let settled: Result<Vec<Settled>, sqlx::Error> = back.iter().map(settled).collect();
    let script = share::settle(Script::default(), settled?);
    let script = script.and("DELETE FROM workers WHERE id = ?").bind(worker.as_bytes().to_vec());
    script.execute(conn).await?;
    Ok(())
}
