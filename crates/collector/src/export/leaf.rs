//! A leaf with its verdict, as the files need it.
//!
//! Owns the merge of the tree's leaves with the store's pages of verdicts, and what a file says
//! where there is no verdict.

use std::{
    collections::VecDeque,
    future::{poll_fn, ready},
    pin::Pin,
    task::Poll,
};

use serde_json::{Map, Value};
use tribunal_core::{Node, Outcome, Verdict, VerdictSource, verdict::Rationale, vote::is_same};
use tribunal_store::{Store, StoreError, StoredVerdict};

use crate::{
    collect::Collected,
    votes::{CastVote, outcome_of, undecided},
};

/// A leaf, its outcome, and the verdict behind it.
pub(super) struct LeafRecord<'c> {
    /// The leaf.
    pub(super) node: &'c Node,
    /// The outcome that the scores were computed from.
    pub(super) outcome: Outcome,
    verdict: Option<Verdict>,
    missing: String,
    /// Every vote, where leaves have several.
    pub(super) votes: Vec<CastVote>,
    collected: &'c Collected,
}

/// Reads the verdicts of a run's leaves in order, a page at a time and the next one ahead: the store
/// reads while what came before is written.
pub(super) struct VerdictReader<'c> {
    store: &'c dyn Store,
    collected: &'c Collected,
    page: VecDeque<StoredVerdict>,
    ahead: Option<Reading<'c>>,
}

/// A page of verdicts on its way.
type Reading<'c> =
    Pin<Box<dyn Future<Output = Result<Vec<StoredVerdict>, StoreError>> + Send + 'c>>;

// === impl VerdictReader ===

impl<'c> VerdictReader<'c> {
    pub(super) fn new(store: &'c dyn Store, collected: &'c Collected) -> Self {
        let limit = collected.verdict_page;
        let ahead = Some(store.verdicts(&collected.record.run.id, None, limit));
        Self { store, collected, page: VecDeque::new(), ahead }
    }

    /// Has the store begin to read the page behind the last verdict of this one.
    async fn read_ahead(&mut self) {
        let Some(last) = self.page.back() else { return };
        let after = Some((last.position, last.sample));
        let (run, limit) = (&self.collected.record.run.id, self.collected.verdict_page);
        let mut reading = self.store.verdicts(run, after, limit);
        // A future does nothing until it is looked at.
        let read = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await;
        self.ahead = Some(match read {
            Poll::Ready(read) => Box::pin(ready(read)),
            Poll::Pending => reading,
        });
    }

    /// The leaf at this index of the rubric's nodes. Leaves must be asked for in order.
    pub(super) async fn leaf(&mut self, index: usize) -> Result<LeafRecord<'c>, StoreError> {
        let collected = self.collected;
        let node = &collected.rubric.nodes()[index];
        let outcome = collected.outcome(index);
        let ballot = collected.spec.ballot();
        let mut found = self.at(node.position()).await?;
        found.retain(|stored| stored.sample < ballot.most());
        let outcomes: Vec<(u32, Outcome)> =
            found.iter().map(|stored| (stored.sample, outcome_of(stored))).collect();
        let tally = ballot.tally(&outcomes);
        let bare = LeafRecord {
            node,
            outcome,
            verdict: None,
            missing: String::new(),
            votes: Vec::new(),
            collected,
        };
        // Votes that came, went or changed since are not those that were scored.
        if !is_same(tally.outcome, outcome) {
            return Ok(bare);
        }
        let votes = match ballot.is_single() {
            true => Vec::new(),
            false => found.iter().map(|vote| CastVote::of(&collected.spec, vote)).collect(),
        };
        let Some(speaks) = ballot.spokesman(&outcomes, outcome) else {
            return Ok(LeafRecord { missing: undecided(&outcomes, outcome), votes, ..bare });
        };
        let StoredVerdict { verdict, missing, .. } = found.swap_remove(speaks);
        let missing = missing.map_or_else(String::new, |(_, message)| message);
        Ok(LeafRecord { verdict, missing, votes, ..bare })
    }

    /// What the store has of the leaf at `position`, its samples in order.
    async fn at(&mut self, position: u32) -> Result<Vec<StoredVerdict>, StoreError> {
        let mut found = Vec::new();
        loop {
            while let Some(next) = self.page.pop_front() {
                if next.position > position {
                    self.page.push_front(next);
                    return Ok(found);
                }
                if next.position == position {
                    found.push(next);
                }
            }
            let Some(ahead) = self.ahead.take() else { return Ok(found) };
            self.page = ahead.await?.into();
            self.read_ahead().await;
        }
    }
}

// === impl LeafRecord ===

impl LeafRecord<'_> {
    /// Who decided; `None` without a verdict.
    pub(super) fn source(&self) -> Option<&VerdictSource> {
        self.verdict.as_ref().map(|verdict| &verdict.source)
    }

    /// The judge's reasoning; `None` without a verdict.
    pub(super) fn rationale(&self) -> Option<&Rationale> {
        self.verdict.as_ref().map(|verdict| &verdict.rationale)
    }

    /// The judge's reasoning as fields, without the explanation, which stands in a field of its
    /// own; `None` without a verdict.
    pub(super) fn reasoning(&self) -> serde_json::Result<Option<Map<String, Value>>> {
        let Some(rationale) = self.rationale() else { return Ok(None) };
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        set("expectations", Value::from(rationale.expectations.as_str()));
        set("reality", Value::from(rationale.reality.as_str()));
        set("evidence", serde_json::to_value(&rationale.evidence)?);
        set("confidence", serde_json::to_value(rationale.confidence)?);
        Ok(Some(fields))
    }

    /// The share of the votes with a score that have the leaf's; `None` below two, or without one.
    pub(super) fn agreement(&self) -> Option<f64> {
        let score = self.outcome.score()?;
        let scores: Vec<f64> = self.votes.iter().filter_map(|vote| vote.score).collect();
        let alike = scores.iter().filter(|own| (**own - score).abs() < 1e-9).count();
        (scores.len() > 1).then(|| alike as f64 / scores.len() as f64)
    }

    /// The judge's words, or what happened instead.
    pub(super) fn explanation(&self) -> String {
        let said = match self.rationale() {
            Some(rationale) => rationale.explanation.as_str(),
            None => self.missing.as_str(),
        };
        match self.outcome {
            Outcome::Graded { .. } => said.to_owned(),
            Outcome::Ungraded { reason } if said.is_empty() => format!("Not graded: {reason}"),
            Outcome::Ungraded { reason } => format!("Not graded: {reason}: {said}"),
        }
    }

    /// The model that the reply names; the run's where no judge answered.
    pub(super) fn model(&self) -> &str {
        let named = self.verdict.as_ref().map(|verdict| verdict.model.as_str());
        named.filter(|model| !model.is_empty()).unwrap_or(&self.collected.record.run.model)
    }

    /// Whether a simulated judge answered; the run's where no judge did.
    pub(super) fn simulated(&self) -> bool {
        match &self.verdict {
            Some(verdict) if !matches!(verdict.source, VerdictSource::Rule { .. }) => {
                verdict.simulated
            }
            _ => self.collected.simulated(),
        }
    }
}
