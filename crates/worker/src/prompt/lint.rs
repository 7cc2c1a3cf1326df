//! What is wrong with a prompt set, by file and line.
//!
//! Owns the checks: that each template parses, uses the variables it is given and no others, keeps
//! what is a leaf's own behind the line where the shared prefix ends, and renders for every
//! category and reply form. A set with a problem is never used.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;
use tribunal_core::{Category, ReplyForm, Rubric};
use tribunal_evidence::{Evidence, ShownFile};

use super::{
    LeafPrompt, PromptError, PromptSet, Prompts, RankPrompt, scan,
    variables::{self, SHARED_TEMPLATES, TEMPLATES},
};

/// One thing that is wrong with a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PromptProblem {
    /// The file in the set's folder.
    pub file: String,
    /// 1-based line, where it is known.
    pub line: Option<usize>,
    /// What is wrong and what is expected.
    pub message: String,
}

/// What a leaf is asked of: one of each category, the last one cut.
const SAMPLE_RUBRIC: &str = r#"{"id": "root", "requirements": "r", "weight": 1, "sub_tasks": [
    {"id": "a", "requirements": "a", "weight": 1, "sub_tasks": [],
        "task_category": "Code Development"},
    {"id": "b", "requirements": "b", "weight": 1, "sub_tasks": [],
        "task_category": "Code Execution"},
    {"id": "c", "requirements": "c", "weight": 1, "sub_tasks": [],
        "task_category": "Result Analysis"},
    {"id": "d", "requirements": "d", "weight": 1, "sub_tasks": [
        {"id": "e", "requirements": "e", "weight": 2, "sub_tasks": [],
            "task_category": "Code Development"}]}]}"#;

/// Everything that is wrong with the set, in the order of the prompt; empty where it can be used.
pub fn lint(set: &PromptSet) -> Vec<PromptProblem> {
    let mut problems = Vec::new();
    for category in Category::ALL {
        let question = set.questions.get(&category).map_or("", |question| question.trim());
        if question.is_empty() {
            let message = format!("[questions] has none for \"{category}\"");
            problems.push(PromptProblem::new("set.toml", None, message));
        }
    }
    let (prompts, unparsed) = Prompts::build(set.clone());
    problems.extend(unparsed);
    for template in TEMPLATES {
        problems.extend(names(&prompts, template));
    }
    for (template, variable) in [("criterion.md", "requirements"), ("rank.md", "criteria")] {
        let compiled = prompts.environment.get_template(template);
        if compiled.is_ok_and(|t| !t.undeclared_variables(false).contains(variable)) {
            let message = format!("never uses `{variable}`: the judge would not see what is asked");
            problems.push(PromptProblem::new(template, None, message));
        }
    }
    if problems.is_empty() {
        problems.extend(trials(&prompts));
    }
    problems
}

/// The variables that a template uses, each with its first line; by line.
pub fn variables_used(set: &PromptSet, template: &str) -> Vec<(String, Option<usize>)> {
    let (prompts, _) = Prompts::build(set.clone());
    let mut used = undeclared(&prompts, template);
    used.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    used
}

fn undeclared(prompts: &Prompts, template: &str) -> Vec<(String, Option<usize>)> {
    let Ok(compiled) = prompts.environment.get_template(template) else { return Vec::new() };
    let global = |name: &str| prompts.environment.globals().any(|(global, _)| global == name);
    let names: BTreeSet<String> = compiled.undeclared_variables(false).into_iter().collect();
    let names = names.into_iter().filter(|name| !global(name));
    names.map(|name| (name.clone(), scan::line_of(compiled.source(), &name))).collect()
}

/// Names that the template must not use.
fn names(prompts: &Prompts, template: &str) -> Vec<PromptProblem> {
    let known = variables::of(template);
    let mut problems: Vec<PromptProblem> = undeclared(prompts, template)
        .into_iter()
        .filter(|(name, _)| !known.contains(&name.as_str()))
        .map(|(name, line)| {
            let message = if variables::is_shared(template) && variables::is_own(&name) {
                format!(
                    "the leaf's variable `{name}` stands before the end of the shared prefix \
                     ({}): it would make the prompt another one for every leaf. Use it in \
                     criterion.md",
                    SHARED_TEMPLATES.join(", ")
                )
            } else {
                format!("unknown variable `{name}`; there is: {}", known.join(", "))
            };
            PromptProblem::new(template, line, message)
        })
        .collect();
    if let Some(source) = prompts.set.templates.get(template) {
        problems.extend(scan::borrowing(source).into_iter().map(|(statement, line)| {
            let message = format!("`{statement}`: a template stands alone and takes in no other");
            PromptProblem::new(template, Some(line), message)
        }));
    }
    problems.sort();
    problems
}

/// Renders every template with everything present and with everything absent: what only running
/// them can show, such as a filter that there is not.
fn trials(prompts: &Prompts) -> BTreeSet<PromptProblem> {
    let mut problems = BTreeSet::new();
    let mut tried = |rendered: Result<(), PromptError>| {
        if let Err(PromptError::Template { template, line, reason, .. }) = rendered {
            let place = line.map_or(String::new(), |line| format!("line {line}: "));
            let message = reason.strip_prefix(&place).unwrap_or(&reason).to_owned();
            problems.insert(PromptProblem { file: template, line, message });
        }
    };
    let file = || ShownFile { path: "a.py".to_owned(), text: "x".to_owned(), tokens: 1 };
    let whole = Rubric::parse("sample", SAMPLE_RUBRIC.as_bytes()).expect("the sample is a rubric");
    let rubric = whole.cut(2);
    for (present, nonce) in [(true, Some("0123456789ab")), (false, None)] {
        for category in Category::ALL {
            let text = || present.then(|| "x".to_owned());
            let evidence = Evidence {
                schema: Evidence::SCHEMA.to_owned(),
                category,
                paper: text(),
                addendum: text(),
                judge_addendum: text(),
                script: text(),
                log: text(),
                tree: text().unwrap_or_default(),
                files: if present { vec![file()] } else { Vec::new() },
                records: Vec::new(),
                parts: Vec::new(),
                fits: !present,
                tokens: 0,
                pool: None,
            };
            tried(prompts.shared(evidence.clone(), present, present, nonce).map(|_| ()));
            // Seen, but not there; and all files left to the leaves.
            let evidence = Evidence { files: Vec::new(), ..evidence };
            tried(prompts.shared(evidence, true, true, nonce).map(|_| ()));
            tried(prompts.repair("it is empty", category, present).map(|_| ()));
        }
        for reply_form in [ReplyForm::JsonSchema, ReplyForm::JsonObject, ReplyForm::Text] {
            let max_prior_nodes = if present { None } else { Some(0) };
            let files = if present { vec![file()] } else { Vec::new() };
            let leaves: Vec<usize> = rubric.leaves().map(|(index, _)| index).collect();
            for index in leaves.iter().copied() {
                let (rubric, whole, files) = (&rubric, &whole, &files[..]);
                let leaf =
                    LeafPrompt { rubric, whole, index, max_prior_nodes, reply_form, files, nonce };
                tried(prompts.leaf(&leaf).map(|_| ()));
            }
            let indices = if present { &leaves[..] } else { &leaves[..1] };
            let (rubric, tree) = (&rubric, present.then_some("a.py"));
            let max_files = 10;
            let rank =
                RankPrompt { rubric, indices, max_prior_nodes, tree, max_files, reply_form, nonce };
            tried(prompts.rank(&rank).map(|_| ()));
        }
    }
    problems
}

// === impl PromptProblem ===

impl PromptProblem {
    pub(super) fn new(file: &str, line: Option<usize>, message: String) -> PromptProblem {
        PromptProblem { file: file.to_owned(), line, message }
    }
}

impl fmt::Display for PromptProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PromptProblem { file, line, message } = self;
        match line {
            Some(line) => write!(f, "{file}:{line}: {message}"),
            None => write!(f, "{file}: {message}"),
        }
    }
}
