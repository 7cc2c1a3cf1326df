//! Token counts in their table.
//!
//! Owns the table, which is a memory alone: without it texts are counted again. What counts is the
//! caller's.

use std::collections::HashMap;

use sqlx::{Row, SqliteConnection, SqlitePool};
use tribunal_core::BlobHash;

use super::batch::{slices, with_rows};

/// Not part of the format's steps: a store without it has counted nothing yet, and an older version
/// that does not know it loses nothing.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS token_counts (
    vocabulary TEXT NOT NULL,
    text BLOB NOT NULL CHECK (length(text) = 32),
    tokens INTEGER NOT NULL,
    PRIMARY KEY (vocabulary, text)
) STRICT, WITHOUT ROWID";

/// The count of each of these texts that is remembered.
pub(super) async fn known(
    pool: &SqlitePool,
    vocabulary: &str,
    texts: &[BlobHash],
) -> Result<Vec<Option<u64>>, sqlx::Error> {
    let table = sqlx::query("SELECT 1 FROM sqlite_master WHERE name = 'token_counts'");
    if table.fetch_optional(pool).await?.is_none() {
        return Ok(vec![None; texts.len()]);
    }
    let mut known = HashMap::new();
    for slice in slices(texts) {
        let mut query = with_rows(
            "text",
            slice.len(),
            1,
            "SELECT c.text, c.tokens FROM j CROSS JOIN token_counts c ON c.text = j.text \
             WHERE c.vocabulary = ?1",
        )
        .bind(vocabulary.to_owned());
        for text in slice {
            query = query.bind(text.as_bytes().to_vec());
        }
        for row in query.fetch_all(pool).await? {
            let tokens: i64 = row.try_get(1)?;
            known
                .extend(BlobHash::from_slice(row.try_get(0)?).map(|h| (h, tokens.cast_unsigned())));
        }
    }
    Ok(texts.iter().map(|text| known.get(text).copied()).collect())
}

/// Remembers these counts.
pub(super) async fn put(
    conn: &mut SqliteConnection,
    vocabulary: &str,
    counts: &[(BlobHash, u64)],
) -> Result<(), sqlx::Error> {
    sqlx::query(TABLE).execute(&mut *conn).await?;
    for (text, tokens) in counts {
        sqlx::query("INSERT INTO token_counts VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(vocabulary.to_owned())
            .bind(text.as_bytes().to_vec())
            .bind(tokens.cast_signed())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// Forgets the counts of texts that are gone.
pub(super) async fn forget(
    conn: &mut SqliteConnection,
    texts: &[BlobHash],
) -> Result<(), sqlx::Error> {
    sqlx::query(TABLE).execute(&mut *conn).await?;
    let vocabularies = "SELECT DISTINCT vocabulary FROM token_counts";
    let vocabularies: Vec<String> = sqlx::query_scalar(vocabularies).fetch_all(&mut *conn).await?;
    for text in texts {
        for vocabulary in &vocabularies {
            sqlx::query("DELETE FROM token_counts WHERE vocabulary = ? AND text = ?")
                .bind(vocabulary.clone())
                .bind(text.as_bytes().to_vec())
                .execute(&mut *conn)
                .await?;
        }
    }
    Ok(())
}
