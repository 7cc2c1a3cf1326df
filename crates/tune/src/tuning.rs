//! A tuning as a whole: the races of its folds, then the one test.
//!
//! Owns which candidate may run in which fold, and who the winner is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    answer::{Table, Wanted},
    final_test::{FinalTest, final_test},
    labels::Labels,
    race::{BASELINE, Raced, Rules, race, schedule},
    sample::order,
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

/// What is asked at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Most {
    /// Questions of the races.
    pub raced: usize,
    /// Those that the test asks besides.
    pub tested: usize,
    /// US dollars of both; null where a cost is not known.
    pub usd: Option<f64>,
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
        let to_run = self.races_to_run();
        let all = to_run.iter().map(|(papers, test)| self.race(papers, test, table));
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
        let overall = if done.len() > self.split.folds().len() { done.pop() } else { None };
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

    /// The races, each as its papers and those that it is tested on.
    fn races_to_run(&self) -> Vec<(Vec<usize>, Vec<usize>)> {
        let folds = self.split.folds().into_iter().map(|Fold { dev, test, .. }| (dev, test));
        let mut all: Vec<(Vec<usize>, Vec<usize>)> = folds.collect();
        if matches!(self.split, Split::LeaveOnePaperOut { .. }) {
            all.push(((0..self.labels.papers.len()).collect(), Vec::new()));
        }
        all
    }

    /// What races and test ask at most. Nobody is asked twice about a leaf: what one race has asked,
    /// another one and the test know.
    pub fn planned(&self) -> Most {
        let leaves = self.labels.leaves.len();
        // Candidates that are asked about a leaf at most, by races; then by the test alone.
        let (mut raced, mut tested) = (vec![0; leaves], vec![0; leaves]);
        for (papers, test) in self.races_to_run() {
            let order = order(self.labels, &self.labels.of_papers(&papers), self.seed);
            let rungs = schedule(self.racers(&test).len(), order.len(), self.rules.fewest_leaves);
            let mut before = 0;
            for rung in rungs {
                order[before..rung.leaves].iter().for_each(|leaf| raced[*leaf] += rung.candidates);
                before = rung.leaves;
            }
            self.labels.of_papers(&test).into_iter().for_each(|leaf| tested[leaf] += 1);
        }
        let racers = self.entries.len().saturating_sub(1);
        // Of any number of candidates the dearest ones.
        let own = self.entries.first().and_then(|of| of.cost);
        let mut costs: Vec<f64> =
            self.entries.iter().skip(BASELINE + 1).filter_map(|of| of.cost).collect();
        costs.sort_by(|a, b| b.total_cmp(a));
        let known = costs.len() == racers;
        let (mut most, mut usd) = (Most { raced: 0, tested: 0, usd: None }, 0.0);
        for (raced, tested) in raced.into_iter().zip(tested) {
            let by_race = raced.min(racers);
            let by_all = (raced + tested).min(racers);
            let baseline = (usize::from(raced > 0), usize::from(raced + tested > 0));
            most.raced += baseline.0 + by_race;
            most.tested += baseline.1 - baseline.0 + by_all - by_race;
            usd += baseline.1 as f64 * own.unwrap_or(0.0);
            usd += costs.iter().take(by_all).sum::<f64>();
        }
        most.usd = own.filter(|_| known).map(|_| usd);
        most
    }

    /// Questions behind these races and, where any of them has a winner, their test.
    pub fn asked(&self, races: &Races) -> usize {
        let leaves = self.labels.leaves.len();
        let mut asked = vec![false; leaves * self.entries.len()];
        let all = races.folds.iter().chain(&races.overall);
        for ((papers, _), raced) in self.races_to_run().into_iter().zip(all) {
            let order = order(self.labels, &self.labels.of_papers(&papers), self.seed);
            for rung in &raced.rungs {
                for (of, leaf) in rung
                    .scores
                    .iter()
                    .flat_map(|of| order[..rung.leaves].iter().map(move |leaf| (of, *leaf)))
                {
                    asked[of.candidate * leaves + leaf] = true;
                }
            }
        }
        if races.any_winner() {
            for (leaf, winner) in self.tested(races) {
                asked[BASELINE * leaves + leaf] = true;
                asked[winner * leaves + leaf] = true;
            }
        }
        asked.into_iter().filter(|asked| *asked).count()
    }
}
