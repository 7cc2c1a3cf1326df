//! Statements over many rows.
//!
//! Owns how a batch is cut into statements. Their row counts are powers of two, so that the few
//! distinct statements stay prepared: preparing one for every count would cost more than running
//! it. What a batch does not fill is left out again, because each statement is a way to SQLite's thread
//! and back.

use std::fmt::Write;

/// The most rows in one statement; with 20 columns well below SQLite's 32,766 parameters.
const MAX_ROWS: usize = 128;

/// Statements that stay prepared on the writer: about a dozen, in eight sizes each.
pub(super) const PREPARED: usize = 160;

/// A query of SQLite with its arguments.
pub(super) type Query = sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Cuts a batch into slices of a statement each.
pub(super) fn slices<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    items.chunks(MAX_ROWS)
}

/// A statement over rows named `j`: `WITH j (columns) AS (VALUES ...) rest`. The first column is never
/// NULL.
///
/// `rest` has so many arguments, `?1` and on; they are bound first, and then the rows one by one.
pub(super) fn with_rows(columns: &str, rows: usize, arguments: usize, rest: &str) -> Query {
    let width = columns.split(',').count();
    // Parameters that are not bound are NULL.
    let values = values(rows.next_power_of_two(), width, arguments);
    statement(format!(
        "WITH j ({columns}) AS (SELECT * FROM ({values}) WHERE column1 IS NOT NULL) {rest}"
    ))
}

/// `VALUES (?3, ?4), (?5, ?6)`: so many rows of so many columns, behind other parameters.
fn values(rows: usize, columns: usize, behind: usize) -> String {
    let mut text = String::with_capacity(8 + rows * columns * 6);
    text.push_str("VALUES ");
    let mut parameter = behind;
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..columns {
            parameter += 1;
            let _ = write!(text, "{}?{parameter}", if column == 0 { "" } else { "," });
        }
        text.push(')');
    }
    text
}

/// A statement whose text is made of constants of this crate and of `?` alone.
pub(super) fn statement(text: String) -> Query {
    sqlx::query(sqlx::AssertSqlSafe(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    use sqlx::{Connection as _, Row as _, SqliteConnection};

    #[test]
    fn rows_have_a_parameter_for_each_column() {
        assert_eq!(values(2, 3, 1), "VALUES (?2,?3,?4),(?5,?6,?7)");
        assert_eq!(values(1, 1, 0), "VALUES (?1)");
    }

    #[tokio::test]
    async fn every_row_is_there_once_and_none_besides() {
        let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        for count in [1, 2, 3, 63, 64, 100, 300] {
            let items: Vec<i64> = (0..count).collect();
            let mut found = Vec::new();
            for slice in slices(&items) {
                let rest = "SELECT number + ?1, word FROM j ORDER BY number";
                let mut query = with_rows("number, word", slice.len(), 1, rest).bind(7);
                for item in slice {
                    query = query.bind(*item).bind((item % 2 == 0).then_some("even"));
                }
                found.extend(query.fetch_all(&mut conn).await.unwrap());
            }
            let numbers = found.iter().map(|row| row.get::<i64, _>(0));
            assert!(numbers.eq((0..count).map(|number| number + 7)));
            let words = found.iter().filter(|row| row.get::<Option<&str>, _>(1).is_some());
            assert_eq!(words.count() as i64, (count + 1) / 2);
        }
    }
}
