//! `tribunal grade`: prepare, work, collect, in one.
//!
//! Owns the order of the steps and the exit code. Each step is also a command of its own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use tribunal_collector::{check_writable, progress_of_leaves};
use tribunal_core::{LeafTask, RunState, canary};
use tribunal_worker::{PoolEnd, Scope};

use crate::{
    args::{InputArgs, JudgeArgs, PoolArgs, ShareArgs, StoreArgs},
    budget::BudgetArgs,
    calibration::{self, CalibrationArgs},
    command::{
        Context,
        collect::{self, Finish},
    },
    engine::{self, Endpoints},
    exit::Exit,
    panel::VoteArgs,
    prepare,
    progress::{Progress, note},
};

/// Arguments of `tribunal grade`.
#[derive(Debug, Args)]
pub(crate) struct GradeArgs {
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    judge: JudgeArgs,
    #[command(flatten)]
    votes: VoteArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    share: ShareArgs,
    #[command(flatten)]
    pool: PoolArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    calibration: CalibrationArgs,
    /// Where the results go [default: tribunal-out/RUN]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the scored tree too
    #[arg(long)]
    tree: bool,
    /// Exit 5 if the score is below S, from 0 to 1
    #[arg(long, value_name = "S", value_parser = crate::args::score)]
    fail_under: Option<f64>,
}

/// Runs `tribunal grade`.
///
/// # Errors
///
/// An input, the config, the store or the output folder cannot be used.
pub(crate) async fn run(args: GradeArgs, context: &Context) -> anyhow::Result<Exit> {
    let GradeArgs {
        inputs,
        judge,
        votes,
        store,
        share,
        pool,
        budget,
        calibration,
        out,
        tree,
        fail_under,
    } = args;
    let calibration = calibration.read()?;
    let config = context.load(&[inputs.options.flags(), store.flags(), pool.flags()].concat())?;
    let panel = votes.panel(&judge, pool.rates, &config)?;
    let assumptions = panel.judges().flat_map(|judge| &judge.facts.assumptions);
    for assumption in assumptions.filter(|_| !pool.quiet) {
        note(&format!("assuming: {assumption}"));
    }
    panel.check_budget(&budget)?;
    if let Some(sending) = panel.sending().filter(|_| !pool.quiet) {
        note(&calibration::sending(sending));
    }
    if let Some(out) = &out {
        refuse_inside(out, &inputs.submission)?;
        check_writable(out)?;
    }
    let (shutdown, signalled) = engine::on_signals(config.worker.grace)?;
    let store = engine::open_store(&config).await?;
    let draft = prepare::draft(&inputs, &config, &panel, &store).await?;
    let fresh = inputs.options.fresh;
    let (prepared, left) = prepare::start(draft, &panel, &budget, &share, fresh, &store).await?;
    if let Some(calibration) = &calibration {
        calibration::check(calibration, &prepared.spec)?;
    }
    let run = prepared.record.run.id.clone();
    let out = out.unwrap_or_else(|| collect::default_out(&run));
    check_writable(&out)?;
    if prepared.record.state == RunState::Paused {
        store.control(&run, RunState::Active, "").await?;
    }
    let all = store.progress(&run).await?;
    let any_open = !left.is_empty() || all.pending + all.leased > 0;
    let is_leaf = |task: &&LeafTask| task.position < canary::FIRST_POSITION;
    let waiting = left.iter().filter(is_leaf).count() as u64;
    let progress = progress_of_leaves(&*store, &run).await?;
    let (leaves, open) = (progress.leaves + waiting, progress.pending + progress.leased + waiting);
    if !pool.quiet {
        let simulated = if prepared.record.run.simulated { " (simulated)" } else { "" };
        let begun = if prepared.new_tasks == 0 { "resumed" } else { "begun" };
        let model = prepared.spec.of_judges(|judge| &judge.model);
        let asked =
            if prepared.spec.ballot().is_single() { "leaves to grade" } else { "votes to cast" };
        note(&format!("run {run} {begun}: {open} of {leaves} {asked} by {model}{simulated}"));
    }
    let shown = |leaves: u64, open: u64| {
        let prices = panel.price().copied();
        Arc::new(Progress::new(leaves, leaves - open, pool.quiet, prices))
    };
    let work = async |shown: Arc<Progress>| {
        let endpoints = Endpoints::new(config.clone(), panel.judges().cloned().collect());
        let scope = Scope {
            runs: Some(vec![run.clone()]),
            until_empty: true,
            questionnaires: BTreeMap::from([(run.clone(), Arc::clone(&prepared.questionnaire))]),
        };
        let shutdown = shutdown.clone();
        engine::work(&config, &store, Arc::new(endpoints), &shown, shutdown, &scope).await
    };
    let work_on = async || {
        let all = store.progress(&run).await?;
        if all.pending + all.leased == 0 {
            return Ok(PoolEnd::Empty);
        }
        let progress = progress_of_leaves(&*store, &run).await?;
        work(shown(progress.leaves, progress.pending + progress.leased)).await
    };
    if any_open {
        let late = !left.is_empty();
        let shown = shown(leaves, open);
        // The first leaves are graded while the others are put in the queue, out of the first one's way.
        let queued = async {
            shown.begun().await;
            prepare::tasks::enqueue(left, &run, &*store).await
        };
        let (worked, queued) = tokio::join!(work(Arc::clone(&shown)), queued);
        queued?;
        // Who is faster than the queue is filled has left some.
        if let (PoolEnd::Empty, true) = (worked?, late) {
            work_on().await?;
        }
    }
    if let Some(escalation) = prepared.escalation.filter(|_| !shutdown.drain.is_cancelled()) {
        // What an earlier command sent on and did not finish was worked on above.
        let sent = escalation.send(&run, &prepared.spec, &store).await?;
        if sent > 0 {
            if !pool.quiet {
                let strong = panel.others.first().map_or("", |(judge, _)| &judge.spec.name);
                note(&format!("run {run}: {sent} questions are sent on to {strong}"));
            }
            work_on().await?;
        }
    }
    let (quiet, signal) = (pool.quiet, signalled.exit());
    let finish = Finish { command: "grade", quiet, tree, signal, calibration, fail_under };
    collect::finish(&config, &store, &run, &out, context, finish).await
}

/// Refuses a folder for results within the submission: they would be evidence of the next run.
fn refuse_inside(out: &Path, submission: &Path) -> anyhow::Result<()> {
    let Ok(submission) = submission.canonicalize() else { return Ok(()) };
    let existing = out.ancestors().find_map(|above| above.canonicalize().ok());
    let existing = match existing {
        Some(existing) => existing,
        None => std::env::current_dir()?,
    };
    anyhow::ensure!(
        !existing.starts_with(&submission),
        "--out {} lies within the submission, where results would become evidence; name a folder \
         outside of it",
        out.display()
    );
    Ok(())
}
