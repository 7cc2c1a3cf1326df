//! Labels in a PostgreSQL store.
//!
//! Owns their two statements: append, and read in order. Nothing ever changes a label.

use sqlx::{PgConnection, Row, postgres::PgRow};
use tribunal_core::RunId;

use super::{call::number, schema::now, text};
use crate::{
    label::{Label, LabelKind, NewLabel},
    row::named,
};

/// Appends the label; its place and its time, or `None` where there is no such run. The run's row is
/// locked meanwhile, so that places are seen in the order in which they are given out: whoever
/// reads on from a place misses none.
pub(super) async fn append(
    conn: &mut PgConnection,
    run: &RunId,
    label: &NewLabel,
    now: Option<i64>,
) -> Result<Option<(u64, i64)>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "WITH r AS MATERIALIZED (SELECT seq FROM runs WHERE id = $2 FOR NO KEY UPDATE) \
         INSERT INTO labels (run, position, author, kind, score, note, blind, at_ms) \
         SELECT r.seq, $3, $4, $5, $6, $7, $8, ",
        now!(),
        " FROM r RETURNING seq, at_ms"
    ))
    .bind(now)
    .bind(run.as_str())
    .bind(i64::from(label.position))
    .bind(text::put(&label.author))
    .bind(label.kind.name())
    .bind(label.score)
    .bind(text::put(&label.note))
    .bind(label.blind)
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((number(&row, 0)?, row.try_get(1)?))).transpose()
}

/// The labels behind `after`, at most `limit`.
pub(super) async fn list(
    conn: &mut PgConnection,
    run: i64,
    after: u64,
    limit: usize,
) -> Result<Vec<Label>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT seq, at_ms, position, author, kind, score, note, blind FROM labels \
         WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT $3",
    )
    .bind(run)
    .bind(i64::try_from(after).unwrap_or(i64::MAX))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?;
    let label = |row: &PgRow| {
        Ok(Label {
            seq: number(row, 0)?,
            at_ms: row.try_get(1)?,
            label: NewLabel {
                position: number(row, 2)?,
                author: text::get(row.try_get(3)?),
                kind: named(row, 4, LabelKind::from_name)?,
                score: row.try_get(5)?,
                note: text::get(row.try_get(6)?),
                blind: row.try_get(7)?,
            },
        })
    };
    rows.iter().map(label).collect()
}
