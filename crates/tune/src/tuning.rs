//! A tuning as a whole: the races of its folds, then the one test.
//!
//! Owns which candidate may run in which fold, and who the winner is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    answer::{Table, Wanted},
    final_test::{FinalTest, final_test},
    labels::Labels,
    race::{BASELINE, Raced, Rules, questions, race, schedule},
    split::{Fold, Split},
};

/// A candidate, as far as a tuning knows it. The first of all is the baseline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Papers that it was made from: it runs in no fold that tests on one of them.
    pub seen: Vec<usize>,
    /// What a leaf is expected to cost with it, in US dollars.
    pub cost: Option<f64>,
}

/// What is next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<T> {
    /// These answers are needed first.
    Ask(Vec<Wanted>),
    /// It has come to this.
    Done(T),
}

/// Every race of a tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Races {
    /// The race of each fold.
    pub folds: Vec<Raced>,
    /// Where each paper is left out in turn, the race over all papers, which names the winner.
    pub overall: Option<Raced>,
}

/// A tuning's labels, candidates and rules.
#[derive(Clone, Copy, Debug)]
pub struct Tuning<'t> {
    /// All labelled leaves.
    pub labels: &'t Labels,
    /// How the papers are used.
    pub split: &'t Split,
    /// The candidates, the baseline first.
    pub entries: &'t [Entry],
    /// What races and test keep to.
    pub rules: &'t Rules,
    /// Seed of every draw.
    pub seed: u64,
}

// === impl Races ===

impl Races {
    /// The candidate that the tuning proposes.
    pub fn winner(&self) -> Option<usize> {
        match &self.overall {
            Some(overall) => overall.winner,
            None => self.folds.first().and_then(|raced| raced.winner),
        }
    }

    /// Whether there is anything to be tested.
    pub fn any_winner(&self) -> bool {
        self.folds.iter().any(|raced| raced.winner.is_some())
    }

    /// The race that names the winner.
    pub fn deciding(&self) -> Option<&Raced> {
        self.overall.as_ref().or(self.folds.first())
    }
}

// === impl Tuning ===

impl Tuning<'_> {
    /// The candidates that may run where these papers are tested on.
    fn racers(&self, test: &[usize]) -> Vec<usize> {
        let may = |entry: &Entry| !entry.seen.iter().any(|paper| test.contains(paper));
        let all = self.entries.iter().enumerate().skip(BASELINE + 1);
        all.filter(|(_, entry)| may(entry)).map(|(at, _)| at).collect()
    }

    fn race(&self, papers: &[usize], test: &[usize], table: &Table) -> Step<Raced> {
        let (pool, racers) = (self.labels.of_papers(papers), self.racers(test));
        race(self.labels, &pool, &racers, self.entries, table, self.rules, self.seed)
    }

    /// All races, as far as the answers go. Questions of several races are wanted together.
    pub fn races(&self, table: &Table) -> Step<Races> {
        let folds = self.split.folds();
        let mut all: Vec<Step<Raced>> =
            folds.iter().map(|fold| self.race(&fold.dev, &fold.test, table)).collect();
        let leaves_out = matches!(self.split, Split::LeaveOnePaperOut { .. });
        if leaves_out {
            let papers: Vec<usize> = (0..self.labels.papers.len()).collect();
            all.push(self.race(&papers, &[], table));
        }
        let (mut wanted, mut done) = (Vec::new(), Vec::new());
        for step in all {
            match step {
                Step::Ask(questions) => wanted.extend(questions),
                Step::Done(raced) => done.push(raced),
            }
        }
        if !wanted.is_empty() {
            wanted.sort_unstable();
            wanted.dedup();
            return Step::Ask(wanted);
        }
        let overall = if leaves_out { done.pop() } else { None };
        Step::Done(Races { folds: done, overall })
    }

    /// The test leaves, and for each the candidate that its fold chose: the baseline where it chose
    /// none.
    fn tested(&self, races: &Races) -> Vec<(usize, usize)> {
        let folds = self.split.folds().into_iter().zip(&races.folds);
        folds
            .flat_map(|(Fold { test, .. }, raced)| {
                let winner = raced.winner.unwrap_or(BASELINE);
                self.labels.of_papers(&test).into_iter().map(move |leaf| (leaf, winner))
            })
            .collect()
    }

    /// The one test of what these races chose.
    pub fn test(&self, races: &Races, table: &Table) -> Step<FinalTest> {
        let mut tested = self.tested(races);
        tested.sort_unstable();
        let of = |candidate: usize, leaf: usize| table.missing(&[candidate], &[leaf]);
        let mut wanted: Vec<Wanted> = tested
            .iter()
            .flat_map(|(leaf, winner)| [of(BASELINE, *leaf), of(*winner, *leaf)])
            .flatten()
            .collect();
        if !wanted.is_empty() {
            wanted.sort_unstable();
            wanted.dedup();
            return Step::Ask(wanted);
        }
        let leaves: Vec<usize> = tested.iter().map(|(leaf, _)| *leaf).collect();
        let winner = |leaf: usize| {
            let place = tested.binary_search_by_key(&leaf, |(leaf, _)| *leaf);
            place.map_or(BASELINE, |place| tested[place].1)
        };
        Step::Done(final_test(self.labels, &leaves, winner, table, self.rules, self.seed))
    }

    /// Questions that the races ask at most, and those that the test asks besides.
    pub fn planned(&self) -> (usize, usize) {
        let papers = self.labels.papers.len();
        let count = |papers: &[usize]| self.labels.of_papers(papers).len();
        let racers = self.entries.len().saturating_sub(1);
        let rungs = |pool: usize| questions(&schedule(racers, pool, self.rules.fewest_leaves));
        match self.split {
            Split::Papers { dev, test, .. } => (rungs(count(dev)), 2 * count(test)),
            // The folds' samples overlap, and nobody is asked twice about a leaf.
            Split::LeaveOnePaperOut { .. } => {
                let all = count(&(0..papers).collect::<Vec<_>>());
                let folds = self.split.folds();
                let raced: usize = folds.iter().map(|fold| rungs(count(&fold.dev))).sum();
                ((raced + rungs(all) + 2 * all).min(self.entries.len() * all), 0)
            }
        }
    }
}
