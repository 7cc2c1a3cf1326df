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
    judge: Option<&str>,
) -> anyhow::Result<PathBuf> {
    let folder = out.join("winner");
    write_set(&folder, set)?;
    write_file(&out.join("winner.toml"), winner_config(candidate, judge).as_bytes())?;
    Ok(folder)
}

/// A config with what the candidate is besides its prompt. `judge` is the configured one's name; none
/// where the endpoint was named on the command line.
fn winner_config(candidate: &CandidateDocument, judge: Option<&str>) -> String {
    let mut text = format!("# {}: for --config\n", candidate.name);
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut said = |table: &str, line: String| {
        tables.entry(table.to_owned()).or_default().push(line);
    };
    said("run", "prompt_set = \"winner\"".to_owned());
    let judge = candidate.factors.get("judge").map(String::as_str).or(judge);
    if let Some(judge) = judge {
        said("run", format!("judge = {}", toml::Value::String(judge.to_owned())));
    }
    for (factor, value) in &candidate.factors {
        let quoted = toml::Value::String(value.clone());
        match (factor.as_str(), judge) {
            ("judge", _) => {}
            ("max_prior_nodes", _) if value == "all" => {
                said("run", "max_prior_nodes = 0".to_owned());
            }
            ("max_prior_nodes" | "require_evidence", _) => {
                said("run", format!("{factor} = {value}"));
            }
            ("selection", _) => said("evidence", format!("selection = {quoted}")),
            ("token_budget", _) => said("evidence", format!("token_budget = {value}")),
            ("model" | "reasoning_effort", Some(judge)) => {
                said(&format!("judge.{judge}"), format!("{factor} = {quoted}"));
            }
            _ => said("", format!("# and on the command line: --{factor} {value}")),
        }
    }
    for (table, lines) in tables {
        if !table.is_empty() {
            let _ = writeln!(text, "[{table}]");
        }
        let _ = writeln!(text, "{}", lines.join("\n"));
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_winners_settings_are_a_config() {
        let config = |factors: &[(&str, &str)], judge: Option<&str>| {
            let factors =
                factors.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let candidate =
                CandidateDocument { factors: factors.collect(), ..CandidateDocument::default() };
            winner_config(&candidate, judge)
        };
        let factors = [
            ("judge", "other"),
            ("max_prior_nodes", "all"),
            ("model", "m\"1"),
            ("require_evidence", "true"),
            ("samples", "3"),
            ("selection", "lexical"),
            ("token_budget", "9000"),
        ];
        let text = config(&factors, Some("mini"));
        let read: toml::Table = toml::from_str(&text).unwrap();
        let run = &read["run"];
        assert_eq!(run["judge"].as_str(), Some("other"), "{text}");
        assert_eq!(run["prompt_set"].as_str(), Some("winner"));
        assert_eq!(run["max_prior_nodes"].as_integer(), Some(0));
        assert_eq!(run["require_evidence"].as_bool(), Some(true));
        assert_eq!(read["judge"]["other"]["model"].as_str(), Some("m\"1"));
        assert_eq!(read["evidence"]["token_budget"].as_integer(), Some(9000));
        assert_eq!(read["evidence"]["selection"].as_str(), Some("lexical"));
        assert!(text.contains("--samples 3"), "{text}");
        // What the command line named is no judge of the config.
        let text = config(&[("model", "m1")], None);
        assert!(text.contains("--model m1") && !text.contains("judge"), "{text}");
        let read: toml::Table = toml::from_str(&config(&[], Some("mini"))).unwrap();
        assert_eq!(read["run"]["judge"].as_str(), Some("mini"));
    }
}
