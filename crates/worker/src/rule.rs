//! Leaves that a rule decides, without a call.
//!
//! Owns the rules' names, scores and words. Which leaves a rule takes is decided when a run is
//! prepared, and stands on the task.

use tribunal_core::ids::FieldHasher;

/// Result Analysis leaves are 0 where the reproduction wrote nothing.
pub const NOTHING_REPRODUCED: &str = "nothing_reproduced";

/// The baseline that passes everything.
pub const ALWAYS_PASS: &str = "always_pass";

/// The baseline that flips a fair coin; the seed follows behind a colon.
pub const COIN_FLIP: &str = "coin_flip";

/// What a rule says of a leaf: a score, and why.
///
/// `None` for a rule that this version does not know.
pub fn decide(rule: &str, position: u32, sample: u32) -> Option<(f64, String)> {
    let (name, seed) = rule.split_once(':').unwrap_or((rule, ""));
    Some(match name {
        NOTHING_REPRODUCED => (
            0.0,
            "Graded 0 by rule: no document or table is newer than the start of the reproduction, \
             so there are no reproduced results to compare."
                .to_owned(),
        ),
        ALWAYS_PASS => (1.0, "Graded 1 by rule: the baseline that passes everything.".to_owned()),
        COIN_FLIP => {
            let mut hasher = FieldHasher::new("tribunal.coin/1");
            hasher.field("seed", seed.as_bytes());
            hasher.field("position", &position.to_le_bytes());
            hasher.field("sample", &sample.to_le_bytes());
            let heads = hasher.finish().as_bytes()[0] & 1 == 1;
            let score = if heads { 1.0 } else { 0.0 };
            (
                score,
                format!("Graded {score} by rule: the baseline that flips a coin (seed {seed})."),
            )
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coin_is_fair_and_the_same_each_time() {
        let flip = |position| decide("coin_flip:7", position, 0).expect("a rule").0;
        let heads: f64 = (0..1_000).map(flip).sum();
        // Outside this range with a probability of about 1e-9 for a fair coin.
        assert!((400.0..=600.0).contains(&heads), "{heads}");
        assert_eq!(flip(3), flip(3));
        assert!(decide("coin_flip:7", 0, 0) != decide("unknown", 0, 0));
    }
}
