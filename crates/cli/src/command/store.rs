//! `tribunal store prune`: removes runs and gives their room back.
//!
//! Owns the command and its document. What a run takes with it is the store's.

use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::RunId;
use tribunal_store::{Clock, StoreError, SystemClock};

use crate::{args::StoreArgs, command::Context, engine, exit::Exit, output, progress::note};

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
    /// Remove runs with their verdicts and whatever no other run needs; exported files stay
    Prune(PruneArgs),
}

/// Arguments of `tribunal store prune`.
#[derive(Debug, Args)]
struct PruneArgs {
    /// The runs, by id or its beginning
    #[arg(required_unless_present = "older_than")]
    run: Vec<String>,
    /// Also all runs that were begun so many days ago or earlier and are not in work
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u32>,
    #[command(flatten)]
    store: StoreArgs,
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
    let StoreCommand::Prune(args) = args.command;
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
        let old = records.filter(|record| record.created_ms <= before).map(|record| record.run.id);
        runs.extend(old.filter(|run| !named.contains(run)));
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
