//! What a run has cost: calls and tokens by what they were for.
//!
//! Owns the sums as every engine gives them, and what they come to in US dollars.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tribunal_core::{CallKind, Prices, Usage};

use crate::budget::{Amount, Spending};

/// Calls of one kind, whatever came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindTotals {
    /// How many.
    pub calls: u64,
    /// Their tokens.
    pub usage: Usage,
    /// Those of them that went through the batch API.
    #[serde(default)]
    pub batched: Usage,
}

/// What a run has cost so far, every attempt counted, whatever came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTotals {
    /// Calls with a usable reply, for verdicts.
    pub judge_calls: u64,
    /// Calls with a usable reply, for rankings.
    pub rank_calls: u64,
    /// Second questions after bad replies, with a usable reply.
    pub repair_calls: u64,
    /// Calls answered with 429.
    pub rejected: u64,
    /// Calls that failed otherwise, bad replies included.
    pub failed: u64,
    /// Tokens of all calls.
    pub usage: Usage,
    /// All calls by what they were for, whatever came of them.
    pub by_kind: BTreeMap<CallKind, KindTotals>,
    /// Calls of which nobody knows what they used, and what they may have used at most, beyond `usage`.
    pub possible: KindTotals,
    /// Graded verdicts by who decided: `judge`, `rule`, `reused`; they sum to `graded`.
    pub by_source: BTreeMap<String, u64>,
    /// Graded verdicts, every sample counted.
    pub graded: u64,
    /// Whether any verdict came from a simulated judge.
    pub any_simulated: bool,
    /// First claim to last stored verdict, in milliseconds of the store's time.
    pub wall_ms: u64,
    /// The budget and what has become of it; `None` for a run without one.
    pub spending: Option<Spending>,
}

// === impl RunTotals ===

impl RunTotals {
    /// Those of `usage` that went through the batch API.
    pub fn batched(&self) -> Usage {
        let mut batched = Usage::default();
        self.by_kind.values().for_each(|totals| batched += totals.batched);
        batched
    }

    /// What the run has cost in US dollars: its calls, and what was reserved for those of unknown
    /// outcome, which only a run with a budget counts.
    pub fn cost_usd(&self, prices: &Prices) -> f64 {
        let known = prices.cost_mixed(&self.usage, &self.batched());
        let charged = self.spending.map_or(0.0, |spending| spending.spent.usd());
        // Each call's charge is rounded up to a millionth: that much is no call.
        let calls: u64 = self.by_kind.values().map(|totals| totals.calls).sum();
        let rounding = Amount { micro_usd: calls, tokens: 0 }.usd();
        if charged > known + rounding { charged } else { known }
    }
}
