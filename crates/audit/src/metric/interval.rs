//! Intervals: at the leaf, and at the paper.
//!
//! Owns the type. Each method is a file; which one applies is the audit's to say, and its name
//! stands beside every interval that is shown.

pub mod bootstrap;
pub mod cluster;
pub mod jackknife;
pub mod wilson;

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

// === impl Interval ===

impl Interval {
    /// `centre ± half`.
    pub fn around(centre: f64, half: f64) -> Interval {
        Interval { low: centre - half, high: centre + half }
    }

    /// The part within `range`; an interval outside of it shrinks to the nearer end.
    pub fn within(self, (low, high): (f64, f64)) -> Interval {
        Interval { low: self.low.clamp(low, high), high: self.high.clamp(low, high) }
    }

    /// Whether the value lies in it.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}
