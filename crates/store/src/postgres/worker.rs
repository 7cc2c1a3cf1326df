//! Worker processes: who works on this store, and who has died.
//!
//! Owns the table of workers. A process is known to be dead only to its own machine; a worker
//! elsewhere that is silent loses its leases by time.

use sqlx::{Connection, PgConnection, Row, postgres::PgRow};
use tribunal_core::WorkerId;

use super::{
    batches, lease,
    schema::{BEGIN_PUT, now},
};
use crate::{
    fleet::LISTED_MS,
    process::{self, Process},
};

/// Announces a worker of this process, and takes back the leases of those of this machine whose
/// processes are gone.
pub(super) async fn join(
    conn: &mut PgConnection,
    worker: WorkerId,
    now: Option<i64>,
) -> Result<(), sqlx::Error> {
    let own = Process::own();
    let others = sqlx::query("SELECT id, pid, started FROM workers WHERE machine = $1")
        .bind(own.machine.clone())
        .fetch_all(&mut *conn)
        .await?;
    let gone = |row: &PgRow| -> Result<Option<Vec<u8>>, sqlx::Error> {
        let (id, pid, started): (Vec<u8>, i64, &str) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok((!process::lives(pid, started)).then_some(id))
    };
    let dead: Vec<Vec<u8>> =
        others.iter().filter_map(|row| gone(row).transpose()).collect::<Result<_, _>>()?;
    let mut tx = conn.begin_with(BEGIN_PUT).await?;
    if !dead.is_empty() {
        lease::bury(&mut tx, &dead).await?;
        batches::let_go(&mut tx, &dead).await?;
        sqlx::query("DELETE FROM workers WHERE id = ANY ($1)").bind(dead).execute(&mut *tx).await?;
    }
    sqlx::query(concat!("DELETE FROM workers WHERE seen_ms < ", now!(), " - $2"))
        .bind(now)
        .bind(LISTED_MS)
        .execute(&mut *tx)
        .await?;
    sqlx::query(concat!(
        "INSERT INTO workers (joined_ms, seen_ms, id, machine, host, pid, started, version) \
         VALUES (",
        now!(),
        ", ",
        now!(),
        ", $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING"
    ))
    .bind(now)
    .bind(worker.as_bytes().to_vec())
    .bind(own.machine)
    .bind(own.host)
    .bind(own.pid)
    .bind(own.started)
    .bind(env!("CARGO_PKG_VERSION"))
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// Forgets workers that leave, and puts back what they hold.
pub(super) async fn leave(
    conn: &mut PgConnection,
    workers: &[WorkerId],
) -> Result<(), sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN_PUT).await?;
    for worker in workers {
        lease::leave(&mut tx, *worker).await?;
        batches::let_go(&mut tx, &[worker.as_bytes().to_vec()]).await?;
    }
    tx.commit().await
}

/// Takes back leases that have ended; returns how many.
pub(super) async fn reap(
    conn: &mut PgConnection,
    limit: i64,
    now: Option<i64>,
) -> Result<u64, sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN_PUT).await?;
    let reaped = lease::reap(&mut tx, limit, now).await?;
    tx.commit().await?;
    Ok(reaped)
}
