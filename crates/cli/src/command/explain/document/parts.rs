//! What the document of `tribunal explain` is made of.
//!
//! Owns the parts' shapes, each made of the record that it shows.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::{
    Attempt, FailureClass, Prices, ReplyForm, SelectionMethod, Usage, Verdict, Via,
    verdict::{PossibleSpend, Quote, Rationale, Suspicion},
};
use tribunal_evidence::Evidence;

use crate::command::evidence::{CutDocument, FileDocument};

/// A group above the leaf.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CrumbDocument {
    /// Its id.
    pub(crate) id: String,
    /// Its requirements.
    pub(crate) requirements: String,
    /// Its weight among its siblings.
    pub(crate) weight: f64,
}

/// The judge's reasoning.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RationaleDocument {
    /// What fulfilling the criterion would look like.
    pub(crate) expectations: String,
    /// What the submission does.
    pub(crate) reality: String,
    /// The verdict in a sentence or two; without a score, what happened.
    pub(crate) explanation: String,
    /// The judge's own confidence in [0, 1].
    pub(crate) confidence: Option<f64>,
    /// Passages quoted.
    pub(crate) evidence: Vec<QuoteDocument>,
}

/// A passage that the judge quotes.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct QuoteDocument {
    /// Path within the submission.
    pub(crate) file: String,
    /// Lines as the judge names them.
    pub(crate) lines: String,
    /// The quoted text.
    pub(crate) quote: String,
    /// Whether it stands in what was shown of that file; null if not checked.
    pub(crate) verified: Option<bool>,
}

/// Text of the submission that addresses the judge.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SuspicionDocument {
    /// Path within the submission.
    pub(crate) file: String,
    /// 1-based line.
    pub(crate) line: u32,
    /// The line, shortened.
    pub(crate) text: String,
}

/// What the judge was shown.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ShownDocument {
    /// Whether the whole of the category's evidence was shown.
    pub(crate) fits: bool,
    /// Whether it was shrunk because the context was smaller than expected.
    pub(crate) shrunk: bool,
    /// Tokens of the evidence; null where it was shrunk.
    pub(crate) tokens: Option<usize>,
    /// How the answer was asked for.
    pub(crate) reply_form: Option<ReplyForm>,
    /// Texts shown beside the files: `paper`, `addendum`, `judge_addendum`, `script`, `log`.
    pub(crate) parts: Vec<&'static str>,
    /// Those of them that are cut.
    pub(crate) cuts: Vec<CutDocument>,
    /// How files were chosen for this leaf; null where all leaves are shown the same.
    pub(crate) selection: Option<SelectionMethod>,
    /// Files that the selection picked, in its order; empty where the whole view was shown.
    pub(crate) selected: Vec<String>,
    /// The files of the category's view.
    pub(crate) files: Vec<FileDocument>,
}

/// One call over HTTP.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AttemptDocument {
    /// `judge`, `rank` or `repair`.
    pub(crate) kind: &'static str,
    /// `live`, or `batch` for a question of a batch.
    pub(crate) via: Via,
    /// The class of failure; null for a usable reply.
    pub(crate) class: Option<FailureClass>,
    /// HTTP status; null where no answer came.
    pub(crate) status: Option<u16>,
    /// When it was sent, RFC 3339.
    pub(crate) started_at: Option<String>,
    /// Time waited for the permit, in milliseconds.
    pub(crate) waited_ms: u64,
    /// Time from sending to the whole answer, in milliseconds.
    pub(crate) latency_ms: u64,
    /// Tokens.
    pub(crate) usage: Usage,
    /// What it cost, in US dollars, by the prices known when it was made; null where none was, or where
    /// nobody knows what it used.
    pub(crate) cost_usd: Option<f64>,
    /// What it may have used at most, where nobody knows what it did.
    pub(crate) possible: Option<PossibleSpend>,
    /// The endpoint that was called; null in records that do not say.
    pub(crate) endpoint: Option<String>,
    /// The provider's request id.
    pub(crate) request_id: Option<String>,
    /// The failure's message; null for a usable reply.
    pub(crate) error: Option<String>,
}

/// Hashes of what the verdict depends on, in hex.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct HashesDocument {
    /// Of everything that can change the verdict; null without one.
    pub(crate) content_key: Option<String>,
    /// The blob with the category's evidence; null where a rule decided.
    pub(crate) evidence: Option<String>,
    /// The prompt's bytes, where they were recorded.
    pub(crate) prompt: Option<String>,
    /// The prompt set.
    pub(crate) prompt_set: String,
    /// The rubric's file.
    pub(crate) rubric: String,
    /// The submission's snapshot.
    pub(crate) submission: String,
}

/// A message of the prompt.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MessageDocument {
    /// `system` or `user`.
    pub(crate) role: &'static str,
    /// Its text.
    pub(crate) content: String,
}

/// The time in RFC 3339.
pub(super) fn time(ms: i64) -> Option<String> {
    Timestamp::from_millisecond(ms).ok().map(|time| time.to_string())
}

// === impl ShownDocument ===

impl ShownDocument {
    pub(super) fn new(verdict: &Verdict, evidence: &Evidence) -> Self {
        let shown = &verdict.shown;
        let parts = [
            ("paper", &evidence.paper),
            ("addendum", &evidence.addendum),
            ("judge_addendum", &evidence.judge_addendum),
            ("script", &evidence.script),
            ("log", &evidence.log),
        ];
        ShownDocument {
            fits: evidence.fits,
            shrunk: shown.shrunk,
            tokens: (!shown.shrunk).then_some(evidence.tokens),
            reply_form: shown.reply_form,
            parts: parts.into_iter().filter(|(_, text)| text.is_some()).map(|(n, _)| n).collect(),
            cuts: CutDocument::of(evidence),
            selection: evidence.pool.as_ref().map(|pool| pool.method),
            selected: shown.selected.clone(),
            files: evidence.records.iter().cloned().map(Into::into).collect(),
        }
    }
}

// === impl AttemptDocument ===

impl AttemptDocument {
    pub(super) fn new(attempt: &Attempt, prices: Option<Prices>) -> Self {
        AttemptDocument {
            kind: attempt.kind.name(),
            via: attempt.via,
            class: attempt.class,
            status: attempt.status,
            started_at: time(attempt.started_ms),
            waited_ms: attempt.waited_ms,
            latency_ms: attempt.latency_ms,
            usage: attempt.usage,
            cost_usd: match attempt.possible {
                Some(_) => attempt.cost_usd,
                // A record of an older version.
                None => attempt
                    .cost_usd
                    .or(prices.map(|prices| prices.cost_via(attempt.via, &attempt.usage))),
            },
            possible: attempt.possible,
            endpoint: Some(attempt.endpoint.clone()).filter(|endpoint| !endpoint.is_empty()),
            request_id: attempt.request_id.clone(),
            error: Some(attempt.error.clone()).filter(|error| !error.is_empty()),
        }
    }
}

// === impl RationaleDocument ===

impl From<&Rationale> for RationaleDocument {
    fn from(rationale: &Rationale) -> Self {
        RationaleDocument {
            expectations: rationale.expectations.clone(),
            reality: rationale.reality.clone(),
            explanation: rationale.explanation.clone(),
            confidence: rationale.confidence,
            evidence: rationale.evidence.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Quote> for QuoteDocument {
    fn from(quote: &Quote) -> Self {
        let Quote { file, lines, quote, verified } = quote.clone();
        QuoteDocument { file, lines, quote, verified }
    }
}

impl From<&Suspicion> for SuspicionDocument {
    fn from(suspicion: &Suspicion) -> Self {
        let Suspicion { file, line, text } = suspicion.clone();
        SuspicionDocument { file, line, text }
    }
}
