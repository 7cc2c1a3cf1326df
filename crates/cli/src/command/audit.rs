//! `tribunal audit`: how far a judge is from the humans, and what that does to the score.
//!
//! Owns the command's arguments, its order of steps and its exit code. What is computed is the
//! audit's; what is read and written here are files and runs.

mod arguments;
mod files;
mod floor;
mod load;
mod pair_file;
mod run_tree;
mod summary;

use std::path::{Path, PathBuf};

use clap::Args;
use tribunal_audit::{AuditDocument, AuditOptions, Paired, audit};
use tribunal_collector::TextStyle;

use self::{arguments::Sources, floor::Floors, load::Loaded};
use crate::{args::StoreArgs, command::Context, exit::Exit, output, progress::note};

/// Arguments of `tribunal audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    sources: Sources,
    /// Which judge's file belongs to which human's, where their paths do not say
    #[arg(long, value_name = "FILE.toml")]
    pair: Option<PathBuf>,
    /// A table of verdicts, a row a leaf
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "columns", conflicts_with_all = ["judge", "human", "pair"])]
    csv: Vec<PathBuf>,
    /// What the table's columns mean: item=A+B,human=C,judge=D and, as wanted, group= (paper),
    /// system=, category=, weight=
    #[arg(long, value_name = "NAME=COLUMN,…", requires = "csv")]
    columns: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
    /// Where audit.json and disagreements.csv go
    #[arg(long, value_name = "DIR", default_value = "tribunal-out/audit")]
    out: PathBuf,
    /// Exit 5 where a measure is lower, such as f1=0.80,coverage=0.99
    #[arg(long, value_name = "MEASURE=N,…", default_value = "")]
    fail_under: Floors,
    /// The labelled leaves, or whole submissions, are a random sample of all that were judged
    #[arg(long)]
    labelled_at_random: bool,
}

/// Runs `tribunal audit`.
///
/// # Errors
///
/// Grades cannot be read or paired, or the output folder cannot be written.
pub(crate) async fn run(args: AuditArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let loaded = match &args.columns {
        Some(columns) => load::tables(&args.csv, columns)?,
        None => load::trees(&args.sources, args.pair.as_deref(), &config).await?,
    };
    let Loaded { paired, judges, costs } = loaded;
    anyhow::ensure!(
        paired.leaves.iter().any(|leaf| leaf.human().score().is_some()),
        "no leaf has a human's grade: name graded trees with --human"
    );
    let options = AuditOptions {
        judges,
        costs,
        labelled_at_random: args.labelled_at_random,
        ..AuditOptions::default()
    };
    let document = audit(&paired, &options);
    finish(&args.out, &paired, &document, context)?;
    let below = args.fail_under.below(&document);
    for line in &below {
        note(line);
    }
    Ok(if below.is_empty() { Exit::Complete } else { Exit::FailUnder })
}

/// Writes the files and shows the document.
fn finish(
    out: &Path,
    paired: &Paired,
    document: &AuditDocument,
    context: &Context,
) -> anyhow::Result<()> {
    files::write(out, document)?;
    if context.json {
        return output::print_json("audit", document);
    }
    output::print_text(&summary::summary(paired, document, TextStyle::of_stdout()))?;
    output::print_text(&format!("results in {}\n", out.display()))
}
