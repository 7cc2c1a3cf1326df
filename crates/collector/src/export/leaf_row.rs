//! A leaf as a row of a table.
//!
//! Owns the columns that `leaves.csv` and `leaves.parquet` share. How a value is written is theirs.

use std::{fmt, io};

use tribunal_core::VerdictSource;

use super::{Context, LeafRecord};

/// What a column holds.
#[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "text has no types"))]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Text,
    Integer,
    Number,
    Flag,
}

/// A value that is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Number(f64),
    Flag(bool),
}

/// A leaf's values, one for each of [`COLUMNS`].
pub(super) type Row = [Option<Value>; COLUMNS.len()];

/// Names of the columns, and what they hold. `evidence` is a JSON array.
pub(super) const COLUMNS: [(&str, Kind); 25] = [
    ("index", Kind::Integer),
    ("position", Kind::Integer),
    ("id", Kind::Text),
    ("depth", Kind::Integer),
    ("category", Kind::Text),
    ("fine_category", Kind::Text),
    ("weight", Kind::Number),
    ("root_share", Kind::Number),
    ("outcome", Kind::Text),
    ("score", Kind::Number),
    ("reason", Kind::Text),
    ("source", Kind::Text),
    ("source_detail", Kind::Text),
    ("confidence", Kind::Number),
    ("votes", Kind::Integer),
    ("agreement", Kind::Number),
    ("explanation", Kind::Text),
    ("expectations", Kind::Text),
    ("reality", Kind::Text),
    ("evidence", Kind::Text),
    ("model", Kind::Text),
    ("simulated", Kind::Flag),
    ("canaries_failed", Kind::Integer),
    ("run", Kind::Text),
    ("requirements", Kind::Text),
];

/// The row of the leaf at this index of the rubric.
pub(super) fn row(context: &Context<'_>, index: usize, leaf: &LeafRecord<'_>) -> io::Result<Row> {
    let node = leaf.node;
    let rationale = leaf.rationale();
    let detail = match leaf.source() {
        Some(VerdictSource::Rule { name }) => Some(name.as_str()),
        Some(VerdictSource::Reused { run }) => Some(run.as_str()),
        Some(VerdictSource::Judge) | None => None,
    };
    let evidence = match rationale {
        Some(rationale) if !rationale.evidence.is_empty() => {
            Some(serde_json::to_string(&rationale.evidence)?)
        }
        _ => None,
    };
    let failed =
        context.collected.canaries().and_then(|canaries| i64::try_from(canaries.failed).ok());
    let score = leaf.outcome.score();
    let votes = leaf.votes.len().max(usize::from(leaf.source().is_some()));
    let outcome = if score.is_some() { "graded" } else { "ungraded" };
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    let integer = |number: usize| i64::try_from(number).ok().map(Value::Integer);
    Ok([
        node.leaf_index().and_then(|index| integer(index as usize)),
        Some(Value::Integer(i64::from(node.position()))),
        text(&node.id),
        integer(node.depth() as usize),
        node.category.and_then(|category| text(category.name())),
        node.fine_category.as_deref().and_then(text),
        Some(Value::Number(node.weight)),
        Some(Value::Number(context.shares[index])),
        text(outcome),
        score.map(Value::Number),
        leaf.outcome.ungraded().and_then(|reason| text(reason.name())),
        leaf.source().and_then(|source| text(source.name())),
        detail.and_then(text),
        rationale.and_then(|rationale| rationale.confidence).map(Value::Number),
        integer(votes),
        leaf.agreement().map(Value::Number),
        Some(Value::Text(leaf.explanation())),
        rationale.and_then(|rationale| text(&rationale.expectations)),
        rationale.and_then(|rationale| text(&rationale.reality)),
        evidence.map(Value::Text),
        text(leaf.model()),
        Some(Value::Flag(leaf.simulated())),
        failed.map(Value::Integer),
        text(context.collected.record.run.id.as_str()),
        text(&node.requirements),
    ])
}

// === impl Value ===

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => text.fmt(f),
            Value::Integer(number) => number.fmt(f),
            Value::Number(number) => number.fmt(f),
            Value::Flag(flag) => flag.fmt(f),
        }
    }
}
