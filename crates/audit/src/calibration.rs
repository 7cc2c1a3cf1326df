//! A judge's error rates, kept for runs that nobody labels.
//!
//! Owns the file's format, when it may be used, and the corrected score of a run. The rates are
//! one judge's with one prompt: another judge, model or prompt has others.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    document::JudgeHeader,
    metric::{
        LEVEL,
        agreement::Confusion,
        corrected::{
            Corrected,
            rogan_gladen::{Stratum, stratified},
        },
    },
    pair::Paired,
    votes::{self, VoteLevels},
};

/// What the file says that it is.
pub const SCHEMA: &str = "tribunal.calibration/1";

/// A calibration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// [`SCHEMA`].
    pub schema: String,
    /// Whose rates these are.
    pub judge: JudgeHeader,
    /// Papers behind them.
    pub papers: usize,
    /// Verdicts against labels, by requirement type.
    pub rates: BTreeMap<String, Rates>,
    /// How right its majority is by how many votes are for it; `None` for one vote a leaf.
    #[serde(default)]
    pub votes: Option<VoteLevels>,
}

/// A confusion matrix in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Passed by both.
    pub tp: u64,
    /// Passed by the human alone.
    #[serde(rename = "fn")]
    pub fn_: u64,
    /// Passed by the judge alone.
    pub fp: u64,
    /// Failed by both.
    pub tn: u64,
}

/// A leaf whose verdict is corrected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict<'l> {
    /// The requirement type.
    pub category: &'l str,
    /// Its share of the root.
    pub weight: f64,
    /// The judge's grade, where there is one.
    pub score: Option<f64>,
}

/// A run's root score, corrected by a calibration.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum CorrectedRoot {
    /// The corrected score.
    Estimate {
        /// The root score that humans would give.
        estimate: f64,
        /// Lower end of its 95% interval, the calibration's own error included.
        low: f64,
        /// Upper end of it.
        high: f64,
        /// The judge's own root score, a missing verdict counting as 0.
        raw: f64,
        /// Papers that the judge's rates come from.
        calibration_papers: usize,
        /// Whether the calibration was made from this very run: it then proves nothing.
        own_calibration: bool,
    },
    /// There is none.
    Refused {
        /// Which assumption failed.
        refused: String,
    },
}

/// A calibration that cannot be made, read or used.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum CalibrationError {
    /// It is not of its format.
    #[error("{file}: not a calibration of `audit --save`: {reason}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Who judged is not known.
    #[error(
        "a calibration is one judge's with one prompt, and the {what} is not known: audit runs of \
         the store, or graded trees beside their run.json"
    )]
    Unknown {
        /// What is not known.
        what: &'static str,
    },
    /// It is another judge's.
    #[error(
        "the calibration is of another {what}: {calibrated}, and this run has {found}; its rates \
         say nothing about this one. Audit this judge and --save a calibration of its own"
    )]
    Other {
        /// What differs.
        what: &'static str,
        /// In the calibration.
        calibrated: String,
        /// Here.
        found: String,
    },
}

fn identity(judge: &JudgeHeader) -> [(&'static str, Option<&String>); 3] {
    [
        ("model", judge.model.as_ref()),
        ("judge", judge.judge_hash.as_ref()),
        ("prompt", judge.prompt_hash.as_ref()),
    ]
}

// === impl Calibration ===

impl Calibration {
    /// The rates of the first judge over the labelled leaves.
    ///
    /// # Errors
    ///
    /// [`CalibrationError::Unknown`]: nothing says which judge, model or prompt it was.
    pub fn of(paired: &Paired, judge: &JudgeHeader) -> Result<Calibration, CalibrationError> {
        if let Some((what, _)) = identity(judge).into_iter().find(|(_, known)| known.is_none()) {
            return Err(CalibrationError::Unknown { what });
        }
        let mut counts: BTreeMap<String, Confusion> = BTreeMap::new();
        let mut papers = Vec::new();
        for leaf in &paired.leaves {
            if let (Some(human), Some(verdict)) = (leaf.human().pass(), leaf.judge(0).pass()) {
                counts.entry(leaf.category.clone()).or_default().add(human, verdict);
                papers.push(paired.submission(leaf).paper.as_str());
            }
        }
        papers.sort_unstable();
        papers.dedup();
        let rates = |Confusion { tp, fn_, fp, tn }| Rates { tp, fn_, fp, tn };
        Ok(Calibration {
            schema: SCHEMA.to_owned(),
            judge: judge.clone(),
            papers: papers.len(),
            rates: counts.into_iter().map(|(name, counts)| (name, rates(counts))).collect(),
            votes: VoteLevels::of(paired),
        })
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`CalibrationError::Format`].
    pub fn read(file: &str, bytes: &[u8]) -> Result<Calibration, CalibrationError> {
        let failed = |reason: String| CalibrationError::Format { file: file.to_owned(), reason };
        let read: Calibration =
            serde_json::from_slice(bytes).map_err(|error| failed(error.to_string()))?;
        if read.schema != SCHEMA {
            return Err(failed(format!("its schema is `{}`, not `{SCHEMA}`", read.schema)));
        }
        Ok(read)
    }

    /// Whether these are the rates of this judge.
    ///
    /// # Errors
    ///
    /// [`CalibrationError::Other`] where model, judge or prompt differs, or is not known.
    pub fn check(&self, judge: &JudgeHeader) -> Result<(), CalibrationError> {
        for ((what, own), (_, found)) in identity(&self.judge).into_iter().zip(identity(judge)) {
            if own.is_none() || own != found {
                let shown = |value: Option<&String>| {
                    value.map_or_else(|| "nothing known".to_owned(), |text| format!("`{text}`"))
                };
                let (calibrated, found) = (shown(own), shown(found));
                return Err(CalibrationError::Other { what, calibrated, found });
            }
        }
        Ok(())
    }

    /// What a vote of this judge weighs beside other judges', over all requirement types; at least 0.
    pub fn vote_weight(&self) -> f64 {
        let mut all = Confusion::default();
        for Rates { tp, fn_, fp, tn } in self.rates.values() {
            all.tp += tp;
            all.fn_ += fn_;
            all.fp += fp;
            all.tn += tn;
        }
        votes::weight(&all)
    }

    /// The corrected root of a run with these leaves.
    pub fn correct(&self, run: &str, leaves: &[Verdict<'_>]) -> CorrectedRoot {
        match stratified(&strata(leaves, &|category| self.counts(category)), LEVEL) {
            Ok(Corrected { estimate, interval }) => CorrectedRoot::Estimate {
                estimate,
                low: interval.low,
                high: interval.high,
                raw: leaves.iter().map(|leaf| leaf.weight * leaf.score.unwrap_or(0.0)).sum(),
                calibration_papers: self.papers,
                own_calibration: self.judge.runs.iter().any(|own| own == run),
            },
            Err(refused) => CorrectedRoot::Refused { refused: refused.to_string() },
        }
    }

    fn counts(&self, category: &str) -> Confusion {
        let Some(Rates { tp, fn_, fp, tn }) = self.rates.get(category).copied() else {
            return Confusion::default();
        };
        Confusion { tp, fn_, fp, tn }
    }
}

/// The strata of a tree: its categories with these rates. Verdicts that are missing are left out of
/// a category's share of passes.
pub(crate) fn strata(leaves: &[Verdict<'_>], rates: &dyn Fn(&str) -> Confusion) -> Vec<Stratum> {
    #[derive(Default)]
    struct Sums {
        share: f64,
        graded: f64,
        passed: f64,
        squares: f64,
    }
    let mut categories: BTreeMap<&str, Sums> = BTreeMap::new();
    for leaf in leaves {
        let sums = categories.entry(leaf.category).or_default();
        sums.share += leaf.weight;
        if let Some(score) = leaf.score {
            sums.graded += leaf.weight;
            sums.passed += leaf.weight * score;
            sums.squares += leaf.weight * leaf.weight;
        }
    }
    let stratum = |(category, sums): (&&str, &Sums)| {
        let Sums { share, graded, passed, squares } = *sums;
        let counts = rates(category);
        let scope = if category.is_empty() { "all leaves" } else { category };
        Stratum {
            scope: scope.to_owned(),
            share,
            p: if graded > 0.0 { (passed / graded).clamp(0.0, 1.0) } else { 0.0 },
            // Kish's effective number: what the weights leave of the leaves.
            n: if squares > 0.0 { graded * graded / squares } else { 0.0 },
            q0: counts.specificity().unwrap_or(0.0),
            q1: counts.sensitivity().unwrap_or(0.0),
            m0: counts.negatives(),
            m1: counts.positives(),
        }
    };
    categories.iter().map(stratum).collect()
}
