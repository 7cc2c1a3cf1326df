//! What comes back from a claim: a verdict, a failure, or nothing.
//!
//! Owns the statements that end a lease by its holder. Each is one statement: it locks the rows
//! whose lease is held, moves them, and writes what follows from that; for whoever has lost a
//! lease it writes nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sqlx::{Connection, PgConnection};
use tribunal_core::{Attempt, FailureClass, WorkerId, verdict::PossibleSpend};

use super::{
    PostgresStore, batches,
    call::number,
    lease::{LeaseColumns, LeaseKey, Query, held, same_lease},
    schema::{BEGIN_PUT, POSTED, now},
    text,
};
use crate::{
    batches::{PostOutcome, Posting},
    error::StoreError,
    record,
    share::used_tokens,
    store::{CompleteOutcome, Completion, FailOutcome, Failure},
};

/// A verdict ready to be stored.
pub(super) struct NewVerdict {
    pub(super) key: LeaseKey,
    /// `None` exactly where there is a reason.
    pub(super) score: Option<f64>,
    pub(super) reason: Option<&'static str>,
    pub(super) source: &'static str,
    pub(super) simulated: bool,
    /// The compressed verdict.
    pub(super) record: Vec<u8>,
    pub(super) attempts: Arc<[Attempt]>,
}

// === impl PostgresStore ===

impl PostgresStore {
    /// A completion as the tables have it.
    pub(super) fn new_verdict(&self, completion: Completion) -> Result<NewVerdict, StoreError> {
        let Completion { run, lease, verdict, attempts } = completion;
        record::check(&verdict, &self.name)?;
        Ok(NewVerdict {
            key: (run, verdict.position, verdict.sample, lease),
            score: verdict.outcome.score(),
            reason: verdict.outcome.ungraded().map(|reason| reason.name()),
            source: verdict.source.name(),
            simulated: verdict.simulated,
            record: record::encode(&verdict, &self.name)?,
            attempts,
        })
    }
}

/// A lease given back, with the calls that were made under it.
pub(super) type Release = (tribunal_core::RunId, u32, u32, tribunal_core::LeaseId, Vec<Attempt>);

/// After the rows in `moved`: their calls, and what their runs owe. Parameter 6 has the tokens
/// that each item used, 7 to 24 the calls' columns.
macro_rules! aftermath {
    () => {
        ", logged AS ( \
             INSERT INTO attempts (run, position, sample, kind, class, status, input, cached, \
                 output, started_ms, waited_ms, latency_ms, request_id, error, endpoint, \
                 cost_usd, possible_input, possible_output, possible_usd, via) \
             SELECT m.run, m.position, m.sample, a.kind, a.class, a.status, a.input, a.cached, \
                 a.output, a.started_ms, a.waited_ms, a.latency_ms, a.request_id, a.error, a.endpoint, \
                 a.cost_usd, a.possible_input, a.possible_output, a.possible_usd, a.via \
             FROM unnest($7::bigint[], $8::text[], $9::text[], $10::int[], $11::bigint[], \
                 $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], \
                 $17::text[], $18::text[], $19::text[], $20::float8[], $21::bigint[], \
                 $22::bigint[], $23::float8[], $24::text[]) WITH ORDINALITY AS a (item, kind, class, status, \
                 input, cached, output, started_ms, waited_ms, latency_ms, request_id, error, \
                 endpoint, cost_usd, possible_input, possible_output, possible_usd, via, n) \
             JOIN moved m ON m.item = a.item ORDER BY a.n), \
         settled AS ( \
             INSERT INTO settlements (run, owed) \
             SELECT run, sum(used * 5040 / weight \
                 - greatest(estimated_tokens, 1) * 5040 / weight) AS owed \
             FROM moved GROUP BY run \
             HAVING sum(used * 5040 / weight \
                 - greatest(estimated_tokens, 1) * 5040 / weight) <> 0) \
         SELECT item FROM moved"
    };
}

/// What was posted for the rows in `moved` is used up.
macro_rules! forgotten {
    () => {
        ", forgotten AS ( \
             DELETE FROM postings p USING moved m \
             WHERE p.run = m.run AND p.position = m.position AND p.sample = m.sample)"
    };
}

/// Items with their places, in rounds that hold every task at most once: an answer that was
/// repeated must see what the first one did.
fn rounds<T>(items: &[T], key: impl Fn(&T) -> (&str, u32, u32)) -> Vec<Vec<(usize, &T)>> {
    let mut seen: HashMap<(&str, u32, u32), usize> = HashMap::with_capacity(items.len());
    let mut rounds: Vec<Vec<(usize, &T)>> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let round = seen.entry(key(item)).or_default();
        if rounds.len() == *round {
            rounds.push(Vec::new());
        }
        rounds[*round].push((at, item));
        *round += 1;
    }
    rounds
}

/// Stores verdicts; one outcome for each, in their order.
pub(super) async fn complete(
    conn: &mut PgConnection,
    items: &[NewVerdict],
    now: Option<i64>,
) -> Result<Vec<CompleteOutcome>, sqlx::Error> {
    let mut outcomes = vec![CompleteOutcome::Fenced; items.len()];
    for round in rounds(items, |item| (item.key.0.as_str(), item.key.1, item.key.2)) {
        let stored = store(conn, &round, now).await?;
        let mut refused = Vec::new();
        for (item, (at, verdict)) in round.iter().enumerate() {
            if stored.contains(&item) {
                outcomes[*at] = CompleteOutcome::Stored;
            } else {
                refused.push((*at, &verdict.key));
            }
        }
        if !refused.is_empty() {
            for at in duplicates(conn, &refused).await? {
                outcomes[at] = CompleteOutcome::Duplicate;
            }
        }
    }
    Ok(outcomes)
}

/// Stores a round of verdicts; returns the numbers of those that were stored.
async fn store(
    conn: &mut PgConnection,
    round: &[(usize, &NewVerdict)],
    now: Option<i64>,
) -> Result<HashSet<usize>, sqlx::Error> {
    let query = sqlx::query(concat!(
        held!(
            ", $6::bigint[], $25::float8[], $26::text[], $27::text[], $28::bool[], $29::bytea[]",
            ", used, new_score, new_reason, new_source, new_simulated, new_record"
        ),
        ", moved AS ( \
             UPDATE tasks t SET state = 3, run_at = NULL, lease = NULL, lease_end = NULL, \
                 worker = NULL, class = NULL, reason = h.new_reason, error = '' \
             FROM held h WHERE ",
        same_lease!(),
        "RETURNING h.*), \
         stored AS ( \
             INSERT INTO verdicts (run, position, sample, lease, score, reason, source, \
                 simulated, stored_ms, record) \
             SELECT run, position, sample, lease, new_score, new_reason, new_source, new_simulated, ",
        now!(),
        ", new_record FROM moved)",
        forgotten!(),
        aftermath!()
    ));
    let keys = round.iter().map(|(_, item)| &item.key);
    let query = bind(query, now, keys, round.iter().map(|(_, item)| &item.attempts[..]));
    let query = query
        .bind(round.iter().map(|(_, item)| item.score).collect::<Vec<_>>())
        .bind(round.iter().map(|(_, item)| item.reason).collect::<Vec<_>>())
        .bind(round.iter().map(|(_, item)| item.source).collect::<Vec<_>>())
        .bind(round.iter().map(|(_, item)| item.simulated).collect::<Vec<_>>())
        .bind(round.iter().map(|(_, item)| item.record.clone()).collect::<Vec<_>>());
    moved(conn, query).await
}

/// Of these, the places of those whose very lease has stored the task's verdict.
async fn duplicates(
    conn: &mut PgConnection,
    refused: &[(usize, &LeaseKey)],
) -> Result<Vec<usize>, sqlx::Error> {
    known_by(conn, refused, false).await
}

/// Of these, the places of those whose very lease is the verdict's, or with `posted` the posting's.
async fn known_by(
    conn: &mut PgConnection,
    refused: &[(usize, &LeaseKey)],
    posted: bool,
) -> Result<Vec<usize>, sqlx::Error> {
    let mut columns = LeaseColumns::default();
    for (_, (run, position, sample, lease)) in refused {
        columns.push(run, *position, *sample, *lease);
    }
    macro_rules! known {
        ($table:literal) => {
            concat!(
                "SELECT j.item FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bytea[]) \
                     WITH ORDINALITY AS j (run_id, position, sample, lease, item) \
                 JOIN runs r ON r.id = j.run_id JOIN ",
                $table,
                " v ON v.run = r.seq AND v.position = j.position AND v.sample = j.sample \
                     AND v.lease = j.lease \
                 WHERE $1::bigint IS NULL OR true"
            )
        };
    }
    let query = sqlx::query(if posted { known!("postings") } else { known!("verdicts") });
    let items = moved(conn, columns.bind(query, None)).await?;
    Ok(items.into_iter().map(|item| refused[item].0).collect())
}

/// Posts questions, which are compressed already; one outcome for each, in their order.
pub(super) async fn post(
    conn: &mut PgConnection,
    worker: WorkerId,
    items: &[Posting],
    now: Option<i64>,
) -> Result<Vec<PostOutcome>, sqlx::Error> {
    let mut outcomes = vec![PostOutcome::Fenced; items.len()];
    let mut tx = conn.begin_with(BEGIN_PUT).await?;
    for round in rounds(items, |item| (item.run.as_str(), item.position, item.sample)) {
        let query = sqlx::query(concat!(
            held!(
                ", $6::bigint[], $25::bytea[], $26::bytea[], $27::bytea[]",
                ", used, new_batch, new_reservation, new_question"
            ),
            ", fit AS MATERIALIZED ( \
                 SELECT h.* FROM held h JOIN batches b ON b.id = h.new_batch AND b.run = h.run \
                     AND b.worker = $28 AND b.held_until > ",
            now!(),
            " WHERE h.run_state <> 'cancelled' FOR SHARE OF b), \
             moved AS ( \
                 UPDATE tasks t SET state = 1, run_at = $29, waits_from = NULL, turn = 0, ended_leases = 0, \
                     dead_workers = 0, first_claim_ms = NULL, lease = NULL, lease_end = NULL, \
                     worker = NULL \
                 FROM fit h WHERE ",
            same_lease!(),
            "RETURNING h.*), \
             posted AS ( \
                 INSERT INTO postings AS p (run, position, sample, lease, batch, reservation, \
                     question) \
                 SELECT run, position, sample, lease, new_batch, new_reservation, new_question \
                 FROM moved ON CONFLICT (run, position, sample) DO UPDATE SET \
                     lease = excluded.lease, batch = excluded.batch, \
                     reservation = excluded.reservation, question = excluded.question, \
                     reply = NULL)",
            aftermath!()
        ));
        let keys: Vec<LeaseKey> = round.iter().map(|(_, item)| batches::key(item)).collect();
        let attempts = round.iter().map(|(_, item)| &item.attempts[..]);
        let reservation =
            |item: &Posting| item.reservation.map(|reservation| reservation.as_bytes().to_vec());
        let query = bind(query, now, keys.iter(), attempts)
            .bind(round.iter().map(|(_, item)| item.batch.as_bytes().to_vec()).collect::<Vec<_>>())
            .bind(round.iter().map(|(_, item)| reservation(item)).collect::<Vec<_>>())
            .bind(round.iter().map(|(_, item)| item.question.clone()).collect::<Vec<_>>())
            .bind(worker.as_bytes().to_vec())
            .bind(POSTED);
        let posted = moved(&mut tx, query).await?;
        let refused: Vec<(usize, &LeaseKey)> = (0..round.len())
            .filter(|item| !posted.contains(item))
            .map(|item| (round[item].0, &keys[item]))
            .collect();
        let known = match refused.is_empty() {
            true => Vec::new(),
            false => known_by(&mut tx, &refused, true).await?,
        };
        for at in posted.into_iter().map(|item| round[item].0).chain(known) {
            outcomes[at] = PostOutcome::Posted;
        }
    }
    tx.commit().await?;
    Ok(outcomes)
}

/// Records failures; one outcome for each, in their order.
pub(super) async fn fail(
    conn: &mut PgConnection,
    items: &[Failure],
    now: Option<i64>,
) -> Result<Vec<FailOutcome>, sqlx::Error> {
    let mut outcomes = vec![FailOutcome::Fenced; items.len()];
    let mut tx = conn.begin_with(BEGIN_PUT).await?;
    for round in rounds(items, |item| (item.run.as_str(), item.position, item.sample)) {
        let query = sqlx::query(concat!(
            held!(
                ", $6::bigint[], $25::bigint[], $26::bigint[], $27::text[], $28::text[], \
                 $29::text[]",
                ", used, wait, new_charge, new_class, new_reason, new_error"
            ),
            ", moved AS ( \
                 UPDATE tasks t SET \
                     state = CASE WHEN h.run_state = 'cancelled' THEN 5 \
                         WHEN h.wait IS NULL THEN 4 WHEN h.wait = 0 THEN 0 ELSE 1 END, \
                     run_at = CASE WHEN h.run_state <> 'cancelled' AND h.wait > 0 THEN ",
            now!(),
            " + h.wait END, \
                     waits_from = CASE WHEN h.wait > 0 THEN ",
            now!(),
            " END, \
                     reason = CASE WHEN h.run_state = 'cancelled' THEN 'cancelled' \
                         WHEN h.wait IS NULL THEN h.new_reason END, \
                     failures = least(t.failures + h.new_charge, 4294967295), \
                     class = h.new_class, error = h.new_error, \
                     turn = 0, ended_leases = 0, dead_workers = 0, \
                     lease = NULL, lease_end = NULL, worker = NULL \
                 FROM held h WHERE ",
            same_lease!(),
            "RETURNING h.*)",
            forgotten!(),
            aftermath!()
        ));
        let keys: Vec<LeaseKey> = round.iter().map(|(_, item)| key(item)).collect();
        let attempts = round.iter().map(|(_, item)| &item.attempts[..]);
        let query = bind(query, now, keys.iter(), attempts)
            .bind(
                round.iter().map(|(_, item)| item.retry_in.map(super::millis)).collect::<Vec<_>>(),
            )
            .bind(round.iter().map(|(_, item)| i64::from(item.charged)).collect::<Vec<_>>())
            .bind(round.iter().map(|(_, item)| item.class.name()).collect::<Vec<_>>())
            .bind(
                round
                    .iter()
                    .map(|(_, item)| item.class.ungraded_reason().name())
                    .collect::<Vec<_>>(),
            )
            .bind(round.iter().map(|(_, item)| text::put(&item.error)).collect::<Vec<_>>());
        for item in moved(&mut tx, query).await? {
            outcomes[round[item].0] = FailOutcome::Recorded;
        }
    }
    tx.commit().await?;
    Ok(outcomes)
}

fn key(failure: &Failure) -> LeaseKey {
    (failure.run.clone(), failure.position, failure.sample, failure.lease)
}

/// Puts tasks back as if they had not been claimed; a lease that is lost is passed over.
pub(super) async fn release(
    conn: &mut PgConnection,
    items: &[Release],
    now: Option<i64>,
) -> Result<(), sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN_PUT).await?;
    for round in rounds(items, |(run, position, sample, ..)| (run.as_str(), *position, *sample)) {
        let query = sqlx::query(concat!(
            held!(", $6::bigint[]", ", used"),
            ", moved AS ( \
                 UPDATE tasks t SET \
                     state = CASE h.run_state WHEN 'cancelled' THEN 5 ELSE 0 END, \
                     reason = CASE h.run_state WHEN 'cancelled' THEN 'cancelled' END, \
                     first_claim_ms = NULL, lease = NULL, lease_end = NULL, worker = NULL \
                 FROM held h WHERE ",
            same_lease!(),
            "RETURNING h.*)",
            aftermath!()
        ));
        let key =
            |(run, position, sample, lease, _): &Release| (run.clone(), *position, *sample, *lease);
        let keys: Vec<LeaseKey> = round.iter().map(|(_, item)| key(item)).collect();
        let attempts = round.iter().map(|(_, item)| &item.4[..]);
        moved(&mut tx, bind(query, now, keys.iter(), attempts)).await?;
    }
    tx.commit().await
}

/// Binds the parameters 1 to 24.
fn bind<'a>(
    query: Query,
    now: Option<i64>,
    keys: impl Iterator<Item = &'a LeaseKey>,
    attempts: impl Iterator<Item = &'a [Attempt]> + Clone,
) -> Query {
    let mut columns = LeaseColumns::default();
    for (run, position, sample, lease) in keys {
        columns.push(run, *position, *sample, *lease);
    }
    // More than a run's virtual time can be charged with at once counts as that.
    let used =
        |attempts: &[Attempt]| i64::from(u32::try_from(used_tokens(attempts)).unwrap_or(u32::MAX));
    let query = columns.bind(query, now).bind(attempts.clone().map(used).collect::<Vec<_>>());
    let calls: Vec<(i64, &Attempt)> = (1..)
        .zip(attempts)
        .flat_map(|(item, attempts)| attempts.iter().map(move |attempt| (item, attempt)))
        .collect();
    let numbers = |of: fn(&Attempt) -> i64| -> Vec<i64> {
        calls.iter().map(|(_, attempt)| of(attempt)).collect()
    };
    let possible = |of: fn(PossibleSpend) -> i64| -> Vec<Option<i64>> {
        calls.iter().map(|(_, call)| call.possible.map(of)).collect()
    };
    query
        .bind(calls.iter().map(|(item, _)| *item).collect::<Vec<_>>())
        .bind(calls.iter().map(|(_, call)| call.kind.name()).collect::<Vec<_>>())
        .bind(calls.iter().map(|(_, call)| call.class.map(FailureClass::name)).collect::<Vec<_>>())
        .bind(calls.iter().map(|(_, call)| call.status.map(i32::from)).collect::<Vec<_>>())
        .bind(numbers(|call| call.usage.input.cast_signed()))
        .bind(numbers(|call| call.usage.cached.cast_signed()))
        .bind(numbers(|call| call.usage.output.cast_signed()))
        .bind(numbers(|call| call.started_ms))
        .bind(numbers(|call| call.waited_ms.cast_signed()))
        .bind(numbers(|call| call.latency_ms.cast_signed()))
        .bind(
            calls
                .iter()
                .map(|(_, call)| call.request_id.as_deref().map(text::put))
                .collect::<Vec<_>>(),
        )
        .bind(calls.iter().map(|(_, call)| text::put(&call.error)).collect::<Vec<_>>())
        .bind(calls.iter().map(|(_, call)| text::put(&call.endpoint)).collect::<Vec<_>>())
        .bind(calls.iter().map(|(_, call)| call.cost_usd).collect::<Vec<_>>())
        .bind(possible(|spend| spend.usage.input.cast_signed()))
        .bind(possible(|spend| spend.usage.output.cast_signed()))
        .bind(
            calls
                .iter()
                .map(|(_, call)| call.possible.and_then(|spend| spend.cost_usd))
                .collect::<Vec<_>>(),
        )
        .bind(calls.iter().map(|(_, call)| call.via.name()).collect::<Vec<_>>())
}

/// The 0-based numbers of the items that a statement returns.
async fn moved(conn: &mut PgConnection, query: Query) -> Result<HashSet<usize>, sqlx::Error> {
    let rows = query.fetch_all(conn).await?;
    rows.iter().map(|row| Ok(number::<usize>(row, 0)? - 1)).collect()
}
