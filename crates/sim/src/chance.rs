//! Chance that can be repeated: every draw is a hash of what it is about.
//!
//! Owns the way from fields to a number. No state, so that the order of requests changes nothing.

use tribunal_core::ids::FieldHasher;

/// A number in [0, 1) that depends on the seed, on what is drawn, and on the fields, and on
/// nothing else.
pub(crate) fn uniform(seed: u64, drawn: &str, fields: &[&[u8]]) -> f64 {
    let bytes = hash(seed, drawn, fields);
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    // 53 bits are what the fraction of an f64 holds.
    (u64::from_le_bytes(word) >> 11) as f64 / (1_u64 << 53) as f64
}

/// A standard normal number, from two uniform ones (Box and Muller).
pub(crate) fn normal(seed: u64, drawn: &str, fields: &[&[u8]]) -> f64 {
    let of = |part: &[u8]| {
        let all: Vec<&[u8]> = fields.iter().copied().chain([part]).collect();
        uniform(seed, drawn, &all)
    };
    let (radius, angle) = (1.0 - of(b"radius"), of(b"angle"));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// 32 bytes of the same kind.
pub(crate) fn hash(seed: u64, drawn: &str, fields: &[&[u8]]) -> [u8; 32] {
    let mut hasher = FieldHasher::new("tribunal.sim/1");
    hasher.field("seed", &seed.to_le_bytes());
    hasher.field("drawn", drawn.as_bytes());
    for field in fields {
        hasher.field("of", field);
    }
    *hasher.finish().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_their_distributions_moments() {
        let draws: Vec<(f64, f64)> = (0..20_000_u64)
            .map(|n| {
                let field = n.to_le_bytes();
                (uniform(1, "u", &[&field]), normal(1, "n", &[&field]))
            })
            .collect();
        let mean = |of: fn(&(f64, f64)) -> f64| draws.iter().map(of).sum::<f64>() / 20_000.0;
        // Six standard errors each: 0.2887/sqrt(20000), 1/sqrt(20000), sqrt(2/20000).
        assert!((mean(|d| d.0) - 0.5).abs() < 0.0123);
        assert!(mean(|d| d.1).abs() < 0.0425);
        assert!((mean(|d| d.1 * d.1) - 1.0).abs() < 0.06);
        assert!(draws.iter().all(|d| (0.0..1.0).contains(&d.0)));
    }
}
