//! `tribunal work`: one worker process on a store.
//!
//! Owns the command and its document; the pool is the worker's.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_collector::{CallCounts, progress_of_leaves};
use tribunal_core::{RunId, RunState, UngradedReason, Usage};
use tribunal_store::{Store, StoreError};
use tribunal_worker::{PoolEnd, Scope};

use crate::{
    args::{MetricsArgs, PoolArgs, StoreArgs},
    command::Context,
    engine::{self, Endpoints},
    exit::Exit,
    metrics, output,
    progress::{Progress, note},
    tally::Tally,
};

/// Arguments of `tribunal work`.
#[derive(Debug, Args)]
#[command(
    after_help = "A run's budget is in the store and holds for every worker: `tribunal grade`, \
    `submit` and `resume` set it with --budget and --max-tokens."
)]
pub(crate) struct WorkArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pool: PoolArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
    /// Work on this run alone
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// End when no task of an active run is left, instead of waiting for more
    #[arg(long)]
    until_empty: bool,
}

/// The document of `tribunal work`: what this process did, whoever else works on the store.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WorkDocument {
    /// Why it ended.
    ended: WorkEnd,
    /// Whether a simulated judge is that of any of the runs.
    simulated: bool,
    /// Leaves with a verdict.
    done: u64,
    /// Leaves given up.
    dead: u64,
    /// Those of both that ended without a score, by reason.
    ungraded: BTreeMap<UngradedReason, u64>,
    /// The runs that it worked on.
    runs: Vec<WorkedRun>,
    /// Its calls, whatever came of them.
    calls: CallCounts,
    /// Tokens of all its calls.
    tokens: Usage,
    /// What its calls cost, in US dollars, those of unknown outcome left out; null where no price is
    /// known.
    cost_usd: Option<f64>,
    /// From its start to its end, in seconds.
    wall_s: f64,
}

/// Why a worker ended.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WorkEnd {
    /// No task of an active run was left.
    Empty,
    /// Nothing was left but what a judge's refusal paused.
    Paused,
    /// Its deadline came.
    Deadline,
    /// `tribunal drain` told it to end.
    Drained,
    /// A signal told it to end.
    Interrupted,
}

/// A run, and what this process did of it.
#[derive(Debug, Serialize, JsonSchema)]
struct WorkedRun {
    /// The run's id.
    run: RunId,
    /// Whether its judge is simulated.
    simulated: bool,
    /// Leaves with a verdict.
    done: u64,
    /// Leaves given up.
    dead: u64,
    /// Those of both that ended without a score, by reason.
    ungraded: BTreeMap<UngradedReason, u64>,
}

/// Runs `tribunal work`.
///
/// # Errors
///
/// The config or the store cannot be used.
pub(crate) async fn run(args: WorkArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&[args.store.flags(), args.pool.flags()].concat())?;
    let start = Instant::now();
    let (shutdown, signalled) = engine::on_signals(config.worker.grace)?;
    let store = match engine::existing_store(&config).await? {
        Some(store) => store,
        None => {
            let store = engine::open_store(&config).await?;
            // Whoever meant another one is to know.
            note(&format!("no store was there: {} is made, and empty", config.store.shown_url()));
            store
        }
    };
    if let Some(addr) = args.metrics.metrics_addr {
        metrics::serve(addr, Arc::clone(&store), shutdown.drain.clone()).await?;
    }
    let run = match &args.run {
        Some(name) => Some(engine::find_run(&store, name).await?),
        None => None,
    };
    let (mut leaves, mut open) = (0, 0);
    for record in store.runs().await? {
        let here = run.as_ref().is_none_or(|run| *run == record.run.id);
        if here && record.state == RunState::Active {
            let progress = progress_of_leaves(&*store, &record.run.id).await?;
            leaves += progress.leaves;
            open += progress.pending + progress.leased;
        }
    }
    let shown = Arc::new(Progress::new(leaves, leaves - open, args.pool.quiet, None));
    let endpoints = Arc::new(Endpoints::new(config.clone(), Vec::new()).limited(args.pool.rates));
    let scope = Scope {
        runs: run.clone().map(|run| vec![run]),
        until_empty: args.until_empty,
        ..Scope::default()
    };
    let end = engine::work(&config, &store, endpoints, &shown, shutdown, &scope).await?;
    let is_paused = match &run {
        Some(run) => match store.run(run).await {
            Ok(record) => record.state == RunState::Paused,
            // Removed meanwhile.
            Err(StoreError::NoSuchRun { .. }) => false,
            Err(error) => return Err(error.into()),
        },
        None => shown.has_paused(),
    };
    let (ended, exit) = match (end, signalled.exit()) {
        (_, Some(exit)) => (WorkEnd::Interrupted, exit),
        (PoolEnd::Empty, None) if is_paused => (WorkEnd::Paused, Exit::Refused),
        (PoolEnd::Empty, None) => (WorkEnd::Empty, Exit::Complete),
        (PoolEnd::Shutdown, None) if shown.is_past_deadline() => {
            (WorkEnd::Deadline, Exit::Complete)
        }
        (PoolEnd::Shutdown, None) => (WorkEnd::Drained, Exit::Complete),
    };
    let document = match context.json {
        true => Some(document(ended, shown.tally(), start, &store).await?),
        false => None,
    };
    store.close().await?;
    if let Some(document) = document {
        output::print_json("work", &document)?;
    }
    Ok(exit)
}

async fn document(
    ended: WorkEnd,
    tally: Tally,
    start: Instant,
    store: &Arc<dyn Store>,
) -> anyhow::Result<WorkDocument> {
    let cost_usd = tally.cost_usd();
    let mut ungraded: BTreeMap<UngradedReason, u64> = BTreeMap::new();
    let mut runs = Vec::new();
    for (run, did) in tally.runs {
        let of_simulated = match store.run(&run).await {
            Ok(record) => record.run.simulated,
            // Removed meanwhile.
            Err(StoreError::NoSuchRun { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        for (reason, count) in &did.ungraded {
            *ungraded.entry(*reason).or_default() += *count;
        }
        runs.push(WorkedRun {
            run,
            simulated: of_simulated || did.any_simulated,
            done: did.done,
            dead: did.dead,
            ungraded: did.ungraded,
        });
    }
    Ok(WorkDocument {
        ended,
        simulated: runs.iter().any(|run| run.simulated),
        done: runs.iter().map(|run| run.done).sum(),
        dead: runs.iter().map(|run| run.dead).sum(),
        ungraded,
        runs,
        calls: tally.calls,
        tokens: tally.tokens,
        cost_usd,
        wall_s: start.elapsed().as_secs_f64(),
    })
}
