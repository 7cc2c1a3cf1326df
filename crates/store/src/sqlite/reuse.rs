//! Verdicts of other runs that are the same question's.
//!
//! Owns the look-ups by content key: whether another run has a verdict that a task can take over,
//! or is asking at this moment. It changes nothing.

use std::collections::{HashMap, HashSet};

use sqlx::{Row, SqliteConnection, SqlitePool};
use tribunal_core::{ContentKey, RunId};

use super::{
    batch::{slices, with_rows},
    schema::{DONE, POSTED},
};

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
    run: i64,
    position: u32,
    sample: u32,
}

/// For the questions of a run that other runs have too: what they know. A verdict is preferred,
/// the oldest one first, and of those the one of the run that was begun first.
pub(super) async fn twins(
    conn: &mut SqliteConnection,
    run: i64,
    keys: &[ContentKey],
) -> Result<HashMap<ContentKey, Twin>, sqlx::Error> {
    let mut twins: HashMap<ContentKey, Twin> = HashMap::new();
    for slice in slices(keys) {
        // Only the tasks' keys are indexed, which never change: what is claimed and completed
        // costs this nothing.
        let mut query = with_rows(
            "content_key",
            slice.len(),
            2,
            "SELECT o.content_key, o.state, runs.id, o.run, o.position, o.sample FROM j \
             CROSS JOIN tasks o INDEXED BY tasks_content ON o.content_key = j.content_key \
             CROSS JOIN runs ON runs.seq = o.run AND runs.pruned = 0 \
             LEFT JOIN verdicts v ON o.state = 3 AND v.run = o.run AND v.position = o.position \
                 AND v.sample = o.sample AND v.score IS NOT NULL AND v.source <> 'rule' \
             WHERE o.run <> ?1 AND (o.state = 2 OR o.state = 1 AND o.run_at = ?2 OR v.score IS NOT NULL) \
             ORDER BY v.stored_ms, o.run, o.position, o.sample",
        )
.bind(run).bind(POSTED);
        for key in slice {
            query = query.bind(key.as_bytes().to_vec());
        }
        for row in query.fetch_all(&mut *conn).await? {
            let key = ContentKey::from_slice(row.try_get(0)?)
                .ok_or_else(|| sqlx::Error::Decode("a content key of another length".into()))?;
            let state: i64 = row.try_get(1)?;
            let known = twins.get(&key);
            if state != DONE {
                twins.entry(key).or_insert(Twin::Asking);
            } else if !matches!(known, Some(Twin::Graded(_))) {
                let id: &str = row.try_get(2)?;
                let id = id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
                let (run, position, sample) = (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
                twins.insert(key, Twin::Graded(Graded { id, run, position, sample }));
            }
        }
    }
    Ok(twins)
}

/// The content keys among these for which a run has a verdict that can be taken over.
pub(super) async fn known(
    pool: &SqlitePool,
    keys: &[ContentKey],
) -> Result<HashSet<ContentKey>, sqlx::Error> {
    let mut known = HashSet::new();
    for slice in slices(keys) {
        let mut query = with_rows(
            "content_key",
            slice.len(),
            0,
            "SELECT j.content_key FROM j WHERE EXISTS (\
                 SELECT 1 FROM tasks o INDEXED BY tasks_content \
                 CROSS JOIN runs ON runs.seq = o.run AND runs.pruned = 0 \
                 CROSS JOIN verdicts v ON v.run = o.run AND v.position = o.position \
                     AND v.sample = o.sample \
                 WHERE o.content_key = j.content_key AND o.state = 3 AND v.score IS NOT NULL \
                     AND v.source <> 'rule')",
        );
        for key in slice {
            query = query.bind(key.as_bytes().to_vec());
        }
        for row in query.fetch_all(pool).await? {
            known.extend(ContentKey::from_slice(row.try_get(0)?));
        }
    }
    Ok(known)
}

/// The compressed verdict.
pub(super) async fn record(
    conn: &mut SqliteConnection,
    graded: &Graded,
) -> Result<Vec<u8>, sqlx::Error> {
    sqlx::query_scalar("SELECT record FROM verdicts WHERE run = ? AND position = ? AND sample = ?")
        .bind(graded.run)
        .bind(graded.position)
        .bind(graded.sample)
        .fetch_one(conn)
        .await
}
