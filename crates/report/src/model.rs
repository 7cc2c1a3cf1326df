//! A graded tree as pages show it: rubric, scores, and what is known of each leaf.
//!
//! Owns the shapes. Where they come from is [`read`](crate::read)'s; how they look is
//! [`tree`](crate::tree)'s.

use std::sync::Arc;

use serde::Serialize;
use tribunal_audit::calibration::CorrectedRoot;
use tribunal_collector::{GradeDocument, ScoreSummary, votes::CastVote};
use tribunal_core::{
    Attempt, Node, Outcome, Rubric, RunSpec, UngradedReason, Verdict,
    score::TreeScores,
    verdict::{Quote, Shown, Suspicion},
};
use tribunal_store::Label;

/// A tree with its scores and leaves.
#[derive(Debug)]
pub struct GradedTree {
    /// What a reader calls it: the run's id, or the file's name.
    pub name: String,
    /// The part of the rubric that is graded.
    pub rubric: Rubric,
    /// Of every node of it.
    pub scores: TreeScores,
    /// The scores that are asked for first.
    pub summary: ScoreSummary,
    /// For each node of the rubric; `None` for an inner node.
    pub leaves: Vec<Option<Leaf>>,
    /// What is known of the run; `None` for a file.
    pub run: Option<RunFacts>,
    /// What is known of the grader of a file; empty for a run.
    pub facts: Vec<(String, String)>,
}

/// What is known of a run.
#[derive(Debug)]
pub struct RunFacts {
    /// What `collect` says of it.
    pub document: GradeDocument,
    /// What it was made with.
    pub spec: RunSpec,
    /// Why it is paused; empty when nobody said.
    pub reason: String,
    /// When it was recorded, RFC 3339.
    pub created_at: Option<String>,
    /// The root as humans would score it, by what is known of the judge's errors; `None` without a
    /// calibration.
    pub corrected: Option<CorrectedRoot>,
}

/// What is known of a leaf: what its votes come to, and what the one that speaks for it says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Leaf {
    /// The score in [0, 1]; `None` where there is none.
    pub score: Option<f64>,
    /// Why there is none.
    pub reason: Option<UngradedReason>,
    /// The verdict in a sentence or two; without one, what happened.
    pub explanation: String,
    /// What fulfilling the criterion would look like.
    pub expectations: String,
    /// What the submission does.
    pub reality: String,
    /// The judge's own confidence in [0, 1].
    pub confidence: Option<f64>,
    /// Passages that the judge quotes.
    pub quotes: Vec<Quote>,
    /// Text shown that addresses the judge.
    pub suspicions: Vec<Suspicion>,
    /// `judge`, `rule` or `reused`; `None` where nobody decided.
    pub decided_by: Option<&'static str>,
    /// The rule that decided, or the run whose verdict is reused.
    pub decided_from: Option<String>,
    /// The model that the reply names; empty where none answered.
    pub model: String,
    /// When the verdict was made, RFC 3339.
    pub graded_at: Option<String>,
    /// Every vote; empty where only one was asked for.
    pub votes: Vec<CastVote>,
    /// What people said of it, beside the judge.
    pub labels: Vec<Label>,
    /// The calls, in order.
    pub attempts: Vec<Call>,
    /// The judge's raw answer.
    pub reply: Option<String>,
    /// The record of what was shown; for the exhibits.
    #[serde(skip)]
    pub shown: Option<Shown>,
    /// What the judge was shown, where it was asked for.
    pub exhibit: Option<Exhibit>,
}

/// One call over HTTP.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// `judge`, `rank` or `repair`.
    pub kind: &'static str,
    /// The class of failure; empty for a usable reply.
    pub class: String,
    /// HTTP status, where an answer came.
    pub status: Option<u16>,
    /// Waited for the permit and after the failure before, in seconds.
    pub waited_s: f64,
    /// From sending to the whole answer, in seconds.
    pub latency_s: f64,
    /// Prompt tokens.
    pub input: u64,
    /// Those of them that the provider's cache served.
    pub cached: u64,
    /// Completion tokens.
    pub output: u64,
    /// The failure's message.
    pub error: String,
}

/// What the judge was shown for a leaf.
#[derive(Clone, Debug, Serialize)]
pub struct Exhibit {
    /// What many leaves are shown alike.
    pub shared: Arc<SharedExhibit>,
    /// Files that a selection picked for this leaf; empty where the whole view was shown.
    pub selected: Vec<String>,
    /// Those files as shown; empty where sources were not asked for.
    #[serde(skip)]
    pub chosen: Vec<Source>,
    /// The message after the cache boundary; `None` where prompts were not asked for.
    pub question: Option<String>,
}

/// What many leaves are shown alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SharedExhibit {
    /// Names it within a page: the hash of the evidence, and how it was shown.
    pub key: String,
    /// Whether the whole view was shown.
    pub fits: bool,
    /// Whether it was shrunk because the context was smaller than expected.
    pub shrunk: bool,
    /// Tokens of the evidence.
    pub tokens: usize,
    /// Parts beside the files that are cut, with the tokens cut.
    pub cuts: Vec<(String, usize)>,
    /// The record of every file of the view.
    pub files: Vec<ExhibitFile>,
    /// The messages before the cache boundary, each with its role; empty where prompts were not
    /// asked for.
    pub messages: Vec<(&'static str, String)>,
    /// The files as shown; empty where sources were not asked for.
    pub sources: Vec<Source>,
}

/// What became of a file of the view.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExhibitFile {
    /// Path within the submission.
    pub path: String,
    /// `shown`, `truncated`, `omitted`, or `to choose from` where each leaf has files of its own.
    pub state: &'static str,
    /// Why it is not shown whole.
    pub reason: Option<String>,
    /// Size in bytes.
    pub bytes: u64,
    /// Tokens shown.
    pub tokens: usize,
    /// Tokens cut; `None` where the rest was not counted.
    pub tokens_cut: Option<usize>,
}

/// A file as the judge saw it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// Path within the submission.
    pub path: String,
    /// Its text.
    pub text: String,
}

// === impl GradedTree ===

impl GradedTree {
    /// The leaf at this index of the rubric's nodes.
    pub fn leaf(&self, index: usize) -> Option<&Leaf> {
        self.leaves.get(index)?.as_ref()
    }

    /// The leaf's score, as the trees of the core ask for it.
    pub fn score(&self, node: &Node) -> Option<f64> {
        self.leaf(self.rubric.by_position(node.position())?)?.score
    }

    /// Sets the corrected score of a run; a file has none.
    pub fn set_corrected(&mut self, corrected: Option<CorrectedRoot>) {
        if let Some(run) = &mut self.run {
            run.corrected = corrected;
        }
    }

    /// Whether a simulated judge answered, or was to.
    pub fn simulated(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.document.simulated)
    }
}

// === impl Leaf ===

impl Leaf {
    /// What the store has of a leaf's verdict. Its attempts, votes and exhibit come from elsewhere.
    pub fn of_verdict(verdict: Verdict) -> Leaf {
        use tribunal_core::VerdictSource;
        let decided_from = match &verdict.source {
            VerdictSource::Judge => None,
            VerdictSource::Rule { name } => Some(name.clone()),
            VerdictSource::Reused { run } => Some(run.clone()),
        };
        let by_rule = matches!(verdict.source, VerdictSource::Rule { .. });
        Leaf {
            score: verdict.outcome.score(),
            reason: verdict.outcome.ungraded(),
            explanation: verdict.rationale.explanation,
            expectations: verdict.rationale.expectations,
            reality: verdict.rationale.reality,
            confidence: verdict.rationale.confidence,
            quotes: verdict.rationale.evidence,
            suspicions: verdict.suspected_injection,
            decided_by: Some(verdict.source.name()),
            decided_from,
            // A rule's verdict carries the model's name though nobody asked it.
            model: if by_rule { String::new() } else { verdict.model },
            graded_at: time(verdict.graded_ms),
            reply: verdict.reply,
            shown: Some(verdict.shown).filter(|shown| *shown != Shown::default()),
            ..Leaf::default()
        }
    }

    /// A leaf without a verdict.
    pub fn missing(reason: UngradedReason, said: String) -> Leaf {
        Leaf { reason: Some(reason), explanation: said, ..Leaf::default() }
    }

    /// Its outcome.
    pub fn outcome(&self) -> Outcome {
        match (self.score, self.reason) {
            (Some(score), _) => Outcome::Graded { score },
            (None, reason) => {
                Outcome::Ungraded { reason: reason.unwrap_or(UngradedReason::Pending) }
            }
        }
    }

    /// The share of the votes with a score that agree with the most frequent one; `None` below two.
    pub fn agreement(&self) -> Option<f64> {
        let scores: Vec<f64> = self.votes.iter().filter_map(|vote| vote.score).collect();
        if scores.len() < 2 {
            return None;
        }
        let alike = |a: f64| scores.iter().filter(|b| (a - **b).abs() < 1e-9).count();
        let most = scores.iter().map(|score| alike(*score)).max()?;
        Some(most as f64 / scores.len() as f64)
    }
}

// === impl Call ===

impl From<&Attempt> for Call {
    fn from(attempt: &Attempt) -> Call {
        let seconds = |ms: u64| ms as f64 / 1000.0;
        Call {
            kind: attempt.kind.name(),
            class: attempt.class.map(|class| class.to_string()).unwrap_or_default(),
            status: attempt.status,
            waited_s: seconds(attempt.waited_ms),
            latency_s: seconds(attempt.latency_ms),
            input: attempt.usage.input,
            cached: attempt.usage.cached,
            output: attempt.usage.output,
            error: attempt.error.clone(),
        }
    }
}

/// A point in time in RFC 3339; `None` where it is none.
pub(crate) fn time(ms: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(ms).ok().map(|time| time.to_string())
}
