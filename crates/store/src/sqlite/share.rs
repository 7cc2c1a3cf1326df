//! The books of fair claiming: what a run's tasks really used.
//!
//! Owns the statements that move a run's virtual time after the claim, its weight, priority and cap.
//! Who is claimed next is `claim`'s.

use std::{collections::BTreeMap, num::NonZeroU32};

use sqlx::SqliteConnection;

use super::batch::Script;
use crate::share::Weight;

/// A claim that has ended, with its estimate and what it used, in tokens.
pub(super) struct Settled {
    pub(super) run: i64,
    pub(super) weight: Weight,
    pub(super) estimated: u32,
    pub(super) used: u64,
}

/// Adds what charges runs for what their claims used beyond the estimates, or gives back the difference.
pub(super) fn settle(mut script: Script, claims: impl IntoIterator<Item = Settled>) -> Script {
    let mut owed: BTreeMap<i64, i64> = BTreeMap::new();
    for claim in claims {
        let owed = owed.entry(claim.run).or_default();
        *owed = owed.saturating_add(claim.weight.settlement(claim.estimated, claim.used));
    }
    for (run, owed) in owed.into_iter().filter(|(_, owed)| *owed != 0) {
        script = script
            .and("UPDATE runs SET virtual_time = virtual_time + ? WHERE seq = ?")
            .bind(owed)
            .bind(run);
    }
    script
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
