//! The conformance suite over every engine.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking and skip aloud")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use tempfile::TempDir;
use tribunal_store::{
    ManualClock, ModelStore, PostgresOptions, PostgresStore, SqliteStore, Store,
    conformance::Engine, conformance_suite,
};

#[expect(dead_code, unreachable_pub, reason = "the file serves other suites too")]
#[path = "../../../tests/src/postgres.rs"]
mod server;

use server::SharedServer;

/// Stores in memory.
struct Model;

/// Stores in a folder that goes away with it.
struct Sqlite {
    folder: TempDir,
    opened: AtomicU32,
}

/// Stores in schemas of one server; without PostgreSQL, in memory, after saying so.
struct Postgres {
    server: Option<SharedServer>,
    opened: AtomicU32,
}

#[async_trait]
impl Engine for Model {
    async fn open(&self, clock: ManualClock) -> Arc<dyn Store> {
        Arc::new(ModelStore::new(Arc::new(clock)))
    }
}

impl Sqlite {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), opened: AtomicU32::new(0) }
    }
}

#[async_trait]
impl Engine for Sqlite {
    async fn open(&self, clock: ManualClock) -> Arc<dyn Store> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("{number}.db"));
        Arc::new(SqliteStore::open(&path, Arc::new(clock)).await.unwrap())
    }
}

impl Postgres {
    fn new() -> Self {
        Self { server: SharedServer::get(), opened: AtomicU32::new(0) }
    }
}

#[async_trait]
impl Engine for Postgres {
    async fn open(&self, clock: ManualClock) -> Arc<dyn Store> {
        let Some(server) = &self.server else {
            return Arc::new(ModelStore::new(Arc::new(clock)));
        };
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let id: u64 = rand::random();
        let url = format!("{}?schema=t{id:016x}_{number}", server.url());
        let options = PostgresOptions { connections: 4, ..PostgresOptions::default() };
        Arc::new(PostgresStore::open_with(&url, options, Some(Arc::new(clock))).await.unwrap())
    }
}

conformance_suite!(model, Model);
conformance_suite!(postgres, Postgres::new());
conformance_suite!(sqlite, Sqlite::new());
