//! Scores corrected for what is known of the judge's error.
//!
//! Owns the reasons for refusing one. A correction whose assumptions fail is no number.

pub mod ppi;
pub mod rogan_gladen;

use super::interval::Interval;

/// A corrected score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corrected {
    /// The estimate.
    pub estimate: f64,
    /// Its interval, the calibration's own error included.
    pub interval: Interval,
}

/// Why there is no corrected score.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    /// The judge is no better than chance.
    #[error(
        "{scope}: sensitivity {sensitivity:.3} and specificity {specificity:.3} do not sum to \
         more than 1: this judge's verdicts say nothing about the human's"
    )]
    NoBetterThanChance {
        /// Which leaves.
        scope: String,
        /// The judge's sensitivity there.
        sensitivity: f64,
        /// The judge's specificity there.
        specificity: f64,
    },
    /// A rate has nothing, or too little, to be estimated from.
    #[error(
        "{scope}: {positives} leaves that humans passed and {negatives} that they failed; each \
         rate needs at least {needed}"
    )]
    TooFew {
        /// Which leaves.
        scope: String,
        /// Labelled leaves that humans passed.
        positives: u64,
        /// Labelled leaves that humans failed.
        negatives: u64,
        /// How many each must have.
        needed: u64,
    },
    /// Nothing says that the labelled leaves are a random sample.
    #[error("{0}")]
    NoRandomSample(String),
}
