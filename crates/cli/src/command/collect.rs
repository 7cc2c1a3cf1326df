//! `tribunal collect`, and the end of `tribunal grade`: scores, files, the closing table.
//!
//! Owns the command and how a run's state becomes an exit code. The scores are the collector's.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use tribunal_collector::{
    CollectOptions, Collected, GradeState, TextStyle, closing_table, export, scored_tree,
};
use tribunal_core::{RunId, UngradedReason};
use tribunal_store::Store;

use crate::{
    args::StoreArgs,
    command::{Context, report},
    config::Config,
    engine,
    exit::Exit,
    output,
    progress::note,
};

/// Arguments of `tribunal collect`.
#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    /// The run's id, or its beginning
    run: String,
    #[command(flatten)]
    store: StoreArgs,
    /// Where the results go [default: tribunal-out/RUN]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the scored tree too
    #[arg(long)]
    tree: bool,
    /// Nothing on standard error
    #[arg(long)]
    quiet: bool,
}

/// How a command ends.
pub(crate) struct Finish {
    /// The command that says so in its document.
    pub(crate) command: &'static str,
    /// Whether standard error stays empty.
    pub(crate) quiet: bool,
    /// Whether the scored tree is printed.
    pub(crate) tree: bool,
    /// The exit of a process that a signal ended.
    pub(crate) signal: Option<Exit>,
}

/// Runs `tribunal collect`.
///
/// # Errors
///
/// No such run, or the store or the output folder cannot be used.
pub(crate) async fn run(args: CollectArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let store = engine::store_with_runs(&config).await?;
    let run = engine::find_run(&store, &args.run).await?;
    let out = args.out.unwrap_or_else(|| default_out(&run));
    let finish = Finish { command: "collect", quiet: args.quiet, tree: args.tree, signal: None };
    self::finish(&config, &store, &run, &out, context, finish).await
}

/// Where a run's results go when nobody says.
pub(crate) fn default_out(run: &RunId) -> PathBuf {
    Path::new("tribunal-out").join(run.as_str())
}

/// Collects and exports the run, shows it, and closes the store.
///
/// # Errors
///
/// The store or the output folder cannot be used.
pub(crate) async fn finish(
    config: &Config,
    store: &Arc<dyn Store>,
    run: &RunId,
    out: &Path,
    context: &Context,
    finish: Finish,
) -> anyhow::Result<Exit> {
    let options = CollectOptions {
        coverage_floor: config.run.coverage_floor,
        interrupted: finish.signal.is_some(),
        ..CollectOptions::default()
    };
    let mut collected = tribunal_collector::collect(&**store, run, &options).await?;
    let prices = config.models.get(&collected.spec().judge.model).prices;
    collected.set_cost(prices.map(|prices| prices.cost_usd(&collected.totals().usage)));
    collected.set_config(serde_json::to_value(config.show())?);
    export(&collected, &**store, out).await?;
    let report = report::beside(&collected, store, out).await?;
    store.close().await?;
    if context.json {
        output::print_json(finish.command, &collected.document(Some(out)))?;
    } else {
        let style = TextStyle::of_stdout();
        if finish.tree {
            output::print_text(&scored_tree(&collected, style, None))?;
        }
        output::print_text(&closing_table(&collected, style))?;
        output::print_text(&format!("results in {}\n", out.display()))?;
        if let Some(report) = &report {
            output::print_text(&format!("to look at them: {}\n", report.display()))?;
        }
    }
    let state = collected.state();
    if report.is_none() && !finish.quiet {
        let run = &collected.record().run.id;
        note(&format!(
            "the run is too large for a page by itself; `tribunal report {run}` makes it"
        ));
    }
    if !finish.quiet
        && let Some(said) = advice(&collected)
    {
        note(&said);
    }
    Ok(match (state, finish.signal) {
        (GradeState::Complete, _) => Exit::Complete,
        (GradeState::Interrupted, Some(signal)) => signal,
        (GradeState::Paused, _) if finish.command == "grade" => Exit::Refused,
        _ => Exit::Incomplete,
    })
}

/// What to do about a run that is not complete.
fn advice(collected: &Collected) -> Option<String> {
    let (run, reason) = (&collected.record().run.id, &collected.record().reason);
    let open = collected.counts().ungraded.get(&UngradedReason::Pending).copied().unwrap_or(0);
    Some(match collected.state() {
        GradeState::Complete => return None,
        GradeState::Paused => format!(
            "run {run} is paused: {reason}\nnothing is lost and no leaf is burnt; put it right and \
             run the same command again"
        ),
        GradeState::Interrupted => {
            format!("run {run} was interrupted; the same command again goes on where it stopped")
        }
        GradeState::Cancelled => {
            format!("run {run} is cancelled; `tribunal retry {run}` takes that back")
        }
        GradeState::Incomplete if open > 0 => format!(
            "run {run} has {open} leaves still to grade; `tribunal work`, or the command that began \
             it, goes on"
        ),
        GradeState::Incomplete => format!(
            "run {run} is incomplete; `tribunal retry {run}` puts ungraded leaves back in the \
             queue, then run the same command again"
        ),
    })
}
