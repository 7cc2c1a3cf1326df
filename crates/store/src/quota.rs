//! The quota that all workers of one provider account share.
//!
//! Owns the nouns of [`Store::take_quota`](crate::Store::take_quota) and
//! [`Store::report_quota`](crate::Store::report_quota). What a pool grants, and how its rates
//! follow what the provider says, is `row`'s: the same arithmetic in every engine. It knows no
//! table and reads no clock.

mod probe;
pub(crate) mod row;

use std::{
    ops::{Add, AddAssign, Neg, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tribunal_core::WorkerId;

/// How long a grant may be spent; then it goes back, or is lost with its worker.
pub const QUOTA_LEASE: Duration = Duration::from_millis(500);

/// What the provider limits together: an account and a family of models.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuotaPool {
    /// The provider's account: host and a hash of the key, never the key.
    pub account: String,
    /// The models that share a limit, by the name without version.
    pub family: String,
}

/// What a provider counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meter {
    /// Calls.
    Requests,
    /// Tokens of prompt and answer together.
    Tokens,
    /// Tokens of the prompt.
    InputTokens,
    /// Tokens of the answer.
    OutputTokens,
}

/// An amount of quota. Negative where it corrects another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spend {
    /// Calls.
    pub requests: i64,
    /// Tokens of prompts.
    pub input: i64,
    /// Tokens of answers.
    pub output: i64,
}

/// Limits by meter, each for a minute; `None` where there is none or none is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuotaLimits {
    /// Calls.
    pub requests: Option<f64>,
    /// Tokens of prompt and answer together.
    pub tokens: Option<f64>,
    /// Tokens of the prompt.
    pub input_tokens: Option<f64>,
    /// Tokens of the answer.
    pub output_tokens: Option<f64>,
}

/// What a worker asks of a pool.
#[derive(Clone, Copy, Debug)]
pub struct QuotaAsk {
    /// Who asks.
    pub worker: WorkerId,
    /// What its next call needs: all of it is granted, or nothing.
    pub need: Spend,
    /// What it would spend besides within [`QUOTA_LEASE`]; as much as there is comes along.
    pub want: Spend,
    /// Granted before and not spent; goes back first. Negative: spent beyond the grants.
    pub returned: Spend,
    /// Spent without asking, where no meter had a limit.
    pub unmetered: Spend,
    /// Limits that this worker was configured with.
    pub configured: QuotaLimits,
}

/// What a pool gives, and what holds of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuotaGrant {
    /// What may be spent within [`QUOTA_LEASE`]: the need and some of what was wanted, or nothing.
    pub granted: Spend,
    /// When to ask again, where nothing was granted.
    pub wait: Duration,
    /// What holds of the pool.
    pub view: QuotaView,
}

/// What holds of a pool at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuotaView {
    /// The rates in force. A meter without one grants whatever is asked for.
    pub rates: QuotaLimits,
    /// How long no call is to go out.
    pub hold: Duration,
    /// How many seconds' worth of the rates may go out at once.
    pub burst_s: f64,
}

/// What a worker learnt from the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuotaReport {
    /// Limits that headers stated.
    pub stated: QuotaLimits,
    /// A call was turned away.
    pub rejected: Option<Rejected>,
    /// Granted before and not spent, as in [`QuotaAsk::returned`].
    pub returned: Spend,
}

/// A call that was turned away: 429, or an endpoint that says that it is overloaded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rejected {
    /// How long the provider asked to wait, after the caller's cap.
    pub wait: Duration,
    /// How long ago the call was sent: of several that were under way together, one counts.
    pub sent_ago: Duration,
    /// Which limit it met, where the provider says so.
    pub meter: Option<Meter>,
}

// === impl Meter ===

impl Meter {
    /// Every meter, in the order of the fields of [`QuotaLimits`].
    pub const ALL: [Meter; 4] =
        [Meter::Requests, Meter::Tokens, Meter::InputTokens, Meter::OutputTokens];

    /// What it counts, for messages.
    pub fn noun(self) -> &'static str {
        match self {
            Meter::Requests => "requests",
            Meter::Tokens => "tokens",
            Meter::InputTokens => "input tokens",
            Meter::OutputTokens => "output tokens",
        }
    }
}

// === impl Spend ===

impl Spend {
    /// One call with so many tokens.
    pub fn call(input: u64, output: u64) -> Self {
        let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
        Self { requests: 1, input: tokens(input), output: tokens(output) }
    }

    /// What this is on a meter.
    pub fn on(self, meter: Meter) -> i64 {
        match meter {
            Meter::Requests => self.requests,
            Meter::Tokens => self.input.saturating_add(self.output),
            Meter::InputTokens => self.input,
            Meter::OutputTokens => self.output,
        }
    }

    /// The same, `times` over.
    pub fn times(self, times: i64) -> Self {
        Self {
            requests: self.requests.saturating_mul(times),
            input: self.input.saturating_mul(times),
            output: self.output.saturating_mul(times),
        }
    }
}

impl Add for Spend {
    type Output = Spend;

    fn add(self, other: Spend) -> Spend {
        Spend {
            requests: self.requests.saturating_add(other.requests),
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
        }
    }
}

impl AddAssign for Spend {
    fn add_assign(&mut self, other: Spend) {
        *self = *self + other;
    }
}

impl Neg for Spend {
    type Output = Spend;

    fn neg(self) -> Spend {
        self.times(-1)
    }
}

impl Sub for Spend {
    type Output = Spend;

    fn sub(self, other: Spend) -> Spend {
        self + -other
    }
}

// === impl QuotaLimits ===

impl QuotaLimits {
    /// The limit on a meter. What is not a positive number is none.
    pub fn on(&self, meter: Meter) -> Option<f64> {
        let limit = match meter {
            Meter::Requests => self.requests,
            Meter::Tokens => self.tokens,
            Meter::InputTokens => self.input_tokens,
            Meter::OutputTokens => self.output_tokens,
        };
        limit.filter(|limit| limit.is_finite() && *limit > 0.0)
    }

    /// Where the limit on a meter stands.
    pub fn on_mut(&mut self, meter: Meter) -> &mut Option<f64> {
        match meter {
            Meter::Requests => &mut self.requests,
            Meter::Tokens => &mut self.tokens,
            Meter::InputTokens => &mut self.input_tokens,
            Meter::OutputTokens => &mut self.output_tokens,
        }
    }

    /// Whether there is a limit on any meter.
    pub fn any(&self) -> bool {
        Meter::ALL.iter().any(|meter| self.on(*meter).is_some())
    }

    /// The meters that have a limit, with it.
    pub fn each(&self) -> impl Iterator<Item = (Meter, f64)> + '_ {
        Meter::ALL.into_iter().filter_map(|meter| Some((meter, self.on(meter)?)))
    }

    /// The lower limit of both on every meter.
    pub fn lower(&self, other: &QuotaLimits) -> QuotaLimits {
        let mut lower = *self;
        for (meter, limit) in other.each() {
            let own = lower.on_mut(meter);
            *own = Some(own.map_or(limit, |own| own.min(limit)));
        }
        lower
    }
}
