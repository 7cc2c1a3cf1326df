//! One call to the server: a connection, a time limit, and another try where the server was away.
//!
//! Owns waiting for a server that restarts or cannot be reached. Whatever is tried again is safe
//! to repeat: the store's contract says so of every method.

use std::time::Duration;

use rand::RngExt;
use sqlx::{Postgres, Row, pool::PoolConnection, postgres::PgRow};
use tokio::time::{Instant, error::Elapsed};

use super::{PostgresStore, error};
use crate::{error::StoreError, row::damaged};

/// The first wait before another try; it doubles, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Does the work on a connection, again and again while the server is away, for as long as the
/// store's patience lasts. A macro, because a closure over borrowed arguments cannot be told to
/// return a future that may be sent between threads.
macro_rules! call {
    ($store:expr, $conn:ident => $work:expr) => {{
        let mut patience = $crate::postgres::call::Patience::new($store.options.patience);
        loop {
            let done = $crate::postgres::call::call_once!($store, $conn => $work);
            match patience.judge(done).await {
                Some(done) => break done,
                None => continue,
            }
        }
    }};
}
pub(super) use call;

/// Does the work on a connection, once.
macro_rules! call_once {
    ($store:expr, $conn:ident => $work:expr) => {
        match $store.pool.acquire().await {
            Err(error) => Err($store.error(error)),
            Ok(mut held) => {
                let $conn: &mut sqlx::PgConnection = &mut held;
                let done = tokio::time::timeout($store.options.call_timeout, $work).await;
                $store.end(held, done)
            }
        }
    };
}
pub(super) use call_once;

/// As `call!`, with the number of a run that must be there.
macro_rules! call_run {
    ($store:expr, $run:expr, $conn:ident, $seq:ident => $work:expr) => {{
        let done = $crate::postgres::call::call!($store, $conn => async {
            match $crate::postgres::read::seq($conn, $run).await? {
                Some($seq) => $work.await.map(Some),
                None => Ok(None),
            }
        });
        done.and_then(|done| {
            done.ok_or_else(|| $crate::error::StoreError::NoSuchRun { run: $run.to_string() })
        })
    }};
}
pub(super) use call_run;

/// How long a server that is away is still waited for.
pub(super) struct Patience {
    end: Instant,
    wait: Duration,
}

// === impl Patience ===

impl Patience {
    pub(super) fn new(patience: Duration) -> Self {
        Self { end: Instant::now() + patience, wait: FIRST_WAIT }
    }

    /// What a call has come to; `None`, after a wait, where it is to be tried again.
    pub(super) async fn judge<T>(
        &mut self,
        done: Result<T, StoreError>,
    ) -> Option<Result<T, StoreError>> {
        let error = match done {
            Err(error) if error.is_retryable() => error,
            done => return Some(done),
        };
        // Not all at the same moment, when many workers have lost the same server.
        let jittered = self.wait.mul_f64(rand::rng().random_range(0.5..1.0));
        if Instant::now() + jittered >= self.end {
            return Some(Err(error));
        }
        tracing::warn!(%error, "trying again");
        tokio::time::sleep(jittered).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        None
    }
}

// === impl PostgresStore ===

impl PostgresStore {
    /// Ends a call: a connection that is not to be trusted any more is closed without a goodbye,
    /// which nobody may be there to hear.
    pub(super) fn end<T>(
        &self,
        conn: PoolConnection<Postgres>,
        done: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<T, StoreError> {
        let error = match done {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => self.error(error),
            Err(_) => {
                let seconds = self.options.call_timeout.as_secs_f64();
                self.unavailable(format!("no answer within {seconds} s"))
            }
        };
        // One that was refused a lock may stand in the transaction that was to begin with it.
        if error.is_retryable() {
            drop(conn.detach());
        }
        Err(error)
    }

    pub(super) fn error(&self, error: sqlx::Error) -> StoreError {
        error::sql(&self.name, error)
    }

    pub(super) fn unavailable(&self, reason: String) -> StoreError {
        StoreError::Unavailable { store: self.name.clone(), reason }
    }
}

/// A non-negative number, as the tables have it.
pub(super) fn number<T: TryFrom<i64>>(row: &PgRow, at: usize) -> Result<T, sqlx::Error> {
    let number: i64 = row.try_get(at)?;
    T::try_from(number).map_err(|_| damaged(&format!("number {number}")))
}
