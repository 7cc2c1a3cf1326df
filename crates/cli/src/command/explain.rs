//! `tribunal explain`: everything that is known of one leaf of a run.
//!
//! Owns the arguments and the reading of the store, which it never writes to. What is printed is
//! `document`'s, how it looks on a terminal `render`'s. No judge is called.

pub(crate) mod document;
mod render;

use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use tribunal_collector::votes::{CastVote, outcome_of, undecided};
use tribunal_core::{
    Attempt, Outcome, Prices, Rubric, RunId, RunSpec, UngradedReason,
    canary::{self, Canary},
    verdict::Shown,
};
use tribunal_evidence::Evidence;
use tribunal_store::{RunRecord, Store, StoredVerdict};
use tribunal_worker::recorded::{self, RecordedRun};

use self::document::{ExplainDocument, parts::MessageDocument};
use crate::{
    args::StoreArgs,
    command::Context,
    engine,
    exit::Exit,
    leaf::{self, LeafError, LeafName},
    output,
};

/// Votes read at once.
const PAGE: usize = 16;

const PENDING: Outcome = Outcome::Ungraded { reason: UngradedReason::Pending };

/// Arguments of `tribunal explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The run's id, or its beginning
    run: String,
    /// The leaf: `#N`, its index as `tribunal rubric show` counts, or its id; `canary-N` is a canary
    leaf: LeafName,
    /// Show the prompt too, rendered again as it went to the judge
    #[arg(long)]
    prompt: bool,
    /// Show the judge's raw reply too
    #[arg(long)]
    reply: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// What the store has about a leaf.
struct Found {
    run: RunId,
    record: RunRecord,
    spec: RunSpec,
    /// The rubric as graded; a canary's own where one was asked about.
    rubric: Rubric,
    /// Index of the leaf among its nodes.
    index: usize,
    /// Where the leaf stands among the run's tasks.
    position: u32,
    /// Whether the leaf is in the queue.
    queued: bool,
    /// What its votes come to.
    outcome: Outcome,
    /// What is to be said where no vote speaks for it.
    undecided: String,
    /// Every vote, where leaves have several.
    votes: Vec<CastVote>,
    /// The vote that speaks for it; `None` where none does.
    stored: Option<StoredVerdict>,
    attempts: Vec<Attempt>,
    /// What the judge was shown; `None` where none was asked, or not yet.
    evidence: Option<Evidence>,
    prices: Option<Prices>,
}

/// Runs `tribunal explain`.
///
/// # Errors
///
/// No such run, no such leaf or several of them, or the store cannot be used.
pub(crate) async fn run(args: ExplainArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load(&args.store.flags())?;
    let store = engine::store_with_runs(&config).await?;
    let run = engine::find_run(&store, &args.run).await?;
    let recorded = RecordedRun::load(&*store, run.clone()).await?;
    let position = position(&store, &recorded, &args.leaf).await?;
    let all = stored(&store, &run, position).await?;
    let cast: Vec<(u32, Outcome)> = all.iter().map(|of| (of.sample, outcome_of(of))).collect();
    let ballot = recorded.spec.ballot();
    let outcome = match position.checked_sub(canary::FIRST_POSITION) {
        // Each judge is asked about a canary once, and is right or wrong.
        Some(_) => cast.first().map_or(PENDING, |(_, outcome)| *outcome),
        None => ballot.tally(&cast).outcome,
    };
    let votes = match ballot.is_single() {
        true => Vec::new(),
        false => all.iter().map(|vote| CastVote::of(&recorded.spec, vote)).collect(),
    };
    let speaks = ballot.spokesman(&cast, outcome);
    let undecided = undecided(&cast, outcome);
    let stored = speaks.and_then(|speaks| all.into_iter().nth(speaks));
    let sample = stored.as_ref().map_or(0, |stored| stored.sample);
    // What was asked and shown is the matter of the judge whose vote speaks for the leaf.
    let recorded = RecordedRun::load_for(&*store, run.clone(), sample).await?;
    let shown = shown(stored.as_ref());
    let evidence = match &shown {
        Some(shown) => evidence(&store, &recorded, position, shown).await?,
        None => None,
    };
    let (rubric, index) = recorded.leaf(position).context("the run has no such leaf")?;
    let (rubric, spec) = (rubric.clone(), recorded.spec);
    let found = Found {
        record: store.run(&run).await?,
        attempts: store.attempts(&run, position, sample).await?,
        prices: config.models.get(&spec.judge.model).prices,
        run,
        spec,
        rubric,
        index,
        position,
        queued: !cast.is_empty(),
        outcome,
        undecided,
        votes,
        stored,
        evidence,
    };
    let mut document = ExplainDocument::new(&found);
    if args.prompt {
        document.prompt = prompt(&store, &found, shown.as_ref()).await?;
    }
    if args.reply {
        document.reply = found.verdict().and_then(|verdict| verdict.reply.clone());
    }
    store.close().await?;
    match context.json {
        true => output::print_json("explain", &document)?,
        false => output::print_text(&render::render(&document, args.prompt, args.reply))?,
    }
    Ok(Exit::Complete)
}

/// The position of the leaf that `name` means. A run's canaries have names that only a leaf with the
/// same id comes before.
async fn position(
    store: &Arc<dyn Store>,
    run: &RecordedRun,
    name: &LeafName,
) -> anyhow::Result<u32> {
    let RunSpec { rubric, canaries, .. } = &run.spec;
    let bytes = store.blob(rubric.hash).await?;
    let found = leaf::find(name, run.rubric(), &Rubric::parse(&rubric.name, &bytes)?);
    match (found, name.canary(canaries.len())) {
        (Err(LeafError::Unknown { .. }), Some(position)) => Ok(position),
        (found, _) => Ok(run.rubric().nodes()[found?].position()),
    }
}

/// What the store has of each sample of the leaf at this position, in order.
async fn stored(
    store: &Arc<dyn Store>,
    run: &RunId,
    position: u32,
) -> anyhow::Result<Vec<StoredVerdict>> {
    let (mut found, mut after) =
        (Vec::new(), position.checked_sub(1).map(|before| (before, u32::MAX)));
    loop {
        let page = store.verdicts(run, after, PAGE).await?;
        after = page.last().map(|last| (last.position, last.sample));
        let all = page.last().is_some_and(|last| last.position == position);
        found.extend(page.into_iter().filter(|stored| stored.position == position));
        if !all {
            return Ok(found);
        }
    }
}

/// The evidence that the leaf at this position was shown, files that were chosen for it included.
async fn evidence(
    store: &Arc<dyn Store>,
    run: &RecordedRun,
    position: u32,
    shown: &Shown,
) -> anyhow::Result<Option<Evidence>> {
    let Some(hash) = shown.evidence else { return Ok(None) };
    let mut evidence = recorded::evidence(&**store, hash, shown.shrunk).await?;
    if let Some(pool) = evidence.pool.clone() {
        let selected = run.selected(&**store, pool, position, &shown.selected).await?;
        evidence.tokens += selected.tokens;
        evidence.records = evidence.records_with(selected.records);
    }
    Ok(Some(evidence))
}

/// The record of what the judge was shown, where one answered.
fn shown(stored: Option<&StoredVerdict>) -> Option<Shown> {
    let verdict = stored?.verdict.as_ref()?;
    (verdict.shown != Shown::default()).then(|| verdict.shown.clone())
}

/// The leaf's question: as it was put, or as it will be. `None` where a rule decides without one.
async fn prompt(
    store: &Arc<dyn Store>,
    found: &Found,
    shown: Option<&Shown>,
) -> anyhow::Result<Option<Vec<MessageDocument>>> {
    if found.verdict().is_some() && shown.is_none() {
        return Ok(None);
    }
    let shown = shown.cloned().unwrap_or_default();
    let sample = found.stored.as_ref().map_or(0, |stored| stored.sample);
    let recorded = RecordedRun::load_for(&**store, found.run.clone(), sample).await?;
    let messages = recorded.messages(&**store, found.position, &shown).await?;
    let message = |(role, content)| MessageDocument { role, content };
    Ok(Some(messages.into_iter().map(message).collect()))
}

// === impl Found ===

impl Found {
    fn node(&self) -> &tribunal_core::Node {
        &self.rubric.nodes()[self.index]
    }

    /// The canary that was asked about; `None` where a leaf of the rubric was.
    fn canary(&self) -> Option<&Canary> {
        let n = self.position.checked_sub(canary::FIRST_POSITION)?;
        self.spec.canaries.get(n as usize)
    }

    fn verdict(&self) -> Option<&tribunal_core::Verdict> {
        self.stored.as_ref()?.verdict.as_ref()
    }
}
