//! `tribunal audit`: how far a judge is from the humans, and what that does to the score.
//!
//! Owns the command's arguments, its order of steps and its exit code. What is computed is the
//! audit's; what is read and written here are files and runs.

mod arguments;
mod files;
mod floor;
mod load;
mod pair_file;
pub(crate) mod run_tree;
mod summary;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tribunal_audit::{
    AuditDocument, AuditOptions, Calibration, Paired, audit,
    audit::WantedAgreement,
    sheet::{self, Sheet},
};
use tribunal_collector::TextStyle;

use self::{arguments::Sources, floor::Floors, load::Loaded};
use crate::{args::StoreArgs, command::Context, exit::Exit, input, output, progress::note};

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
    /// Draw about N leaves to be labelled next, and write them as a sheet
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["labels", "save"])]
    next: Option<u64>,
    /// Seed of the draw
    #[arg(long, value_name = "N", default_value_t = 0, requires = "next")]
    seed: u64,
    /// A sheet of --next that a human has filled in
    #[arg(long, value_name = "FILE")]
    labels: Vec<PathBuf>,
    /// Keep the judge's rates, to correct runs that nobody labels with --calibration
    #[arg(long, value_name = "CAL.json", conflicts_with = "labels")]
    save: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    /// Where audit.json, audit.html and disagreements.csv, or the sheet of --next, go
    #[arg(long, value_name = "DIR", default_value = "tribunal-out/audit")]
    out: PathBuf,
    /// Exit 5 where a measure is lower, such as f1=0.80,coverage=0.99
    #[arg(long, value_name = "MEASURE=N,…", default_value = "")]
    fail_under: Floors,
    /// The share of right verdicts that is wanted of those that stand without a second judge
    #[arg(long, value_name = "SHARE", value_parser = crate::panel::share, default_value_t = crate::panel::WANTED_AGREEMENT)]
    agreement: f64,
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
        None => {
            let labels_follow = args.next.is_some() || !args.labels.is_empty();
            load::trees(&args.sources, args.pair.as_deref(), labels_follow, &config).await?
        }
    };
    let Loaded { mut paired, judges, costs } = loaded;
    for file in &args.labels {
        let shown = file.display().to_string();
        let bytes = input::read(file).with_context(|| format!("cannot read {shown}"))?;
        sheet::label(&mut paired, &shown, &Sheet::read(&shown, &bytes)?)?;
    }
    if let Some(budget) = args.next {
        return next(&args.out, &sheet::draw(&paired, budget, args.seed), context);
    }
    anyhow::ensure!(
        paired.leaves.iter().any(|leaf| leaf.human().score().is_some()),
        no_label(&args.labels)
    );
    if let Some(save) = &args.save {
        let judge = judges.first().cloned().unwrap_or_default();
        let calibration = Calibration::of(&paired, &judge)?;
        files::whole(save, &serde_json::to_vec_pretty(&calibration)?)?;
        note(&format!("calibration kept in {}", save.display()));
    }
    let options = AuditOptions {
        judges,
        costs,
        labelled_at_random: args.labelled_at_random,
        wanted_agreement: WantedAgreement(args.agreement),
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

/// What is said where nobody has graded a leaf.
fn no_label(sheets: &[PathBuf]) -> String {
    let sheets: Vec<String> = sheets.iter().map(|sheet| sheet.display().to_string()).collect();
    match sheets.is_empty() {
        true => {
            "no leaf has a human's grade: name graded trees with --human, or a filled sheet with \
                 --labels"
                .to_owned()
        }
        false => format!(
            "no leaf has a human's grade: `human` is empty in every entry of {}; write 0, 1, pass or \
             fail there",
            sheets.join(", ")
        ),
    }
}

/// Writes a labelling sheet and says where.
fn next(out: &Path, sheet: &Sheet, context: &Context) -> anyhow::Result<Exit> {
    let csv = files::sheet(out, sheet)?;
    if context.json {
        output::print_json("audit next", sheet)?;
    } else {
        output::print_text(&format!(
            "{} leaves to label in {}: fill in `human` with 0 or 1, and `explanation` as you like; \
             then `tribunal audit --judge … --labels {}`\n",
            sheet.leaves.len(),
            csv.display(),
            csv.display()
        ))?;
    }
    Ok(Exit::Complete)
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
