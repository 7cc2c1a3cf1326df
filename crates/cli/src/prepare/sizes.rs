//! How many tokens each leaf's question has, without rendering a hundred thousand of them.
//!
//! Owns the counts: a node's requirement is counted once, however many leaves are shown it. What a
//! question looks like is the prompt set's; one of each category is rendered to learn what stands
//! around the requirements. Counts are the vocabulary's, before the model's factor.

use std::collections::BTreeMap;

use rayon::prelude::*;
use tribunal_core::{Category, Rubric, RunSpec};
use tribunal_evidence::Counter;
use tribunal_worker::{
    Questionnaire,
    prompt::{PromptError, RunPrompts},
};

/// Tokens of a list item's mark and line break.
const ITEM_TOKENS: u64 = 2;

/// Tokens of what stands beside the requirement of a node below a cut one: indent, weight, category.
const BELOW_TOKENS: u64 = 14;

/// Tokens of the own messages of a rubric's leaves.
pub(crate) struct LeafSizes {
    /// For each node of the graded rubric; 0 for one that is not asked about.
    own: Vec<u64>,
}

// === impl LeafSizes ===

impl LeafSizes {
    /// Counts the leaves of the questionnaire's rubric.
    ///
    /// # Errors
    ///
    /// A template fails.
    pub(crate) fn count(
        spec: &RunSpec,
        questionnaire: &Questionnaire,
        counter: &Counter,
    ) -> Result<LeafSizes, PromptError> {
        let Questionnaire { rubric, prompts, .. } = questionnaire;
        let whole = questionnaire.whole();
        let requirement =
            |node: &tribunal_core::Node| counter.count_once(&node.requirements) as u64;
        let texts: Vec<u64> = rubric.nodes().par_iter().map(requirement).collect();
        let context = context(rubric, &texts, spec.max_prior_nodes.map(|max| max as usize));
        let below = below(rubric, whole, counter);
        let mut own: Vec<u64> = vec![0; texts.len()];
        // What the templates add, by category: the first leaf tells.
        let mut around: BTreeMap<Category, i64> = BTreeMap::new();
        for (index, node) in rubric.leaves() {
            let Some(category) = node.category else { continue };
            let counted = texts[index] + context[index] + below[index];
            let around = match around.get(&category) {
                Some(around) => *around,
                None => {
                    let run = RunPrompts {
                        spec,
                        rubric,
                        whole,
                        prompts,
                        reply_form: spec.judge.reply_form,
                        nonce: None,
                    };
                    let rendered = counter.count_once(&run.leaf(index, &[])?) as u64;
                    let learnt = rendered.cast_signed() - counted.cast_signed();
                    *around.entry(category).or_insert(learnt)
                }
            };
            own[index] = counted.saturating_add_signed(around);
        }
        Ok(LeafSizes { own })
    }

    /// Tokens of the own message of the leaf at this index of the graded rubric.
    pub(crate) fn own(&self, index: usize) -> u64 {
        self.own[index]
    }
}

/// For each node, tokens of the list of nodes before it; `texts` are the nodes' own.
fn context(rubric: &Rubric, texts: &[u64], max: Option<usize>) -> Vec<u64> {
    let mut sums = vec![0; texts.len()];
    for index in 0..texts.len() {
        // What is before a child: what is before its parent, the parent, and its elder siblings.
        let mut before = sums[index] + texts[index] + ITEM_TOKENS;
        for child in rubric.children(index) {
            sums[child] = before;
            before += texts[child] + ITEM_TOKENS;
        }
    }
    if max.is_some() {
        for (index, _) in rubric.leaves() {
            let prior = rubric.prior_nodes(index, max);
            sums[index] = prior.into_iter().map(|prior| texts[prior] + ITEM_TOKENS).sum();
        }
    }
    sums
}

/// For each node that is graded over all below it, tokens of the list of those.
fn below(rubric: &Rubric, whole: &Rubric, counter: &Counter) -> Vec<u64> {
    let mut sums = vec![0; rubric.nodes().len()];
    for (index, node) in rubric.leaves() {
        let cut = node.category == Some(Category::Subtree);
        let Some(top) = whole.by_position(node.position()).filter(|_| cut) else { continue };
        let nodes = &whole.nodes()[top + 1..whole.end(top)];
        let listed =
            nodes.iter().map(|node| counter.count_once(&node.requirements) as u64 + BELOW_TOKENS);
        sums[index] = listed.sum();
    }
    sums
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(id: usize, children: Vec<Value>) -> Value {
        let category = children.is_empty().then_some("Code Development");
        json!({
            "id": id.to_string(), "requirements": "word ".repeat(id).trim(), "weight": 1,
            "task_category": category, "sub_tasks": children,
        })
    }

    #[test]
    fn what_is_before_a_leaf_is_summed_as_it_is_listed() {
        let leaf = |id| node(id, vec![]);
        let tree = node(1, vec![node(2, vec![leaf(3), leaf(4)]), leaf(5), node(6, vec![leaf(7)])]);
        let rubric = Rubric::parse("r.json", tree.to_string().as_bytes()).expect("valid");
        let texts: Vec<u64> = (1..=7).collect();
        for max in [None, Some(0), Some(2), Some(100)] {
            let context = context(&rubric, &texts, max);
            for (index, _) in rubric.leaves() {
                let prior = rubric.prior_nodes(index, max).into_iter();
                let listed: u64 = prior.map(|prior| texts[prior] + ITEM_TOKENS).sum();
                assert_eq!(context[index], listed, "leaf {index}, at most {max:?}");
            }
        }
    }
}
