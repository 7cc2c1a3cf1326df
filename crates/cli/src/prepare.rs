//! From files to a run in the store: what is graded, by whom, on which evidence.
//!
//! Owns the way from the command line's inputs to a spec and its tasks. Everything a worker needs
//! is a blob afterwards. No judge is called here. The evidence is `evidence`'s.

mod begin;
mod canary;
pub(crate) mod evidence;
mod limits;
mod order;
pub(crate) mod questions;
pub(crate) mod selection;
pub(crate) mod sizes;
pub(crate) mod tasks;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, OnceLock},
};

use anyhow::{Context as _, bail, ensure};
use tribunal_core::{
    BlobHash, Category, Juror, LeafTask, Rubric, RunSpec, SelectionMethod, Via, Voting,
    run::{GradeOptions, Input, Planned},
};
use tribunal_evidence::{Counter, Vocabulary};
use tribunal_store::{Meter, RunRecord, Store};
use tribunal_worker::{PromptSet, Questionnaire, meter, prompt::Prompts};

pub(crate) use self::begin::{generation, record};
use self::{
    evidence::{Assembled, Material, Texts},
    questions::Known,
    selection::Load,
    sizes::LeafSizes,
};
use crate::{
    args::{InputArgs, RateArgs, ShareArgs},
    baseline,
    budget::BudgetArgs,
    config::{Config, judge::ResolvedJudge},
    estimate::Estimate,
    input,
    panel::{Escalation, Panel},
};

/// Tokens that a reply takes, for fair shares between runs.
const REPLY_TOKENS: u64 = 500;

/// Tasks of a new run that are in the queue before work begins.
const FIRST_TASKS: usize = 64;

/// A run as prepared and recorded.
pub(crate) struct Prepared {
    /// The run's record.
    pub(crate) record: RunRecord,
    /// Its spec.
    pub(crate) spec: RunSpec,
    /// Tasks that were not in the queue before.
    pub(crate) new_tasks: u64,
    /// For categories whose leaves are decided without a call, the rule that does it.
    pub(crate) rules: BTreeMap<Category, String>,
    /// What the first judge's votes do not decide, where a second one is to be asked about that.
    pub(crate) escalation: Option<Escalation>,
    /// What its questions are made of.
    pub(crate) questionnaire: Arc<Questionnaire>,
}

/// A run before it is recorded: all of its blobs are in the store, its tasks are not.
pub(crate) struct Draft {
    /// Its spec, of generation 0.
    pub(crate) spec: RunSpec,
    /// Its rubric as graded, and its prompts.
    pub(crate) questionnaire: Arc<Questionnaire>,
    /// Tokens of the leaves' own messages.
    pub(crate) sizes: LeafSizes,
    evidence: BTreeMap<Category, CategoryEvidence>,
    /// How often its judge is asked about a leaf.
    samples: u32,
    /// The number of the first of its judge's samples.
    first_sample: u32,
    /// The place of its first task in the claim order.
    first_order: u32,
    /// The drafts of the judges beside the first one, in their order.
    pub(crate) jurors: Vec<Draft>,
    /// Leaves in work at once, as far as is known.
    concurrency: usize,
    /// What counts the judge's tokens.
    pub(crate) counter: Counter,
    /// How its questions are to reach the judge; where nobody says, as they did before.
    pub(crate) via: Option<Via>,
    /// Its votes on leaves, with the leaves' indices, once somebody wanted them.
    votes: OnceLock<Vec<(usize, LeafTask)>>,
}

/// What a category's leaves are shown, and the rule that decides them without being shown it.
struct CategoryEvidence {
    hash: BlobHash,
    tokens: usize,
    chosen: Option<ChosenFiles>,
    rule: Option<String>,
}

/// What is chosen for a leaf of a category whose files do not fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChosenFiles {
    /// How.
    pub(crate) method: SelectionMethod,
    /// Tokens that the files are expected to take.
    pub(crate) tokens: usize,
}

/// Reads the inputs, records the run with its budget and share and enqueues its tasks. The same inputs give the
/// same run.
///
/// # Errors
///
/// An input cannot be read or is not valid, or the store failed.
pub(crate) async fn prepare(
    inputs: &InputArgs,
    config: &Config,
    panel: &Panel,
    budget: &BudgetArgs,
    share: &ShareArgs,
    store: &Arc<dyn Store>,
) -> anyhow::Result<Prepared> {
    let draft = draft(inputs, config, panel, store).await?;
    begin(draft, panel, budget, share, inputs.options.fresh, store).await
}

/// Records a drafted run with its budget and share and enqueues its tasks.
///
/// # Errors
///
/// The store's.
pub(crate) async fn begin(
    draft: Draft,
    panel: &Panel,
    budget: &BudgetArgs,
    share: &ShareArgs,
    fresh: bool,
    store: &Arc<dyn Store>,
) -> anyhow::Result<Prepared> {
    let (mut prepared, left) = start(draft, panel, budget, share, fresh, store).await?;
    prepared.new_tasks += tasks::enqueue(left, &prepared.record.run.id, &**store).await?;
    Ok(prepared)
}

/// Records a drafted run with its budget and share and enqueues its first tasks, so that work can begin. Returns
/// the tasks that are left to [`tasks::enqueue`]: none for a run that was begun before.
///
/// # Errors
///
/// The store's.
pub(crate) async fn start(
    mut draft: Draft,
    panel: &Panel,
    budget: &BudgetArgs,
    share: &ShareArgs,
    fresh: bool,
    store: &Arc<dyn Store>,
) -> anyhow::Result<(Prepared, Vec<LeafTask>)> {
    draft.spec.generation = generation(&draft.spec, fresh, store).await?;
    let known = Known::of(store, &draft.spec.id(), fresh).await?;
    let begun = known.begun.is_some();
    // A run that goes on may do so under other limits of tokens.
    let limited = |judge: &ResolvedJudge| {
        judge.widest_limits().each().any(|(meter, _)| meter != Meter::Requests)
    };
    if !begun || panel.judges().any(limited) {
        let planned = planned(&draft, panel, store, &known).await?;
        // What was planned when it began stays.
        draft.spec.planned = (!begun).then_some(planned);
    }
    let record = record(&draft.spec, !fresh, store).await?;
    // Before the first task can be claimed.
    if let Some(via) = draft.via {
        store.set_via(&record.run.id, via).await?;
    }
    share.record(&record.run.id, &**store).await?;
    budget.set(&record.run.id, panel.price(), store).await?;
    let mut first = draft.take_tasks();
    let left = if begun { Vec::new() } else { first.split_off(FIRST_TASKS.min(first.len())) };
    let new_tasks = tasks::enqueue(first, &record.run.id, &**store).await?;
    let (rules, escalation) = (draft.rules(), Escalation::of(&draft));
    let (spec, questionnaire) = (draft.spec, draft.questionnaire);
    Ok((Prepared { record, spec, new_tasks, rules, escalation, questionnaire }, left))
}

/// What the run's calls are expected to take.
async fn planned(
    draft: &Draft,
    panel: &Panel,
    store: &Arc<dyn Store>,
    known: &Known<'_>,
) -> anyhow::Result<Planned> {
    let via = draft.via.unwrap_or_default();
    let (mut planned, mut cost) = (Planned { via, ..Planned::default() }, Some(0.0));
    for (voter, (draft, judge)) in draft.voters().zip(panel.judges()).enumerate() {
        let questions = questions::questions(draft, judge, store, Some(known.clone())).await?;
        let (reply, _) = questions::reply(judge, questions::history(store, judge).await?);
        let share = panel.share_asked(voter);
        let estimate = Estimate::of(&questions.groups, reply).via(via).share(share);
        planned.calls += estimate.calls;
        planned.usage += estimate.expected;
        planned.reused += Estimate::of(&questions.reused, reply).share(share).expected;
        let price = judge.facts.prices.as_ref().map(|of| of.cost_via(via, &estimate.expected));
        cost = cost.zip(price).map(|(cost, price)| cost + price);
    }
    planned.cost_usd = cost.filter(|_| panel.judges().count() > 1);
    Ok(planned)
}

/// Reads the inputs and puts what a worker needs of them into the store; records no run.
///
/// # Errors
///
/// An input cannot be read or is not valid, a calibration is of another judge, or the store failed.
pub(crate) async fn draft(
    inputs: &InputArgs,
    config: &Config,
    panel: &Panel,
    store: &Arc<dyn Store>,
) -> anyhow::Result<Draft> {
    let mut draft = draft_of_judge(inputs, config, &panel.first, store).await?;
    draft.samples = panel.samples;
    draft.spec.samples = panel.samples;
    let leaves = draft.rubric().leaf_count() as u32;
    let mut before = panel.samples;
    for (judge, samples) in &panel.others {
        let mut own = draft_of_judge(inputs, config, judge, store).await?;
        own.spec.canaries.clone_from(&draft.spec.canaries);
        (own.samples, own.first_sample) = (*samples, before);
        own.first_order = before.saturating_mul(leaves);
        before += samples;
        draft.spec.jurors.push(Juror {
            judge: own.spec.judge.clone(),
            samples: *samples,
            evidence: own.spec.evidence.clone(),
            selection: own.spec.selection.clone(),
        });
        draft.jurors.push(own);
    }
    draft.spec.voting = panel.voting(&draft.spec)?;
    Ok(draft)
}

/// The draft of a run that this judge alone is asked in, once about each leaf.
async fn draft_of_judge(
    inputs: &InputArgs,
    config: &Config,
    judge: &ResolvedJudge,
    store: &Arc<dyn Store>,
) -> anyhow::Result<Draft> {
    ensure!(
        inputs.options.via != Some(Via::Batch) || judge.azure_api_version.is_none(),
        "--via batch: Azure's batch API lies outside of a deployment's URL and is not supported; go on \
         without it"
    );
    // Before anything is read or stored: a set that cannot be used would fail every leaf.
    let named_set = &config.run.prompt_set;
    let set = PromptSet::named(named_set)?;
    let prompts =
        Prompts::compile(set.clone()).with_context(|| format!("--prompt-set {named_set}"))?;
    let rubric_bytes = read("rubric", "--rubric", &inputs.rubric)?;
    let parsed = Rubric::parse(&inputs.rubric.display().to_string(), &rubric_bytes)?;
    let options = GradeOptions {
        code_only: inputs.options.code_only,
        resources_provided: inputs.options.resources_provided,
        max_depth: inputs.options.max_depth,
    };
    let questionnaire = Questionnaire::new(parsed, &options, prompts).with_context(|| {
        format!(
            "{} has no Code Development leaf, so --code-only leaves nothing",
            inputs.rubric.display()
        )
    })?;
    let rubric = &questionnaire.rubric;
    let texts = Texts::read(
        inputs.paper.as_deref(),
        inputs.addendum.as_deref(),
        inputs.judge_addendum.as_deref(),
    )?;
    let snapshot = evidence::snapshot(&inputs.submission, config, store).await?;

    let counter = judge.facts.counter();
    // What an earlier run has counted of the same submission and paper.
    let counted = texts.hashes().chain(snapshot.files.iter().filter_map(|file| file.text));
    meter::recall(&counter, &**store, counted.collect()).await?;
    // While the vocabulary is unpacked still: what counts waits for it.
    let mut blobs = vec![rubric_bytes, serde_json::to_vec(&snapshot)?, serde_json::to_vec(&set)?];
    let Texts { paper, addendum, judge_addendum } = &texts;
    blobs.extend(
        [paper, addendum, judge_addendum]
            .into_iter()
            .flatten()
            .map(|(_, text)| text.clone().into_bytes()),
    );
    let hashes = store.put_blobs(blobs).await?;
    let material =
        Material { texts: &texts, snapshot: &snapshot, config, judge, counter: &counter, store };
    let mut evidence = BTreeMap::new();
    let mut shown_blobs = Vec::new();
    // What canaries are made of.
    let mut shown_to_judge = Vec::new();
    for category in rubric.category_counts().into_keys() {
        let load = load(rubric, category);
        let Assembled { evidence: shown, rule } =
            material.assemble(category, options.code_only, load).await?;
        let bytes = serde_json::to_vec(&shown)?;
        let hash = BlobHash::of(&bytes);
        shown_blobs.push(bytes);
        if rule.is_none() && config.run.canaries > 0 {
            shown_to_judge.push(shown.clone());
        }
        let tokens = shown.tokens;
        let chosen = shown.pool.map(|pool| ChosenFiles {
            method: pool.method,
            tokens: if pool.method.asks_judge() { pool.ranked_tokens() } else { pool.room },
        });
        evidence.insert(category, CategoryEvidence { hash, tokens, chosen, rule });
    }

    // While the leaves are counted.
    let stored = {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.put_blobs(shown_blobs).await })
    };
    let named = |input: &Option<(String, String)>| {
        let input = input.as_ref();
        input.map(|(name, text)| Input { name: name.clone(), hash: BlobHash::of(text.as_bytes()) })
    };
    let spec = RunSpec {
        schema: RunSpec::SCHEMA.to_owned(),
        tribunal: env!("CARGO_PKG_VERSION").to_owned(),
        rubric: Input { name: inputs.rubric.display().to_string(), hash: hashes[0] },
        paper: named(paper),
        addendum: named(addendum),
        judge_addendum: named(judge_addendum),
        submission: Input { name: inputs.submission.display().to_string(), hash: hashes[1] },
        evidence: evidence.iter().map(|(category, e)| (*category, e.hash)).collect(),
        selection: evidence.iter().filter_map(|(c, e)| Some((*c, e.chosen?.method))).collect(),
        options,
        judge: judge.spec.clone(),
        samples: 1,
        jurors: Vec::new(),
        voting: Voting::Majority,
        prompt_set: Input { name: set.name.clone(), hash: hashes[2] },
        max_prior_nodes: config.run.max_prior_nodes,
        require_evidence: config.run.require_evidence,
        canaries: canary::plant(config.run.canaries as usize, &shown_to_judge),
        generation: 0,
        planned: None,
    };
    let concurrency = config.worker.concurrency.get();
    let sizes = LeafSizes::count(&spec, &questionnaire, &counter)?;
    stored.await??;
    Ok(Draft {
        spec,
        questionnaire: Arc::new(questionnaire),
        sizes,
        evidence,
        samples: 1,
        first_sample: 0,
        first_order: 0,
        jurors: Vec::new(),
        concurrency,
        counter,
        via: inputs.options.via,
        votes: OnceLock::new(),
    })
}

/// The leaves of a category and their parents.
fn load(rubric: &Rubric, category: Category) -> Load {
    let of = rubric.leaves().filter(|(_, node)| node.category == Some(category));
    let parents: Vec<Option<usize>> = of.map(|(_, node)| node.parent()).collect();
    let distinct: BTreeSet<Option<usize>> = parents.iter().copied().collect();
    Load { leaves: parents.len(), groups: distinct.len() }
}

// === impl Draft ===

impl Draft {
    /// The draft of each judge, the first one's before those of its jurors.
    pub(crate) fn voters(&self) -> impl Iterator<Item = &Draft> {
        std::iter::once(self).chain(&self.jurors)
    }

    /// For categories whose leaves are decided without a call, the rule that does it.
    pub(crate) fn rules(&self) -> BTreeMap<Category, String> {
        let rules = self.evidence.iter();
        rules.filter_map(|(category, e)| Some((*category, e.rule.clone()?))).collect()
    }

    /// What is chosen for each leaf of the category; `None` where all leaves are shown the same.
    pub(crate) fn chosen(&self, category: Category) -> Option<ChosenFiles> {
        self.evidence.get(&category).and_then(|shown| shown.chosen)
    }

    /// How a user names the leaf at this index: by its number, or where it is a cut node by its id.
    pub(crate) fn name(&self, index: usize) -> String {
        let node = &self.rubric().nodes()[index];
        node.leaf_index().map_or_else(|| format!("`{}`", node.id), |leaf| format!("#{leaf}"))
    }

    /// The rubric as graded.
    pub(crate) fn rubric(&self) -> &Rubric {
        &self.questionnaire.rubric
    }
}

fn read(noun: &str, flag: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.is_dir() {
        bail!("the {noun} {} is a folder, not a file. Check {flag}", path.display());
    }
    input::read(path)
        .with_context(|| format!("the {noun} {} cannot be read. Check {flag}", path.display()))
}

/// The judge's spec with the base URL that its answers are known by.
pub(crate) fn judge(
    args: &crate::args::JudgeArgs,
    rates: RateArgs,
    config: &Config,
) -> anyhow::Result<ResolvedJudge> {
    let mut judge = match (&args.base_url, &args.model) {
        (Some(base_url), Some(model)) => config.adhoc_judge(base_url, model)?,
        _ => {
            let name = args.judge.as_deref().unwrap_or(&config.run.judge);
            match baseline::judge(name, config) {
                Some(baseline) => baseline,
                None => config.judge(name)?,
            }
        }
    };
    // While the store is opened and the inputs are read.
    Vocabulary::unpack(&judge.facts.tokenizer);
    judge.limit(rates.rpm, rates.tpm);
    Ok(judge)
}
