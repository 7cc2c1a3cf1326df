//! The leaves that humans graded.
//!
//! Owns what of a paired tree a tuning needs. Which file is which tree is the caller's.

use tribunal_audit::Paired;

/// A leaf with a human's grade.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// Index of its submission.
    pub submission: usize,
    /// Index of its paper.
    pub paper: usize,
    /// The requirement type.
    pub category: String,
    /// Whether the human passed it.
    pub human: bool,
    /// Its share of the root, in [0, 1].
    pub weight: f64,
    /// What names it among all: submission, index and id.
    pub name: String,
    /// Its place among [`Paired::leaves`].
    pub source: usize,
}

/// All labelled leaves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    /// Names of the papers, in order.
    pub papers: Vec<String>,
    /// Names of the submissions.
    pub submissions: Vec<String>,
    /// The leaves.
    pub leaves: Vec<Label>,
}

// === impl Labels ===

impl Labels {
    /// The leaves with a binary label that `keep` takes.
    pub fn of(paired: &Paired, keep: impl Fn(usize) -> bool) -> Labels {
        let papers: Vec<String> = paired.papers().into_iter().map(str::to_owned).collect();
        let submissions = paired.submissions.iter().map(|of| of.name.clone()).collect();
        let leaves = paired.leaves.iter().enumerate().filter(|(at, _)| keep(*at));
        let leaves = leaves.filter_map(|(source, leaf)| {
            let human = leaf.human().pass()?;
            let submission = paired.submission(leaf);
            Some(Label {
                submission: leaf.submission,
                paper: papers.binary_search(&submission.paper).ok()?,
                category: leaf.category.clone(),
                human,
                weight: leaf.weight,
                name: format!("{}#{} {}", submission.name, leaf.index, leaf.id),
                source,
            })
        });
        Labels { leaves: leaves.collect(), papers: papers.clone(), submissions }
    }

    /// Leaves of these papers, in order.
    pub fn of_papers(&self, papers: &[usize]) -> Vec<usize> {
        let leaves = self.leaves.iter().enumerate();
        leaves.filter(|(_, leaf)| papers.contains(&leaf.paper)).map(|(at, _)| at).collect()
    }

    /// Passed and failed ones among these leaves.
    pub fn classes(&self, leaves: &[usize]) -> (usize, usize) {
        let passed = leaves.iter().filter(|at| self.leaves[**at].human).count();
        (passed, leaves.len() - passed)
    }
}
