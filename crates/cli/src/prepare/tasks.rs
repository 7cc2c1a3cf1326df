//! The questions of a run as tasks of its queue: one for each vote on a leaf.
//!
//! Owns claim order, numbers of samples and content keys: equal keys may share a verdict.

use std::collections::BTreeMap;

use rayon::prelude::*;
use tribunal_core::{
    BlobHash, Category, ContentKey, LeafTask, RunId, Voting, canary::FIRST_POSITION,
    ids::FieldHasher,
};
use tribunal_store::{Store, StoreError};

use super::{CategoryEvidence, Draft, REPLY_TOKENS, order};

/// Tasks enqueued in a call at first: what the first leaves write waits for no more than these.
const FIRST_PAGE: usize = 64;

/// Calls with so many tasks before they have twice as many.
const PAGES_ALIKE: usize = 8;

/// Tasks enqueued in one call at most.
const LARGEST_PAGE: usize = 4_096;

/// Puts tasks in the queue; returns how many are new.
///
/// # Errors
///
/// The store's.
pub(crate) async fn enqueue(
    tasks: Vec<LeafTask>,
    run: &RunId,
    store: &dyn Store,
) -> Result<u64, StoreError> {
    let (mut new, mut tasks, mut size) = (0, tasks.into_iter(), FIRST_PAGE);
    loop {
        for _ in 0..PAGES_ALIKE {
            let page: Vec<LeafTask> = tasks.by_ref().take(size).collect();
            if page.is_empty() {
                return Ok(new);
            }
            new += store.enqueue(run, page).await?;
        }
        size = (2 * size).min(LARGEST_PAGE);
    }
}

// === impl Draft ===

impl Draft {
    /// Takes the tasks of every judge that is asked about every leaf, canaries last.
    pub(crate) fn take_tasks(&mut self) -> Vec<LeafTask> {
        let escalated = matches!(self.spec.voting, Voting::Escalated { .. });
        let asked = if escalated { 1 } else { usize::MAX };
        let canaries: Vec<LeafTask> =
            self.voters().take(asked).flat_map(Draft::canary_tasks).collect();
        let mut all: Vec<LeafTask> = self.take_votes().collect();
        for juror in self.jurors.iter_mut().take(asked - 1) {
            all.extend(juror.take_votes());
        }
        all.extend(canaries);
        all
    }

    fn take_votes(&mut self) -> impl Iterator<Item = LeafTask> {
        let votes = self.votes.take().unwrap_or_else(|| self.make_votes());
        votes.into_iter().map(|(_, task)| task)
    }

    /// The tasks of this judge's votes, as [`Self::make_votes`] makes them: once, since a key takes
    /// longer than all else about a leaf.
    pub(crate) fn votes(&self) -> &[(usize, LeafTask)] {
        self.votes.get_or_init(|| self.make_votes())
    }

    /// A task for each of this judge's votes on each leaf, in claim order, with the leaf's index in
    /// the rubric: first every leaf once, then every leaf again.
    fn make_votes(&self) -> Vec<(usize, LeafTask)> {
        // Leaves of a category stand together: they share their prompt's prefix. So do those of a
        // parent where they share their files, which are a longer prefix.
        let mut groups: BTreeMap<Category, Vec<(usize, Category)>> = BTreeMap::new();
        for (index, node) in self.rubric().leaves() {
            if let Some(category) = node.category {
                groups.entry(category).or_default().push((index, category));
            }
        }
        for (category, leaves) in &mut groups {
            if self.chosen(*category).is_some_and(|chosen| chosen.method.is_shared()) {
                leaves.sort_by_key(|(index, _)| (self.rubric().nodes()[*index].parent(), *index));
            }
        }
        let leaves = order::claim_order(groups.into_values().collect(), 2 * self.concurrency);
        let (context, judge) = (self.context(), self.spec.judge.identity());
        let all: Vec<(u32, usize, Category)> = (0..self.samples)
            .flat_map(|vote| leaves.iter().map(move |(index, category)| (vote, *index, *category)))
            .collect();
        let votes = all.into_par_iter().enumerate().map(|(at, (vote, index, category))| {
            let node = &self.rubric().nodes()[index];
            let shown = &self.evidence[&category];
            let chosen = shown.chosen.map_or(0, |chosen| chosen.tokens);
            let tokens = (shown.tokens + chosen) as u64 + self.sizes.own(index) + REPLY_TOKENS;
            let task = LeafTask {
                position: node.position(),
                sample: self.first_sample + vote,
                id: node.id.clone(),
                category,
                content_key: self.content_key(index, vote, shown, (context[index], &judge)),
                order: self.first_order + at as u32,
                estimated_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
                rule: shown.rule.clone(),
            };
            (index, task)
        });
        votes.collect()
    }

    /// A task for each canary, asked of this judge once: each goes with the first leaves of its
    /// category.
    pub(crate) fn canary_tasks(&self) -> impl Iterator<Item = LeafTask> {
        let mut first: BTreeMap<Category, u32> = BTreeMap::new();
        let leaves = self.rubric().leaves().filter_map(|(_, node)| node.category);
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
                sample: self.first_sample,
                id: format!("canary-{}", position - FIRST_POSITION),
                category: canary.category,
                content_key: hasher.content_key(),
                order: self.first_order + first.get(&canary.category).copied().unwrap_or_default(),
                estimated_tokens: u32::try_from(shown.tokens + chosen).unwrap_or(u32::MAX),
                rule: None,
            }
        })
    }

    /// For each node, the hash of the requirements of the nodes before it that a judge reads, in
    /// their order: each is hashed once, so that a broad rubric takes no longer than a deep one.
    fn context(&self) -> Vec<BlobHash> {
        let nodes = self.rubric().nodes();
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
                    for child in self.rubric().children(index) {
                        context[child] = before;
                        before = step(before, child);
                    }
                }
            }
            Some(max) => {
                for (index, _) in self.rubric().leaves() {
                    let prior = self.rubric().prior_nodes(index, Some(max as usize));
                    context[index] = prior.into_iter().fold(nothing, step);
                }
            }
        }
        context
    }

    /// Hash of everything that can change the verdict of this judge's vote, counted from 0, on the
    /// leaf.
    fn content_key(
        &self,
        index: usize,
        vote: u32,
        shown: &CategoryEvidence,
        (context, judge): (BlobHash, &[u8]),
    ) -> ContentKey {
        let (spec, rubric, whole) = (&self.spec, self.rubric(), self.questionnaire.whole());
        let node = &rubric.nodes()[index];
        let category = node.category.unwrap_or(Category::Subtree);
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
        hasher.field("judge", judge);
        hasher.field("sample", &vote.to_le_bytes());
        hasher.content_key()
    }
}
