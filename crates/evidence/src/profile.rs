//! Profiles: which kinds of files are shown.
//!
//! Owns `config/profiles.toml`, its format and the matching of names. Which category sees which kind
//! is the view's business.

use std::borrow::Cow;

use serde::Deserialize;
use toml::Table;

use crate::notebook;

/// The built-in profiles.
const BUILTIN: &str = include_str!("../../../config/profiles.toml");

/// A set of rules for which files are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    docs: Vec<String>,
    code: Vec<String>,
    tables: Vec<String>,
    doc_names: Vec<String>,
    code_names: Vec<String>,
    ignored_folders: Vec<String>,
    ignore_case: bool,
    render_notebooks: bool,
    notebook_output_chars: usize,
}

/// A profile as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawProfile {
    extends: Option<String>,
    description: Option<String>,
    docs: Vec<String>,
    code: Vec<String>,
    tables: Vec<String>,
    doc_names: Vec<String>,
    code_names: Vec<String>,
    ignored_folders: Vec<String>,
    ignore_case: Option<bool>,
    render_notebooks: Option<bool>,
    notebook_output_chars: Option<usize>,
}

/// The document of profiles.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfiles {
    #[serde(default)]
    profile: Table,
}

/// Profiles that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not TOML, or a key that there is not.
    #[error("the profiles are not valid: {0}")]
    Toml(#[from] toml::de::Error),
    /// A profile is not valid.
    #[error("[profile.{name}] is not valid: {reason}")]
    Profile {
        /// Its name.
        name: String,
        /// The parser's reason.
        reason: toml::de::Error,
    },
    /// A profile extends one that stands neither before it nor is built in.
    #[error("[profile.{name}] extends {extends:?}, which stands neither before it nor is built in")]
    Extends {
        /// Its name.
        name: String,
        /// What it extends.
        extends: String,
    },
    /// A pattern or extension has characters that none can have.
    #[error("[profile.{name}] {key} has {value:?}; {hint}")]
    Value {
        /// Its name.
        name: String,
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What to write instead.
        hint: &'static str,
    },
}

// === impl Profile ===

impl Profile {
    /// The name of the profile that shows what PaperBench shows.
    pub const PAPERBENCH: &'static str = "paperbench";

    /// The names of the built-in profiles.
    pub const BUILTIN: [&'static str; 2] = [Self::PAPERBENCH, "default"];

    /// The built-in profile of this name; `None` if there is none.
    pub fn builtin(name: &str) -> Option<Profile> {
        let profiles = parse(BUILTIN, |_| None).expect("the embedded profiles are valid");
        profiles.into_iter().find(|profile| profile.name == name)
    }

    /// The profiles of a TOML document with tables `[profile.NAME]`, in order, as in
    /// `config/profiles.toml`. A profile may extend one before it or a built-in one.
    ///
    /// # Errors
    ///
    /// The document is not TOML, has an unknown key or a value of the wrong type, or extends a
    /// profile that there is not.
    pub fn parse(document: &str) -> Result<Vec<Profile>, ProfileError> {
        parse(document, Profile::builtin)
    }

    /// Whether a file of this name is a document.
    pub fn is_doc(&self, name: &str) -> bool {
        self.has_extension(&self.docs, name) || self.has_name(&self.doc_names, name)
    }

    /// Whether a file of this name is code.
    pub fn is_code(&self, name: &str) -> bool {
        self.has_extension(&self.code, name) || self.has_name(&self.code_names, name)
    }

    /// Whether a file of this name is a table or another result.
    pub fn is_table(&self, name: &str) -> bool {
        self.has_extension(&self.tables, name)
    }

    /// Whether files below a folder of this name are left out.
    pub fn ignores(&self, folder: &str) -> bool {
        self.ignored_folders.iter().any(|ignored| folder.contains(ignored.as_str()))
    }

    /// The file's text as it is shown: a notebook as the text of its cells where the profile says
    /// so, everything else as it is.
    pub fn render<'t>(&self, path: &str, text: &'t str) -> Cow<'t, str> {
        let is_notebook = suffix(path).is_some_and(|suffix| suffix.eq_ignore_ascii_case("ipynb"));
        let rendered = (self.render_notebooks && is_notebook)
            .then(|| notebook::render(text, self.notebook_output_chars))
            .flatten();
        rendered.map_or(Cow::Borrowed(text), Cow::Owned)
    }

    fn has_extension(&self, list: &[String], name: &str) -> bool {
        suffix(name).is_some_and(|suffix| {
            list.iter().any(|extension| match self.ignore_case {
                true => extension.eq_ignore_ascii_case(suffix),
                false => extension == suffix,
            })
        })
    }

    fn has_name(&self, list: &[String], name: &str) -> bool {
        list.iter().any(|pattern| match self.ignore_case {
            true => matches(pattern.to_lowercase().as_bytes(), name.to_lowercase().as_bytes()),
            false => matches(pattern.as_bytes(), name.as_bytes()),
        })
    }
}

fn parse(
    document: &str,
    builtin: impl Fn(&str) -> Option<Profile>,
) -> Result<Vec<Profile>, ProfileError> {
    let raw: RawProfiles = toml::from_str(document)?;
    let mut profiles: Vec<Profile> = Vec::new();
    for (name, value) in raw.profile {
        let raw: RawProfile = match value.try_into() {
            Ok(raw) => raw,
            Err(reason) => return Err(ProfileError::Profile { name, reason }),
        };
        let base = match &raw.extends {
            None => None,
            Some(extends) => {
                let before = profiles.iter().find(|profile| profile.name == *extends).cloned();
                let base = before.or_else(|| builtin(extends));
                Some(base.ok_or_else(|| ProfileError::Extends {
                    name: name.clone(),
                    extends: extends.clone(),
                })?)
            }
        };
        profiles.push(raw.over(name, base)?);
    }
    Ok(profiles)
}

// === impl RawProfile ===

impl RawProfile {
    /// The profile, laid over the one it extends.
    fn over(self, name: String, base: Option<Profile>) -> Result<Profile, ProfileError> {
        self.check(&name)?;
        let mut profile = base.unwrap_or_else(|| Profile {
            name: String::new(),
            description: String::new(),
            docs: Vec::new(),
            code: Vec::new(),
            tables: Vec::new(),
            doc_names: Vec::new(),
            code_names: Vec::new(),
            ignored_folders: Vec::new(),
            ignore_case: false,
            render_notebooks: false,
            notebook_output_chars: notebook::OUTPUT_CHARS,
        });
        profile.name = name;
        profile.description = self.description.unwrap_or(profile.description);
        profile.docs.extend(self.docs);
        profile.code.extend(self.code);
        profile.tables.extend(self.tables);
        profile.doc_names.extend(self.doc_names);
        profile.code_names.extend(self.code_names);
        profile.ignored_folders.extend(self.ignored_folders);
        profile.ignore_case = self.ignore_case.unwrap_or(profile.ignore_case);
        profile.render_notebooks = self.render_notebooks.unwrap_or(profile.render_notebooks);
        profile.notebook_output_chars =
            self.notebook_output_chars.unwrap_or(profile.notebook_output_chars);
        Ok(profile)
    }

    /// Refuses what could never match, or would match everything.
    fn check(&self, name: &str) -> Result<(), ProfileError> {
        let lists: [(&'static str, &[String], bool); 6] = [
            ("docs", &self.docs, true),
            ("code", &self.code, true),
            ("tables", &self.tables, true),
            ("doc_names", &self.doc_names, false),
            ("code_names", &self.code_names, false),
            ("ignored_folders", &self.ignored_folders, false),
        ];
        for (key, list, extensions) in lists {
            for value in list {
                let hint = if value.is_empty() {
                    "leave it out"
                } else if value.contains('/') {
                    "names have no folders"
                } else if extensions && value.contains(['.', '*']) {
                    "write the part behind the last dot"
                } else {
                    continue;
                };
                let (name, value) = (name.to_owned(), value.clone());
                return Err(ProfileError::Value { name, key, value, hint });
            }
        }
        Ok(())
    }
}

/// The part of a path behind the last dot, as Python's `PurePath.suffix` has it: a leading dot begins
/// a name and a dot at the end begins nothing.
fn suffix(path: &str) -> Option<&str> {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let (stem, suffix) = name.rsplit_once('.')?;
    (!stem.trim_start_matches('.').is_empty() && !suffix.is_empty()).then_some(suffix)
}

/// Whether the name is as the pattern, in which `*` stands for any characters.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = (0..=rest.len()).find(|at| rest[*at..].starts_with(part)) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builtin(name: &str) -> Profile {
        Profile::builtin(name).expect("built in")
    }

    #[test]
    fn the_builtin_profiles() {
        for name in Profile::BUILTIN {
            assert_eq!(builtin(name).name, name);
        }
        assert_eq!(Profile::builtin("nonesuch"), None);
        let (paperbench, default) = (builtin("paperbench"), builtin("default"));
        for name in ["a.cu", "b.cuh", "Makefile", "Dockerfile", "MAIN.PY", "x.f90", "analysis.r"] {
            assert!(default.is_code(name) && !paperbench.is_code(name), "{name}");
        }
        for name in ["requirements-dev.txt", "CMakeLists.txt", "Dockerfile.gpu", "a.py", "n.IPYNB"]
        {
            assert!(default.is_code(name), "{name}");
        }
        for name in ["a.png", "py", ".py", "a.", "Makefile2", "model.pt"] {
            assert!(!default.is_code(name) && !default.is_doc(name), "{name}");
        }
        assert!(default.ignores("my_venv") && !default.ignores("src"));
    }

    #[test]
    fn a_profile_extends_another() {
        let text = "[profile.mine]\nextends = \"default\"\ncode = [\"lua\"]\nignore_case = false\n\
                    [profile.less]\nextends = \"mine\"\n[profile.bare]\ndocs = [\"md\"]\n";
        let profiles = Profile::parse(text).expect("valid");
        assert_eq!(profiles.len(), 3);
        assert!(profiles[1].is_code("a.lua") && profiles[1].is_code("a.cu"));
        assert!(!profiles[1].is_code("a.CU"));
        assert!(profiles[2].is_doc("a.md") && !profiles[2].is_code("a.py"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| Profile::parse(text).expect_err("invalid").to_string();
        assert!(error("[profile.a]\ncoed = []\n").contains("coed"));
        assert!(error("[profil.a]\n").contains("profil"));
        assert!(error("[profile.a]\ncode = [1]\n").contains("[profile.a]"));
        assert!(error("[profile.a]\nextends = \"b\"\n").contains("\"b\""));
        assert!(error("[profile.a]\ncode = [\".py\"]\n").contains("last dot"));
        assert!(error("[profile.a]\nignored_folders = [\"\"]\n").contains("leave it out"));
        assert!(error("nonsense").contains("not valid"));
    }

    #[test]
    fn patterns() {
        let is = |pattern: &str, name: &str| matches(pattern.as_bytes(), name.as_bytes());
        assert!(is("a*c", "abc") && is("a*c", "ac") && is("*", "") && is("a*b*c", "a-b-b-c"));
        assert!(!is("a*c", "abd") && !is("abc", "abcd") && !is("a*a", "a") && !is("*b*", "aca"));
    }
}
