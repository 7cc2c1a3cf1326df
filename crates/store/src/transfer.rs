//! A whole store moved from one engine to another.
//!
//! Owns which tables and columns are moved, and the proof that they arrived: rows are counted and
//! hashed on both sides before anything is committed. It is all or nothing. What is only a memory
//! (token counts, quota, workers) stays behind. Statements are the engines'.

use async_trait::async_trait;

use crate::{error::StoreError, postgres, sqlite, url};

/// A column's kind; the engines have types of their own for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Bool,
    Real,
    Text,
    Bytes,
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    /// Also a truth value, as 0 or 1.
    Int(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A table that both engines have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// How many of the columns, from the first on, are its key.
    pub(crate) keys: usize,
    /// Rows moved at once.
    pub(crate) page: usize,
    /// Each as `name:kind`, in words.
    columns: &'static str,
}

/// What a store has once.
pub(crate) struct Meta {
    pub(crate) key: Vec<u8>,
    pub(crate) virtual_time: i64,
}

/// One side of a move, within one transaction.
#[async_trait]
pub(crate) trait Side: Send {
    /// What errors call the store.
    fn name(&self) -> &str;

    /// Begins to read what is there at this moment.
    async fn begin_reading(&mut self) -> Result<(), StoreError>;

    /// Begins to write; nobody else does meanwhile.
    async fn begin_writing(&mut self) -> Result<(), StoreError>;

    /// A run with leases, and how many.
    async fn leased(&mut self) -> Result<Option<(String, i64)>, StoreError>;

    /// Rows in key order, from the first one after `after`.
    async fn rows(
        &mut self,
        table: &Table,
        after: Option<&[Value]>,
    ) -> Result<Vec<Vec<Value>>, StoreError>;

    /// Adds rows.
    async fn insert(&mut self, table: &Table, rows: &[Vec<Value>]) -> Result<(), StoreError>;

    async fn meta(&mut self) -> Result<Meta, StoreError>;

    /// Sets what a store has once, and goes on numbering behind what was added.
    async fn set_meta(&mut self, meta: &Meta) -> Result<(), StoreError>;

    /// Makes what was written last.
    async fn commit(&mut self) -> Result<(), StoreError>;
}

/// Rows of one table that were moved, as they were found again at their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedTable {
    /// The table.
    pub name: &'static str,
    /// Its rows.
    pub rows: u64,
    /// BLAKE3 of them in key order, the same on both sides.
    pub hash: String,
}

/// The tables, those that others refer to first.
const TABLES: [Table; 9] = [
    Table { name: "blobs", keys: 1, page: 16, columns: "hash:bytes size:int content:bytes" },
    Table {
        name: "runs",
        keys: 1,
        page: 256,
        columns: "seq:int id:text inputs:bytes generation:int spec:bytes judge:text model:text \
                  simulated:bool reuse:bool state:text reason:text created_ms:int \
                  virtual_time:int weight:int contending:bool first_claim_ms:int pruned:bool \
                  budget_micro_usd:int budget_tokens:int spent_micro_usd:int spent_tokens:int \
                  reserved_micro_usd:int reserved_tokens:int via:text max_in_flight:int \
                  priority:int",
    },
    Table {
        name: "tasks",
        keys: 3,
        page: 512,
        columns: "run:int position:int sample:int state:int turn:int place:int \
                  estimated_tokens:int run_at:int waits_from:int lease:bytes lease_end:int worker:bytes \
                  failures:int ended_leases:int dead_workers:int class:text reason:text id:text \
                  category:text content_key:bytes rule:text first_claim_ms:int error:text",
    },
    Table {
        name: "reservations",
        keys: 1,
        page: 512,
        columns: "id:bytes run:int position:int sample:int lease:bytes micro_usd:int tokens:int",
    },
    Table {
        name: "batches",
        keys: 1,
        page: 256,
        columns: "id:bytes run:int voter:int remote:text worker:bytes held_until:int \
                  opened_ms:int",
    },
    Table {
        name: "postings",
        keys: 3,
        page: 64,
        columns: "run:int position:int sample:int batch:bytes lease:bytes reservation:bytes \
                  question:bytes reply:bytes",
    },
    Table {
        name: "verdicts",
        keys: 3,
        page: 256,
        columns: "run:int position:int sample:int lease:bytes score:real reason:text source:text \
                  simulated:bool stored_ms:int record:bytes",
    },
    Table {
        name: "attempts",
        keys: 1,
        page: 512,
        columns: "seq:int run:int position:int sample:int kind:text class:text status:int \
                  input:int cached:int output:int started_ms:int waited_ms:int latency_ms:int \
                  request_id:text error:text endpoint:text cost_usd:real possible_input:int \
                  possible_output:int possible_usd:real via:text",
    },
    Table {
        name: "labels",
        keys: 1,
        page: 512,
        columns: "seq:int run:int position:int author:text kind:text score:real note:text \
                  blind:bool at_ms:int",
    },
];

/// Moves everything that one store holds into another, which is made where there is none and must
/// hold nothing. The first one stays as it is. Stop its workers before.
///
/// # Errors
///
/// [`StoreError::InUse`] while leases are held, [`StoreError::Open`] where there is no store to move,
/// where the other holds something, or where what arrived differs; otherwise as
/// [`open`](crate::open). The other then holds nothing still, and is not made for a store in use.
pub async fn move_store(from: &str, to: &str) -> Result<Vec<MovedTable>, StoreError> {
    let (shown, none) = (url::shown_url(from), "there is no store to move".to_owned());
    let source = match url::is_postgres(from) {
        true => postgres::transfer::existing(from).await?,
        false => sqlite::transfer::existing(url::sqlite_file(from)?).await?,
    };
    let mut source = source.ok_or(StoreError::Open { store: shown, reason: none })?;
    source.begin_reading().await?;
    if let Some((run, leases)) = source.leased().await? {
        return Err(StoreError::InUse { run, leases: leases.unsigned_abs() });
    }
    // Only now: what is refused is to leave no empty store behind.
    let mut target = match url::is_postgres(to) {
        true => postgres::transfer::open(to).await?,
        false => sqlite::transfer::open(url::sqlite_file(to)?).await?,
    };
    target.begin_writing().await?;
    for table in TABLES.iter().take(2) {
        if !target.rows(table, None).await?.is_empty() {
            let reason = "it holds something already; name an empty store to move to".to_owned();
            return Err(StoreError::Open { store: target.name().to_owned(), reason });
        }
    }
    let meta = source.meta().await?;
    let mut moved = Vec::new();
    for table in &TABLES {
        let sent = walk(&mut *source, table, Some(&mut *target)).await?;
        let arrived = walk(&mut *target, table, None).await?;
        if sent != arrived {
            let reason = format!(
                "{} rows of {} were moved and {} arrived, or they differ: nothing was kept",
                sent.rows, table.name, arrived.rows
            );
            return Err(StoreError::Open { store: target.name().to_owned(), reason });
        }
        moved.push(arrived);
    }
    target.set_meta(&meta).await?;
    target.commit().await?;
    Ok(moved)
}

/// Counts and hashes a table's rows, and adds them to the other side.
async fn walk(
    side: &mut dyn Side,
    table: &Table,
    mut into: Option<&mut dyn Side>,
) -> Result<MovedTable, StoreError> {
    let (mut count, mut hasher) = (0, blake3::Hasher::new());
    let mut after: Option<Vec<Value>> = None;
    loop {
        let rows = side.rows(table, after.as_deref()).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last[..table.keys].to_vec());
        count += rows.len() as u64;
        rows.iter().flatten().for_each(|value| value.hash(&mut hasher));
        if let Some(into) = &mut into {
            into.insert(table, &rows).await?;
        }
    }
    Ok(MovedTable { name: table.name, rows: count, hash: hasher.finalize().to_string() })
}

// === impl Table ===

impl Table {
    /// Its columns in order.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&'static str, Kind)> {
        self.columns.split_whitespace().filter_map(|column| {
            let (name, kind) = column.split_once(':')?;
            let kind = match kind {
                "int" => Kind::Int,
                "bool" => Kind::Bool,
                "real" => Kind::Real,
                "text" => Kind::Text,
                _ => Kind::Bytes,
            };
            Some((name, kind))
        })
    }

    /// The first `count` columns' names with commas between.
    pub(crate) fn names(&self, count: usize) -> String {
        self.columns().take(count).map(|(name, _)| name).collect::<Vec<_>>().join(", ")
    }
}

// === impl Value ===

impl Value {
    /// Takes it in with its kind and length, so that no two rows look alike.
    fn hash(&self, hasher: &mut blake3::Hasher) {
        let mut take = |kind: u8, bytes: &[u8]| {
            hasher.update(&[kind]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        match self {
            Value::Null => take(0, &[]),
            Value::Int(value) => take(1, &value.to_le_bytes()),
            Value::Real(value) => take(2, &value.to_bits().to_le_bytes()),
            Value::Text(value) => take(3, value.as_bytes()),
            Value::Bytes(value) => take(4, value),
        }
    }
}
