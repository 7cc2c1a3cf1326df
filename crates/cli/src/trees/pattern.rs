//! Paths with names in them: `runs/{agent}/{paper_id}/seed{seed}/*.json`.
//!
//! Owns matching such a pattern against a folder. `{name}` stands for at least one character of a
//! file's or folder's name and is captured, `*` for any characters and `?` for one, `**` for any
//! number of folders. What the names mean is the caller's.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Component, Path, PathBuf},
};

use regex::Regex;

/// What the names in a pattern stand for.
pub(crate) type Captures = BTreeMap<String, String>;

/// Folders within each other that `**` goes through, at most.
const MAX_DEPTH: usize = 32;

/// A pattern, part by part.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    /// Taken as it is.
    Literal(PathBuf),
    /// Matched against names; the placeholders in it, in order.
    Name { regex: Regex, names: Vec<String>, hidden: bool },
    /// Any number of folders.
    Folders,
}

/// A path that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    /// The path.
    pub(crate) path: PathBuf,
    /// What the names stand for in it.
    pub(crate) captures: Captures,
}

/// Whether the text is more than a path.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '{'])
}

/// `text` with each `{name}` replaced by what it stands for.
///
/// # Errors
///
/// A name stands for nothing; says which.
pub(crate) fn fill(text: &str, captures: &Captures) -> Result<String, String> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, name, after)) = placeholder(rest) {
        filled.push_str(before);
        let value = captures.get(name);
        filled
            .push_str(value.ok_or_else(|| format!("`{{{name}}}` in `{text}` stands for nothing"))?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The text before the first placeholder, its name, and the text behind it.
fn placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, behind) = text.split_once('{')?;
    let (name, after) = behind.split_once('}')?;
    Some((before, name, after))
}

// === impl Pattern ===

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// A brace is left open, or a placeholder's name is no name; says so.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        let mut parts = Vec::new();
        for component in Path::new(text).components() {
            let name = component.as_os_str().to_string_lossy();
            parts.push(match component {
                Component::Normal(_) if name == "**" => Part::Folders,
                Component::Normal(_) if is_pattern(&name) => Part::name(&name)?,
                other => Part::Literal(PathBuf::from(other.as_os_str())),
            });
        }
        Ok(Pattern { parts })
    }

    /// The paths below `base` that match, in order.
    ///
    /// # Errors
    ///
    /// A folder that is there cannot be read.
    pub(crate) fn find(&self, base: &Path) -> io::Result<Vec<Match>> {
        let mut found = Vec::new();
        let start = Match { path: base.to_owned(), captures: Captures::new() };
        walk(&self.parts, start, 0, &mut found)?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found.dedup();
        Ok(found)
    }
}

fn walk(parts: &[Part], at: Match, depth: usize, found: &mut Vec<Match>) -> io::Result<()> {
    let Some((part, rest)) = parts.split_first() else {
        found.push(at);
        return Ok(());
    };
    match part {
        Part::Literal(name) => {
            let path = at.path.join(name);
            if path.exists() {
                walk(rest, Match { path, ..at }, depth, found)?;
            }
        }
        Part::Name { regex, names, hidden } => {
            for name in names_in(&at.path)? {
                if name.starts_with('.') && !hidden {
                    continue;
                }
                if let Some(captures) = captured(regex, names, &name, &at.captures) {
                    let path = at.path.join(&name);
                    walk(rest, Match { path, captures }, depth, found)?;
                }
            }
        }
        Part::Folders => {
            walk(rest, at.clone(), depth, found)?;
            for name in names_in(&at.path)? {
                let path = at.path.join(&name);
                let below = depth < MAX_DEPTH && !name.starts_with('.');
                // A link may lead in circles.
                if below && path.is_dir() && !path.is_symlink() {
                    let next = Match { path, captures: at.captures.clone() };
                    walk(parts, next, depth + 1, found)?;
                }
            }
        }
    }
    Ok(())
}

/// The names in a folder, in order; none where there is no folder.
fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// What was captured before and in this name; a placeholder stands for one thing only.
fn captured(regex: &Regex, names: &[String], name: &str, before: &Captures) -> Option<Captures> {
    let groups = regex.captures(name)?;
    let mut captures = before.clone();
    for (number, placeholder) in names.iter().enumerate() {
        let value = groups.get(number + 1)?.as_str().to_owned();
        let known = captures.insert(placeholder.clone(), value.clone());
        if known.is_some_and(|known| known != value) {
            return None;
        }
    }
    Some(captures)
}

// === impl Part ===

impl Part {
    fn name(text: &str) -> Result<Part, String> {
        let (mut regex, mut names, mut rest) = ("^".to_owned(), Vec::new(), text);
        let literal = |regex: &mut String, text: &str| {
            for c in text.chars() {
                match c {
                    '*' => regex.push_str(".*"),
                    '?' => regex.push('.'),
                    c => regex.push_str(&regex::escape(&c.to_string())),
                }
            }
        };
        while let Some((before, name, after)) = placeholder(rest) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                return Err(format!("`{{{name}}}` in `{text}` is no name: letters, digits and _"));
            }
            literal(&mut regex, before);
            regex.push_str("(.+)");
            names.push(name.to_owned());
            rest = after;
        }
        if rest.contains('{') {
            return Err(format!("a {{ in `{text}` has no }}"));
        }
        literal(&mut regex, rest);
        regex.push('$');
        let regex = Regex::new(&regex).map_err(|error| error.to_string())?;
        Ok(Part::Name { regex, names, hidden: text.starts_with('.') })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(dir: &Path, pattern: &str) -> Vec<(String, String)> {
        let found = Pattern::parse(pattern).expect("a pattern").find(dir).expect("readable");
        let shown = |found: Match| {
            let path = found.path.strip_prefix(dir).expect("below").display().to_string();
            let captures: Vec<String> =
                found.captures.iter().map(|(name, value)| format!("{name}={value}")).collect();
            (path, captures.join(" "))
        };
        found.into_iter().map(shown).collect()
    }

    #[test]
    fn names_are_captured_and_filled_in() {
        let dir = tempfile::tempdir().expect("a folder");
        for path in ["a/x/seed1/g.json", "a/x/seed2/g.json", "b/a/seed1/g.json", "b/a/.git/g.json"]
        {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "").expect("written");
        }
        let all = [
            ("a/x/seed1/g.json".to_owned(), "agent=a paper=x seed=1".to_owned()),
            ("a/x/seed2/g.json".to_owned(), "agent=a paper=x seed=2".to_owned()),
            ("b/a/seed1/g.json".to_owned(), "agent=b paper=a seed=1".to_owned()),
        ];
        assert_eq!(find(dir.path(), "{agent}/{paper}/seed{seed}/*.json"), all);
        assert_eq!(find(dir.path(), "**/{x}/seed2/g.json").len(), 1);
        assert_eq!(find(dir.path(), "**/g.json").len(), 3, "hidden folders are left");
        assert_eq!(find(dir.path(), "b/a/.git/g.json").len(), 1);
        assert!(find(dir.path(), "{same}/{same}/*").is_empty(), "one name, one meaning");
        assert!(find(dir.path(), "none/*").is_empty());
        let captures = Captures::from([("paper".to_owned(), "x".to_owned())]);
        assert_eq!(fill("p/{paper}/r{paper}.json", &captures), Ok("p/x/rx.json".to_owned()));
        assert!(fill("{agent}", &captures).expect_err("unknown").contains("agent"));
        assert!(Pattern::parse("a{b/c").is_err());
        assert!(Pattern::parse("{}/c").is_err());
    }
}
