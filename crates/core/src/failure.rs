//! The classes of failure of a judge's call, and whether a class can be retried.
//!
//! Owns the classes alone. How long to wait is the worker's retry module, who decides that a
//! reply belongs to a class is the provider.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::verdict::UngradedReason;

/// Why a call, or the whole attempt at a leaf, did not give a verdict.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// 429: the pool waits as told, no attempt is charged.
    Throttled,
    /// 5xx, 408, 409, reset, timeout: retried with full jitter.
    Transient,
    /// No JSON, wrong schema, score off the scale, cut off: asked again with what was wrong.
    BadReply,
    /// The prompt exceeds the model's context.
    TooLong,
    /// Content filter or refusal: recorded, never retried by itself.
    Refused,
    /// 400 and other 4xx: this task fails now.
    BadRequest,
    /// Wrong key, no such model, no quota: the run pauses and no task is burnt.
    Account,
    /// The worker that held the lease died.
    LostLease,
    /// The leaf's evidence, prompt or record in the store cannot be used.
    Internal,
}

// === impl FailureClass ===

impl FailureClass {
    /// Every class, in the order used by tables.
    pub const ALL: [FailureClass; 9] = [
        FailureClass::Throttled,
        FailureClass::Transient,
        FailureClass::BadReply,
        FailureClass::TooLong,
        FailureClass::Refused,
        FailureClass::BadRequest,
        FailureClass::Account,
        FailureClass::LostLease,
        FailureClass::Internal,
    ];

    /// The name in the store, in logs and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            FailureClass::Throttled => "throttled",
            FailureClass::Transient => "transient",
            FailureClass::BadReply => "bad_reply",
            FailureClass::TooLong => "too_long",
            FailureClass::Refused => "refused",
            FailureClass::BadRequest => "bad_request",
            FailureClass::Account => "account",
            FailureClass::LostLease => "lost_lease",
            FailureClass::Internal => "internal",
        }
    }

    /// The class with exactly this name, or `None`.
    pub fn from_name(name: &str) -> Option<FailureClass> {
        FailureClass::ALL.into_iter().find(|c| c.name() == name)
    }

    /// Whether this class was the end of a leaf that carries this reason.
    pub fn leads_to(self, reason: UngradedReason) -> bool {
        // A ranking that cannot be used is a bad reply too.
        let unranked = (FailureClass::BadReply, UngradedReason::Unranked);
        self.ungraded_reason() == reason || (self, reason) == unranked
    }

    /// The reason that an ungraded leaf carries when this class was its end.
    pub fn ungraded_reason(self) -> UngradedReason {
        match self {
            FailureClass::Throttled | FailureClass::Transient | FailureClass::Account => {
                UngradedReason::ProviderError
            }
            FailureClass::BadReply => UngradedReason::Unparseable,
            FailureClass::TooLong => UngradedReason::ContextOverflow,
            FailureClass::Refused => UngradedReason::Refused,
            FailureClass::BadRequest => UngradedReason::BadRequest,
            FailureClass::LostLease => UngradedReason::LostLease,
            FailureClass::Internal => UngradedReason::Internal,
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
