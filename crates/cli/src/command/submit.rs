//! `tribunal submit`: a run into the queue, for workers elsewhere.
//!
//! Owns the command alone; what a run is made of is `prepare`'s.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::RunId;

use crate::{
    args::{InputArgs, JudgeArgs, RateArgs, ShareArgs, StoreArgs},
    command::Context,
    engine,
    exit::Exit,
    output, prepare,
};

/// Arguments of `tribunal submit`.
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    judge: JudgeArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    share: ShareArgs,
}

/// The document of `tribunal submit`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SubmitDocument {
    /// The run.
    run: RunId,
    /// Its leaves.
    leaves: u64,
    /// Those that were not in the queue before.
    new: u64,
}

/// Runs `tribunal submit`; prints the run's id alone.
///
/// # Errors
///
/// An input, the config or the store cannot be used.
pub(crate) async fn run(args: SubmitArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&[args.inputs.flags(), args.store.flags()].concat())?;
    let judge = prepare::judge(&args.judge, RateArgs::default(), &config)?;
    let store = engine::open_store(&config).await?;
    let prepared = prepare::prepare(&args.inputs, &config, &judge, &store).await?;
    let run = prepared.record.run.id;
    if let Some(weight) = args.share.weight {
        store.set_weight(&run, weight).await?;
    }
    let leaves = store.progress(&run).await?.leaves;
    store.close().await?;
    if context.json {
        let new = prepared.new_tasks;
        output::print_json("submit", &SubmitDocument { run, leaves, new })?;
    } else {
        output::print_text(&format!("{run}\n"))?;
    }
    Ok(Exit::Complete)
}
