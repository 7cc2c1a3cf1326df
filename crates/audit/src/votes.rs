//! What labels say of a judge's votes: what one weighs beside other judges', and which verdicts may
//! stand without a second judge.
//!
//! Owns the counts behind both and the readings of them. The tests are `metric`'s.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    metric::{
        agreement::Confusion,
        escalate::{Level, Threshold, fixed_sequence},
    },
    pair::Paired,
};

/// The chance with which the guarantee of a threshold may fail.
pub const DELTA: f64 = 0.05;

/// How right a judge's majority is, by how many of its votes are for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteLevels {
    /// Votes on a leaf.
    pub samples: u64,
    /// Labelled leaves by the votes for their majority, none where there is no majority.
    pub levels: Vec<VoteLevel>,
}

/// Labelled leaves with as many votes for their majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteLevel {
    /// Those votes.
    pub agreeing: u64,
    /// The leaves.
    pub leaves: u64,
    /// Those of them that the human graded otherwise.
    pub errors: u64,
}

/// Which verdicts of a judge stand, and which are sent on to another one.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Sending {
    /// The share of right verdicts that is wanted of those that stand.
    pub wanted: f64,
    /// The chance that the guarantee fails.
    pub delta: f64,
    /// Votes on a leaf.
    pub samples: u64,
    /// Verdicts stand from this share of a leaf's votes on; null where none may.
    pub threshold: Option<f64>,
    /// Labelled leaves.
    pub labels: u64,
    /// The share of them that is sent on.
    pub sent_on: f64,
    /// The share of wrong verdicts among those that stand is at most this, with probability 1 − delta;
    /// null where none stands.
    pub risk_bound: Option<f64>,
    /// Every level that was tried, from the most agreement down.
    pub tried: Vec<TriedLevel>,
}

/// What letting every verdict down to a level stand means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TriedLevel {
    /// The level: a share of a leaf's votes.
    pub agreement: f64,
    /// Labelled leaves that stand.
    pub leaves: u64,
    /// Errors among them.
    pub errors: u64,
    /// The upper bound of their share.
    pub risk_bound: f64,
    /// Whether it is within what is wanted.
    pub passed: bool,
}

// === impl VoteLevels ===

impl VoteLevels {
    /// The first judge's over the labelled leaves; `None` where none has two votes.
    pub fn of(paired: &Paired) -> Option<VoteLevels> {
        let samples = paired.leaves.iter().filter_map(|leaf| leaf.judges.first());
        let samples = samples.map(Vec::len).max().filter(|samples| *samples > 1)? as u64;
        let mut levels: BTreeMap<u64, VoteLevel> = BTreeMap::new();
        for leaf in &paired.leaves {
            let (Some(human), Some(votes)) = (leaf.human().pass(), leaf.judges.first()) else {
                continue;
            };
            let verdict = leaf.judge(0).pass();
            let score = verdict.map(f64::from);
            let agreeing = votes.iter().filter(|v| score.is_some() && v.score == score).count();
            let agreeing = agreeing as u64;
            let fresh = VoteLevel { agreeing, leaves: 0, errors: 0 };
            let level = levels.entry(agreeing).or_insert(fresh);
            level.leaves += 1;
            level.errors += u64::from(verdict != Some(human));
        }
        let levels: Vec<VoteLevel> = levels.into_values().collect();
        (!levels.is_empty()).then_some(VoteLevels { samples, levels })
    }

    /// The lowest agreement whose verdicts are right as often as `wanted`, tested from the most
    /// agreement down at [`DELTA`] (arXiv 2407.18370). It holds for leaves like the labelled ones.
    pub fn sending(&self, wanted: f64) -> Sending {
        let level = |level: &VoteLevel| Level {
            confidence: level.agreeing as f64 / self.samples as f64,
            verdicts: level.leaves,
            errors: level.errors,
        };
        // A leaf without a majority has no verdict that could stand.
        let with_majority = self.levels.iter().filter(|level| level.agreeing > 0);
        let levels: Vec<Level> = with_majority.map(level).collect();
        let Threshold { confidence, levels, .. } = fixed_sequence(&levels, 1.0 - wanted, DELTA);
        let labels: u64 = self.levels.iter().map(|level| level.leaves).sum();
        let last = levels.iter().rev().find(|level| level.passed);
        let kept = last.map_or(0, |level| level.verdicts);
        Sending {
            wanted,
            delta: DELTA,
            samples: self.samples,
            threshold: confidence,
            labels,
            sent_on: if labels == 0 { 1.0 } else { 1.0 - kept as f64 / labels as f64 },
            risk_bound: last.map(|level| level.risk_bound),
            tried: levels
                .iter()
                .map(|level| TriedLevel {
                    agreement: level.confidence,
                    leaves: level.verdicts,
                    errors: level.errors,
                    risk_bound: level.risk_bound,
                    passed: level.passed,
                })
                .collect(),
        }
    }
}

/// What a vote of a judge with these rates weighs beside others': the log odds of its balanced
/// accuracy (Nitzan and Paroush 1982), each rate counted with one success and one failure more, so
/// that few labels never make a judge infallible. 0 for one that is no better than chance.
pub fn weight(rates: &Confusion) -> f64 {
    let rate = |right: u64, wrong: u64| (right as f64 + 1.0) / ((right + wrong) as f64 + 2.0);
    let balanced = (rate(rates.tp, rates.fn_) + rate(rates.tn, rates.fp)) / 2.0;
    (balanced / (1.0 - balanced)).ln().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(levels: &[(u64, u64, u64)]) -> VoteLevels {
        let level = |&(agreeing, leaves, errors)| VoteLevel { agreeing, leaves, errors };
        VoteLevels { samples: 3, levels: levels.iter().map(level).collect() }
    }

    #[test]
    fn verdicts_stand_down_to_the_last_level_that_passes() {
        let sending = levels(&[(0, 5, 5), (2, 100, 30), (3, 400, 10)]).sending(0.9);
        // The 95% upper bound of 10 in 400 is below 0.1, that of 40 in 500 is not.
        assert_eq!(sending.threshold, Some(1.0));
        assert!(sending.risk_bound.is_some_and(|bound| bound > 0.025 && bound < 0.1));
        assert!((sending.sent_on - 105.0 / 505.0).abs() < 1e-12, "{sending:?}");
        let passed: Vec<bool> = sending.tried.iter().map(|level| level.passed).collect();
        assert_eq!(passed, [true, false]);
        let laxer = levels(&[(2, 100, 30), (3, 400, 10)]).sending(0.85);
        assert_eq!((laxer.threshold, laxer.sent_on), (Some(2.0 / 3.0), 0.0));
    }

    #[test]
    fn too_few_labels_send_everything_on() {
        let sending = levels(&[(3, 20, 0)]).sending(0.95);
        assert_eq!((sending.threshold, sending.sent_on, sending.risk_bound), (None, 1.0, None));
        let nothing = levels(&[(0, 7, 7)]).sending(0.5);
        assert_eq!((nothing.threshold, nothing.tried.len()), (None, 0));
    }

    #[test]
    fn better_judges_weigh_more_and_chance_weighs_nothing() {
        let rates = |tp, fn_, fp, tn| Confusion { tp, fn_, fp, tn };
        let good = weight(&rates(90, 10, 10, 90));
        let fair = weight(&rates(70, 30, 30, 70));
        assert!(good > fair && fair > 0.0, "{good} {fair}");
        assert_eq!(weight(&rates(50, 50, 50, 50)), 0.0);
        assert_eq!(weight(&rates(10, 90, 90, 10)), 0.0);
        assert_eq!(weight(&rates(0, 0, 0, 0)), 0.0);
        let few = weight(&rates(1, 0, 0, 1));
        assert!(few.is_finite() && few < good, "{few}");
    }
}
