//! `tribunal work`: one worker process on a store.
//!
//! Owns the command alone; the pool is the worker's.

use std::sync::Arc;

use clap::Args;
use tribunal_collector::progress_of_leaves;
use tribunal_core::RunState;
use tribunal_worker::{PoolEnd, Scope};

use crate::{
    args::{MetricsArgs, PoolArgs, StoreArgs},
    command::Context,
    engine::{self, Endpoints},
    exit::Exit,
    metrics,
    progress::{Progress, note},
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

/// Runs `tribunal work`.
///
/// # Errors
///
/// The config or the store cannot be used.
pub(crate) async fn run(args: WorkArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&[args.store.flags(), args.pool.flags()].concat())?;
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
    let scope = Scope { runs: run.map(|run| vec![run]), until_empty: args.until_empty };
    let end = engine::work(&config, &store, endpoints, &shown, shutdown, &scope).await?;
    store.close().await?;
    Ok(match (end, signalled.exit()) {
        (_, Some(exit)) => exit,
        (PoolEnd::Empty, None) if shown.has_paused() => Exit::Refused,
        (PoolEnd::Empty | PoolEnd::Shutdown, None) => Exit::Complete,
    })
}
