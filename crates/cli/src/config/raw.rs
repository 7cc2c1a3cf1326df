//! The raw configuration: layers of dotted keys, each value with where it came from.
//!
//! Owns reading files and flags, unknown keys and wrong types. It does not judge values: ranges and
//! keys that hang together are `resolve`'s. Secrets never enter it.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::schema::{Kind, Schema, TEMPLATE_JUDGE, article};

/// Every key, commented, with its default.
pub(crate) const DEFAULT_TOML: &str = include_str!("../../../../config/default.toml");

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `config/default.toml`, which is part of the program.
    Default,
    /// A line of a file, 1-based.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// 1-based line of the key.
        line: usize,
    },
    /// A flag of the command line, as `--rpm`.
    Flag(String),
    /// An environment variable, by name.
    Environment(String),
}

/// One thing that is wrong in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where it stands.
    pub(crate) source: Source,
    /// The dotted key; empty where the text is not TOML.
    pub(crate) key: String,
    /// What is wrong and what to do. Never holds a value that may be a misplaced secret.
    pub(crate) message: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read as text.
    #[error("cannot read the configuration {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Keys or values are wrong: all of them, in the order found.
    #[error("the configuration is not valid\n{}", lines(.0))]
    Invalid(Vec<Problem>),
}

/// A value and where it came from.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) value: toml::Value,
    pub(crate) source: Source,
}

/// Every value that is set, by dotted key; the keys of free tables are entries of their own.
#[derive(Clone, Default)]
pub(crate) struct RawConfig {
    entries: BTreeMap<String, Entry>,
    judges: BTreeMap<String, Source>,
}

/// Errors of a file's syntax that are told one by one.
const MAX_SYNTAX_PROBLEMS: usize = 5;

// === impl RawConfig ===

impl RawConfig {
    /// The built-in defaults.
    pub(crate) fn defaults() -> RawConfig {
        let mut raw = RawConfig::default();
        let table =
            DeTable::parse(DEFAULT_TOML).expect("config/default.toml is part of the build, tested");
        raw.judges.insert(TEMPLATE_JUDGE.to_owned(), Source::Default);
        let problems = raw.layer(table.get_ref(), &|_| Source::Default);
        debug_assert!(problems.is_empty(), "{problems:?}");
        raw
    }

    /// Lays a file over what is there, and says what is wrong in it; what is right is taken.
    pub(crate) fn apply_file(&mut self, path: &Path, text: &str, problems: &mut Vec<Problem>) {
        let at =
            |offset: usize| Source::File { path: path.to_owned(), line: line_of(text, offset) };
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            problems.extend(self.layer(table.get_ref(), &at));
        } else {
            // Whatever is no TOML at all is wrong on every line.
            let more = errors.len().saturating_sub(MAX_SYNTAX_PROBLEMS);
            problems.extend(errors.iter().take(MAX_SYNTAX_PROBLEMS).map(|error| Problem {
                source: at(error.span().map_or(text.len(), |span| span.start)),
                key: String::new(),
                message: format!("not valid TOML: {}", error.message()),
            }));
            if more > 0 {
                problems.push(Problem {
                    source: at(text.len()),
                    key: String::new(),
                    message: format!("and {more} more lines that are not valid TOML"),
                });
            }
        }
    }

    /// Lays one flag over what is there.
    pub(crate) fn apply_flag(
        &mut self,
        key: &str,
        value: toml::Value,
        flag: &str,
    ) -> Result<(), Problem> {
        let source = Source::Flag(flag.to_owned());
        let problem =
            |message: String| Problem { source: source.clone(), key: key.to_owned(), message };
        let kind = Schema::get().kind(key).ok_or_else(|| problem("unknown key".to_owned()))?;
        if let Some((judge, _)) = key.strip_prefix("judge.").and_then(|rest| rest.split_once('.'))
            && !self.judges.contains_key(judge)
        {
            return Err(problem(format!("no judge `{judge}`")));
        }
        let value = kind.accept(value).map_err(problem)?;
        self.put(key, kind, value, &source);
        Ok(())
    }

    /// Adds a judge with the template's defaults, unless it is there. `base_url` and `model` are its
    /// own to give.
    pub(crate) fn declare_judge(&mut self, name: &str, source: Source) {
        if self.judges.contains_key(name) {
            return;
        }
        self.judges.insert(name.to_owned(), source);
        let template = RawConfig::defaults();
        let prefix = format!("judge.{TEMPLATE_JUDGE}.");
        for (key, entry) in template.entries {
            match key.strip_prefix(&prefix) {
                None | Some("base_url" | "model") => {}
                Some(key) => {
                    self.entries.insert(format!("judge.{name}.{key}"), entry);
                }
            }
        }
    }

    /// The value of a dotted key.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The entries of a free table: `KEY.FIELD`, by field.
    pub(crate) fn fields<'a>(
        &'a self,
        key: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Entry)> + 'a {
        self.entries.iter().filter_map(move |(name, entry)| {
            let field = name.strip_prefix(key)?.strip_prefix('.')?;
            Some((field, entry))
        })
    }

    /// Names of the judges, sorted, and where each was first declared.
    pub(crate) fn judges(&self) -> &BTreeMap<String, Source> {
        &self.judges
    }

    fn layer(&mut self, root: &DeTable<'_>, at: &dyn Fn(usize) -> Source) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, value) in root.iter() {
            let section = name.get_ref().as_ref();
            let source = at(name.span().start);
            if Schema::get().section(section).is_none() {
                problems.push(unknown("", section, source));
                continue;
            }
            let Some(table) = value.get_ref().as_table() else {
                problems.push(not_a_table(section, value.get_ref(), source));
                continue;
            };
            if section != "judge" {
                self.section(section, table, at, &mut problems);
                continue;
            }
            for (name, value) in table.iter() {
                let source = at(name.span().start);
                let key = format!("judge.{}", name.get_ref());
                let Some(table) = value.get_ref().as_table() else {
                    problems.push(not_a_table(&key, value.get_ref(), source));
                    continue;
                };
                if let Err(message) = judge_name(name.get_ref()) {
                    problems.push(Problem { source, key, message });
                    continue;
                }
                self.declare_judge(name.get_ref(), source);
                self.section(&key, table, at, &mut problems);
            }
        }
        problems
    }

    fn section(
        &mut self,
        parent: &str,
        table: &DeTable<'_>,
        at: &dyn Fn(usize) -> Source,
        problems: &mut Vec<Problem>,
    ) {
        for (name, value) in table.iter() {
            let source = at(name.span().start);
            let key = format!("{parent}.{}", name.get_ref());
            let Some(kind) = Schema::get().kind(&key) else {
                problems.push(unknown(parent, name.get_ref(), source));
                continue;
            };
            if let (Kind::FreeTable, DeValue::Table(fields)) = (kind, value.get_ref()) {
                for (field, value) in fields.iter() {
                    let source = at(field.span().start);
                    let key = format!("{key}.{}", field.get_ref());
                    match plain(value) {
                        Ok(value) => {
                            self.entries.insert(key, Entry { value, source });
                        }
                        Err(message) => problems.push(Problem { source, key, message }),
                    }
                }
                continue;
            }
            match plain(value).and_then(|value| kind.accept(value)) {
                Ok(value) => self.put(&key, kind, value, &source),
                Err(message) => problems.push(Problem { source, key, message }),
            }
        }
    }

    fn put(&mut self, key: &str, kind: Kind, value: toml::Value, source: &Source) {
        if let (Kind::FreeTable, toml::Value::Table(fields)) = (kind, &value) {
            for (field, value) in fields {
                let entry = Entry { value: value.clone(), source: source.clone() };
                self.entries.insert(format!("{key}.{field}"), entry);
            }
            return;
        }
        let source = source.clone();
        self.entries.insert(key.to_owned(), Entry { value, source });
    }
}

/// Keys and sources alone: values may hold what a user should not have written there.
impl fmt::Debug for RawConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.entries.iter().map(|(key, entry)| (key, &entry.source))).finish()
    }
}

// === impl Source ===

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
            Source::Flag(name) | Source::Environment(name) => f.write_str(name),
        }
    }
}

// === impl Problem ===

impl Problem {
    /// The 1-based line, where it stands in a file.
    pub(crate) fn line(&self) -> Option<usize> {
        match &self.source {
            Source::File { line, .. } => Some(*line),
            _ => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.source, self.message),
            key => write!(f, "{}: {key}: {}", self.source, self.message),
        }
    }
}

/// Reads a configuration file as text.
pub(crate) fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })
}

pub(super) fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

fn plain(value: &Spanned<DeValue<'_>>) -> Result<toml::Value, String> {
    toml::Value::deserialize(ValueDeserializer::from(value.clone()))
        .map_err(|error| format!("cannot be used: {}", error.message()))
}

fn judge_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        return Err("a judge's name is made of letters, digits, `-` and `_`".to_owned());
    }
    if name == super::judge::ADHOC {
        return Err("this name is kept for the judge of --base-url and --model".to_owned());
    }
    Ok(())
}

fn not_a_table(key: &str, value: &DeValue<'_>, source: Source) -> Problem {
    let example = match key {
        "judge" => "; the judge that grades is `run.judge`",
        _ => "",
    };
    Problem {
        source,
        key: key.to_owned(),
        message: format!("must be a table, found {}{example}", article(value.type_str())),
    }
}

fn unknown(parent: &str, key: &str, source: Source) -> Problem {
    let dotted = match parent {
        "" => key.to_owned(),
        _ => format!("{parent}.{key}"),
    };
    let message = match (Schema::get().suggest(parent, key), key) {
        (_, "api_key" | "key" | "token" | "secret") => "unknown key: a file never holds a secret; \
             set TRIBUNAL_API_KEY, or name another variable in `api_key_env`"
            .to_owned(),
        (Some(nearest), _) => format!("unknown key; did you mean `{nearest}`?"),
        (None, _) => "unknown key; config/default.toml lists every key".to_owned(),
    };
    Problem { source, key: dotted, message }
}
