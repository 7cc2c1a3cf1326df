//! Statements over many rows, and several statements together.
//!
//! Owns how a batch is cut into statements. Their row counts are powers of two, so that the few
//! distinct statements stay prepared: preparing one for every count would cost more than running
//! it. What a batch does not fill is left out again, and what may go together does, because each
//! way to SQLite's thread and back costs more than most statements.

use sqlx::{
    Arguments as _, Encode, SqliteExecutor, Type,
    error::BoxDynError,
    sqlite::{Sqlite, SqliteArguments, SqliteRow},
};

use super::request::LeaseRef;

/// The most rows in one statement; with 20 columns well below SQLite's 32,766 parameters.
const MAX_ROWS: usize = 128;

/// Texts that stay prepared on the writer: about a dozen, in eight sizes each.
pub(super) const PREPARED: usize = 160;

/// A query of SQLite with its arguments.
pub(super) type Query = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

/// Statements with their arguments, executed one after the other.
///
/// Their parameters have no names: sqlx looks each one up, and SQLite walks a list of all names for
/// that, so that thousands of them would cost more than the statement.
#[derive(Default)]
pub(super) struct Script {
    text: String,
    /// How many parameters the text has.
    parameters: usize,
    arguments: SqliteArguments,
    /// The first argument that could not be encoded.
    error: Option<BoxDynError>,
}

// === impl Script ===

impl Script {
    /// Adds a statement, made of constants of this crate and of `?`. What is bound from here on is its.
    pub(super) fn and(self, statement: &str) -> Self {
        self.and_with(statement, statement.matches('?').count())
    }

    fn and_with(mut self, statement: &str, parameters: usize) -> Self {
        while self.arguments.len() < self.parameters {
            self = self.bind(None::<i64>);
        }
        if !self.text.is_empty() {
            self.text.push_str("; ");
        }
        self.text.push_str(statement);
        self.parameters += parameters;
        self
    }

    /// Adds a statement over rows named `j`: `WITH given AS (...), j (columns) AS (VALUES ...) rest`. The
    /// first column is never NULL.
    ///
    /// `rest` has so many arguments, `?1` and on; they are bound first, and then the rows one by one.
    pub(super) fn and_rows(self, columns: &str, rows: usize, arguments: usize, rest: &str) -> Self {
        let mut rest = rest.to_owned();
        for argument in 1..=arguments {
            let read = format!("(SELECT column{argument} FROM given)");
            rest = rest.replace(&format!("?{argument}"), &read);
        }
        let given = match arguments {
            0 => String::new(),
            _ => format!("given AS ({}), ", values(1, arguments)),
        };
        let width = columns.split(',').count();
        // Parameters that are not bound are NULL.
        let rows = rows.next_power_of_two();
        let values = values(rows, width);
        let statement = format!(
            "WITH {given}j ({columns}) AS (SELECT * FROM ({values}) WHERE column1 IS NOT NULL) {rest}"
        );
        self.and_with(&statement, arguments + rows * width)
    }

    /// Binds the next parameter.
    pub(super) fn bind<T>(mut self, value: T) -> Self
    where
        for<'t> T: Encode<'t, Sqlite> + Type<Sqlite>,
    {
        if let Err(error) = self.arguments.add(value) {
            self.error.get_or_insert(error);
        }
        self
    }

    /// Binds a lease: its run, position, sample and id.
    pub(super) fn bind_lease(self, lease: &LeaseRef) -> Self {
        let id = lease.lease.as_bytes().to_vec();
        self.bind(lease.run).bind(lease.position).bind(lease.sample).bind(id)
    }

    /// Executes the statements; returns how many rows they have changed together. Each must be one that
    /// changes rows.
    pub(super) async fn execute(self, on: impl SqliteExecutor<'_>) -> Result<u64, sqlx::Error> {
        if self.text.is_empty() {
            return Ok(0);
        }
        Ok(self.query()?.execute(on).await?.rows_affected())
    }

    /// Executes the statements; returns the rows of all.
    pub(super) async fn fetch_all(
        self,
        on: impl SqliteExecutor<'_>,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        self.query()?.fetch_all(on).await
    }

    fn query(self) -> Result<Query, sqlx::Error> {
        match self.error {
            Some(error) => Err(sqlx::Error::Encode(error)),
            None => Ok(sqlx::query_with(sqlx::AssertSqlSafe(self.text), self.arguments)),
        }
    }
}

/// Cuts a batch into slices of a statement each.
pub(super) fn slices<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    items.chunks(MAX_ROWS)
}

/// A script of one statement over rows: see [`Script::and_rows`].
pub(super) fn with_rows(columns: &str, rows: usize, arguments: usize, rest: &str) -> Script {
    Script::default().and_rows(columns, rows, arguments, rest)
}

/// `VALUES (?,?),(?,?)`: so many rows of so many columns.
fn values(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    format!("VALUES {}", vec![&*row; rows].join(","))
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
        assert_eq!(values(2, 3), "VALUES (?,?,?),(?,?,?)");
        assert_eq!(values(1, 1), "VALUES (?)");
    }

    #[tokio::test]
    async fn statements_go_together_and_each_has_its_own_arguments() {
        let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let made = Script::default().and("CREATE TABLE t (number INTEGER, word TEXT)");
        made.execute(&mut conn).await.unwrap();
        let rest = "INSERT INTO t SELECT number + ?1, word FROM j";
        let script = with_rows("number, word", 3, 1, rest).bind(10).bind(1).bind("one");
        // The third row and its place to the next power of two stay empty.
        let script = script.bind(2).bind("two").and("UPDATE t SET word = ? WHERE number = ?");
        assert_eq!(script.bind("twelve").bind(12).execute(&mut conn).await.unwrap(), 3);
        let script = Script::default().and("SELECT word FROM t WHERE number = ?").bind(12);
        let rows = script.and("SELECT word FROM t WHERE number = ?").bind(11);
        let rows = rows.fetch_all(&mut conn).await.unwrap();
        let words: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(words, ["twelve", "one"]);
        assert_eq!(Script::default().execute(&mut conn).await.unwrap(), 0);
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
