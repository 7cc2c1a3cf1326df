//! Prompt sets: templates to messages.
//!
//! Owns rendering, shared-first: the system message and the shared message are the same bytes for
//! every leaf of a category, so that providers can cache them; only the last message is the leaf's.
//! A template sees the shared variables or the leaf's, never both.

use std::collections::BTreeMap;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use serde::{Deserialize, Serialize};
use tribunal_core::{Category, ReplyForm, Rubric};
use tribunal_evidence::{Evidence, ShownFile};

/// The templates of a set, and no others.
const TEMPLATES: [&str; 5] = ["system.md", "paper.md", "evidence.md", "criterion.md", "repair.md"];

/// A prompt set: its templates and the question of each category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptSet {
    /// The set's name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// For each category, the question put about a criterion.
    pub questions: BTreeMap<Category, String>,
    /// Template texts by file name.
    pub templates: BTreeMap<String, String>,
}

/// A prompt set that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// No set with this name.
    #[error("no prompt set `{name}`; there is: default")]
    Unknown {
        /// The name.
        name: String,
    },
    /// `set.toml` is wrong.
    #[error("prompt set `{name}`: set.toml: {reason}")]
    Set {
        /// The set.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A template is wrong.
    #[error("prompt set `{name}`: {template}: {reason}")]
    Template {
        /// The set.
        name: String,
        /// The file.
        template: String,
        /// What is wrong, with its line.
        reason: String,
    },
}

/// `set.toml` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSet {
    name: String,
    description: String,
    questions: BTreeMap<Category, String>,
}

/// A compiled prompt set.
pub struct Prompts {
    set: PromptSet,
    environment: Environment<'static>,
}

/// What all leaves of a category are shown alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPrompt {
    /// The system message.
    pub system: String,
    /// The first user message: paper and evidence.
    pub shared: String,
}

// === impl PromptSet ===

impl PromptSet {
    /// The set that comes with Tribunal under this name.
    ///
    /// # Errors
    ///
    /// There is none with this name.
    pub fn builtin(name: &str) -> Result<PromptSet, PromptError> {
        macro_rules! file {
            ($name:literal) => {
                ($name, include_str!(concat!("../../../prompts/default/", $name)))
            };
        }
        if name != "default" {
            return Err(PromptError::Unknown { name: name.to_owned() });
        }
        let files = [
            file!("system.md"),
            file!("paper.md"),
            file!("evidence.md"),
            file!("criterion.md"),
            file!("repair.md"),
        ];
        let templates = files.into_iter().map(|(n, t)| (n.to_owned(), t.to_owned())).collect();
        let set = include_str!("../../../prompts/default/set.toml");
        Self::new(name, set, templates)
    }

    fn new(
        name: &str,
        set: &str,
        templates: BTreeMap<String, String>,
    ) -> Result<PromptSet, PromptError> {
        let raw: RawSet = toml::from_str(set).map_err(|error| PromptError::Set {
            name: name.to_owned(),
            reason: error.to_string(),
        })?;
        let (name, description, questions) = (raw.name, raw.description, raw.questions);
        Ok(PromptSet { name, description, questions, templates })
    }
}

// === impl Prompts ===

impl Prompts {
    /// Compiles a set.
    ///
    /// # Errors
    ///
    /// A template is missing or has a syntax error, or a category has no question.
    pub fn compile(set: PromptSet) -> Result<Prompts, PromptError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        for template in TEMPLATES {
            let failed = |reason: String| PromptError::Template {
                name: set.name.clone(),
                template: template.to_owned(),
                reason,
            };
            let text =
                set.templates.get(template).ok_or_else(|| failed("is missing".to_owned()))?;
            environment
                .add_template_owned(template, text.clone())
                .map_err(|error| failed(error.to_string()))?;
        }
        if let Some(category) = Category::ALL.into_iter().find(|c| !set.questions.contains_key(c)) {
            let reason = format!("[questions] has none for `{category}`");
            return Err(PromptError::Set { name: set.name, reason });
        }
        Ok(Prompts { set, environment })
    }

    /// The messages that all leaves of the evidence's category share. `shows_script` and
    /// `shows_log` say whether the category sees them, whether they exist or not.
    ///
    /// # Errors
    ///
    /// A template uses a variable that there is not.
    pub fn shared(
        &self,
        evidence: Evidence,
        shows_script: bool,
        shows_log: bool,
    ) -> Result<SharedPrompt, PromptError> {
        let system = self.render("system.md", context! {})?;
        let paper = self.render(
            "paper.md",
            context! {
                paper => evidence.paper,
                addendum => evidence.addendum,
                judge_addendum => evidence.judge_addendum,
            },
        )?;
        let file = |file: ShownFile| Value::from_pairs([("path", file.path), ("text", file.text)]);
        let shown: Vec<Value> = evidence.files.into_iter().map(file).collect();
        let files = self.render(
            "evidence.md",
            context! {
                category => evidence.category.name(),
                shows_script => shows_script,
                script => evidence.script,
                shows_log => shows_log,
                log => evidence.log,
                tree => evidence.tree,
                files => shown,
                fits => evidence.fits,
            },
        )?;
        Ok(SharedPrompt { system, shared: format!("{paper}\n{files}") })
    }

    /// The leaf's own message.
    ///
    /// # Errors
    ///
    /// A template uses a variable that there is not.
    pub fn leaf(
        &self,
        rubric: &Rubric,
        index: usize,
        max_prior_nodes: Option<usize>,
        reply_form: ReplyForm,
    ) -> Result<String, PromptError> {
        let node = &rubric.nodes()[index];
        let category = node.category.unwrap_or(Category::Subtree);
        // One line a node, so that the list's lines are its items.
        let folded = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let prior: Vec<String> = rubric
            .prior_nodes(index, max_prior_nodes)
            .into_iter()
            .map(|prior| folded(&rubric.nodes()[prior].requirements))
            .collect();
        self.render(
            "criterion.md",
            context! {
                prior => prior,
                category => category.name(),
                requirements => node.requirements.trim(),
                question => self.set.questions.get(&category),
                reply_form => reply_form.name(),
                scale => scale(category),
            },
        )
    }

    /// The message that asks again after an answer that cannot be used.
    ///
    /// # Errors
    ///
    /// A template uses a variable that there is not.
    pub fn repair(&self, problem: &str, category: Category) -> Result<String, PromptError> {
        self.render("repair.md", context! { problem => problem, scale => scale(category) })
    }

    fn render(&self, template: &str, values: Value) -> Result<String, PromptError> {
        let rendered = self.environment.get_template(template).and_then(|t| t.render(values));
        rendered.map_err(|error| PromptError::Template {
            name: self.set.name.clone(),
            template: template.to_owned(),
            reason: error.to_string(),
        })
    }
}

fn scale(category: Category) -> &'static str {
    if category.is_fractional() { "a number from 0 to 1" } else { "0 or 1" }
}
