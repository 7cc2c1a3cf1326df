//! `tribunal submit`: a run into the queue, for workers elsewhere.
//!
//! Owns the command alone; what a run is made of is `prepare`'s.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_collector::progress_of_leaves;
use tribunal_core::RunId;

use crate::{
    args::{InputArgs, JudgeArgs, RateArgs, ShareArgs, StoreArgs},
    budget::BudgetArgs,
    command::Context,
    engine,
    exit::Exit,
    output,
    panel::VoteArgs,
    prepare,
};

/// Arguments of `tribunal submit`.
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    judge: JudgeArgs,
    #[command(flatten)]
    votes: VoteArgs,
    #[command(flatten)]
    budget: BudgetArgs,
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
    let config = context.load(&[args.inputs.options.flags(), args.store.flags()].concat())?;
    let panel = args.votes.panel(&args.judge, RateArgs::default(), &config)?;
    anyhow::ensure!(
        panel.sending().is_none(),
        "--escalate is `tribunal grade`'s: what is sent on shows when the first judge's votes are cast"
    );
    panel.check_budget(&args.budget)?;
    let store = engine::open_store(&config).await?;
    let SubmitArgs { inputs, budget, share, .. } = &args;
    let prepared = prepare::prepare(inputs, &config, &panel, budget, share, &store).await?;
    let run = prepared.record.run.id;
    let leaves = progress_of_leaves(&*store, &run).await?.leaves;
    store.close().await?;
    if context.json {
        let new = prepared.new_tasks;
        output::print_json("submit", &SubmitDocument { run, leaves, new })?;
    } else {
        output::print_text(&format!("{run}\n"))?;
    }
    Ok(Exit::Complete)
}
