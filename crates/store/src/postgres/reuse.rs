//! Verdicts of other runs that are the same question's.
//!
//! Owns the look-ups by content key: whether another run has a verdict that a task can take over,
//! or is asking at this moment. It changes nothing.

use std::collections::{HashMap, HashSet};

use sqlx::{PgConnection, Row};
use tribunal_core::{ContentKey, RunId};

use super::schema::POSTED;
use crate::row::damaged;

/// What other runs know of a question.
pub(super) enum Twin {
    /// One is asking now, or waits for a batch's reply.
    Asking,
    /// One has a verdict.
    Graded(Graded),
}

/// Where a verdict stands that can be taken over.
#[derive(Clone)]
pub(super) struct Graded {
    /// The run that has it.
    pub(super) id: RunId,
    /// Number of the run, position, sample.
    pub(super) key: (i64, i64, i64),
}

/// For questions of runs, by the run's number: what other runs know. A verdict is preferred, the
/// oldest one first, and of those the one of the run that was begun first.
pub(super) async fn twins(
    conn: &mut PgConnection,
    asking: &[(i64, ContentKey)],
) -> Result<HashMap<(i64, ContentKey), Twin>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT j.run, o.content_key, o.state <> 3, r.id, o.run, o.position, o.sample \
         FROM unnest($1::bigint[], $2::bytea[]) AS j (run, content_key) \
         JOIN tasks o ON o.content_key = j.content_key AND o.run <> j.run \
             AND (o.state IN (2, 3) OR o.state = 1 AND o.run_at = $3) \
         JOIN runs r ON r.seq = o.run AND NOT r.pruned \
         LEFT JOIN verdicts v ON o.state = 3 AND v.run = o.run AND v.position = o.position \
             AND v.sample = o.sample AND v.score IS NOT NULL AND v.source <> 'rule' \
         WHERE o.state <> 3 OR v.score IS NOT NULL \
         ORDER BY v.stored_ms, o.run, o.position, o.sample",
    )
    .bind(asking.iter().map(|(run, _)| *run).collect::<Vec<_>>())
    .bind(asking.iter().map(|(_, key)| key.as_bytes().to_vec()).collect::<Vec<_>>())
    .bind(POSTED)
    .fetch_all(conn)
    .await?;
    let mut twins: HashMap<(i64, ContentKey), Twin> = HashMap::new();
    for row in &rows {
        let key = ContentKey::from_slice(row.try_get(1)?).ok_or_else(|| damaged("content key"))?;
        let question = (row.try_get(0)?, key);
        if row.try_get(2)? {
            twins.entry(question).or_insert(Twin::Asking);
        } else if !matches!(twins.get(&question), Some(Twin::Graded(_))) {
            let id: &str = row.try_get(3)?;
            let id = id.parse().map_err(|_| damaged("run id"))?;
            let key = (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?);
            twins.insert(question, Twin::Graded(Graded { id, key }));
        }
    }
    Ok(twins)
}

/// The content keys among these for which a run has a verdict that can be taken over.
pub(super) async fn known(
    conn: &mut PgConnection,
    keys: &[ContentKey],
) -> Result<HashSet<ContentKey>, sqlx::Error> {
    let found: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT j.content_key FROM unnest($1::bytea[]) AS j (content_key) WHERE EXISTS ( \
             SELECT 1 FROM tasks o JOIN runs r ON r.seq = o.run AND NOT r.pruned \
             JOIN verdicts v ON v.run = o.run AND v.position = o.position AND v.sample = o.sample \
             WHERE o.content_key = j.content_key AND o.state = 3 AND v.score IS NOT NULL \
                 AND v.source <> 'rule')",
    )
    .bind(keys.iter().map(|key| &key.as_bytes()[..]).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    let key = |bytes: &Vec<u8>| ContentKey::from_slice(bytes).ok_or_else(|| damaged("content key"));
    found.iter().map(key).collect()
}

/// The compressed verdicts.
pub(super) async fn records(
    conn: &mut PgConnection,
    graded: impl Iterator<Item = &Graded>,
) -> Result<HashMap<(i64, i64, i64), Vec<u8>>, sqlx::Error> {
    let keys: Vec<(i64, i64, i64)> = graded.map(|graded| graded.key).collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(
        "SELECT v.run, v.position, v.sample, v.record \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS j (run, position, sample) \
         JOIN verdicts v ON v.run = j.run AND v.position = j.position AND v.sample = j.sample",
    )
    .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.1).collect::<Vec<_>>())
    .bind(keys.iter().map(|key| key.2).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    let record = |row: &sqlx::postgres::PgRow| {
        Ok(((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?), row.try_get(3)?))
    };
    rows.iter().map(record).collect()
}
