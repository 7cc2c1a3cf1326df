//! Prompt sets: templates to messages.
//!
//! Owns rendering, shared-first: the system message and the shared message are the same bytes for
//! every leaf of a category, so that providers can cache them; only the last message is the leaf's.
//! A template sees the shared variables or the leaf's, never both. Where a set comes from is
//! [`set`]'s, what is wrong with one [`lint`](mod@lint)'s.

pub mod lint;
mod run;
mod scan;
pub mod set;
pub mod variables;

use std::{borrow::Cow, collections::BTreeMap};

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context, syntax::SyntaxConfig};
use tribunal_core::{BlobHash, Category, ReplyForm, Rubric};
use tribunal_evidence::{Evidence, ShownFile};

pub use self::{
    lint::{PromptProblem, lint},
    run::RunPrompts,
    set::{BUILTIN, PromptSet},
};
use self::{
    set::REPLY_FIELDS,
    variables::{SHARED_TEMPLATES, TEMPLATES},
};

/// A prompt set that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// No set with this name.
    #[error(
        "no prompt set `{name}`: it is no folder and none of {}", BUILTIN.join(", ")
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// A file of the set cannot be read, or is not text.
    #[error("prompt set {set}: {file}: {reason}")]
    File {
        /// The set's folder.
        set: String,
        /// The file in it.
        file: String,
        /// What is wrong, with its line where it has one.
        reason: String,
    },
    /// The set's files can be read but not used together.
    #[error("prompt set `{set}` cannot be used:{}", listed(.problems))]
    Problems {
        /// The set.
        set: String,
        /// What is wrong, in the order of the files.
        problems: Vec<PromptProblem>,
    },
    /// A template failed on these values.
    #[error("prompt set `{set}`: {template}: {reason}")]
    Template {
        /// The set.
        set: String,
        /// The file.
        template: String,
        /// 1-based line, where it is known.
        line: Option<usize>,
        /// What is wrong, with its line.
        reason: String,
    },
}

/// A compiled prompt set.
#[derive(Debug)]
pub struct Prompts {
    set: PromptSet,
    environment: Environment<'static>,
    /// By category, and whether the answer is asked for as prose.
    asked: BTreeMap<(Category, bool), Asked>,
}

/// Values that every leaf of a category is asked with, made once.
#[derive(Debug)]
struct Asked {
    question: Value,
    /// The answer's fields in the order in which they are asked for.
    reply: Value,
}

/// What all leaves of a category are shown alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPrompt {
    /// The system message.
    pub system: String,
    /// The first user message: paper and evidence.
    pub shared: String,
}

/// What a leaf's own message is made of.
#[derive(Clone, Copy, Debug)]
pub struct LeafPrompt<'p> {
    /// The rubric as graded.
    pub rubric: &'p Rubric,
    /// The same without the cut at a greatest depth: what a cut node stands for is listed from it.
    pub whole: &'p Rubric,
    /// The leaf's index in `rubric`.
    pub index: usize,
    /// Nodes before the leaf that are shown with it; all when `None`.
    pub max_prior_nodes: Option<usize>,
    /// How the answer is asked for.
    pub reply_form: ReplyForm,
    /// Files that were selected for this leaf and are not in the shared message.
    pub files: &'p [ShownFile],
    /// The fence of the submission's texts; see [`nonce`].
    pub nonce: Option<&'p str>,
}

/// What a question for the relevant files is made of.
#[derive(Clone, Copy, Debug)]
pub struct RankPrompt<'p> {
    /// The rubric as graded.
    pub rubric: &'p Rubric,
    /// The leaves' indices in `rubric`: one, or siblings that share their files. Not empty.
    pub indices: &'p [usize],
    /// Nodes before the first leaf that are shown; all when `None`.
    pub max_prior_nodes: Option<usize>,
    /// The directory tree; `None` where the shared message already shows it.
    pub tree: Option<&'p str>,
    /// Files to name at most.
    pub max_files: usize,
    /// How the answer is asked for.
    pub reply_form: ReplyForm,
    /// The fence of the submission's texts; see [`nonce`].
    pub nonce: Option<&'p str>,
}

/// The fence of a submission's texts: 12 hex digits that its author cannot know, for they depend
/// on the store's `key`, and that are the same in every prompt about it, so that prefixes stay
/// cached and verdicts reusable.
pub fn nonce(key: &[u8; 32], snapshot: &BlobHash) -> String {
    let hash = blake3::keyed_hash(key, snapshot.as_bytes()).to_hex();
    hash.as_str()[..12].to_owned()
}

// === impl Prompts ===

impl Prompts {
    /// Compiles a set that [`lint()`] finds nothing wrong with.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the set.
    pub fn compile(set: PromptSet) -> Result<Prompts, PromptError> {
        let problems = lint(&set);
        if !problems.is_empty() {
            return Err(PromptError::Problems { set: set.name, problems });
        }
        let (prompts, problems) = Self::build(set);
        if !problems.is_empty() {
            return Err(PromptError::Problems { set: prompts.set.name, problems });
        }
        Ok(prompts)
    }

    /// The set with the templates that parse, and what is wrong with the others.
    fn build(set: PromptSet) -> (Prompts, Vec<PromptProblem>) {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        // A line that holds a block alone leaves nothing in the prompt.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
        // It prints everything that a template is given.
        environment.remove_global("debug");
        environment.add_filter("attribute", attribute);
        let mut problems = Vec::new();
        for template in TEMPLATES {
            let Some(text) = set.templates.get(template) else {
                problems.push(PromptProblem::new(template, None, "is missing".to_owned()));
                continue;
            };
            if let Err(error) = environment.add_template_owned(template, text.clone()) {
                problems.push(PromptProblem::new(template, error.line(), reason(&error)));
            }
        }
        let asked = Category::ALL.into_iter().flat_map(|category| {
            [false, true].map(|prose| ((category, prose), Asked::new(&set, category, prose)))
        });
        (Prompts { asked: asked.collect(), set, environment }, problems)
    }

    /// The set.
    pub fn set(&self) -> &PromptSet {
        &self.set
    }

    /// The messages that all leaves of the evidence's category share. `shows_script` and
    /// `shows_log` say whether the category sees them, whether they exist or not.
    ///
    /// # Errors
    ///
    /// A template fails.
    pub fn shared(
        &self,
        evidence: Evidence,
        shows_script: bool,
        shows_log: bool,
        nonce: Option<&str>,
    ) -> Result<SharedPrompt, PromptError> {
        let files: Vec<Value> = evidence.files.into_iter().map(shown_file).collect();
        let values = context! {
            paper => evidence.paper,
            addendum => evidence.addendum,
            judge_addendum => evidence.judge_addendum,
            category => evidence.category.name(),
            shows_script => shows_script,
            script => evidence.script,
            shows_log => shows_log,
            log => evidence.log,
            tree => evidence.tree,
            files => files,
            fits => evidence.fits,
            nonce => nonce,
        };
        let system = self.render("system.md", values.clone())?;
        let paper = self.render("paper.md", values.clone())?;
        let evidence = self.render("evidence.md", values)?;
        Ok(SharedPrompt { system, shared: format!("{paper}\n{evidence}") })
    }

    /// The leaf's own message.
    ///
    /// # Errors
    ///
    /// A template fails.
    pub fn leaf(&self, leaf: &LeafPrompt<'_>) -> Result<String, PromptError> {
        let node = &leaf.rubric.nodes()[leaf.index];
        let category = node.category.unwrap_or(Category::Subtree);
        let files: Vec<Value> = leaf.files.iter().cloned().map(shown_file).collect();
        let subtree = match category {
            Category::Subtree => below(leaf.whole, node.position()),
            _ => Vec::new(),
        };
        let asked = &self.asked[&(category, leaf.reply_form == ReplyForm::Text)];
        self.render(
            "criterion.md",
            context! {
                prior => prior(leaf.rubric, leaf.index, leaf.max_prior_nodes),
                category => category.name(),
                requirements => requirements(leaf.rubric, leaf.index),
                subtree => subtree,
                question => asked.question.clone(),
                reply_form => leaf.reply_form.name(),
                reply => asked.reply.clone(),
                scale => scale(category),
                files => files,
                nonce => leaf.nonce,
            },
        )
    }

    /// The question for the files that one has to read for a leaf, or for siblings together.
    ///
    /// # Errors
    ///
    /// A template fails.
    pub fn rank(&self, rank: &RankPrompt<'_>) -> Result<String, PromptError> {
        let category = |index: usize| {
            let category = rank.rubric.nodes()[index].category;
            category.unwrap_or(Category::Subtree).name()
        };
        let criterion = |index: &usize| {
            context! {
                category => category(*index),
                requirements => requirements(rank.rubric, *index),
            }
        };
        let first = rank.indices.first().copied().unwrap_or(0);
        self.render(
            "rank.md",
            context! {
                prior => prior(rank.rubric, first, rank.max_prior_nodes),
                category => category(first),
                criteria => rank.indices.iter().map(criterion).collect::<Vec<_>>(),
                tree => rank.tree,
                max_files => rank.max_files,
                reply_form => rank.reply_form.name(),
                nonce => rank.nonce,
            },
        )
    }

    /// The message that asks again after an answer that cannot be used: for a verdict, or with
    /// `ranking` for files.
    ///
    /// # Errors
    ///
    /// A template fails.
    pub fn repair(
        &self,
        problem: &str,
        category: Category,
        ranking: bool,
    ) -> Result<String, PromptError> {
        let values = context! {
            problem => problem,
            category => category.name(),
            scale => scale(category),
            ranking => ranking,
        };
        self.render("repair.md", values)
    }

    /// Whether the messages that all leaves share show the directory tree.
    pub fn shows_tree(&self) -> bool {
        SHARED_TEMPLATES.into_iter().any(|template| {
            let compiled = self.environment.get_template(template);
            compiled.is_ok_and(|compiled| compiled.undeclared_variables(false).contains("tree"))
        })
    }

    /// For each field of a verdict beside its score, what it holds.
    pub fn reply_fields(&self) -> BTreeMap<String, String> {
        let holds = |(name, holds): (&str, &str)| {
            let said = self.set.reply.get(name).cloned();
            (name.to_owned(), said.unwrap_or_else(|| holds.to_owned()))
        };
        REPLY_FIELDS.into_iter().filter(|(name, _)| *name != "score").map(holds).collect()
    }

    fn render(&self, template: &str, values: Value) -> Result<String, PromptError> {
        let rendered = self.environment.get_template(template).and_then(|t| t.render(values));
        rendered.map_err(|error| {
            let line = error.line();
            let place = line.map_or(String::new(), |line| format!("line {line}: "));
            PromptError::Template {
                set: self.set.name.clone(),
                template: template.to_owned(),
                line,
                reason: format!("{place}{}", reason(&error)),
            }
        })
    }
}

// === impl Asked ===

impl Asked {
    fn new(set: &PromptSet, category: Category, prose: bool) -> Self {
        let field = |(name, holds): (&str, &str)| {
            let holds = match name {
                "score" => scale(category),
                _ => set.reply.get(name).map_or(holds, String::as_str),
            };
            context! { name => name, holds => holds }
        };
        // Prose ends with the score.
        let asked = |(name, _): &(&str, &str)| !prose || *name != "confidence";
        let reply = REPLY_FIELDS.into_iter().filter(asked).map(field);
        Self { question: set.questions.get(&category).into(), reply: reply.collect() }
    }
}

/// The error without the place, which is said apart.
fn reason(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn listed(problems: &[PromptProblem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

fn shown_file(file: ShownFile) -> Value {
    Value::from_pairs([("path", file.path), ("text", file.text)])
}

/// A file's name as the value of a tag's attribute: it cannot end the tag.
fn attribute(text: String) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// One line a node, so that a list's lines are its items.
fn folded(text: &str) -> Cow<'_, str> {
    // Most are so as they stand: their words have one space between them.
    let mut before = b' ';
    let mut stands = |byte: u8| {
        let stands = byte.is_ascii_graphic() || (byte == b' ' && before != b' ');
        before = byte;
        stands
    };
    if text.bytes().all(&mut stands) && !text.ends_with(' ') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn prior(rubric: &Rubric, index: usize, max: Option<usize>) -> Vec<Value> {
    let prior = rubric.prior_nodes(index, max).into_iter();
    prior.map(|prior| folded(&rubric.nodes()[prior].requirements).into()).collect()
}

/// The node's requirement, on one line where a list of what is below it follows.
fn requirements(rubric: &Rubric, index: usize) -> Value {
    let node = &rubric.nodes()[index];
    match node.category {
        Some(Category::Subtree) | None => folded(&node.requirements).into(),
        Some(_) => node.requirements.trim().into(),
    }
}

/// The nodes below the one at this position, in document order; its children have depth 1.
fn below(whole: &Rubric, position: u32) -> Vec<Value> {
    let Some(top) = whole.by_position(position) else { return Vec::new() };
    let depth = whole.nodes()[top].depth();
    let nodes = &whole.nodes()[top + 1..whole.end(top)];
    let item = |node: &tribunal_core::rubric::Node| {
        context! {
            depth => node.depth() - depth,
            // As people write it: `2`, not `2.0`.
            weight => node.weight.to_string(),
            requirements => Value::from(folded(&node.requirements)),
            category => node.category.map(Category::name),
        }
    };
    nodes.iter().map(item).collect()
}

fn scale(category: Category) -> &'static str {
    if category.is_fractional() { "a number from 0 to 1" } else { "0 or 1" }
}
