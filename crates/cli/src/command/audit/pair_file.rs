//! `--pair`: which file belongs to which, and of which paper and system it is.
//!
//! Owns the file's format. A name is a relative path below a named folder, a file as it was named,
//! or a path beside the pair file.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::load::{Graded, by_relative, file};

/// The file, and the folder that it stands in.
#[derive(Debug, Default)]
pub(super) struct PairFile {
    folder: PathBuf,
    shown: String,
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    pair: Vec<Entry>,
}

/// One `[[pair]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The first judge's tree.
    judge: String,
    /// The second judge's tree.
    other: Option<String>,
    /// The humans' trees, in the order of the graders.
    #[serde(default)]
    human: Names,
    /// The paper.
    paper: Option<String>,
    /// What made the graded work.
    system: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

/// What the file says besides pairs, by the relative path of the first judge's tree.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<String, (Option<String>, Option<String>)>);

// === impl Told ===

impl Told {
    /// The paper of this tree, if the file names it.
    pub(super) fn paper(&self, relative: &str) -> Option<String> {
        self.0.get(relative).and_then(|(paper, _)| paper.clone())
    }

    /// What made the work that this tree grades, if the file says so.
    pub(super) fn system(&self, relative: &str) -> Option<String> {
        self.0.get(relative).and_then(|(_, system)| system.clone())
    }
}

// === impl Names ===

impl Default for Names {
    fn default() -> Self {
        Names::Several(Vec::new())
    }
}

impl Names {
    fn all(&self) -> &[String] {
        match self {
            Names::One(name) => std::slice::from_ref(name),
            Names::Several(names) => names,
        }
    }
}

// === impl PairFile ===

impl PairFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is not of its format.
    pub(super) fn read(path: &Path) -> anyhow::Result<PairFile> {
        let shown = path.display().to_string();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        let document: Document = toml::from_str(&text).with_context(|| {
            format!(
                "{shown}: a pair is [[pair]] with judge, human and, as wanted, other, paper, system"
            )
        })?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(PairFile { folder, shown, entries: document.pair })
    }

    /// Gives the files of each pair the same relative path, and reads those that were not named on
    /// the command line.
    ///
    /// # Errors
    ///
    /// A name is no file.
    pub(super) fn apply(
        &self,
        judges: &mut Vec<Vec<Graded>>,
        humans: &mut Vec<Vec<Graded>>,
    ) -> anyhow::Result<Told> {
        let mut told = Told::default();
        for entry in &self.entries {
            let key = self.place(judges, 0, &entry.judge, None)?;
            if let Some(other) = &entry.other {
                self.place(judges, 1, other, Some(&key))?;
            }
            for (human, name) in entry.human.all().iter().enumerate() {
                self.place(humans, human, name, Some(&key))?;
            }
            told.0.insert(key, (entry.paper.clone(), entry.system.clone()));
        }
        Ok(told)
    }

    /// Finds or reads the named tree of this grader, gives it the relative path `key`, and returns
    /// what it then is.
    fn place(
        &self,
        graders: &mut Vec<Vec<Graded>>,
        grader: usize,
        name: &str,
        key: Option<&str>,
    ) -> anyhow::Result<String> {
        while graders.len() <= grader {
            graders.push(Vec::new());
        }
        let graded = &mut graders[grader];
        let named = by_relative(graded).get(name).copied();
        let at = named.or_else(|| graded.iter().position(|one| one.named.shown == name));
        let at = match at {
            Some(at) => at,
            None => {
                let path = self.folder.join(name);
                if !path.is_file() {
                    bail!(
                        "{}: `{name}` is neither among the graded trees that were named nor a file \
                         beside this one",
                        self.shown
                    );
                }
                graded.push(file(&path, name.to_owned())?);
                graded.len() - 1
            }
        };
        let named = &mut graded[at].named;
        if let Some(key) = key {
            key.clone_into(&mut named.relative);
        }
        Ok(named.relative.clone())
    }
}
