//! From files to a run in the store: what is graded, by whom, on which evidence.
//!
//! Owns the way from the command line's inputs to a spec and its tasks. Everything a worker needs
//! is a blob afterwards. No judge is called here.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, mpsc},
};

use anyhow::{Context as _, bail};
use tribunal_core::{
    BlobHash, Category, ContentKey, LeafTask, Rubric, RunSpec,
    ids::FieldHasher,
    run::{GradeOptions, Input},
};
use tribunal_evidence::{
    Assembler, Evidence, FileEntry, Limits, Snapshot, SnapshotError, View, Vocabulary,
    assemble::Context,
    snapshot::{REPRODUCE_LOG, REPRODUCE_SH},
    tokens::DEFAULT_VOCABULARY,
};
use tribunal_store::{NewRun, RunRecord, Store};
use tribunal_worker::{PromptSet, prompt::Prompts, rule};

use crate::{
    args::InputArgs,
    baseline,
    config::{Config, judge::ResolvedJudge},
};

/// Tokens of a leaf's own message and its reply, for fair shares between runs.
const LEAF_TOKENS: usize = 1_500;

/// Tasks enqueued in one call.
const ENQUEUE_PAGE: usize = 5_000;

/// Texts on their way from the snapshot to the store at once.
const TEXTS_IN_FLIGHT: usize = 16;

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

/// What is graded of the rubric.
#[derive(Clone, Copy)]
struct Graded<'r> {
    rubric: &'r Rubric,
    /// The same without the cut at a greatest depth.
    whole: &'r Rubric,
}

/// What a category's leaves are shown, and the rule that decides them without being shown it.
struct CategoryEvidence {
    hash: BlobHash,
    tokens: usize,
    rule: Option<String>,
}

/// Reads the inputs, records the run and enqueues its tasks. The same inputs give the same run.
///
/// # Errors
///
/// An input cannot be read or is not valid, or the store failed.
pub(crate) async fn prepare(
    inputs: &InputArgs,
    config: &Config,
    judge: &ResolvedJudge,
    store: &Arc<dyn Store>,
) -> anyhow::Result<Prepared> {
    // Before anything is read or stored: a set that cannot be used would fail every leaf.
    let named_set = &config.run.prompt_set;
    let set = PromptSet::named(named_set)?;
    Prompts::compile(set.clone()).with_context(|| format!("--prompt-set {named_set}"))?;
    let rubric_bytes = read("rubric", "--rubric", &inputs.rubric)?;
    let parsed = Rubric::parse(&inputs.rubric.display().to_string(), &rubric_bytes)?;
    let options = GradeOptions {
        code_only: inputs.code_only,
        resources_provided: inputs.resources_provided,
        max_depth: inputs.max_depth,
    };
    let uncut = options.uncut(&parsed);
    let rubric = options.apply(parsed).with_context(|| {
        format!(
            "{} has no Code Development leaf, so --code-only leaves nothing",
            inputs.rubric.display()
        )
    })?;
    let whole = uncut.as_ref().unwrap_or(&rubric);
    let paper = text("paper", "--paper", inputs.paper.as_deref())?;
    let addendum = text("addendum", "--addendum", inputs.addendum.as_deref())?;
    let judge_addendum =
        text("judge addendum", "--judge-addendum", inputs.judge_addendum.as_deref())?;
    let snapshot = snapshot(&inputs.submission, config, store).await?;

    let mut evidence = BTreeMap::new();
    let shown = Shown {
        paper: paper.as_ref().map(|(_, text)| text.as_str()),
        addendum: addendum.as_ref().map(|(_, text)| text.as_str()),
        judge_addendum: judge_addendum.as_ref().map(|(_, text)| text.as_str()),
        snapshot: &snapshot,
        config,
        judge,
        store,
    };
    for category in rubric.category_counts().into_keys() {
        evidence.insert(category, shown.evidence(category, options).await?);
    }

    let mut blobs = vec![rubric_bytes, serde_json::to_vec(&snapshot)?, serde_json::to_vec(&set)?];
    blobs.extend(
        [&paper, &addendum, &judge_addendum]
            .into_iter()
            .flatten()
            .map(|(_, text)| text.clone().into_bytes()),
    );
    let hashes = store.put_blobs(blobs).await?;
    let named = |input: &Option<(String, String)>| {
        let input = input.as_ref();
        input.map(|(name, text)| Input { name: name.clone(), hash: BlobHash::of(text.as_bytes()) })
    };
    let mut spec = RunSpec {
        schema: RunSpec::SCHEMA.to_owned(),
        tribunal: env!("CARGO_PKG_VERSION").to_owned(),
        rubric: Input { name: inputs.rubric.display().to_string(), hash: hashes[0] },
        paper: named(&paper),
        addendum: named(&addendum),
        judge_addendum: named(&judge_addendum),
        submission: Input { name: inputs.submission.display().to_string(), hash: hashes[1] },
        evidence: evidence.iter().map(|(category, e)| (*category, e.hash)).collect(),
        options,
        judge: judge.spec.clone(),
        prompt_set: Input { name: set.name.clone(), hash: hashes[2] },
        max_prior_nodes: config.run.max_prior_nodes,
        require_evidence: config.run.require_evidence,
        canaries: config.run.canaries,
        generation: 0,
    };
    spec.generation = generation(&spec, inputs.fresh, store).await?;
    let record = record(&spec, store).await?;
    let graded = Graded { rubric: &rubric, whole };
    let new_tasks = enqueue(&spec, graded, &evidence, &record, store).await?;
    let rules = evidence.iter().filter_map(|(category, e)| Some((*category, e.rule.clone()?)));
    let rules = rules.collect();
    Ok(Prepared { record, spec, new_tasks, rules })
}

/// The generation of the newest run with these inputs, or the next one.
async fn generation(spec: &RunSpec, fresh: bool, store: &Arc<dyn Store>) -> anyhow::Result<u32> {
    let inputs = spec.inputs_hash();
    let runs = store.runs().await?;
    let same = runs.iter().filter(|record| record.run.inputs == inputs);
    let newest = same.map(|record| record.run.generation).max();
    Ok(newest.map_or(0, |newest| newest + u32::from(fresh)))
}

async fn record(spec: &RunSpec, store: &Arc<dyn Store>) -> anyhow::Result<RunRecord> {
    // The first run's blob stays when the same inputs come under other names.
    let id = spec.id();
    let hashes = store.put_blobs(vec![serde_json::to_vec_pretty(spec)?]).await?;
    let run = NewRun {
        id,
        inputs: spec.inputs_hash(),
        generation: spec.generation,
        spec: hashes[0],
        judge: spec.judge.name.clone(),
        model: spec.judge.model.clone(),
        simulated: spec.judge.is_builtin_sim(),
    };
    Ok(store.create_run(run).await?)
}

async fn enqueue(
    spec: &RunSpec,
    graded: Graded<'_>,
    evidence: &BTreeMap<Category, CategoryEvidence>,
    record: &RunRecord,
    store: &Arc<dyn Store>,
) -> anyhow::Result<u64> {
    let rubric = graded.rubric;
    // Leaves of a category stand together: they share their prompt's prefix.
    let mut leaves: Vec<(usize, Category)> =
        rubric.leaves().filter_map(|(index, node)| Some((index, node.category?))).collect();
    leaves.sort_by_key(|(index, category)| (*category, *index));
    let (mut new, mut page) = (0, Vec::with_capacity(ENQUEUE_PAGE));
    for (order, (index, category)) in leaves.into_iter().enumerate() {
        let node = &rubric.nodes()[index];
        let shown = &evidence[&category];
        page.push(LeafTask {
            position: node.position(),
            sample: 0,
            id: node.id.clone(),
            category,
            content_key: content_key(spec, graded, index, category, shown),
            order: u32::try_from(order)?,
            estimated_tokens: u32::try_from(shown.tokens + LEAF_TOKENS).unwrap_or(u32::MAX),
            rule: shown.rule.clone(),
        });
        if page.len() == ENQUEUE_PAGE {
            new += store.enqueue(&record.run.id, std::mem::take(&mut page)).await?;
        }
    }
    Ok(new + store.enqueue(&record.run.id, page).await?)
}

/// Hash of everything that can change the leaf's verdict.
fn content_key(
    spec: &RunSpec,
    graded: Graded<'_>,
    index: usize,
    category: Category,
    shown: &CategoryEvidence,
) -> ContentKey {
    let Graded { rubric, whole } = graded;
    let node = &rubric.nodes()[index];
    let mut hasher = FieldHasher::new("tribunal.leaf/1");
    hasher.field("category", category.name().as_bytes());
    hasher.field("requirements", node.requirements.as_bytes());
    for prior in rubric.prior_nodes(index, spec.max_prior_nodes.map(|max| max as usize)) {
        hasher.field("prior", rubric.nodes()[prior].requirements.as_bytes());
    }
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
    hasher.field("prompt_set", spec.prompt_set.hash.as_bytes());
    hasher.field("judge", &spec.judge.identity());
    hasher.field("sample", &0_u32.to_le_bytes());
    hasher.content_key()
}

/// Walks the submission and puts its texts into the store as they come.
async fn snapshot(
    submission: &Path,
    config: &Config,
    store: &Arc<dyn Store>,
) -> anyhow::Result<Snapshot> {
    let limits = Limits {
        max_entries: config.limits.max_files,
        max_total_bytes: config.limits.max_total_bytes,
        max_depth: config.limits.max_depth as usize,
        max_path_bytes: config.limits.max_path_bytes as usize,
        file_max_bytes: config.evidence.file_max_bytes,
    };
    let root = submission.to_owned();
    let (texts, mut received) = tokio::sync::mpsc::channel::<(String, Answer)>(TEXTS_IN_FLIGHT);
    let walk = tokio::task::spawn_blocking(move || {
        Snapshot::take(&root, &limits, |text| {
            let (answer, answered) = mpsc::channel();
            let gone = |_| "the store does not answer".to_owned();
            texts.blocking_send((text, answer)).map_err(|error| gone(error.to_string()))?;
            answered.recv().map_err(|error| gone(error.to_string()))?
        })
    });
    while let Some((text, answer)) = received.recv().await {
        let hashes = store.put_blobs(vec![text.into_bytes()]).await;
        let _ = answer.send(hashes.map(|hashes| hashes[0]).map_err(|error| error.to_string()));
    }
    let taken: Result<Snapshot, SnapshotError> = walk.await?;
    Ok(taken?)
}

/// The answer to a text that was sent to the store.
type Answer = mpsc::Sender<Result<BlobHash, String>>;

/// What all categories' evidence is made of.
struct Shown<'a> {
    paper: Option<&'a str>,
    addendum: Option<&'a str>,
    judge_addendum: Option<&'a str>,
    snapshot: &'a Snapshot,
    config: &'a Config,
    judge: &'a ResolvedJudge,
    store: &'a Arc<dyn Store>,
}

impl Shown<'_> {
    /// Assembles the category's evidence and puts it into the store.
    async fn evidence(
        &self,
        category: Category,
        options: GradeOptions,
    ) -> anyhow::Result<CategoryEvidence> {
        let facts = &self.judge.facts;
        let vocabulary = Vocabulary::named(&facts.tokenizer)
            .or_else(|| Vocabulary::named(DEFAULT_VOCABULARY))
            .context("the embedded vocabularies are gone")?;
        let view = View::new(self.snapshot, category, None, options.code_only);
        let script = self.text(REPRODUCE_SH).await?;
        let log = self.text(REPRODUCE_LOG).await?;
        let context = Context {
            paper: self.paper,
            addendum: self.addendum,
            judge_addendum: self.judge_addendum,
            script: script.as_deref(),
            log: log.as_deref(),
        };
        let window = usize::try_from(facts.prompt_tokens(self.judge.spec.max_output_tokens))?;
        let files = self.config.evidence.token_budget.map(usize::try_from).transpose()?;
        let mut assembler = Assembler::new(&view, context, &vocabulary, window, 0, files);
        for file in &view.files {
            let content = match file.text.filter(|_| assembler.has_room()) {
                Some(hash) => Some(self.blob(hash).await?),
                None => None,
            };
            assembler.file(file, content.as_deref());
        }
        let evidence: Evidence = assembler.finish();
        let untouched = category == Category::ResultAnalysis && !view.touched;
        let rule = baseline::rule(&self.judge.spec)
            .or_else(|| untouched.then(|| rule::NOTHING_REPRODUCED.to_owned()));
        let tokens = evidence.tokens;
        let hashes = self.store.put_blobs(vec![serde_json::to_vec(&evidence)?]).await?;
        Ok(CategoryEvidence { hash: hashes[0], tokens, rule })
    }

    async fn text(&self, path: &str) -> anyhow::Result<Option<String>> {
        match self.snapshot.file(path).and_then(|file: &FileEntry| file.text) {
            Some(hash) => Ok(Some(self.blob(hash).await?)),
            None => Ok(None),
        }
    }

    async fn blob(&self, hash: BlobHash) -> anyhow::Result<String> {
        let bytes = self.store.blob(hash).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn read(noun: &str, flag: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.is_dir() {
        bail!("the {noun} {} is a folder, not a file. Check {flag}", path.display());
    }
    fs::read(path)
        .with_context(|| format!("the {noun} {} cannot be read. Check {flag}", path.display()))
}

/// The file's name and text, where one is given.
fn text(noun: &str, flag: &str, path: Option<&Path>) -> anyhow::Result<Option<(String, String)>> {
    let Some(path) = path else { return Ok(None) };
    let bytes = read(noun, flag, path)?;
    let text = String::from_utf8(bytes).ok().with_context(|| {
        format!("the {noun} {} is not UTF-8 text; give Markdown or plain text", path.display())
    })?;
    Ok(Some((path.display().to_string(), text)))
}

/// The judge's spec with the base URL that its answers are known by.
pub(crate) fn judge(
    args: &crate::args::JudgeArgs,
    rpm: Option<u32>,
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
    if let Some(rpm) = rpm {
        let rpm = rpm.try_into().ok().context("--rpm must be at least 1")?;
        judge.requests_per_minute = Some(rpm);
    }
    Ok(judge)
}
