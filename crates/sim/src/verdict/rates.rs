//! How often the simulated judge is right, by category.
//!
//! Owns the rates and their file. Where they apply is [`super::Judge`].

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use tribunal_core::Category;

use crate::{config::SimConfig, error::SimError};

/// Probabilities of agreeing with a human.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    /// Of a 1 where the human gave 1.
    pub(crate) sensitivity: f64,
    /// Of a 0 where the human gave 0.
    pub(crate) specificity: f64,
}

/// The rate of every category.
#[derive(Debug)]
pub(crate) struct Rates {
    overall: Rate,
    by_category: BTreeMap<Category, Rate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRate {
    sensitivity: Option<f64>,
    specificity: Option<f64>,
}

// === impl Rates ===

impl Rates {
    /// The config's rates, with those of its file on top.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, an unknown category or key, a rate outside [0, 1].
    pub(crate) fn new(config: &SimConfig) -> Result<Rates, SimError> {
        let overall = Rate { sensitivity: config.sensitivity, specificity: config.specificity };
        let by_category = match &config.rates_file {
            None => BTreeMap::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| SimError::Read { path: path.clone(), source })?;
                parse(path, &text, overall)?
            }
        };
        Ok(Rates { overall, by_category })
    }

    /// The rate of a category; of all together where the prompt names none.
    pub(crate) fn of(&self, category: Option<Category>) -> Rate {
        let own = category.and_then(|category| self.by_category.get(&category));
        own.copied().unwrap_or(self.overall)
    }
}

fn parse(path: &Path, text: &str, overall: Rate) -> Result<BTreeMap<Category, Rate>, SimError> {
    let wrong = |message: String| SimError::Rates { path: path.to_owned(), message };
    let raw: BTreeMap<String, RawRate> =
        toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let mut rates = BTreeMap::new();
    for (name, raw) in raw {
        let category = Category::from_name(&name).filter(|c| !c.is_fractional());
        let category = category.ok_or_else(|| {
            let names = "Code Development, Code Execution or Result Analysis";
            wrong(format!("[\"{name}\"] is no category; expected {names}"))
        })?;
        let rate = Rate {
            sensitivity: raw.sensitivity.unwrap_or(overall.sensitivity),
            specificity: raw.specificity.unwrap_or(overall.specificity),
        };
        for (key, value) in [("sensitivity", rate.sensitivity), ("specificity", rate.specificity)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(wrong(format!("[\"{name}\"] {key} = {value}: a share from 0 to 1")));
            }
        }
        rates.insert(category, rate);
    }
    Ok(rates)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERALL: Rate = Rate { sensitivity: 0.9, specificity: 0.8 };

    #[test]
    fn a_category_takes_what_its_table_leaves_out_from_all() {
        let text = "[\"Code Execution\"]\nsensitivity = 0.5\n";
        let by_category = parse(Path::new("r.toml"), text, OVERALL).expect("valid");
        let rates = Rates { overall: OVERALL, by_category };
        let execution = rates.of(Some(Category::CodeExecution));
        assert_eq!((execution.sensitivity, execution.specificity), (0.5, 0.8));
        assert_eq!(rates.of(Some(Category::CodeDevelopment)), OVERALL);
        assert_eq!(rates.of(None), OVERALL);
    }

    #[test]
    fn errors_name_file_and_place() {
        for (text, expected) in [
            ("[\"Code\"]\n", "[\"Code\"] is no category"),
            ("[\"Code Execution\"]\nspecificity = 2\n", "specificity = 2"),
            ("[\"Code Execution\"]\nspecifity = 1\n", "line 2"),
            ("oops", "line 1"),
        ] {
            let error = parse(Path::new("r.toml"), text, OVERALL).expect_err(text);
            let message = error.to_string();
            assert!(message.starts_with("r.toml: ") && message.contains(expected), "{message}");
        }
    }
}
