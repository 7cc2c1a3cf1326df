//! Successive halving: all candidates on some of the leaves, the best of them on more, and so on.
//!
//! Owns who is asked about how many leaves, who stays, and whom a limit refuses. Everybody in a rung,
//! the baseline too, is scored on the same leaves, and whoever is clearly behind the best of them there
//! is not asked further. (Hoeffding's races drop nobody at this size: ±0.38 at 50 leaves. In pairs the
//! leaves on which two agree say nothing against either.)

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tribunal_audit::metric::{
    dist::normal_quantile, paired::mcnemar::Discordant, winners_curse::optimism,
};

use crate::{
    answer::Table,
    labels::Labels,
    lead::is_clear,
    pareto::{Reached, pareto},
    sample::{Drawn, drawn, order},
    score::{Score, parts, score, shares},
    tuning::{Entry, Step},
};

/// The baseline's index among the candidates.
pub const BASELINE: usize = 0;

/// What a race keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rules {
    /// What a point of absolute root bias costs, in points of balanced accuracy.
    pub lambda: f64,
    /// How much of any category's specificity a candidate may lose against the baseline; one that
    /// has clearly lost more, at 95%, is dropped.
    pub specificity_loss: f64,
    /// How many times the baseline's cost a candidate may cost; null for no limit.
    pub cost_ratio: Option<f64>,
    /// The fewest leaves of a rung.
    pub fewest_leaves: usize,
    /// Resamples of the final test.
    pub resamples: usize,
}

/// A rung to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Candidates in it at most, the baseline not counted.
    pub candidates: usize,
    /// Leaves that each of them is asked about, those of earlier rungs included.
    pub leaves: usize,
}

/// What was seen of a candidate in a rung.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RungScore {
    /// Index of the candidate.
    pub candidate: usize,
    /// Its score.
    pub score: Score,
    /// The limit that it breaks; null where it breaks none.
    pub refused: Option<String>,
    /// Whether it is in the next rung, or has won.
    pub kept: bool,
}

/// A rung as it was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rung {
    /// Leaves of the sample.
    pub leaves: usize,
    /// The baseline first, then the others by their objective.
    pub scores: Vec<RungScore>,
}

/// A race that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Raced {
    /// Leaves of the pool.
    pub pool: usize,
    /// Candidates that cost too much to be asked at all.
    pub too_dear: Vec<usize>,
    /// The rungs.
    pub rungs: Vec<Rung>,
    /// The best one; null where none looks better than the baseline.
    pub winner: Option<usize>,
    /// What the winner is ahead of the baseline here. That it is the best makes this too large.
    pub lead: Option<f64>,
    /// By how much the best of as many equal candidates looks better than it is, at most.
    pub luck: Option<f64>,
    /// Candidates that no other beats in sensitivity, specificity and cost, each by its last rung.
    pub pareto: Vec<usize>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            lambda: 1.0,
            specificity_loss: 0.1,
            cost_ratio: None,
            fewest_leaves: 40,
            resamples: 2_000,
        }
    }
}

/// The rungs of a race of so many candidates, the baseline not counted, over a pool of leaves: all on a
/// quarter of the leaves, and at most half as many with each doubling, in four steps, down to two on
/// all. With fewer leaves at first, chance would drop the best too often.
pub fn schedule(candidates: usize, pool: usize, fewest: usize) -> Vec<Planned> {
    let mut rungs: Vec<Planned> = Vec::new();
    for step in 0..=LAST_STEP {
        let grown = 2_f64.powf(f64::from(step) / STEPS_A_DOUBLING);
        let leaves = ((pool as f64 * FIRST * grown).round() as usize).max(fewest).min(pool);
        let left = (candidates as f64 / grown).ceil() as usize;
        let left = left.max(candidates.min(FINALISTS));
        let before = rungs.last().map_or(0, |before| before.leaves);
        // A few leaves more say nothing new, but for the last ones.
        if leaves >= before + FEWEST_MORE || (leaves == pool && leaves > before) {
            rungs.push(Planned { candidates: left, leaves });
        }
    }
    rungs
}

/// The share of the leaves that the first rung sees.
const FIRST: f64 = 0.25;

/// Rungs until the leaves are doubled.
const STEPS_A_DOUBLING: f64 = 4.0;

/// The step at which all leaves are seen.
const LAST_STEP: u32 = 8;

/// By how many leaves a rung is larger than the one before.
const FEWEST_MORE: usize = 8;

/// Candidates that are never dropped for being many.
const FINALISTS: usize = 2;

/// Races these candidates over the pool as far as the table's answers go.
pub fn race(
    labels: &Labels,
    pool: &[usize],
    racers: &[usize],
    entries: &[Entry],
    table: &Table,
    rules: &Rules,
    seed: u64,
) -> Step<Raced> {
    let order = order(labels, pool, seed);
    let own = entries[BASELINE].cost;
    let dear = |candidate: &usize| {
        let ratio = rules.cost_ratio.zip(entries[*candidate].cost).zip(own);
        ratio.is_some_and(|((ratio, cost), own)| cost > ratio * own)
    };
    let (too_dear, mut left): (Vec<usize>, Vec<usize>) = racers.iter().partition(|c| dear(c));
    let mut rungs = Vec::new();
    let rungs_to_come = schedule(left.len(), pool.len(), rules.fewest_leaves);
    for (number, planned) in rungs_to_come.iter().enumerate() {
        let mut asked = vec![BASELINE];
        asked.extend(&left);
        let missing = table.missing(&asked, &order[..planned.leaves]);
        if !missing.is_empty() {
            return Step::Ask(missing);
        }
        let sample = drawn(labels, &order, planned.leaves);
        let shares = shares(labels, pool);
        let scored = Scored { labels, pool, shares, sample: &sample, table, rules };
        let keep = rungs_to_come.get(number + 1).map_or(1, |next| next.candidates);
        let rung = scored.rung(&left, keep);
        left = rung.scores[1..].iter().filter(|of| of.kept).map(|of| of.candidate).collect();
        rungs.push(rung);
        let decided = match left[..] {
            [] => true,
            // Alone, it is raced against the baseline until the lead over that one is clear too.
            [one] => scored.is_clear(one, BASELINE),
            _ => false,
        };
        if decided {
            break;
        }
    }
    Step::Done(ended(pool.len(), too_dear, rungs, entries))
}

fn ended(pool: usize, too_dear: Vec<usize>, rungs: Vec<Rung>, entries: &[Entry]) -> Raced {
    let mut raced =
        Raced { pool, too_dear, rungs, winner: None, lead: None, luck: None, pareto: Vec::new() };
    let last = raced.rungs.last().map(|rung| (rung.leaves, &rung.scores[..]));
    if let Some((leaves, [baseline, others @ ..])) = last {
        let best = others.iter().find(|of| of.kept);
        let lead = |of: &RungScore| Some(of.score.objective? - baseline.score.objective?);
        raced.lead = best.and_then(lead);
        raced.winner =
            best.filter(|of| lead(of).is_some_and(|lead| lead > 0.0)).map(|of| of.candidate);
        let raced_by = raced.rungs.first().map_or(0, |rung| rung.scores.len() - 1);
        let accuracy = baseline.score.balanced_accuracy;
        raced.luck =
            accuracy.and_then(|accuracy| optimism(raced_by as u32, accuracy, leaves as u64));
    }
    let mut last: BTreeMap<usize, &Score> = BTreeMap::new();
    for of in raced.rungs.iter().flat_map(|rung| &rung.scores) {
        last.insert(of.candidate, &of.score);
    }
    let reached: Vec<(usize, Reached)> = last
        .into_iter()
        .filter_map(|(candidate, score)| {
            let (sensitivity, specificity) = (score.sensitivity?, score.specificity?);
            Some((candidate, Reached { sensitivity, specificity, cost: entries[candidate].cost }))
        })
        .collect();
    let all: Vec<Reached> = reached.iter().map(|(_, reached)| *reached).collect();
    raced.pareto = pareto(&all).into_iter().map(|at| reached[at].0).collect();
    raced
}

/// A rung's leaves and answers.
struct Scored<'r> {
    labels: &'r Labels,
    pool: &'r [usize],
    /// Of each submission, the share of its root that the pool has.
    shares: Vec<f64>,
    sample: &'r [Drawn],
    table: &'r Table,
    rules: &'r Rules,
}

// === impl Scored ===

impl Scored<'_> {
    fn score(&self, candidate: usize) -> Score {
        let answer = |leaf| self.table.get(candidate, leaf);
        score(self.labels, self.pool, self.sample, answer, self.rules.lambda)
    }

    /// What each leaf adds to the candidate's objective.
    fn parts(&self, candidate: usize) -> Vec<f64> {
        let answer = |leaf| self.table.get(candidate, leaf);
        parts(self.labels, &self.shares, self.sample, answer, self.rules.lambda)
    }

    fn is_clear(&self, first: usize, second: usize) -> bool {
        is_clear(&self.parts(first), &self.parts(second))
    }

    fn rung(&self, candidates: &[usize], keep: usize) -> Rung {
        let baseline = self.score(BASELINE);
        let mut others: Vec<RungScore> = candidates
            .iter()
            .map(|candidate| {
                let score = self.score(*candidate);
                let refused = self.loses(&baseline, &score, *candidate);
                RungScore { candidate: *candidate, score, refused, kept: false }
            })
            .collect();
        let objective = |of: &RungScore| of.score.objective.unwrap_or(f64::NEG_INFINITY);
        others.sort_by(|a, b| objective(b).total_cmp(&objective(a)));
        let baseline =
            RungScore { candidate: BASELINE, score: baseline, refused: None, kept: true };
        let allowed = others.iter().find(|of| of.refused.is_none());
        let best = allowed.filter(|of| objective(of) > objective(&baseline)).unwrap_or(&baseline);
        let best = self.parts(best.candidate);
        for of in others.iter_mut().filter(|of| of.refused.is_none()).take(keep) {
            of.kept = !is_clear(&best, &self.parts(of.candidate));
        }
        let mut scores = vec![baseline];
        scores.append(&mut others);
        Rung { leaves: self.sample.len(), scores }
    }

    /// The category whose specificity the candidate has clearly lost too much of.
    fn loses(&self, baseline: &Score, score: &Score, candidate: usize) -> Option<String> {
        let mut pairs: BTreeMap<&str, Vec<(bool, bool)>> = BTreeMap::new();
        for drawn in self.sample {
            let leaf = &self.labels.leaves[drawn.leaf];
            let failed = |candidate| {
                let answer = self.table.get(candidate, drawn.leaf)?;
                Some(!answer.verdict(leaf.human))
            };
            if let (false, Some(first), Some(second)) =
                (leaf.human, failed(BASELINE), failed(candidate))
            {
                pairs.entry(&leaf.category).or_default().push((first, second));
            }
        }
        let one_sided = normal_quantile(0.95);
        pairs.into_iter().find_map(|(category, pairs)| {
            let before = baseline.specificity_by_category.get(category)?;
            let after = score.specificity_by_category.get(category)?;
            let count = pairs.len() as f64;
            let differ = Discordant::count(pairs);
            let error = ((differ.first + differ.second) as f64).sqrt() / count;
            let lost = before - after;
            (lost - one_sided * error > self.rules.specificity_loss)
                .then(|| format!("specificity of {category}: {:.1} points lost", lost * 100.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many questions such a race asks at most, those about the baseline included.
    fn questions(rungs: &[Planned]) -> usize {
        let leaves =
            |at: usize| rungs[at].leaves - at.checked_sub(1).map_or(0, |at| rungs[at].leaves);
        (0..rungs.len()).map(|at| (rungs[at].candidates + 1) * leaves(at)).sum()
    }

    #[test]
    fn candidates_are_halved_with_each_doubling() {
        for candidates in 4..40 {
            let rungs = schedule(candidates, 1_000, 40);
            assert_eq!(rungs.first(), Some(&Planned { candidates, leaves: 250 }));
            assert_eq!(rungs[4], Planned { candidates: candidates.div_ceil(2), leaves: 500 });
            assert_eq!(
                rungs[8],
                Planned { candidates: candidates.div_ceil(4).max(2), leaves: 1_000 }
            );
            let falls = |pair: &[Planned]| {
                pair[0].leaves < pair[1].leaves && pair[0].candidates >= pair[1].candidates
            };
            assert!(rungs.windows(2).all(falls), "{rungs:?}");
            // Where all are alike; of unlike ones most go before.
            let full = (candidates + 1) * 1_000;
            assert!(4 * questions(&rungs) <= 3 * full || candidates < 7, "{candidates}: {rungs:?}");
        }
        assert_eq!(schedule(9, 30, 40), [Planned { candidates: 9, leaves: 30 }]);
        let small = schedule(1, 64, 40);
        assert_eq!(small.iter().map(|rung| rung.leaves).collect::<Vec<_>>(), [40, 54, 64]);
        assert_eq!(schedule(3, 0, 40), []);
    }
}
