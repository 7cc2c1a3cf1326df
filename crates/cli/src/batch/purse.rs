//! One budget for all runs of a batch.
//!
//! Owns how it is divided: every run has a budget of its own in the store, and the sum of them is never
//! more than the batch's. What a run does not need goes to those that lack it. That no run spends more
//! than it has is the store's and the worker's.

use std::sync::Arc;

use tribunal_core::{RunId, UngradedReason};
use tribunal_store::{Amount, Budget, Spending, Store};

/// Runs that are offered all that is left, before it counts as too little for any call.
const ALONE: usize = 2;

/// A batch's budget, and how it is being divided.
pub(crate) struct Purse {
    total: Budget,
    runs: Vec<RunId>,
    /// Leaves that were graded when it was divided last.
    graded: Option<u64>,
    /// Where dividing by leaves has graded nothing more: how many runs have been given all that is left.
    alone: usize,
}

/// What is known of a run when the budget is divided.
#[derive(Clone, Copy, Debug)]
struct Need {
    /// What it has spent, and what is reserved for it.
    held: Amount,
    /// Leaves that its budget is still needed for.
    open: u64,
}

/// What these runs may spend together at present: the sum of their budgets.
///
/// # Errors
///
/// The store's.
pub(crate) async fn kept(runs: &[RunId], store: &Arc<dyn Store>) -> anyhow::Result<Budget> {
    fn sum(all: Option<u64>, one: Option<u64>) -> Option<u64> {
        all.into_iter().chain(one).reduce(u64::saturating_add)
    }
    let mut together = Budget::default();
    for run in runs {
        let budget = store.totals(run).await?.spending.unwrap_or_default().budget;
        together = Budget {
            micro_usd: sum(together.micro_usd, budget.micro_usd),
            tokens: sum(together.tokens, budget.tokens),
        };
    }
    Ok(together)
}

// === impl Purse ===

impl Purse {
    /// A budget for these runs, none of which is worked on.
    pub(crate) fn new(total: Budget, runs: Vec<RunId>) -> Purse {
        Purse { total, runs, graded: None, alone: 0 }
    }

    /// Divides what is left among the runs that lack it. Returns how many leaves are to be worked on
    /// again: none once the budget is used as far as it goes.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn divide(&mut self, store: &Arc<dyn Store>) -> anyhow::Result<u64> {
        let (mut needs, mut graded) = (Vec::with_capacity(self.runs.len()), 0);
        for run in &self.runs {
            let progress = store.progress(run).await?;
            let totals = store.totals(run).await?;
            graded += totals.graded;
            let Spending { spent, reserved, .. } = totals.spending.unwrap_or_default();
            let by_budget = progress.ungraded.get(&UngradedReason::Budget).copied();
            needs.push(Need {
                held: Amount {
                    micro_usd: spent.micro_usd + reserved.micro_usd,
                    tokens: spent.tokens + reserved.tokens,
                },
                open: progress.pending + progress.leased + by_budget.unwrap_or(0),
            });
        }
        let idle = self.graded == Some(graded);
        self.graded = Some(graded);
        let lacking = needs.iter().filter(|need| need.open > 0).count();
        let only = if idle {
            // A share was too small for a call: what is left is offered whole to one run, then another.
            let tries = lacking.min(ALONE);
            let Some(only) = (self.alone < tries).then_some(self.alone) else { return Ok(0) };
            self.alone += 1;
            Some(only)
        } else {
            self.alone = 0;
            None
        };
        let budgets = shares(self.total, &needs, only);
        // First those that get less: at no moment do the runs' budgets sum to more than the batch's.
        let mut again = 0;
        for lacking in [false, true] {
            for ((run, need), budget) in self.runs.iter().zip(&needs).zip(&budgets) {
                if (need.open > 0) == lacking {
                    again += store.set_budget(run, *budget, Amount::default()).await?;
                }
            }
        }
        Ok(again)
    }
}

/// The budgets of runs with these needs: each holds what it has; the rest goes to those with open
/// leaves, by their number, or to one of them alone. They sum to `total` at most, or to what is held.
fn shares(total: Budget, needs: &[Need], only: Option<usize>) -> Vec<Budget> {
    let usd = divided(total.micro_usd, needs, only, |held| held.micro_usd);
    let tokens = divided(total.tokens, needs, only, |held| held.tokens);
    let budgets = usd.into_iter().zip(tokens);
    budgets.map(|(micro_usd, tokens)| Budget { micro_usd, tokens }).collect()
}

fn divided(
    total: Option<u64>,
    needs: &[Need],
    only: Option<usize>,
    part: impl Fn(&Amount) -> u64,
) -> Vec<Option<u64>> {
    let Some(total) = total else { return vec![None; needs.len()] };
    let held: u64 = needs.iter().map(|need| part(&need.held)).sum();
    let left = u128::from(total.saturating_sub(held));
    let lacking = needs.iter().enumerate().filter(|(_, need)| need.open > 0);
    let chosen: Vec<usize> = match only {
        Some(only) => lacking.skip(only).take(1).map(|(at, _)| at).collect(),
        None => lacking.map(|(at, _)| at).collect(),
    };
    let open: u128 = chosen.iter().map(|at| u128::from(needs[*at].open)).sum();
    let mut budgets: Vec<u64> = needs.iter().map(|need| part(&need.held)).collect();
    for at in chosen {
        let share = left * u128::from(needs[at].open) / open;
        // No more than `left`.
        budgets[at] += u64::try_from(share).unwrap_or(u64::MAX);
    }
    budgets.into_iter().map(Some).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn need(micro_usd: u64, open: u64) -> Need {
        Need { held: Amount { micro_usd, tokens: 0 }, open }
    }

    #[test]
    fn what_a_finished_run_leaves_goes_to_the_others_by_their_leaves() {
        let total = Budget { micro_usd: Some(1_000), tokens: None };
        let needs = [need(100, 0), need(300, 10), need(0, 20)];
        let budgets = |only| -> Vec<u64> {
            shares(total, &needs, only).iter().filter_map(|budget| budget.micro_usd).collect()
        };
        assert_eq!(budgets(None), [100, 500, 400]);
        assert_eq!(budgets(Some(0)), [100, 900, 0]);
        assert_eq!(budgets(Some(1)), [100, 300, 600]);
        assert!(shares(total, &needs, None).iter().all(|budget| budget.tokens.is_none()));
    }

    proptest! {
        #[test]
        fn no_division_is_of_more_than_there_is(
            total in 0..u64::from(u32::MAX),
            needs in prop::collection::vec((0..1_000_000_u64, 0..50_u64), 1..20),
            only in prop::option::of(0..20_usize),
        ) {
            let needs: Vec<Need> = needs.into_iter().map(|(held, open)| need(held, open)).collect();
            let held: u64 = needs.iter().map(|need| need.held.micro_usd).sum();
            let budgets = divided(Some(total), &needs, only, |held| held.micro_usd);
            let sum: u64 = budgets.iter().flatten().sum();
            prop_assert!(sum <= total.max(held));
            for (budget, need) in budgets.iter().zip(&needs) {
                prop_assert!(budget.is_some_and(|budget| budget >= need.held.micro_usd));
            }
        }
    }
}
