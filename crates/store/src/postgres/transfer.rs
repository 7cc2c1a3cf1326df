//! A PostgreSQL store as one side of a move.
//!
//! Owns the statements over one connection. What is moved is said elsewhere.

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, Row,
    postgres::{PgArguments, PgRow},
};

use super::{
    PostgresOptions,
    connect::Target,
    error,
    open::{self, Purpose},
    schema::BEGIN_CONTROL,
    text,
};
use crate::{
    error::StoreError,
    transfer::{Kind, Meta, Side, Table, Value},
};

/// A move may take longer than any call of a worker.
const PATIENT: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
    SET LOCAL idle_in_transaction_session_timeout = 0";

struct PostgresSide {
    name: String,
    conn: PgConnection,
}

/// The store that a URL names; `None` where there is none.
pub(crate) async fn existing(url: &str) -> Result<Option<Box<dyn Side>>, StoreError> {
    connect(url, Purpose::Look).await
}

/// The store that a URL names, made where there is none.
pub(crate) async fn open(url: &str) -> Result<Box<dyn Side>, StoreError> {
    connect(url, Purpose::Open).await?.ok_or_else(|| open::unseen(url))
}

async fn connect(url: &str, purpose: Purpose) -> Result<Option<Box<dyn Side>>, StoreError> {
    let target = Target::parse(url)?;
    let conn = target.connection(&PostgresOptions::default()).connect().await;
    let mut conn = conn.map_err(|e| error::sql(&target.name, e))?;
    let there = open::prepare(&mut conn, &target, purpose).await?;
    Ok(there.then(|| Box::new(PostgresSide { name: target.name, conn }) as Box<dyn Side>))
}

// === impl PostgresSide ===

impl PostgresSide {
    fn error(&self, error: sqlx::Error) -> StoreError {
        error::sql(&self.name, error)
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let done = sqlx::raw_sql(sql).execute(&mut self.conn).await;
        done.map(drop).map_err(|e| self.error(e))
    }
}

#[async_trait]
impl Side for PostgresSide {
    fn name(&self) -> &str {
        &self.name
    }

    async fn begin_reading(&mut self) -> Result<(), StoreError> {
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        self.run(PATIENT).await
    }

    async fn begin_writing(&mut self) -> Result<(), StoreError> {
        self.run(BEGIN_CONTROL).await?;
        self.run(PATIENT).await
    }

    async fn leased(&mut self) -> Result<Option<(String, i64)>, StoreError> {
        let found = sqlx::query_as(
            "SELECT r.id, count(*) FROM tasks t JOIN runs r ON r.seq = t.run \
             WHERE t.state = 2 GROUP BY r.seq LIMIT 1",
        );
        let found = found.fetch_optional(&mut self.conn).await;
        found.map_err(|e| self.error(e))
    }

    async fn rows(
        &mut self,
        table: &Table,
        after: Option<&[Value]>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let columns = table.columns().map(|(name, kind)| match (table.name, name) {
            // What claims have not counted yet belongs to the run.
            ("runs", "virtual_time") => "virtual_time + (SELECT coalesce(sum(owed), 0) \
                FROM settlements WHERE settlements.run = runs.seq)::bigint"
                .to_owned(),
            _ if kind == Kind::Int => format!("{name}::bigint"),
            _ => name.to_owned(),
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        let keys = table.names(table.keys);
        let behind = after.map_or(String::new(), |_| {
            format!("WHERE ({keys}) > ({})", parameters(table, table.keys))
        });
        let sql = format!(
            "SELECT {columns} FROM {} {behind} ORDER BY {keys} LIMIT {}",
            table.name, table.page
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (value, (_, kind)) in after.unwrap_or_default().iter().zip(table.columns()) {
            query = bind(query, value, kind);
        }
        let rows = query.fetch_all(&mut self.conn).await;
        let rows = rows.and_then(|rows| rows.iter().map(|row| read(table, row)).collect());
        rows.map_err(|e| self.error(e))
    }

    async fn insert(&mut self, table: &Table, rows: &[Vec<Value>]) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
            table.name,
            table.names(usize::MAX),
            parameters(table, usize::MAX)
        );
        for row in rows {
            let mut query = sqlx::query(AssertSqlSafe(sql.clone()));
            for (value, (_, kind)) in row.iter().zip(table.columns()) {
                query = bind(query, value, kind);
            }
            let done = query.execute(&mut self.conn).await;
            done.map_err(|e| self.error(e))?;
        }
        Ok(())
    }

    async fn meta(&mut self) -> Result<Meta, StoreError> {
        let row = sqlx::query("SELECT store_key, virtual_time FROM store_meta, shares");
        let row = row.fetch_one(&mut self.conn).await;
        let meta =
            row.and_then(|row| Ok(Meta { key: row.try_get(0)?, virtual_time: row.try_get(1)? }));
        meta.map_err(|e| self.error(e))
    }

    async fn set_meta(&mut self, meta: &Meta) -> Result<(), StoreError> {
        let write = async {
            sqlx::query("UPDATE store_meta SET store_key = $1")
                .bind(meta.key.clone())
                .execute(&mut self.conn)
                .await?;
            sqlx::query("UPDATE shares SET virtual_time = $1")
                .bind(meta.virtual_time)
                .execute(&mut self.conn)
                .await?;
            sqlx::raw_sql(
                "SELECT setval(pg_get_serial_sequence('runs', 'seq'), max(seq)) FROM runs; \
                 SELECT setval(pg_get_serial_sequence('attempts', 'seq'), max(seq)) FROM attempts; \
                 SELECT setval(pg_get_serial_sequence('labels', 'seq'), max(seq)) FROM labels",
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

/// The parameters of a table's first columns, each with its type.
fn parameters(table: &Table, count: usize) -> String {
    let typed = table.columns().take(count).enumerate().map(|(at, (_, kind))| {
        let kind = match kind {
            Kind::Int => "bigint",
            Kind::Bool => "bool",
            Kind::Real => "float8",
            Kind::Text => "text",
            Kind::Bytes => "bytea",
        };
        format!("${}::{kind}", at + 1)
    });
    typed.collect::<Vec<_>>().join(", ")
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, PgArguments>;

fn bind<'q>(query: Query<'q>, value: &Value, kind: Kind) -> Query<'q> {
    match (value.clone(), kind) {
        (Value::Int(value), Kind::Bool) => query.bind(value != 0),
        (Value::Int(value), _) => query.bind(value),
        (Value::Real(value), _) => query.bind(value),
        (Value::Text(value), _) => query.bind(text::put(&value)),
        (Value::Bytes(value), _) => query.bind(value),
        (Value::Null, Kind::Int) => query.bind(None::<i64>),
        (Value::Null, Kind::Bool) => query.bind(None::<bool>),
        (Value::Null, Kind::Real) => query.bind(None::<f64>),
        (Value::Null, Kind::Text) => query.bind(None::<String>),
        (Value::Null, Kind::Bytes) => query.bind(None::<Vec<u8>>),
    }
}

fn read(table: &Table, row: &PgRow) -> Result<Vec<Value>, sqlx::Error> {
    let column = |(at, (_, kind)): (usize, (&str, Kind))| {
        Ok(match kind {
            Kind::Int => row.try_get::<Option<i64>, _>(at)?.map(Value::Int),
            Kind::Bool => row.try_get::<Option<bool>, _>(at)?.map(|v| Value::Int(v.into())),
            Kind::Real => row.try_get::<Option<f64>, _>(at)?.map(Value::Real),
            Kind::Text => row.try_get::<Option<String>, _>(at)?.map(|v| Value::Text(text::get(v))),
            Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(at)?.map(Value::Bytes),
        }
        .unwrap_or(Value::Null))
    };
    table.columns().enumerate().map(column).collect()
}
