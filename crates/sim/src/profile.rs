//! A judge that is better or worse by what its prompt says: so that the best prompt is known.
//!
//! Owns the profile's file, and which texts of a request are the prompt's own: the system message and
//! what stands behind the last criterion. What is shown of a paper or a submission changes no rate.

use std::{fs, path::Path};

use serde::Deserialize;
use tribunal_core::Category;

use crate::{chance, error::SimError, verdict::rates::Rate};

/// How rates depend on the prompt, and what is proposed for one.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    shifts: Vec<Shift>,
    churn: f64,
    proposals: Vec<String>,
}

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    /// The share of leaves about which another prompt makes up its mind anew.
    #[serde(default)]
    churn: f64,
    /// Lines that the judge adds to a prompt when it is asked for a better one.
    #[serde(default)]
    proposals: Vec<String>,
    #[serde(default)]
    shift: Vec<RawShift>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawShift {
    prompt: Option<String>,
    category: Option<String>,
    model: Option<String>,
    #[serde(default)]
    sensitivity: f64,
    #[serde(default)]
    specificity: f64,
}

/// What is added to the rates where everything that is named fits.
#[derive(Debug)]
struct Shift {
    prompt: Option<String>,
    category: Option<Category>,
    model: Option<String>,
    sensitivity: f64,
    specificity: f64,
}

/// The words of a request that are the prompt's own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Instructions<'p> {
    /// The system messages.
    pub(crate) system: &'p str,
    /// What stands behind the last criterion.
    pub(crate) question: &'p str,
}

// === impl Profile ===

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    ///
    /// It cannot be read, names no category that exists, or holds a number that is no share.
    pub(crate) fn read(path: &Path) -> Result<Profile, SimError> {
        let text = fs::read_to_string(path)
            .map_err(|source| SimError::Read { path: path.to_owned(), source })?;
        parse(&text).map_err(|message| SimError::Rates { path: path.to_owned(), message })
    }

    /// The rate under these instructions.
    pub(crate) fn rate(
        &self,
        rate: Rate,
        instructions: Instructions<'_>,
        category: Option<Category>,
        model: &str,
    ) -> Rate {
        let fits = |shift: &&Shift| {
            let Instructions { system, question } = instructions;
            let says = |text: &String| system.contains(text) || question.contains(text);
            shift.prompt.as_ref().is_none_or(says)
                && (shift.category.is_none() || shift.category == category)
                && shift.model.as_deref().is_none_or(|named| named == model)
        };
        let all = self.shifts.iter().filter(fits);
        let shifted = all.fold(rate, |rate, shift| Rate {
            sensitivity: rate.sensitivity + shift.sensitivity,
            specificity: rate.specificity + shift.specificity,
        });
        Rate {
            sensitivity: shifted.sensitivity.clamp(0.0, 1.0),
            specificity: shifted.specificity.clamp(0.0, 1.0),
        }
    }

    /// Whether these instructions make up their mind anew about a leaf, `drawn` being its number in
    /// [0, 1).
    pub(crate) fn churns(&self, drawn: f64) -> bool {
        drawn < self.churn
    }

    /// The answer to a request for a better prompt: the text that was given with a line more, which
    /// depends on the request alone.
    pub(crate) fn propose(&self, request: &str, seed: u64) -> Option<String> {
        let asked = request.contains("<proposal_request>");
        let system = request.split_once("<system>")?.1.split_once("</system>")?.0;
        if !asked {
            return None;
        }
        let line = match self.proposals.len() {
            0 => "Decide by what is there.",
            count => {
                let drawn = chance::uniform(seed, "proposal", &[request.as_bytes()]);
                &self.proposals[((drawn * count as f64) as usize).min(count - 1)]
            }
        };
        Some(format!(
            "<reason>[simulated] No model was asked. A line was added.</reason>\n<system>\n{}\n{line}\n</system>",
            system.trim()
        ))
    }
}

fn parse(text: &str) -> Result<Profile, String> {
    let raw: RawProfile = toml::from_str(text).map_err(|error| error.to_string())?;
    let share = |name: &str, value: f64, least: f64| {
        let fits = (least..=1.0).contains(&value);
        fits.then_some(value).ok_or(format!("{name} = {value}: a number from {least} to 1"))
    };
    let shift = |raw: RawShift| {
        let category = raw.category.as_deref().map(|name| {
            Category::from_name(name).ok_or(format!("category = \"{name}\" is no category"))
        });
        Ok(Shift {
            prompt: raw.prompt,
            category: category.transpose()?,
            model: raw.model,
            sensitivity: share("sensitivity", raw.sensitivity, -1.0)?,
            specificity: share("specificity", raw.specificity, -1.0)?,
        })
    };
    Ok(Profile {
        shifts: raw.shift.into_iter().map(shift).collect::<Result<_, String>>()?,
        churn: share("churn", raw.churn, 0.0)?,
        proposals: raw.proposals,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "churn = 0.2\nproposals = [\"Look twice.\"]\n[[shift]]\nprompt = \"burden\"\n\
        specificity = 0.1\n[[shift]]\nprompt = \"burden\"\ncategory = \"Code Execution\"\n\
        model = \"large\"\nsensitivity = -0.3\n[[shift]]\nspecificity = 0.05\n";

    fn rate(system: &str, question: &str, category: Category, model: &str) -> (f64, f64) {
        let rate = Rate { sensitivity: 0.8, specificity: 0.9 };
        let instructions = Instructions { system, question };
        let profile = parse(PROFILE).expect("valid");
        let rate = profile.rate(rate, instructions, Some(category), model);
        ((rate.sensitivity * 100.0).round(), (rate.specificity * 100.0).round())
    }

    #[test]
    fn shifts_that_fit_add_up_within_shares() {
        let (code, execution) = (Category::CodeDevelopment, Category::CodeExecution);
        assert_eq!(rate("plain", "", code, "large"), (80.0, 95.0));
        assert_eq!(rate("the burden", "", code, "large"), (80.0, 100.0));
        assert_eq!(rate("", "burden", execution, "large"), (50.0, 100.0));
        assert_eq!(rate("", "burden", execution, "small"), (80.0, 100.0));
    }

    #[test]
    fn a_proposal_is_the_given_text_with_a_line_more() {
        let profile = parse(PROFILE).expect("valid");
        let request = "<proposal_request>\n<system>\nGrade.\n</system>";
        let answer = profile.propose(request, 1).expect("a proposal");
        assert!(answer.contains("<system>\nGrade.\nLook twice.\n</system>"), "{answer}");
        assert!(answer.contains("[simulated]"));
        assert_eq!(profile.propose(request, 1), Some(answer));
        assert_eq!(profile.propose("<system>x</system>", 1), None);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, expected) in [
            ("churn = 2\n", "churn = 2"),
            ("[[shift]]\ncategory = \"Code\"\n", "\"Code\" is no category"),
            ("[[shift]]\nspecificity = 1.5\n", "from -1 to 1"),
            ("[[shift]]\nspecifity = 1\n", "line 2"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
    }
}
