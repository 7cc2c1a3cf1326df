//! The percentile bootstrap over leaves.
//!
//! Owns resampling: deterministic for a seed, whatever the number of threads. It resamples the
//! confusion matrix and one weighted sum at once; what is computed of them is the caller's.

use std::thread;

use rand::{Rng, SeedableRng, rngs::Xoshiro256PlusPlus};

use super::Interval;
use crate::metric::agreement::Confusion;

/// Draws that fit the 16 bits of each packed count.
const PACKED: usize = u16::MAX as usize;

/// Which of the four cells of a confusion matrix a leaf is in, and a value that is summed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// One in the 16 bits of the leaf's cell: counting is then one addition.
    cell: u64,
    value: f64,
}

/// What each resample came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resampled {
    /// Its confusion matrix.
    pub counts: Vec<Confusion>,
    /// Its sum of values.
    pub sums: Vec<f64>,
}

// === impl Drawn ===

impl Drawn {
    /// A leaf with both grades, and the value to be summed.
    pub fn new(human: bool, judge: bool, value: f64) -> Drawn {
        let place = match (human, judge) {
            (true, true) => 0,
            (true, false) => 16,
            (false, true) => 32,
            (false, false) => 48,
        };
        Drawn { cell: 1 << place, value }
    }
}

/// Draws as many leaves as there are, with replacement, `resamples` times.
pub fn resample(leaves: &[Drawn], resamples: usize, seed: u64) -> Resampled {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(resamples.max(1));
    let share = resamples.div_ceil(threads);
    let parts: Vec<Vec<(Confusion, f64)>> = thread::scope(|scope| {
        let worker = |part: usize| {
            let numbers = part * share..((part + 1) * share).min(resamples);
            scope.spawn(move || numbers.map(|number| once(leaves, seed, number)).collect())
        };
        let workers: Vec<_> = (0..threads).map(worker).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_default()).collect()
    });
    let (counts, sums) = parts.into_iter().flatten().unzip();
    Resampled { counts, sums }
}

fn once(leaves: &[Drawn], seed: u64, number: usize) -> (Confusion, f64) {
    let own = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ own);
    let mut counts = Confusion::default();
    let mut sum = 0.0;
    let size = leaves.len() as u64;
    let mut left = leaves.len();
    while left > 0 {
        let batch = left.min(PACKED);
        left -= batch;
        let mut packed = 0;
        // Two indices a random number: 32 bits scaled to the size are uniform to 1 in 10,000.
        let mut take = |bits: u64| {
            let leaf = &leaves[((bits * size) >> 32) as usize];
            packed += leaf.cell;
            sum += leaf.value;
        };
        for _ in 0..batch / 2 {
            let bits = random.next_u64();
            take(bits & 0xffff_ffff);
            take(bits >> 32);
        }
        if batch % 2 == 1 {
            take(random.next_u64() >> 32);
        }
        let lane = |place: u32| (packed >> place) & 0xffff;
        counts += Confusion { tp: lane(0), fn_: lane(16), fp: lane(32), tn: lane(48) };
    }
    (counts, sum)
}

/// The central interval of these values at this level; `None` of nothing, or where more than one
/// in twenty is undefined.
pub fn percentile(values: impl IntoIterator<Item = Option<f64>>, level: f64) -> Option<Interval> {
    let mut undefined = 0;
    let mut known: Vec<f64> = Vec::new();
    for value in values {
        match value {
            Some(value) => known.push(value),
            None => undefined += 1,
        }
    }
    if known.is_empty() || undefined * 20 > known.len() {
        return None;
    }
    known.sort_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    Some(Interval { low: quantile(&known, tail), high: quantile(&known, 1.0 - tail) })
}

/// The quantile at `p` of sorted values, interpolated between neighbours.
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let place = p * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below])
}
