//! `tribunal store init | check | prune`: makes a store, reads all of it, removes runs.
//!
//! Owns the commands and their documents. What a run takes with it is the store's.

use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::{RunId, RunState};
use tribunal_store::{Clock, MovedTable, RunRecord, Store, StoreError, SystemClock, shown_url};

use crate::{args::StoreArgs, command::Context, engine, exit::Exit, output, progress::note};

/// Verdicts that are read at once.
const PAGE: usize = 500;

/// What is said of a damaged store.
const WHAT_TO_DO: &str = "restore the store from a backup, or name another --store and grade anew";

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Arguments of `tribunal store`.
#[derive(Debug, Args)]
pub(crate) struct StoreCommandArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Make the store where there is none, or bring one of an older tribunal to this version
    Init(StoreArgs),
    /// Read every run, its spec and its verdicts, and say what cannot be read
    Check(StoreArgs),
    /// Give the room of what was removed back
    Vacuum(VacuumArgs),
    /// Move everything that one store holds into another, empty one, and prove that it arrived
    Move(MoveArgs),
    /// Remove runs with their verdicts and whatever no other run needs; exported files stay
    Prune(PruneArgs),
}

/// Arguments of `tribunal store prune`.
#[derive(Debug, Args)]
struct PruneArgs {
    /// The runs, by id or its beginning
    #[arg(required_unless_present = "older_than")]
    run: Vec<String>,
    /// Also all runs that were begun so many days ago or earlier and have nothing left to grade
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u32>,
    #[command(flatten)]
    store: StoreArgs,
}

/// Arguments of `tribunal store vacuum`.
#[derive(Debug, Args)]
struct VacuumArgs {
    /// On PostgreSQL, give all of it to the disk; nobody gets at the table in hand meanwhile
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// The document of `tribunal store vacuum`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StoreVacuumDocument {
    /// The store's URL, without a password.
    store: String,
    /// Bytes that it is smaller by.
    bytes: u64,
}

/// Arguments of `tribunal store move`.
#[derive(Debug, Args)]
struct MoveArgs {
    /// The store to move, by its URL; it stays as it is. Stop its workers before
    from: String,
    /// Where to, by its URL: an empty store, or none yet
    to: String,
}

/// The document of `tribunal store move`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StoreMoveDocument {
    /// The store that was moved, without a password.
    from: String,
    /// Where everything is now too, without a password.
    to: String,
    /// What was counted and hashed on both sides.
    tables: Vec<MovedRows>,
}

/// Rows of one table.
#[derive(Debug, Serialize, JsonSchema)]
struct MovedRows {
    /// The table.
    table: &'static str,
    /// Its rows.
    rows: u64,
    /// BLAKE3 of them in key order, the same on both sides.
    hash: String,
}

/// The document of `tribunal store init`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StoreInitDocument {
    /// The store's URL, without a password.
    store: String,
    /// Runs in it.
    runs: usize,
}

/// The document of `tribunal store check`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StoreCheckDocument {
    /// The store's URL, without a password.
    store: String,
    /// Runs in it, as far as they can be listed.
    runs: usize,
    /// Verdicts that were read.
    verdicts: u64,
    /// What cannot be read, one line each; empty when the store is sound.
    problems: Vec<String>,
}

/// The document of `tribunal store prune`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StorePruneDocument {
    /// The runs removed.
    runs: Vec<PrunedRun>,
}

/// A run that was removed, and what went with it.
#[derive(Debug, Serialize, JsonSchema)]
struct PrunedRun {
    /// Its id.
    run: RunId,
    /// Tasks.
    tasks: u64,
    /// Verdicts.
    verdicts: u64,
    /// Recorded calls.
    attempts: u64,
    /// Texts (papers, evidence, files) that no other run needs.
    blobs: u64,
    /// Bytes that the store's file is smaller by.
    bytes: u64,
}

/// Runs `tribunal store`.
///
/// # Errors
///
/// No such run, a run is in work, or the store cannot be used.
pub(crate) async fn run(args: StoreCommandArgs, context: &Context) -> anyhow::Result<Exit> {
    match args.command {
        StoreCommand::Init(args) => init(&args, context).await,
        StoreCommand::Check(args) => check(&args, context).await,
        StoreCommand::Prune(args) => prune(args, context).await,
        StoreCommand::Vacuum(args) => vacuum(args, context).await,
        StoreCommand::Move(args) => move_all(args, context).await,
    }
}

async fn init(args: &StoreArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.flags())?;
    let store = engine::init_store(&config).await?;
    let runs = store.runs().await?.len();
    store.close().await?;
    let document = StoreInitDocument { store: config.store.shown_url(), runs };
    if context.json {
        output::print_json("store init", &document)?;
    } else {
        output::print_text(&format!("{} is ready; {runs} runs in it\n", document.store))?;
    }
    Ok(Exit::Complete)
}

async fn check(args: &StoreArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.flags())?;
    let shown = config.store.shown_url();
    let mut document =
        StoreCheckDocument { store: shown, runs: 0, verdicts: 0, problems: Vec::new() };
    match engine::existing_store(&config).await {
        Ok(store) => {
            let shown = &document.store;
            let none = || format!("there is no store at {shown}; `tribunal store init` makes one");
            let store = store.with_context(none)?;
            read_all(&store, &mut document).await?;
            store.close().await?;
        }
        // So much that it cannot even be opened: that is found too.
        Err(error @ StoreError::Damaged { .. }) => document.problems.push(error.to_string()),
        Err(error) => return Err(error.into()),
    }
    if context.json {
        output::print_json("store check", &document)?;
    } else {
        let StoreCheckDocument { store, runs, verdicts, problems } = &document;
        let lines: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
        let found = match problems.len() {
            0 => "all of it can be read".to_owned(),
            1 => format!("1 thing cannot be read; {WHAT_TO_DO}"),
            count => format!("{count} things cannot be read; {WHAT_TO_DO}"),
        };
        output::print_text(&format!(
            "{lines}{store}: {runs} runs, {verdicts} verdicts; {found}\n"
        ))?;
    }
    Ok(if document.problems.is_empty() { Exit::Complete } else { Exit::CheckFailed })
}

/// Reads every run of the store; what cannot be read is a problem of the document.
///
/// # Errors
///
/// The store does not answer for now.
async fn read_all(
    store: &Arc<dyn Store>,
    document: &mut StoreCheckDocument,
) -> Result<(), StoreError> {
    let records = match store.runs().await {
        Err(error) if !error.is_retryable() => {
            document.problems.push(format!("the list of runs: {error}"));
            return Ok(());
        }
        records => records?,
    };
    document.runs = records.len();
    for record in &records {
        match read(store, record, &mut document.verdicts).await {
            Err(error) if !error.is_retryable() => {
                document.problems.push(format!("run {}: {error}", record.run.id));
            }
            read => read?,
        }
    }
    Ok(())
}

/// Reads a run's spec and every verdict of it, and counts them.
async fn read(
    store: &Arc<dyn Store>,
    record: &RunRecord,
    verdicts: &mut u64,
) -> Result<(), StoreError> {
    store.blob(record.run.spec).await?;
    let mut after = None;
    loop {
        let page = store.verdicts(&record.run.id, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some((last.position, last.sample));
        *verdicts += page.iter().filter(|stored| stored.verdict.is_some()).count() as u64;
    }
}

async fn prune(args: PruneArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let store = engine::store_with_runs(&config).await?;
    // All names are looked up before anything is removed.
    let mut named = Vec::new();
    for name in &args.run {
        let run = engine::find_run(&store, name).await?;
        if !named.contains(&run) {
            named.push(run);
        }
    }
    let mut runs = named.clone();
    if let Some(days) = args.older_than {
        let before = SystemClock.now_ms() - i64::from(days) * DAY_MS;
        let records = store.runs().await?.into_iter();
        let old = records.filter(|record| record.created_ms <= before);
        for record in old.filter(|record| !named.contains(&record.run.id)) {
            let run = record.run.id;
            let progress = store.progress(&run).await?;
            // Age does not say that nobody wants the rest: a paused run may wait for weeks.
            match progress.pending + progress.leased {
                open if open > 0 && record.state != RunState::Cancelled => {
                    note(&format!(
                        "run {run} stays: {open} of its leaves are still to be graded; name it to \
                         remove it"
                    ));
                }
                _ => runs.push(run),
            }
        }
    }
    let mut document = StorePruneDocument { runs: Vec::new() };
    for run in runs {
        let pruned = match store.prune(&run).await {
            Err(StoreError::InUse { leases, .. }) if !named.contains(&run) => {
                note(&format!("run {run} stays: {leases} of its leaves are in work"));
                continue;
            }
            pruned => pruned?,
        };
        let pruned = PrunedRun {
            run,
            tasks: pruned.tasks,
            verdicts: pruned.verdicts,
            attempts: pruned.attempts,
            blobs: pruned.blobs,
            bytes: pruned.bytes,
        };
        // At once: should a later run be refused, it is known what has gone.
        if !context.json {
            output::print_text(&format!("{}\n", pruned.line()))?;
        }
        document.runs.push(pruned);
    }
    store.close().await?;
    if context.json {
        output::print_json("store prune", &document)?;
    } else if document.runs.is_empty() {
        output::print_text("no run to remove\n")?;
    }
    Ok(Exit::Complete)
}

async fn vacuum(args: VacuumArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let store = engine::store_with_runs(&config).await?;
    let bytes = store.vacuum(args.full).await?;
    store.close().await?;
    let document = StoreVacuumDocument { store: config.store.shown_url(), bytes };
    if context.json {
        output::print_json("store vacuum", &document)?;
    } else {
        output::print_text(&format!("{}: {} freed\n", document.store, HumanBytes(bytes)))?;
    }
    Ok(Exit::Complete)
}

async fn move_all(args: MoveArgs, context: &Context) -> anyhow::Result<Exit> {
    context.load(&[])?;
    let moved = tribunal_store::move_store(&args.from, &args.to).await?;
    let row = |MovedTable { name, rows, hash }| MovedRows { table: name, rows, hash };
    let (from, to) = (shown_url(&args.from), shown_url(&args.to));
    let tables = moved.into_iter().map(row).collect();
    let document = StoreMoveDocument { from, to, tables };
    if context.json {
        output::print_json("store move", &document)?;
    } else {
        let StoreMoveDocument { from, to, tables } = &document;
        let line = |MovedRows { table, rows, hash }: &MovedRows| {
            format!("{rows:>10} {table:<12} {}\n", &hash[..16])
        };
        let lines: String = tables.iter().map(line).collect();
        output::print_text(&format!(
            "{lines}{from} is in {to} too, counted and hashed on both sides; work on the latter\n"
        ))?;
    }
    Ok(Exit::Complete)
}

// === impl PrunedRun ===

impl PrunedRun {
    fn line(&self) -> String {
        let PrunedRun { run, tasks, verdicts, attempts, blobs, bytes } = self;
        let bytes = HumanBytes(*bytes);
        format!(
            "run {run} removed: {tasks} leaves, {verdicts} verdicts, {attempts} calls, {blobs} \
             texts; {bytes} freed"
        )
    }
}
