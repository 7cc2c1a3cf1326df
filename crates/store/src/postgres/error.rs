//! PostgreSQL's errors in the store's words.
//!
//! Owns the mapping of SQLSTATEs alone (PostgreSQL documentation, appendix A). What to do about
//! an error is decided elsewhere. No message holds a password: the driver's never do.

use crate::error::StoreError;

/// What went wrong in the store of this name.
pub(super) fn sql(store: &str, error: sqlx::Error) -> StoreError {
    let store = store.to_owned();
    let code = code(&error).unwrap_or_default();
    let class = code.get(..2).unwrap_or_default();
    match (code.as_str(), class) {
        ("40001" | "40P01" | "55P03" | "57014", _) => StoreError::Busy { store },
        ("53100", _) => StoreError::Full { store },
        // Shutdown, crash, start-up, too many connections, a session ended because its process slept,
        // a lost connection.
        ("57P01" | "57P02" | "57P03" | "57P05" | "53300" | "25P03", _) | (_, "08") => {
            StoreError::Unavailable { store, reason: error.to_string() }
        }
        ("25006", _) => StoreError::Engine {
            store,
            reason: "the server takes no writes; name the primary in --store".to_owned(),
        },
        ("28P01" | "28000", _) => StoreError::Open {
            store,
            reason: format!(
                "{error}; the password is read from PGPASSWORD or ~/.pgpass, where the URL has none"
            ),
        },
        ("3D000", _) => {
            StoreError::Open { store, reason: format!("{error}; make it with createdb") }
        }
        ("42501", _) => StoreError::Open {
            store,
            reason: format!("{error}; grant the role CREATE on the database, or its schema"),
        },
        _ => match error {
            // What is wrong with a certificate comes as this kind: waiting does not mend it.
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                tls(store, &error)
            }
            sqlx::Error::Tls(error) => tls(store, &*error),
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => {
                StoreError::Unavailable { store, reason: error.to_string() }
            }
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                StoreError::Engine { store, reason: "the store is closed".to_owned() }
            }
            error => StoreError::Engine { store, reason: error.to_string() },
        },
    }
}

fn tls(store: String, error: &dyn std::error::Error) -> StoreError {
    let reason = format!("TLS: {error}; sslrootcert=FILE names the server's authority");
    StoreError::Open { store, reason }
}

fn code(error: &sqlx::Error) -> Option<String> {
    match error {
        sqlx::Error::Database(error) => Some(error.code()?.into_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_may_be_tried_again() {
        let lost = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        for (error, passes) in
            [(lost, true), (sqlx::Error::PoolTimedOut, true), (sqlx::Error::PoolClosed, false)]
        {
            let said = error.to_string();
            assert_eq!(sql("postgres://host/db", error).is_retryable(), passes, "{said}");
        }
    }
}
