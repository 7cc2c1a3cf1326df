//! The files that an audit leaves: `audit.json`, `audit.html`, `disagreements.csv`, labelling sheets.
//!
//! Owns their names and the promise that each appears whole or not at all.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tribunal_audit::{AuditDocument, sheet::Sheet};
use tribunal_report::audit_page;

use crate::output;

const COLUMNS: [&str; 13] = [
    "submission",
    "paper",
    "index",
    "id",
    "category",
    "weight",
    "human",
    "judge",
    "confidence",
    "label_may_be_wrong",
    "human_explanation",
    "judge_explanation",
    "requirements",
];

/// Writes the files to `out`, which is made if it is not there.
///
/// # Errors
///
/// The folder cannot be made or written.
pub(super) fn write(out: &Path, document: &AuditDocument) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    whole(&out.join("audit.json"), &output::json_bytes("audit", document)?)?;
    whole(&out.join("audit.html"), audit_page(document)?.html.as_bytes())?;
    whole(&out.join("disagreements.csv"), &disagreements(document)?)
}

/// Writes a labelling sheet to `out`, as CSV and JSON; the path of the CSV.
///
/// # Errors
///
/// The folder cannot be made or written.
pub(super) fn sheet(out: &Path, sheet: &Sheet) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    whole(&out.join("labels.json"), &output::json_bytes("audit next", sheet)?)?;
    let csv = out.join("labels.csv");
    whole(&csv, &sheet.to_csv()?)?;
    Ok(csv)
}

/// Writes one file under another name first, so that nobody reads half of it.
pub(super) fn whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary: PathBuf = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What cannot be removed is hidden and harmless.
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn disagreements(document: &AuditDocument) -> anyhow::Result<Vec<u8>> {
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(COLUMNS)?;
    for one in &document.disagreements {
        let confidence = one.confidence.map_or_else(String::new, |sure| sure.to_string());
        let record: [&str; COLUMNS.len()] = [
            &one.submission,
            &one.paper,
            &one.index.to_string(),
            &one.id,
            &one.category,
            &one.weight.to_string(),
            &one.human.to_string(),
            &one.judge.to_string(),
            &confidence,
            &one.label_may_be_wrong.join("; "),
            &one.human_explanation,
            &one.judge_explanation,
            &one.requirements,
        ];
        out.write_record(record)?;
    }
    Ok(out.into_inner().map_err(|error| error.into_error())?)
}
