//! Whether a judge's confidence means what it says.
//!
//! Owns expected calibration error, Brier score, log loss and AUROC.

/// A confidence in [0, 1], and whether the judge was right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stated {
    /// The confidence.
    pub confidence: f64,
    /// Whether the outcome happened.
    pub happened: bool,
}

fn ece_by<K: Ord>(stated: &[Stated], bin: impl Fn(f64) -> K) -> Option<f64> {
    let mut bins: std::collections::BTreeMap<K, (f64, f64, f64)> = Default::default();
    for Stated { confidence, happened } in stated {
        let (count, sum, hits) = bins.entry(bin(*confidence)).or_default();
        *count += 1.0;
        *sum += confidence;
        *hits += f64::from(*happened);
    }
    let gaps = bins.values().map(|(_, sum, hits)| (hits - sum).abs());
    (!stated.is_empty()).then(|| gaps.sum::<f64>() / stated.len() as f64)
}

/// Σ n_b/n·|accuracy − confidence| over the distinct confidences: votes take few values.
pub fn ece_by_level(stated: &[Stated]) -> Option<f64> {
    ece_by(stated, f64::to_bits)
}

/// The same over `bins` of equal width.
pub fn ece_by_width(stated: &[Stated], bins: u32) -> Option<f64> {
    let last = i64::from(bins) - 1;
    ece_by(stated, |confidence| ((confidence * f64::from(bins)).floor() as i64).clamp(0, last))
}

fn mean_of(stated: &[Stated], loss: impl Fn(f64, f64) -> f64) -> Option<f64> {
    let losses: Vec<f64> =
        stated.iter().map(|one| loss(one.confidence, f64::from(one.happened))).collect();
    super::mean(&losses)
}

/// The mean squared difference.
pub fn brier(stated: &[Stated]) -> Option<f64> {
    mean_of(stated, |confidence, outcome| (confidence - outcome).powi(2))
}

/// The mean of −ln of the probability given to what happened, at most −ln of the least double.
pub fn log_loss(stated: &[Stated]) -> Option<f64> {
    let surprise = |given: f64| -given.max(f64::EPSILON).ln();
    mean_of(stated, |confidence, outcome| {
        surprise(if outcome > 0.5 { confidence } else { 1.0 - confidence })
    })
}

/// The chance that something that happened was given more confidence than something that did not,
/// ties counting half; `None` where either is missing.
pub fn auroc(stated: &[Stated]) -> Option<f64> {
    let mut order: Vec<&Stated> = stated.iter().collect();
    order.sort_by(|a, b| a.confidence.total_cmp(&b.confidence));
    let hits = stated.iter().filter(|one| one.happened).count() as f64;
    let misses = stated.len() as f64 - hits;
    if hits == 0.0 || misses == 0.0 {
        return None;
    }
    let mut ranks = 0.0;
    let mut before = 0.0;
    for tied in order.chunk_by(|a, b| a.confidence == b.confidence) {
        let count = tied.len() as f64;
        let rank = before + f64::midpoint(1.0, count);
        ranks += rank * tied.iter().filter(|one| one.happened).count() as f64;
        before += count;
    }
    Some((ranks - hits * (hits + 1.0) / 2.0) / (hits * misses))
}
