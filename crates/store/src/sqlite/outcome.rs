//! What comes back from a claim: a verdict, a failure, or nothing.
//!
//! Owns the statements that end a lease by its holder. Each compares the lease, and that it has
//! not ended, in the statement that writes; whatever else is written follows from what was found so.

use std::{collections::HashMap, sync::Arc};

use sqlx::{Row, SqliteConnection};
use tribunal_core::{Attempt, FailureClass};

use super::{
    batch::{Script, slices},
    postings,
    request::LeaseRef,
    share::{self, Settled},
};
use crate::{
    row::damaged,
    share::{Weight, used_tokens},
    store::{CompleteOutcome, FailOutcome},
};

/// A verdict ready to be stored.
pub(super) struct NewVerdict {
    pub(super) lease: LeaseRef,
    /// `None` exactly where there is a reason.
    pub(super) score: Option<f64>,
    pub(super) reason: Option<&'static str>,
    pub(super) source: &'static str,
    pub(super) simulated: bool,
    /// The compressed verdict.
    pub(super) record: Vec<u8>,
    pub(super) attempts: Arc<[Attempt]>,
}

/// A failure ready to be stored.
pub(super) struct NewFailure {
    pub(super) lease: LeaseRef,
    pub(super) class: FailureClass,
    /// `None` makes it a dead letter.
    pub(super) wait_ms: Option<i64>,
    /// Failures that this adds.
    pub(super) charged: u32,
    pub(super) error: String,
    pub(super) attempts: Vec<Attempt>,
}

/// A lease given back.
pub(super) struct NewRelease {
    pub(super) lease: LeaseRef,
    pub(super) attempts: Vec<Attempt>,
}

/// A task's key in the tables.
pub(super) type Key = (i64, u32, u32);

/// A task whose lease has ended.
#[derive(Clone, Copy)]
pub(super) struct End {
    estimated: u32,
    weight: Weight,
    /// Whether a question may be posted for it: any is.
    pub(super) may_be_posted: bool,
}

/// Tasks whose leases have ended.
pub(super) type Ends = HashMap<Key, End>;

/// A statement that ends leases, and finds the ones that it may end.
pub(super) struct Ending {
    /// What is given for each lease: its run, position, sample and id, and more.
    pub(super) columns: &'static str,
    /// What it sets. `?1` is the time.
    pub(super) set: &'static str,
    /// What stands between the given rows, `j`, and `tasks`.
    pub(super) joins: &'static str,
}

const COMPLETED: Ending = Ending {
    columns: "run, position, sample, lease, reason",
    set: "state = 3, run_at = NULL, lease = NULL, lease_end = NULL, worker = NULL, class = NULL, \
          reason = j.reason, error = ''",
    joins: "",
};

const FAILED: Ending = Ending {
    columns: "run, position, sample, lease, next, run_at, waits_from, charged, class, reason, error",
    set: "state = iif(runs.state = 'cancelled', 5, j.next), \
          run_at = iif(runs.state = 'cancelled', NULL, j.run_at), waits_from = j.waits_from, \
          reason = iif(runs.state = 'cancelled', 'cancelled', j.reason), \
          failures = min(failures + j.charged, 4294967295), class = j.class, error = j.error, \
          turn = 0, ended_leases = 0, dead_workers = 0, \
          lease = NULL, lease_end = NULL, worker = NULL",
    joins: "CROSS JOIN runs ON runs.seq = j.run",
};

const RELEASED: Ending = Ending {
    columns: "run, position, sample, lease",
    set: "state = iif(runs.state = 'cancelled', 5, 0), \
          reason = iif(runs.state = 'cancelled', 'cancelled', NULL), \
          first_claim_ms = NULL, lease = NULL, lease_end = NULL, worker = NULL",
    joins: "CROSS JOIN runs ON runs.seq = j.run",
};

// === impl Ending ===

impl Ending {
    /// Ends the leases of a slice's rows, bound by `bind`, that have not ended by themselves; adds them to
    /// `ends`.
    ///
    /// They are found first, as one row: a row for each, as RETURNING makes them, costs more than
    /// looking the tasks up twice.
    pub(super) async fn end<T>(
        &self,
        conn: &mut SqliteConnection,
        slice: &[T],
        now: i64,
        bind: impl Fn(Script, &T) -> Script,
        ends: &mut Ends,
    ) -> Result<(), sqlx::Error> {
        let Ending { columns, set, joins } = self;
        // `+` keeps the planner from walking all leases instead of looking up each task.
        const HELD: &str = "tasks.run = j.run AND tasks.position = j.position \
                            AND tasks.sample = j.sample AND tasks.lease = j.lease \
                            AND +tasks.state = 2 AND +tasks.lease_end > ?1";
        let find = format!(
            "SELECT EXISTS (SELECT 1 FROM postings), json_group_array(json_array( \
                 j.run, j.position, j.sample, tasks.estimated_tokens, of.weight)) \
             FROM j {joins} CROSS JOIN runs of ON of.seq = j.run CROSS JOIN tasks ON {HELD}"
        );
        let end = format!("UPDATE tasks SET {set} FROM j {joins} WHERE {HELD}");
        let mut script = Script::default();
        for statement in [find, end] {
            script = script.and_rows(columns, slice.len(), 1, &statement).bind(now);
            script = slice.iter().fold(script, &bind);
        }
        for row in script.fetch_all(conn).await? {
            let may_be_posted = row.try_get(0)?;
            let found: &str = row.try_get(1)?;
            let found: Vec<(i64, u32, u32, u32, u32)> =
                serde_json::from_str(found).map_err(|_| damaged("list of leases"))?;
            for (run, position, sample, estimated, weight) in found {
                let weight = Weight::new(weight).unwrap_or_default();
                let end = End { estimated, weight, may_be_posted };
                ends.insert((run, position, sample), end);
            }
        }
        Ok(())
    }
}

// === impl LeaseRef ===

impl LeaseRef {
    pub(super) fn key(&self) -> Key {
        (self.run, self.position, self.sample)
    }
}

/// Stores verdicts; one outcome for each, in their order.
pub(super) async fn complete(
    conn: &mut SqliteConnection,
    items: &[&NewVerdict],
    now: i64,
) -> Result<Vec<CompleteOutcome>, sqlx::Error> {
    let mut outcomes = vec![CompleteOutcome::Fenced; items.len()];
    for round in rounds(items, |item| &item.lease) {
        let mut stored = Ends::with_capacity(round.len());
        for slice in slices(&round) {
            let bind = |script: Script, (_, item): &(usize, &NewVerdict)| {
                script.bind_lease(&item.lease).bind(item.reason)
            };
            COMPLETED.end(conn, slice, now, bind, &mut stored).await?;
        }
        let (done, refused): (Vec<_>, Vec<_>) =
            round.into_iter().partition(|(_, item)| stored.contains_key(&item.lease.key()));
        let script = and_verdicts(Script::default(), &done, now);
        let attempts = done.iter().map(|(_, item)| (&item.lease, &item.attempts[..]));
        let script = and_attempts(script, attempts, &stored);
        let script =
            postings::and_forget(script, done.iter().map(|(_, item)| &item.lease), &stored);
        script.execute(&mut *conn).await?;
        for (at, _) in &done {
            outcomes[*at] = CompleteOutcome::Stored;
        }
        for (at, item) in refused {
            if is_duplicate(conn, &item.lease).await? {
                outcomes[at] = CompleteOutcome::Duplicate;
            }
        }
    }
    Ok(outcomes)
}

fn and_verdicts(mut script: Script, items: &[(usize, &NewVerdict)], now: i64) -> Script {
    for slice in slices(items) {
        script = script.and_rows(
            "run, position, sample, lease, score, reason, source, simulated, stored_ms, record",
            slice.len(),
            0,
            "INSERT INTO verdicts (run, position, sample, lease, score, reason, source, \
                 simulated, stored_ms, record) SELECT * FROM j",
        );
        for (_, item) in slice {
            script = script
                .bind_lease(&item.lease)
                .bind(item.score)
                .bind(item.reason)
                .bind(item.source)
                .bind(item.simulated)
                .bind(now)
                .bind(item.record.clone());
        }
    }
    script
}

/// Whether this very lease has stored the task's verdict.
async fn is_duplicate(conn: &mut SqliteConnection, lease: &LeaseRef) -> Result<bool, sqlx::Error> {
    let script = Script::default()
        .and("SELECT 1 FROM verdicts WHERE run = ? AND position = ? AND sample = ? AND lease = ?");
    Ok(!script.bind_lease(lease).fetch_all(conn).await?.is_empty())
}

/// Records failures; one outcome for each, in their order.
pub(super) async fn fail(
    conn: &mut SqliteConnection,
    items: &[&NewFailure],
    now: i64,
) -> Result<Vec<FailOutcome>, sqlx::Error> {
    let mut outcomes = vec![FailOutcome::Fenced; items.len()];
    for round in rounds(items, |item| &item.lease) {
        let mut recorded = Ends::with_capacity(round.len());
        for slice in slices(&round) {
            let bind = |script: Script, (_, item): &(usize, &NewFailure)| {
                let (next, run_at, reason) = match item.wait_ms {
                    None => (4, None, Some(item.class.ungraded_reason().name())),
                    Some(0) => (0, None, None),
                    Some(wait) => (1, Some(now.saturating_add(wait)), None),
                };
                script
                    .bind_lease(&item.lease)
                    .bind(next)
                    .bind(run_at)
                    .bind(run_at.map(|_| now))
                    .bind(item.charged)
                    .bind(item.class.name())
                    .bind(reason)
                    .bind(item.error.clone())
            };
            FAILED.end(conn, slice, now, bind, &mut recorded).await?;
        }
        let done = round.iter().filter(|(_, item)| recorded.contains_key(&item.lease.key()));
        let attempts = done.clone().map(|(_, item)| (&item.lease, &item.attempts[..]));
        let script = and_attempts(Script::default(), attempts, &recorded);
        let script =
            postings::and_forget(script, done.clone().map(|(_, item)| &item.lease), &recorded);
        script.execute(&mut *conn).await?;
        for (at, _) in done {
            outcomes[*at] = FailOutcome::Recorded;
        }
    }
    Ok(outcomes)
}

/// Puts tasks back as if they had not been claimed; a lease that is lost is passed over.
pub(super) async fn release(
    conn: &mut SqliteConnection,
    items: &[&NewRelease],
    now: i64,
) -> Result<(), sqlx::Error> {
    for round in rounds(items, |item| &item.lease) {
        let mut released = Ends::with_capacity(round.len());
        for slice in slices(&round) {
            let bind =
                |script: Script, (_, item): &(usize, &NewRelease)| script.bind_lease(&item.lease);
            RELEASED.end(conn, slice, now, bind, &mut released).await?;
        }
        let done = round.iter().filter(|(_, item)| released.contains_key(&item.lease.key()));
        let attempts = done.map(|(_, item)| (&item.lease, &item.attempts[..]));
        and_attempts(Script::default(), attempts, &released).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Adds what records the calls under leases that have ended, and settles their runs' shares.
pub(super) fn and_attempts<'a>(
    script: Script,
    attempts: impl Iterator<Item = (&'a LeaseRef, &'a [Attempt])> + Clone,
    ends: &Ends,
) -> Script {
    let settled = attempts.clone().filter_map(|(lease, attempts)| {
        let End { estimated, weight, .. } = *ends.get(&lease.key())?;
        Some(Settled { run: lease.run, weight, estimated, used: used_tokens(attempts) })
    });
    let mut script = share::settle(script, settled);
    let rows: Vec<(&LeaseRef, &Attempt)> = attempts
        .flat_map(|(lease, attempts)| attempts.iter().map(move |attempt| (lease, attempt)))
        .collect();
    for slice in slices(&rows) {
        script = script.and_rows(
            "run, position, sample, kind, class, status, input, cached, output, started_ms, \
             waited_ms, latency_ms, request_id, error, endpoint, cost_usd, possible_input, \
             possible_output, possible_usd, via",
            slice.len(),
            0,
            "INSERT INTO attempts (run, position, sample, kind, class, status, input, cached, \
                 output, started_ms, waited_ms, latency_ms, request_id, error, endpoint, cost_usd, \
                 possible_input, possible_output, possible_usd, via) SELECT * FROM j",
        );
        for (lease, attempt) in slice {
            script = script
                .bind(lease.run)
                .bind(lease.position)
                .bind(lease.sample)
                .bind(attempt.kind.name())
                .bind(attempt.class.map(FailureClass::name))
                .bind(attempt.status)
                .bind(attempt.usage.input.cast_signed())
                .bind(attempt.usage.cached.cast_signed())
                .bind(attempt.usage.output.cast_signed())
                .bind(attempt.started_ms)
                .bind(attempt.waited_ms.cast_signed())
                .bind(attempt.latency_ms.cast_signed())
                .bind(attempt.request_id.clone())
                .bind(attempt.error.clone())
                .bind(attempt.endpoint.clone())
                .bind(attempt.cost_usd)
                .bind(attempt.possible.map(|possible| possible.usage.input.cast_signed()))
                .bind(attempt.possible.map(|possible| possible.usage.output.cast_signed()))
                .bind(attempt.possible.and_then(|possible| possible.cost_usd))
                .bind(attempt.via.name());
        }
    }
    script
}

/// Items with their places, in rounds that hold every task at most once: one statement changes a
/// row only once, and an answer that was repeated must see what the first one did.
pub(super) fn rounds<'i, T>(
    items: &[&'i T],
    lease: impl Fn(&'i T) -> &'i LeaseRef,
) -> Vec<Vec<(usize, &'i T)>> {
    let mut seen: HashMap<Key, usize> = HashMap::with_capacity(items.len());
    let mut rounds: Vec<Vec<(usize, &T)>> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let round = seen.entry(lease(item).key()).or_default();
        if rounds.len() == *round {
            rounds.push(Vec::new());
        }
        rounds[*round].push((at, item));
        *round += 1;
    }
    rounds
}
