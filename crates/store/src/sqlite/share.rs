//! The books of fair claiming: what a run's tasks really used.
//!
//! Owns the statements that move a run's virtual time after the claim, its weight, priority and cap.
//! Who is claimed next is `claim`'s.

use std::{collections::BTreeMap, num::NonZeroU32};

use sqlx::SqliteConnection;

use crate::share::Weight;

/// A claim that has ended, with its estimate and what it used, in tokens.
pub(super) struct Settled {
    pub(super) run: i64,
    pub(super) estimated: u32,
    pub(super) used: u64,
}

/// Charges runs what their claims used beyond the estimates, or gives back the difference.
pub(super) async fn settle(
    conn: &mut SqliteConnection,
    claims: impl IntoIterator<Item = Settled>,
) -> Result<(), sqlx::Error> {
    let mut runs: BTreeMap<i64, Vec<Settled>> = BTreeMap::new();
    for claim in claims {
        runs.entry(claim.run).or_default().push(claim);
    }
    for (run, claims) in runs {
        let weight: u32 = sqlx::query_scalar("SELECT weight FROM runs WHERE seq = ?")
            .bind(run)
            .fetch_one(&mut *conn)
            .await?;
        let weight = Weight::new(weight).unwrap_or_default();
        let owed = claims.iter().map(|claim| weight.settlement(claim.estimated, claim.used));
        let owed: i64 = owed.fold(0, i64::saturating_add);
        if owed != 0 {
            sqlx::query("UPDATE runs SET virtual_time = virtual_time + ? WHERE seq = ?")
                .bind(owed)
                .bind(run)
                .execute(&mut *conn)
                .await?;
        }
    }
    Ok(())
}

/// Sets a run's weight.
pub(super) async fn set_weight(
    conn: &mut SqliteConnection,
    run: i64,
    weight: Weight,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE runs SET weight = ? WHERE seq = ?")
        .bind(weight.get())
        .bind(run)
        .execute(conn)
        .await?;
    Ok(())
}

/// Sets a run's priority.
pub(super) async fn set_priority(
    conn: &mut SqliteConnection,
    run: i64,
    priority: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE runs SET priority = ? WHERE seq = ?")
        .bind(priority)
        .bind(run)
        .execute(conn)
        .await?;
    Ok(())
}

/// Sets or lifts a run's cap.
pub(super) async fn set_max_in_flight(
    conn: &mut SqliteConnection,
    run: i64,
    cap: Option<NonZeroU32>,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE runs SET max_in_flight = ? WHERE seq = ?")
        .bind(cap.map(NonZeroU32::get))
        .bind(run)
        .execute(conn)
        .await?;
    Ok(())
}
