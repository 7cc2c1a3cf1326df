//! `tribunal workers | drain`: who works on a store, and telling one to end.
//!
//! Owns the two commands and their documents. A worker hears of it from the store, with its next
//! heartbeat.

use std::sync::Arc;

use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_store::{Store, WorkerRecord};

use crate::{args::StoreArgs, command::Context, engine, exit::Exit, output};

/// Arguments of `tribunal workers`.
#[derive(Debug, Args)]
pub(crate) struct WorkersArgs {
    #[command(flatten)]
    store: StoreArgs,
}

/// Arguments of `tribunal drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The worker's id, or its beginning
    worker: String,
    #[command(flatten)]
    store: StoreArgs,
}

/// The document of `tribunal workers`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WorkersDocument {
    /// The workers that have joined and not left, in the order in which they joined.
    workers: Vec<WorkerStatus>,
}

/// The document of `tribunal drain`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DrainDocument {
    /// The worker that finishes what it holds and takes no more.
    worker: String,
    /// The name of its machine.
    host: String,
    /// Leaves that it holds.
    in_flight: u64,
}

/// A worker process.
#[derive(Debug, Serialize, JsonSchema)]
struct WorkerStatus {
    /// Its id, new at each start.
    worker: String,
    /// `working`; `draining` when it takes no more; `silent` when it has missed several heartbeats.
    state: &'static str,
    /// The name of its machine.
    host: String,
    /// Its process there.
    pid: i64,
    /// The version of its tribunal.
    version: String,
    /// When it joined, in RFC 3339.
    joined: String,
    /// Seconds since its last heartbeat.
    heartbeat_age_s: f64,
    /// Leaves that it holds.
    in_flight: u64,
    /// Verdicts that it has stored, by its last heartbeat.
    done: u64,
    /// Verdicts a second, from its joining to its last heartbeat; null before the first.
    leaves_per_s: Option<f64>,
}

/// Runs `tribunal workers`.
///
/// # Errors
///
/// The store cannot be used.
pub(crate) async fn run(args: WorkersArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let store = engine::store_with_runs(&config).await?;
    let silent_ms = 4 * u64::try_from(config.worker.heartbeat.as_millis()).unwrap_or(u64::MAX);
    let status = |record| WorkerStatus::of(record, silent_ms);
    let workers = store.workers().await?.into_iter().map(status).collect();
    store.close().await?;
    let document = WorkersDocument { workers };
    match context.json {
        true => output::print_json("workers", &document)?,
        false => output::print_text(&render(&document))?,
    }
    Ok(Exit::Complete)
}

/// Runs `tribunal drain`.
///
/// # Errors
///
/// No such worker, or the store cannot be used.
pub(crate) async fn drain(args: DrainArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let store = engine::store_with_runs(&config).await?;
    let record = find(&store, &args.worker).await?;
    anyhow::ensure!(store.drain(record.id).await?, no_worker(&args.worker));
    store.close().await?;
    let WorkerRecord { id, host, in_flight, .. } = record;
    let document = DrainDocument { worker: id.to_string(), host, in_flight };
    if context.json {
        output::print_json("drain", &document)?;
    } else {
        let DrainDocument { worker, host, in_flight } = &document;
        output::print_text(&format!(
            "worker {worker} on {host} finishes the {in_flight} leaves that it holds, and takes no \
             more from its next heartbeat on\n"
        ))?;
    }
    Ok(Exit::Complete)
}

/// The worker whose id begins with this.
async fn find(store: &Arc<dyn Store>, name: &str) -> anyhow::Result<WorkerRecord> {
    let fits = |record: &WorkerRecord| !name.is_empty() && record.id.to_string().starts_with(name);
    let mut found: Vec<WorkerRecord> = store.workers().await?;
    found.retain(fits);
    match (found.pop(), found.len()) {
        (Some(record), 0) => Ok(record),
        (Some(_), more) => {
            anyhow::bail!("`{name}` begins {} worker ids; give more of it", more + 1)
        }
        (None, _) => anyhow::bail!(no_worker(name)),
    }
}

fn no_worker(name: &str) -> String {
    format!("no worker `{name}` on this store; `tribunal workers` lists them")
}

fn render(document: &WorkersDocument) -> String {
    if document.workers.is_empty() {
        return "no workers on this store\n".to_owned();
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "WORKER",
        "STATE",
        "HOST",
        "PID",
        "VERSION",
        "IN FLIGHT",
        "DONE",
        "RATE",
        "HEARTBEAT",
    ]);
    for worker in &document.workers {
        table.add_row([
            worker.worker.clone(),
            worker.state.to_owned(),
            worker.host.clone(),
            worker.pid.to_string(),
            worker.version.clone(),
            worker.in_flight.to_string(),
            worker.done.to_string(),
            worker.leaves_per_s.map_or(String::new(), |rate| format!("{rate:.1}/s")),
            format!("{:.0}s ago", worker.heartbeat_age_s),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

// === impl WorkerStatus ===

impl WorkerStatus {
    fn of(record: WorkerRecord, silent_ms: u64) -> Self {
        let state = match record.draining {
            _ if record.silent_ms > silent_ms => "silent",
            true => "draining",
            false => "working",
        };
        let joined = Timestamp::from_millisecond(record.joined_ms);
        let seconds = record.worked_ms as f64 / 1000.0;
        Self {
            worker: record.id.to_string(),
            state,
            host: record.host,
            pid: record.pid,
            version: record.version,
            joined: joined.map_or(String::new(), |joined| joined.to_string()),
            heartbeat_age_s: record.silent_ms as f64 / 1000.0,
            in_flight: record.in_flight,
            done: record.done,
            leaves_per_s: (seconds > 0.0).then(|| record.done as f64 / seconds),
        }
    }
}
