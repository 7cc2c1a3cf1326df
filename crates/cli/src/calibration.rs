//! `--calibration`: a run's root score as humans would give it, by what an audit learned of the
//! judge.
//!
//! Owns the argument, the check that the rates are this judge's, and the document's field. What is
//! computed is the audit's.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_audit::{
    Calibration,
    calibration::{CalibrationError, CorrectedRoot, Verdict},
    votes::Sending,
};
use tribunal_collector::{Collected, GradeDocument};
use tribunal_core::RunSpec;

use crate::command::audit::run_tree::header;

/// The argument.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CalibrationArgs {
    /// What `audit --save` kept of this judge: shows the corrected score beside the raw one
    #[arg(long, value_name = "CAL.json")]
    calibration: Option<PathBuf>,
}

/// The document of `grade` and `collect`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CalibratedDocument {
    #[serde(flatten)]
    pub(crate) document: GradeDocument,
    /// The corrected root score; null without `--calibration`.
    pub(crate) corrected: Option<CorrectedRoot>,
}

// === impl CalibrationArgs ===

impl CalibrationArgs {
    /// The calibration, if one is named.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is none.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Calibration>> {
        self.calibration.as_deref().map(read).transpose()
    }
}

/// The calibration in this file.
///
/// # Errors
///
/// The file cannot be read, or is none.
pub(crate) fn read(path: &Path) -> anyhow::Result<Calibration> {
    let shown = path.display().to_string();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    Ok(Calibration::read(&shown, &bytes)?)
}

/// Whether the calibration is of this run's judge, model and prompt.
///
/// # Errors
///
/// It is another one's.
pub(crate) fn check(calibration: &Calibration, spec: &RunSpec) -> Result<(), CalibrationError> {
    calibration.check(&header(spec, "", false))
}

/// The corrected root of a run.
pub(crate) fn correct(calibration: &Calibration, collected: &Collected) -> CorrectedRoot {
    let rubric = collected.rubric();
    let shares = rubric.weight_shares();
    let leaves: Vec<Verdict<'_>> = rubric
        .leaves()
        .map(|(index, leaf)| Verdict {
            category: leaf.category.map_or("", |category| category.name()),
            weight: shares[index],
            score: collected.outcome(index).score(),
        })
        .collect();
    calibration.correct(collected.record().run.id.as_str(), &leaves)
}

/// What is sent on to a second judge, and what that guarantees, as a line for people.
pub(crate) fn sending(sending: &Sending) -> String {
    let Sending { wanted, delta, samples, threshold, labels, sent_on, risk_bound, .. } = sending;
    match threshold.zip(*risk_bound) {
        Some((threshold, bound)) => format!(
            "verdicts stand where {:.0} of {samples} votes agree; of {labels} labelled leaves {:.1}% would \
             be sent on, and of the others at most {:.1}% are wrong, with {:.0}% confidence ({:.0}% right \
             are wanted)",
            threshold * *samples as f64,
            sent_on * 100.0,
            bound * 100.0,
            (1.0 - delta) * 100.0,
            wanted * 100.0,
        ),
        None => format!(
            "no agreement of {samples} votes shows {:.0}% right verdicts over {labels} labelled leaves: \
             every leaf is sent on",
            wanted * 100.0
        ),
    }
}

/// The corrected root as a line for people.
pub(crate) fn line(corrected: &CorrectedRoot) -> String {
    match corrected {
        CorrectedRoot::Estimate {
            estimate,
            low,
            high,
            raw,
            calibration_papers,
            own_calibration,
        } => {
            let own = if *own_calibration {
                "; the calibration was made from this run: this proves nothing"
            } else {
                ""
            };
            format!(
                "corrected {estimate:.4} ({low:.4}..{high:.4}), raw {raw:.4}; the judge's rates are \
                 of {calibration_papers} papers{own}\n"
            )
        }
        CorrectedRoot::Refused { refused } => format!("not corrected: {refused}\n"),
    }
}
