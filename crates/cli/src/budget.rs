//! `--budget` and `--max-tokens`: what a run may spend.
//!
//! Owns the flags and what they set on a run. That nothing is spent beyond it is the store's and the
//! worker's.

use std::{str::FromStr, sync::Arc};

use anyhow::ensure;
use clap::Args;
use tribunal_core::{Prices, RunId};
use tribunal_store::{Amount, Budget, Store};

use crate::config::models::ModelFacts;

/// What a run may spend.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct BudgetArgs {
    /// Spend at most so many US dollars on the run, or `none` for no limit; a larger one goes on
    /// with what a smaller one left
    #[arg(long, value_name = "USD|none")]
    budget: Option<Limit<UsDollars>>,
    /// Use at most so many tokens on the run, prompts and replies together, or `none`
    #[arg(long, value_name = "N|none")]
    max_tokens: Option<Limit<Tokens>>,
}

/// A limit, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit<T> {
    /// What was limited before is not any more.
    None,
    /// So much at most.
    Most(T),
}

/// US dollars, above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct UsDollars(f64);

/// Tokens, above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tokens(u64);

/// Millionths in a whole.
const MICRO: f64 = 1e6;

/// The largest budget: far beyond any bill, and exact in millionths.
const MOST_USD: f64 = 1e9;

// === impl BudgetArgs ===

impl BudgetArgs {
    /// Refuses a budget that cannot be kept: one of dollars for a model whose price is not known.
    ///
    /// # Errors
    ///
    /// That, and what to do.
    pub(crate) fn check(&self, facts: &ModelFacts) -> anyhow::Result<()> {
        let in_usd = matches!(self.budget, Some(Limit::Most(_)));
        ensure!(
            !in_usd || facts.prices.is_some(),
            "--budget cannot be kept: the price of `{}` is not known. Give it in a file named by \
             run.models (price_input, price_cached and price_output of its entry), or limit tokens \
             with --max-tokens",
            facts.model
        );
        Ok(())
    }

    /// Whether a flag says a limit, or that there is none.
    pub(crate) fn is_set(&self) -> bool {
        self.budget.is_some() || self.max_tokens.is_some()
    }

    /// The limits of the flags; the one that no flag speaks of stays as it is in `kept`.
    pub(crate) fn beside(&self, kept: Budget) -> Budget {
        Budget {
            micro_usd: match self.budget {
                None => kept.micro_usd,
                // At most 1e15: exact.
                Some(limit) => limit.usd().map(|usd| (usd * MICRO).floor() as u64),
            },
            tokens: match self.max_tokens {
                None => kept.tokens,
                Some(Limit::Most(Tokens(tokens))) => Some(tokens),
                Some(Limit::None) => None,
            },
        }
    }

    /// These limits as those of one run of several, until they are divided: a run that has none yet
    /// may spend nothing.
    pub(crate) fn undivided(&self) -> BudgetArgs {
        BudgetArgs {
            budget: self.budget.map(|limit| limit.map(|_| UsDollars(0.0))),
            max_tokens: self.max_tokens.map(|limit| limit.map(|_| Tokens(0))),
        }
    }

    /// Sets the run's budget, where a flag says one; what no flag speaks of, the run keeps.
    /// Returns how many leaves a larger budget put back in the queue.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn set(
        &self,
        run: &RunId,
        prices: Option<&Prices>,
        store: &Arc<dyn Store>,
    ) -> anyhow::Result<u64> {
        if !self.is_set() {
            return Ok(0);
        }
        let totals = store.totals(run).await?;
        let budget = self.beside(totals.spending.unwrap_or_default().budget);
        let priced = |usage, batched| prices.map_or(0.0, |of| of.cost_mixed(&usage, &batched));
        let known = totals.calls_usd().unwrap_or(priced(totals.usage, totals.batched()));
        // Without a budget nobody has charged the calls of unknown outcome yet.
        let unsure = totals.possible;
        let usd = known + unsure.cost_usd.unwrap_or(priced(unsure.usage, unsure.batched));
        let mut used = totals.usage;
        used += unsure.usage;
        let spent =
            Amount { micro_usd: (usd * MICRO).ceil() as u64, tokens: used.input + used.output };
        Ok(store.set_budget(run, budget, spent).await?)
    }
}

// === impl Limit ===

impl<T> Limit<T> {
    fn map(self, change: impl FnOnce(T) -> T) -> Limit<T> {
        match self {
            Limit::None => Limit::None,
            Limit::Most(most) => Limit::Most(change(most)),
        }
    }
}

impl Limit<UsDollars> {
    /// The US dollars; `None` where there is no limit.
    pub(crate) fn usd(self) -> Option<f64> {
        match self {
            Limit::None => None,
            Limit::Most(UsDollars(usd)) => Some(usd),
        }
    }
}

impl<T: FromStr<Err = String>> FromStr for Limit<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Limit::None) } else { text.parse().map(Limit::Most) }
    }
}

impl FromStr for UsDollars {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usd = text.trim_start_matches('$').parse().ok();
        // NaN is in no range.
        let usd = usd.filter(|usd| (1.0 / MICRO..=MOST_USD).contains(usd));
        usd.map(UsDollars).ok_or_else(|| "give US dollars above 0, such as 25.00".to_owned())
    }
}

impl FromStr for Tokens {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let tokens = text.replace(['_', ','], "").parse().ok().filter(|tokens| *tokens > 0);
        tokens.map(Tokens).ok_or_else(|| "give a number of tokens above 0".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_as_people_write_them() {
        let usd = |text: &str| text.parse::<Limit<UsDollars>>().ok();
        assert_eq!(usd("25.00"), Some(Limit::Most(UsDollars(25.0))));
        assert_eq!(usd("$0.5"), Some(Limit::Most(UsDollars(0.5))));
        assert_eq!(usd("none"), Some(Limit::None));
        for wrong in ["0", "-1", "NaN", "inf", "", "much", "0.0000001"] {
            assert_eq!(usd(wrong), None, "{wrong}");
        }
        let tokens = |text: &str| text.parse::<Limit<Tokens>>().ok();
        assert_eq!(tokens("1_000_000"), Some(Limit::Most(Tokens(1_000_000))));
        for wrong in ["0", "-5", "1.5", "many"] {
            assert_eq!(tokens(wrong), None, "{wrong}");
        }
    }
}
