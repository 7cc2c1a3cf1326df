//! What labels can show, before they are made.
//!
//! Owns the smallest detectable effect of a paired comparison, the design effect of clusters, and
//! the number of labels for a wanted interval.

use super::dist::{normal_critical, normal_quantile};

/// The sum of critical values for a two-sided test at `alpha` with this power: 2.8016 at 5% and
/// 80%.
pub fn z_sum(alpha: f64, power: f64) -> f64 {
    normal_critical(1.0 - alpha) + normal_quantile(power)
}

/// The smallest difference of accuracy that `n` paired leaves detect at 5% with power 80%:
/// 2.8016·√(ψ·deff/n), ψ being the share of leaves on which two judges differ. `None` for no
/// leaves.
pub fn smallest_effect(discordant: f64, design_effect: f64, n: f64) -> Option<f64> {
    (n > 0.0).then(|| z_sum(0.05, 0.8) * (discordant * design_effect / n).sqrt())
}

/// The leaves that detect the difference `d`, with the exact variance (Connor, Biometrics 1987);
/// `None` unless 0 < |d| ≤ √ψ.
pub fn leaves_for(discordant: f64, d: f64) -> Option<f64> {
    let rest = discordant - d * d;
    if d == 0.0 || rest < 0.0 {
        return None;
    }
    let (za, zb) = (normal_critical(0.95), normal_quantile(0.8));
    Some((za * discordant.sqrt() + zb * rest.sqrt()).powi(2) / (d * d))
}

/// The design effect of clusters of these sizes with this correlation within them:
/// 1 + (Σm²/Σm − 1)·ρ. `None` of nothing.
pub fn design_effect(sizes: &[u64], correlation: f64) -> Option<f64> {
    let total: f64 = sizes.iter().map(|m| *m as f64).sum();
    let squares: f64 = sizes.iter().map(|m| (*m as f64).powi(2)).sum();
    (total > 0.0).then(|| 1.0 + (squares / total - 1.0) * correlation)
}

/// The correlation within clusters that is behind an observed design effect; `None` where clusters
/// have one leaf each. Never below 0.
pub fn correlation(sizes: &[u64], design_effect: f64) -> Option<f64> {
    let spread = self::design_effect(sizes, 1.0)? - 1.0;
    (spread > 0.0).then(|| ((design_effect - 1.0) / spread).clamp(0.0, 1.0))
}

/// The labels whose 95% interval of a share is `± half`, at this share and design effect; `None`
/// unless `half` is positive.
pub fn labels_for(share: f64, half: f64, design_effect: f64) -> Option<u64> {
    let z = normal_critical(0.95);
    (half > 0.0)
        .then(|| (z * z * share * (1.0 - share) * design_effect / (half * half)).ceil() as u64)
}

/// How many independent labels are worth as much as `n` with a judge's help, for grades that
/// correlate by `rho` and `unlabelled` further judged leaves (PPI++): n / (1 − ρ²/(1 + n/N)).
pub fn effective_labels(n: f64, unlabelled: f64, rho: f64) -> Option<f64> {
    let left = 1.0 - rho * rho / (1.0 + n / unlabelled);
    (unlabelled > 0.0 && left > 0.0).then(|| n / left)
}
