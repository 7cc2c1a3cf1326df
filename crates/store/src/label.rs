//! Labels: what people say of a run's leaves, beside the judge's verdicts and never in their place.
//!
//! Owns the record, what is refused, and which labels stand. The list of labels is only ever
//! appended to: an undone label is followed by a withdrawal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::StoreError;

/// Characters of an author's name, at most.
pub const MAX_AUTHOR: usize = 100;

/// Characters of a note, at most.
pub const MAX_NOTE: usize = 10_000;

/// What a label is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelKind {
    /// One person's grade.
    Label,
    /// The grade that settles what several people see differently.
    Adjudication,
    /// Takes the author's newest standing label or adjudication of the leaf back.
    Withdrawal,
}

/// A label to be appended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewLabel {
    /// Depth-first position of the node in the unpruned rubric.
    pub position: u32,
    /// Who says so.
    pub author: String,
    /// What it is.
    pub kind: LabelKind,
    /// In [0, 1]; `None` where the author abstains, and for a withdrawal.
    pub score: Option<f64>,
    /// The author's words; may be empty.
    pub note: String,
    /// Whether the judge's verdict was hidden from the author. A label that is not blind overrules
    /// a verdict, and says nothing about how good the judge is.
    pub blind: bool,
}

/// A label as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// Its place in the list: greater than that of every label before it.
    pub seq: u64,
    /// When it was appended, milliseconds since the Unix epoch, by the store's time.
    pub at_ms: i64,
    /// What was appended.
    #[serde(flatten)]
    pub label: NewLabel,
}

/// The labels that stand, in order of (position, author, kind): each author's newest of each kind
/// that was not withdrawn.
pub fn standing(labels: &[Label]) -> Vec<&Label> {
    let mut given: BTreeMap<(u32, &str), Vec<&Label>> = BTreeMap::new();
    for label in labels {
        let given = given.entry((label.label.position, &label.label.author)).or_default();
        match label.label.kind {
            LabelKind::Withdrawal => drop(given.pop()),
            LabelKind::Label | LabelKind::Adjudication => given.push(label),
        }
    }
    let mut standing: BTreeMap<(u32, &str, LabelKind), &Label> = BTreeMap::new();
    for ((position, author), given) in given {
        standing
            .extend(given.into_iter().map(|label| ((position, author, label.label.kind), label)));
    }
    standing.into_values().collect()
}

// === impl LabelKind ===

impl LabelKind {
    /// The name in the store.
    pub fn name(self) -> &'static str {
        match self {
            LabelKind::Label => "label",
            LabelKind::Adjudication => "adjudication",
            LabelKind::Withdrawal => "withdrawal",
        }
    }

    /// The kind with exactly this name, or `None`.
    pub fn from_name(name: &str) -> Option<LabelKind> {
        [LabelKind::Label, LabelKind::Adjudication, LabelKind::Withdrawal]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

// === impl NewLabel ===

impl NewLabel {
    /// Refuses what is no label.
    ///
    /// # Errors
    ///
    /// [`StoreError::Label`]: nobody said it, it is too long, or its score is none.
    pub fn check(&self) -> Result<(), StoreError> {
        let fail = |reason: String| Err(StoreError::Label { position: self.position, reason });
        let author = self.author.chars().count();
        if self.author.trim().is_empty() || author > MAX_AUTHOR {
            return fail(format!("it needs an author of 1 to {MAX_AUTHOR} characters"));
        }
        if self.note.chars().count() > MAX_NOTE {
            return fail(format!("its note is longer than {MAX_NOTE} characters"));
        }
        match (self.kind, self.score) {
            (LabelKind::Withdrawal, Some(_)) => fail("a withdrawal has no score".to_owned()),
            (_, Some(score)) if !(0.0..=1.0).contains(&score) => {
                fail(format!("the score {score} is outside [0, 1]"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(seq: u64, author: &str, kind: LabelKind, score: Option<f64>) -> Label {
        let (author, note) = (author.to_owned(), String::new());
        let label = NewLabel { position: 3, author, kind, score, note, blind: true };
        Label { seq, at_ms: 0, label }
    }

    #[test]
    fn the_newest_that_was_not_withdrawn_stands() {
        use LabelKind::{Adjudication, Label as Given, Withdrawal};
        let list = [
            label(1, "ann", Given, Some(1.0)),
            label(2, "bob", Given, Some(0.0)),
            label(3, "ann", Given, Some(0.0)),
            label(4, "ann", Withdrawal, None),
            label(5, "cyd", Adjudication, Some(1.0)),
            label(6, "dan", Given, None),
            label(7, "dan", Withdrawal, None),
            label(8, "dan", Withdrawal, None),
        ];
        let seqs = |labels: &[Label]| standing(labels).iter().map(|l| l.seq).collect::<Vec<_>>();
        assert_eq!(seqs(&list), [1, 2, 5]);
        assert_eq!(seqs(&list[..3]), [3, 2]);
        assert_eq!(seqs(&[]), [0; 0]);
    }

    #[test]
    fn what_is_no_label_is_refused() {
        let good = label(1, "ann", LabelKind::Label, Some(0.5)).label;
        assert!(good.check().is_ok());
        assert!(NewLabel { score: None, ..good.clone() }.check().is_ok());
        for bad in [
            NewLabel { author: "  ".into(), ..good.clone() },
            NewLabel { author: "a".repeat(101), ..good.clone() },
            NewLabel { note: "n".repeat(10_001), ..good.clone() },
            NewLabel { score: Some(1.5), ..good.clone() },
            NewLabel { score: Some(f64::NAN), ..good.clone() },
            NewLabel { kind: LabelKind::Withdrawal, ..good.clone() },
        ] {
            assert!(matches!(bad.check(), Err(StoreError::Label { .. })), "{bad:?}");
        }
    }
}
