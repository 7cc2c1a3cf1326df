//! `tribunal pause | resume | cancel | retry | weight | priority`: what workers may do with a run.
//!
//! Owns the six commands. Workers learn of it from the store, at their next claim or heartbeat.

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_collector::progress_of_leaves;
use tribunal_core::{FailureClass, RunId, RunState, UngradedReason};
use tribunal_store::{Store, Weight};
use tribunal_worker::cancel_batches;

use crate::{
    args::{self, StoreArgs},
    budget::BudgetArgs,
    command::Context,
    engine::{self, Endpoints},
    exit::Exit,
    output::{self, counted},
    progress::note,
    run_state,
};

/// Arguments of `tribunal pause` and `cancel`.
#[derive(Debug, Args)]
pub(crate) struct ControlArgs {
    /// The run's id, or its beginning
    run: String,
    #[command(flatten)]
    store: StoreArgs,
}

/// Arguments of `tribunal resume`.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    control: ControlArgs,
    #[command(flatten)]
    budget: BudgetArgs,
}

/// Arguments of `tribunal retry`.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// The run's id, or its beginning
    run: String,
    /// Only leaves that ended in these classes, such as transient,lost_lease, or with these outcomes
    #[arg(long, value_name = "CLASS", value_delimiter = ',', value_parser = Classes::named)]
    class: Vec<Classes>,
    #[command(flatten)]
    store: StoreArgs,
}

/// The classes that a name stands for: one, or all that lead to an outcome.
#[derive(Clone, Debug)]
struct Classes(Vec<FailureClass>);

/// Arguments of `tribunal weight`.
#[derive(Debug, Args)]
pub(crate) struct WeightArgs {
    /// The run's id, or its beginning
    run: String,
    /// Its share, from 1 to 1000: with 3 it gets three times the tokens of a run with 1
    #[arg(value_name = "N", value_parser = args::weight)]
    weight: Weight,
    #[command(flatten)]
    store: StoreArgs,
}

/// Arguments of `tribunal priority`.
#[derive(Debug, Args)]
pub(crate) struct PriorityArgs {
    /// The run's id, or its beginning
    run: String,
    /// From -100 to 100: nothing of other runs is begun while one of a higher priority has a leaf to be had
    #[arg(value_name = "N", allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(args::PRIORITIES))]
    priority: i32,
    #[command(flatten)]
    store: StoreArgs,
}

/// The document of the six commands.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ControlDocument {
    /// The run.
    run: RunId,
    /// How it stands now: `active`, `paused`, `cancelled`, or `complete` or `incomplete` when
    /// nothing is left to do.
    state: &'static str,
    /// Leaves put back in the queue, by `retry` or a larger budget.
    requeued: Option<u64>,
    /// Its share against other runs.
    weight: u32,
    /// Its priority.
    priority: i32,
}

/// Runs `tribunal pause` or `cancel`.
///
/// # Errors
///
/// No such run, or the store cannot be used.
pub(crate) async fn run(
    args: ControlArgs,
    command: &'static str,
    state: RunState,
    context: &Context,
) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let store = engine::store_with_runs(&config).await?;
    let run = engine::find_run(&store, &args.run).await?;
    let progress = store.progress(&run).await?;
    let open = progress.pending + progress.leased;
    if state != RunState::Active && open == 0 && progress.ungraded.is_empty() {
        let document = document(&*store, run, None).await?;
        store.close().await?;
        return say(command, document, context);
    }
    let reason = if state == RunState::Paused { "paused by `tribunal pause`" } else { "" };
    store.control(&run, state, reason).await?;
    let mut exit = Exit::Complete;
    if state == RunState::Cancelled {
        let endpoints = Endpoints::new(config, Vec::new());
        if let Err(error) = cancel_batches(&*store, &run, &endpoints).await {
            note(&error.to_string());
            exit = Exit::Refused;
        }
    }
    let document = document(&*store, run, None).await?;
    store.close().await?;
    say(command, document, context)?;
    Ok(exit)
}

/// Runs `tribunal resume`.
///
/// # Errors
///
/// No such run, or its budget cannot be kept, or the store cannot be used.
pub(crate) async fn resume(args: ResumeArgs, context: &Context) -> anyhow::Result<Exit> {
    let ResumeArgs { control: ControlArgs { run, store }, budget } = args;
    let config = context.load(&store.flags())?;
    let store = engine::store_with_runs(&config).await?;
    let run = engine::find_run(&store, &run).await?;
    let facts = config.models.get(&store.run(&run).await?.run.model);
    budget.check(&facts)?;
    let back = budget.set(&run, facts.prices.as_ref(), &store).await?;
    store.control(&run, RunState::Active, "").await?;
    let document = document(&*store, run, (back > 0).then_some(back)).await?;
    store.close().await?;
    say("resume", document, context)
}

/// Runs `tribunal retry`.
///
/// # Errors
///
/// No such run, or the store cannot be used.
pub(crate) async fn retry(args: RetryArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let store = engine::store_with_runs(&config).await?;
    let run = engine::find_run(&store, &args.run).await?;
    let classes: Vec<FailureClass> = args.class.into_iter().flat_map(|Classes(all)| all).collect();
    let requeued = Some(store.retry(&run, &classes).await?);
    let document = document(&*store, run, requeued).await?;
    store.close().await?;
    say("retry", document, context)
}

/// Runs `tribunal weight`.
///
/// # Errors
///
/// No such run, or the store cannot be used.
pub(crate) async fn weight(args: WeightArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let store = engine::store_with_runs(&config).await?;
    let run = engine::find_run(&store, &args.run).await?;
    store.set_weight(&run, args.weight).await?;
    let document = document(&*store, run, None).await?;
    store.close().await?;
    say("weight", document, context)
}

/// Runs `tribunal priority`.
///
/// # Errors
///
/// No such run, or the store cannot be used.
pub(crate) async fn priority(args: PriorityArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let store = engine::store_with_runs(&config).await?;
    let run = engine::find_run(&store, &args.run).await?;
    store.set_priority(&run, args.priority).await?;
    let document = document(&*store, run, None).await?;
    store.close().await?;
    say("priority", document, context)
}

async fn document(
    store: &dyn Store,
    run: RunId,
    requeued: Option<u64>,
) -> anyhow::Result<ControlDocument> {
    let record = store.run(&run).await?;
    let state = run_state::word(record.state, &progress_of_leaves(store, &run).await?);
    Ok(ControlDocument {
        run,
        state,
        requeued,
        weight: record.weight.get(),
        priority: record.priority,
    })
}

fn say(command: &str, document: ControlDocument, context: &Context) -> anyhow::Result<Exit> {
    let needs_leaves = matches!(command, "pause" | "resume" | "cancel" | "retry");
    if needs_leaves && document.state == run_state::COMPLETE {
        let run = &document.run;
        note(&format!("run {run} is complete: there is nothing left to {command}"));
    }
    if context.json {
        output::print_json(command, &document)?;
    } else {
        let ControlDocument { run, state, requeued, weight, priority } = document;
        let requeued = requeued
            .map_or(String::new(), |n| format!(", {} put back", counted(n, "leaf", "leaves")));
        let weight = if weight == 1 { String::new() } else { format!(", weight {weight}") };
        let priority = if priority == 0 { String::new() } else { format!(", priority {priority}") };
        output::print_text(&format!("run {run} is {state}{requeued}{weight}{priority}\n"))?;
    }
    Ok(Exit::Complete)
}

// === impl Classes ===

impl Classes {
    /// Those of a class's name, or of an outcome's, as tables and documents have it.
    fn named(name: &str) -> Result<Classes, String> {
        if let Some(class) = FailureClass::from_name(name) {
            return Ok(Classes(vec![class]));
        }
        let outcome = UngradedReason::from_name(name);
        let leads = |class: &FailureClass| outcome.is_some_and(|reason| class.leads_to(reason));
        let classes: Vec<FailureClass> = FailureClass::ALL.into_iter().filter(leads).collect();
        if classes.is_empty() {
            let known = FailureClass::ALL.map(FailureClass::name).join(", ");
            let all = "`retry` alone puts all that is not graded back";
            return Err(format!("no failure is or leads to `{name}`. There are: {known}; {all}"));
        }
        Ok(Classes(classes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_named_by_itself_or_by_the_outcome_that_it_leads_to() {
        let named = |name| Classes::named(name).map(|Classes(all)| all);
        assert_eq!(named("transient"), Ok(vec![FailureClass::Transient]));
        assert_eq!(named("unparseable"), Ok(vec![FailureClass::BadReply]));
        let provider = [FailureClass::Throttled, FailureClass::Transient, FailureClass::Account];
        let found = named("provider_error").expect("an outcome");
        assert!(
            found.len() == 3 && provider.iter().all(|class| found.contains(class)),
            "{found:?}"
        );
        for other in ["budget", "no such class"] {
            let error = named(other).expect_err("no failure leads there");
            assert!(error.contains(other) && error.contains("bad_reply"), "{error}");
        }
    }
}
