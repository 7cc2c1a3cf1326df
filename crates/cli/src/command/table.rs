//! `tribunal table`: scores of agents over papers and seeds, from runs and graded trees.
//!
//! Owns the arguments and where the output goes. Finding trees is `trees`', the arithmetic, the
//! text and the plots are the collector's.

mod corrected;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use tribunal_collector::{
    TextStyle,
    results::{By, ResultsOptions, ResultsTable, plot, render},
};
use tribunal_report::results_page;

use self::corrected::Calibrated;
use crate::{
    args::StoreArgs,
    calibration::CalibrationArgs,
    command::Context,
    exit::Exit,
    output,
    progress::note,
    trees::{Reading, Runs, Trees},
};

/// Arguments of `tribunal table`.
#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// Runs, graded files, folders of them, batches' results, or manifests with `graded` rows
    #[arg(required = true, value_name = "RUN|DIR|FILE")]
    sources: Vec<String>,
    /// What the rows are: agent, scaffold, paper, category or elapsed
    #[arg(long, value_name = "KIND", default_value = "agent")]
    by: By,
    /// Only these papers: a file with a paper's id a line
    #[arg(long, value_name = "FILE")]
    split: Option<PathBuf>,
    /// Count Code Development leaves only
    #[arg(long)]
    code_only: bool,
    /// How folders are laid out, such as '{agent}/{paper_id}/seed{seed}'; also {scaffold} and
    /// {elapsed_hours}
    #[arg(long, value_name = "PATTERN")]
    layout: Option<String>,
    /// In PaperBench's folders of runs: the snapshots nearest to these hours
    #[arg(long, value_name = "H,H,...", value_delimiter = ',')]
    hours: Vec<f64>,
    /// Of this agent the best seed of each paper counts, as in a human baseline's best of 3
    #[arg(long, value_name = "AGENT")]
    best_of: Vec<String>,
    /// How the table is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Draw it too: bars with errors, or curves where it is by elapsed time
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// The agent whose scores are the human baseline in the plot [default: one named human…]
    #[arg(long, value_name = "AGENT")]
    human: Option<String>,
    /// Exit 5 if a row's score is below S, from 0 to 1
    #[arg(long, value_name = "S", value_parser = crate::args::score)]
    fail_under: Option<f64>,
    #[command(flatten)]
    calibration: CalibrationArgs,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Md,
    Csv,
    Json,
    Latex,
    /// A page: the plot with the table behind it
    Html,
}

/// Runs `tribunal table`.
///
/// # Errors
///
/// A tree, the split or the plot's file cannot be used, or the calibration is of another judge.
pub(crate) async fn run(args: TableArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let split = args.split.as_deref().map(split).transpose()?;
    let mut runs = Runs::new(&config);
    let reading = Reading { layout: args.layout.clone(), hours: args.hours.clone() };
    let trees = Trees::find(&args.sources, &reading, &mut runs).await?;
    let calibrated = match args.calibration.read()? {
        Some(calibration) => Some(Calibrated::read(calibration, &trees.found, &mut runs).await?),
        None => None,
    };
    let (entries, notes) = trees.entries(&mut runs).await?;
    runs.close().await?;
    let agents = entries.iter().map(|entry| entry.labels.agent.as_str());
    let human = args.human.clone().or_else(|| {
        let mut agents = agents;
        agents.find(|agent| agent.to_lowercase().starts_with("human")).map(str::to_owned)
    });
    let best_of = args.best_of.iter().cloned().collect();
    let options = ResultsOptions { by: args.by, split, code_only: args.code_only, best_of };
    let mut table = ResultsTable::new(entries, &options, notes)?;
    if let Some(calibrated) = &calibrated {
        calibrated.correct(&mut table, args.code_only);
    }
    if let Some(path) = &args.plot {
        let svg = plot::svg(&table, human.as_deref())?;
        fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let format = if context.json { Format::Json } else { args.format };
    print(&table, human.as_deref(), format)?;
    Ok(exit(&table, args.fail_under))
}

/// Incomplete scores come before low ones: what is missing may be what a score lacks.
pub(crate) fn exit(table: &ResultsTable, fail_under: Option<f64>) -> Exit {
    let is_low = |limit: f64| table.lowest().is_some_and(|lowest| lowest < limit);
    match fail_under {
        _ if !table.is_complete() => Exit::Incomplete,
        Some(limit) if is_low(limit) => Exit::FailUnder,
        _ => Exit::Complete,
    }
}

fn print(table: &ResultsTable, human: Option<&str>, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Text => output::print_text(&render::text(table, TextStyle::of_stdout())),
        Format::Md => output::print_text(&render::markdown(table)),
        Format::Latex => output::print_text(&render::latex(table)),
        Format::Json => output::print_json("table", table),
        Format::Html => output::print_text(&results_page(table, human)?.html),
        Format::Csv => {
            // A CSV file has no place for what a reader must know besides.
            for remark in render::remarks(table) {
                note(&remark);
            }
            output::print_text(&render::csv(table)?)
        }
    }
}

/// The papers of a split file: an id a line, empty lines and comments left out.
fn split(path: &Path) -> anyhow::Result<BTreeSet<String>> {
    let name = path.display();
    let text =
        fs::read_to_string(path).with_context(|| format!("the split {name} cannot be read"))?;
    let lines = text.lines().map(str::trim);
    let papers: BTreeSet<String> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    ensure!(!papers.is_empty(), "the split {name} names no paper; give a paper's id a line");
    Ok(papers)
}
