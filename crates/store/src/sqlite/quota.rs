//! Quota in its table.
//!
//! Owns one row for each pool, made when first asked for. What a row means is `quota::row`'s.

use sqlx::{Row, SqliteConnection};

use crate::quota::{QuotaAsk, QuotaGrant, QuotaPool, QuotaReport, Spend, row::QuotaRow};

/// A change of a pool's row.
pub(super) enum Change {
    Take { pool: QuotaPool, ask: QuotaAsk },
    Report { pool: QuotaPool, report: QuotaReport },
}

/// Not part of the format's steps: a store without quota has no such table, and an older version
/// that does not know it loses nothing.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS quotas (
    account TEXT NOT NULL,
    family TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (account, family)
) STRICT, WITHOUT ROWID";

/// Makes the change; a report is granted nothing.
pub(super) async fn apply(
    conn: &mut SqliteConnection,
    change: &Change,
    now: i64,
) -> Result<QuotaGrant, sqlx::Error> {
    let (Change::Take { pool, .. } | Change::Report { pool, .. }) = change;
    sqlx::query(TABLE).execute(&mut *conn).await?;
    let kept = sqlx::query("SELECT state FROM quotas WHERE account = ? AND family = ?")
        .bind(pool.account.clone())
        .bind(pool.family.clone())
        .fetch_optional(&mut *conn)
        .await?;
    let kept: Option<String> = kept.map(|row| row.try_get(0)).transpose()?;
    // Text of another version says nothing: what it knew is learnt again.
    let kept = kept.and_then(|text| QuotaRow::read(&text));
    let mut row = kept.unwrap_or_else(|| QuotaRow::new(now));
    let grant = match change {
        Change::Take { ask, .. } => row.take(now, ask),
        Change::Report { report, .. } => QuotaGrant {
            granted: Spend::default(),
            wait: std::time::Duration::ZERO,
            view: row.report(now, report),
        },
    };
    sqlx::query(
        "INSERT INTO quotas (account, family, state) VALUES (?, ?, ?) \
         ON CONFLICT DO UPDATE SET state = excluded.state",
    )
    .bind(pool.account.clone())
    .bind(pool.family.clone())
    .bind(row.text())
    .execute(conn)
    .await?;
    Ok(grant)
}
