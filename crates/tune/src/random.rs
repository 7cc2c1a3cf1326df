//! Random numbers from seeds.
//!
//! Owns the generator: every draw of a tuning depends on its seed and on what is drawn, never on time.

use rand::{Rng as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};

/// A seeded generator.
pub(crate) struct Random(Xoshiro256PlusPlus);

// === impl Random ===

impl Random {
    pub(crate) fn new(seed: u64, of: &str) -> Random {
        let hash = blake3::hash(&[&seed.to_le_bytes(), of.as_bytes()].concat());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash.as_bytes()[..8]);
        Random(Xoshiro256PlusPlus::seed_from_u64(u64::from_le_bytes(bytes)))
    }

    /// In [0, 1): 53 random bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// In 0..`n`: 32 bits scaled are uniform to 1 in 10,000.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (((self.0.next_u64() >> 32) * n as u64) >> 32) as usize
    }
}
