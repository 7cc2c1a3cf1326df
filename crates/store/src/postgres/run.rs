//! Runs, their tasks and their blobs, as callers put them in and steer them.
//!
//! Owns the statements that create, enqueue, pause, cancel and retry.

use std::num::NonZeroU32;

use sqlx::{Connection, PgConnection};
use tribunal_core::{FailureClass, LeafTask, RunState, UngradedReason};

use super::{
    batches,
    schema::{BEGIN_BLOBS, BEGIN_CONTROL, BEGIN_PUT, now},
    text,
};
use crate::{blob::PackedBlob, share::Weight, store::NewRun};

/// Tells others that there may be something to claim. A hint: it may get lost.
pub(super) async fn notify(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_notify('tribunal_' || current_setting('search_path'), '')")
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes that this user of the store puts blobs, before it looks which are there.
pub(super) async fn begin_puts(
    conn: &mut PgConnection,
    handle: [u8; 16],
    now: Option<i64>,
) -> Result<(), sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN_BLOBS).await?;
    sqlx::query("UPDATE shares SET puts_begun = puts_begun + 1").execute(&mut *tx).await?;
    sqlx::query(concat!(
        "INSERT INTO puts (begun_ms, handle) VALUES (",
        now!(),
        ", $2) ON CONFLICT (handle) DO UPDATE SET begun_ms = excluded.begun_ms"
    ))
    .bind(now)
    .bind(handle.to_vec())
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// All that this user has put is named by a run, or never will be.
pub(super) async fn end_puts(conn: &mut PgConnection, handle: [u8; 16]) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM puts WHERE handle = $1").bind(handle.to_vec()).execute(conn).await?;
    Ok(())
}

/// Inserts blobs that are not there: hash, length before compression, bytes.
pub(super) async fn put_blobs(
    conn: &mut PgConnection,
    blobs: &[PackedBlob],
) -> Result<(), sqlx::Error> {
    let hashes: Vec<&[u8]> = blobs.iter().map(|blob| &blob.hash.as_bytes()[..]).collect();
    let sizes: Vec<i64> = blobs.iter().map(|blob| blob.size.cast_signed()).collect();
    let contents: Vec<&[u8]> = blobs.iter().map(|blob| &blob.content[..]).collect();
    // In one order, so that two who put the same blobs do not wait for each other in a circle.
    sqlx::query(
        "INSERT INTO blobs (hash, size, content) \
         SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[]) AS j (hash, size, content) \
         ORDER BY hash ON CONFLICT DO NOTHING",
    )
    .bind(hashes)
    .bind(sizes)
    .bind(contents)
    .execute(conn)
    .await?;
    Ok(())
}

/// Inserts the run if it is not there.
pub(super) async fn create(
    conn: &mut PgConnection,
    run: &NewRun,
    now: Option<i64>,
) -> Result<(), sqlx::Error> {
    sqlx::query(concat!(
        "INSERT INTO runs (created_ms, id, inputs, generation, spec, judge, model, simulated, reuse, \
             state, reason) \
         SELECT ",
        now!(),
        ", $2, $3, $4, $5, $6, $7, $8, $9, 'active', '' \
         WHERE NOT EXISTS (SELECT 1 FROM runs WHERE id = $2) ON CONFLICT DO NOTHING"
    ))
    .bind(now)
    .bind(run.id.as_str())
    .bind(run.inputs.as_bytes().to_vec())
    .bind(i64::from(run.generation))
    .bind(run.spec.as_bytes().to_vec())
    .bind(text::put(&run.judge))
    .bind(text::put(&run.model))
    .bind(run.simulated)
    .bind(run.reuse)
    .execute(conn)
    .await?;
    Ok(())
}

/// Inserts tasks that are not there; returns how many were not.
pub(super) async fn enqueue(
    conn: &mut PgConnection,
    run: i64,
    tasks: &[LeafTask],
) -> Result<u64, sqlx::Error> {
    let numbers = |of: fn(&LeafTask) -> u32| -> Vec<i64> {
        tasks.iter().map(|task| i64::from(of(task))).collect()
    };
    let mut tx = conn.begin_with(BEGIN_PUT).await?;
    let new = sqlx::query(
        "INSERT INTO tasks (run, state, reason, position, sample, place, estimated_tokens, id, \
             category, content_key, rule) \
         SELECT runs.seq, CASE runs.state WHEN 'cancelled' THEN 5 ELSE 0 END, \
             CASE runs.state WHEN 'cancelled' THEN 'cancelled' END, j.position, j.sample, j.place, \
             j.estimated_tokens, j.id, j.category, j.content_key, j.rule \
         FROM runs CROSS JOIN unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
             $6::text[], $7::text[], $8::bytea[], $9::text[]) WITH ORDINALITY AS j \
             (position, sample, place, estimated_tokens, id, category, content_key, rule, n) \
         WHERE runs.seq = $1 ORDER BY j.position, j.sample, j.n ON CONFLICT DO NOTHING",
    )
    .bind(run)
    .bind(numbers(|task| task.position))
    .bind(numbers(|task| task.sample))
    .bind(numbers(|task| task.order))
    .bind(numbers(|task| task.estimated_tokens))
    .bind(tasks.iter().map(|task| text::put(&task.id)).collect::<Vec<_>>())
    .bind(tasks.iter().map(|task| task.category.name()).collect::<Vec<_>>())
    .bind(tasks.iter().map(|task| &task.content_key.as_bytes()[..]).collect::<Vec<_>>())
    .bind(tasks.iter().map(|task| task.rule.as_deref().map(text::put)).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if new > 0 {
        notify(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(new)
}

/// Sets a run's state; cancelling ends what nobody holds.
pub(super) async fn control(
    conn: &mut PgConnection,
    run: i64,
    state: RunState,
    reason: &str,
) -> Result<(), sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN_CONTROL).await?;
    sqlx::query("UPDATE runs SET state = $2, reason = $3 WHERE seq = $1")
        .bind(run)
        .bind(state.name())
        .bind(text::put(reason))
        .execute(&mut *tx)
        .await?;
    match state {
        RunState::Cancelled => {
            sqlx::query(
                "UPDATE tasks SET state = 5, run_at = NULL, reason = 'cancelled' \
                 WHERE run = $1 AND state IN (0, 1)",
            )
            .bind(run)
            .execute(&mut *tx)
            .await?;
        }
        RunState::Active => notify(&mut tx).await?,
        RunState::Paused => {}
    }
    tx.commit().await
}

/// Sets a run's weight.
pub(super) async fn set_weight(
    conn: &mut PgConnection,
    run: i64,
    weight: Weight,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE runs SET weight = $2 WHERE seq = $1")
        .bind(run)
        .bind(i64::from(weight.get()))
        .execute(conn)
        .await?;
    Ok(())
}

/// Sets a run's priority.
pub(super) async fn set_priority(
    conn: &mut PgConnection,
    run: i64,
    priority: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE runs SET priority = $2 WHERE seq = $1")
        .bind(run)
        .bind(i64::from(priority))
        .execute(conn)
        .await?;
    Ok(())
}

/// Sets or lifts a run's cap.
pub(super) async fn set_max_in_flight(
    conn: &mut PgConnection,
    run: i64,
    cap: Option<NonZeroU32>,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE runs SET max_in_flight = $2 WHERE seq = $1")
        .bind(run)
        .bind(cap.map(|cap| i64::from(cap.get())))
        .execute(conn)
        .await?;
    Ok(())
}

/// Puts tasks back in the queue; returns how many.
pub(super) async fn retry(
    conn: &mut PgConnection,
    run: i64,
    classes: &[FailureClass],
) -> Result<u64, sqlx::Error> {
    let names: Vec<&str> = classes.iter().map(|class| class.name()).collect();
    let asked = |reason: &UngradedReason| classes.iter().any(|class| class.leads_to(*reason));
    let reasons = UngradedReason::ALL.into_iter().filter(asked);
    let reasons: Vec<&str> = reasons.map(UngradedReason::name).collect();
    let mut tx = conn.begin_with(BEGIN_CONTROL).await?;
    sqlx::query(
        "UPDATE runs SET state = 'active', reason = '' WHERE seq = $1 AND state = 'cancelled'",
    )
    .bind(run)
    .execute(&mut *tx)
    .await?;
    // Tasks first: whoever completes one locks the task before it inserts the verdict.
    let put_back = sqlx::query(
        "UPDATE tasks SET state = 0, turn = 0, run_at = NULL, failures = 0, ended_leases = 0, \
             dead_workers = 0, class = NULL, reason = NULL, first_claim_ms = NULL, error = '' \
         WHERE run = $1 AND (state = 5 \
             OR state = 4 AND ($2 OR class = ANY ($3)) \
             OR state = 3 AND reason IS NOT NULL AND ($2 OR reason = ANY ($4)))",
    )
    .bind(run)
    .bind(classes.is_empty())
    .bind(names)
    .bind(reasons.clone())
    .execute(&mut *tx)
    .await?
    .rows_affected();
    sqlx::query(
        "DELETE FROM verdicts USING tasks t WHERE verdicts.run = $1 \
             AND verdicts.reason IS NOT NULL AND ($2 OR verdicts.reason = ANY ($3)) \
             AND t.run = $1 AND t.position = verdicts.position AND t.sample = verdicts.sample \
             AND t.state = 0",
    )
    .bind(run)
    .bind(classes.is_empty())
    .bind(reasons)
    .execute(&mut *tx)
    .await?;
    batches::wait_on(&mut tx, run).await?;
    if put_back > 0 {
        notify(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(put_back)
}
