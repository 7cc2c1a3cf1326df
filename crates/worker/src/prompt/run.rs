//! The prompts of a run: what its spec says, as arguments of the templates.
//!
//! Owns nothing. It is the one way from a spec to messages, for workers and for those who only
//! want to see them.

use tribunal_core::{Category, ReplyForm, Rubric, RunSpec};
use tribunal_evidence::{Evidence, ShownFile, pool::RANKED_FILES};

use super::{LeafPrompt, PromptError, Prompts, RankPrompt, SharedPrompt};

/// A run's prompts.
#[derive(Clone, Copy, Debug)]
pub struct RunPrompts<'r> {
    /// The run's spec.
    pub spec: &'r RunSpec,
    /// The rubric as graded.
    pub rubric: &'r Rubric,
    /// The same without the cut at a greatest depth.
    pub whole: &'r Rubric,
    /// The run's prompt set.
    pub prompts: &'r Prompts,
    /// How the answer is asked for.
    pub reply_form: ReplyForm,
    /// The fence of the submission's texts.
    pub nonce: Option<&'r str>,
}

// === impl RunPrompts ===

impl RunPrompts<'_> {
    /// The messages that all leaves of the evidence's category share.
    ///
    /// # Errors
    ///
    /// A template fails.
    pub fn shared(&self, evidence: Evidence) -> Result<SharedPrompt, PromptError> {
        let script = !self.spec.options.code_only;
        let log = script && evidence.category != Category::CodeDevelopment;
        self.prompts.shared(evidence, script, log, self.nonce)
    }

    /// The own message of the leaf at `index` in the rubric, with files that were selected for it.
    ///
    /// # Errors
    ///
    /// A template fails.
    pub fn leaf(&self, index: usize, files: &[ShownFile]) -> Result<String, PromptError> {
        self.prompts.leaf(&LeafPrompt {
            rubric: self.rubric,
            whole: self.whole,
            index,
            max_prior_nodes: self.spec.max_prior_nodes.map(|max| max as usize),
            reply_form: self.reply_form,
            files,
            nonce: self.nonce,
        })
    }

    /// The question for the files that the leaves at `indices` need, one or siblings; not empty.
    /// `tree` is that of their category.
    ///
    /// # Errors
    ///
    /// A template fails.
    pub fn rank(&self, indices: &[usize], tree: &str) -> Result<String, PromptError> {
        self.prompts.rank(&RankPrompt {
            rubric: self.rubric,
            indices,
            max_prior_nodes: self.spec.max_prior_nodes.map(|max| max as usize),
            tree: (!self.prompts.shows_tree()).then_some(tree),
            max_files: RANKED_FILES,
            reply_form: self.reply_form,
            nonce: self.nonce,
        })
    }
}
