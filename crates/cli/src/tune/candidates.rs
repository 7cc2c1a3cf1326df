//! Candidates: judge configurations, each a prompt set with or without a factor changed.
//!
//! Owns `--prompts` and `--factor`, and the grid that they span. The first prompt set with nothing
//! changed is the baseline.

use std::{collections::BTreeMap, path::Path, str::FromStr};

use anyhow::{Context as _, bail, ensure};
use tribunal_core::{BlobHash, ids::FieldHasher};
use tribunal_tune::document::CandidateDocument;
use tribunal_worker::{PromptSet, prompt::Prompts};

use crate::{
    args::{JudgeArgs, RateArgs},
    config::{Config, FlagValue},
    panel::Panel,
    prepare,
};

/// The most votes on a leaf.
const MOST_SAMPLES: u32 = 25;

/// What a candidate may differ in besides its prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Judge,
    Model,
    ReasoningEffort,
    Selection,
    TokenBudget,
    MaxPriorNodes,
    Samples,
    Evidence,
}

/// `--factor KEY=VALUE,…`: values beside the one that the config has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Factor {
    key: Key,
    values: Vec<String>,
}

/// A judge's configuration.
#[derive(Clone)]
pub(crate) struct Candidate {
    /// What is told of it.
    pub(crate) document: CandidateDocument,
    /// The config with its factors laid over.
    pub(crate) config: Config,
    /// Its judge.
    pub(crate) panel: Panel,
    /// Its prompt set.
    pub(crate) set: PromptSet,
    /// Papers that it was made from, by their place among all.
    pub(crate) seen: Vec<usize>,
}

/// What all candidates have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common<'c> {
    /// The file of `--config`.
    pub(crate) file: Option<&'c Path>,
    /// The flags of the command line.
    pub(crate) flags: Vec<FlagValue<'static>>,
    /// Who judges.
    pub(crate) judge: JudgeArgs,
    /// What the account allows.
    pub(crate) rates: RateArgs,
}

const KEYS: [(&str, Key); 8] = [
    ("judge", Key::Judge),
    ("model", Key::Model),
    ("reasoning_effort", Key::ReasoningEffort),
    ("selection", Key::Selection),
    ("token_budget", Key::TokenBudget),
    ("max_prior_nodes", Key::MaxPriorNodes),
    ("samples", Key::Samples),
    ("require_evidence", Key::Evidence),
];

// === impl Key ===

impl Key {
    fn name(self) -> &'static str {
        KEYS.iter().find(|(_, key)| *key == self).map_or("", |(name, _)| name)
    }
}

// === impl Factor ===

impl FromStr for Factor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = KEYS.iter().map(|(name, _)| *name).collect();
        let (name, values) = text.split_once('=').ok_or_else(|| {
            format!("a factor is KEY=VALUE,…, KEY being one of {}", names.join(", "))
        })?;
        let key = KEYS.iter().find(|(known, _)| *known == name.trim()).map(|(_, key)| *key);
        let key = key.ok_or_else(|| format!("`{name}` is none of {}", names.join(", ")))?;
        let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
        if values.iter().any(String::is_empty) {
            return Err(format!("`{text}` names an empty value"));
        }
        Ok(Factor { key, values })
    }
}

/// Every combination of these factors' values, that without any first.
fn grid(factors: &[Factor]) -> Vec<Vec<(Key, String)>> {
    let mut all: Vec<Vec<(Key, String)>> = vec![Vec::new()];
    for factor in factors {
        let with = |before: &Vec<(Key, String)>| {
            let own = factor.values.iter().map(|value| {
                let mut with = before.clone();
                with.push((factor.key, value.clone()));
                with
            });
            std::iter::once(before.clone()).chain(own).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(with).collect();
    }
    all
}

// === impl Common ===

impl Common<'_> {
    /// The candidates of these prompt sets and factors, the baseline first; one that is the same as an
    /// earlier one is left out, and named.
    ///
    /// # Errors
    ///
    /// A set or a value cannot be used.
    pub(crate) fn candidates(
        &self,
        prompts: &[String],
        factors: &[Factor],
    ) -> anyhow::Result<(Vec<Candidate>, Vec<String>)> {
        for (at, factor) in factors.iter().enumerate() {
            let name = factor.key.name();
            ensure!(
                !factors[..at].iter().any(|other| other.key == factor.key),
                "--factor {name} stands twice; name its values in one"
            );
        }
        let (mut candidates, mut same_as_others) = (Vec::<Candidate>::new(), Vec::new());
        for set in prompts {
            for factors in grid(factors) {
                let candidate = self.candidate(set, &factors)?;
                let same = |other: &&Candidate| other.identity() == candidate.identity();
                match candidates.iter().find(same) {
                    Some(other) => same_as_others.push(same_as(&candidate, other)),
                    None => candidates.push(candidate),
                }
            }
        }
        Ok((candidates, same_as_others))
    }

    /// The candidate with this prompt set, everything else being as configured.
    ///
    /// # Errors
    ///
    /// The set cannot be used.
    pub(crate) fn with_set(&self, set: &str) -> anyhow::Result<Candidate> {
        self.candidate(set, &[])
    }

    fn candidate(&self, named: &str, factors: &[(Key, String)]) -> anyhow::Result<Candidate> {
        let mut flags = self.flags.clone();
        flags.push(("run.prompt_set", named.to_owned().into(), "--prompts"));
        let (mut judge, mut samples) = (self.judge.clone(), 1);
        let mut model: Option<&str> = None;
        let mut effort: Option<&str> = None;
        for (key, value) in factors {
            let told = |what: &str| format!("--factor {}={value}: {what}", key.name());
            let number = || value.parse::<i64>().with_context(|| told("a whole number"));
            match key {
                Key::Judge => {
                    judge = JudgeArgs { judge: Some(value.clone()), ..JudgeArgs::default() };
                }
                Key::Model => model = Some(value),
                Key::ReasoningEffort => effort = Some(value),
                Key::Selection => {
                    flags.push(("evidence.selection", value.clone().into(), "--factor selection"));
                }
                Key::TokenBudget => {
                    flags.push((
                        "evidence.token_budget",
                        number()?.into(),
                        "--factor token_budget",
                    ));
                }
                Key::MaxPriorNodes => {
                    let nodes = if value == "all" { 0 } else { number()? };
                    flags.push(("run.max_prior_nodes", nodes.into(), "--factor max_prior_nodes"));
                }
                Key::Samples => {
                    let count = u32::try_from(number()?).ok();
                    let count = count.filter(|n| (1..=MOST_SAMPLES).contains(n));
                    samples = count
                        .with_context(|| told(&format!("a number from 1 to {MOST_SAMPLES}")))?;
                }
                Key::Evidence => {
                    let wanted: bool = value.parse().with_context(|| told("true or false"))?;
                    flags.push((
                        "run.require_evidence",
                        wanted.into(),
                        "--factor require_evidence",
                    ));
                }
            }
        }
        if let Some(model) = model {
            match (&judge.base_url, &judge.judge) {
                (Some(_), _) => judge.model = Some(model.to_owned()),
                (None, _) => {
                    let name = judge.judge.clone();
                    let name = name.map_or_else(
                        || Ok(Config::load(self.file, &flags)?.run.judge),
                        anyhow::Ok,
                    )?;
                    // Flags live as long as the process: there are as many as candidates.
                    let key: &'static str = Box::leak(format!("judge.{name}.model").into());
                    flags.push((key, model.to_owned().into(), "--factor model"));
                }
            }
        }
        let config = Config::load(self.file, &flags)?;
        let mut resolved = prepare::judge(&judge, self.rates, &config)?;
        if let Some(effort) = effort {
            resolved.spec.reasoning_effort = Some(effort.to_owned());
        }
        let set = PromptSet::named(named).with_context(|| format!("--prompts {named}"))?;
        // A set that cannot be used would fail every leaf.
        Prompts::compile(set.clone()).with_context(|| format!("--prompts {named}"))?;
        let mut panel = Panel::of(resolved);
        panel.samples = samples;
        let factors: BTreeMap<String, String> =
            factors.iter().map(|(key, value)| (key.name().to_owned(), value.clone())).collect();
        let differs = factors.iter().map(|(key, value)| format!(" {key}={value}"));
        let document = CandidateDocument {
            name: format!("{}{}", set.name, differs.collect::<String>()),
            prompt_set: named.to_owned(),
            prompt_hash: hash(&set)?.to_string(),
            factors,
            ..CandidateDocument::default()
        };
        Ok(Candidate { document, config, panel, set, seen: Vec::new() })
    }
}

/// What is said of a candidate that is left out because another one asks the same.
pub(crate) fn same_as(candidate: &Candidate, other: &Candidate) -> String {
    let CandidateDocument { name, prompt_set, .. } = &candidate.document;
    format!("{name} ({prompt_set}) asks the same as {}, and is left out", other.document.name)
}

/// The hash of a set, as a run's spec has it.
///
/// # Errors
///
/// Never, in memory.
pub(crate) fn hash(set: &PromptSet) -> anyhow::Result<BlobHash> {
    Ok(BlobHash::of(&serde_json::to_vec(set)?))
}

// === impl Candidate ===

impl Candidate {
    /// What tells it from other candidates.
    pub(crate) fn identity(&self) -> BlobHash {
        let mut hasher = FieldHasher::new("tribunal.candidate/1");
        hasher.field("prompt_set", self.document.prompt_hash.as_bytes());
        hasher.field("judge", &self.panel.first.spec.identity());
        hasher.field("samples", &self.panel.samples.to_le_bytes());
        let (run, evidence) = (&self.config.run, &self.config.evidence);
        hasher.field("prior", format!("{:?}", run.max_prior_nodes).as_bytes());
        hasher.field("require_evidence", &[u8::from(run.require_evidence)]);
        hasher.field("selection", format!("{:?}", evidence.selection).as_bytes());
        hasher.field("token_budget", format!("{:?}", evidence.token_budget).as_bytes());
        hasher.finish()
    }

    /// The same, asked about each leaf so often.
    pub(crate) fn repeated(&self, samples: u32) -> Candidate {
        let mut panel = self.panel.clone();
        panel.samples = samples;
        Candidate { panel, ..self.clone() }
    }
}

/// Refuses candidates that cannot be told apart by their names.
///
/// # Errors
///
/// Two have the same name.
pub(crate) fn distinct_names(candidates: &mut [Candidate]) -> anyhow::Result<()> {
    for at in 0..candidates.len() {
        let name = candidates[at].document.name.clone();
        if candidates[..at].iter().any(|other| other.document.name == name) {
            // Folders may say the same `name` in their set.toml.
            let folder = candidates[at].document.prompt_set.clone();
            let unique = format!("{name} ({folder})");
            if candidates[..at].iter().any(|other| other.document.name == unique) {
                bail!("--prompts names {folder} twice with other texts");
            }
            candidates[at].document.name = unique;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_span_a_grid_that_begins_with_what_is_configured() {
        let factor = |text: &str| text.parse::<Factor>();
        let both = [factor("samples=3,5").unwrap(), factor(" model = a ").unwrap()];
        let names: Vec<String> = grid(&both)
            .into_iter()
            .map(|of| of.iter().map(|(key, value)| format!("{}={value}", key.name())).collect())
            .collect();
        let expected =
            ["", "model=a", "samples=3", "samples=3model=a", "samples=5", "samples=5model=a"];
        assert_eq!(names, expected);
        for wrong in ["samples", "colour=red", "model=", "model=a,,b"] {
            assert!(factor(wrong).is_err(), "{wrong}");
        }
    }
}
