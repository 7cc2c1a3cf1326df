//! What candidates said about leaves.
//!
//! Owns the table of answers and how one that could not be read counts: as wrong.

use serde::{Deserialize, Serialize};

/// A candidate's answer about a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It passes the leaf.
    Pass,
    /// It fails the leaf.
    Fail,
    /// No score could be made of what it said.
    Unparsed,
}

/// A question whose answer is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Index of the candidate.
    pub candidate: usize,
    /// Index of the leaf.
    pub leaf: usize,
}

/// Answers by candidate and leaf.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    leaves: usize,
    answers: Vec<Vec<Option<Answer>>>,
}

// === impl Answer ===

impl Answer {
    /// What it counts as where the human said `human`: an unparsed one is wrong.
    pub fn verdict(self, human: bool) -> bool {
        match self {
            Answer::Pass => true,
            Answer::Fail => false,
            Answer::Unparsed => !human,
        }
    }
}

// === impl Table ===

impl Table {
    /// An empty table over so many leaves.
    pub fn new(leaves: usize) -> Table {
        Table { leaves, answers: Vec::new() }
    }

    /// What this candidate said about the leaf, if it was asked.
    pub fn get(&self, candidate: usize, leaf: usize) -> Option<Answer> {
        self.answers.get(candidate)?.get(leaf).copied().flatten()
    }

    /// Records an answer; a second one about the same takes the place of the first.
    pub fn set(&mut self, wanted: Wanted, answer: Answer) {
        while self.answers.len() <= wanted.candidate {
            self.answers.push(vec![None; self.leaves]);
        }
        self.answers[wanted.candidate][wanted.leaf] = Some(answer);
    }

    /// Those of these candidates' leaves that have no answer yet.
    pub fn missing(&self, candidates: &[usize], leaves: &[usize]) -> Vec<Wanted> {
        let all = candidates.iter().flat_map(|candidate| {
            leaves.iter().map(|leaf| Wanted { candidate: *candidate, leaf: *leaf })
        });
        all.filter(|wanted| self.get(wanted.candidate, wanted.leaf).is_none()).collect()
    }

    /// All answers.
    pub fn count(&self) -> usize {
        self.answers.iter().flatten().flatten().count()
    }
}
