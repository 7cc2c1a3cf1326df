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

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use tribunal_core::{
    BlobHash, Category, ContentKey, LeafTask, Rubric, RunSpec, SelectionMethod, Usage, Via,
    canary::FIRST_POSITION,
    ids::FieldHasher,
    run::{GradeOptions, Input, Planned},
};
use tribunal_evidence::{Counter, Vocabulary};
use tribunal_store::{Meter, RunRecord, Store};
use tribunal_worker::{PromptSet, meter, prompt::Prompts};

pub(crate) use self::begin::generation;
use self::{
    begin::{enqueue, record},
    evidence::{Assembled, Material, Texts},
    questions::Known,
    selection::Load,
    sizes::LeafSizes,
};
use crate::{
    args::{InputArgs, RateArgs},
    baseline,
    budget::BudgetArgs,
    config::{Config, judge::ResolvedJudge},
    estimate::Estimate,
};

/// Tokens that a reply takes, for fair shares between runs.
const REPLY_TOKENS: u64 = 500;

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
}

/// A run before it is recorded: all of its blobs are in the store, its tasks are not.
pub(crate) struct Draft {
    /// Its spec, of generation 0.
    pub(crate) spec: RunSpec,
    /// The rubric as graded.
    pub(crate) rubric: Rubric,
    /// The same without the cut at a greatest depth, where there is one.
    uncut: Option<Rubric>,
    /// The compiled prompt set.
    pub(crate) prompts: Prompts,
    /// Tokens of the leaves' own messages.
    pub(crate) sizes: LeafSizes,
    evidence: BTreeMap<Category, CategoryEvidence>,
    /// Leaves in work at once, as far as is known.
    concurrency: usize,
    /// What counts the judge's tokens.
    pub(crate) counter: Counter,
    /// How its questions are to reach the judge; where nobody says, as they did before.
    pub(crate) via: Option<Via>,
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

/// Reads the inputs, records the run with its budget and enqueues its tasks. The same inputs give the
/// same run.
///
/// # Errors
///
/// An input cannot be read or is not valid, or the store failed.
pub(crate) async fn prepare(
    inputs: &InputArgs,
    config: &Config,
    judge: &ResolvedJudge,
    budget: &BudgetArgs,
    store: &Arc<dyn Store>,
) -> anyhow::Result<Prepared> {
    let draft = draft(inputs, config, judge, store).await?;
    begin(draft, judge, budget, inputs.options.fresh, store).await
}

/// Records a drafted run with its budget and enqueues its tasks.
///
/// # Errors
///
/// The store's.
pub(crate) async fn begin(
    mut draft: Draft,
    judge: &ResolvedJudge,
    budget: &BudgetArgs,
    fresh: bool,
    store: &Arc<dyn Store>,
) -> anyhow::Result<Prepared> {
    draft.spec.generation = generation(&draft.spec, fresh, store).await?;
    let known = Known::of(store, &draft.spec.id(), fresh).await?;
    let begun = known.begun.is_some();
    // A run that goes on may do so under other limits of tokens.
    let limited = judge.widest_limits().each().any(|(meter, _)| meter != Meter::Requests);
    if !begun || limited {
        let questions = questions::questions(&draft, judge, store, Some(known)).await?;
        let (reply, _) = questions::reply(judge, questions::history(store, judge).await?);
        let Estimate { calls, expected, .. } = Estimate::of(&questions.groups, reply);
        let reused = Estimate::of(&questions.reused, reply).expected;
        // What was planned when it began stays.
        let via = draft.via.unwrap_or_default();
        let usage = match via {
            Via::Live => expected,
            Via::Batch => Usage { cached: 0, ..expected },
        };
        draft.spec.planned = (!begun).then_some(Planned { calls, usage, reused, via });
    }
    let record = record(&draft.spec, !fresh, store).await?;
    // Before the first task can be claimed.
    if let Some(via) = draft.via {
        store.set_via(&record.run.id, via).await?;
    }
    budget.set(&record.run.id, judge.facts.prices.as_ref(), store).await?;
    let new_tasks = enqueue(&draft, &record, store).await?;
    let rules = draft.rules();
    Ok(Prepared { record, spec: draft.spec, new_tasks, rules })
}

/// Reads the inputs and puts what a worker needs of them into the store; records no run.
///
/// # Errors
///
/// An input cannot be read or is not valid, or the store failed.
pub(crate) async fn draft(
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
    let uncut = options.uncut(&parsed);
    let rubric = options.apply(parsed).with_context(|| {
        format!(
            "{} has no Code Development leaf, so --code-only leaves nothing",
            inputs.rubric.display()
        )
    })?;
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
    let material =
        Material { texts: &texts, snapshot: &snapshot, config, judge, counter: &counter, store };
    let mut evidence = BTreeMap::new();
    // What canaries are made of.
    let mut shown_to_judge = Vec::new();
    for category in rubric.category_counts().into_keys() {
        let load = load(&rubric, category);
        let Assembled { evidence: shown, rule } =
            material.assemble(category, options.code_only, load).await?;
        let hash = store.put_blobs(vec![serde_json::to_vec(&shown)?]).await?[0];
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

    let mut blobs = vec![rubric_bytes, serde_json::to_vec(&snapshot)?, serde_json::to_vec(&set)?];
    let Texts { paper, addendum, judge_addendum } = &texts;
    blobs.extend(
        [paper, addendum, judge_addendum]
            .into_iter()
            .flatten()
            .map(|(_, text)| text.clone().into_bytes()),
    );
    let hashes = store.put_blobs(blobs).await?;
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
        prompt_set: Input { name: set.name.clone(), hash: hashes[2] },
        max_prior_nodes: config.run.max_prior_nodes,
        require_evidence: config.run.require_evidence,
        canaries: canary::plant(config.run.canaries as usize, &shown_to_judge),
        generation: 0,
        planned: None,
    };
    let whole = uncut.as_ref().unwrap_or(&rubric);
    let concurrency = config.worker.concurrency.get();
    let sizes = LeafSizes::count(&spec, &rubric, whole, &prompts, &counter)?;
    meter::record(&counter, &**store).await?;
    Ok(Draft {
        spec,
        rubric,
        uncut,
        prompts,
        sizes,
        evidence,
        concurrency,
        counter,
        via: inputs.options.via,
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
        let node = &self.rubric.nodes()[index];
        node.leaf_index().map_or_else(|| format!("`{}`", node.id), |leaf| format!("#{leaf}"))
    }

    /// The rubric without the cut at a greatest depth.
    pub(crate) fn whole(&self) -> &Rubric {
        self.uncut.as_ref().unwrap_or(&self.rubric)
    }

    /// A task for each leaf, in claim order, with the leaf's index in the rubric.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = (usize, LeafTask)> {
        // Leaves of a category stand together: they share their prompt's prefix. So do those of a
        // parent where they share their files, which are a longer prefix.
        let mut groups: BTreeMap<Category, Vec<(usize, Category)>> = BTreeMap::new();
        for (index, node) in self.rubric.leaves() {
            if let Some(category) = node.category {
                groups.entry(category).or_default().push((index, category));
            }
        }
        for (category, leaves) in &mut groups {
            if self.chosen(*category).is_some_and(|chosen| chosen.method.is_shared()) {
                leaves.sort_by_key(|(index, _)| (self.rubric.nodes()[*index].parent(), *index));
            }
        }
        let leaves = order::claim_order(groups.into_values().collect(), 2 * self.concurrency);
        let context = self.context();
        (0..).zip(leaves).map(move |(order, (index, category))| {
            let node = &self.rubric.nodes()[index];
            let shown = &self.evidence[&category];
            let chosen = shown.chosen.map_or(0, |chosen| chosen.tokens);
            let tokens = (shown.tokens + chosen) as u64 + self.sizes.own(index) + REPLY_TOKENS;
            let task = LeafTask {
                position: node.position(),
                sample: 0,
                id: node.id.clone(),
                category,
                content_key: self.content_key(index, category, shown, context[index]),
                order,
                estimated_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
                rule: shown.rule.clone(),
            };
            (index, task)
        })
    }

    /// A task for each canary: each goes with the first leaves of its category.
    pub(crate) fn canary_tasks(&self) -> impl Iterator<Item = LeafTask> {
        let mut first: BTreeMap<Category, u32> = BTreeMap::new();
        let leaves = self.rubric.leaves().filter_map(|(_, node)| node.category);
        let mut categories: Vec<Category> = leaves.collect();
        categories.sort_unstable();
        for (order, category) in (0..).zip(categories) {
            first.entry(category).or_insert(order);
        }
        (FIRST_POSITION..).zip(&self.spec.canaries).map(move |(position, canary)| {
            let shown = &self.evidence[&canary.category];
            let chosen = shown.chosen.map_or(0, |chosen| chosen.tokens);
            let mut hasher = FieldHasher::new("tribunal.canary/1");
            hasher.field("category", canary.category.name().as_bytes());
            hasher.field("requirements", canary.requirements.as_bytes());
            hasher.field("evidence", shown.hash.as_bytes());
            hasher.field("prompt_set", self.spec.prompt_set.hash.as_bytes());
            hasher.field("judge", &self.spec.judge.identity());
            LeafTask {
                position,
                sample: 0,
                id: format!("canary-{}", position - FIRST_POSITION),
                category: canary.category,
                content_key: hasher.content_key(),
                order: first.get(&canary.category).copied().unwrap_or_default(),
                estimated_tokens: u32::try_from(shown.tokens + chosen).unwrap_or(u32::MAX),
                rule: None,
            }
        })
    }

    /// For each node, the hash of the requirements of the nodes before it that a judge reads, in
    /// their order: each is hashed once, so that a broad rubric takes no longer than a deep one.
    fn context(&self) -> Vec<BlobHash> {
        let nodes = self.rubric.nodes();
        let step = |before: BlobHash, index: usize| {
            let mut hasher = FieldHasher::new("tribunal.context/1");
            hasher.field("before", before.as_bytes());
            hasher.field("requirements", nodes[index].requirements.as_bytes()).finish()
        };
        let nothing = FieldHasher::new("tribunal.context/1").finish();
        let mut context = vec![nothing; nodes.len()];
        match self.spec.max_prior_nodes {
            None => {
                for index in 0..nodes.len() {
                    let mut before = step(context[index], index);
                    for child in self.rubric.children(index) {
                        context[child] = before;
                        before = step(before, child);
                    }
                }
            }
            Some(max) => {
                for (index, _) in self.rubric.leaves() {
                    let prior = self.rubric.prior_nodes(index, Some(max as usize));
                    context[index] = prior.into_iter().fold(nothing, step);
                }
            }
        }
        context
    }

    /// Hash of everything that can change the leaf's verdict.
    fn content_key(
        &self,
        index: usize,
        category: Category,
        shown: &CategoryEvidence,
        context: BlobHash,
    ) -> ContentKey {
        let (spec, rubric, whole) = (&self.spec, &self.rubric, self.whole());
        let node = &rubric.nodes()[index];
        let mut hasher = FieldHasher::new("tribunal.leaf/1");
        hasher.field("category", category.name().as_bytes());
        hasher.field("requirements", node.requirements.as_bytes());
        hasher.field("prior", context.as_bytes());
        // What a cut node stands for is part of its question.
        let cut = Some(node.position()).filter(|_| category == Category::Subtree);
        if let Some(top) = cut.and_then(|position| whole.by_position(position)) {
            for below in &whole.nodes()[top + 1..whole.end(top)] {
                hasher.field("below", &(below.depth() - node.depth()).to_le_bytes());
                hasher.field("weight", &below.weight.to_le_bytes());
                hasher.field("category", below.category.map_or("", Category::name).as_bytes());
                hasher.field("requirements", below.requirements.as_bytes());
            }
        }
        hasher.field("evidence", shown.hash.as_bytes());
        hasher.field("rule", shown.rule.as_deref().unwrap_or_default().as_bytes());
        // Whether the prompt speaks of script and log, and what is done with quotes that do not exist.
        hasher.field("code_only", &[u8::from(spec.options.code_only)]);
        hasher.field("require_evidence", &[u8::from(spec.require_evidence)]);
        hasher.field("prompt_set", spec.prompt_set.hash.as_bytes());
        hasher.field("judge", &spec.judge.identity());
        hasher.field("sample", &0_u32.to_le_bytes());
        hasher.content_key()
    }
}

fn read(noun: &str, flag: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.is_dir() {
        bail!("the {noun} {} is a folder, not a file. Check {flag}", path.display());
    }
    fs::read(path)
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
