//! Token counts in their table.
//!
//! Owns the table, which is a memory alone: without it texts are counted again. What counts is the
//! caller's.

use std::collections::HashMap;

use sqlx::{PgConnection, Row};
use tribunal_core::BlobHash;

use super::{call::number, text};
use crate::row::damaged;

/// The counts of these texts that are remembered.
pub(super) async fn known(
    conn: &mut PgConnection,
    vocabulary: &str,
    texts: &[BlobHash],
) -> Result<HashMap<BlobHash, u64>, sqlx::Error> {
    let texts: Vec<&[u8]> = texts.iter().map(|text| &text.as_bytes()[..]).collect();
    let rows = sqlx::query(
        "SELECT text, tokens FROM token_counts WHERE vocabulary = $1 AND text = ANY ($2)",
    )
    .bind(text::put(vocabulary))
    .bind(texts)
    .fetch_all(conn)
    .await?;
    let count = |row| {
        let text = BlobHash::from_slice(Row::try_get(row, 0)?).ok_or_else(|| damaged("hash"))?;
        Ok((text, number(row, 1)?))
    };
    rows.iter().map(count).collect()
}

/// Remembers these counts.
pub(super) async fn put(
    conn: &mut PgConnection,
    vocabulary: &str,
    counts: &[(BlobHash, u64)],
) -> Result<(), sqlx::Error> {
    // In one order, so that two who put the same counts do not wait for each other in a circle.
    sqlx::query(
        "INSERT INTO token_counts (vocabulary, text, tokens) \
         SELECT $1, j.text, j.tokens FROM unnest($2::bytea[], $3::bigint[]) AS j (text, tokens) \
         ORDER BY j.text ON CONFLICT DO NOTHING",
    )
    .bind(text::put(vocabulary))
    .bind(counts.iter().map(|(text, _)| &text.as_bytes()[..]).collect::<Vec<_>>())
    .bind(counts.iter().map(|(_, tokens)| tokens.cast_signed()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}
