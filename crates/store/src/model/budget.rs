//! Budgets in the store in memory.
//!
//! Owns reservations and settlements of its runs; the sums are `crate::budget`'s.

use tribunal_core::{RunId, RunState, UngradedReason};

use super::{State, Tables, Task};
use crate::{
    budget::{Amount, Budget, Reservation, ReserveOutcome, Settlement, Spending},
    error::StoreError,
};

// === impl Tables ===

impl Tables {
    pub(super) fn set_budget(
        &mut self,
        run: &RunId,
        budget: Budget,
        spent: Amount,
    ) -> Result<u64, StoreError> {
        let run = self.run(run)?;
        let exceeds = run.account.set_budget(budget, spent);
        let mut count = 0;
        if exceeds && run.record.state != RunState::Cancelled {
            for task in run.tasks.values_mut().filter(|task| ended_for_want_of_budget(task)) {
                task.begin_again();
                count += 1;
            }
        }
        Ok(count)
    }

    pub(super) fn reserve(&mut self, reservation: Reservation, now: i64) -> ReserveOutcome {
        let Reservation { id, run, position, sample, lease, amount } = reservation;
        if self.reservations.contains_key(&id) {
            return ReserveOutcome::Reserved;
        }
        if self.held(&run, (position, sample), lease, now).is_none() {
            return ReserveOutcome::Fenced;
        }
        let Some(found) = self.find(&run) else { return ReserveOutcome::Fenced };
        if found.account.budget.is_unlimited() {
            return ReserveOutcome::Reserved;
        }
        if !found.account.reserve(amount) {
            return ReserveOutcome::Exhausted;
        }
        let kept = Reservation { id, run, position, sample, lease, amount };
        self.reservations.insert(id, kept);
        ReserveOutcome::Reserved
    }

    pub(super) fn settle_reservation(&mut self, settlement: &Settlement) {
        let Some(reservation) = self.reservations.remove(&settlement.id) else { return };
        if let Some(run) = self.find(&reservation.run) {
            run.account.settle(reservation.amount, settlement.actual);
        }
    }

    /// A call is in flight while its lease is held, or it is posted.
    pub(super) fn spending(&self, id: &RunId) -> Option<Spending> {
        let run = self.runs.iter().find(|run| run.record.run.id == *id)?;
        let in_flight = self.reservations.values().filter(|reservation| {
            let task = run.tasks.get(&(reservation.position, reservation.sample));
            reservation.run == *id
                && task.is_some_and(|task| {
                    let posted = task.posted.as_ref().and_then(|posted| posted.reservation);
                    matches!(task.state, State::Leased { lease, .. } if lease == reservation.lease)
                        || posted == Some(reservation.id)
                })
        });
        let in_flight = in_flight.fold(Amount::default(), |sum, r| sum.plus(r.amount));
        run.account.spending(in_flight)
    }
}

fn ended_for_want_of_budget(task: &Task) -> bool {
    let outcome = task.verdict().map(|verdict| verdict.outcome);
    outcome.and_then(|outcome| outcome.ungraded()) == Some(UngradedReason::Budget)
}
