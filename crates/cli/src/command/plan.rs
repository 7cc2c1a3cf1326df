//! `tribunal plan`: what a run would ask, and what it would cost, before it is begun.
//!
//! Owns the command, its document and what it says of assumptions. The run comes out of the same
//! preparation as that of `tribunal grade`; the arithmetic is `estimate`'s. No judge is called, and
//! nothing is written.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::{Category, Outcome, RunId, UngradedReason, Usage};
use tribunal_evidence::{Evidence, FileState, Tokenizer};
use tribunal_store::{ModelStore, Store, SystemClock};
use tribunal_worker::prompt::RunPrompts;

use crate::{
    args::{InputArgs, JudgeArgs, PoolArgs, StoreArgs},
    command::Context,
    config::{Config, judge::ResolvedJudge, models::Prices},
    engine,
    estimate::{Estimate, Group, Pace, ReplySize},
    exit::Exit,
    output,
    prepare::{self, Draft},
};

mod many;
mod text;

pub(crate) use self::many::{BatchPlanDocument, many};

/// Tokens of a reply, where none is known: what a judge's five fields take.
const ASSUMED_REPLY: f64 = 500.0;

/// The same for a model that reasons before it answers, its reasoning included: o3-mini as
/// PaperBench's SimpleJudge took 1,000 to 2,500 a leaf in published runs.
const ASSUMED_REASONED_REPLY: f64 = 2_500.0;

/// The cap from which a model is taken to reason before it answers.
const REASONING_CAP: u32 = 8_192;

/// Calls from which on a store's own replies say how long replies are.
const ENOUGH_CALLS: u64 = 10;

/// A nonce as long as any: a run's own is not known before its store is.
const NONCE: &str = "0123456789ab";

/// Arguments of `tribunal plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    judge: JudgeArgs,
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
    /// Leaves that a rule decides, without a call.
    by_rule: u64,
    /// Leaves whose verdict an earlier run has made.
    reused: u64,
    /// Leaves that have their verdict already, where the run was begun before.
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
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub(crate) struct CostInterval {
    /// With prefixes cached and replies half as long as expected.
    low: f64,
    /// As expected.
    expected: f64,
    /// With nothing cached and every reply as long as its cap.
    high: f64,
}

/// What a category's leaves are asked with. Tokens are the model's.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct PlannedCategory {
    /// All leaves.
    leaves: u64,
    /// Those that the judge is asked about.
    asked: u64,
    /// Tokens that all of them are sent alike.
    shared_tokens: u64,
    /// Tokens of the longest question.
    longest_tokens: u64,
}

/// Counts of leaves that make no call.
#[derive(Clone, Copy, Default)]
struct Settled {
    by_rule: u64,
    reused: u64,
    done: u64,
}

/// Runs `tribunal plan`.
///
/// # Errors
///
/// An input, the config, the prompt set or the store cannot be used.
pub(crate) async fn run(args: PlanArgs, context: &Context) -> anyhow::Result<Exit> {
    let PlanArgs { inputs, judge, store, pool } = args;
    let config = context.load(&[inputs.flags(), store.flags(), pool.flags()].concat())?;
    let judge = prepare::judge(&judge, pool.rpm, &config)?;
    let document = plan(&inputs, &config, &judge).await?;
    if context.json {
        output::print_json("plan", &document)?;
    } else {
        output::print_text(&text::render(&document))?;
    }
    Ok(Exit::Complete)
}

async fn plan(
    inputs: &InputArgs,
    config: &Config,
    judge: &ResolvedJudge,
) -> anyhow::Result<PlanDocument> {
    // A run like any other, in a store that ends with this command.
    let memory: Arc<dyn Store> = Arc::new(ModelStore::new(Arc::new(SystemClock)));
    let mut draft = prepare::draft(inputs, config, judge, &memory).await?;
    let existing = engine::existing_store(config).await?;
    if let Some(existing) = &existing {
        draft.spec.generation = prepare::generation(&draft.spec, inputs.fresh, existing).await?;
    }
    let run = draft.spec.id();
    let done = match &existing {
        Some(existing) => done(existing, &run).await?,
        None => Vec::new(),
    };
    let mut warnings = Vec::new();
    if judge.facts.entry.is_none() {
        warnings.push(format!(
            "nothing is known of `{}`: its window is assumed, its cost is not known. An entry in a \
             file named by run.models says what it is",
            judge.spec.model
        ));
    }
    let mut assumptions = judge.facts.assumptions.clone();
    let (categories, groups, settled) =
        questions(&draft, judge, &memory, &done, &mut warnings).await?;

    let history = match &existing {
        Some(existing) => history(existing, judge).await?,
        None => (0, 0),
    };
    let estimate = Estimate::of(&groups, reply(judge, history, &mut assumptions));
    if estimate.expected.cached > 0 {
        assumptions.push(
            "the provider caches the prefix that a category's leaves share, and one leaf of each \
             goes ahead to warm it"
                .to_owned(),
        );
    }
    if estimate.calls > 0 {
        assumptions.push(
            "every call is answered at the first try: repeated and repaired ones come on top"
                .to_owned(),
        );
    }
    let cost = |prices: &Prices| CostInterval {
        low: prices.cost_usd(&estimate.low),
        expected: prices.cost_usd(&estimate.expected),
        high: prices.cost_usd(&estimate.high),
    };
    let time = pace(config, judge, &mut assumptions).time(estimate.calls);
    let Usage { input, cached, .. } = estimate.expected;
    let Settled { by_rule, reused, done } = settled;
    Ok(PlanDocument {
        run,
        judge: judge.spec.name.clone(),
        model: judge.spec.model.clone(),
        leaves: draft.rubric.leaf_count() as u64,
        by_rule,
        reused,
        done,
        calls: PlannedCalls { judge: estimate.calls, rank: 0 },
        tokens: estimate.expected,
        cached_share: (input > 0).then(|| cached as f64 / input as f64),
        cost_usd: judge.facts.prices.as_ref().map(cost),
        time_s: time.map(|time| time.as_secs_f64()),
        categories,
        assumptions,
        warnings,
    })
}

/// Positions of the run's leaves that are not asked about any more, in order; none where it was
/// not begun.
async fn done(store: &Arc<dyn Store>, run: &RunId) -> anyhow::Result<Vec<u32>> {
    let known = store.runs().await?.iter().any(|record| record.run.id == *run);
    let (mut done, mut after) = (Vec::new(), None);
    if !known {
        return Ok(done);
    }
    loop {
        let page = store.outcomes(run, after, OUTCOME_PAGE).await?;
        let Some(last) = page.last() else { return Ok(done) };
        after = Some((last.position, last.sample));
        done.extend(page.iter().filter(|t| !is_open(t.outcome)).map(|t| t.position));
    }
}

/// Whether the same command asks about a leaf with this outcome.
fn is_open(outcome: Outcome) -> bool {
    matches!(outcome.ungraded(), Some(UngradedReason::Pending | UngradedReason::Budget))
}

/// Outcomes read at once.
const OUTCOME_PAGE: usize = 4_096;

/// What each category's leaves are asked with, and what is likely wrong with it.
async fn questions(
    draft: &Draft,
    judge: &ResolvedJudge,
    memory: &Arc<dyn Store>,
    done: &[u32],
    warnings: &mut Vec<String>,
) -> anyhow::Result<(BTreeMap<Category, PlannedCategory>, Vec<Group>, Settled)> {
    let facts = &judge.facts;
    let vocabulary = facts.vocabulary()?;
    let models_own = |tokens: u64| (tokens as f64 * facts.token_factor).ceil() as u64;
    let mut prefixes: BTreeMap<Category, u64> = BTreeMap::new();
    let rules = draft.rules();
    for (category, hash) in &draft.spec.evidence {
        if rules.contains_key(category) {
            continue;
        }
        let evidence: Evidence = serde_json::from_slice(&memory.blob(*hash).await?)?;
        warn_of_evidence(&evidence, warnings);
        let run = RunPrompts {
            spec: &draft.spec,
            rubric: &draft.rubric,
            whole: draft.whole(),
            prompts: &draft.prompts,
            reply_form: draft.spec.judge.reply_form,
            nonce: Some(NONCE),
        };
        let shared = run.shared(evidence)?;
        let tokens = vocabulary.count(&shared.system) + vocabulary.count(&shared.shared);
        prefixes.insert(*category, tokens as u64);
    }
    let window = facts.prompt_tokens(judge.spec.max_output_tokens);
    let mut categories: BTreeMap<Category, PlannedCategory> = BTreeMap::new();
    let mut groups: BTreeMap<Category, Group> = BTreeMap::new();
    let mut settled = Settled::default();
    let (mut over, mut first_over) = (0_u64, None);
    for (index, task) in draft.tasks() {
        let prefix = prefixes.get(&task.category).copied().unwrap_or_default();
        let category = categories.entry(task.category).or_default();
        category.leaves += 1;
        category.shared_tokens = models_own(prefix);
        if task.rule.is_some() {
            settled.by_rule += 1;
            continue;
        }
        if done.binary_search(&task.position).is_ok() {
            settled.done += 1;
            continue;
        }
        let own = draft.sizes.own(index);
        category.asked += 1;
        category.longest_tokens = category.longest_tokens.max(models_own(prefix + own));
        let group = groups.entry(task.category).or_default();
        *group = Group {
            leaves: group.leaves + 1,
            prefix: models_own(prefix),
            own: group.own + models_own(own),
        };
        if prefix + own > window {
            over += 1;
            first_over.get_or_insert((draft.rubric.nodes()[index].leaf_index(), task.id));
        }
    }
    if let Some((leaf, id)) = first_over {
        let name = leaf.map_or_else(|| format!("`{id}`"), |leaf| format!("#{leaf}"));
        warnings.push(format!(
            "{over} questions do not fit the window of {} beside a reply of {}, the first that of \
             leaf {name}: their evidence would be cut. A smaller run.max_prior_nodes or \
             evidence.token_budget leaves room",
            facts.context_window, judge.spec.max_output_tokens
        ));
    }
    Ok((categories, groups.into_values().collect(), settled))
}

/// A category whose judge sees no file, or not all of them.
fn warn_of_evidence(evidence: &Evidence, warnings: &mut Vec<String>) {
    let category = evidence.category;
    if evidence.files.is_empty() {
        warnings.push(format!(
            "{category} leaves have no evidence: no file of the submission is shown for them"
        ));
    } else if !evidence.fits {
        let is = |state| evidence.records.iter().filter(|r| r.state == state).count();
        warnings.push(format!(
            "the evidence for {category} does not fit: {} files are cut and {} left out; `tribunal \
             evidence` lists them",
            is(FileState::Truncated),
            is(FileState::Omitted)
        ));
    }
    for (part, tokens) in &evidence.cuts {
        warnings.push(format!("the {part} is cut by {tokens} tokens for {category}"));
    }
}

/// Calls with a usable reply that the store's runs made to this model, and their output tokens.
async fn history(store: &Arc<dyn Store>, judge: &ResolvedJudge) -> anyhow::Result<(u64, u64)> {
    let (mut calls, mut output) = (0, 0);
    for record in store.runs().await? {
        let same = record.run.model == judge.spec.model && record.run.judge == judge.spec.name;
        if same {
            let totals = store.totals(&record.run.id).await?;
            calls += totals.judge_calls + totals.repair_calls;
            output += totals.usage.output;
        }
    }
    Ok((calls, output))
}

/// How long replies are: as in the store's own runs, where it has enough.
fn reply(
    judge: &ResolvedJudge,
    (calls, output): (u64, u64),
    assumptions: &mut Vec<String>,
) -> ReplySize {
    let cap = judge.spec.max_output_tokens;
    let (expected, why) = if calls >= ENOUGH_CALLS {
        (output as f64 / calls as f64, format!("as in the {calls} calls of this store"))
    } else if cap >= REASONING_CAP {
        (ASSUMED_REASONED_REPLY, "for a model that reasons".to_owned())
    } else {
        (ASSUMED_REPLY, "for a verdict with its reasons".to_owned())
    };
    let expected = expected.min(f64::from(cap));
    assumptions.push(format!("a reply takes {expected:.0} tokens, {why}, and {cap} at most"));
    ReplySize { expected, cap: u64::from(cap) }
}

/// What is known of the judge's speed.
fn pace(config: &Config, judge: &ResolvedJudge, assumptions: &mut Vec<String>) -> Pace {
    let simulated = judge.spec.is_builtin_sim();
    let latency =
        simulated.then_some(config.sim.latency).filter(|latency| *latency > Duration::ZERO);
    let concurrency = config.worker.concurrency.get() as u64;
    let requests_per_minute = judge.requests_per_minute.map(|rpm| u64::from(rpm.get()));
    match (requests_per_minute, latency) {
        (None, None) => assumptions.push(
            "neither a limit of the account (--rpm) nor the judge's latency is known, so no time is \
             given"
                .to_owned(),
        ),
        (Some(rpm), None) => assumptions.push(format!(
            "{rpm} requests a minute are answered as they come: {concurrency} at once suffice"
        )),
        (_, Some(latency)) => assumptions
            .push(format!("{concurrency} calls at once take {} ms each", latency.as_millis())),
    }
    Pace { requests_per_minute, concurrency, latency }
}
