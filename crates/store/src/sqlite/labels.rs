//! Labels in an SQLite store.
//!
//! Owns their two statements: append, and read in order. Nothing ever changes a label.

use sqlx::{Row, SqliteConnection, SqlitePool};

use tribunal_core::RunId;

use super::{
    SqliteStore,
    request::{Answer, Request},
};
use crate::{
    error::StoreError,
    label::{Label, LabelKind, NewLabel},
    row::damaged,
};

// === impl SqliteStore ===

impl SqliteStore {
    /// Appends the label through the writer.
    pub(super) async fn append(&self, run: &RunId, label: NewLabel) -> Result<Label, StoreError> {
        label.check()?;
        let seq = self.seq(run).await?;
        match self.writer.send(Request::Label { run: seq, label: label.clone() }).await? {
            Answer::Labelled(seq, at_ms) => Ok(Label { seq, at_ms, label }),
            _ => Err(self.wrong_answer()),
        }
    }
}

/// Appends the label and returns its place.
pub(super) async fn append(
    conn: &mut SqliteConnection,
    run: i64,
    label: &NewLabel,
    now: i64,
) -> Result<u64, sqlx::Error> {
    let inserted = sqlx::query(
        "INSERT INTO labels (run, position, author, kind, score, note, blind, at_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(run)
    .bind(label.position)
    .bind(label.author.clone())
    .bind(label.kind.name())
    .bind(label.score)
    .bind(label.note.clone())
    .bind(label.blind)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(inserted.last_insert_rowid().cast_unsigned())
}

/// The labels behind `after`, at most `limit`.
pub(super) async fn list(
    pool: &SqlitePool,
    run: i64,
    after: u64,
    limit: usize,
) -> Result<Vec<Label>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT seq, at_ms, position, author, kind, score, note, blind FROM labels \
         WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?",
    )
    .bind(run)
    .bind(after.cast_signed())
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await?;
    let label = |row: &sqlx::sqlite::SqliteRow| {
        let kind: &str = row.try_get(4)?;
        Ok(Label {
            seq: row.try_get::<i64, _>(0)?.cast_unsigned(),
            at_ms: row.try_get(1)?,
            label: NewLabel {
                position: row.try_get(2)?,
                author: row.try_get(3)?,
                kind: LabelKind::from_name(kind).ok_or_else(|| damaged("label"))?,
                score: row.try_get(5)?,
                note: row.try_get(6)?,
                blind: row.try_get(7)?,
            },
        })
    };
    rows.iter().map(label).collect()
}
