//! `tribunal judge`: what can be found out about a judge before it grades.
//!
//! Owns the arguments. Trying an endpoint is `check`'s.

pub(crate) mod check;
mod probe;
mod suggestion;

use clap::{Args, Subcommand};

use crate::{args::JudgeArgs, command::Context, exit::Exit};

/// Arguments of `tribunal judge`.
#[derive(Debug, Args)]
pub(crate) struct JudgeCommandArgs {
    #[command(subcommand)]
    command: JudgeCommand,
}

/// What of it.
#[derive(Debug, Subcommand)]
enum JudgeCommand {
    /// Try a judge's endpoint with one small call for each form of reply; exit 4 when it refuses
    Check(CheckArgs),
}

/// Arguments of `tribunal judge check`.
#[derive(Debug, Args)]
struct CheckArgs {
    /// A judge of the config; without one, the config's `run.judge`
    #[arg(conflicts_with_all = ["judge", "base_url", "model"])]
    name: Option<String>,
    #[command(flatten)]
    judge: JudgeArgs,
}

/// Runs `tribunal judge`.
///
/// # Errors
///
/// No such judge, or its settings cannot be used.
pub(crate) async fn run(args: JudgeCommandArgs, context: &Context) -> anyhow::Result<Exit> {
    match args.command {
        JudgeCommand::Check(CheckArgs { name, judge }) => {
            let judge = match name {
                Some(name) => JudgeArgs { judge: Some(name), ..JudgeArgs::default() },
                None => judge,
            };
            check::run(&judge, context).await
        }
    }
}
