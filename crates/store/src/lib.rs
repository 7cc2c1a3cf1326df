//! Queue, verdicts and quota in one transactional place, behind one trait.
//!
//! Owns durability: what is acknowledged is stored, a verdict is stored once, a stale lease
//! writes nothing. It never calls a judge and never computes a score.

pub mod batches;
mod blob;
pub mod budget;
pub mod clock;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod error;
pub mod fleet;
pub mod label;
pub mod model;
pub mod postgres;
mod process;
pub mod quota;
mod reach;
mod ready;
mod record;
mod row;
mod share;
pub mod sqlite;
pub mod store;
pub mod totals;
mod transfer;
mod url;

pub use batches::{Answered, BatchRecord, BatchReply, Batches, PostOutcome, Posting};
pub use budget::{
    Amount, Budget, Reservation, ReservationId, ReserveOutcome, Settlement, Spending,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::StoreError;
pub use fleet::{Fleet, WorkerRecord};
pub use label::{Label, LabelKind, NewLabel};
pub use model::ModelStore;
pub use postgres::{PostgresOptions, PostgresStore};
pub use quota::{
    Meter, QUOTA_LEASE, QuotaAsk, QuotaGrant, QuotaLimits, QuotaPool, QuotaReport, QuotaView,
    Rejected, Spend,
};
pub use share::Weight;
pub use sqlite::{SqliteOptions, SqliteStore};
pub use store::{
    Claim, CompleteOutcome, Completion, FailOutcome, Failure, Held, MAX_DEAD_WORKERS,
    MAX_LOST_LEASES, NewRun, Progress, Pruned, Reusable, RunRecord, Store, StoredVerdict,
    TaskOutcome,
};
pub use totals::{KindTotals, RunTotals};
pub use transfer::{MovedTable, move_store};
pub use url::{existing, init, open, shown_url};
