//! An SQLite store as one side of a move.
//!
//! Owns the statements over one connection. What is moved is said elsewhere.

use std::path::Path;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteArguments, sqlite::SqliteRow};

use super::{SqliteOptions, error, open, schema};
use crate::{
    error::StoreError,
    transfer::{Kind, Meta, Side, Table, Value},
};

struct SqliteSide {
    name: String,
    conn: SqliteConnection,
}

/// The store at this path; `None` where there is none.
pub(crate) async fn existing(path: &Path) -> Result<Option<Box<dyn Side>>, StoreError> {
    match path.exists() {
        true => open(path).await.map(Some),
        false => Ok(None),
    }
}

/// The store at this path, made where there is none.
pub(crate) async fn open(path: &Path) -> Result<Box<dyn Side>, StoreError> {
    let opened = open::open(path, &SqliteOptions::default()).await?;
    Ok(Box::new(SqliteSide { name: opened.path.display().to_string(), conn: opened.writer }))
}

// === impl SqliteSide ===

impl SqliteSide {
    fn error(&self, error: sqlx::Error) -> StoreError {
        error::sql(&self.name, error)
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let done = sqlx::query(sql).execute(&mut self.conn).await;
        done.map(drop).map_err(|e| self.error(e))
    }
}

#[async_trait]
impl Side for SqliteSide {
    fn name(&self) -> &str {
        &self.name
    }

    async fn begin_reading(&mut self) -> Result<(), StoreError> {
        self.run("BEGIN").await
    }

    async fn begin_writing(&mut self) -> Result<(), StoreError> {
        self.run("BEGIN IMMEDIATE").await
    }

    async fn leased(&mut self) -> Result<Option<(String, i64)>, StoreError> {
        let found = sqlx::query_as(
            "SELECT runs.id, count(*) FROM tasks JOIN runs ON runs.seq = tasks.run \
             WHERE tasks.state = 2 GROUP BY runs.seq LIMIT 1",
        );
        let found = found.fetch_optional(&mut self.conn).await;
        found.map_err(|e| self.error(e))
    }

    async fn rows(
        &mut self,
        table: &Table,
        after: Option<&[Value]>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let (columns, keys) = (table.names(usize::MAX), table.names(table.keys));
        let behind = after.map_or(String::new(), |after| {
            format!("WHERE ({keys}) > ({})", vec!["?"; after.len()].join(", "))
        });
        let sql = format!(
            "SELECT {columns} FROM {} {behind} ORDER BY {keys} LIMIT {}",
            table.name, table.page
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for value in after.unwrap_or_default() {
            query = bind(query, value);
        }
        let rows = query.fetch_all(&mut self.conn).await;
        let rows = rows.and_then(|rows| rows.iter().map(|row| read(table, row)).collect());
        rows.map_err(|e| self.error(e))
    }

    async fn insert(&mut self, table: &Table, rows: &[Vec<Value>]) -> Result<(), StoreError> {
        let count = table.columns().count();
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            table.name,
            table.names(usize::MAX),
            vec!["?"; count].join(", ")
        );
        for row in rows {
            let query = sqlx::query(AssertSqlSafe(sql.clone()));
            let done = row.iter().fold(query, bind).execute(&mut self.conn).await;
            done.map_err(|e| self.error(e))?;
        }
        Ok(())
    }

    async fn meta(&mut self) -> Result<Meta, StoreError> {
        let read = async {
            let key = sqlx::query_scalar("SELECT value FROM store_meta WHERE key = ?");
            let key = key.bind(schema::STORE_KEY).fetch_one(&mut self.conn).await?;
            let time = sqlx::query_scalar("SELECT value FROM store_meta WHERE key = ?");
            let time = time.bind(schema::VIRTUAL_TIME).fetch_one(&mut self.conn).await?;
            Ok(Meta { key, virtual_time: time })
        };
        let read: Result<Meta, sqlx::Error> = read.await;
        read.map_err(|e| self.error(e))
    }

    async fn set_meta(&mut self, meta: &Meta) -> Result<(), StoreError> {
        let write = async {
            let set = "UPDATE store_meta SET value = ? WHERE key = ?";
            let key = sqlx::query(set).bind(meta.key.clone()).bind(schema::STORE_KEY);
            key.execute(&mut self.conn).await?;
            let time = sqlx::query(set).bind(meta.virtual_time).bind(schema::VIRTUAL_TIME);
            time.execute(&mut self.conn).await?;
            sqlx::query(
                "UPDATE store_meta SET value = (SELECT coalesce(max(seq), 0) FROM runs) \
                 WHERE key = 'last_seq'",
            )
            .execute(&mut self.conn)
            .await
        };
        let written: Result<_, sqlx::Error> = write.await;
        written.map(drop).map_err(|e| self.error(e))
    }

    async fn commit(&mut self) -> Result<(), StoreError> {
        self.run("COMMIT").await
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, SqliteArguments>;

fn bind<'q>(query: Query<'q>, value: &Value) -> Query<'q> {
    match value.clone() {
        Value::Null => query.bind(None::<i64>),
        Value::Int(value) => query.bind(value),
        Value::Real(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
    }
}

fn read(table: &Table, row: &SqliteRow) -> Result<Vec<Value>, sqlx::Error> {
    let column = |(at, (_, kind)): (usize, (&str, Kind))| {
        Ok(match kind {
            Kind::Int | Kind::Bool => row.try_get::<Option<i64>, _>(at)?.map(Value::Int),
            Kind::Real => row.try_get::<Option<f64>, _>(at)?.map(Value::Real),
            Kind::Text => row.try_get::<Option<String>, _>(at)?.map(Value::Text),
            Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(at)?.map(Value::Bytes),
        }
        .unwrap_or(Value::Null))
    };
    table.columns().enumerate().map(column).collect()
}
