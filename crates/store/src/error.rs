//! What can go wrong with a store, and whether trying again can help.

use std::path::PathBuf;

/// A failure of the store. Says what, where, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no store that Tribunal knows.
    #[error("`{url}` is not a store URL; use sqlite:PATH or postgres://USER@HOST/DATABASE")]
    Url {
        /// The URL without its password.
        url: String,
    },
    /// No run with this id.
    #[error("no run `{run}` in this store; `tribunal status` lists its runs")]
    NoSuchRun {
        /// What was asked for.
        run: String,
    },
    /// A label that cannot be recorded.
    #[error("the label of position {position} is not recorded: {reason}")]
    Label {
        /// Position of the leaf.
        position: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// A run that workers hold leases of cannot be removed.
    #[error(
        "run {run} has {leases} leaves in work; stop its workers, or wait until their leases end, \
         then try again"
    )]
    InUse {
        /// The run.
        run: String,
        /// Leases held.
        leases: u64,
    },
    /// A blob that a run refers to is not there, or is damaged.
    #[error("blob {hash} is {what}; the store is damaged: restore it, or grade anew into another")]
    Blob {
        /// The blob's hash.
        hash: String,
        /// `missing` or `damaged`.
        what: &'static str,
    },
    /// A newer Tribunal made the store.
    #[error(
        "{store} has format {found}, made by a newer tribunal; this one knows up to {known}. \
         Upgrade tribunal, or name another --store"
    )]
    NewerVersion {
        /// The store.
        store: String,
        /// Its format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// An older Tribunal made the store, on a server where others may be at work.
    #[error(
        "{store} has format {found}, made by an older tribunal; this one needs {known}. Stop the \
         older workers, then run `tribunal store init --store URL` to upgrade it"
    )]
    OlderVersion {
        /// The store.
        store: String,
        /// Its format.
        found: i64,
        /// The format needed here.
        known: i64,
    },
    /// The server is away: it restarts, or the network does not reach it.
    #[error("{store} cannot be reached: {reason}; nothing acknowledged is lost")]
    Unavailable {
        /// The store.
        store: String,
        /// The system's reason.
        reason: String,
    },
    /// The file is no store.
    #[error("{path} is not a tribunal store: {reason}. Name another --store")]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// The file that was opened does not stand under its name any more.
    #[error(
        "{store} was {what} while it was open: what this process still writes to it is lost. End the \
         process, put the file back, then start it again"
    )]
    Gone {
        /// The store.
        store: String,
        /// `removed` or `replaced`.
        what: &'static str,
    },
    /// The engine finds its own file damaged.
    #[error(
        "{store} is damaged: {reason}. Restore it from a backup, or name another --store and grade \
         anew"
    )]
    Damaged {
        /// The store.
        store: String,
        /// The engine's reason.
        reason: String,
    },
    /// The disk is full.
    #[error(
        "the disk that holds {store} is full; nothing acknowledged is lost. Free space, then run \
         the same command again"
    )]
    Full {
        /// The store.
        store: String,
    },
    /// The store, or the folder that it is to be made in, cannot be written.
    #[error(
        "cannot write to {store}: it or its folder is read-only; make it writable, or name \
         another --store"
    )]
    ReadOnly {
        /// The store, or the folder where there is no store yet.
        store: String,
    },
    /// The store's folder cannot be made or opened.
    #[error("cannot open {store}: {reason}")]
    Open {
        /// The store.
        store: String,
        /// The system's reason.
        reason: String,
    },
    /// SQLite's locks do not hold on this filesystem.
    #[error(
        "{path} is on a network filesystem ({kind}), where SQLite's locks do not hold; put the \
         store on a local disk"
    )]
    NetworkFilesystem {
        /// The folder.
        path: PathBuf,
        /// The filesystem's name.
        kind: String,
    },
    /// Another process holds the store for longer than the wait allows.
    #[error("{store} is locked by another process for too long; try again")]
    Busy {
        /// The store.
        store: String,
    },
    /// The store's engine failed otherwise.
    #[error("{store}: {reason}")]
    Engine {
        /// The store.
        store: String,
        /// The engine's reason.
        reason: String,
    },
}

// === impl StoreError ===

impl StoreError {
    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_retryable(&self) -> bool {
        matches!(self, StoreError::Busy { .. } | StoreError::Unavailable { .. })
    }
}
