//! Budgets, reservations and settlements in the tables.
//!
//! Owns the statements. All reservations of a group are decided in memory, one after the other,
//! against the accounts as they stand within the transaction; the sums are `crate::budget`'s.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    batch::{slices, with_rows},
    request::LeaseRef,
};
use crate::budget::{Account, Amount, Budget, ReservationId, ReserveOutcome};

/// The columns of `runs` that an account is read from.
pub(super) const ACCOUNT_COLUMNS: &str = "budget_micro_usd, budget_tokens, spent_micro_usd, \
                                          spent_tokens, reserved_micro_usd, reserved_tokens";

/// A reservation ready to be recorded.
pub(super) struct NewReservation {
    pub(super) id: ReservationId,
    pub(super) lease: LeaseRef,
    pub(super) amount: Amount,
}

/// A settlement ready to be recorded.
pub(super) struct NewSettlement {
    pub(super) id: ReservationId,
    pub(super) actual: Amount,
}

/// Reads an account from a row that begins with [`ACCOUNT_COLUMNS`].
pub(super) fn account(row: &SqliteRow) -> Result<Account, sqlx::Error> {
    let limit =
        |at| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(at)?.map(i64::cast_unsigned));
    let sum = |at| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(at)?.cast_unsigned());
    Ok(Account {
        budget: Budget { micro_usd: limit(0)?, tokens: limit(1)? },
        spent: Amount { micro_usd: sum(2)?, tokens: sum(3)? },
        reserved: Amount { micro_usd: sum(4)?, tokens: sum(5)? },
    })
}

async fn load(conn: &mut SqliteConnection, run: i64) -> Result<Option<Account>, sqlx::Error> {
    let query = format!("SELECT {ACCOUNT_COLUMNS} FROM runs WHERE seq = ?");
    let row = super::batch::statement(query).bind(run).fetch_optional(conn).await?;
    row.as_ref().map(account).transpose()
}

async fn save(conn: &mut SqliteConnection, run: i64, account: &Account) -> Result<(), sqlx::Error> {
    let Account { budget, spent, reserved } = account;
    sqlx::query(
        "UPDATE runs SET budget_micro_usd = ?, budget_tokens = ?, spent_micro_usd = ?, \
             spent_tokens = ?, reserved_micro_usd = ?, reserved_tokens = ? WHERE seq = ?",
    )
    .bind(budget.micro_usd.map(u64::cast_signed))
    .bind(budget.tokens.map(u64::cast_signed))
    .bind(spent.micro_usd.cast_signed())
    .bind(spent.tokens.cast_signed())
    .bind(reserved.micro_usd.cast_signed())
    .bind(reserved.tokens.cast_signed())
    .bind(run)
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets the limits of a run; where they hold more than before, what had ended for want of budget
/// goes back in the queue. Returns how many tasks that are.
pub(super) async fn set(
    conn: &mut SqliteConnection,
    run: i64,
    budget: Budget,
    spent: Amount,
) -> Result<u64, sqlx::Error> {
    let Some(mut account) = load(conn, run).await? else { return Ok(0) };
    let exceeds = account.set_budget(budget, spent);
    save(conn, run, &account).await?;
    if !exceeds {
        return Ok(0);
    }
    sqlx::query(
        "DELETE FROM verdicts WHERE run = ?1 AND reason = 'budget' \
             AND (SELECT state FROM runs WHERE seq = ?1) <> 'cancelled'",
    )
    .bind(run)
    .execute(&mut *conn)
    .await?;
    let back = sqlx::query(
        "UPDATE tasks SET state = 0, turn = 0, failures = 0, ended_leases = 0, dead_workers = 0, \
             class = NULL, reason = NULL, first_claim_ms = NULL, error = '' \
         WHERE run = ?1 AND state = 3 AND reason = 'budget' \
             AND (SELECT runs.state FROM runs WHERE runs.seq = ?1) <> 'cancelled'",
    )
    .bind(run)
    .execute(conn)
    .await?;
    Ok(back.rows_affected())
}

/// Reserves; one outcome for each, in their order.
pub(super) async fn reserve(
    conn: &mut SqliteConnection,
    items: &[&NewReservation],
    now: i64,
) -> Result<Vec<ReserveOutcome>, sqlx::Error> {
    let (held, mut known) = standing(conn, items, now).await?;
    let mut accounts: BTreeMap<i64, (Account, bool)> = BTreeMap::new();
    let mut outcomes = Vec::with_capacity(items.len());
    let mut new = Vec::new();
    for item in items {
        let run = item.lease.run;
        if known.contains(&item.id) {
            outcomes.push(ReserveOutcome::Reserved);
            continue;
        }
        if !accounts.contains_key(&run)
            && let Some(account) = load(conn, run).await?
        {
            accounts.insert(run, (account, false));
        }
        let account = accounts.get_mut(&run).filter(|_| held.contains(&item.id));
        outcomes.push(match account {
            None => ReserveOutcome::Fenced,
            Some((account, _)) if account.budget.is_unlimited() => ReserveOutcome::Reserved,
            Some((account, changed)) => match account.reserve(item.amount) {
                false => ReserveOutcome::Exhausted,
                true => {
                    *changed = true;
                    known.insert(item.id);
                    new.push(*item);
                    ReserveOutcome::Reserved
                }
            },
        });
    }
    insert(conn, &new).await?;
    for (run, (account, _)) in accounts.iter().filter(|(_, (_, changed))| *changed) {
        save(conn, *run, account).await?;
    }
    Ok(outcomes)
}

/// Of these reservations, those whose lease is held, and those that are recorded already.
async fn standing(
    conn: &mut SqliteConnection,
    items: &[&NewReservation],
    now: i64,
) -> Result<(HashSet<ReservationId>, HashSet<ReservationId>), sqlx::Error> {
    let (mut held, mut known) = (HashSet::new(), HashSet::new());
    for slice in slices(items) {
        let mut query = with_rows(
            "run, position, sample, lease, id",
            slice.len(),
            1,
            "SELECT j.id, \
                 EXISTS (SELECT 1 FROM tasks WHERE tasks.run = j.run \
                     AND tasks.position = j.position AND tasks.sample = j.sample \
                     AND tasks.lease = j.lease AND +tasks.state = 2 AND +tasks.lease_end > ?1), \
                 EXISTS (SELECT 1 FROM reservations WHERE reservations.id = j.id) FROM j",
        )
        .bind(now);
        for item in slice {
            query = query.bind_lease(&item.lease).bind(item.id.as_bytes().to_vec());
        }
        for row in query.fetch_all(&mut *conn).await? {
            let id = id(&row)?;
            if row.try_get(1)? {
                held.insert(id);
            }
            if row.try_get(2)? {
                known.insert(id);
            }
        }
    }
    Ok((held, known))
}

async fn insert(conn: &mut SqliteConnection, items: &[&NewReservation]) -> Result<(), sqlx::Error> {
    for slice in slices(items) {
        let mut query = with_rows(
            "run, position, sample, lease, id, micro_usd, tokens",
            slice.len(),
            0,
            "INSERT INTO reservations (run, position, sample, lease, id, micro_usd, tokens) \
                 SELECT * FROM j",
        );
        for item in slice {
            let amount = Amount::default().plus(item.amount);
            query = query
                .bind_lease(&item.lease)
                .bind(item.id.as_bytes().to_vec())
                .bind(amount.micro_usd.cast_signed())
                .bind(amount.tokens.cast_signed());
        }
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

/// Ends reservations with what their calls cost; what is not reserved any more is passed over.
pub(super) async fn settle(
    conn: &mut SqliteConnection,
    items: &[&NewSettlement],
) -> Result<(), sqlx::Error> {
    let mut reserved: HashMap<ReservationId, (i64, Amount)> = HashMap::new();
    for slice in slices(items) {
        let mut query = with_rows(
            "id",
            slice.len(),
            0,
            "DELETE FROM reservations WHERE id IN (SELECT id FROM j) \
             RETURNING id, run, micro_usd, tokens",
        );
        for item in slice {
            query = query.bind(item.id.as_bytes().to_vec());
        }
        for row in query.fetch_all(&mut *conn).await? {
            let part = |at| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(at)?.cast_unsigned());
            let amount = Amount { micro_usd: part(2)?, tokens: part(3)? };
            reserved.insert(id(&row)?, (row.try_get(1)?, amount));
        }
    }
    let mut accounts: BTreeMap<i64, Account> = BTreeMap::new();
    for item in items {
        let Some((run, amount)) = reserved.remove(&item.id) else { continue };
        if !accounts.contains_key(&run)
            && let Some(account) = load(conn, run).await?
        {
            accounts.insert(run, account);
        }
        if let Some(account) = accounts.get_mut(&run) {
            account.settle(amount, item.actual);
        }
    }
    for (run, account) in &accounts {
        save(conn, *run, account).await?;
    }
    Ok(())
}

fn id(row: &SqliteRow) -> Result<ReservationId, sqlx::Error> {
    ReservationId::from_slice(row.try_get(0)?)
        .ok_or_else(|| sqlx::Error::Decode("a reservation's id of another length".into()))
}
