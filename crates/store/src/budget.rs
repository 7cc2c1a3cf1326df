//! What a run may spend: budgets, reservations before calls, settlements after them.
//!
//! Owns the nouns and the sums that every engine shares. A reservation is what a call costs at
//! most; until its outcome is known it counts in full, and where that never becomes known it
//! counts for good. So what is spent and reserved never passes the budget, whoever is killed when.

use std::fmt;

use serde::{Deserialize, Serialize};
use tribunal_core::{LeaseId, RunId};

/// The largest part of an amount: beyond it nothing is counted.
const MOST: u64 = 1 << 60;

/// Money and tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Millionths of a US dollar; 0 where no price is known.
    pub micro_usd: u64,
    /// Tokens in and out.
    pub tokens: u64,
}

/// The most that a run may spend; a part that is `None` is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Millionths of a US dollar.
    pub micro_usd: Option<u64>,
    /// Tokens in and out.
    pub tokens: Option<u64>,
}

/// A run's budget and what has become of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending {
    /// The limits.
    pub budget: Budget,
    /// What calls have cost, and the reservations of calls whose outcome nobody will tell.
    pub spent: Amount,
    /// Reservations of calls in flight.
    pub reserved: Amount,
}

/// Names one reservation: random, and chosen by who reserves, so that a repeated request is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId([u8; 16]);

/// A call that is about to be made under a claim.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// Its own name.
    pub id: ReservationId,
    /// The run.
    pub run: RunId,
    /// Position of the task.
    pub position: u32,
    /// Sample of the task.
    pub sample: u32,
    /// The claim.
    pub lease: LeaseId,
    /// What the call costs at most.
    pub amount: Amount,
}

/// What became of a [`Reservation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveOutcome {
    /// The call may be made. Of a run without a budget nothing is recorded.
    Reserved,
    /// The budget does not hold it: no call.
    Exhausted,
    /// The lease is not the task's any more: no call.
    Fenced,
}

/// What a call has really cost.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The run.
    pub run: RunId,
    /// The reservation that it ends.
    pub id: ReservationId,
    /// The cost. More than was reserved is counted too: then the reservation was too low.
    pub actual: Amount,
}

/// A run's money as an engine keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) budget: Budget,
    /// What settled calls have cost.
    pub(crate) spent: Amount,
    /// All reservations that are not settled.
    pub(crate) reserved: Amount,
}

// === impl Amount ===

impl Amount {
    /// The money in US dollars.
    pub fn usd(self) -> f64 {
        // At most 2^60 millionths: exact enough for any bill.
        self.micro_usd as f64 / 1e6
    }

    /// Both parts together, each at most 2^60.
    pub(crate) fn plus(self, other: Amount) -> Amount {
        let plus = |a: u64, b: u64| a.saturating_add(b).min(MOST);
        Amount {
            micro_usd: plus(self.micro_usd, other.micro_usd),
            tokens: plus(self.tokens, other.tokens),
        }
    }

    /// What is left of each part.
    pub(crate) fn minus(self, other: Amount) -> Amount {
        Amount {
            micro_usd: self.micro_usd.saturating_sub(other.micro_usd),
            tokens: self.tokens.saturating_sub(other.tokens),
        }
    }

    /// The larger of each part.
    fn at_least(self, other: Amount) -> Amount {
        Amount {
            micro_usd: self.micro_usd.max(other.micro_usd).min(MOST),
            tokens: self.tokens.max(other.tokens).min(MOST),
        }
    }
}

// === impl Budget ===

impl Budget {
    /// Whether there is no limit at all.
    pub fn is_unlimited(self) -> bool {
        self == Budget::default()
    }

    /// Whether this much is within the limits.
    pub fn holds(self, amount: Amount) -> bool {
        self.micro_usd.is_none_or(|most| amount.micro_usd <= most)
            && self.tokens.is_none_or(|most| amount.tokens <= most)
    }

    /// Whether something is within these limits that is not within `before`.
    pub(crate) fn exceeds(self, before: Budget) -> bool {
        let exceeds = |new: Option<u64>, old: Option<u64>| match (new, old) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(new), Some(old)) => new > old,
        };
        exceeds(self.micro_usd, before.micro_usd) || exceeds(self.tokens, before.tokens)
    }
}

// === impl ReservationId ===

impl ReservationId {
    /// A fresh name.
    pub fn random() -> Self {
        Self(rand::random())
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReservationId({:032x})", u128::from_be_bytes(self.0))
    }
}

// === impl Account ===

impl Account {
    /// Sets the limits; returns whether they hold more than before. What was spent is at least
    /// `spent`: calls made without a budget count too.
    pub(crate) fn set_budget(&mut self, budget: Budget, spent: Amount) -> bool {
        let exceeds = budget.exceeds(self.budget);
        self.budget = Budget {
            micro_usd: budget.micro_usd.map(|most| most.min(MOST)),
            tokens: budget.tokens.map(|most| most.min(MOST)),
        };
        self.spent = self.spent.at_least(spent);
        exceeds
    }

    /// Reserves, if the budget holds it.
    pub(crate) fn reserve(&mut self, amount: Amount) -> bool {
        let reserved = self.reserved.plus(amount);
        let holds = self.budget.holds(self.spent.plus(reserved));
        if holds {
            self.reserved = reserved;
        }
        holds
    }

    /// Ends a reservation with what it cost.
    pub(crate) fn settle(&mut self, reserved: Amount, actual: Amount) {
        self.reserved = self.reserved.minus(reserved);
        self.spent = self.spent.plus(actual);
    }

    /// The account as people see it, where so much is reserved by calls in flight; `None` without
    /// a budget.
    pub(crate) fn spending(&self, in_flight: Amount) -> Option<Spending> {
        let unknown = self.reserved.minus(in_flight);
        (!self.budget.is_unlimited()).then(|| Spending {
            budget: self.budget,
            spent: self.spent.plus(unknown),
            reserved: in_flight,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(tokens: u64) -> Amount {
        Amount { micro_usd: 0, tokens }
    }

    #[test]
    fn budgets_are_compared_by_what_they_hold() {
        let of = |micro_usd, tokens| Budget { micro_usd, tokens };
        for (new, old, exceeds) in [
            (of(Some(2), None), of(Some(1), None), true),
            (of(Some(1), None), of(Some(1), None), false),
            (of(None, None), of(Some(1), None), true),
            (of(Some(1), None), of(None, None), false),
            (of(Some(1), Some(3)), of(Some(2), Some(2)), true),
        ] {
            assert_eq!(new.exceeds(old), exceeds, "{new:?} after {old:?}");
        }
    }

    #[test]
    fn nothing_overflows() {
        let mut account = Account::default();
        account.set_budget(Budget { tokens: Some(u64::MAX), micro_usd: None }, tokens(u64::MAX));
        assert!(account.reserve(tokens(u64::MAX)));
        account.settle(tokens(u64::MAX), tokens(u64::MAX));
        assert_eq!(account.spent, tokens(MOST));
        assert_eq!(account.reserved, Amount::default());
    }
}
