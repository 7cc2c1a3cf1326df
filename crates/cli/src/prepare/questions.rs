//! What a run would ask, counted before anything is asked.
//!
//! Owns the counts: leaves that make no call, tokens that leaves share and their own, and what is
//! likely not meant. `tribunal plan` shows them; `tribunal grade` records what was expected, so that
//! the bill can be held against it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::{Category, LeafTask, Outcome, RunId, UngradedReason};
use tribunal_evidence::{Evidence, Tokenizer};
use tribunal_store::{Spend, Store};
use tribunal_worker::{
    meter,
    prompt::{self, PromptError, RunPrompts, SharedPrompt},
};

use super::{Draft, limits};
use crate::{
    config::judge::ResolvedJudge,
    estimate::{Group, ReplySize},
};

/// Tokens of a reply, where none is known: what a judge's five fields take.
const ASSUMED_REPLY: f64 = 500.0;

/// The same for a model that reasons before it answers, its reasoning included: o3-mini as
/// PaperBench's SimpleJudge took 1,000 to 2,500 a leaf in published runs.
const ASSUMED_REASONED_REPLY: f64 = 2_500.0;

/// The cap from which a model is taken to reason before it answers.
const REASONING_CAP: u32 = 8_192;

/// Calls from which on a store's own replies say how long replies are.
const ENOUGH_CALLS: u64 = 10;

/// A nonce as long as any, for a run whose store does not exist yet.
const NONCE: &str = "0123456789ab";

/// What a category's leaves are asked with. Tokens are the model's.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub(crate) struct PlannedCategory {
    /// All leaves.
    pub(crate) leaves: u64,
    /// Questions that the judge is asked about them: one for each vote.
    pub(crate) asked: u64,
    /// Tokens that all of them are sent alike.
    pub(crate) shared_tokens: u64,
    /// Tokens of the longest question.
    pub(crate) longest_tokens: u64,
}

/// Counts of leaves that make no call, and of calls that are no leaf's verdict.
#[derive(Clone, Copy, Default)]
pub(crate) struct Settled {
    /// A rule decides.
    pub(crate) by_rule: u64,
    /// Votes that an earlier run has.
    pub(crate) reused: u64,
    /// Votes that this run has.
    pub(crate) done: u64,
    /// Calls for rankings.
    pub(crate) rankings: u64,
}

/// What a run would ask.
pub(crate) struct Questions {
    /// By category.
    pub(crate) categories: BTreeMap<Category, PlannedCategory>,
    /// Calls that share a prefix.
    pub(crate) groups: Vec<Group>,
    /// The same for leaves whose verdict is taken over.
    pub(crate) reused: Vec<Group>,
    /// Leaves that make no call.
    pub(crate) settled: Settled,
    /// What is likely not meant.
    pub(crate) warnings: Vec<String>,
}

/// Where verdicts may be already.
#[derive(Clone)]
pub(crate) struct Known<'k> {
    /// The store.
    pub(crate) store: &'k Arc<dyn Store>,
    /// The run, where it was begun before.
    pub(crate) begun: Option<RunId>,
    /// Whether verdicts of other runs are taken over.
    pub(crate) reuse: bool,
}

/// What is known of a leaf.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Asked,
    Reused,
    Done,
}

// === impl Known ===

impl<'k> Known<'k> {
    /// What the store knows of this run.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn of(
        store: &'k Arc<dyn Store>,
        run: &RunId,
        fresh: bool,
    ) -> anyhow::Result<Known<'k>> {
        let runs = store.runs().await?;
        let begun = runs.into_iter().map(|record| record.run).find(|known| known.id == *run);
        let reuse = begun.as_ref().map_or(!fresh, |begun| begun.reuse);
        Ok(Known { store, begun: begun.map(|begun| begun.id), reuse })
    }

    async fn open(&self, tasks: &[(usize, LeafTask)]) -> anyhow::Result<Vec<Open>> {
        let done = match &self.begun {
            Some(run) => done(self.store, run).await?,
            None => Vec::new(),
        };
        let reusable = if self.reuse {
            self.store.reusable(tasks.iter().map(|(_, task)| task.content_key).collect()).await?
        } else {
            vec![false; tasks.len()]
        };
        let open = tasks.iter().zip(reusable).map(|((_, task), reusable)| {
            match (done.binary_search(&(task.position, task.sample)), reusable) {
                (Ok(_), _) => Open::Done,
                (Err(_), true) => Open::Reused,
                (Err(_), false) => Open::Asked,
            }
        });
        Ok(open.collect())
    }
}

/// What a run would ask: `draft`'s blobs are in `blobs`, and `known` has runs that may have its
/// verdicts already.
///
/// # Errors
///
/// A store's, or a template fails; or a question is larger than the account's limits ever let through.
pub(crate) async fn questions(
    draft: &Draft,
    judge: &ResolvedJudge,
    blobs: &Arc<dyn Store>,
    known: Option<Known<'_>>,
) -> anyhow::Result<Questions> {
    let mut warnings = Vec::new();
    let facts = &judge.facts;
    let counter = &draft.counter;
    // As the run's own leaves are asked, where there is a store that the run may be in.
    let nonce = match &known {
        Some(known) => prompt::nonce(&known.store.key().await?, &draft.spec.submission.hash),
        None => NONCE.to_owned(),
    };
    let models_own = |tokens: u64| (tokens as f64 * facts.token_factor).ceil() as u64;
    let rules = draft.rules();
    let mut shown: Vec<Evidence> = Vec::new();
    for (category, hash) in &draft.spec.evidence {
        if !rules.contains_key(category) {
            let evidence: Evidence = serde_json::from_slice(&blobs.blob(*hash).await?)?;
            warn_of_evidence(&evidence, &mut warnings);
            shown.push(evidence);
        }
    }
    let run = RunPrompts {
        spec: &draft.spec,
        rubric: draft.rubric(),
        whole: draft.questionnaire.whole(),
        prompts: &draft.questionnaire.prompts,
        reply_form: draft.spec.judge.reply_form,
        nonce: Some(&nonce),
    };
    let render = |evidence: Evidence| Ok((evidence.category, run.shared(evidence)?));
    let rendered: Result<Vec<(Category, SharedPrompt)>, PromptError> =
        shown.into_par_iter().map(render).collect();
    let rendered = rendered?;
    fn texts(prompt: &SharedPrompt) -> [&str; 2] {
        [&prompt.system, &prompt.shared]
    }
    if let Some(known) = &known {
        let all: Vec<&str> = rendered.iter().flat_map(|(_, prompt)| texts(prompt)).collect();
        meter::recall(counter, &**known.store, counter.unknown(&all)).await?;
    }
    let count = |(category, prompt): &(Category, SharedPrompt)| {
        let tokens: usize = texts(prompt).into_par_iter().map(|text| counter.count(text)).sum();
        (*category, tokens as u64)
    };
    let prefixes: BTreeMap<Category, u64> = rendered.par_iter().map(count).collect();
    meter::record(counter, &**blobs).await?;
    let canaries: Vec<Category> =
        draft.spec.canaries.iter().map(|canary| canary.category).collect();
    let window = facts.prompt_tokens(judge.spec.max_output_tokens);
    let limits = judge.widest_limits();
    let answer = (ASSUMED_REPLY as u64).min(u64::from(judge.spec.max_output_tokens));
    let mut categories: BTreeMap<Category, PlannedCategory> = BTreeMap::new();
    let mut groups: BTreeMap<Category, Group> = BTreeMap::new();
    let mut reused: BTreeMap<Category, Group> = BTreeMap::new();
    let mut settled = Settled::default();
    let (mut over, mut first_over) = (0_u64, None);
    // The parents whose leaves share files, and one of them reads the files for all.
    let mut read = BTreeSet::new();
    let tasks = draft.votes();
    let open = match &known {
        Some(known) => known.open(tasks).await?,
        None => vec![Open::Asked; tasks.len()],
    };
    for ((index, task), open) in tasks.iter().zip(open) {
        let index = *index;
        let prefix = prefixes.get(&task.category).copied().unwrap_or_default();
        let category = categories.entry(task.category).or_default();
        let first_vote = task.sample == draft.first_sample;
        category.leaves += u64::from(first_vote);
        category.shared_tokens = models_own(prefix);
        if task.rule.is_some() {
            settled.by_rule += u64::from(first_vote);
            continue;
        }
        let chosen = draft.chosen(task.category);
        let own = draft.sizes.own(index) + chosen.map_or(0, |chosen| chosen.tokens as u64);
        let question = |group: &mut Group| {
            *group = Group {
                leaves: group.leaves + 1,
                prefix: models_own(prefix),
                own: group.own + models_own(own),
                ..*group
            };
        };
        match open {
            Open::Asked => {}
            Open::Done => {
                settled.done += 1;
                continue;
            }
            Open::Reused => {
                settled.reused += 1;
                question(reused.entry(task.category).or_default());
                continue;
            }
        }
        category.asked += 1;
        let tokens = models_own(prefix + own);
        category.longest_tokens = category.longest_tokens.max(tokens);
        limits::check(&limits, Spend::call(tokens, answer), draft.name(index))?;
        let group = groups.entry(task.category).or_default();
        question(group);
        if let Some(chosen) = chosen {
            let parent = draft.rubric().nodes()[index].parent();
            if chosen.method.is_shared() && !read.insert((task.category, parent, task.sample)) {
                group.follows(models_own(chosen.tokens as u64));
            } else if chosen.method.asks_judge() {
                settled.rankings += 1;
                group.leaves += 1;
                group.own += models_own(draft.sizes.own(index));
            }
        }
        if prefix + own > window {
            over += 1;
            first_over.get_or_insert_with(|| draft.name(index));
        }
    }
    for category in canaries {
        let own = categories.get(&category).map_or(0, |planned| planned.longest_tokens);
        let prefix = prefixes.get(&category).copied().unwrap_or_default();
        let group = groups.entry(category).or_default();
        group.leaves += 1;
        group.prefix = models_own(prefix);
        group.own += own.saturating_sub(models_own(prefix));
        if draft.chosen(category).is_some_and(|chosen| chosen.method.asks_judge()) {
            settled.rankings += 1;
            group.leaves += 1;
        }
    }
    if let Some(name) = first_over {
        warnings.push(format!(
            "{over} questions do not fit the window of {} beside a reply of {}, the first that of \
             leaf {name}: their evidence would be cut. A smaller run.max_prior_nodes or \
             evidence.token_budget leaves room",
            facts.context_window, judge.spec.max_output_tokens
        ));
    }
    let (groups, reused) = (groups.into_values().collect(), reused.into_values().collect());
    Ok(Questions { categories, groups, reused, settled, warnings })
}

/// A category whose judge sees no file, or not all of them.
fn warn_of_evidence(evidence: &Evidence, warnings: &mut Vec<String>) {
    let category = evidence.category;
    if let Some(pool) = &evidence.pool {
        warnings.push(format!(
            "the evidence for {category} does not fit: {} chooses up to {} tokens of {} files for \
             each leaf; `tribunal evidence` lists them",
            pool.method,
            pool.room,
            pool.candidates().count()
        ));
    } else if evidence.files.is_empty() && evidence.script.is_none() {
        warnings.push(format!(
            "{category} leaves have no evidence: no file of the submission is shown for them"
        ));
    }
    for part in evidence.parts.iter().filter(|part| part.tokens_cut > 0) {
        let (name, tokens) = (part.part.replace('_', " "), part.tokens_cut);
        warnings.push(format!("the {name} is cut by {tokens} tokens for {category}"));
    }
}

/// Positions and samples of a run's tasks that are not asked about any more, in order.
async fn done(store: &Arc<dyn Store>, run: &RunId) -> anyhow::Result<Vec<(u32, u32)>> {
    let (mut done, mut after) = (Vec::new(), None);
    loop {
        let page = store.outcomes(run, after, OUTCOME_PAGE).await?;
        let Some(last) = page.last() else { return Ok(done) };
        after = Some((last.position, last.sample));
        let finished = page.iter().filter(|task| !is_open(task.outcome));
        done.extend(finished.map(|task| (task.position, task.sample)));
    }
}

/// Whether the same command asks about a leaf with this outcome.
fn is_open(outcome: Outcome) -> bool {
    matches!(outcome.ungraded(), Some(UngradedReason::Pending | UngradedReason::Budget))
}

/// Outcomes read at once.
const OUTCOME_PAGE: usize = 4_096;

/// Calls with a usable reply that the store's runs made to this model, and their output tokens.
pub(crate) async fn history(
    store: &Arc<dyn Store>,
    judge: &ResolvedJudge,
) -> anyhow::Result<(u64, u64)> {
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

/// How long replies are: as in the store's own runs, where it has enough; and why.
pub(crate) fn reply(judge: &ResolvedJudge, (calls, output): (u64, u64)) -> (ReplySize, String) {
    let cap = judge.spec.max_output_tokens;
    let (expected, why) = if calls >= ENOUGH_CALLS {
        (output as f64 / calls as f64, format!("as in the {calls} calls of this store"))
    } else if cap >= REASONING_CAP {
        (ASSUMED_REASONED_REPLY, "for a model that reasons".to_owned())
    } else {
        (ASSUMED_REPLY, "for a verdict with its reasons".to_owned())
    };
    let expected = expected.min(f64::from(cap));
    let said = format!("a reply takes {expected:.0} tokens, {why}, and {cap} at most");
    (ReplySize { expected, cap: u64::from(cap) }, said)
}
