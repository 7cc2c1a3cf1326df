//! The judge's answer to a score and a rationale.
//!
//! Owns reading one reply. Reads only the judge's own answer; what is off the scale or ambiguous is
//! a problem to be named, never a guess.

mod json;
mod ranking;
mod text;

use tribunal_core::{Category, ReplyForm, verdict::Rationale};

pub use self::ranking::ranking;

/// A reply that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// On the category's scale.
    pub score: f64,
    /// The reasoning given.
    pub rationale: Rationale,
}

/// Why a reply cannot be used, in words that the judge is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadReply(pub String);

/// Reads the reply `content` to a question about a leaf of `category`, asked in `form`.
///
/// # Errors
///
/// What is wrong with the reply.
pub fn parse(content: &str, form: ReplyForm, category: Category) -> Result<Parsed, BadReply> {
    let content = without_reasoning(content).trim();
    if content.is_empty() {
        return Err(BadReply("it is empty".to_owned()));
    }
    match form {
        ReplyForm::JsonSchema | ReplyForm::JsonObject => json::parse(content, category),
        ReplyForm::Text => text::parse(content, category),
    }
}

/// The score if it is on the category's scale.
fn on_scale(score: f64, category: Category) -> Result<f64, BadReply> {
    let fits = if category.is_fractional() {
        (0.0..=1.0).contains(&score)
    } else {
        score == 0.0 || score == 1.0
    };
    let scale = if category.is_fractional() { "a number from 0 to 1" } else { "0 or 1" };
    if fits { Ok(score + 0.0) } else { Err(BadReply(format!("its score {score} is not {scale}"))) }
}

/// The content behind the reasoning that some models put before their answer.
fn without_reasoning(content: &str) -> &str {
    let trimmed = content.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    for (open, close) in REASONING {
        if trimmed.starts_with(open) {
            return trimmed.split_once(close).map_or("", |(_, answer)| answer);
        }
    }
    trimmed
}

/// How models mark their reasoning.
const REASONING: [(&str, &str); 4] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
];
