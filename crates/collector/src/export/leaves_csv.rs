//! `leaves.csv`: a line a leaf, for spreadsheets and data frames.
//!
//! Owns the columns. Fields are exact, quoted as RFC 4180 says: nothing is changed for the sake
//! of programs that take text for formulas.

use std::io;

use tribunal_core::VerdictSource;

use super::{Context, Format, LeafRecord, file::AtomicFile, file::WholeFile};

const COLUMNS: [&str; 25] = [
    "index",
    "position",
    "id",
    "depth",
    "category",
    "fine_category",
    "weight",
    "root_share",
    "outcome",
    "score",
    "reason",
    "source",
    "source_detail",
    "confidence",
    "votes",
    "agreement",
    "explanation",
    "expectations",
    "reality",
    "evidence",
    "model",
    "simulated",
    "canaries_failed",
    "run",
    "requirements",
];

struct LeavesCsv<'c> {
    context: Context<'c>,
    out: csv::Writer<AtomicFile>,
}

pub(super) fn open<'c>(
    context: Context<'c>,
    file: AtomicFile,
) -> io::Result<Box<dyn Format + Send + 'c>> {
    let mut out = csv::Writer::from_writer(file);
    out.write_record(COLUMNS)?;
    Ok(Box::new(LeavesCsv { context, out }))
}

// === impl LeavesCsv ===

impl Format for LeavesCsv<'_> {
    fn node(&mut self, index: usize, leaf: Option<&LeafRecord<'_>>) -> io::Result<()> {
        let Some(leaf) = leaf else {
            return Ok(());
        };
        let node = leaf.node;
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let number = |value: Option<f64>| value.map_or_else(String::new, |v| v.to_string());
        let rationale = leaf.rationale();
        let detail = match leaf.source() {
            Some(VerdictSource::Rule { name }) => name.as_str(),
            Some(VerdictSource::Reused { run }) => run.as_str(),
            Some(VerdictSource::Judge) | None => "",
        };
        let evidence = match rationale {
            Some(rationale) if !rationale.evidence.is_empty() => {
                serde_json::to_string(&rationale.evidence)?
            }
            _ => String::new(),
        };
        let failed = self.context.collected.canaries().map(|canaries| canaries.failed);
        let score = leaf.outcome.score();
        let votes = leaf.votes.len().max(usize::from(leaf.source().is_some()));
        let outcome = if score.is_some() { "graded" } else { "ungraded" };
        let record: [String; COLUMNS.len()] = [
            node.leaf_index().map_or_else(String::new, |i| i.to_string()),
            node.position().to_string(),
            node.id.clone(),
            node.depth().to_string(),
            text(node.category.map(|category| category.name())),
            text(node.fine_category.as_deref()),
            node.weight.to_string(),
            self.context.shares[index].to_string(),
            outcome.to_owned(),
            number(score),
            text(leaf.outcome.ungraded().map(|reason| reason.name())),
            text(leaf.source().map(VerdictSource::name)),
            detail.to_owned(),
            number(rationale.and_then(|rationale| rationale.confidence)),
            votes.to_string(),
            number(leaf.agreement()),
            leaf.explanation(),
            text(rationale.map(|rationale| rationale.expectations.as_str())),
            text(rationale.map(|rationale| rationale.reality.as_str())),
            evidence,
            leaf.model().to_owned(),
            leaf.simulated().to_string(),
            failed.map_or_else(String::new, |failed| failed.to_string()),
            self.context.collected.record.run.id.to_string(),
            node.requirements.clone(),
        ];
        self.out.write_record(record)?;
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<WholeFile> {
        let file = self.out.into_inner().map_err(|error| error.into_error())?;
        file.finish()
    }
}
