//! `tribunal report`, and the page that `tribunal grade` leaves beside its files.
//!
//! Owns the command: what is named, where the page goes. What the page is, is the report's.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_audit::{Calibration, calibration::CorrectedRoot};
use tribunal_collector::{CollectOptions, Collected, check_writable, write_file};
use tribunal_report::{GradedTree, compare_page, read, tree_page};
use tribunal_store::Store;

use crate::{
    args::StoreArgs,
    calibration::{self, CalibrationArgs},
    command::Context,
    config::Config,
    engine,
    exhibits::StoreExhibits,
    exit::Exit,
    output,
};

/// Leaves from which `grade` and `collect` make no page by themselves: it would be tens of
/// megabytes, and nobody asked for it.
const MOST_LEAVES_BESIDE: u32 = 20_000;

/// The page's name beside a run's files.
const BESIDE: &str = "report.html";

/// Arguments of `tribunal report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// A run's id or its beginning, or a graded tree in PaperBench's format; of several, the page
    /// sets each against the first, leaf by leaf
    #[arg(value_name = "RUN|FILE", required = true)]
    inputs: Vec<String>,
    /// The page's file [default: tribunal-out/RUN/report.html, or report.html for a file]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// With prompts, raw replies and the files that the judge was shown
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    calibration: CalibrationArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// The document of `tribunal report`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReportDocument {
    /// The page's file.
    out: String,
    /// Its size in bytes.
    bytes: usize,
    /// Leaves of each tree that it shows, in the order given.
    leaves: Vec<u32>,
}

/// Runs `tribunal report`.
///
/// # Errors
///
/// No such run, a file that is no graded tree, or the page cannot be written.
pub(crate) async fn run(args: ReportArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let calibration = args.calibration.read()?;
    let mut trees = Vec::new();
    for input in &args.inputs {
        trees.push(tree(input, args.full, calibration.as_ref(), &config).await?);
    }
    let out = args.out.unwrap_or_else(|| match &trees[..] {
        [GradedTree { run: Some(run), .. }] => {
            super::collect::default_out(&run.document.run).join(BESIDE)
        }
        _ => PathBuf::from(BESIDE),
    });
    let html = match &trees[..] {
        [tree] => tree_page(tree, None)?.html,
        trees => compare_page(trees, false)?.html,
    };
    write_file(&out, html.as_bytes())?;
    let document = ReportDocument {
        out: out.display().to_string(),
        bytes: html.len(),
        leaves: trees.iter().map(|tree| tree.summary.root.leaves).collect(),
    };
    match context.json {
        true => output::print_json("report", &document)?,
        false => output::print_text(&format!("{}\n", document.out))?,
    }
    Ok(Exit::Complete)
}

/// The tree that the user names: a file that is there, else a run.
async fn tree(
    input: &str,
    full: bool,
    calibration: Option<&Calibration>,
    config: &Config,
) -> anyhow::Result<GradedTree> {
    let path = Path::new(input);
    if path.exists() {
        ensure!(path.is_file(), "{input} is a folder; name the file `grader_output.json` in it");
        ensure!(
            calibration.is_none(),
            "{input} is a file, which does not say how its judge was asked: --calibration needs a run"
        );
        let bytes = fs::read(path).with_context(|| format!("{input} cannot be read"))?;
        return Ok(read::graded_file(input, &bytes, full)?);
    }
    let known = engine::existing_store(config).await?;
    let store = known.with_context(|| {
        format!(
            "there is no file {input}, and no store at {} to look for a run",
            config.store.shown_url()
        )
    })?;
    let found = engine::find_run(&store, input).await;
    let run = found.with_context(|| format!("there is no file {input}"))?;
    let collected = collected(&store, &run, config).await?;
    if let Some(calibration) = calibration {
        calibration::check(calibration, collected.spec())?;
    }
    let exhibits = StoreExhibits::new(Arc::clone(&store));
    let mut tree = read::run(&*store, &collected, Some(&exhibits), full).await?;
    tree.set_corrected(calibration.map(|known| calibration::correct(known, &collected)));
    store.close().await?;
    Ok(tree)
}

/// The run, scored, with its cost.
pub(crate) async fn collected(
    store: &Arc<dyn Store>,
    run: &tribunal_core::RunId,
    config: &Config,
) -> anyhow::Result<Collected> {
    let options =
        CollectOptions { coverage_floor: config.run.coverage_floor, ..CollectOptions::default() };
    let mut collected = tribunal_collector::collect(&**store, run, &options).await?;
    let prices = config.models.get(&collected.spec().judge.model).prices;
    collected.set_prices(prices);
    Ok(collected)
}

/// Writes the page beside a run's files; `None` where the run is too large for one by itself.
///
/// # Errors
///
/// The store's, or the page cannot be written.
pub(crate) async fn beside(
    collected: &Collected,
    store: &Arc<dyn Store>,
    corrected: Option<&CorrectedRoot>,
    out: &Path,
) -> anyhow::Result<Option<PathBuf>> {
    if collected.summary().root.leaves > MOST_LEAVES_BESIDE {
        return Ok(None);
    }
    check_writable(out)?;
    let exhibits = StoreExhibits::new(Arc::clone(store));
    let mut tree = read::run(&**store, collected, Some(&exhibits), false).await?;
    tree.set_corrected(corrected.cloned());
    let path = out.join(BESIDE);
    write_file(&path, tree_page(&tree, None)?.html.as_bytes())?;
    Ok(Some(path))
}
