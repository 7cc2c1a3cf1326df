//! Grades of the same leaves, brought together.
//!
//! Owns what a paired leaf is, and what several humans or several samples of a judge agree on.
//! How trees are paired is [`tree`], files [`path`], rows of a table [`table`].

pub mod path;
pub mod table;
pub mod tree;

use std::collections::BTreeMap;

use crate::tree::LeafGrade;

/// Graded work: a tree, or the rows of a table with the same group and system.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// Its name: the path that the files share, or group and system.
    pub name: String,
    /// The paper, or whatever else makes leaves depend on each other.
    pub paper: String,
    /// What made the graded work, where that is known.
    pub system: Option<String>,
    /// The root's children; empty for a table.
    pub first_level: Vec<FirstLevel>,
}

/// A child of a root.
#[derive(Clone, Debug, PartialEq)]
pub struct FirstLevel {
    /// The node's id.
    pub id: String,
    /// Its share of the root, in [0, 1].
    pub share: f64,
}

/// A leaf with everybody's grades.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// Index of its submission.
    pub submission: usize,
    /// 0-based leaf index in the unpruned rubric, or the table's row.
    pub index: u32,
    /// Its id.
    pub id: String,
    /// The criterion; empty for a table.
    pub requirements: String,
    /// The requirement type.
    pub category: String,
    /// Its share of the root, in [0, 1].
    pub weight: f64,
    /// Which child of the root it is below.
    pub first_level: Option<usize>,
    /// Each human's grade.
    pub humans: Vec<LeafGrade>,
    /// For each judge, its samples; none where the judge was not asked.
    pub judges: Vec<Vec<LeafGrade>>,
    /// The probability with which the leaf was drawn to be labelled, where it was drawn at random.
    pub pi: Option<f64>,
}

/// What one or more grades come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Consensus {
    /// Nobody gave a valid grade.
    Missing,
    /// As many passed it as failed it.
    Tied,
    /// A score in [0, 1]: 0 or 1, except where a grader gave a fraction.
    Score(f64),
}

/// Leaves of one or more submissions, with the grades of humans and of one or more judges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Paired {
    /// The submissions.
    pub submissions: Vec<Submission>,
    /// All leaves, submission by submission, in depth-first order.
    pub leaves: Vec<Leaf>,
    /// The judges' names.
    pub judges: Vec<String>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// Grades that cannot be brought together.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// Leaves of one tree have no counterpart in the other.
    #[error(
        "{left} and {right} cannot be paired: {count} leaves of {of} have no counterpart, by \
         position or by an id that occurs once: {shown}"
    )]
    Leaves {
        /// The tree that the other is paired with.
        left: String,
        /// The other tree.
        right: String,
        /// The tree whose leaves are left over.
        of: String,
        /// How many.
        count: usize,
        /// The first of them, as `#index id`.
        shown: String,
    },
    /// A file has no partner, or several.
    #[error("{0}")]
    Files(String),
    /// A table cannot be read.
    #[error("{file}{}: {message}", row.map_or_else(String::new, |row| format!(":{row}")))]
    Table {
        /// The file.
        file: String,
        /// 1-based line, where one is to blame.
        row: Option<u64>,
        /// What is wrong and what is expected.
        message: String,
    },
}

// === impl Consensus ===

impl Consensus {
    /// The majority of valid grades; the mean where any of them is a fraction.
    pub fn of(grades: &[LeafGrade]) -> Consensus {
        let scores: Vec<f64> = grades.iter().filter_map(|grade| grade.score).collect();
        let Some(mean) = crate::metric::mean(&scores) else {
            return Consensus::Missing;
        };
        let binary = scores.iter().all(|score| *score == 0.0 || *score == 1.0);
        match mean {
            mean if !binary => Consensus::Score(mean),
            0.5 => Consensus::Tied,
            mean => Consensus::Score(f64::from(mean > 0.5)),
        }
    }

    /// The score, if there is one.
    pub fn score(self) -> Option<f64> {
        match self {
            Consensus::Score(score) => Some(score),
            Consensus::Missing | Consensus::Tied => None,
        }
    }

    /// Passed or failed; `None` also for a fraction.
    pub fn pass(self) -> Option<bool> {
        match self.score()? {
            0.0 => Some(false),
            1.0 => Some(true),
            _ => None,
        }
    }
}

// === impl Leaf ===

impl Leaf {
    /// What the humans say.
    pub fn human(&self) -> Consensus {
        Consensus::of(&self.humans)
    }

    /// What the judge at this index says.
    pub fn judge(&self, judge: usize) -> Consensus {
        self.judges.get(judge).map_or(Consensus::Missing, |samples| Consensus::of(samples))
    }
}

// === impl Paired ===

impl Paired {
    /// The papers in order of their names.
    pub fn papers(&self) -> Vec<&str> {
        let mut papers: Vec<&str> =
            self.submissions.iter().map(|submission| submission.paper.as_str()).collect();
        papers.sort_unstable();
        papers.dedup();
        papers
    }

    /// The submission of a leaf.
    pub fn submission(&self, leaf: &Leaf) -> &Submission {
        &self.submissions[leaf.submission]
    }

    /// Leaves of each submission, in order.
    pub fn by_submission(&self) -> Vec<Vec<&Leaf>> {
        let mut leaves = vec![Vec::new(); self.submissions.len()];
        for leaf in &self.leaves {
            leaves[leaf.submission].push(leaf);
        }
        leaves
    }

    /// Gives submissions of one rubric one paper: where several files are graded with the same
    /// tree, their leaves are no independent evidence. `rubrics` holds a hash a submission.
    pub(crate) fn merge_papers(&mut self, rubrics: &[Option<String>]) {
        let mut by_rubric: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (submission, rubric) in rubrics.iter().enumerate() {
            if let Some(rubric) = rubric {
                by_rubric.entry(rubric).or_default().push(submission);
            }
        }
        for same in by_rubric.values().filter(|same| same.len() > 1) {
            let names: Vec<&str> =
                same.iter().map(|at| self.submissions[*at].paper.as_str()).collect();
            if names.windows(2).all(|pair| pair[0] == pair[1]) {
                continue;
            }
            let shared = shared_beginning(&names);
            let paper = if shared.is_empty() { names[0].to_owned() } else { shared };
            for at in same {
                self.submissions[*at].paper.clone_from(&paper);
            }
        }
    }
}

/// What the names begin with alike, without a separator at its end.
fn shared_beginning(names: &[&str]) -> String {
    let first = names.first().copied().unwrap_or_default();
    let alike = |end: &usize| names.iter().all(|name| name.starts_with(&first[..*end]));
    let ends = first.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(alike).last().unwrap_or(0);
    first[..end].trim_end_matches(['-', '_', '.', '/', ' ']).to_owned()
}
