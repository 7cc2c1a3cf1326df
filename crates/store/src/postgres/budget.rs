//! Budgets, reservations and settlements in the tables.
//!
//! Owns the statements. Reservations are decided in memory, one after the other, against the
//! accounts, whose rows are locked until the commit; the sums are `crate::budget`'s.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, postgres::PgRow};

use super::{
    lease::LeaseColumns,
    run::notify,
    schema::{BEGIN_CONTROL, now},
};
use crate::{
    budget::{
        Account, Amount, Budget, Reservation, ReservationId, ReserveOutcome, Settlement, Spending,
    },
    row::damaged,
};

/// The columns of `runs` that an account is read from.
const ACCOUNT: &str = "budget_micro_usd, budget_tokens, spent_micro_usd, spent_tokens, \
                       reserved_micro_usd, reserved_tokens";

/// Reads an account from the columns of [`ACCOUNT`], the first of which is this one.
fn account(row: &PgRow, at: usize) -> Result<Account, sqlx::Error> {
    let limit =
        |at| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(at)?.map(i64::cast_unsigned));
    Ok(Account {
        budget: Budget { micro_usd: limit(at)?, tokens: limit(at + 1)? },
        spent: amount(row, at + 2)?,
        reserved: amount(row, at + 4)?,
    })
}

fn amount(row: &PgRow, at: usize) -> Result<Amount, sqlx::Error> {
    let part = |at| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(at)?.cast_unsigned());
    Ok(Amount { micro_usd: part(at)?, tokens: part(at + 1)? })
}

/// The accounts of these runs by their numbers, locked in one order.
async fn load(
    conn: &mut PgConnection,
    runs: Vec<i64>,
) -> Result<BTreeMap<i64, Account>, sqlx::Error> {
    let query =
        format!("SELECT seq, {ACCOUNT} FROM runs WHERE seq = ANY ($1) ORDER BY seq FOR UPDATE");
    let rows = sqlx::query(AssertSqlSafe(query)).bind(runs).fetch_all(conn).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, account(row, 1)?))).collect()
}

async fn save(conn: &mut PgConnection, run: i64, account: &Account) -> Result<(), sqlx::Error> {
    let Account { budget, spent, reserved } = account;
    sqlx::query(
        "UPDATE runs SET budget_micro_usd = $2, budget_tokens = $3, spent_micro_usd = $4, \
             spent_tokens = $5, reserved_micro_usd = $6, reserved_tokens = $7 WHERE seq = $1",
    )
    .bind(run)
    .bind(budget.micro_usd.map(u64::cast_signed))
    .bind(budget.tokens.map(u64::cast_signed))
    .bind(spent.micro_usd.cast_signed())
    .bind(spent.tokens.cast_signed())
    .bind(reserved.micro_usd.cast_signed())
    .bind(reserved.tokens.cast_signed())
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets the limits of a run; where they hold more than before, what had ended for want of budget
/// goes back in the queue. Returns how many tasks that are.
pub(super) async fn set(
    conn: &mut PgConnection,
    run: i64,
    budget: Budget,
    spent: Amount,
) -> Result<u64, sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN_CONTROL).await?;
    let Some(mut account) = load(&mut tx, vec![run]).await?.remove(&run) else { return Ok(0) };
    let exceeds = account.set_budget(budget, spent);
    save(&mut tx, run, &account).await?;
    let mut back = 0;
    if exceeds {
        back = sqlx::query(
            "UPDATE tasks t SET state = 0, turn = 0, failures = 0, ended_leases = 0, \
                 dead_workers = 0, class = NULL, reason = NULL, first_claim_ms = NULL, error = '' \
             FROM runs r WHERE r.seq = $1 AND r.state <> 'cancelled' \
                 AND t.run = $1 AND t.state = 3 AND t.reason = 'budget'",
        )
        .bind(run)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        sqlx::query(
            "DELETE FROM verdicts USING runs r WHERE verdicts.run = $1 \
                 AND verdicts.reason = 'budget' AND r.seq = $1 AND r.state <> 'cancelled'",
        )
        .bind(run)
        .execute(&mut *tx)
        .await?;
    }
    if back > 0 {
        notify(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(back)
}

/// Reserves; one outcome for each, in their order.
pub(super) async fn reserve(
    conn: &mut PgConnection,
    items: &[Reservation],
    now: Option<i64>,
) -> Result<Vec<ReserveOutcome>, sqlx::Error> {
    let mut tx = conn.begin().await?;
    let ids: Vec<&str> = items.iter().map(|item| item.run.as_str()).collect();
    let rows = sqlx::query("SELECT id, seq FROM runs WHERE id = ANY ($1)").bind(ids);
    let mut runs: HashMap<String, i64> = HashMap::new();
    for row in rows.fetch_all(&mut *tx).await? {
        runs.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let mut accounts = load(&mut tx, runs.values().copied().collect()).await?;
    let (held, mut known) = standing(&mut tx, items, now).await?;
    let mut changed = HashSet::new();
    let mut outcomes = Vec::with_capacity(items.len());
    let mut new: Vec<(i64, &Reservation)> = Vec::new();
    for item in items {
        let seq = runs.get(item.run.as_str()).copied();
        let account = seq.and_then(|seq| Some((seq, accounts.get_mut(&seq)?)));
        outcomes.push(match account {
            _ if known.contains(&item.id) => ReserveOutcome::Reserved,
            Some((seq, account)) if held.contains(&item.id) => {
                if account.budget.is_unlimited() {
                    ReserveOutcome::Reserved
                } else if account.reserve(item.amount) {
                    changed.insert(seq);
                    known.insert(item.id);
                    new.push((seq, item));
                    ReserveOutcome::Reserved
                } else {
                    ReserveOutcome::Exhausted
                }
            }
            _ => ReserveOutcome::Fenced,
        });
    }
    if !new.is_empty() {
        insert(&mut tx, &new).await?;
    }
    for (run, account) in accounts.iter().filter(|(run, _)| changed.contains(run)) {
        save(&mut tx, *run, account).await?;
    }
    tx.commit().await?;
    Ok(outcomes)
}

/// Of these reservations, those whose lease is held, and those that are recorded already.
async fn standing(
    conn: &mut PgConnection,
    items: &[Reservation],
    now: Option<i64>,
) -> Result<(HashSet<ReservationId>, HashSet<ReservationId>), sqlx::Error> {
    let mut columns = LeaseColumns::default();
    for item in items {
        columns.push(&item.run, item.position, item.sample, item.lease);
    }
    let query = sqlx::query(concat!(
        "SELECT j.id, \
             EXISTS (SELECT 1 FROM runs r JOIN tasks t ON t.run = r.seq \
                 WHERE r.id = j.run_id AND t.position = j.position AND t.sample = j.sample \
                     AND t.lease = j.lease AND t.state = 2 AND t.lease_end > ",
        now!(),
        "), \
             EXISTS (SELECT 1 FROM reservations v WHERE v.id = j.id) \
         FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[]) \
             AS j (run_id, position, sample, lease, id)"
    ));
    let ids: Vec<Vec<u8>> = items.iter().map(|item| item.id.as_bytes().to_vec()).collect();
    let (mut held, mut known) = (HashSet::new(), HashSet::new());
    for row in columns.bind(query, now).bind(ids).fetch_all(conn).await? {
        let id = id(&row)?;
        if row.try_get(1)? {
            held.insert(id);
        }
        if row.try_get(2)? {
            known.insert(id);
        }
    }
    Ok((held, known))
}

async fn insert(conn: &mut PgConnection, items: &[(i64, &Reservation)]) -> Result<(), sqlx::Error> {
    // Never more than an account can hold.
    let amounts: Vec<Amount> =
        items.iter().map(|(_, item)| Amount::default().plus(item.amount)).collect();
    sqlx::query(
        "INSERT INTO reservations (run, position, sample, lease, id, micro_usd, tokens) \
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], \
             $5::bytea[], $6::bigint[], $7::bigint[])",
    )
    .bind(items.iter().map(|(run, _)| *run).collect::<Vec<_>>())
    .bind(items.iter().map(|(_, item)| i64::from(item.position)).collect::<Vec<_>>())
    .bind(items.iter().map(|(_, item)| i64::from(item.sample)).collect::<Vec<_>>())
    .bind(items.iter().map(|(_, item)| item.lease.as_bytes().to_vec()).collect::<Vec<_>>())
    .bind(items.iter().map(|(_, item)| item.id.as_bytes().to_vec()).collect::<Vec<_>>())
    .bind(amounts.iter().map(|amount| amount.micro_usd.cast_signed()).collect::<Vec<_>>())
    .bind(amounts.iter().map(|amount| amount.tokens.cast_signed()).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends reservations with what their calls cost; what is not reserved any more is passed over.
pub(super) async fn settle(
    conn: &mut PgConnection,
    items: &[Settlement],
) -> Result<(), sqlx::Error> {
    let mut tx = conn.begin().await?;
    let items: Vec<(ReservationId, Amount)> =
        items.iter().map(|item| (item.id, item.actual)).collect();
    settle_within(&mut tx, &items).await?;
    tx.commit().await
}

/// The same within a transaction.
pub(super) async fn settle_within(
    tx: &mut PgConnection,
    items: &[(ReservationId, Amount)],
) -> Result<(), sqlx::Error> {
    let ids: Vec<Vec<u8>> = items.iter().map(|(id, _)| id.as_bytes().to_vec()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let runs = sqlx::query_scalar("SELECT DISTINCT run FROM reservations WHERE id = ANY ($1)")
        .bind(ids.clone())
        .fetch_all(&mut *tx)
        .await?;
    // The accounts first: whoever reserves locks them before it looks at reservations.
    let mut accounts = load(&mut *tx, runs).await?;
    let rows = sqlx::query(
        "DELETE FROM reservations WHERE id = ANY ($1) RETURNING id, run, micro_usd, tokens",
    )
    .bind(ids)
    .fetch_all(&mut *tx)
    .await?;
    let mut reserved: HashMap<ReservationId, (i64, Amount)> = HashMap::new();
    for row in &rows {
        reserved.insert(id(row)?, (row.try_get(1)?, amount(row, 2)?));
    }
    for (id, actual) in items {
        if let Some((run, amount)) = reserved.remove(id)
            && let Some(account) = accounts.get_mut(&run)
        {
            account.settle(amount, *actual);
        }
    }
    for (run, account) in &accounts {
        save(&mut *tx, *run, account).await?;
    }
    Ok(())
}

/// The run's budget and what has become of it. A call is in flight while its lease is held, or it is
/// posted.
pub(super) async fn spending(
    conn: &mut PgConnection,
    run: i64,
) -> Result<Option<Spending>, sqlx::Error> {
    let query = format!(
        "SELECT {ACCOUNT}, f.micro_usd::bigint, f.tokens::bigint FROM runs CROSS JOIN ( \
             SELECT coalesce(sum(v.micro_usd), 0) AS micro_usd, coalesce(sum(v.tokens), 0) AS tokens \
             FROM reservations v \
             WHERE v.run = $1 AND (EXISTS (SELECT 1 FROM tasks t WHERE t.run = v.run \
                     AND t.position = v.position AND t.sample = v.sample AND t.lease = v.lease) \
                 OR EXISTS (SELECT 1 FROM postings p WHERE p.run = v.run \
                     AND p.position = v.position AND p.sample = v.sample \
                     AND p.reservation = v.id))) AS f \
         WHERE runs.seq = $1"
    );
    let row = sqlx::query(AssertSqlSafe(query)).bind(run).fetch_optional(conn).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(account(&row, 0)?.spending(amount(&row, 6)?))
}

fn id(row: &PgRow) -> Result<ReservationId, sqlx::Error> {
    ReservationId::from_slice(row.try_get(0)?).ok_or_else(|| damaged("reservation id"))
}
