//! Runs, their tasks and their blobs, as callers put them in and steer them.
//!
//! Owns the statements that create, enqueue, pause, cancel and retry.

use sqlx::{Row, SqliteConnection};
use tribunal_core::{FailureClass, LeafTask, RunState, UngradedReason};

use super::{
    batch::{slices, with_rows},
    postings,
    schema::{CANCELLED, READY},
};
use crate::{blob::PackedBlob, store::NewRun};

/// Inserts blobs that are not there.
pub(super) async fn put_blobs(
    conn: &mut SqliteConnection,
    blobs: &[PackedBlob],
) -> Result<(), sqlx::Error> {
    for PackedBlob { hash, size, content } in blobs {
        sqlx::query(
            "INSERT INTO blobs (hash, size, content) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(hash.as_bytes().to_vec())
        .bind(size.cast_signed())
        .bind(content.clone())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Inserts the run if it is not there.
pub(super) async fn create(
    conn: &mut SqliteConnection,
    run: &NewRun,
    now: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO runs (seq, id, inputs, generation, spec, judge, model, simulated, reuse, \
             state, reason, created_ms) \
         VALUES (1 + max((SELECT coalesce(max(seq), 0) FROM runs), \
                         (SELECT value FROM store_meta WHERE key = 'last_seq')), \
             ?, ?, ?, ?, ?, ?, ?, ?, 'active', '', ?) ON CONFLICT DO NOTHING",
    )
    .bind(run.id.as_str().to_owned())
    .bind(run.inputs.as_bytes().to_vec())
    .bind(run.generation)
    .bind(run.spec.as_bytes().to_vec())
    .bind(run.judge.clone())
    .bind(run.model.clone())
    .bind(run.simulated)
    .bind(run.reuse)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Inserts tasks that are not there; returns how many were not.
pub(super) async fn enqueue(
    conn: &mut SqliteConnection,
    run: i64,
    tasks: &[LeafTask],
) -> Result<u64, sqlx::Error> {
    let cancelled: bool = sqlx::query("SELECT state = 'cancelled' FROM runs WHERE seq = ?")
        .bind(run)
        .fetch_one(&mut *conn)
        .await?
        .try_get(0)?;
    let (state, reason) = match cancelled {
        true => (CANCELLED, Some("cancelled")),
        false => (READY, None),
    };
    let mut new = 0;
    for slice in slices(tasks) {
        // Without a WHERE, `ON` would be read as part of a join.
        let mut query = with_rows(
            "run, position, sample, state, reason, place, estimated_tokens, id, category, \
             content_key, rule",
            slice.len(),
            0,
            "INSERT INTO tasks (run, position, sample, state, reason, place, estimated_tokens, \
                 id, category, content_key, rule) SELECT * FROM j WHERE true ON CONFLICT DO NOTHING",
        );
        for task in slice {
            query = query
                .bind(run)
                .bind(task.position)
                .bind(task.sample)
                .bind(state)
                .bind(reason)
                .bind(task.order)
                .bind(task.estimated_tokens)
                .bind(task.id.clone())
                .bind(task.category.name())
                .bind(task.content_key.as_bytes().to_vec())
                .bind(task.rule.clone());
        }
        new += query.execute(&mut *conn).await?;
    }
    Ok(new)
}

/// Sets a run's state; cancelling ends what nobody holds.
pub(super) async fn control(
    conn: &mut SqliteConnection,
    run: i64,
    state: RunState,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE runs SET state = ?, reason = ? WHERE seq = ?")
        .bind(state.name())
        .bind(reason.to_owned())
        .bind(run)
        .execute(&mut *conn)
        .await?;
    if state == RunState::Cancelled {
        sqlx::query(
            "UPDATE tasks SET state = 5, run_at = NULL, reason = 'cancelled' \
             WHERE run = ? AND state IN (0, 1)",
        )
        .bind(run)
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Puts tasks back in the queue; returns how many.
pub(super) async fn retry(
    conn: &mut SqliteConnection,
    run: i64,
    classes: &[FailureClass],
) -> Result<u64, sqlx::Error> {
    let names = |names: Vec<&str>| serde_json::Value::from(names).to_string();
    let class_names = names(classes.iter().map(|class| class.name()).collect());
    let asked = |reason: &UngradedReason| classes.iter().any(|class| class.leads_to(*reason));
    let reasons = UngradedReason::ALL.into_iter().filter(asked);
    let reason_names = names(reasons.map(UngradedReason::name).collect());
    sqlx::query(
        "UPDATE runs SET state = 'active', reason = '' WHERE seq = ? AND state = 'cancelled'",
    )
    .bind(run)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "DELETE FROM verdicts WHERE run = ?1 AND reason IS NOT NULL \
             AND (?2 OR reason IN (SELECT value FROM json_each(?3)))",
    )
    .bind(run)
    .bind(classes.is_empty())
    .bind(reason_names.clone())
    .execute(&mut *conn)
    .await?;
    let put_back = sqlx::query(
        "UPDATE tasks SET state = 0, turn = 0, run_at = NULL, failures = 0, ended_leases = 0, \
             dead_workers = 0, class = NULL, reason = NULL, first_claim_ms = NULL, error = '' \
         WHERE run = ?1 AND (state = 5 \
             OR state = 4 AND (?2 OR class IN (SELECT value FROM json_each(?3))) \
             OR state = 3 AND reason IS NOT NULL \
                 AND (?2 OR reason IN (SELECT value FROM json_each(?4))))",
    )
    .bind(run)
    .bind(classes.is_empty())
    .bind(class_names)
    .bind(reason_names)
    .execute(&mut *conn)
    .await?;
    postings::wait_on(conn, run).await?;
    Ok(put_back.rows_affected())
}
