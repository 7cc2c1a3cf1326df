//! What a run has used and cost: calls by kind, tokens, verdicts by who decided.
//!
//! Owns the sums and how charges for calls of unknown outcome enter them. Engines add up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tribunal_core::{CallKind, FailureClass, Prices, Usage, Via};

use crate::budget::{Amount, Spending};

/// Calls of one kind, whatever came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KindTotals {
    /// How many.
    pub calls: u64,
    /// Their tokens.
    pub usage: Usage,
    /// Those of them that went through the batch API.
    #[serde(default)]
    pub batched: Usage,
    /// What they cost by the prices known when they were made, in US dollars; `None` where that of any
    /// is not known, or where there is none.
    pub cost_usd: Option<f64>,
}

/// What a run has cost so far, every attempt counted, whatever came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

// === impl KindTotals ===

impl KindTotals {
    /// Calls that all went this way.
    pub(crate) fn of(via: Via, calls: u64, usage: Usage, cost_usd: Option<f64>) -> KindTotals {
        let batched = match via {
            Via::Live => Usage::default(),
            Via::Batch => usage,
        };
        KindTotals { calls, usage, batched, cost_usd }
    }

    /// Counts these calls too.
    pub(crate) fn add(&mut self, more: KindTotals) {
        self.cost_usd = match self.calls {
            0 => more.cost_usd,
            _ => self.cost_usd.zip(more.cost_usd).map(|(own, more)| own + more),
        };
        self.calls += more.calls;
        self.usage += more.usage;
        self.batched += more.batched;
    }
}

// === impl RunTotals ===

impl RunTotals {
    /// Counts calls of one kind that came to the same.
    pub(crate) fn add_calls(
        &mut self,
        kind: CallKind,
        class: Option<FailureClass>,
        calls: KindTotals,
    ) {
        self.usage += calls.usage;
        self.by_kind.entry(kind).or_default().add(calls);
        *match (class, kind) {
            (Some(FailureClass::Throttled), _) => &mut self.rejected,
            (Some(_), _) => &mut self.failed,
            (None, CallKind::Judge) => &mut self.judge_calls,
            (None, CallKind::Rank) => &mut self.rank_calls,
            (None, CallKind::Repair) => &mut self.repair_calls,
        } += calls.calls;
    }

    /// Counts graded verdicts of one source.
    pub(crate) fn add_graded(&mut self, source: &str, count: u64) {
        self.graded += count;
        *self.by_source.entry(source.to_owned()).or_default() += count;
    }

    /// From the first claim to a stored verdict, in the store's milliseconds.
    pub(crate) fn lasted(&mut self, first_ms: i64, last_ms: i64) {
        let wall = u64::try_from(last_ms.saturating_sub(first_ms)).unwrap_or(0);
        self.wall_ms = self.wall_ms.max(wall);
    }

    /// Those of `usage` that went through the batch API.
    pub fn batched(&self) -> Usage {
        let mut batched = Usage::default();
        self.by_kind.values().for_each(|totals| batched += totals.batched);
        batched
    }

    /// What the run has cost in US dollars by the prices known when each call was made, which judges
    /// with prices of their own need; `None` where one was not known.
    pub fn recorded_usd(&self) -> Option<f64> {
        Some(self.charged_usd(self.calls_usd()?))
    }

    /// The same without what was charged for calls of unknown outcome.
    pub fn calls_usd(&self) -> Option<f64> {
        self.by_kind.values().try_fold(0.0, |sum, of| Some(sum + of.cost_usd?))
    }

    /// What the run has cost in US dollars: its calls, and what was reserved for those of unknown
    /// outcome, which only a run with a budget counts.
    pub fn cost_usd(&self, prices: &Prices) -> f64 {
        self.charged_usd(prices.cost_mixed(&self.usage, &self.batched()))
    }

    /// What is charged, where that is more than what is known to have been used.
    fn charged_usd(&self, known: f64) -> f64 {
        let charged = self.spending.map_or(0.0, |spending| spending.spent.usd());
        // Each call's charge is rounded up to a millionth: that much is no call.
        let calls: u64 = self.by_kind.values().map(|totals| totals.calls).sum();
        let rounding = Amount { micro_usd: calls, tokens: 0 }.usd();
        if charged > known + rounding { charged } else { known }
    }
}
