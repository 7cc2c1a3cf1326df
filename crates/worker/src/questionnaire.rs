//! What every question of a run is made of beside its evidence.
//!
//! Owns nothing: it holds a rubric as graded and compiled prompts together, so that who has made them
//! of a command's inputs can hand them to who asks.

use tribunal_core::{Rubric, RunId, RunSpec, run::GradeOptions};
use tribunal_store::Store;

use crate::{
    prompt::{PromptSet, Prompts},
    recorded::{self, ContextError},
};

/// A rubric as graded, and the prompts that ask about it.
#[derive(Debug)]
pub struct Questionnaire {
    /// The rubric as graded: pruned and cut as the run's options say.
    pub rubric: Rubric,
    /// The same without the cut at a greatest depth, where there is one.
    uncut: Option<Rubric>,
    /// The compiled prompt set.
    pub prompts: Prompts,
}

// === impl Questionnaire ===

impl Questionnaire {
    /// Of the rubric as it was given; `None` where the options leave no leaf of it.
    pub fn new(given: Rubric, options: &GradeOptions, prompts: Prompts) -> Option<Questionnaire> {
        let uncut = options.uncut(&given);
        Some(Questionnaire { rubric: options.apply(given)?, uncut, prompts })
    }

    /// Loads what the spec names.
    ///
    /// # Errors
    ///
    /// The store's; or the run's record cannot be used with this version.
    pub async fn load(
        store: &dyn Store,
        run: &RunId,
        spec: &RunSpec,
    ) -> Result<Questionnaire, ContextError> {
        let bytes = store.blob(spec.rubric.hash).await?;
        let given = Rubric::parse(&spec.rubric.name, &bytes)
            .map_err(|error| recorded::unusable(run, error))?;
        let set: PromptSet = recorded::json(store, spec.prompt_set.hash).await?;
        let prompts = Prompts::compile(set).map_err(|error| recorded::unusable(run, error))?;
        Questionnaire::new(given, &spec.options, prompts)
            .ok_or_else(|| recorded::unusable(run, "its rubric has no Code Development leaf"))
    }

    /// The rubric without the cut at a greatest depth.
    pub fn whole(&self) -> &Rubric {
        self.uncut.as_ref().unwrap_or(&self.rubric)
    }
}
