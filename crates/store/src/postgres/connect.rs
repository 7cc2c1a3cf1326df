//! From a URL to connections.
//!
//! Owns what a `postgres://` URL may say and what every connection is told. The password comes
//! from the URL, `PGPASSWORD` or `.pgpass`, and never leaves this file.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Executor,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode},
};

use super::PostgresOptions;
use crate::error::StoreError;

/// The parameters that a URL may have, besides `schema`. Another one may be a misspelt
/// `password`, so it is refused without being shown.
const PARAMETERS: [&str; 10] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

/// The schema, where the URL names none.
const SCHEMA: &str = "tribunal";

/// A server, a database and a schema.
pub(super) struct Target {
    connect: PgConnectOptions,
    pub(super) schema: String,
    /// What errors and logs call the store.
    pub(super) name: String,
}

// === impl Target ===

impl Target {
    /// What a URL names.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let shown = crate::url::without_password(url);
        let refuse = |reason: String| StoreError::Open { store: shown.clone(), reason };
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut schema = SCHEMA.to_owned();
        let mut kept = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match key {
                "schema" => schema = value.to_owned(),
                key if PARAMETERS.contains(&key) => kept.push(parameter),
                _ => {
                    let known = PARAMETERS.join(", ");
                    return Err(refuse(format!(
                        "the URL has an unknown parameter; known are schema, {known}"
                    )));
                }
            }
        }
        if !is_name(&schema) {
            return Err(refuse(
                "schema must be up to 63 of a-z, 0-9 and _, a letter first".to_owned(),
            ));
        }
        let told_ssl = query.contains("sslmode=")
            || std::env::var_os("PGSSLMODE").is_some_and(|v| !v.is_empty());
        let connect = PgConnectOptions::from_str(&format!("{base}?{}", kept.join("&")));
        let mut connect = connect.map_err(|error| refuse(error.to_string()))?;
        let host = connect.get_host().to_owned();
        let local = connect.get_socket().is_some() || is_loopback(&host);
        if !told_ssl && !local {
            connect = connect.ssl_mode(PgSslMode::Require);
        }
        let mut name = format!(
            "postgres://{}@{host}:{}/{}",
            connect.get_username(),
            connect.get_port(),
            connect.get_database().unwrap_or_else(|| connect.get_username()),
        );
        if schema != SCHEMA {
            name.push_str(&format!("?schema={schema}"));
        }
        Ok(Self { connect, schema, name })
    }

    /// How one connection is made.
    pub(super) fn connection(&self, options: &PostgresOptions) -> PgConnectOptions {
        let millis = |duration: Duration| duration.as_millis().to_string();
        let mut connect = self.connect.clone().options([
            ("search_path", self.schema.clone()),
            ("statement_timeout", millis(options.call_timeout)),
            ("lock_timeout", millis(options.call_timeout / 2)),
            // Who sleeps within a transaction may hold what all others wait for: well before they
            // give up, the server ends it.
            ("idle_in_transaction_session_timeout", millis(options.call_timeout / 4)),
            // Every statement looks rows up by an index. The planner, whose statistics lag behind
            // a queue that fills and empties, must not think otherwise.
            ("enable_seqscan", "off".to_owned()),
            ("enable_hashjoin", "off".to_owned()),
            ("enable_mergejoin", "off".to_owned()),
            ("jit", "off".to_owned()),
        ]);
        if self.connect.get_application_name().is_none() {
            connect = connect.application_name("tribunal");
        }
        connect.disable_statement_logging()
    }

    /// The pool; no connection is made yet.
    pub(super) fn pool(&self, options: &PostgresOptions) -> PgPool {
        PgPoolOptions::new()
            .max_connections(options.connections.max(1))
            .acquire_timeout(options.call_timeout)
            .idle_timeout(Duration::from_secs(300))
            .max_lifetime(Duration::from_secs(3600))
            // An acknowledged verdict is on disk, whatever the server's default says.
            .after_connect(|conn, _| {
                Box::pin(async move {
                    conn.execute(
                        "SELECT set_config('synchronous_commit', 'on', false) \
                         WHERE current_setting('synchronous_commit') = 'off'",
                    )
                    .await?;
                    Ok(())
                })
            })
            .connect_lazy_with(self.connection(options))
    }
}

/// Whether a schema has this name, in the form that needs no quotes.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(plain)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_never_shows_the_password() {
        let target = Target::parse("postgres://me:s3cret@db.example:5433/grades?schema=two");
        let target = target.unwrap();
        assert_eq!(target.name, "postgres://me@db.example:5433/grades?schema=two");
        assert_eq!(target.schema, "two");
        for url in [
            "postgres://me@db/x?pasword=s3cret",
            "postgres://me:s3cret@db/x?schema=S3cret",
            "postgres://me:s3cret@db:port/x",
            "postgres://me:s3cret@db/x?sslmode=s",
        ] {
            let refused = Target::parse(url).err().unwrap().to_string();
            assert!(!refused.contains("s3cret"), "{refused}");
        }
    }

    #[test]
    fn tls_is_required_over_a_network() {
        let mode = |url: &str| format!("{:?}", Target::parse(url).unwrap().connect.get_ssl_mode());
        assert_eq!(mode("postgres://me@db.example/x"), "Require");
        assert_eq!(mode("postgres://me@db.example/x?sslmode=disable"), "Disable");
        assert_eq!(mode("postgres://me@db.example/x?sslmode=verify-full"), "VerifyFull");
        assert_eq!(mode("postgres://me@127.0.0.1/x"), "Prefer");
        assert_eq!(mode("postgres://me@[::1]:5432/x"), "Prefer");
    }
}
