//! Opening an SQLite store, and making one.
//!
//! Owns what a file must be to be opened, and that a store appears under its name whole or not
//! at all. Nothing is written to a file before it is known to be a store.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

use super::{ballast, batch, error, place, schema};
use crate::error::StoreError;

/// The oldest SQLite without the bug that could lose a commit when the log was reset.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The most pages (of 4096 bytes) that the file may grow to; `None` for SQLite's own limit.
    /// Beyond it every write is [`StoreError::Full`].
    pub max_pages: Option<u32>,
    /// Connections that read, at most; at least 1.
    pub readers: u32,
    /// How long another process's transaction is waited for before [`StoreError::Busy`].
    pub busy_timeout: Duration,
}

/// An opened store.
pub(super) struct Opened {
    /// The file, without links.
    pub(super) path: PathBuf,
    /// The one connection that writes.
    pub(super) writer: SqliteConnection,
    /// Connections that only read.
    pub(super) readers: SqlitePool,
    /// How another connection is made that may write.
    pub(super) connect: SqliteConnectOptions,
}

/// Opens the store at this path, or makes it.
pub(super) async fn open(path: &Path, options: &SqliteOptions) -> Result<Opened, StoreError> {
    let made = place::make_folder(path)?;
    let opened = open_placed(path, options).await;
    if opened.is_err() {
        place::remove_empty(&made);
    }
    opened
}

async fn open_placed(path: &Path, options: &SqliteOptions) -> Result<Opened, StoreError> {
    let path = &place::resolve(path)?;
    place::check(path)?;
    let opened = match attempt(path, options).await {
        // The ballast is there for this moment.
        Err(StoreError::Full { .. }) if ballast::release(path) => attempt(path, options).await?,
        opened => opened?,
    };
    ballast::keep(path);
    Ok(opened)
}

async fn attempt(path: &Path, options: &SqliteOptions) -> Result<Opened, StoreError> {
    let store = &path.display().to_string();
    let fail = |error| error::sql(store, error);
    if !path.exists() {
        make(path, options).await?;
    }
    sweep(path);
    let mut writer = connect(path, options, false).connect().await.map_err(fail)?;
    prepare(&mut writer, store, options).await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(options.readers.max(1))
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(connect(path, options, true).pragma("cache_size", "-4096"));
    Ok(Opened { path: path.to_owned(), writer, readers, connect: connect(path, options, false) })
}

/// Checks what the file is, and sets the connection up for writing.
async fn prepare(
    writer: &mut SqliteConnection,
    store: &str,
    options: &SqliteOptions,
) -> Result<(), StoreError> {
    let fail = |error| error::sql(store, error);
    assert_library(writer, store).await?;
    upgrade(writer, store).await?;
    keep_log(writer, options.busy_timeout).await.map_err(fail)?;
    for pragma in [
        // A log that a slow reader made long shrinks again.
        "PRAGMA journal_size_limit = 67108864",
        "PRAGMA cache_size = -16384",
    ] {
        sqlx::query(pragma).execute(&mut *writer).await.map_err(fail)?;
    }
    if let Some(pages) = options.max_pages {
        let pragma = format!("PRAGMA max_page_count = {pages}");
        batch::statement(pragma).execute(&mut *writer).await.map_err(fail)?;
    }
    Ok(())
}

/// Switches to a write-ahead log. A store that was made whole has it already; in a file that was
/// empty the switch needs the file alone, and SQLite does not wait for that by itself.
async fn keep_log(conn: &mut SqliteConnection, patience: Duration) -> Result<(), sqlx::Error> {
    let deadline = Instant::now() + patience;
    loop {
        let switched = sqlx::query("PRAGMA journal_mode = WAL").execute(&mut *conn).await;
        match switched {
            Err(error) if error::is_busy(&error) && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            switched => return switched.map(|_| ()),
        }
    }
}

/// Refuses what is no store of ours. Brings an older store's tables to this version, and makes
/// them in a file with nothing in it: all steps or none.
async fn upgrade(conn: &mut SqliteConnection, store: &str) -> Result<(), StoreError> {
    let fail = |error| error::sql(store, error);
    match inspect(conn, store).await? {
        schema::VERSION => return Ok(()),
        0 => run_once(conn, schema::GIVE_BACK).await.map_err(fail)?,
        _ => {}
    }
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *conn).await.map_err(fail)?;
    // Another process may have done it meanwhile.
    let version = inspect(conn, store).await?;
    take_steps(conn, version).await.map_err(fail)?;
    commit(conn).await.map_err(fail)?;
    if (1..schema::VERSION).contains(&version) {
        tracing::info!(store, from = version, to = schema::VERSION, "the store was upgraded");
    }
    Ok(())
}

/// Takes the steps that lead from a version to this one, within an open transaction.
async fn take_steps(conn: &mut SqliteConnection, version: i64) -> Result<(), sqlx::Error> {
    let taken = usize::try_from(version).unwrap_or(usize::MAX);
    for step in schema::STEPS.iter().skip(taken) {
        sqlx::raw_sql(*step).execute(&mut *conn).await?;
    }
    if version == 0 {
        add_key(conn).await?;
    }
    let pragma = format!("PRAGMA user_version = {}", schema::VERSION);
    batch::statement(pragma).execute(conn).await?;
    Ok(())
}

/// The format's version, 0 for a file with nothing in it; refuses what is no store of ours.
async fn inspect(conn: &mut SqliteConnection, store: &str) -> Result<i64, StoreError> {
    let row = sqlx::query(
        "SELECT (SELECT application_id FROM pragma_application_id), \
                (SELECT user_version FROM pragma_user_version), \
                (SELECT count(*) FROM sqlite_schema)",
    )
    .fetch_one(conn)
    .await
    .map_err(|error| error::sql(store, error))?;
    let column = |at: usize| row.try_get::<i64, _>(at).map_err(|e| error::sql(store, e));
    let (application, version, tables) = (column(0)?, column(1)?, column(2)?);
    let not_ours =
        |reason: &str| StoreError::NotAStore { path: store.into(), reason: reason.to_owned() };
    match (application, version) {
        (0, 0) if tables == 0 => Ok(version),
        (schema::APPLICATION_ID, found) if found > schema::VERSION => {
            Err(StoreError::NewerVersion { store: store.to_owned(), found, known: schema::VERSION })
        }
        (schema::APPLICATION_ID, 1..) => Ok(version),
        (schema::APPLICATION_ID, _) => Err(not_ours("its format has no version")),
        _ => Err(not_ours("it is another program's SQLite database")),
    }
}

/// Makes a store beside the path and gives it the path as its name when it is whole.
///
/// Whoever comes first wins: an existing file is never replaced.
async fn make(path: &Path, options: &SqliteOptions) -> Result<(), StoreError> {
    let store = &path.display().to_string();
    let unnamed = super::beside(path, &format!("new-{:016x}", rand::random::<u64>()));
    let made = fill(&unnamed, options).await;
    let named = match made {
        // It is synced once, before anybody can find it.
        Ok(()) => fs::File::open(&unnamed)
            .and_then(|file| file.sync_all())
            .and_then(|()| place::name(&unnamed, path))
            .map_err(|e| error::file(store, path, &e)),
        // Errors shall speak of the store, not of a file that nobody knows.
        Err(made) => Err(error::sql(store, made)),
    };
    for end in ["", "-journal", "-wal", "-shm"] {
        let mut file = unnamed.clone().into_os_string();
        file.push(end);
        let _ = fs::remove_file(file);
    }
    named
}

/// Removes what processes left that were killed while they made this store. Making one takes
/// milliseconds: what is older than a minute belongs to nobody.
fn sweep(path: &Path) {
    const OLD: Duration = Duration::from_secs(60);
    let Some((folder, name)) = path.parent().zip(path.file_name()) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut prefix = name.to_os_string();
    prefix.push(".new-");
    let left = |entry: &fs::DirEntry| {
        let age = entry.metadata().and_then(|meta| meta.modified()).map(|time| time.elapsed());
        let old = age.is_ok_and(|age| age.is_ok_and(|age| age > OLD));
        old && entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes())
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(left) {
        let _ = fs::remove_file(entry.path());
    }
}

async fn fill(unnamed: &Path, options: &SqliteOptions) -> Result<(), sqlx::Error> {
    let connect = connect(unnamed, options, false)
        .create_if_missing(true)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Off);
    let mut conn = connect.connect().await?;
    run_once(&mut conn, schema::GIVE_BACK).await?;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut conn).await?;
    take_steps(&mut conn, 0).await?;
    commit(&mut conn).await?;
    // Kept in the file's header. Here nobody else can hold the lock that it needs.
    sqlx::query("PRAGMA journal_mode = WAL").execute(&mut conn).await?;
    conn.close().await
}

async fn run_once(conn: &mut SqliteConnection, pragma: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(pragma).execute(conn).await?;
    Ok(())
}

async fn add_key(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO store_meta (key, value) VALUES (?, ?), (?, 0)")
        .bind(schema::STORE_KEY)
        .bind(rand::random::<[u8; 32]>().to_vec())
        .bind(schema::VIRTUAL_TIME)
        .execute(conn)
        .await?;
    Ok(())
}

async fn commit(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("COMMIT").execute(conn).await?;
    Ok(())
}

async fn assert_library(conn: &mut SqliteConnection, store: &str) -> Result<(), StoreError> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(conn)
        .await
        .map_err(|error| error::sql(store, error))?;
    if is_recent(&version) {
        return Ok(());
    }
    let (major, minor, patch) = OLDEST_SQLITE;
    Err(StoreError::Open {
        store: store.to_owned(),
        reason: format!(
            "this tribunal was built with SQLite {version}, which can lose commits; build it with \
             {major}.{minor}.{patch} or newer"
        ),
    })
}

/// Rows read ahead of whoever wants them.
const ROW_BUFFER: usize = 512;

fn is_recent(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next()) >= OLDEST_SQLITE
}

fn connect(path: &Path, options: &SqliteOptions, read_only: bool) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(read_only)
        .foreign_keys(true)
        .synchronous(sqlx::sqlite::SqliteSynchronous::Full)
        .busy_timeout(options.busy_timeout)
        .statement_cache_capacity(batch::PREPARED)
        // Rows come from a thread of their own: each that does not fit wakes it once more.
        .row_buffer_size(ROW_BUFFER)
        .disable_statement_logging()
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { max_pages: None, readers: 4, busy_timeout: Duration::from_secs(30) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{ManualClock, SqliteStore, Store, Weight};

    /// A store of version 1 with a run of two tasks, one of them leased until long ago.
    async fn make_first_version(path: &Path) {
        let options = SqliteOptions::default();
        let mut conn =
            connect(path, &options, false).create_if_missing(true).connect().await.unwrap();
        sqlx::raw_sql(schema::STEPS[0]).execute(&mut conn).await.unwrap();
        add_key(&mut conn).await.unwrap();
        let rows = format!(
            "PRAGMA user_version = 1; \
             UPDATE store_meta SET value = 150 WHERE key = 'virtual_time'; \
             INSERT INTO runs (id, inputs, generation, spec, judge, model, simulated, state, \
                 reason, created_ms, virtual_time) \
             VALUES ('{}', zeroblob(32), 0, zeroblob(32), 'j', 'm', 1, 'active', '', 7, 200); \
             INSERT INTO tasks (run, position, sample, state, place, estimated_tokens, id, \
                 category, content_key) \
             VALUES (1, 1, 0, 0, 0, 100, 'a', 'Code Development', zeroblob(32)), \
                    (1, 2, 0, 0, 1, 100, 'b', 'Code Development', zeroblob(32)); \
             INSERT INTO blobs VALUES (zeroblob(32), 900000, zeroblob(900000));",
            old_run()
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    }

    fn old_run() -> tribunal_core::RunId {
        tribunal_core::RunId::from_hash(tribunal_core::BlobHash::of(b"old"))
    }

    async fn tables(path: &Path) -> Vec<(String, String)> {
        let mut conn = connect(path, &SqliteOptions::default(), false).connect().await.unwrap();
        let sql = "SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name";
        sqlx::query_as(sql).fetch_all(&mut conn).await.unwrap()
    }

    #[tokio::test]
    async fn an_older_store_is_upgraded_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
        make_first_version(&old).await;
        let clock = Arc::new(ManualClock::at(1_000));
        let store = SqliteStore::open(&old, clock.clone()).await.unwrap();
        SqliteStore::open(&new, clock.clone()).await.unwrap().close().await.unwrap();
        assert_eq!(tables(&old).await, tables(&new).await);
        let record = store.run(&old_run()).await.unwrap();
        assert_eq!((record.created_ms, record.weight), (7, Weight::default()));
        let worker = tribunal_core::WorkerId::from_bytes([1; 16]);
        let claims = store.claim(worker, 1, Duration::from_secs(60), None).await.unwrap();
        assert_eq!((claims.len(), claims[0].task.position), (1, 1));
        let mut conn = connect(&old, &SqliteOptions::default(), false).connect().await.unwrap();
        let time: i64 =
            sqlx::query_scalar("SELECT virtual_time FROM runs").fetch_one(&mut conn).await.unwrap();
        assert_eq!(time, Weight::default().cost(300), "what was charged before still counts");
        conn.close().await.unwrap();
        store.close().await.unwrap();
        // Again, and now there is nothing to upgrade.
        let store = SqliteStore::open(&old, clock.clone()).await.unwrap();
        clock.advance(600_000);
        let before = fs::metadata(&old).unwrap().len();
        let pruned = store.prune(&old_run()).await.unwrap();
        assert_eq!((pruned.tasks, pruned.blobs), (2, 1));
        assert!(pruned.bytes > 800_000, "{pruned:?}");
        assert_eq!(fs::metadata(&old).unwrap().len(), before - pruned.bytes);
    }

    #[test]
    fn old_libraries_are_told_from_new_ones() {
        for (version, recent) in [
            ("3.51.3", true),
            ("3.52.0", true),
            ("4.0.0", true),
            ("3.51.2", false),
            ("3.9.9", false),
            ("", false),
        ] {
            assert_eq!(is_recent(version), recent, "{version}");
        }
    }
}
