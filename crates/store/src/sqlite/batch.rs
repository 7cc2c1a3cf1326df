//! Statements over many rows.
//!
//! Owns how a batch is cut into statements. Row counts are powers of two, so that the few
//! distinct statements stay prepared: preparing one for every count would cost more than running
//! it.

use std::fmt::Write;

/// The most rows in one statement; with 16 columns well below SQLite's 32,766 parameters.
const MAX_ROWS: usize = 128;

/// Statements that stay prepared on the writer: about a dozen, in eight sizes each.
pub(super) const PREPARED: usize = 160;

/// A query of SQLite with its arguments.
pub(super) type Query = sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Cuts a batch into slices whose lengths are powers of two.
pub(super) fn slices<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let rows = items.len().min(MAX_ROWS).checked_ilog2().map(|log| 1 << log)?;
        let (slice, rest) = items.split_at(rows);
        items = rest;
        Some(slice)
    })
}

/// `VALUES (?, ?), (?, ?)`: so many rows of so many columns.
pub(super) fn values(rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(8 + rows * (columns * 2 + 2));
    text.push_str("VALUES ");
    for row in 0..rows {
        let start = if row == 0 { "(?" } else { ",(?" };
        text.push_str(start);
        (1..columns).for_each(|_| text.push_str(",?"));
        text.push(')');
    }
    text
}

/// A statement over rows named `j`: `WITH j (columns) AS (VALUES ...) rest`.
///
/// Arguments are bound row by row, then those of `rest`.
pub(super) fn with_rows(columns: &str, rows: usize, rest: &str) -> Query {
    let mut text = String::new();
    let count = columns.split(',').count();
    let _ = write!(text, "WITH j ({columns}) AS ({}) {rest}", values(rows, count));
    statement(text)
}

/// A statement whose text is made of constants of this crate and of `?` alone.
pub(super) fn statement(text: String) -> Query {
    sqlx::query(sqlx::AssertSqlSafe(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_into_powers_of_two() {
        for len in [0, 1, 2, 3, 63, 64, 100, 1000] {
            let items: Vec<usize> = (0..len).collect();
            let cut: Vec<&[usize]> = slices(&items).collect();
            assert_eq!(cut.concat(), items);
            assert!(cut.iter().all(|slice| slice.len().is_power_of_two()));
        }
    }

    #[test]
    fn rows_have_a_parameter_for_each_column() {
        assert_eq!(values(2, 3), "VALUES (?,?,?),(?,?,?)");
        assert_eq!(values(1, 1), "VALUES (?)");
    }
}
