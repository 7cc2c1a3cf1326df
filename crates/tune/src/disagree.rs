//! What proposals are made from: leaves of train that a candidate gets wrong, and which candidate is
//! to be changed next.
//!
//! Owns both choices. As GEPA does (arXiv 2507.19457), a parent is drawn from the candidates that are
//! best on some leaf, by how many: who is best on the whole is not the only one worth changing.

use std::collections::BTreeMap;

use crate::{answer::Table, labels::Labels, random::Random};

/// Up to `most` of these leaves that the candidate got wrong: false passes and false fails in turn, the
/// categories within each in turn.
pub fn disagreements(
    labels: &Labels,
    leaves: &[usize],
    table: &Table,
    candidate: usize,
    most: usize,
    seed: u64,
) -> Vec<usize> {
    let mut random = Random::new(seed, "disagreements");
    let mut kinds: BTreeMap<(bool, &str), Vec<(f64, usize)>> = BTreeMap::new();
    for leaf in leaves {
        let label = &labels.leaves[*leaf];
        let Some(answer) = table.get(candidate, *leaf) else { continue };
        if answer.verdict(label.human) != label.human {
            let ticket = random.uniform();
            kinds.entry((label.human, &label.category)).or_default().push((ticket, *leaf));
        }
    }
    let mut queue: Vec<(usize, f64, usize)> = Vec::new();
    for mut wrong in kinds.into_values() {
        wrong.sort_by(|a, b| a.0.total_cmp(&b.0));
        queue.extend(
            wrong.into_iter().enumerate().map(|(place, (ticket, leaf))| (place, ticket, leaf)),
        );
    }
    queue.sort_by(|a, b| (a.0, a.1).partial_cmp(&(b.0, b.1)).unwrap_or(std::cmp::Ordering::Equal));
    queue.into_iter().take(most).map(|(_, _, leaf)| leaf).collect()
}

/// Which of the pool is changed next; the first where nobody has been asked about anything.
pub fn parent(
    labels: &Labels,
    leaves: &[usize],
    table: &Table,
    pool: &[usize],
    seed: u64,
) -> usize {
    let mut best_on: Vec<usize> = vec![0; pool.len()];
    for leaf in leaves {
        let human = labels.leaves[*leaf].human;
        let right: Vec<bool> = pool
            .iter()
            .map(|candidate| {
                table.get(*candidate, *leaf).is_some_and(|answer| answer.verdict(human) == human)
            })
            .collect();
        for (count, right) in best_on.iter_mut().zip(&right) {
            *count += usize::from(*right);
        }
    }
    // A candidate that is right only where another one is too says nothing that the other does not.
    let right_on = |candidate: usize, leaf: usize| {
        let human = labels.leaves[leaf].human;
        table.get(candidate, leaf).is_some_and(|answer| answer.verdict(human) == human)
    };
    let within = |one: usize, other: usize| {
        leaves.iter().all(|leaf| !right_on(one, *leaf) || right_on(other, *leaf))
    };
    for at in 0..pool.len() {
        let covered = (0..pool.len()).any(|other| {
            let larger =
                best_on[other] > best_on[at] || (best_on[other] == best_on[at] && other < at);
            other != at && larger && within(pool[at], pool[other])
        });
        if covered {
            best_on[at] = 0;
        }
    }
    let all: usize = best_on.iter().sum();
    let mut random = Random::new(seed, "parent");
    let mut left = random.below(all.max(1));
    for (candidate, count) in pool.iter().zip(&best_on) {
        if left < *count {
            return *candidate;
        }
        left -= count;
    }
    pool.first().copied().unwrap_or_default()
}
