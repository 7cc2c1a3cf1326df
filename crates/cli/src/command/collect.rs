//! `tribunal collect`, and the end of `tribunal grade`: scores, files, the closing table.
//!
//! Owns the command and how a run's state becomes an exit code. The scores are the collector's.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use tribunal_audit::Calibration;
use tribunal_collector::{
    CollectOptions, Collected, GradeState, TextStyle, closing_table, export, scored_tree,
};
use tribunal_core::{RunId, UngradedReason};
use tribunal_store::Store;

use crate::{
    args::StoreArgs,
    calibration::{self, CalibratedDocument, CalibrationArgs},
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
    #[command(flatten)]
    calibration: CalibrationArgs,
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
    /// What is known of the judge's error.
    pub(crate) calibration: Option<Calibration>,
    /// The score below which a complete run exits 5.
    pub(crate) fail_under: Option<f64>,
}

/// Runs `tribunal collect`.
///
/// # Errors
///
/// No such run, the store or the output folder cannot be used, or the calibration is of another
/// judge.
pub(crate) async fn run(args: CollectArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let store = engine::store_with_runs(&config).await?;
    let run = engine::find_run(&store, &args.run).await?;
    let out = args.out.unwrap_or_else(|| default_out(&run));
    let calibration = args.calibration.read()?;
    let (quiet, tree) = (args.quiet, args.tree);
    let finish =
        Finish { command: "collect", quiet, tree, signal: None, calibration, fail_under: None };
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
    if let Some(calibration) = &finish.calibration {
        calibration::check(calibration, collected.spec())?;
    }
    let prices = config.models.get(&collected.spec().judge.model).prices;
    collected.set_prices(prices);
    collected.set_config(serde_json::to_value(config.show())?);
    export(&collected, &**store, out).await?;
    let known = finish.calibration.as_ref();
    let corrected = known.map(|known| calibration::correct(known, &collected));
    let report = report::beside(&collected, store, corrected.as_ref(), out).await?;
    store.close().await?;
    if context.json {
        let document = collected.document(Some(out));
        output::print_json(finish.command, &CalibratedDocument { document, corrected })?;
    } else {
        let style = TextStyle::of_stdout();
        if finish.tree {
            output::print_text(&scored_tree(&collected, style, None))?;
        }
        output::print_text(&closing_table(&collected, style))?;
        if let Some(corrected) = &corrected {
            output::print_text(&calibration::line(corrected))?;
        }
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
    // What is missing under a coverage floor below 1 counts as 0.
    let is_low = finish.fail_under.is_some_and(|limit| collected.summary().root.lower < limit);
    Ok(match (state, finish.signal) {
        (GradeState::Complete, _) if is_low => Exit::FailUnder,
        (GradeState::Complete, _) => Exit::Complete,
        (GradeState::Interrupted, Some(signal)) => signal,
        (GradeState::Paused, _) if finish.command == "grade" => Exit::Refused,
        _ => Exit::Incomplete,
    })
}

/// What to do about a run that is not complete.
fn advice(collected: &Collected) -> Option<String> {
    let (run, reason) = (&collected.record().run.id, &collected.record().reason);
    let missing = |reason| collected.counts().ungraded.get(&reason).copied().unwrap_or(0);
    let (open, unpaid) = (missing(UngradedReason::Pending), missing(UngradedReason::Budget));
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
        GradeState::Incomplete if unpaid > 0 => format!(
            "run {run} has {unpaid} leaves that its budget did not hold; the same command with a \
             larger budget, or `tribunal resume {run}` with one and `tribunal work`, goes on"
        ),
        GradeState::Incomplete => format!(
            "run {run} is incomplete; `tribunal retry {run}` puts ungraded leaves back in the \
             queue, then run the same command again"
        ),
    })
}
