//! `tribunal status`: the runs of a store and how far they are.
//!
//! Owns the command and its document. Reads the store, changes nothing.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_collector::progress_of_leaves;
use tribunal_core::{RunId, UngradedReason};
use tribunal_store::{Amount, RunRecord, Store};

use crate::{
    args::StoreArgs, command::Context, config::Config, engine, exit::Exit, output, run_state,
};

/// Time between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `tribunal status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// One run, by its id or its beginning; all runs without
    run: Option<String>,
    /// Look again every second, until nothing is left to do
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// The document of `tribunal status`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StatusDocument {
    /// The runs, the newest first.
    runs: Vec<RunStatus>,
}

/// How far a run is.
#[derive(Debug, Serialize, JsonSchema)]
struct RunStatus {
    /// The run's id.
    run: RunId,
    /// `active`, `paused`, `cancelled`, or `complete` or `incomplete` when nothing is left to do.
    state: String,
    /// Why it is paused; null when it is not.
    reason: Option<String>,
    /// The judge's name.
    judge: String,
    /// The model's name.
    model: String,
    /// Whether the judge is simulated.
    simulated: bool,
    /// Its share against other runs.
    weight: u32,
    /// Its priority: those of a higher one go first.
    priority: i32,
    /// How many of its leaves may be in work at once; null for any number.
    max_in_flight: Option<u32>,
    /// All leaves.
    leaves: u64,
    /// Waiting.
    pending: u64,
    /// Those of them that wait for the reply of a batch.
    posted: u64,
    /// In work.
    leased: u64,
    /// With a verdict.
    done: u64,
    /// Given up.
    dead: u64,
    /// Of a cancelled run.
    cancelled: u64,
    /// Leaves that ended without a score, by reason.
    ungraded: BTreeMap<UngradedReason, u64>,
    /// Verdicts a second, from the first claim to the last verdict.
    leaves_per_s: f64,
    /// Calls answered with 429.
    rejected: u64,
    /// What the calls cost, those of unknown outcome at the most that they can have; null where no
    /// price is known.
    cost_usd: Option<f64>,
    /// What they may cost at most; null where no budget says so.
    budget_usd: Option<f64>,
    /// Tokens that they may take at most; null where no budget says so.
    budget_tokens: Option<u64>,
    /// Seconds until nothing is left, at that rate; null when it cannot be told.
    eta_s: Option<f64>,
}

/// Runs `tribunal status`.
///
/// # Errors
///
/// No such run, or the store cannot be used.
pub(crate) async fn run(args: StatusArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let store = match engine::existing_store(&config).await? {
        Some(store) => store,
        None if args.run.is_some() => anyhow::bail!(engine::no_store(&config)),
        None if context.json => {
            output::print_json("status", &StatusDocument { runs: Vec::new() })?;
            return Ok(Exit::Complete);
        }
        None => {
            output::print_text(&format!("{}\n", engine::no_store(&config)))?;
            return Ok(Exit::Complete);
        }
    };
    let only = match &args.run {
        Some(name) => Some(engine::find_run(&store, name).await?),
        None => None,
    };
    loop {
        let document = StatusDocument { runs: statuses(&store, &config, only.as_ref()).await? };
        let open = document.runs.iter().any(|run| run.state == "active");
        let again = args.watch && open;
        // A script gets one document; people get every look.
        if context.json && !again {
            output::print_json("status", &document)?;
        } else if !context.json {
            output::print_text(&render(&document))?;
        }
        if !again {
            return Ok(Exit::Complete);
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

async fn statuses(
    store: &Arc<dyn Store>,
    config: &Config,
    only: Option<&RunId>,
) -> anyhow::Result<Vec<RunStatus>> {
    let mut statuses = Vec::new();
    for record in store.runs().await? {
        if only.is_none_or(|run| *run == record.run.id) {
            statuses.push(status(store, config, record).await?);
        }
    }
    Ok(statuses)
}

async fn status(
    store: &Arc<dyn Store>,
    config: &Config,
    record: RunRecord,
) -> anyhow::Result<RunStatus> {
    let progress = progress_of_leaves(&**store, &record.run.id).await?;
    let totals = store.totals(&record.run.id).await?;
    let open = progress.pending + progress.leased;
    let state = run_state::word(record.state, &progress);
    let seconds = totals.wall_ms as f64 / 1000.0;
    let leaves_per_s = if seconds > 0.0 { progress.done as f64 / seconds } else { 0.0 };
    let active = state == "active" && leaves_per_s > 0.0;
    let prices = config.models.get(&record.run.model).prices;
    let budget = totals.spending.map(|spending| spending.budget);
    Ok(RunStatus {
        run: record.run.id,
        state: state.to_owned(),
        reason: (state == "paused").then_some(record.reason),
        judge: record.run.judge,
        model: record.run.model,
        simulated: record.run.simulated || totals.any_simulated,
        weight: record.weight.get(),
        priority: record.priority,
        max_in_flight: record.max_in_flight.map(NonZeroU32::get),
        leaves: progress.leaves,
        pending: progress.pending,
        posted: progress.posted,
        leased: progress.leased,
        done: progress.done,
        dead: progress.dead,
        cancelled: progress.cancelled,
        ungraded: progress.ungraded,
        leaves_per_s,
        rejected: totals.rejected,
        cost_usd: prices.map(|prices| totals.cost_usd(&prices)),
        budget_usd: budget
            .and_then(|budget| budget.micro_usd)
            .map(|micro_usd| Amount { micro_usd, tokens: 0 }.usd()),
        budget_tokens: budget.and_then(|budget| budget.tokens),
        eta_s: active.then(|| open as f64 / leaves_per_s),
    })
}

/// What a run has cost, and what it may cost.
fn cost(run: &RunStatus) -> String {
    let spent = run.cost_usd.map_or("?".to_owned(), |cost| format!("${cost:.2}"));
    match run.budget_usd {
        Some(budget) => format!("{spent} of ${budget:.2}"),
        None => spent,
    }
}

fn render(document: &StatusDocument) -> String {
    if document.runs.is_empty() {
        return "no runs in this store\n".to_owned();
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "RUN", "STATE", "MODEL", "WEIGHT", "DONE", "LEASED", "PENDING", "DEAD", "UNGRADED", "RATE",
        "COST", "LEFT",
    ]);
    for run in &document.runs {
        let simulated = if run.simulated { " (simulated)" } else { "" };
        table.add_row([
            run.run.to_string(),
            run.state.clone(),
            format!("{}{simulated}", run.model),
            match run.priority {
                0 => run.weight.to_string(),
                priority => format!("{} ({priority:+})", run.weight),
            },
            format!("{}/{}", run.done, run.leaves),
            run.max_in_flight.map_or(run.leased.to_string(), |cap| format!("{}/{cap}", run.leased)),
            run.pending.to_string(),
            run.dead.to_string(),
            run.ungraded.values().sum::<u64>().to_string(),
            format!("{:.1}/s", run.leaves_per_s),
            cost(run),
            run.eta_s.map_or(String::new(), |eta| format!("{eta:.0}s")),
        ]);
    }
    let mut text = format!("{}\n", table.trim_fmt());
    for run in &document.runs {
        if let Some(reason) = &run.reason {
            text.push_str(&format!("run {} is paused: {reason}\n", run.run));
        }
    }
    text
}
