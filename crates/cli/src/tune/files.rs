//! The files of a tuning: prompt sets as folders, `tune.json`, `tune.html`, the winner.
//!
//! Owns their names, and that each appears whole or not at all.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Serialize;
use tribunal_collector::write_file;
use tribunal_core::Category;
use tribunal_tune::document::{CandidateDocument, DiffLine, TuneDocument, diff};
use tribunal_worker::PromptSet;

use crate::output;

/// `set.toml` as it is written.
#[derive(Serialize)]
struct SetFile<'s> {
    name: &'s str,
    description: &'s str,
    questions: &'s BTreeMap<Category, String>,
    reply: &'s BTreeMap<String, String>,
}

/// Writes a prompt set as a folder that `--prompt-set` takes.
///
/// # Errors
///
/// The folder cannot be made or written.
pub(crate) fn write_set(folder: &Path, set: &PromptSet) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let PromptSet { name, description, questions, reply, templates } = set;
    for (name, text) in templates {
        write_file(&folder.join(name), text.as_bytes())?;
    }
    let text = toml::to_string_pretty(&SetFile { name, description, questions, reply })?;
    // Last: a folder without it is no set.
    Ok(write_file(&folder.join("set.toml"), text.as_bytes())?)
}

/// Writes `tune.json` and `tune.html`.
///
/// # Errors
///
/// They cannot be written.
pub(crate) fn write_document(out: &Path, document: &TuneDocument) -> anyhow::Result<()> {
    write_file(&out.join("tune.json"), &output::json_bytes("tune", document)?)?;
    let page = tribunal_report::tune_page(document)?;
    Ok(write_file(&out.join("tune.html"), page.html.as_bytes())?)
}

/// Writes the winning set, and beside it what else it needs as a file for `--config`; its folder.
///
/// # Errors
///
/// They cannot be written.
pub(crate) fn write_winner(
    out: &Path,
    set: &PromptSet,
    candidate: &CandidateDocument,
    judge: &str,
) -> anyhow::Result<PathBuf> {
    let folder = out.join("winner");
    write_set(&folder, set)?;
    let mut text = format!("# {}: for --config\n", candidate.name);
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    tables.entry("run".to_owned()).or_default().push("prompt_set = \"winner\"".to_owned());
    for (factor, value) in &candidate.factors {
        let quoted = toml::Value::String(value.clone());
        let (table, line) = match factor.as_str() {
            "judge" => ("run".to_owned(), format!("judge = {quoted}")),
            "max_prior_nodes" if value == "all" => {
                ("run".to_owned(), "max_prior_nodes = 0".to_owned())
            }
            "max_prior_nodes" | "require_evidence" => {
                ("run".to_owned(), format!("{factor} = {value}"))
            }
            "selection" => ("evidence".to_owned(), format!("selection = {quoted}")),
            "token_budget" => ("evidence".to_owned(), format!("token_budget = {value}")),
            "model" | "reasoning_effort" => {
                (format!("judge.{judge}"), format!("{factor} = {quoted}"))
            }
            _ => (String::new(), format!("# and --{factor} {value}")),
        };
        tables.entry(table).or_default().push(line);
    }
    for (table, lines) in tables {
        if !table.is_empty() {
            let _ = writeln!(text, "[{table}]");
        }
        let _ = writeln!(text, "{}", lines.join("\n"));
    }
    write_file(&out.join("winner.toml"), text.as_bytes())?;
    Ok(folder)
}

/// What differs between two sets, by file.
pub(crate) fn prompt_diff(
    before: &PromptSet,
    after: &PromptSet,
) -> BTreeMap<String, Vec<DiffLine>> {
    let texts = |set: &PromptSet| {
        let mut texts = set.templates.clone();
        let lines = |heading: &str, (name, text): (&dyn std::fmt::Display, &String)| {
            format!("[{heading}] {name}: {text}\n")
        };
        let mut words: String =
            set.questions.iter().map(|(name, text)| lines("question", (name, text))).collect();
        words.extend(set.reply.iter().map(|(name, text)| lines("reply", (name, text))));
        texts.insert("set.toml".to_owned(), words);
        texts
    };
    let (before, after) = (texts(before), texts(after));
    let names = before.keys().chain(after.keys()).cloned();
    let mut differ = BTreeMap::new();
    for name in names {
        let text = |of: &BTreeMap<String, String>| of.get(&name).cloned().unwrap_or_default();
        let (old, new) = (text(&before), text(&after));
        if old != new {
            differ.insert(name, diff(&old, &new));
        }
    }
    differ
}
