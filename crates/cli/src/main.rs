//! The `tribunal` binary: arguments and config in, exit codes out.
//!
//! Owns the command line and what an error looks like. Every command is a file of `command`.

mod args;
mod baseline;
mod batch;
mod budget;
mod calibration;
mod command;
mod config;
mod document;
mod engine;
mod estimate;
mod exhibits;
mod exit;
mod input;
mod leaf;
mod log;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
mod output;
mod panel;
mod prepare;
mod progress;
mod run_state;
mod tally;
mod trees;
mod tune;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tribunal_core::RunState;

use crate::{
    command::{
        Context, audit, batch as batch_command, collect, compare, config as config_command,
        control, evidence, explain, grade, judge, plan, prompt, report, rescore, rubric, schema,
        serve, sim, status, store, submit, table, tune as tune_command, work, workers,
    },
    exit::{BAD_INPUT, Exit},
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Grade work against rubric trees with LLM judges
#[derive(Debug, Parser)]
#[command(name = "tribunal", version, propagate_version = true)]
struct Cli {
    /// Print one JSON document on standard output
    #[arg(long, global = true)]
    json: bool,
    /// A config file laid over tribunal.toml and the defaults
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check rubrics, or show what is in one
    Rubric(rubric::RubricArgs),
    /// Print what the judge would be sent about a leaf, or check a prompt set
    Prompt(Box<prompt::PromptArgs>),
    /// Score a graded tree again
    Rescore(rescore::RescoreArgs),
    /// Say what a run would ask and cost, without a call
    Plan(Box<plan::PlanArgs>),
    /// Grade a submission: submit, work and collect in one
    Grade(Box<grade::GradeArgs>),
    /// Grade many submissions, named in a manifest, as one
    Batch(Box<batch_command::BatchArgs>),
    /// Put a run into the queue and print its id
    Submit(Box<submit::SubmitArgs>),
    /// Work on the queue
    Work(work::WorkArgs),
    /// Score a run and write its files
    Collect(collect::CollectArgs),
    /// Show the runs and how far they are
    Status(status::StatusArgs),
    /// Claim nothing more of a run
    Pause(control::ControlArgs),
    /// Go on with a paused run
    Resume(control::ResumeArgs),
    /// End a run; what is not graded stays ungraded
    Cancel(control::ControlArgs),
    /// Put a run's dead and ungraded leaves back in the queue
    Retry(control::RetryArgs),
    /// Set a run's share against the other runs of its store
    Weight(control::WeightArgs),
    /// Set a run's priority: of those below it nothing is begun while it has leaves
    Priority(control::PriorityArgs),
    /// List the worker processes of a store
    Workers(workers::WorkersArgs),
    /// Tell a worker to finish what it holds and take no more
    Drain(workers::DrainArgs),
    /// Make, check, move and clean up stores
    Store(store::StoreCommandArgs),
    /// Tables of scores over agents, papers and seeds, as people publish them
    Table(Box<table::TableArgs>),
    /// Compare two runs or graded trees leaf by leaf
    Compare(compare::CompareArgs),
    /// Show everything that is known of one leaf of a run
    Explain(explain::ExplainArgs),
    /// Say how far a judge is from humans, and what that does to its scores
    Audit(Box<audit::AuditArgs>),
    /// Find the better prompt for a judge, and say whether it is better
    Tune(Box<tune_command::TuneArgs>),
    /// Write a run or a graded file as one page to look at
    Report(report::ReportArgs),
    /// Serve the pages live from the store
    Serve(serve::ServeArgs),
    /// List what the judge would be shown of a submission
    Evidence(evidence::EvidenceArgs),
    /// Try a judge's endpoint
    Judge(judge::JudgeCommandArgs),
    /// Show the resolved config, or check a file
    Config(config_command::ConfigArgs),
    /// Run the simulated judge as a server on loopback
    Sim(sim::SimArgs),
    /// Print the JSON Schema of a command's document
    Schema(schema::SchemaArgs),
}

fn main() -> ExitCode {
    // One TLS provider for the whole process, before the first client is made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(dispatch(cli)));
    #[cfg(feature = "otel")]
    otel::end();
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            progress::note(&format!("error: {}", describe(&error)));
            ExitCode::from(BAD_INPUT)
        }
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let Cli { json, config, command } = cli;
    let context = Context { json, config };
    match command {
        Command::Rubric(args) => rubric::run(args, json),
        Command::Prompt(args) => prompt::run(*args, &context).await,
        Command::Rescore(args) => rescore::run(args, json),
        Command::Plan(args) => plan::run(*args, &context).await,
        Command::Grade(args) => grade::run(*args, &context).await,
        Command::Batch(args) => batch_command::run(*args, &context).await,
        Command::Submit(args) => submit::run(*args, &context).await,
        Command::Work(args) => work::run(args, &context).await,
        Command::Collect(args) => collect::run(args, &context).await,
        Command::Status(args) => status::run(args, &context).await,
        Command::Pause(args) => control::run(args, "pause", RunState::Paused, &context).await,
        Command::Resume(args) => control::resume(args, &context).await,
        Command::Cancel(args) => control::run(args, "cancel", RunState::Cancelled, &context).await,
        Command::Retry(args) => control::retry(args, &context).await,
        Command::Weight(args) => control::weight(args, &context).await,
        Command::Priority(args) => control::priority(args, &context).await,
        Command::Workers(args) => workers::run(args, &context).await,
        Command::Drain(args) => workers::drain(args, &context).await,
        Command::Store(args) => store::run(args, &context).await,
        Command::Table(args) => table::run(*args, &context).await,
        Command::Compare(args) => compare::run(args, &context).await,
        Command::Explain(args) => explain::run(args, &context).await,
        Command::Audit(args) => audit::run(*args, &context).await,
        Command::Tune(args) => tune_command::run(*args, &context).await,
        Command::Report(args) => report::run(args, &context).await,
        Command::Serve(args) => serve::run(args, &context).await,
        Command::Evidence(args) => evidence::run(args, &context).await,
        Command::Judge(args) => judge::run(args, &context).await,
        Command::Config(args) => config_command::run(args, json, context.config.as_deref()),
        Command::Sim(args) => sim::run(args).await,
        Command::Schema(args) => schema::run(args),
    }
}

/// The error and its causes, each said once.
fn describe(error: &anyhow::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain() {
        let words = cause.to_string();
        if !said.last().is_some_and(|last| last.ends_with(&words)) {
            said.push(words);
        }
    }
    said.join(": ")
}
