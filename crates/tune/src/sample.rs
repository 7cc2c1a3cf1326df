//! Which development leaves are asked about first.
//!
//! Owns one order of the leaves whose every beginning is a sample stratified by category, label and
//! paper: the two labels alike, strata within a label by their size. A longer beginning holds the
//! shorter one, and a leaf's ticket is the same in every pool, so that races over overlapping papers ask
//! about the same leaves and no answer is paid for twice. Each leaf then weighs by the inverse of its
//! stratum's drawn share.

use std::collections::BTreeMap;

use crate::{labels::Labels, random::Random};

/// A leaf of a sample, and for how many of the pool it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// Index of the leaf.
    pub leaf: usize,
    /// The inverse of the probability with which it is in the sample.
    pub weight: f64,
}

/// Category, label and paper.
type Stratum<'l> = (&'l str, bool, usize);

fn stratum(labels: &Labels, leaf: usize) -> Stratum<'_> {
    let leaf = &labels.leaves[leaf];
    (leaf.category.as_str(), leaf.human, leaf.paper)
}

/// The leaves of `pool` in the order in which they are asked about. Seats go to strata by Sainte-Laguë's
/// divisors, which never take one back as the sample grows.
pub fn order(labels: &Labels, pool: &[usize], seed: u64) -> Vec<usize> {
    let mut strata: BTreeMap<Stratum<'_>, Vec<(f64, usize)>> = BTreeMap::new();
    let mut random = Random::new(seed, "sample");
    let tickets: Vec<f64> = labels.leaves.iter().map(|_| random.uniform()).collect();
    for leaf in pool {
        strata.entry(stratum(labels, *leaf)).or_default().push((tickets[*leaf], *leaf));
    }
    let (passed, failed) = labels.classes(pool);
    let mut queue: Vec<(f64, f64, usize)> = Vec::with_capacity(pool.len());
    for ((_, human, _), mut leaves) in strata {
        leaves.sort_by(|a, b| a.0.total_cmp(&b.0));
        let class = if human { passed } else { failed };
        let share = leaves.len() as f64 / class as f64;
        for (place, (ticket, leaf)) in leaves.into_iter().enumerate() {
            queue.push(((2 * place + 1) as f64 / share, ticket, leaf));
        }
    }
    queue.sort_by(|a, b| (a.0, a.1).partial_cmp(&(b.0, b.1)).unwrap_or(std::cmp::Ordering::Equal));
    queue.into_iter().map(|(_, _, leaf)| leaf).collect()
}

/// The first `size` leaves of this order of the whole pool, each with its weight.
pub fn drawn(labels: &Labels, order: &[usize], size: usize) -> Vec<Drawn> {
    let size = size.min(order.len());
    let mut counts: BTreeMap<Stratum<'_>, (f64, f64)> = BTreeMap::new();
    for (place, leaf) in order.iter().enumerate() {
        let (all, taken) = counts.entry(stratum(labels, *leaf)).or_default();
        *all += 1.0;
        *taken += f64::from(u8::from(place < size));
    }
    let weight = |leaf: usize| {
        let (all, taken) = counts[&stratum(labels, leaf)];
        all / taken
    };
    order[..size].iter().map(|leaf| Drawn { leaf: *leaf, weight: weight(*leaf) }).collect()
}
