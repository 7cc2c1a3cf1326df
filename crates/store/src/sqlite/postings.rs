//! Questions that are posted in batches, in the tables.
//!
//! Owns the statements that post them, find their replies and forget them. Batches themselves are
//! `batches`'s.

use std::collections::HashMap;

use sqlx::{Row, SqliteConnection};
use tribunal_core::{Attempt, BatchId, WorkerId};

use super::{
    batch::{Script, slices, with_rows},
    batches::reservation,
    claim::ClaimedTask,
    outcome::{Ending, Ends, Key, and_attempts, rounds},
    request::LeaseRef,
    schema::POSTED,
};
use crate::{batches::PostOutcome, budget::ReservationId};

/// A question ready to be posted.
pub(super) struct NewPosting {
    pub(super) lease: LeaseRef,
    pub(super) worker: WorkerId,
    pub(super) batch: BatchId,
    pub(super) reservation: Option<ReservationId>,
    /// Compressed.
    pub(super) question: Vec<u8>,
    pub(super) attempts: Vec<Attempt>,
}

/// A question and its reply, both compressed.
pub(super) struct AnsweredRow {
    pub(super) question: Vec<u8>,
    pub(super) reservation: Option<ReservationId>,
    pub(super) reply: Vec<u8>,
}

const ENDING: Ending = Ending {
    columns: "run, position, sample, lease, batch, worker, run_at",
    set: "state = 1, run_at = j.run_at, waits_from = NULL, turn = 0, ended_leases = 0, \
          dead_workers = 0, first_claim_ms = NULL, lease = NULL, lease_end = NULL, worker = NULL",
    joins: "CROSS JOIN runs ON runs.seq = j.run AND runs.state <> 'cancelled' \
            CROSS JOIN batches b ON b.id = j.batch AND b.run = j.run \
                AND b.worker = j.worker AND b.held_until > ?1",
};

/// Posts questions; one outcome for each, in their order.
pub(super) async fn post(
    conn: &mut SqliteConnection,
    items: &[NewPosting],
    now: i64,
) -> Result<Vec<PostOutcome>, sqlx::Error> {
    let mut outcomes = vec![PostOutcome::Fenced; items.len()];
    let all: Vec<&NewPosting> = items.iter().collect();
    for round in rounds(&all, |item| &item.lease) {
        let mut posted = Ends::with_capacity(round.len());
        for slice in slices(&round) {
            let bind = |script: Script, (_, item): &(usize, &NewPosting)| {
                script
                    .bind_lease(&item.lease)
                    .bind(item.batch.as_bytes().to_vec())
                    .bind(item.worker.as_bytes().to_vec())
                    .bind(POSTED)
            };
            ENDING.end(conn, slice, now, bind, &mut posted).await?;
        }
        let (done, refused): (Vec<_>, Vec<_>) =
            round.into_iter().partition(|(_, item)| posted.contains_key(&item.lease.key()));
        let attempts = done.iter().map(|(_, item)| (&item.lease, &item.attempts[..]));
        and_attempts(and_postings(Script::default(), &done), attempts, &posted)
            .execute(&mut *conn)
            .await?;
        for (at, _) in &done {
            outcomes[*at] = PostOutcome::Posted;
        }
        for (at, item) in refused {
            if is_posted(conn, &item.lease).await? {
                outcomes[at] = PostOutcome::Posted;
            }
        }
    }
    Ok(outcomes)
}

fn and_postings(mut script: Script, items: &[(usize, &NewPosting)]) -> Script {
    for slice in slices(items) {
        script = script.and_rows(
            "run, position, sample, lease, batch, reservation, question",
            slice.len(),
            0,
            "INSERT OR REPLACE INTO postings (run, position, sample, lease, batch, reservation, \
                 question) SELECT * FROM j",
        );
        for (_, item) in slice {
            script = script
                .bind_lease(&item.lease)
                .bind(item.batch.as_bytes().to_vec())
                .bind(item.reservation.map(|id| id.as_bytes().to_vec()))
                .bind(item.question.clone());
        }
    }
    script
}

/// Whether this very lease has posted the task's question.
async fn is_posted(conn: &mut SqliteConnection, lease: &LeaseRef) -> Result<bool, sqlx::Error> {
    let script = Script::default()
        .and("SELECT 1 FROM postings WHERE run = ? AND position = ? AND sample = ? AND lease = ?");
    Ok(!script.bind_lease(lease).fetch_all(conn).await?.is_empty())
}

/// Adds what forgets questions that were posted for tasks that have come to an end.
pub(super) fn and_forget<'l>(
    mut script: Script,
    leases: impl Iterator<Item = &'l LeaseRef>,
    ends: &Ends,
) -> Script {
    let posted: Vec<&LeaseRef> = leases
        .filter(|lease| ends.get(&lease.key()).is_some_and(|end| end.may_be_posted))
        .collect();
    for slice in slices(&posted) {
        script = script.and_rows(
            "run, position, sample",
            slice.len(),
            0,
            "DELETE FROM postings WHERE (run, position, sample) IN (SELECT * FROM j)",
        );
        for lease in slice {
            script = script.bind(lease.run).bind(lease.position).bind(lease.sample);
        }
    }
    script
}

/// Adds the replies that there are for claimed tasks.
pub(super) async fn find_replies(
    conn: &mut SqliteConnection,
    claimed: &mut [Vec<ClaimedTask>],
) -> Result<(), sqlx::Error> {
    let mut tasks: Vec<&mut ClaimedTask> = claimed.iter_mut().flatten().collect();
    let mut replies: HashMap<Key, AnsweredRow> = HashMap::new();
    for slice in slices(&tasks) {
        let mut query = with_rows(
            "run, position, sample",
            slice.len(),
            0,
            "SELECT p.run, p.position, p.sample, p.question, p.reservation, p.reply FROM j \
             CROSS JOIN postings p ON p.run = j.run AND p.position = j.position \
                 AND p.sample = j.sample AND p.reply IS NOT NULL",
        );
        for task in slice {
            query = query.bind(task.lease.run).bind(task.lease.position).bind(task.lease.sample);
        }
        for row in query.fetch_all(&mut *conn).await? {
            let key = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let (question, reply) = (row.try_get(3)?, row.try_get(5)?);
            replies
                .insert(key, AnsweredRow { question, reservation: reservation(&row, 4)?, reply });
        }
    }
    for task in &mut tasks {
        task.answered = replies.remove(&task.lease.key());
    }
    Ok(())
}

/// Lets tasks of a run that are ready wait again for what was posted for them.
pub(super) async fn wait_on(conn: &mut SqliteConnection, run: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE tasks SET state = 1, run_at = ?2, waits_from = NULL WHERE run = ?1 AND state = 0 \
             AND (run, position, sample) IN (SELECT run, position, sample FROM postings \
                 WHERE run = ?1 AND reply IS NULL)",
    )
    .bind(run)
    .bind(POSTED)
    .execute(conn)
    .await?;
    Ok(())
}
