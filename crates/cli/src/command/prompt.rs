//! `tribunal prompt`: what the judge would be sent about one leaf, and what is wrong with a set.
//!
//! Owns the output alone. The messages come out of the same preparation and templates as a run's;
//! no judge is called, and the store on disk is not opened.

use std::{fmt::Write, sync::Arc};

use anyhow::Context as _;
use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_core::{Category, ReplyForm, Rubric, SelectionMethod, run::GradeOptions};
use tribunal_evidence::Evidence;
use tribunal_store::{ModelStore, Store, SystemClock};
use tribunal_worker::{
    PromptSet,
    prompt::{
        self, Prompts, RunPrompts,
        lint::{lint, variables_used},
        variables::{SHARED_TEMPLATES, TEMPLATES},
    },
    select::Selector,
};

use crate::{
    args::{InputArgs, JudgeArgs, RateArgs, ShareArgs},
    budget::BudgetArgs,
    command::Context,
    engine,
    exit::Exit,
    leaf::{self, LeafName},
    output,
    panel::Panel,
    prepare,
    progress::note,
};

/// Arguments of `tribunal prompt`.
#[derive(Debug, Args)]
#[command(
    mut_arg("rubric", |arg| arg.required(false).required_unless_present("check")),
    mut_arg("submission", |arg| arg.required(false).required_unless_present("check")),
    // clap leaves the group of arguments that have others flattened into them empty, and tells by
    // the group whether optional arguments are there.
    mut_group("InputArgs", |group| group.args(["rubric", "submission"]))
)]
pub(crate) struct PromptArgs {
    #[command(flatten)]
    inputs: Option<InputArgs>,
    #[command(flatten)]
    judge: JudgeArgs,
    /// The leaf: `#N`, its 0-based number in the rubric, or its id
    #[arg(long, value_name = "LEAF", required_unless_present = "check")]
    leaf: Option<LeafName>,
    /// Only say what is wrong with a prompt set; exit 1 when it cannot be used
    #[arg(long, value_name = "NAME|DIR", conflicts_with_all = ["rubric", "submission", "leaf"])]
    check: Option<String>,
}

/// The document of `tribunal prompt`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PromptDocument {
    /// The leaf.
    leaf: PromptLeaf,
    /// The prompt set.
    prompt_set: String,
    /// The judge's model.
    model: String,
    /// How the answer is asked for.
    reply_form: ReplyForm,
    /// The rule that decides the leaf without a call; nothing is sent then.
    rule: Option<String>,
    /// The question for files that the judge is asked before, behind the same shared messages; null
    /// where it names none. The files in `messages` are then those whose words fit best, in place of
    /// the judge's.
    ranking: Option<PromptMessage>,
    /// How files are chosen; null where all of them fit.
    selection: Option<SelectionMethod>,
    /// What is sent, in order.
    messages: Vec<PromptMessage>,
    /// Tokens of the messages.
    tokens: PromptTokens,
    /// Tokens up to which all leaves of the category are sent the same, so that the provider can
    /// serve them from its cache.
    cache_boundary_tokens: usize,
    /// The model's window in tokens, the answer included.
    window: u64,
    /// The vocabulary that counted.
    tokenizer: String,
    /// What was assumed of the model.
    assumptions: Vec<String>,
}

/// The leaf that is asked about.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PromptLeaf {
    /// 0-based depth-first leaf index in the unpruned rubric; `null` for a cut node.
    index: Option<u32>,
    /// Its id.
    id: String,
    /// Its category.
    category: Category,
}

/// One message.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PromptMessage {
    /// `system` or `user`.
    role: &'static str,
    /// The text.
    content: String,
    /// Its tokens.
    tokens: usize,
    /// Whether all leaves of the category are sent it.
    shared: bool,
}

/// Tokens of the messages; a provider adds a few a message for its own marks.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PromptTokens {
    /// Those that all leaves of the category are sent.
    shared: usize,
    /// The leaf's own.
    own: usize,
    /// Together.
    total: usize,
}

/// The document of `tribunal prompt --check`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PromptCheckDocument {
    /// The set.
    prompt_set: String,
    /// What it is for.
    description: String,
    /// The templates that make up the shared prefix, in order: it ends with the last of them.
    shared_prefix: Vec<String>,
    /// The templates with the variables that each uses.
    templates: Vec<TemplateVariables>,
    /// What is wrong; empty where the set can be used.
    problems: Vec<SetProblem>,
}

/// The variables of a template.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TemplateVariables {
    /// The template's file.
    file: String,
    /// Whether it stands in the shared prefix.
    shared: bool,
    /// Its variables in the order of their first lines.
    variables: Vec<TemplateVariable>,
}

/// A variable of a template.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TemplateVariable {
    /// Its name.
    name: String,
    /// The 1-based line on which it first stands.
    line: Option<usize>,
}

/// One thing that is wrong with a set.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SetProblem {
    /// The file in the set's folder.
    file: String,
    /// 1-based line, where it is known.
    line: Option<usize>,
    /// What is wrong and what is expected.
    message: String,
}

/// Runs `tribunal prompt`.
///
/// # Errors
///
/// An input, the config or the prompt set cannot be used, or there is no such leaf.
pub(crate) async fn run(args: PromptArgs, context: &Context) -> anyhow::Result<Exit> {
    match args {
        PromptArgs { check: Some(name), .. } => check(&name, context.json),
        PromptArgs { inputs: Some(inputs), judge, leaf: Some(leaf), .. } => {
            let document = render(&inputs, &judge, &leaf, context).await?;
            if context.json {
                output::print_json("prompt", &document)?;
            } else {
                for assumption in &document.assumptions {
                    note(&format!("assuming: {assumption}"));
                }
                output::print_text(&text(&document))?;
            }
            Ok(Exit::Complete)
        }
        _ => anyhow::bail!("--rubric, --submission and --leaf say what is asked about"),
    }
}

async fn render(
    inputs: &InputArgs,
    judge: &JudgeArgs,
    name: &LeafName,
    context: &Context,
) -> anyhow::Result<PromptDocument> {
    let config = context.load(&inputs.options.flags())?;
    let judge = prepare::judge(judge, RateArgs::default(), &config)?;
    // A run like any other, in a store that ends with this command.
    let store: Arc<dyn Store> = Arc::new(ModelStore::new(Arc::new(SystemClock)));
    let panel = Panel::of(judge.clone());
    let (budget, share) = (BudgetArgs::default(), ShareArgs::default());
    let prepared = prepare::prepare(inputs, &config, &panel, &budget, &share, &store).await?;
    let spec = prepared.spec;

    let parsed = Rubric::parse(&spec.rubric.name, &store.blob(spec.rubric.hash).await?)?;
    let applied = |options: GradeOptions| {
        options.apply(parsed.clone()).context("nothing of the rubric is graded")
    };
    let rubric = applied(spec.options)?;
    let whole = applied(GradeOptions { max_depth: None, ..spec.options })?;
    let index = leaf::find(name, &rubric, &parsed)?;
    let node = &rubric.nodes()[index];
    let category = node.category.context("an inner node is asked about nothing")?;

    let set: PromptSet = serde_json::from_slice(&store.blob(spec.prompt_set.hash).await?)?;
    let prompts = Prompts::compile(set)?;
    let counter = judge.facts.counter();
    let message = |role: &'static str, content: String, shared: bool| {
        let tokens = counter.count_once(&content);
        PromptMessage { role, content, tokens, shared }
    };
    let rule = prepared.rules.get(&category).cloned();
    let key = match engine::existing_store(&config).await? {
        Some(existing) => existing.key().await?,
        // The first run will make the store, and its key: nobody knows that nonce yet.
        None => store.key().await?,
    };
    let nonce = prompt::nonce(&key, &spec.submission.hash);
    let mut messages = Vec::new();
    let (mut selection, mut ranking) = (None, None);
    if rule.is_none() {
        let mut evidence: Evidence =
            serde_json::from_slice(&store.blob(spec.evidence[&category]).await?)?;
        let run = RunPrompts {
            spec: &spec,
            rubric: &rubric,
            whole: &whole,
            prompts: &prompts,
            reply_form: spec.judge.reply_form,
            nonce: Some(&nonce),
        };
        let mut files = Vec::new();
        if let Some(selector) = evidence.pool.take().map(Selector::new) {
            let (method, group) = (selector.method(), selector.group(&rubric, index));
            selection = Some(method);
            let mut guess = None;
            if method.asks_judge() {
                ranking = Some(message("user", run.rank(&group, &evidence.tree)?, false));
                guess = Some(selector.guess(&*store, &rubric, &group).await?);
            }
            files = selector.select(&*store, &rubric, &group, guess.as_deref()).await?.files;
        }
        let shared = run.shared(evidence)?;
        messages.push(message("system", shared.system, true));
        messages.push(message("user", shared.shared, true));
        messages.push(message("user", run.leaf(index, &files)?, false));
    }
    let sum = |shared: bool| {
        messages.iter().filter(|m| m.shared == shared).map(|m| m.tokens).sum::<usize>()
    };
    let (shared, own) = (sum(true), sum(false));
    Ok(PromptDocument {
        leaf: PromptLeaf { index: node.leaf_index(), id: node.id.clone(), category },
        prompt_set: spec.prompt_set.name.clone(),
        model: spec.judge.model.clone(),
        reply_form: spec.judge.reply_form,
        rule,
        ranking,
        selection,
        messages,
        tokens: PromptTokens { shared, own, total: shared + own },
        cache_boundary_tokens: shared,
        window: judge.facts.context_window,
        tokenizer: judge.facts.tokenizer.clone(),
        assumptions: judge.facts.assumptions.clone(),
    })
}

fn text(document: &PromptDocument) -> String {
    let PromptDocument { leaf, messages, tokens, .. } = document;
    let category = leaf.category;
    let name = leaf.index.map_or_else(|| "cut node".to_owned(), |index| format!("#{index}"));
    if let Some(rule) = &document.rule {
        return format!("leaf {name} `{}`: decided by the rule {rule}, without a call\n", leaf.id);
    }
    let mut text = String::new();
    let mut shared = true;
    for message in messages {
        if shared && !message.shared {
            let _ = writeln!(
                text,
                "======== cache boundary: the {} tokens above are the same for every {category} \
                 leaf ========\n",
                document.cache_boundary_tokens
            );
        }
        shared = message.shared;
        if let Some(ranking) = document.ranking.as_ref().filter(|_| !shared) {
            text.push_str(&block(ranking, "asked first, for files"));
            let _ = writeln!(
                text,
                "======== the files below are those whose words fit best, in place of the judge's \
                 ========\n"
            );
        }
        text.push_str(&block(message, if shared { "shared" } else { "the leaf's own" }));
    }
    let _ = writeln!(
        text,
        "======== leaf {name} `{}` ({category}), prompt set {}, reply as {}: {} shared + {} own = {} \
         tokens ({}) of {}'s window of {} ========",
        leaf.id,
        document.prompt_set,
        document.reply_form.name(),
        tokens.shared,
        tokens.own,
        tokens.total,
        document.tokenizer,
        document.model,
        document.window
    );
    text
}

fn block(message: &PromptMessage, whose: &str) -> String {
    let PromptMessage { role, tokens, content, .. } = message;
    let newline = if content.ends_with('\n') { "" } else { "\n" };
    format!("======== {role} ({tokens} tokens, {whose}) ========\n{content}{newline}\n")
}

// === check ===

fn check(name: &str, json: bool) -> anyhow::Result<Exit> {
    let set = PromptSet::named(name)?;
    let problems = lint(&set);
    let template = |file: &str| TemplateVariables {
        file: file.to_owned(),
        shared: SHARED_TEMPLATES.contains(&file),
        variables: variables_used(&set, file)
            .into_iter()
            .map(|(name, line)| TemplateVariable { name, line })
            .collect(),
    };
    let document = PromptCheckDocument {
        prompt_set: set.name.clone(),
        description: set.description.clone(),
        shared_prefix: SHARED_TEMPLATES.map(str::to_owned).to_vec(),
        templates: TEMPLATES.map(template).into(),
        problems: problems
            .iter()
            .map(|p| SetProblem { file: p.file.clone(), line: p.line, message: p.message.clone() })
            .collect(),
    };
    if json {
        output::print_json("prompt check", &document)?;
    } else {
        for problem in &problems {
            note(&problem.to_string());
        }
        output::print_text(&checked(&document))?;
    }
    Ok(if problems.is_empty() { Exit::Complete } else { Exit::CheckFailed })
}

fn checked(document: &PromptCheckDocument) -> String {
    let count = document.problems.len();
    let state = match count {
        0 => "ok".to_owned(),
        1 => "1 problem".to_owned(),
        _ => format!("{count} problems"),
    };
    let mut text = format!("{}: {state}\n{}\n\n", document.prompt_set, document.description);
    let mut shared = true;
    for template in &document.templates {
        if shared && !template.shared {
            let _ = writeln!(text, "-------- the shared prefix ends here --------");
        }
        shared = template.shared;
        let used = template.variables.iter().map(|variable| match variable.line {
            Some(line) => format!("{} (line {line})", variable.name),
            None => variable.name.clone(),
        });
        let used = used.collect::<Vec<_>>().join(", ");
        let used = if used.is_empty() { "no variables" } else { &used };
        let _ = writeln!(text, "{}: {used}", template.file);
    }
    text
}
