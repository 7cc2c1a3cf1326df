//! SQLite's errors in the store's words.
//!
//! Owns the mapping of result codes alone. What to do about an error is decided elsewhere.

use std::{io, path::Path};

use crate::error::StoreError;

/// Primary result codes of SQLite (<https://sqlite.org/rescode.html>), low byte of the extended.
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const NOTADB: i32 = 26;
    /// A write was refused for another reason than a full disk: beyond the file size limit
    /// (`EFBIG`) or the quota. Nothing is lost, and room is what is missing.
    pub(super) const IOERR_WRITE: i32 = 778;
    /// The shared-memory file could not grow.
    pub(super) const IOERR_SHMSIZE: i32 = 4874;
}

/// What went wrong in the store of this name.
pub(super) fn sql(store: &str, error: sqlx::Error) -> StoreError {
    let store = store.to_owned();
    let extended = extended_code(&error);
    match (extended.map(|code| code & 0xff), extended) {
        (Some(code::BUSY | code::LOCKED), _) => StoreError::Busy { store },
        _ if matches!(error, sqlx::Error::PoolTimedOut) => StoreError::Busy { store },
        (Some(code::READONLY), _) => StoreError::ReadOnly { store },
        (Some(code::CORRUPT), _) => StoreError::Damaged { store, reason: error.to_string() },
        (Some(code::FULL), _) | (_, Some(code::IOERR_WRITE | code::IOERR_SHMSIZE)) => {
            StoreError::Full { store }
        }
        (Some(code::NOTADB), _) => StoreError::NotAStore {
            path: store.into(),
            reason: "it is not an SQLite database".to_owned(),
        },
        _ => {
            let reason = match error {
                sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                    "the store is closed".to_owned()
                }
                error => error.to_string(),
            };
            StoreError::Engine { store, reason }
        }
    }
}

/// Whether another process's lock is in the way.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(extended_code(error).map(|code| code & 0xff), Some(code::BUSY | code::LOCKED))
}

fn extended_code(error: &sqlx::Error) -> Option<i32> {
    match error {
        sqlx::Error::Database(error) => error.code()?.parse().ok(),
        _ => None,
    }
}

/// What went wrong with a file or folder beside the store, or with its own file.
pub(super) fn file(store: &str, path: &Path, error: &io::Error) -> StoreError {
    let store = store.to_owned();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full { store }
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly { store }
        }
        _ => StoreError::Open { store, reason: format!("{}: {error}", path.display()) },
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};

    use super::*;

    /// What a statement's failure is called, on a new database after some preparation.
    async fn failure(prepare: &'static str, statement: &'static str) -> StoreError {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("t.db"))
            .create_if_missing(true);
        let mut conn = options.connect().await.unwrap();
        sqlx::raw_sql(prepare).execute(&mut conn).await.unwrap();
        let failed = sqlx::query(statement).execute(&mut conn).await;
        sql("t.db", failed.unwrap_err())
    }

    #[tokio::test]
    async fn result_codes_have_their_names() {
        let read_only = failure("PRAGMA query_only = ON", "CREATE TABLE t (a)").await;
        assert!(matches!(read_only, StoreError::ReadOnly { .. }), "{read_only}");
        let full = failure("PRAGMA max_page_count = 1", "CREATE TABLE t (a)").await;
        assert!(matches!(full, StoreError::Full { .. }), "{full}");
        let check = failure("CREATE TABLE t (a NOT NULL)", "INSERT INTO t VALUES (NULL)").await;
        assert!(matches!(check, StoreError::Engine { .. }), "{check}");
    }

    #[test]
    fn file_errors_have_their_names() {
        let named = |kind: io::ErrorKind| file("t.db", Path::new("folder"), &kind.into());
        let full = named(io::ErrorKind::StorageFull);
        assert!(matches!(full, StoreError::Full { .. }));
        let read_only = named(io::ErrorKind::ReadOnlyFilesystem);
        assert!(matches!(read_only, StoreError::ReadOnly { .. }));
        let other = named(io::ErrorKind::NotADirectory);
        assert!(other.to_string().contains("folder"), "{other}");
    }
}
