//! Votes: what several answers about one leaf come to.
//!
//! Owns who casts which vote of a run, and the rule that makes one outcome of them. A leaf that its
//! votes do not decide has no score; nothing is ever guessed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    category::Category,
    ids::BlobHash,
    run::{JudgeSpec, RunSpec, SelectionMethod},
    verdict::{Outcome, UngradedReason},
};

/// Votes whose weights differ by less than this share of them all weigh the same.
const ALIKE: f64 = 1e-9;

/// A further judge of a run, with what its leaves are shown: its window is another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Juror {
    /// The judge.
    pub judge: JudgeSpec,
    /// How often it is asked about a leaf.
    pub samples: u32,
    /// For each category that has leaves, the blob with its evidence.
    pub evidence: BTreeMap<Category, BlobHash>,
    /// For each category whose evidence exceeds its budget, how files are chosen.
    #[serde(default)]
    pub selection: BTreeMap<Category, SelectionMethod>,
}

/// What a run's votes come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Voting {
    /// The majority decides.
    #[default]
    Majority,
    /// The majority by weight decides.
    Weighted {
        /// What a vote of each judge weighs, the run's first judge before its jurors; at least 0.
        weights: Vec<f64>,
    },
    /// The first judge decides where enough of its votes agree; all else is asked of the others,
    /// whose majority decides.
    Escalated {
        /// The share of the first judge's votes, in [0, 1], from which they stand; `None` where
        /// they never do.
        agreement: Option<f64>,
    },
}

/// What a leaf's votes have come to, as far as they are cast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tally {
    /// The outcome.
    pub outcome: Outcome,
    /// Whether the first judge's votes are all cast and do not stand: others are to be asked.
    pub escalates: bool,
}

/// Who votes on a run's leaves, and how the votes are counted.
#[derive(Clone, Copy, Debug)]
pub struct Ballot<'s> {
    samples: u32,
    jurors: &'s [Juror],
    voting: &'s Voting,
}

// === impl RunSpec ===

impl RunSpec {
    /// Who votes on its leaves.
    pub fn ballot(&self) -> Ballot<'_> {
        Ballot { samples: self.samples.max(1), jurors: &self.jurors, voting: &self.voting }
    }

    /// All of its judges, the first one first.
    pub fn judges(&self) -> impl Iterator<Item = &JudgeSpec> {
        std::iter::once(&self.judge).chain(self.jurors.iter().map(|juror| &juror.judge))
    }

    /// What all of its judges are called by `of`, such as their names.
    pub fn of_judges(&self, of: fn(&JudgeSpec) -> &str) -> String {
        self.judges().map(of).collect::<Vec<_>>().join(" + ")
    }

    /// The judge of this sample.
    pub fn judge_of(&self, sample: u32) -> &JudgeSpec {
        match self.ballot().voter(sample).checked_sub(1) {
            Some(juror) => &self.jurors[juror].judge,
            None => &self.judge,
        }
    }

    /// The same with this voter's judge and evidence in the place of the first one's. Voters are
    /// counted from 0, the run's first judge.
    pub fn of_voter(mut self, voter: usize) -> RunSpec {
        if let Some(juror) = voter.checked_sub(1).and_then(|juror| self.jurors.get(juror)).cloned()
        {
            self.judge = juror.judge;
            self.evidence = juror.evidence;
            self.selection = juror.selection;
        }
        self
    }
}

// === impl Ballot ===

impl Ballot<'_> {
    /// Whether a leaf has one vote, which is its outcome.
    pub fn is_single(&self) -> bool {
        self.samples == 1 && self.jurors.is_empty()
    }

    /// How many votes every leaf has: those of escalated leaves alone do not count.
    pub fn votes(&self) -> u32 {
        match self.voting {
            Voting::Escalated { .. } => self.samples,
            Voting::Majority | Voting::Weighted { .. } => self.most(),
        }
    }

    /// How many votes a leaf has at most.
    pub fn most(&self) -> u32 {
        self.samples + self.jurors.iter().map(|juror| juror.samples).sum::<u32>()
    }

    /// Who casts the vote with this sample's number: 0 is the run's first judge.
    pub fn voter(&self, sample: u32) -> usize {
        self.place(sample).0
    }

    /// Which of its voter's votes this sample is, from 0.
    pub fn own_sample(&self, sample: u32) -> u32 {
        self.place(sample).1
    }

    fn place(&self, sample: u32) -> (usize, u32) {
        let mut before = self.samples;
        if sample < before {
            return (0, sample);
        }
        for (juror, voter) in self.jurors.iter().zip(1..) {
            if sample < before + juror.samples {
                return (voter, sample - before);
            }
            before += juror.samples;
        }
        // More votes than the spec knows of: nobody's, and counted nowhere.
        (self.jurors.len(), sample - before)
    }

    /// What a vote of this sample weighs.
    pub fn weight(&self, sample: u32) -> f64 {
        match self.voting {
            Voting::Weighted { weights } => {
                weights.get(self.voter(sample)).copied().unwrap_or_default()
            }
            Voting::Majority | Voting::Escalated { .. } => 1.0,
        }
    }

    /// What these votes come to: pairs of a sample and its outcome, each sample at most once, in any
    /// order. A vote that is not among them was not cast yet.
    ///
    /// A leaf is graded when no vote that is missing could turn it. Where one could, the leaf's reason
    /// is why it is missing; an even vote is [`UngradedReason::Tied`]. Fractions, of subtrees graded
    /// as one, have no majority: their weighted mean is the score, once all are there.
    pub fn tally(&self, votes: &[(u32, Outcome)]) -> Tally {
        let plain = |outcome| Tally { outcome, escalates: false };
        let of = |from, to| self.count(votes, from, to);
        let Voting::Escalated { agreement } = self.voting else {
            return plain(of(0, self.most()));
        };
        let (first, others) = (self.samples, self.most());
        if votes.iter().any(|(sample, _)| (first..others).contains(sample)) {
            return plain(of(first, others));
        }
        let own = of(0, first);
        let stands = agreement.is_some_and(|wanted| self.agreement(votes, own) >= wanted - ALIKE);
        if stands {
            return plain(own);
        }
        let pending = Outcome::Ungraded { reason: UngradedReason::Pending };
        let cast =
            votes.iter().filter(|(sample, vote)| *sample < first && *vote != pending).count();
        Tally { outcome: pending, escalates: cast as u32 == first }
    }

    /// The vote that speaks for a leaf whose votes come to `outcome`: the first of those that count
    /// with its score or reason; of fractions, the first with a score. `None` where none does, as
    /// where votes are even.
    pub fn spokesman(&self, votes: &[(u32, Outcome)], outcome: Outcome) -> Option<usize> {
        let others = self.votes()..self.most();
        let sent_on = votes.iter().any(|(sample, _)| others.contains(sample));
        let counting = if sent_on { others } else { 0..self.most() };
        let mut own = votes.iter().enumerate().filter(|(_, (of, _))| counting.contains(of));
        let speaks = own.clone().find(|(_, (_, vote))| is_same(*vote, outcome));
        let graded = own.find(|(_, (_, vote))| vote.score().is_some() && outcome.score().is_some());
        speaks.or(graded).map(|(at, _)| at)
    }

    /// The share of the first judge's votes that are for this outcome; 0 where it is no score.
    pub fn agreement(&self, votes: &[(u32, Outcome)], outcome: Outcome) -> f64 {
        let Some(score) = outcome.score() else { return 0.0 };
        let alike = |vote: Outcome| is_same(vote, Outcome::Graded { score });
        let own = votes.iter().filter(|(sample, _)| *sample < self.samples);
        own.filter(|(_, vote)| alike(*vote)).count() as f64 / f64::from(self.samples)
    }

    /// The majority of the samples from `from` to before `to`.
    fn count(&self, votes: &[(u32, Outcome)], from: u32, to: u32) -> Outcome {
        let pending = Outcome::Ungraded { reason: UngradedReason::Pending };
        let cast = |sample| votes.iter().find(|(of, _)| *of == sample).map_or(pending, |v| v.1);
        if to == from + 1 {
            return cast(from);
        }
        let (mut passed, mut failed, mut missing, mut sum, mut all) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let mut fractions = false;
        let mut reasons: BTreeMap<UngradedReason, f64> = BTreeMap::new();
        for sample in from..to {
            let weight = self.weight(sample);
            all += weight;
            match cast(sample) {
                Outcome::Ungraded { reason } => {
                    missing += weight;
                    *reasons.entry(reason).or_default() += weight;
                }
                Outcome::Graded { score } => {
                    sum += weight * score;
                    match score {
                        1.0 => passed += weight,
                        0.0 => failed += weight,
                        _ => fractions = true,
                    }
                }
            }
        }
        let most = |reasons: BTreeMap<UngradedReason, f64>| {
            let pending =
                reasons.get_key_value(&UngradedReason::Pending).map(|(reason, _)| *reason);
            let most = reasons.into_iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
            pending.or(most.map(|(reason, _)| reason)).unwrap_or(UngradedReason::Tied)
        };
        let lead: f64 = passed - failed;
        if fractions && reasons.is_empty() && all > 0.0 {
            return Outcome::Graded { score: (sum / all).clamp(0.0, 1.0) };
        }
        if !fractions && lead.abs() > missing + ALIKE * all {
            return Outcome::Graded { score: if lead > 0.0 { 1.0 } else { 0.0 } };
        }
        Outcome::Ungraded { reason: most(reasons) }
    }
}

/// Whether two outcomes are the same, fractions being read and written as decimals in between.
pub fn is_same(a: Outcome, b: Outcome) -> bool {
    match (a, b) {
        (Outcome::Graded { score: a }, Outcome::Graded { score: b }) => (a - b).abs() < ALIKE,
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests;
