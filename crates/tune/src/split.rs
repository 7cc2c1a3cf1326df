//! Which papers a tuning may learn from, and which are sealed for its one test.
//!
//! Owns the split, by paper and never by leaf, and the seal: a hash of the test leaves' names, by
//! which looks at them are counted. With few papers each is the test of a race over the others, and
//! the test is then of the way the winner is found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{labels::Labels, random::Random};

/// Papers below which each is left out in turn.
pub const FEWEST_PAPERS: usize = 6;

/// How the papers are used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Split {
    /// Each paper for one use.
    Papers {
        /// Proposals see these.
        train: Vec<usize>,
        /// Candidates are raced on these.
        dev: Vec<usize>,
        /// The winner is tested on these, once.
        test: Vec<usize>,
    },
    /// Every paper is the test of a race over the others.
    LeaveOnePaperOut {
        /// How many papers there are.
        papers: usize,
    },
}

/// A race and its test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    /// Papers that proposals may be made from.
    pub train: Vec<usize>,
    /// Papers of the race.
    pub dev: Vec<usize>,
    /// Papers of the test.
    pub test: Vec<usize>,
}

/// The shares of the leaves that train, dev and test are to have.
const SHARES: [f64; 3] = [0.2, 0.4, 0.4];

/// The same where nothing is learned from train.
const SHARES_WITHOUT_TRAIN: [f64; 3] = [0.0, 0.5, 0.5];

// === impl Split ===

impl Split {
    /// Splits the papers; `None` where there are fewer than two, and nothing can be said of another one.
    pub fn of(labels: &Labels, proposes: bool, seed: u64) -> Option<Split> {
        let papers = labels.papers.len();
        if papers < 2 {
            return None;
        }
        if papers < FEWEST_PAPERS {
            return Some(Split::LeaveOnePaperOut { papers });
        }
        let mut sizes = vec![0_usize; papers];
        labels.leaves.iter().for_each(|leaf| sizes[leaf.paper] += 1);
        let mut random = Random::new(seed, "split");
        let mut drawn: Vec<(f64, usize)> = (0..papers).map(|at| (random.uniform(), at)).collect();
        drawn.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted = if proposes { SHARES } else { SHARES_WITHOUT_TRAIN };
        let all = labels.leaves.len().max(1) as f64;
        let mut parts: [(f64, Vec<usize>); 3] = Default::default();
        for (_, paper) in drawn {
            let behind = |part: usize| wanted[part] - parts[part].0 / all;
            let neediest =
                (0..3).max_by(|a, b| behind(*a).total_cmp(&behind(*b))).unwrap_or_default();
            parts[neediest].0 += sizes[paper] as f64;
            parts[neediest].1.push(paper);
        }
        let [train, dev, test] = parts.map(|(_, mut papers)| {
            papers.sort_unstable();
            papers
        });
        Some(Split::Papers { train, dev, test })
    }

    /// The races and their tests.
    pub fn folds(&self) -> Vec<Fold> {
        match self {
            Split::Papers { train, dev, test } => {
                vec![Fold { train: train.clone(), dev: dev.clone(), test: test.clone() }]
            }
            Split::LeaveOnePaperOut { papers } => {
                let fold = |out: usize| {
                    let others: Vec<usize> = (0..*papers).filter(|paper| *paper != out).collect();
                    Fold { train: others.clone(), dev: others, test: vec![out] }
                };
                (0..*papers).map(fold).collect()
            }
        }
    }

    /// The papers that are tested on.
    pub fn test_papers(&self) -> Vec<usize> {
        self.folds().into_iter().flat_map(|fold| fold.test).collect()
    }

    /// The hash of the test leaves' names: 64 hex digits.
    pub fn seal(&self, labels: &Labels) -> String {
        let mut names: Vec<&str> = labels
            .of_papers(&self.test_papers())
            .into_iter()
            .map(|leaf| labels.leaves[leaf].name.as_str())
            .collect();
        names.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for name in names {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
        }
        hasher.finalize().to_string()
    }
}
