//! Quota in its table.
//!
//! Owns one row for each pool, made when first asked for and locked while it changes. What a row
//! means is `quota::row`'s. A grant that a crash of the server forgets was spent within half a
//! second, so its commit is not waited for.

use sqlx::{Connection, PgConnection};

use super::{schema::now, text};
use crate::quota::{QuotaPool, row::QuotaRow};

/// Begins a change of a row.
const BEGIN: &str = "BEGIN; SET LOCAL synchronous_commit = off";

/// Changes a pool's row, given the time.
pub(super) async fn change<T>(
    conn: &mut PgConnection,
    pool: &QuotaPool,
    now: Option<i64>,
    change: impl Fn(&mut QuotaRow, i64) -> T,
) -> Result<T, sqlx::Error> {
    let (account, family) = (text::put(&pool.account), text::put(&pool.family));
    let mut tx = conn.begin_with(BEGIN).await?;
    sqlx::query(
        "INSERT INTO quotas (account, family, state) VALUES ($1, $2, '') \
                 ON CONFLICT DO NOTHING",
    )
    .bind(account.clone())
    .bind(family.clone())
    .execute(&mut *tx)
    .await?;
    let kept: String = sqlx::query_scalar(
        "SELECT state FROM quotas WHERE account = $1 AND family = $2 FOR UPDATE",
    )
    .bind(account.clone())
    .bind(family.clone())
    .fetch_one(&mut *tx)
    .await?;
    // After the lock: whoever waited for it is not to look at an older moment.
    let now: i64 =
        sqlx::query_scalar(concat!("SELECT ", now!())).bind(now).fetch_one(&mut *tx).await?;
    // Text of another version says nothing: what it knew is learnt again.
    let mut row = QuotaRow::read(&kept).unwrap_or_else(|| QuotaRow::new(now));
    let changed = change(&mut row, now);
    sqlx::query("UPDATE quotas SET state = $3 WHERE account = $1 AND family = $2")
        .bind(account)
        .bind(family)
        .bind(row.text())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(changed)
}
