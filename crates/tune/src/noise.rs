//! What can be seen at all: the baseline's own flips, and the smallest effect that the test shows.
//!
//! Owns the noise floor and how it and the number of test leaves bound what a tuning can say. The
//! formulas are the audit's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tribunal_audit::metric::{
    plan::smallest_effect,
    reliability::{Votes, reliability},
};

/// The share of leaves on which two prompts are taken to differ, where nothing is known.
pub const DISCORDANT: f64 = 0.15;

/// How far the baseline agrees with itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoiseFloor {
    /// Leaves that were asked about more than once.
    pub leaves: usize,
    /// How often each was asked about.
    pub repeats: u32,
    /// Share of votes that differ from their leaf's majority.
    pub flip_rate: f64,
    /// The chance that two votes on one leaf differ.
    pub disagreement: f64,
    /// Fleiss' kappa; null where every vote is the same.
    pub fleiss_kappa: Option<f64>,
}

/// What the test can show.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Visible {
    /// Labelled leaves of the test papers.
    pub leaves: usize,
    /// As many leaves, half of them passed, say as much about balanced accuracy.
    pub balanced_leaves: f64,
    /// The share of leaves on which two prompts are taken to differ.
    pub discordant: f64,
    /// The smallest difference of balanced accuracy that is shown in 80 of 100 tunings.
    pub smallest_effect: Option<f64>,
}

// === impl NoiseFloor ===

impl NoiseFloor {
    /// From (passes, votes) of each leaf; `None` where no leaf has two votes.
    pub fn of(votes: &[(u32, u32)]) -> Option<NoiseFloor> {
        let votes: Vec<Votes> =
            votes.iter().map(|(passes, votes)| Votes { passes: *passes, votes: *votes }).collect();
        let found = reliability(&votes)?;
        Some(NoiseFloor {
            leaves: found.leaves,
            repeats: votes.iter().map(|votes| votes.votes).max().unwrap_or(0),
            flip_rate: found.flip_rate,
            disagreement: 1.0 - found.pairwise_agreement,
            fleiss_kappa: found.fleiss_kappa,
        })
    }
}

// === impl Visible ===

impl Visible {
    /// What `passed` and `failed` test leaves show. Prompts differ at least as much as the baseline
    /// does from itself.
    pub fn of((passed, failed): (usize, usize), noise: Option<&NoiseFloor>) -> Visible {
        let discordant = noise.map_or(DISCORDANT, |noise| noise.disagreement.max(DISCORDANT));
        let (passed_n, failed_n) = (passed as f64, failed as f64);
        // The variance of a mean of two rates is a quarter of the sum of theirs.
        let balanced =
            if passed > 0 && failed > 0 { 4.0 / (1.0 / passed_n + 1.0 / failed_n) } else { 0.0 };
        Visible {
            leaves: passed + failed,
            balanced_leaves: balanced,
            discordant,
            smallest_effect: smallest_effect(discordant, 1.0, balanced),
        }
    }
}
