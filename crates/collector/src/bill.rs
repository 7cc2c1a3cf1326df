//! The bill: what a run's calls have used and cost, by what they were for.
//!
//! Owns its lines and how it is held against the plan. Tokens are the store's, prices the caller's.

use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::{CallKind, Prices, Usage, Via, run::Planned};
use tribunal_store::{KindTotals, RunTotals};

/// What a run has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Bill {
    /// Calls for verdicts, failed ones included.
    pub judge: BillLine,
    /// Calls for rankings of files, failed ones included.
    pub rank: BillLine,
    /// Second questions after bad replies, failed ones included.
    pub repair: BillLine,
    /// What is charged for calls of which nobody knows what they cost, such as those that timed out;
    /// only a run with a budget counts them. Null where no price is known.
    pub unknown_usd: Option<f64>,
    /// Calls of which nobody knows what they used, and what they may have used at most: in no other line,
    /// and in the cost only as far as `unknown_usd` says.
    pub possible: BillLine,
    /// Verdicts taken over from earlier runs, and what asking again was expected to take.
    pub reused: BillLine,
    /// What the run was expected to take when it was begun; null where nobody said.
    pub planned: Option<BillLine>,
    /// What it cost beyond that; negative where it cost less. Null where either is not known.
    pub difference_usd: Option<f64>,
}

/// A line of the bill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct BillLine {
    /// Calls; for what is reused, verdicts.
    pub calls: u64,
    /// Their tokens.
    pub tokens: Usage,
    /// Those of them that went through the batch API, at its price.
    pub batched: Usage,
    /// What they cost, in US dollars; null where no price is known.
    pub cost_usd: Option<f64>,
}

/// Who knows what calls cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pricing {
    /// Nobody.
    Unknown,
    /// All tokens have these prices.
    PerToken(Prices),
    /// The record of each call: judges have prices of their own.
    Recorded,
}

// === impl Bill ===

impl Bill {
    /// The bill of a run with these totals.
    pub fn new(totals: &RunTotals, planned: Option<&Planned>, pricing: Pricing) -> Bill {
        let line = |calls, tokens: Usage, batched: Usage, recorded: Option<f64>| BillLine {
            calls,
            tokens,
            batched,
            cost_usd: match pricing {
                Pricing::Unknown => None,
                Pricing::PerToken(prices) => Some(prices.cost_mixed(&tokens, &batched)),
                Pricing::Recorded if calls == 0 => Some(0.0),
                Pricing::Recorded => recorded,
            },
        };
        let of_kind = |kind| {
            let KindTotals { calls, usage, batched, cost_usd } =
                totals.by_kind.get(&kind).copied().unwrap_or_default();
            line(calls, usage, batched, cost_usd)
        };
        let cost = pricing.cost_usd(totals);
        let known = match pricing {
            Pricing::Unknown => None,
            Pricing::PerToken(prices) => Some(prices.cost_mixed(&totals.usage, &totals.batched())),
            Pricing::Recorded => totals.calls_usd(),
        };
        let reused = totals.by_source.get("reused").copied().unwrap_or(0);
        let saved = planned.map_or_else(Usage::default, |planned| planned.reused);
        let planned = planned.map(|planned| {
            let batched = match planned.via {
                Via::Live => Usage::default(),
                Via::Batch => planned.usage,
            };
            line(planned.calls, planned.usage, batched, planned.cost_usd)
        });
        let expected = planned.and_then(|planned| planned.cost_usd);
        let KindTotals { calls, usage, batched, cost_usd } = totals.possible;
        Bill {
            judge: of_kind(CallKind::Judge),
            rank: of_kind(CallKind::Rank),
            repair: of_kind(CallKind::Repair),
            unknown_usd: cost.zip(known).map(|(cost, known)| cost - known),
            possible: line(calls, usage, batched, cost_usd),
            reused: line(reused, saved, Usage::default(), None),
            planned,
            difference_usd: cost.zip(expected).map(|(cost, expected)| cost - expected),
        }
    }
}

// === impl Pricing ===

impl Pricing {
    /// What a run with these totals has cost, in US dollars; `None` where nobody knows.
    pub fn cost_usd(self, totals: &RunTotals) -> Option<f64> {
        match self {
            Pricing::Unknown => None,
            Pricing::PerToken(prices) => Some(totals.cost_usd(&prices)),
            Pricing::Recorded => totals.recorded_usd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tribunal_store::{Amount, Budget, Spending};

    use super::*;

    #[test]
    fn the_lines_sum_to_the_whole() {
        let usage = |input, output| Usage { input, cached: 0, output };
        let prices = Prices { input: 2.0, cached_input: 0.5, output: 8.0, batch_factor: 0.5 };
        let mut totals = RunTotals { usage: usage(1_100_000, 120_000), ..RunTotals::default() };
        for (kind, usage) in [
            (CallKind::Judge, usage(1_000_000, 100_000)),
            (CallKind::Repair, usage(100_000, 20_000)),
        ] {
            totals.by_kind.insert(kind, KindTotals { calls: 10, usage, ..KindTotals::default() });
        }
        let planned = Planned {
            calls: 10,
            usage: usage(1_000_000, 125_000),
            reused: usage(500_000, 0),
            ..Planned::default()
        };
        let per_token = Pricing::PerToken(prices);
        let bill = Bill::new(&totals, Some(&planned), per_token);
        let cost = |line: BillLine| line.cost_usd.expect("a price");
        assert!((cost(bill.judge) - 2.8).abs() < 1e-9 && (cost(bill.repair) - 0.36).abs() < 1e-9);
        assert!((cost(bill.reused) - 1.0).abs() < 1e-9);
        assert!(bill.difference_usd.is_some_and(|difference| (difference - 0.16).abs() < 1e-9));
        assert_eq!((bill.unknown_usd, bill.possible.cost_usd), (Some(0.0), Some(0.0)));
        // Without a budget what a call may have cost stands apart from what calls have cost.
        totals.possible =
            KindTotals { calls: 1, usage: usage(250_000, 0), ..KindTotals::default() };
        let unsure = Bill::new(&totals, Some(&planned), per_token);
        assert!((cost(unsure.possible) - 0.5).abs() < 1e-9 && unsure.possible.calls == 1);
        assert_eq!((unsure.unknown_usd, unsure.difference_usd), (Some(0.0), bill.difference_usd));

        // A judge's calls of which all but a tenth of the input went by the batch API.
        let mut mixed = totals.clone();
        mixed.by_kind.entry(CallKind::Judge).or_default().batched = usage(900_000, 100_000);
        let bill = Bill::new(&mixed, None, per_token);
        assert!((cost(bill.judge) - (0.2 + 0.9 + 0.4)).abs() < 1e-9, "{bill:?}");

        // Two calls timed out: what was reserved for them is charged.
        let amount = |micro_usd| Amount { micro_usd, tokens: 0 };
        totals.spending = Some(Spending {
            budget: Budget { micro_usd: Some(5_000_000), tokens: None },
            spent: amount(3_660_000),
            reserved: amount(0),
        });
        let bill = Bill::new(&totals, Some(&planned), per_token);
        assert!(bill.unknown_usd.is_some_and(|usd| (usd - 0.5).abs() < 1e-9), "{bill:?}");
        let unpriced = Bill::new(&totals, None, Pricing::Unknown);
        assert_eq!((unpriced.unknown_usd, unpriced.difference_usd), (None, None));
    }

    #[test]
    fn judges_with_prices_of_their_own_are_billed_as_recorded() {
        let usage = Usage { input: 1_000, cached: 0, output: 100 };
        let mut totals = RunTotals { usage, ..RunTotals::default() };
        let calls = |cost_usd| KindTotals { calls: 3, usage, cost_usd, ..KindTotals::default() };
        totals.by_kind.insert(CallKind::Judge, calls(Some(0.25)));
        let planned = Planned { calls: 2, usage, cost_usd: Some(0.2), ..Planned::default() };
        let bill = Bill::new(&totals, Some(&planned), Pricing::Recorded);
        assert_eq!((bill.judge.cost_usd, bill.rank.cost_usd), (Some(0.25), Some(0.0)));
        assert!(bill.difference_usd.is_some_and(|usd| (usd - 0.05).abs() < 1e-12));
        assert_eq!(bill.reused.cost_usd, Some(0.0));
        totals.by_kind.insert(CallKind::Rank, calls(None));
        let unsure = Bill::new(&totals, Some(&planned), Pricing::Recorded);
        assert_eq!((unsure.rank.cost_usd, unsure.difference_usd), (None, None));
    }
}
