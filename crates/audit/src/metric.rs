//! The statistics, one measure a file.
//!
//! Owns nothing but the list. Every function is pure, takes plain numbers and says which paper or
//! formula it follows; what is undefined is `None`, never NaN.

pub mod agreement;
pub mod alt_test;
pub mod calibration;
pub mod corrected;
pub mod dist;
pub mod escalate;
pub mod interval;
pub mod label;
pub mod paired;
pub mod plan;
pub mod racing;
pub mod reliability;
pub mod winners_curse;

/// The confidence level of every interval that is shown.
pub const LEVEL: f64 = 0.95;

/// The arithmetic mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The variance with `len - ddof` in the denominator; `None` where that is not positive.
pub fn variance(values: &[f64], ddof: usize) -> Option<f64> {
    let mean = mean(values)?;
    let free = values.len().checked_sub(ddof).filter(|free| *free > 0)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some(squares / free as f64)
}
