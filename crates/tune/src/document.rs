//! `tune.json`: everything a tuning has come to.
//!
//! Owns the document's shape. Filling it is the caller's, showing it the report's.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    final_test::FinalTest,
    noise::{NoiseFloor, Visible},
    power::Power,
    race::Rules,
    split::Split,
    tuning::Races,
};

/// How far a tuning has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TuneState {
    /// It has its answer.
    Complete,
    /// Its budget, or its judge, ended it before; the same command goes on.
    Incomplete,
    /// A signal ended it; the same command goes on.
    Interrupted,
    /// Its judge's account or endpoint refuses.
    Paused,
}

/// A candidate: a judge's configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CandidateDocument {
    /// Its name: the prompt set and what differs from the configuration.
    pub name: String,
    /// The prompt set: a built-in name or a folder.
    pub prompt_set: String,
    /// Hash of the prompt set's files.
    pub prompt_hash: String,
    /// What differs from the configuration, by factor.
    pub factors: BTreeMap<String, String>,
    /// The candidate that it was made from; null for one that was given.
    pub parent: Option<String>,
    /// Why it was made so, in the proposer's words.
    pub reason: Option<String>,
    /// The papers that it was made from.
    pub seen: Vec<String>,
    /// What a leaf is expected to cost, in US dollars; null where no price is known.
    pub usd_a_leaf: Option<f64>,
    /// Its runs in the store, by submission.
    pub runs: BTreeMap<String, String>,
}

/// A leaf on which baseline and winner differ, with the words of all three.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlipDocument {
    /// The submission.
    pub submission: String,
    /// 0-based leaf index.
    pub index: u32,
    /// The leaf's id.
    pub id: String,
    /// Its requirement type.
    pub category: String,
    /// Its share of the root.
    pub weight: f64,
    /// Whether the human passed it.
    pub human: bool,
    /// Whether the winner is the one who is right.
    pub gained: bool,
    /// The criterion.
    pub requirements: String,
    /// The human's words.
    pub human_explanation: String,
    /// The baseline's words.
    pub baseline_explanation: String,
    /// The winner's words.
    pub winner_explanation: String,
}

/// A line of a text that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffLine {
    /// The baseline's line; null for one that is new.
    pub before: Option<String>,
    /// The winner's line; null for one that is gone.
    pub after: Option<String>,
}

/// What was expected of a tuning before its first call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Projection {
    /// Questions about leaves, at most: repeats, races and test.
    pub questions: usize,
    /// The same on average over simulated tunings.
    pub expected_questions: usize,
    /// The same with a race in which every candidate is asked about every leaf.
    pub full_factorial: usize,
    /// Proposals asked for.
    pub proposals: usize,
    /// US dollars at most; null where a price is not known.
    pub cost_usd: Option<f64>,
    /// US dollars for the expected questions; null where a price is not known.
    pub expected_cost_usd: Option<f64>,
}

/// What a tuning has used, over all of its commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spent {
    /// Calls with a usable reply for verdicts.
    pub judge_calls: u64,
    /// Calls for rankings of files.
    pub rank_calls: u64,
    /// Second questions after bad replies.
    pub repair_calls: u64,
    /// Calls to the proposer.
    pub proposer_calls: u64,
    /// Verdicts taken over from other runs.
    pub reused: u64,
    /// US dollars of judge and proposer; null where a price is not known.
    pub cost_usd: Option<f64>,
}

/// What the ledger counts, over all tunings that keep it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerDocument {
    /// Looks at a test set, each comparison once.
    pub looks: usize,
    /// Tunings.
    pub tunings: usize,
    /// Calls to judges and proposers. What a killed command paid is here from the next step of a tuning
    /// with the same runs on.
    pub calls: u64,
    /// US dollars; null where a price is not known.
    pub cost_usd: Option<f64>,
}

/// Looks at the sealed test set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sealed {
    /// Hash of the test leaves' names.
    pub hash: String,
    /// Papers of the test.
    pub papers: Vec<String>,
    /// Leaves of the test.
    pub leaves: usize,
    /// Looks at it so far, this one included.
    pub looks: usize,
}

/// The document of `tribunal tune`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TuneDocument {
    /// The tuning's id: a hash of its labels, candidates and rules.
    pub tuning: String,
    /// How far it has come.
    pub state: TuneState,
    /// What ended it before its end; null where nothing did.
    pub ended_by: Option<String>,
    /// Whether a simulated judge answered.
    pub simulated: bool,
    /// The judge's name in the config.
    pub judge: String,
    /// Labelled leaves that are raced or tested on.
    pub leaves: usize,
    /// Papers, in the order of the numbers in `split` and elsewhere.
    pub papers: Vec<String>,
    /// How the papers are used.
    pub split: Split,
    /// The test set.
    pub sealed: Sealed,
    /// The rules.
    pub rules: Rules,
    /// Seed of every draw.
    pub seed: u64,
    /// The candidates, the baseline first; others name them by their place here.
    pub candidates: Vec<CandidateDocument>,
    /// What was expected.
    pub projection: Projection,
    /// What the test can show.
    pub visible: Visible,
    /// How often this tuning would find a candidate that is better by the effect wanted, by what is
    /// known of the baseline by now; null where none is wanted.
    pub power: Option<Power>,
    /// The same as it was announced before the first call.
    pub power_before: Option<Power>,
    /// The baseline against itself; null where it was not repeated yet.
    pub noise: Option<NoiseFloor>,
    /// The races; null where they have not ended.
    pub races: Option<Races>,
    /// The winner's place; null where no candidate looked better than the baseline.
    pub winner: Option<usize>,
    /// The one test; null where it was not made.
    pub test: Option<FinalTest>,
    /// The answer: improved, not shown or worse, with how far it reaches; null where there is none yet.
    pub answer: Option<String>,
    /// Test leaves on which baseline and winner differ.
    pub flips: Vec<FlipDocument>,
    /// What differs between the prompts of baseline and winner, by file.
    pub prompt_diff: BTreeMap<String, Vec<DiffLine>>,
    /// What it has used so far.
    pub spent: Spent,
    /// What all tunings of the ledger have used.
    pub ledger: LedgerDocument,
    /// What one has to know to read this.
    pub notes: Vec<String>,
    /// Where the files are.
    pub out: String,
    /// The winning set as a folder for `--prompt-set`; null where there is no winner.
    pub winning_set: Option<String>,
}

/// The lines of two texts set side by side, by their longest common subsequence.
pub fn diff(before: &str, after: &str) -> Vec<DiffLine> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    let mut line = |before: Option<&str>, after: Option<&str>| {
        lines.push(DiffLine { before: before.map(str::to_owned), after: after.map(str::to_owned) });
    };
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            line(Some(old[i]), Some(new[j]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            line(Some(old[i]), None);
            i += 1;
        } else {
            line(None, Some(new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_holds_both_texts_in_order() {
        let lines = diff("a\nb\nc", "a\nx\nc\nd");
        let side = |of: fn(&DiffLine) -> &Option<String>| -> Vec<&str> {
            lines.iter().filter_map(|line| of(line).as_deref()).collect()
        };
        assert_eq!(side(|line| &line.before), ["a", "b", "c"]);
        assert_eq!(side(|line| &line.after), ["a", "x", "c", "d"]);
        let same = lines.iter().filter(|line| line.before == line.after).count();
        assert_eq!(same, 2);
        assert!(diff("", "").is_empty());
    }
}
