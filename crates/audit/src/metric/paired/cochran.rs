//! Cochran's Q: do several judges differ on the same leaves?
//!
//! Owns the statistic; the rows are leaves, the columns judges.

use crate::metric::dist::chi_squared_tail;

/// Cochran's Q.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CochranQ {
    /// The statistic.
    pub q: f64,
    /// Judges minus one.
    pub df: usize,
    /// Its chi-squared tail.
    pub p: f64,
}

/// The test; `None` for fewer than two columns, rows of different lengths, or rows that all agree.
pub fn cochran_q(rows: &[Vec<bool>]) -> Option<CochranQ> {
    let columns = rows.first()?.len();
    if columns < 2 || rows.iter().any(|row| row.len() != columns) {
        return None;
    }
    let count = |bits: &mut dyn Iterator<Item = bool>| bits.filter(|bit| *bit).count() as f64;
    let of_row: Vec<f64> = rows.iter().map(|row| count(&mut row.iter().copied())).collect();
    let of_column = (0..columns).map(|column| count(&mut rows.iter().map(|row| row[column])));
    let total: f64 = of_row.iter().sum();
    let k = columns as f64;
    let squares: f64 = of_column.map(|sum| (sum - total / k).powi(2)).sum();
    let spread: f64 = of_row.iter().map(|sum| sum * (k - sum)).sum();
    if spread == 0.0 {
        return None;
    }
    let q = k * (k - 1.0) * squares / spread;
    let df = columns - 1;
    Some(CochranQ { q, df, p: chi_squared_tail(q, df as f64)? })
}
