//! The document of `tribunal explain`.
//!
//! Owns its shape and how it is made of what the store has. It reads nothing itself. What it is
//! made of is `parts`'s.

pub(super) mod parts;

use schemars::JsonSchema;
use serde::Serialize;
use tribunal_collector::votes::CastVote;
use tribunal_core::{
    Attempt, Category, FailureClass, RunId, RunState, UngradedReason, Usage, VerdictSource, Via,
    canary,
};

use self::parts::{
    AttemptDocument, CrumbDocument, HashesDocument, MessageDocument, RationaleDocument,
    ShownDocument, SuspicionDocument, time,
};
use super::Found;

/// The document of `tribunal explain`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ExplainDocument {
    /// The run's id.
    pub(super) run: RunId,
    /// What workers may do with the run.
    pub(super) run_state: RunState,
    /// Why it is paused; null when nobody said.
    pub(super) run_reason: Option<String>,
    /// The judge's name in the config.
    pub(super) judge: String,
    /// The model's name as the endpoint knows it.
    pub(super) model: String,
    /// Whether a simulated judge answered, or is to.
    pub(super) simulated: bool,
    /// The leaf's `#N`; null for a group that is graded as one, and for a canary.
    pub(super) leaf: Option<u32>,
    /// The only right score of a canary; null for a leaf of the rubric.
    pub(super) canary_expected: Option<f64>,
    /// Depth-first position of the node in the unpruned rubric; of a canary, its position in the queue.
    pub(super) position: u32,
    /// 0-based sample of the vote that speaks for the leaf: the one that all below is of.
    pub(super) sample: u32,
    /// Every vote on the leaf; empty where one is asked for.
    pub(super) votes: Vec<CastVote>,
    /// The node's id.
    pub(super) id: String,
    /// The groups that the leaf belongs to, the root first.
    pub(super) breadcrumb: Vec<CrumbDocument>,
    /// The criterion.
    pub(super) requirements: String,
    /// The requirement type.
    pub(super) category: Category,
    /// The finer type, where the rubric has one.
    pub(super) fine_category: Option<String>,
    /// Weight among its siblings.
    pub(super) weight: f64,
    /// Share of the root's score, in [0, 1]; a canary has none.
    pub(super) share: f64,
    /// Where the leaf is on its way.
    pub(super) state: LeafState,
    /// The score; null where there is none.
    pub(super) score: Option<f64>,
    /// Why there is no score; null where there is one.
    pub(super) reason: Option<UngradedReason>,
    /// What happened, in words, to a leaf that has no verdict; null where nothing was said.
    pub(super) detail: Option<String>,
    /// The class of failure that a dead leaf was given up for; null where it is not known.
    pub(super) class: Option<FailureClass>,
    /// `judge`, `rule` or `reused`; null without a verdict.
    pub(super) decided_by: Option<&'static str>,
    /// The rule that decided.
    pub(super) rule: Option<String>,
    /// The run whose verdict was reused.
    pub(super) reused_from: Option<String>,
    /// The model that the reply names.
    pub(super) answered_by: Option<String>,
    /// When the verdict was made, RFC 3339.
    pub(super) graded_at: Option<String>,
    /// The judge's reasoning; null without a verdict.
    pub(super) rationale: Option<RationaleDocument>,
    /// Text shown that addresses the judge.
    pub(super) suspected_injection: Vec<SuspicionDocument>,
    /// What the judge was shown; null where no judge was asked.
    pub(super) shown: Option<ShownDocument>,
    /// Every call made for this vote, in order.
    pub(super) attempts: Vec<AttemptDocument>,
    /// Tokens of all of them.
    pub(super) usage: Usage,
    /// What they cost, in US dollars; null where no price is known.
    pub(super) cost_usd: Option<f64>,
    /// Hashes of what the verdict depends on.
    pub(super) hashes: HashesDocument,
    /// The first question as it goes to the judge; null where it was not asked for (`--prompt`), or
    /// where a rule decided.
    pub(super) prompt: Option<Vec<MessageDocument>>,
    /// The judge's raw answer; null where it was not asked for (`--reply`), or where there is none.
    pub(super) reply: Option<String>,
}

/// Where a leaf is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LeafState {
    /// It has a score.
    Graded,
    /// It was asked about and has no score.
    Ungraded,
    /// It waits, or is in work.
    Pending,
    /// It was given up; `tribunal retry` puts it back.
    Dead,
    /// Its run was cancelled first.
    Cancelled,
    /// It was never put into the queue.
    NotQueued,
}

// === impl ExplainDocument ===

impl ExplainDocument {
    /// The document of what was found, without prompt and reply.
    pub(super) fn new(found: &Found) -> Self {
        let Found { run, record, spec, rubric, index, stored, attempts, evidence, prices, .. } =
            found;
        let (node, verdict) = (found.node(), found.verdict());
        let crumb = |above: usize| {
            let above = &rubric.nodes()[above];
            let (id, requirements) = (above.id.clone(), above.requirements.clone());
            CrumbDocument { id, requirements, weight: above.weight }
        };
        let (score, reason) = (found.outcome.score(), found.outcome.ungraded());
        let missing = stored.as_ref().and_then(|stored| stored.missing.as_ref());
        let detail = match (verdict, missing) {
            (Some(_), _) => None,
            (None, Some((_, said))) => Some(said.clone()),
            (None, None) => Some(found.undecided.clone()),
        };
        let state = match (verdict, found.queued, reason) {
            (_, false, _) => LeafState::NotQueued,
            (_, _, None) => LeafState::Graded,
            (_, _, Some(UngradedReason::Tied)) | (Some(_), _, Some(_)) => LeafState::Ungraded,
            (None, true, Some(UngradedReason::Pending)) => LeafState::Pending,
            (None, true, Some(UngradedReason::Cancelled)) => LeafState::Cancelled,
            (None, true, Some(_)) => LeafState::Dead,
        };
        let canary = found.canary();
        let (mut usage, mut batched) = (Usage::default(), Usage::default());
        for attempt in attempts {
            usage += attempt.usage;
            if attempt.via == Via::Batch {
                batched += attempt.usage;
            }
        }
        let source = verdict.map(|verdict| &verdict.source);
        ExplainDocument {
            run: run.clone(),
            run_state: record.state,
            run_reason: Some(record.reason.clone()).filter(|reason| !reason.is_empty()),
            judge: spec.judge.name.clone(),
            model: spec.judge.model.clone(),
            simulated: verdict.map_or(record.run.simulated, |verdict| verdict.simulated),
            leaf: node.leaf_index().filter(|_| canary.is_none()),
            canary_expected: canary.map(|canary| canary.expected),
            position: found.position,
            sample: stored.as_ref().map_or(0, |stored| stored.sample),
            votes: found.votes.clone(),
            id: match canary {
                Some(_) => format!("canary-{}", found.position - canary::FIRST_POSITION),
                None => node.id.clone(),
            },
            breadcrumb: rubric.ancestors(*index).into_iter().map(crumb).collect(),
            requirements: node.requirements.clone(),
            category: node.category.unwrap_or(Category::Subtree),
            fine_category: node.fine_category.clone(),
            weight: node.weight,
            share: if canary.is_some() { 0.0 } else { rubric.weight_shares()[*index] },
            state,
            score,
            reason,
            detail: detail.filter(|detail| !detail.is_empty()),
            class: reason
                .filter(|_| state == LeafState::Dead)
                .and_then(|reason| class_of(reason, attempts)),
            decided_by: source.map(VerdictSource::name),
            rule: source.and_then(|source| match source {
                VerdictSource::Rule { name } => Some(name.clone()),
                _ => None,
            }),
            reused_from: source.and_then(|source| match source {
                VerdictSource::Reused { run } => Some(run.clone()),
                _ => None,
            }),
            // A rule's verdict carries the model's name though nobody asked it.
            answered_by: verdict
                .filter(|verdict| !matches!(verdict.source, VerdictSource::Rule { .. }))
                .map(|verdict| verdict.model.clone()),
            graded_at: verdict.and_then(|verdict| time(verdict.graded_ms)),
            rationale: verdict.map(|verdict| (&verdict.rationale).into()),
            suspected_injection: verdict
                .into_iter()
                .flat_map(|verdict| &verdict.suspected_injection)
                .map(Into::into)
                .collect(),
            shown: verdict.zip(evidence.as_ref()).map(|(v, e)| ShownDocument::new(v, e)),
            attempts: attempts.iter().map(|a| AttemptDocument::new(a, *prices)).collect(),
            usage,
            cost_usd: prices.map(|prices| prices.cost_mixed(&usage, &batched)),
            hashes: HashesDocument {
                content_key: verdict.map(|verdict| verdict.content_key.to_string()),
                evidence: match verdict {
                    Some(verdict) => verdict.shown.evidence.map(|hash| hash.to_string()),
                    None => node
                        .category
                        .and_then(|category| spec.evidence.get(&category))
                        .map(ToString::to_string),
                },
                prompt: verdict.and_then(|v| v.shown.prompt).map(|hash| hash.to_string()),
                prompt_set: spec.prompt_set.hash.to_string(),
                rubric: spec.rubric.hash.to_string(),
                submission: spec.submission.hash.to_string(),
            },
            prompt: None,
            reply: None,
        }
    }
}

/// The class that a dead leaf with this reason was given up for: that of its last failed call, or
/// the only one with the reason.
fn class_of(reason: UngradedReason, attempts: &[Attempt]) -> Option<FailureClass> {
    let last = attempts.iter().rev().find_map(|attempt| attempt.class);
    last.filter(|class| class.leads_to(reason)).or_else(|| {
        let mut fitting = FailureClass::ALL.into_iter().filter(|c| c.leads_to(reason));
        fitting.next().filter(|_| fitting.next().is_none())
    })
}

#[cfg(test)]
mod tests {
    use tribunal_core::CallKind;

    use super::*;

    #[test]
    fn a_dead_leafs_class_is_known_or_not_said() {
        let attempt = |class| Attempt {
            kind: CallKind::Judge,
            via: Default::default(),
            class,
            status: None,
            error: String::new(),
            request_id: None,
            started_ms: 0,
            waited_ms: 0,
            latency_ms: 0,
            usage: Usage::default(),
            endpoint: String::new(),
            cost_usd: None,
            possible: None,
        };
        let transient = [attempt(Some(FailureClass::Transient)), attempt(None)];
        let of = |reason| class_of(reason, &transient);
        assert_eq!(of(UngradedReason::ProviderError), Some(FailureClass::Transient));
        assert_eq!(of(UngradedReason::LostLease), Some(FailureClass::LostLease));
        assert_eq!(class_of(UngradedReason::ProviderError, &[]), None);
        assert_eq!(class_of(UngradedReason::Budget, &[]), None);
    }
}
