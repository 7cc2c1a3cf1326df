//! What tokens cost.
//!
//! Owns prices and the arithmetic over them. Which model has which is the config's to know; a price
//! is never assumed.

use serde::{Deserialize, Serialize};

use crate::verdict::{Usage, Via};

/// Prices of one model, in USD for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    /// Input that was not cached.
    pub input: f64,
    /// Input that the provider served from its cache.
    pub cached_input: f64,
    /// Output, reasoning included.
    pub output: f64,
    /// What the batch API costs of these, 0 to 1; 1 where there is none.
    pub batch_factor: f64,
}

// === impl Prices ===

impl Prices {
    /// What the usage costs, in USD, outside the batch API.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    pub fn cost_usd(&self, usage: &Usage) -> f64 {
        let cached = usage.cached.min(usage.input);
        let fresh = usage.input - cached;
        (fresh as f64 * self.input
            + cached as f64 * self.cached_input
            + usage.output as f64 * self.output)
            / 1e6
    }

    /// What the usage costs, in USD, by this way.
    pub fn cost_via(&self, via: Via, usage: &Usage) -> f64 {
        match via {
            Via::Live => self.cost_usd(usage),
            Via::Batch => self.cost_usd(usage) * self.batch_factor,
        }
    }

    /// What the usage costs, in USD, where so much of it went through the batch API.
    pub fn cost_mixed(&self, usage: &Usage, batched: &Usage) -> f64 {
        self.cost_usd(usage) - self.cost_usd(batched) + self.cost_via(Via::Batch, batched)
    }
}
