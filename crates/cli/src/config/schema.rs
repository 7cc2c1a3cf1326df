//! The schema of the configuration, read off `config/default.toml`.
//!
//! Owns which keys exist, their types, and the nearest known key to a wrong one. It knows no values
//! and no ranges: those are `resolve`'s.

use std::sync::LazyLock;

use super::raw::DEFAULT_TOML;

/// The judge whose keys are the template of every `[judge.NAME]`.
pub(crate) const TEMPLATE_JUDGE: &str = "simulated";

/// What a key's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole number.
    Integer,
    /// A number; whole ones are taken too.
    Float,
    /// True or false.
    Boolean,
    /// Text.
    Text,
    /// A table whose keys are free.
    FreeTable,
    /// A list of tables, each with keys of its own.
    Tables,
}

/// A section and its keys, in the order of `default.toml`.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// The table's name; `judge` stands for every `[judge.NAME]`.
    pub(crate) name: String,
    /// Keys below it.
    pub(crate) keys: Vec<(String, Kind)>,
}

/// Every section.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    sections: Vec<Section>,
}

// === impl Schema ===

impl Schema {
    /// The schema of this build.
    pub(crate) fn get() -> &'static Schema {
        static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
            Schema::read(DEFAULT_TOML).expect("config/default.toml is part of the build and tested")
        });
        &SCHEMA
    }

    fn read(text: &str) -> Result<Schema, toml::de::Error> {
        let table: toml::Table = toml::from_str(&with_optional_keys(text))?;
        let sections = table
            .iter()
            .filter_map(|(name, value)| {
                let keys = match name.as_str() {
                    "judge" => value.get(TEMPLATE_JUDGE)?.as_table()?,
                    _ => value.as_table()?,
                };
                Some(Section {
                    name: name.clone(),
                    keys: keys.iter().map(|(key, value)| (key.clone(), Kind::of(value))).collect(),
                })
            })
            .collect();
        Ok(Schema { sections })
    }

    /// Sections in the order of `default.toml`.
    pub(crate) fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The section with this name.
    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The kind of a dotted key: `SECTION.KEY`, or `judge.NAME.KEY`.
    pub(crate) fn kind(&self, key: &str) -> Option<Kind> {
        let (section, rest) = key.split_once('.')?;
        let leaf = match section {
            "judge" => rest.split_once('.')?.1,
            _ => rest,
        };
        self.section(section)?.kind(leaf)
    }

    /// What the unknown `key` below `parent` was probably meant to be, as a dotted key.
    ///
    /// `parent` is empty at the top, a section, or `judge.NAME`.
    pub(crate) fn suggest(&self, parent: &str, key: &str) -> Option<String> {
        let join = |key: &str| match parent {
            "" => key.to_owned(),
            _ => format!("{parent}.{key}"),
        };
        let section = parent.split('.').next().unwrap_or_default();
        let siblings: Vec<&str> = match self.section(section) {
            Some(section) => section.keys.iter().map(|(key, _)| key.as_str()).collect(),
            None => self.sections.iter().map(|s| s.name.as_str()).collect(),
        };
        if let Some(sibling) = nearest(key, &siblings) {
            return Some(join(sibling));
        }
        // The right key in the wrong place.
        self.sections.iter().find(|section| section.kind(key).is_some()).map(
            |section| match section.name.as_str() {
                "judge" => format!("judge.NAME.{key}"),
                name => format!("{name}.{key}"),
            },
        )
    }
}

// === impl Section ===

impl Section {
    /// The kind of a key of the section.
    pub(crate) fn kind(&self, key: &str) -> Option<Kind> {
        self.keys.iter().find(|(name, _)| name == key).map(|(_, kind)| *kind)
    }
}

// === impl Kind ===

impl Kind {
    fn of(value: &toml::Value) -> Kind {
        match value {
            toml::Value::Integer(_) => Kind::Integer,
            toml::Value::Float(_) => Kind::Float,
            toml::Value::Boolean(_) => Kind::Boolean,
            toml::Value::Table(_) => Kind::FreeTable,
            toml::Value::Array(_) => Kind::Tables,
            _ => Kind::Text,
        }
    }

    /// The value as this kind, or what it should have been.
    pub(crate) fn accept(self, value: toml::Value) -> Result<toml::Value, String> {
        let found = value.type_str();
        match (self, value) {
            (Kind::Integer, value @ toml::Value::Integer(_))
            | (Kind::Float, value @ toml::Value::Float(_))
            | (Kind::Boolean, value @ toml::Value::Boolean(_))
            | (Kind::Text, value @ toml::Value::String(_))
            | (Kind::FreeTable, value @ toml::Value::Table(_))
            | (Kind::Tables, value @ toml::Value::Array(_)) => Ok(value),
            #[expect(
                clippy::cast_precision_loss,
                reason = "the keys that are floats are small numbers"
            )]
            (Kind::Float, toml::Value::Integer(value)) => Ok(toml::Value::Float(value as f64)),
            (kind, _) => Err(format!("must be {}, found {}", kind.noun(), article(found))),
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Kind::Integer => "an integer",
            Kind::Float => "a number",
            Kind::Boolean => "true or false",
            Kind::Text => "a string",
            Kind::FreeTable => "a table",
            Kind::Tables => "a list of tables",
        }
    }
}

/// A noun with its article.
pub(crate) fn article(noun: &str) -> String {
    match noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => format!("an {noun}"),
        false => format!("a {noun}"),
    }
}

/// `default.toml` with the keys that have no default (`#key = value`) made real.
fn with_optional_keys(text: &str) -> String {
    text.lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The candidate nearest to `word`, if it is near enough to be meant.
fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .iter()
        .map(|candidate| (edit_distance(word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `left` into `right`.
fn edit_distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let replaced = last[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            let swapped =
                i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if swapped {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_a_swap_once() {
        assert_eq!(edit_distance("lease_s", "lease_s"), 0);
        assert_eq!(edit_distance("laese_s", "lease_s"), 1);
        assert_eq!(edit_distance("concurency", "concurrency"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
    }

    #[test]
    fn suggestions_look_among_siblings_first_then_elsewhere() {
        let schema = Schema::get();
        assert_eq!(schema.suggest("worker", "concurency").as_deref(), Some("worker.concurrency"));
        assert_eq!(schema.suggest("run", "concurrency").as_deref(), Some("worker.concurrency"));
        assert_eq!(schema.suggest("", "wroker").as_deref(), Some("worker"));
        assert_eq!(schema.suggest("judge.mine", "modle").as_deref(), Some("judge.mine.model"));
        assert_eq!(schema.suggest("worker", "colour"), None);
    }

    #[test]
    fn keys_without_default_are_known() {
        let schema = Schema::get();
        assert_eq!(schema.kind("judge.any.temperature"), Some(Kind::Float));
        assert_eq!(schema.kind("run.models"), Some(Kind::Text));
        assert_eq!(schema.kind("judge.any.headers"), Some(Kind::FreeTable));
        assert_eq!(schema.kind("run.nothing"), None);
        assert_eq!(schema.kind("run"), None);
    }
}
