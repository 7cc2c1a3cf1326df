//! The format of a store: making it, checking it, upgrading it.
//!
//! Owns who may work with which version. Workers of two versions may run side by side where the
//! newer format says so; everything else is refused with what to do.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use super::{connect::Target, error, schema};
use crate::{error::StoreError, url::without_password};

/// What is found where a store should be.
pub(super) enum Format {
    /// No tables.
    Missing,
    /// A store of this version, which tribunals from `works_with` on may use.
    Found { version: i64, works_with: i64 },
}

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To see what is there; none is made.
    Look,
    /// To work with it; it is made where there is none.
    Open,
    /// To make it, or to bring an older one to this version.
    Init,
}

/// Looks at the format.
pub(super) async fn look(conn: &mut PgConnection) -> Result<Format, sqlx::Error> {
    let there: bool = sqlx::query_scalar(
        "SELECT to_regclass(quote_ident(current_setting('search_path')) || '.store_meta') \
             IS NOT NULL",
    )
    .fetch_one(&mut *conn)
    .await?;
    if !there {
        return Ok(Format::Missing);
    }
    let row = sqlx::query("SELECT version, works_with FROM store_meta").fetch_one(conn).await?;
    Ok(Format::Found { version: row.try_get(0)?, works_with: row.try_get(1)? })
}

/// Makes the store where there is none, or upgrades it, if that is the purpose; whoever else does
/// the same at the same moment waits. Returns whether there is one.
pub(super) async fn prepare(
    conn: &mut PgConnection,
    target: &Target,
    purpose: Purpose,
) -> Result<bool, StoreError> {
    let fail = |error| error::sql(&target.name, error);
    check_server(conn, &target.name).await?;
    match look(conn).await.map_err(fail)? {
        Format::Missing if purpose == Purpose::Look => return Ok(false),
        Format::Missing => migrate(conn, target).await.map_err(fail)?,
        Format::Found { version, .. } if purpose == Purpose::Init && version < schema::VERSION => {
            migrate(conn, target).await.map_err(fail)?;
        }
        Format::Found { .. } => {}
    }
    match look(conn).await.map_err(fail)? {
        Format::Found { version, works_with } => {
            check(version, works_with, &target.name)?;
            Ok(true)
        }
        Format::Missing => Ok(false),
    }
}

/// Tables were made, and cannot be seen.
pub(super) fn unseen(url: &str) -> StoreError {
    StoreError::Open {
        store: without_password(url),
        reason: "its tables cannot be seen after they were made".to_owned(),
    }
}

/// Whether this tribunal may work with tables of that version.
fn check(version: i64, works_with: i64, store: &str) -> Result<(), StoreError> {
    let known = schema::VERSION;
    if version < known {
        return Err(StoreError::OlderVersion { store: store.to_owned(), found: version, known });
    }
    if works_with > known {
        return Err(StoreError::NewerVersion { store: store.to_owned(), found: version, known });
    }
    Ok(())
}

async fn check_server(conn: &mut PgConnection, store: &str) -> Result<(), StoreError> {
    let fail = |error| error::sql(store, error);
    let version: i64 = sqlx::query_scalar("SELECT current_setting('server_version_num')::bigint")
        .fetch_one(&mut *conn)
        .await
        .map_err(fail)?;
    if version < schema::OLDEST_SERVER {
        let (found, oldest) = (version / 10_000, schema::OLDEST_SERVER / 10_000);
        return Err(StoreError::Open {
            store: store.to_owned(),
            reason: format!("the server is PostgreSQL {found}; {oldest} or newer is needed"),
        });
    }
    let fsync: String =
        sqlx::query_scalar("SHOW fsync").fetch_one(&mut *conn).await.map_err(fail)?;
    if fsync == "off" {
        tracing::warn!("{store} runs with fsync = off: a crash of its machine can lose verdicts");
    }
    Ok(())
}

async fn migrate(conn: &mut PgConnection, target: &Target) -> Result<(), sqlx::Error> {
    let mut tx = conn.begin().await?;
    // The schema's name is checked to need no quotes.
    let schema = &target.schema;
    tx.execute(AssertSqlSafe(format!(
        "SELECT pg_advisory_xact_lock(hashtext('tribunal'), hashtext('{schema}'))"
    )))
    .await?;
    // Granting only the schema is enough for a role that did not make it.
    let there: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
        .bind(schema)
        .fetch_one(&mut *tx)
        .await?;
    if !there {
        tx.execute(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).await?;
    }
    let from = match look(&mut tx).await? {
        Format::Missing => 0,
        Format::Found { version, .. } => usize::try_from(version).unwrap_or(usize::MAX),
    };
    for step in schema::STEPS.iter().skip(from) {
        sqlx::raw_sql(*step).execute(&mut *tx).await?;
    }
    if from < schema::STEPS.len() {
        sqlx::query(
            "INSERT INTO store_meta (version, works_with, store_key) VALUES ($1, $2, $3) \
             ON CONFLICT (only_row) DO UPDATE SET version = $1, works_with = $2",
        )
        .bind(schema::VERSION)
        .bind(schema::WORKS_WITH)
        .bind(rand::random::<[u8; 32]>().to_vec())
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_side_by_side_and_versions_refused() {
        let known = schema::VERSION;
        assert!(check(known, known, "s").is_ok());
        assert!(check(known + 1, known, "s").is_ok(), "a step that only adds");
        let newer = check(known + 1, known + 1, "s").unwrap_err();
        assert!(matches!(newer, StoreError::NewerVersion { .. }), "{newer}");
        let older = check(known - 1, 1, "s").unwrap_err();
        assert!(older.to_string().contains("tribunal store init"), "{older}");
    }
}
