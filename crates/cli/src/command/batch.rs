//! `tribunal batch`: many trees of a manifest, graded as one.
//!
//! Owns the order of the steps and the exit code. The rows are `batch`'s, the table that is printed
//! at the end is the collector's.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use tribunal_collector::{
    CallCounts, CollectOptions, Collected, GradeState, TextStyle, check_writable, export,
    results::{Entry, ResultsOptions, ResultsTable, Standing, render},
};
use tribunal_core::{RunId, RunState, Usage};
use tribunal_store::Store;
use tribunal_worker::Scope;

use crate::{
    args::{JudgeArgs, OptionArgs, PoolArgs, ShareArgs, StoreArgs},
    batch::{
        self, BegunRun, Job, Work,
        document::{BatchDocument, BatchRow},
        purse::{self, Purse},
    },
    budget::BudgetArgs,
    command::{Context, plan},
    config::Config,
    engine::{self, Endpoints},
    exit::Exit,
    output, prepare,
    progress::{Progress, note},
};

/// Arguments of `tribunal batch`.
#[derive(Debug, Args)]
pub(crate) struct BatchArgs {
    /// The manifest: a row a submission, as TOML or CSV
    manifest: PathBuf,
    /// Say what it would ask and cost, and call nobody
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    options: OptionArgs,
    #[command(flatten)]
    judge: JudgeArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    share: ShareArgs,
    #[command(flatten)]
    pool: PoolArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    /// Where the results go [default: tribunal-out/BATCH]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Exit 5 if an agent's score is below S, from 0 to 1
    #[arg(long, value_name = "S", value_parser = crate::args::score)]
    fail_under: Option<f64>,
}

/// A batch on which the workers have ended.
struct Ended<'b> {
    config: &'b Config,
    store: &'b Arc<dyn Store>,
    out: &'b Path,
    interrupted: bool,
}

/// What all runs of a batch have come to.
#[derive(Default)]
struct Sum {
    leaves: u64,
    ungraded: u64,
    calls: CallCounts,
    tokens: Usage,
    /// What the runs have cost; `None` where a price is not known.
    cost_usd: Option<f64>,
    simulated: bool,
    states: Vec<GradeState>,
}

/// Runs `tribunal batch`.
///
/// # Errors
///
/// The manifest has bad rows, or the config, the store or the output folder cannot be used.
pub(crate) async fn run(args: BatchArgs, context: &Context) -> anyhow::Result<Exit> {
    let flags = [args.options.flags(), args.store.flags(), args.pool.flags()].concat();
    let config = context.load(&flags)?;
    let judge = prepare::judge(&args.judge, args.pool.rates, &config)?;
    args.budget.check(&judge.facts)?;
    let jobs = batch::jobs(&args.manifest, &args.options)?;
    if args.plan {
        let inputs = jobs.iter().filter_map(|job| match &job.work {
            Work::Judge(inputs) => Some((job.at.as_str(), &**inputs)),
            _ => None,
        });
        return plan::many(inputs.collect(), &config, &judge, context).await;
    }
    for assumption in judge.facts.assumptions.iter().filter(|_| !args.pool.quiet) {
        note(&format!("assuming: {assumption}"));
    }
    if let Some(out) = &args.out {
        check_writable(out)?;
    }
    let (shutdown, signalled) = engine::on_signals(config.worker.grace)?;
    let store = engine::open_store(&config).await?;
    let budget = args.budget.undivided();
    let begun = batch::begin(&jobs, &config, &judge, &budget, &args.share, &store).await?;
    let id = batch::id(&jobs, &begun);
    let out = args.out.clone().unwrap_or_else(|| Path::new("tribunal-out").join(id.as_str()));
    check_writable(&out)?;
    let runs: Vec<RunId> = unique(&begun);
    let mut purse = match args.budget.is_set() {
        true => {
            let budget = args.budget.beside(purse::kept(&runs, &store).await?);
            Some(Purse::new(budget, runs.clone()))
        }
        false => None,
    };
    if let Some(purse) = &mut purse {
        purse.divide(&store).await?;
    }
    let (leaves, mut open) = wake(&runs, &store).await?;
    if !args.pool.quiet {
        let new: u64 = begun.iter().flatten().map(|run| run.new_tasks).sum();
        let said = if new == 0 { "resumed" } else { "begun" };
        let (rows, trees, model) = (jobs.len(), runs.len(), &judge.spec.model);
        note(&format!(
            "batch {id} {said}: {rows} rows, {trees} trees, {open} of {leaves} leaves to grade by \
             {model}"
        ));
    }
    let endpoints = Arc::new(Endpoints::new(config.clone(), vec![judge.clone()]));
    let scope = Scope { runs: Some(runs), until_empty: true, ..Scope::default() };
    while open > 0 {
        let prices = judge.facts.prices;
        let shown = Arc::new(Progress::new(leaves, leaves - open, args.pool.quiet, prices));
        let (endpoints, told) = (Arc::clone(&endpoints), shutdown.clone());
        engine::work(&config, &store, endpoints, &shown, told, &scope).await?;
        // What some runs did not need is worth more leaves of the others.
        open = match &mut purse {
            Some(purse) if !shutdown.drain.is_cancelled() => purse.divide(&store).await?,
            _ => 0,
        };
    }
    let signal = signalled.exit();
    let ended = Ended { config: &config, store: &store, out: &out, interrupted: signal.is_some() };
    let (rows, sum) = ended.rows(&jobs, &begun).await?;
    store.close().await?;
    let document = BatchDocument {
        batch: id,
        manifest: args.manifest.display().to_string(),
        state: sum.state(),
        simulated: sum.simulated,
        judge: judge.spec.name.clone(),
        model: judge.spec.model.clone(),
        rows,
        leaves: sum.leaves,
        ungraded: sum.ungraded,
        calls: sum.calls,
        tokens: sum.tokens,
        cost_usd: sum.cost_usd,
        out: out.display().to_string(),
    };
    document.write(&out)?;
    show(&document, args.pool.quiet, context)?;
    Ok(exit(&document, signal, args.fail_under))
}

/// Each run once, in the order of the rows.
fn unique(begun: &[Option<BegunRun>]) -> Vec<RunId> {
    let mut seen = BTreeSet::new();
    let runs = begun.iter().flatten().map(|begun| &begun.run);
    runs.filter(|run| seen.insert((*run).clone())).cloned().collect()
}

/// Resumes paused runs; returns all leaves and those that are not finished.
async fn wake(runs: &[RunId], store: &Arc<dyn Store>) -> anyhow::Result<(u64, u64)> {
    let (mut leaves, mut open) = (0, 0);
    for run in runs {
        if store.run(run).await?.state == RunState::Paused {
            store.control(run, RunState::Active, "").await?;
        }
        let progress = store.progress(run).await?;
        leaves += progress.leaves;
        open += progress.pending + progress.leased;
    }
    Ok((leaves, open))
}

// === impl Ended ===

impl Ended<'_> {
    /// The row of each job, with the files of every run that has ended.
    async fn rows(
        &self,
        jobs: &[Job],
        begun: &[Option<BegunRun>],
    ) -> anyhow::Result<(Vec<BatchRow>, Sum)> {
        let mut rows = Vec::with_capacity(jobs.len());
        let mut sum = Sum { cost_usd: Some(0.0), ..Sum::default() };
        let mut counted = BTreeSet::new();
        for (number, (job, begun)) in jobs.iter().zip(begun).enumerate() {
            let row = BatchRow::new(job);
            rows.push(match (begun, &job.work) {
                (Some(begun), _) => {
                    let collected = self.collect(&begun.run).await?;
                    if counted.insert(begun.run.clone()) {
                        sum.add(&collected);
                    }
                    self.judged(row, &collected, &batch::folder(number, &job.labels)).await?
                }
                (None, Work::Zero(rubric, standing)) => row.zero(rubric, *standing),
                (None, Work::Exclude(reason)) => row.excluded(reason),
                (None, Work::Judge(_)) => row.excluded("its run was not begun"),
            });
        }
        Ok((rows, sum))
    }

    async fn collect(&self, run: &RunId) -> anyhow::Result<Collected> {
        let options = CollectOptions {
            coverage_floor: self.config.run.coverage_floor,
            interrupted: self.interrupted,
            ..CollectOptions::default()
        };
        let mut collected = tribunal_collector::collect(&**self.store, run, &options).await?;
        let prices = self.config.models.get(&collected.spec().judge.model).prices;
        collected.set_prices(prices);
        collected.set_config(serde_json::to_value(self.config.show())?);
        Ok(collected)
    }

    /// The row of a run; its files are written once nothing of it is left to do.
    async fn judged(
        &self,
        row: BatchRow,
        collected: &Collected,
        folder: &str,
    ) -> anyhow::Result<BatchRow> {
        let state = collected.state();
        let ended = !matches!(state, GradeState::Interrupted | GradeState::Paused);
        if ended {
            export(collected, &**self.store, &self.out.join(folder)).await?;
        }
        let summary = collected.summary();
        Ok(BatchRow {
            standing: Some(Standing::Graded),
            run: Some(collected.record().run.id.clone()),
            state: Some(state.name().to_owned()),
            out: ended.then(|| folder.to_owned()),
            simulated: collected.simulated(),
            root: Some(summary.root),
            by_category: summary.by_category.clone(),
            cost_usd: collected.cost_usd(),
            ..row
        })
    }
}

// === impl Sum ===

impl Sum {
    fn add(&mut self, collected: &Collected) {
        let (root, calls) = (collected.summary().root, CallCounts::from(collected.totals()));
        self.leaves += u64::from(root.leaves);
        self.ungraded += u64::from(root.ungraded);
        self.calls.judge += calls.judge;
        self.calls.rank += calls.rank;
        self.calls.repair += calls.repair;
        self.calls.rejected += calls.rejected;
        self.calls.failed += calls.failed;
        self.tokens += collected.totals().usage;
        self.cost_usd = self.cost_usd.zip(collected.cost_usd()).map(|(sum, cost)| sum + cost);
        self.simulated |= collected.simulated();
        self.states.push(collected.state());
    }

    /// The state of the run that got least far.
    fn state(&self) -> GradeState {
        let order = [
            GradeState::Interrupted,
            GradeState::Paused,
            GradeState::Incomplete,
            GradeState::Cancelled,
        ];
        let least = order.into_iter().find(|state| self.states.contains(state));
        least.unwrap_or(GradeState::Complete)
    }
}

/// The batch's scores by agent, if there are any.
fn scores(document: &BatchDocument) -> Option<ResultsTable> {
    let (mut entries, mut notes): (Vec<Entry>, Vec<_>) = (Vec::new(), Vec::new());
    for row in &document.rows {
        match row.entry() {
            Ok(entry) => entries.push(entry),
            Err(note) => notes.push(note),
        }
    }
    ResultsTable::new(entries, &ResultsOptions::default(), notes).ok()
}

fn show(document: &BatchDocument, quiet: bool, context: &Context) -> anyhow::Result<()> {
    if context.json {
        return output::print_json("batch", document);
    }
    if let Some(table) = scores(document) {
        output::print_text(&render::text(&table, TextStyle::of_stdout()))?;
    }
    let cost = document.cost_usd.map_or("not known".to_owned(), |cost| format!("${cost:.4}"));
    let (batch, state, out) = (&document.batch, document.state, &document.out);
    output::print_text(&format!(
        "batch {batch}, {state}; {} judge calls, cost {cost}\nresults in {out}; `tribunal table {out}` \
         makes other tables of them\n",
        document.calls.judge
    ))?;
    if !quiet && state != GradeState::Complete {
        note("the same command again goes on where it stopped");
    }
    Ok(())
}

fn exit(document: &BatchDocument, signal: Option<Exit>, fail_under: Option<f64>) -> Exit {
    match (document.state, signal) {
        (GradeState::Complete, _) => {}
        (GradeState::Interrupted, Some(signal)) => return signal,
        (GradeState::Paused, _) => return Exit::Refused,
        _ => return Exit::Incomplete,
    }
    let lowest = scores(document).and_then(|table| table.lowest());
    match (fail_under, lowest) {
        (Some(limit), Some(lowest)) if lowest < limit => Exit::FailUnder,
        _ => Exit::Complete,
    }
}
