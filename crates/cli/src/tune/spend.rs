//! What a tuning spends: one budget over all of its runs, and what each of them has used.
//!
//! Owns how the budget is shared among runs at work, and the sums. Reserving a call's cost before it is
//! made is the store's.

use std::collections::{BTreeMap, BTreeSet};

use tribunal_core::RunId;
use tribunal_store::{Amount, Budget, RunTotals};
use tribunal_tune::document::Spent;

use super::{bench::Bench, ledger::RunSpent};
use crate::budget::Limit;

/// Millionths in a dollar.
const MICRO: f64 = 1e6;

// === impl Bench ===

impl Bench<'_> {
    /// These runs in groups that are worked on together: all, where the budget holds the most that
    /// they may cost, else one after the other, each with all that is left.
    pub(super) async fn affordable(
        &self,
        open: BTreeMap<RunId, u64>,
    ) -> anyhow::Result<Vec<BTreeMap<RunId, u64>>> {
        let most: f64 = open.iter().map(|(run, tasks)| self.most_usd(run, *tasks)).sum();
        let together = self.left_usd().await?.is_none_or(|left| most <= left);
        Ok(match (open.is_empty(), together) {
            (true, _) => Vec::new(),
            (false, true) => vec![open],
            (false, false) => open.into_iter().map(|run| BTreeMap::from([run])).collect(),
        })
    }

    fn most_usd(&self, run: &RunId, tasks: u64) -> f64 {
        let own = self.all().find(|of| of.runs.iter().any(|benched| benched.run == *run));
        own.map_or(0.0, |of| of.most_usd_a_leaf * tasks as f64)
    }

    /// Gives each of these runs its part, by what it may cost at most, of what is left of the budget.
    pub(super) async fn share_budget(&self, open: &BTreeMap<RunId, u64>) -> anyhow::Result<()> {
        let Some(left) = self.left_usd().await? else { return Ok(()) };
        let all: f64 = open.iter().map(|(run, tasks)| self.most_usd(run, *tasks)).sum();
        for (run, tasks) in open {
            let (own, spent) = self.used(run).await?;
            let share = if all > 0.0 { self.most_usd(run, *tasks) / all } else { 1.0 };
            let limit = ((own + left * share) * MICRO) as u64;
            let budget = Budget { micro_usd: Some(limit), tokens: None };
            self.store().set_budget(run, budget, spent).await?;
        }
        Ok(())
    }

    /// Lifts what an earlier command allowed this run; leaves that it did not hold are asked about again.
    pub(super) async fn lift_budget(&self, run: &RunId) -> anyhow::Result<()> {
        let (_, spent) = self.used(run).await?;
        self.store().set_budget(run, Budget::default(), spent).await?;
        Ok(())
    }

    /// What a run has used: in US dollars, and as a budget counts it.
    async fn used(&self, run: &RunId) -> anyhow::Result<(f64, Amount)> {
        let totals = self.store().totals(run).await?;
        let usd = self.usd_of(run, &totals).unwrap_or(0.0);
        let tokens = totals.usage.input + totals.usage.output;
        Ok((usd, Amount { micro_usd: (usd * MICRO).ceil() as u64, tokens }))
    }

    /// What a run has cost.
    fn usd_of(&self, run: &RunId, totals: &RunTotals) -> Option<f64> {
        let own = self.all().find(|of| of.runs.iter().any(|benched| benched.run == *run));
        let prices = own.and_then(|of| of.candidate.panel.first.facts.prices);
        totals.recorded_usd().or(prices.map(|prices| totals.cost_usd(&prices)))
    }

    /// All runs that the store has, each once.
    pub(crate) fn recorded(&self) -> BTreeSet<&RunId> {
        let runs = self.all().flat_map(|of| &of.runs).filter(|benched| benched.recorded);
        runs.map(|benched| &benched.run).collect()
    }

    /// What all runs have cost; `None` where a price is not known.
    async fn spent_usd(&self) -> anyhow::Result<Option<f64>> {
        let mut sum = Some(0.0);
        for run in self.recorded() {
            let own = self.usd_of(run, &self.store().totals(run).await?);
            sum = sum.zip(own).map(|(sum, own)| sum + own);
        }
        Ok(sum)
    }

    /// What is left of the budget; `None` without one.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn left_usd(&self) -> anyhow::Result<Option<f64>> {
        let Some(budget) = self.budget.and_then(Limit::usd) else { return Ok(None) };
        let spent = self.spent_usd().await?.unwrap_or(0.0);
        Ok(Some((budget - spent - self.proposed_usd).max(0.0)))
    }

    /// What all runs have used, whether a simulated judge answered, and what each run alone has used.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn spent(&self) -> anyhow::Result<(Spent, bool, BTreeMap<String, RunSpent>)> {
        let (mut spent, mut simulated, mut by_run) = (Spent::default(), false, BTreeMap::new());
        spent.cost_usd = Some(0.0);
        for run in self.recorded() {
            let totals = self.store().totals(run).await?;
            spent.judge_calls += totals.judge_calls;
            spent.rank_calls += totals.rank_calls;
            spent.repair_calls += totals.repair_calls;
            spent.reused += totals.by_source.get("reused").copied().unwrap_or(0);
            simulated |= totals.any_simulated;
            let calls = totals.judge_calls + totals.rank_calls + totals.repair_calls;
            let cost_usd = self.usd_of(run, &totals);
            spent.cost_usd = spent.cost_usd.zip(cost_usd).map(|(sum, own)| sum + own);
            if calls > 0 {
                by_run.insert(run.to_string(), RunSpent { calls, cost_usd });
            }
        }
        Ok((spent, simulated, by_run))
    }
}
