//! `tribunal plan`: what a run would ask, and what it would cost, before it is begun.
//!
//! Owns the command, its document and what it says of assumptions. The run comes out of the same
//! preparation as that of `tribunal grade`; the arithmetic is `estimate`'s. No judge is called, and
//! nothing is written.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::{Category, Prices, RunId, Usage, Via};
use tribunal_store::{ModelStore, Store, SystemClock};

use crate::{
    args::{InputArgs, JudgeArgs, PoolArgs, StoreArgs},
    calibration,
    command::Context,
    config::{Config, judge::ResolvedJudge},
    engine,
    estimate::{Estimate, Pace},
    exit::Exit,
    output,
    panel::{Panel, VoteArgs},
    prepare::{
        self,
        questions::{self, Known, PlannedCategory, Settled},
    },
};

mod many;
mod text;

pub(crate) use self::many::{BatchPlanDocument, many};

/// Arguments of `tribunal plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    judge: JudgeArgs,
    #[command(flatten)]
    votes: VoteArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pool: PoolArgs,
}

/// The document of `tribunal plan`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PlanDocument {
    /// The run's id: the same command as `grade` begins it, or goes on with it.
    run: RunId,
    /// The judge's name in the config.
    judge: String,
    /// The model's name as the endpoint knows it.
    model: String,
    /// All leaves.
    leaves: u64,
    /// Votes that every leaf has; those of leaves that are sent on alone come on top.
    votes: u32,
    /// Leaves that a rule decides, without a call.
    by_rule: u64,
    /// Leaves, or votes on them, whose verdict an earlier run has made.
    reused: u64,
    /// Leaves, or votes on them, that have their verdict already, where the run was begun before.
    done: u64,
    /// Calls, where each is answered at the first try.
    calls: PlannedCalls,
    /// Tokens of those calls as the provider counts them: the expected ones.
    tokens: Usage,
    /// The share of the input that the provider is expected to serve from its cache, 0 to 1; null
    /// where nothing is asked.
    cached_share: Option<f64>,
    /// In US dollars; null where the model's price is not known.
    cost_usd: Option<CostInterval>,
    /// Seconds at the known limits and latency; null where neither is known.
    time_s: Option<f64>,
    /// What each category's leaves are asked with.
    categories: BTreeMap<Category, PlannedCategory>,
    /// What the numbers rest on.
    assumptions: Vec<String>,
    /// What is likely not meant.
    warnings: Vec<String>,
}

/// Calls of a run.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct PlannedCalls {
    /// For verdicts.
    judge: u64,
    /// For rankings of files.
    rank: u64,
}

/// What the calls cost, in US dollars.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct CostInterval {
    /// With prefixes cached and replies half as long as expected.
    low: f64,
    /// As expected.
    expected: f64,
    /// With nothing cached and every reply as long as its cap.
    high: f64,
}

// === impl CostInterval ===

impl CostInterval {
    /// What both cost together.
    fn plus(self, other: CostInterval) -> CostInterval {
        CostInterval {
            low: self.low + other.low,
            expected: self.expected + other.expected,
            high: self.high + other.high,
        }
    }
}

/// Runs `tribunal plan`.
///
/// # Errors
///
/// An input, the config, the prompt set or the store cannot be used.
pub(crate) async fn run(args: PlanArgs, context: &Context) -> anyhow::Result<Exit> {
    let PlanArgs { inputs, judge, votes, store, pool } = args;
    let config = context.load(&[inputs.options.flags(), store.flags(), pool.flags()].concat())?;
    let panel = votes.panel(&judge, pool.rates, &config)?;
    let document = plan(&inputs, &config, &panel).await?;
    if context.json {
        output::print_json("plan", &document)?;
    } else {
        output::print_text(&text::render(&document))?;
    }
    Ok(Exit::Complete)
}

async fn plan(inputs: &InputArgs, config: &Config, panel: &Panel) -> anyhow::Result<PlanDocument> {
    // A run like any other, in a store that ends with this command.
    let memory: Arc<dyn Store> = Arc::new(ModelStore::new(Arc::new(SystemClock)));
    let mut draft = prepare::draft(inputs, config, panel, &memory).await?;
    let existing = engine::existing_store(config).await?;
    if let Some(existing) = &existing {
        draft.spec.generation =
            prepare::generation(&draft.spec, inputs.options.fresh, existing).await?;
    }
    let run = draft.spec.id();
    let known = match &existing {
        Some(existing) => Some(Known::of(existing, &run, inputs.options.fresh).await?),
        None => None,
    };
    let via = inputs.options.via.unwrap_or_default();
    let (mut warnings, mut assumptions) = (Vec::new(), Vec::new());
    assumptions.extend(panel.sending().map(calibration::sending));
    let mut planned = PlanDocument {
        run,
        judge: draft.spec.of_judges(|judge| &judge.name),
        model: draft.spec.of_judges(|judge| &judge.model),
        leaves: draft.rubric().leaf_count() as u64,
        votes: draft.spec.ballot().votes(),
        by_rule: 0,
        reused: 0,
        done: 0,
        calls: PlannedCalls::default(),
        tokens: Usage::default(),
        cached_share: None,
        cost_usd: Some(CostInterval::default()),
        time_s: Some(0.0),
        categories: BTreeMap::new(),
        assumptions: Vec::new(),
        warnings: Vec::new(),
    };
    for (voter, (draft, judge)) in draft.voters().zip(panel.judges()).enumerate() {
        if judge.facts.entry.is_none() {
            warnings.push(format!(
                "nothing is known of `{}`: its window is assumed, its cost is not known. An entry in \
                 a file named by run.models says what it is",
                judge.spec.model
            ));
        }
        if draft.spec.samples > 1 && judge.spec.temperature == Some(0.0) {
            warnings.push(format!(
                "`{}` is asked at temperature 0: its votes on a leaf hardly differ",
                judge.spec.model
            ));
        }
        assumptions.extend(judge.facts.assumptions.iter().cloned());
        let questions = questions::questions(draft, judge, &memory, known.clone()).await?;
        warnings.extend(questions.warnings);
        let history = match &existing {
            Some(existing) => questions::history(existing, judge).await?,
            None => (0, 0),
        };
        let (reply, said) = questions::reply(judge, history);
        assumptions.push(said);
        let share = panel.share_asked(voter);
        let estimate = Estimate::of(&questions.groups, reply).via(via).share(share);
        let cost = |prices: &Prices| CostInterval {
            low: prices.cost_via(via, &estimate.low),
            expected: prices.cost_via(via, &estimate.expected),
            high: prices.cost_via(via, &estimate.high),
        };
        let time = match via {
            Via::Live => {
                pace(config, judge, &mut assumptions).time(estimate.calls, &estimate.expected)
            }
            Via::Batch => {
                assumptions.push(batched(&judge.spec.model, judge.facts.prices.as_ref()));
                None
            }
        };
        // Judges have accounts of their own, and work at the same time.
        planned.time_s = planned.time_s.zip(time).map(|(a, b)| a.max(b.as_secs_f64()));
        let cost = judge.facts.prices.as_ref().map(cost);
        planned.cost_usd = planned.cost_usd.zip(cost).map(|(sum, own)| sum.plus(own));
        let Settled { by_rule, reused, done, rankings } = questions.settled;
        let rankings = (rankings as f64 * share).round() as u64;
        planned.calls.judge += estimate.calls.saturating_sub(rankings);
        planned.calls.rank += rankings;
        planned.tokens += estimate.expected;
        planned.reused += reused;
        planned.done += done;
        if voter == 0 {
            planned.by_rule = by_rule;
            planned.categories = questions.categories;
            continue;
        }
        for (category, own) in questions.categories {
            let sum = planned.categories.entry(category).or_default();
            sum.asked += (own.asked as f64 * share).round() as u64;
            sum.longest_tokens = sum.longest_tokens.max(own.longest_tokens);
        }
    }
    if planned.tokens.cached > 0 {
        assumptions.push(
            "the provider caches the prefix that a category's leaves share, and one leaf of each \
             goes ahead to warm it"
                .to_owned(),
        );
    }
    if planned.calls.judge + planned.calls.rank > 0 {
        assumptions.push(
            "every call is answered at the first try: repeated and repaired ones come on top"
                .to_owned(),
        );
    }
    let Usage { input, cached, .. } = planned.tokens;
    planned.cached_share = (input > 0).then(|| cached as f64 / input as f64);
    Ok(PlanDocument { assumptions, warnings, ..planned })
}

/// What is said of a plan whose questions go by the batch API.
fn batched(model: &str, prices: Option<&Prices>) -> String {
    let price = match prices {
        Some(prices) => format!("{:.0}% of the price", prices.batch_factor * 100.0),
        None => "a lower price".to_owned(),
    };
    format!(
        "the batch API answers for {model} at {price} within a day, in any order, so that no prefix is taken to be \
         cached; rankings of files and repairs go live, at the whole price"
    )
}

/// What is known of the judge's speed.
fn pace(config: &Config, judge: &ResolvedJudge, assumptions: &mut Vec<String>) -> Pace {
    let simulated = judge.spec.is_builtin_sim();
    let latency =
        simulated.then_some(config.sim.latency).filter(|latency| *latency > Duration::ZERO);
    let concurrency = config.worker.concurrency.get() as u64;
    let limits = judge.limits_of_all();
    let known = limits.each().map(|(meter, limit)| format!("{limit} {}", meter.noun()));
    let known: Vec<String> = known.collect();
    match (limits.any(), latency) {
        (false, None) => assumptions.push(
            "neither a limit of the account (--rpm, --tpm) nor the judge's latency is known, so no time is \
             given"
                .to_owned(),
        ),
        (true, None) => assumptions.push(format!(
            "{} a minute are answered as they come: {concurrency} calls at once suffice",
            known.join(" and ")
        )),
        (_, Some(latency)) => assumptions
            .push(format!("{concurrency} calls at once take {} ms each", latency.as_millis())),
    }
    Pace { limits, concurrency, latency }
}
