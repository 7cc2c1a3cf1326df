//! The tree as the page's scripts read it: a column a property, an entry a node, depth first.
//!
//! Owns the columns. Scores of inner nodes and shares of the root are not among them: the scripts
//! compute both from weights and leaves, for what-if too.

use serde::Serialize;
use tribunal_collector::sanitize;
use tribunal_core::{Category, UngradedReason};

use crate::model::{GradedTree, Leaf};

/// An agreement of votes below this share is low: two of three.
const LOW_AGREEMENT: f64 = 0.7;

/// A badge's words, and whether a leaf has it.
pub(super) type Flag = (&'static str, fn(&Leaf) -> bool);

/// What a leaf's badges say, each a bit of [`Nodes`]' `flags`; the scripts know them by their
/// place in this list.
pub(super) const FLAGS: [Flag; 7] = [
    ("unverified quote", |leaf| leaf.quotes.iter().any(|quote| quote.verified == Some(false))),
    ("suspected injection", |leaf| !leaf.suspicions.is_empty()),
    ("disagreement", |leaf| leaf.agreement().is_some_and(|agreement| agreement < 1.0)),
    ("low agreement", |leaf| leaf.agreement().is_some_and(|agreement| agreement < LOW_AGREEMENT)),
    ("human differs", |leaf| {
        let scores = leaf.labels.iter().filter_map(|label| label.label.score);
        scores.zip(std::iter::repeat(leaf.score)).any(|(human, judge)| judge != Some(human))
    }),
    ("by rule", |leaf| leaf.decided_by == Some("rule")),
    ("reused", |leaf| leaf.decided_by == Some("reused")),
];

/// The words that columns hold as numbers.
#[derive(Debug, Serialize)]
pub(super) struct Vocabulary {
    categories: Vec<&'static str>,
    reasons: Vec<&'static str>,
    flags: Vec<&'static str>,
}

/// The columns.
#[derive(Debug, Default, Serialize)]
pub struct Nodes {
    /// The id in the rubric; may repeat.
    id: Vec<String>,
    /// The criterion.
    text: Vec<String>,
    /// Index of the parent; -1 for the root.
    parent: Vec<i64>,
    /// Weight among its siblings.
    weight: Vec<f64>,
    /// Index of the category; -1 for an inner node.
    category: Vec<i64>,
    /// Depth-first position in the unpruned rubric.
    position: Vec<u32>,
    /// `#N`; -1 for an inner node, and for a group that is graded as one.
    leaf: Vec<i64>,
    /// A leaf's score; null where there is none.
    score: Vec<Option<f64>>,
    /// Index of the reason why a leaf has no score; -1 where it has one.
    reason: Vec<i64>,
    /// Bits of what a leaf's badges say.
    flags: Vec<u32>,
}

// === impl Vocabulary ===

impl Default for Vocabulary {
    fn default() -> Self {
        Vocabulary {
            categories: Category::ALL.into_iter().map(Category::name).collect(),
            reasons: UngradedReason::ALL.into_iter().map(UngradedReason::name).collect(),
            flags: FLAGS.into_iter().map(|(name, _)| name).collect(),
        }
    }
}

// === impl Nodes ===

impl Nodes {
    /// The columns of this tree.
    pub fn of(tree: &GradedTree) -> Nodes {
        let mut nodes = Nodes::default();
        let index = |found: Option<usize>| found.map_or(-1, |index| index as i64);
        for (at, node) in tree.rubric.nodes().iter().enumerate() {
            let leaf = tree.leaf(at);
            let category = node.category;
            nodes.id.push(sanitize(&node.id));
            nodes.text.push(sanitize(&node.requirements));
            nodes.parent.push(index(node.parent()));
            nodes.weight.push(node.weight);
            nodes.category.push(index(Category::ALL.iter().position(|c| Some(*c) == category)));
            nodes.position.push(node.position());
            nodes.leaf.push(node.leaf_index().map_or(-1, i64::from));
            nodes.score.push(leaf.and_then(|leaf| leaf.score));
            let reason = leaf.and_then(|leaf| leaf.outcome().ungraded());
            nodes.reason.push(index(UngradedReason::ALL.iter().position(|r| Some(*r) == reason)));
            nodes.flags.push(leaf.map_or(0, flags));
        }
        nodes
    }
}

/// The bits of a leaf's badges.
pub(super) fn flags(leaf: &Leaf) -> u32 {
    let set = |(bit, (_, holds)): (usize, &Flag)| u32::from(holds(leaf)) << bit;
    FLAGS.iter().enumerate().map(set).sum()
}

#[cfg(test)]
mod tests {
    use tribunal_collector::votes::CastVote;
    use tribunal_core::verdict::{Quote, Suspicion};

    use super::*;

    fn names(leaf: &Leaf) -> Vec<&'static str> {
        let bits = flags(leaf);
        let set = FLAGS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
        set.map(|(_, (name, _))| *name).collect()
    }

    #[test]
    fn badges_say_what_is_to_be_looked_at() {
        let vote = |score| CastVote {
            sample: 0,
            judge: String::new(),
            model: String::new(),
            weight: 1.0,
            score,
            reason: None,
            source: None,
            confidence: None,
            explanation: String::new(),
        };
        let votes = |scores: &[Option<f64>]| Leaf {
            votes: scores.iter().copied().map(vote).collect(),
            ..Leaf::default()
        };
        assert_eq!(names(&Leaf::default()), [""; 0]);
        assert_eq!(names(&votes(&[Some(1.0), Some(1.0), None])), [""; 0]);
        assert_eq!(names(&votes(&[Some(1.0), Some(1.0), Some(1.0), Some(0.0)])), ["disagreement"]);
        let low = ["disagreement", "low agreement"];
        assert_eq!(names(&votes(&[Some(1.0), Some(1.0), Some(0.0)])), low);
        let quote = Quote { verified: Some(false), ..Quote::default() };
        let suspicion = Suspicion { file: "a".into(), line: 1, text: "t".into() };
        let leaf = Leaf {
            quotes: vec![quote],
            suspicions: vec![suspicion],
            decided_by: Some("reused"),
            ..Leaf::default()
        };
        assert_eq!(names(&leaf), ["unverified quote", "suspected injection", "reused"]);
    }
}
