//! A prompt set's files: the built-in sets, and folders of people's own.
//!
//! Owns reading them. A set is read whole when a run is prepared and is a blob of the store from
//! then on; whether it can be used is `lint`'s to say.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};
use tribunal_core::Category;

use super::{PromptError, variables::TEMPLATES};

/// The sets that come with Tribunal.
pub const BUILTIN: [&str; 4] = ["default", "strict", "lenient", "code-dev"];

/// The file that says what a set is.
const SET_TOML: &str = "set.toml";

/// The fields of an answer in their order, and what each holds where the set does not say it.
/// What the score holds is the category's scale.
pub(super) const REPLY_FIELDS: [(&str, &str); 6] = [
    ("expectations", "what fulfilling the criterion would look like"),
    ("reality", "what the submission does"),
    ("evidence", "the passages that decide, each with its file, its lines and the quoted text"),
    ("explanation", "the verdict in one or two sentences"),
    ("score", ""),
    ("confidence", "how sure you are, from 0 to 1"),
];

/// A prompt set: its templates, the question of each category, and what an answer holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptSet {
    /// The set's name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// For each category, the question put about a criterion.
    pub questions: BTreeMap<Category, String>,
    /// For fields of the answer, what each holds.
    #[serde(default)]
    pub reply: BTreeMap<String, String>,
    /// Template texts by file name.
    pub templates: BTreeMap<String, String>,
}

/// `set.toml` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSet {
    name: String,
    description: String,
    questions: BTreeMap<Category, String>,
    #[serde(default)]
    reply: RawReply,
}

/// `[reply]` as written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReply {
    expectations: Option<String>,
    reality: Option<String>,
    evidence: Option<String>,
    explanation: Option<String>,
    confidence: Option<String>,
}

/// Reads one file of a built-in set: `set.toml` first, then the templates in their order.
macro_rules! files {
    ($set:literal) => {
        [
            include_str!(concat!("../../../../prompts/", $set, "/set.toml")),
            include_str!(concat!("../../../../prompts/", $set, "/system.md")),
            include_str!(concat!("../../../../prompts/", $set, "/paper.md")),
            include_str!(concat!("../../../../prompts/", $set, "/evidence.md")),
            include_str!(concat!("../../../../prompts/", $set, "/criterion.md")),
            include_str!(concat!("../../../../prompts/", $set, "/rank.md")),
            include_str!(concat!("../../../../prompts/", $set, "/repair.md")),
        ]
    };
}

// === impl PromptSet ===

impl PromptSet {
    /// The built-in set of this name, or the one in this folder; names win.
    ///
    /// # Errors
    ///
    /// It is neither, or a file of it cannot be read.
    pub fn named(name: &str) -> Result<PromptSet, PromptError> {
        if !BUILTIN.contains(&name) && Path::new(name).is_dir() {
            return Self::load(Path::new(name));
        }
        Self::builtin(name)
    }

    /// The set that comes with Tribunal under this name.
    ///
    /// # Errors
    ///
    /// There is none with this name.
    pub fn builtin(name: &str) -> Result<PromptSet, PromptError> {
        let [set, templates @ ..] = match name {
            "default" => files!("default"),
            "strict" => files!("strict"),
            "lenient" => files!("lenient"),
            "code-dev" => files!("code-dev"),
            _ => return Err(PromptError::Unknown { name: name.to_owned() }),
        };
        let templates = TEMPLATES.into_iter().zip(templates);
        Self::new(name, set, templates.map(|(n, text)| (n.to_owned(), text.to_owned())).collect())
    }

    /// The set in this folder: `set.toml` and every template.
    ///
    /// # Errors
    ///
    /// A file is missing, cannot be read, is not UTF-8, or `set.toml` is wrong.
    pub fn load(folder: &Path) -> Result<PromptSet, PromptError> {
        let set = folder.display().to_string();
        let read = |name: &str| {
            let failed = |reason: String| PromptError::File {
                set: set.clone(),
                file: name.to_owned(),
                reason,
            };
            let bytes = fs::read(folder.join(name)).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    failed(format!("is missing; a set is {SET_TOML}, {}", TEMPLATES.join(", ")))
                }
                _ => failed(format!("cannot be read: {error}")),
            })?;
            String::from_utf8(bytes).map_err(|error| {
                let valid = error.utf8_error().valid_up_to();
                let line = line_of(error.as_bytes(), valid);
                failed(format!("line {line}: is not UTF-8 text"))
            })
        };
        let raw = read(SET_TOML)?;
        let mut templates = BTreeMap::new();
        for name in TEMPLATES {
            templates.insert(name.to_owned(), read(name)?);
        }
        Self::new(&set, &raw, templates)
    }

    fn new(
        origin: &str,
        set: &str,
        templates: BTreeMap<String, String>,
    ) -> Result<PromptSet, PromptError> {
        let raw: RawSet = toml::from_str(set).map_err(|error| {
            let line = error.span().map(|span| line_of(set.as_bytes(), span.start));
            let place = line.map_or(String::new(), |line| format!("line {line}: "));
            PromptError::File {
                set: origin.to_owned(),
                file: SET_TOML.to_owned(),
                reason: format!("{place}{}", error.message()),
            }
        })?;
        let RawSet { name, description, questions, reply } = raw;
        let RawReply { expectations, reality, evidence, explanation, confidence } = reply;
        let reply = [
            ("expectations", expectations),
            ("reality", reality),
            ("evidence", evidence),
            ("explanation", explanation),
            ("confidence", confidence),
        ];
        let reply =
            reply.into_iter().filter_map(|(name, holds)| Some((name.to_owned(), holds?))).collect();
        Ok(PromptSet { name, description, questions, reply, templates })
    }
}

/// The 1-based line of a byte offset.
fn line_of(text: &[u8], offset: usize) -> usize {
    text[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}
