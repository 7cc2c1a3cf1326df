//! Store URLs.
//!
//! Owns which URL opens which engine. Errors never show a password.

use std::{path::Path, sync::Arc};

use crate::{
    clock::SystemClock,
    error::StoreError,
    postgres::{PostgresOptions, PostgresStore},
    sqlite::SqliteStore,
    store::Store,
};

/// Opens the store that a URL names: `sqlite:PATH` or `sqlite://PATH`, or
/// `postgres://USER@HOST:PORT/DATABASE`; it is made where there is none.
///
/// A path is taken as it is, relative to the working folder, without percent-decoding.
///
/// # Errors
/// [`StoreError::Url`] for any other URL, with its password hidden; otherwise as
/// [`SqliteStore::open`] and [`PostgresStore::open`].
pub async fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    if is_postgres(url) {
        let store = PostgresStore::open(url, PostgresOptions::default()).await?;
        return Ok(Arc::new(store));
    }
    let path = sqlite_path(url).ok_or_else(|| StoreError::Url { url: without_password(url) })?;
    Ok(Arc::new(SqliteStore::open(Path::new(path), Arc::new(SystemClock)).await?))
}

/// As [`open`], but none is made: `None` where there is no store.
///
/// # Errors
/// As [`open`].
pub async fn existing(url: &str) -> Result<Option<Arc<dyn Store>>, StoreError> {
    if is_postgres(url) {
        let store = PostgresStore::existing(url, PostgresOptions::default()).await?;
        return Ok(store.map(|store| Arc::new(store) as Arc<dyn Store>));
    }
    match sqlite_path(url) {
        Some(path) if !Path::new(path).exists() => Ok(None),
        _ => open(url).await.map(Some),
    }
}

/// Makes the store that a URL names, or brings one of an older version to this one.
///
/// # Errors
/// As [`open`].
pub async fn init(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    if is_postgres(url) {
        let store = PostgresStore::init(url, PostgresOptions::default()).await?;
        return Ok(Arc::new(store));
    }
    // A file is upgraded by whoever opens it.
    open(url).await
}

/// Whether a URL names a PostgreSQL server.
pub(crate) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// The path in an SQLite URL, whatever characters it has. A memory database is none: it would not
/// outlive the process.
fn sqlite_path(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("sqlite:")?;
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let plain = !path.is_empty() && !path.starts_with(':') && !path.contains('\0');
    plain.then_some(path)
}

/// The file that an SQLite URL names.
///
/// # Errors
/// [`StoreError::Url`] for any other URL, with its password hidden.
pub(crate) fn sqlite_file(url: &str) -> Result<&Path, StoreError> {
    sqlite_path(url).map(Path::new).ok_or_else(|| StoreError::Url { url: without_password(url) })
}

/// The store's URL for people: with whatever may be a password replaced.
pub fn shown_url(url: &str) -> String {
    match sqlite_path(url) {
        Some(_) => url.to_owned(),
        None => without_password(url),
    }
}

/// A URL of no file without what may be a password. Where it cannot be told what is one, nothing is shown
/// but the scheme.
pub(crate) fn without_password(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    // The last @, because a password may hold one.
    let (login, host) = match rest.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, rest),
    };
    // Either the password holds a question mark, or a parameter an @.
    let ambiguous = login.is_some_and(|login| login.contains('?'));
    // `host=… password=…`, as PostgreSQL's own tools take it.
    let is_no_url = scheme.is_empty() && url.contains(['=', ' ']);
    // Parameters may carry a password too.
    let (host, parameters) = match host.split_once('?') {
        Some((host, _)) => (host, "?***"),
        None => (host, ""),
    };
    let port = host.split('/').next().and_then(|host| host.rsplit_once(':')).map(|(_, port)| port);
    let has_port = port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    match login {
        _ if ambiguous || is_no_url => format!("{scheme}***"),
        Some(login) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}{user}:***@{host}{parameters}")
        }
        // A login whose host was forgotten.
        None if !scheme.is_empty() && !has_port => format!("{scheme}***"),
        None => format!("{scheme}{host}{parameters}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_urls_name_a_path() {
        for (url, path) in [
            ("sqlite:.tribunal/store.db", ".tribunal/store.db"),
            ("sqlite:/var/t.db", "/var/t.db"),
            ("sqlite://t.db", "t.db"),
            ("sqlite:///var/t.db", "/var/t.db"),
            ("sqlite:what?#1%.db", "what?#1%.db"),
        ] {
            assert_eq!(sqlite_path(url), Some(path), "{url}");
        }
        for url in ["sqlite:", "sqlite://", "sqlite::memory:", "t.db"] {
            assert_eq!(sqlite_path(url), None, "{url}");
        }
    }

    #[test]
    fn passwords_are_hidden() {
        for url in [
            "postgres://me:s3cret@host/db",
            "postgres://me:s3cret@s3cret@host/db",
            "postgres://me:s3cret/s3cret@host/db",
            "postgres:me:s3cret@host/db",
            "postgres://host/db?password=s3cret",
            "me:s3cret@host",
        ] {
            let shown = shown_url(url);
            assert!(!shown.contains("s3cret"), "{shown}");
            assert!(shown.contains("host"), "{shown}");
        }
        for url in [
            "host=127.0.0.1 user=me password=s3cret",
            "password=s3cret",
            "postgres://me:s3?cret@host/db",
            "postgres://me:pw?sslmode=s3cret@host/db",
            "postgres://host/db?password=a@s3cret",
            "postgres://me:s3cret",
        ] {
            let shown = shown_url(url);
            assert!(shown.ends_with("***") && !shown.contains("s3"), "{shown}");
        }
        for url in ["mysql://host/db", "mysql://host:3306/db", "t.db", "sqlite:me@home/what?.db"] {
            assert_eq!(shown_url(url), url);
        }
    }
}
