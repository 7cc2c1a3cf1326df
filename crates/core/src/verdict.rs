//! What is known of a leaf after the judge was asked: outcome, verdict, attempts, usage.
//!
//! Owns the record's shape. A missing score is `Ungraded` with a reason, never a number.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    failure::FailureClass,
    ids::{BlobHash, ContentKey},
    run::ReplyForm,
};

/// What came of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Outcome {
    /// The leaf has a score.
    Graded {
        /// In [0, 1]; exactly 0 or 1 except for a subtree graded as one.
        score: f64,
    },
    /// The leaf has no score.
    Ungraded {
        /// Why not.
        reason: UngradedReason,
    },
}

/// Why a leaf has no score.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum UngradedReason {
    /// The judge or its content filter refused.
    Refused,
    /// The prompt does not fit the model's context, even after shrinking.
    ContextOverflow,
    /// No reply had a score on the scale.
    Unparseable,
    /// No reply to the question for files named any that there are.
    Unranked,
    /// The provider failed until the retries were used up.
    ProviderError,
    /// The provider called the request itself wrong.
    BadRequest,
    /// The budget ended first.
    Budget,
    /// The leaf's time ended first.
    Deadline,
    /// The run was cancelled first.
    Cancelled,
    /// Workers died over this leaf until it was given up.
    LostLease,
    /// The leaf's own record could not be used.
    Internal,
    /// Not asked yet.
    Pending,
    /// A graded file marks the leaf's score as not valid.
    InvalidScore,
    /// Its votes are even. No vote is recorded with this: it is what several come to.
    Tied,
}

/// Who decided a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum VerdictSource {
    /// The judge answered.
    Judge,
    /// A rule decided without a call.
    Rule {
        /// The rule's name.
        name: String,
    },
    /// The verdict of an earlier run with the same content key.
    Reused {
        /// That run.
        run: String,
    },
}

/// Tokens of one or more calls, as the provider's `usage` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub input: u64,
    /// Prompt tokens that the provider served from its cache.
    pub cached: u64,
    /// Completion tokens, reasoning included.
    pub output: u64,
}

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// The judge's verdict on a leaf.
    Judge,
    /// A ranking of files for a leaf.
    Rank,
    /// A second question after a bad reply.
    Repair,
}

/// How a question reaches the judge.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// By a call of its own.
    #[default]
    Live,
    /// With others in a file, by the provider's batch API: later, and cheaper.
    Batch,
}

/// One call over HTTP, or one question of a batch, whatever came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// What the call was for.
    pub kind: CallKind,
    /// How it reached the judge.
    #[serde(default)]
    pub via: Via,
    /// `None` for a call that gave a usable reply.
    pub class: Option<FailureClass>,
    /// HTTP status, where an answer came.
    pub status: Option<u16>,
    /// The failure's message, shortened; empty for a usable reply.
    pub error: String,
    /// The provider's request id, where its headers had one.
    pub request_id: Option<String>,
    /// Start of the call, milliseconds since the Unix epoch.
    pub started_ms: i64,
    /// Time waited for the permit and after the failure before, in milliseconds.
    pub waited_ms: u64,
    /// Time from sending to the whole answer, in milliseconds.
    pub latency_ms: u64,
    /// Tokens of this call.
    pub usage: Usage,
    /// The URL of the endpoint that was called; empty in records that do not say.
    pub endpoint: String,
    /// What the tokens cost by the prices known then, in US dollars; `None` where none was known.
    pub cost_usd: Option<f64>,
    /// For a call of which nobody knows what it used, such as one that timed out.
    pub possible: Option<PossibleSpend>,
}

/// What a call of unknown outcome may have used at most: its prompt, uncached, and a reply as long as
/// its cap. A run with a budget is charged this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PossibleSpend {
    /// Tokens.
    pub usage: Usage,
    /// What they cost by the prices known then, in US dollars; `None` where none was known.
    pub cost_usd: Option<f64>,
}

/// A passage that the judge quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// Path within the submission.
    pub file: String,
    /// Lines as the judge names them, such as `12-18`.
    #[serde(default)]
    pub lines: String,
    /// The quoted text.
    pub quote: String,
    /// Whether the text stands in what the judge was shown of that file; `None` if not checked.
    #[serde(default)]
    pub verified: Option<bool>,
}

/// Text of the submission that addresses the judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Path within the submission.
    pub file: String,
    /// 1-based line.
    pub line: u32,
    /// The line, shortened.
    pub text: String,
}

/// What the judge was shown for a verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The blob with the category's evidence.
    pub evidence: Option<BlobHash>,
    /// Whether the evidence was shrunk because the context was smaller than expected.
    pub shrunk: bool,
    /// The files that a selection picked for this leaf, in its order; empty where the whole view was
    /// shown.
    pub selected: Vec<String>,
    /// How the answer was asked for.
    pub reply_form: Option<ReplyForm>,
    /// Hash of the first question: of the hash of its shared part, and its own message.
    pub prompt: Option<BlobHash>,
}

/// The judge's reasoning, as its reply gave it; empty where it gave none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rationale {
    /// What fulfilling the criterion would look like.
    #[serde(default)]
    pub expectations: String,
    /// What the submission does.
    #[serde(default)]
    pub reality: String,
    /// Passages quoted.
    #[serde(default)]
    pub evidence: Vec<Quote>,
    /// The verdict in a sentence or two.
    #[serde(default)]
    pub explanation: String,
    /// The judge's own confidence in [0, 1].
    #[serde(default)]
    pub confidence: Option<f64>,
}

/// Everything recorded about one sample of one leaf.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Depth-first position of the node in the unpruned rubric.
    pub position: u32,
    /// 0-based sample.
    pub sample: u32,
    /// The node's id.
    pub id: String,
    /// The score, or why there is none.
    pub outcome: Outcome,
    /// Who decided.
    pub source: VerdictSource,
    /// The judge's reasoning; for an ungraded leaf `explanation` says what happened.
    pub rationale: Rationale,
    /// Hash of what the verdict depends on.
    pub content_key: ContentKey,
    /// The model that the reply names.
    pub model: String,
    /// Whether a simulated judge answered.
    pub simulated: bool,
    /// The judge's raw answer; `None` where no judge answered.
    pub reply: Option<String>,
    /// What the judge was shown.
    #[serde(default)]
    pub shown: Shown,
    /// Text shown that addresses the judge; the verdict may not be the judge's own.
    #[serde(default)]
    pub suspected_injection: Vec<Suspicion>,
    /// When the verdict was made, milliseconds since the Unix epoch.
    pub graded_ms: i64,
}

// === impl Outcome ===

impl Outcome {
    /// The score, if there is one.
    pub fn score(self) -> Option<f64> {
        match self {
            Outcome::Graded { score } => Some(score),
            Outcome::Ungraded { .. } => None,
        }
    }

    /// The reason why there is no score, if there is none.
    pub fn ungraded(self) -> Option<UngradedReason> {
        match self {
            Outcome::Graded { .. } => None,
            Outcome::Ungraded { reason } => Some(reason),
        }
    }
}

// === impl UngradedReason ===

impl UngradedReason {
    /// Every reason, in the order used by tables.
    pub const ALL: [UngradedReason; 14] = [
        UngradedReason::Refused,
        UngradedReason::ContextOverflow,
        UngradedReason::Unparseable,
        UngradedReason::Unranked,
        UngradedReason::ProviderError,
        UngradedReason::BadRequest,
        UngradedReason::Budget,
        UngradedReason::Deadline,
        UngradedReason::Cancelled,
        UngradedReason::LostLease,
        UngradedReason::Internal,
        UngradedReason::Pending,
        UngradedReason::InvalidScore,
        UngradedReason::Tied,
    ];

    /// The name in the store, in files and in logs.
    pub fn name(self) -> &'static str {
        match self {
            UngradedReason::Refused => "refused",
            UngradedReason::ContextOverflow => "context_overflow",
            UngradedReason::Unparseable => "unparseable",
            UngradedReason::Unranked => "unranked",
            UngradedReason::ProviderError => "provider_error",
            UngradedReason::BadRequest => "bad_request",
            UngradedReason::Budget => "budget",
            UngradedReason::Deadline => "deadline",
            UngradedReason::Cancelled => "cancelled",
            UngradedReason::LostLease => "lost_lease",
            UngradedReason::Internal => "internal",
            UngradedReason::Pending => "pending",
            UngradedReason::InvalidScore => "invalid_score",
            UngradedReason::Tied => "tied",
        }
    }

    /// The reason with exactly this name, or `None`.
    pub fn from_name(name: &str) -> Option<UngradedReason> {
        UngradedReason::ALL.into_iter().find(|r| r.name() == name)
    }
}

impl fmt::Display for UngradedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// === impl VerdictSource ===

impl VerdictSource {
    /// The name in the store and in `leaves.csv`.
    pub fn name(&self) -> &'static str {
        match self {
            VerdictSource::Judge => "judge",
            VerdictSource::Rule { .. } => "rule",
            VerdictSource::Reused { .. } => "reused",
        }
    }
}

// === impl CallKind ===

impl CallKind {
    /// The name in the store and in reports.
    pub fn name(self) -> &'static str {
        match self {
            CallKind::Judge => "judge",
            CallKind::Rank => "rank",
            CallKind::Repair => "repair",
        }
    }

    /// The kind with exactly this name, or `None`.
    pub fn from_name(name: &str) -> Option<CallKind> {
        [CallKind::Judge, CallKind::Rank, CallKind::Repair]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

// === impl Via ===

impl Via {
    /// The name in the store and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Via::Live => "live",
            Via::Batch => "batch",
        }
    }

    /// The way with exactly this name, or `None`.
    pub fn from_name(name: &str) -> Option<Via> {
        [Via::Live, Via::Batch].into_iter().find(|via| via.name() == name)
    }
}

// === impl Usage ===

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.input += other.input;
        self.cached += other.cached;
        self.output += other.output;
    }
}
