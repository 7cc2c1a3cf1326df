//! The ledger: every look at a test set, every proposal and what was spent, a JSON line each.
//!
//! Owns the file. Lines are appended and reach the disk before anything rests on them; a line that a
//! kill cut off is no line.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tribunal_tune::{document::Spent, final_test::Finding};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// The test set is looked at: written before the first of its questions is asked.
    Look {
        /// When.
        at: jiff::Timestamp,
        /// The tuning.
        tuning: String,
        /// The test set's seal.
        seal: String,
        /// What is compared: the same comparison again is the same look.
        comparison: String,
    },
    /// What a look has shown.
    Answer {
        /// When.
        at: jiff::Timestamp,
        /// The comparison.
        comparison: String,
        /// The answer.
        finding: Finding,
        /// Its interval.
        interval: (Option<f64>, Option<f64>),
    },
    /// A proposal came.
    Proposal {
        /// When.
        at: jiff::Timestamp,
        /// What it was asked with: the same question again is not asked.
        asked: String,
        /// Its folder, below the ledger's; none where the lint refused it.
        folder: Option<String>,
        /// Why it was refused; empty for one that was not.
        refused: Vec<String>,
        /// Calls.
        calls: u64,
        /// US dollars; none where no price is known.
        cost_usd: Option<f64>,
    },
    /// What a tuning has spent until then, over all of its commands.
    Spent {
        /// When.
        at: jiff::Timestamp,
        /// The tuning.
        tuning: String,
        /// How much.
        spent: Spent,
    },
}

/// The file with its lines.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    entries: Vec<Entry>,
}

// === impl Ledger ===

impl Ledger {
    /// Reads the ledger of this folder; an empty one where there is none yet.
    ///
    /// # Errors
    ///
    /// It cannot be read, or a line of it is not a ledger's.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Ledger> {
        let path = folder.join("ledger.jsonl");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        if whole.len() + 1 < text.len() {
            // What is behind the last line's end was never acknowledged.
            let file = File::options().write(true).open(&path)?;
            let end = if whole.is_empty() { 0 } else { whole.len() + 1 };
            file.set_len(end as u64)?;
        }
        let entry = |(at, line): (usize, &str)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}:{}: not a ledger's line", path.display(), at + 1))
        };
        let lines = whole.lines().enumerate().filter(|(_, line)| !line.is_empty());
        let entries = lines.map(entry).collect::<anyhow::Result<_>>()?;
        Ok(Ledger { path, entries })
    }

    /// Appends a line; it is on disk when this returns.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(crate) fn append(&mut self, entry: Entry) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let write = || -> std::io::Result<()> {
            let mut file = File::options().create(true).append(true).open(&self.path)?;
            file.write_all(&line)?;
            file.sync_data()
        };
        write().with_context(|| format!("cannot write {}", self.path.display()))?;
        self.entries.push(entry);
        Ok(())
    }

    /// The comparisons that this test set was looked at for, each once.
    pub(crate) fn looks(&self, of: &str) -> Vec<&str> {
        let mut looks = Vec::new();
        for entry in &self.entries {
            if let Entry::Look { seal, comparison, .. } = entry
                && seal == of
                && !looks.contains(&comparison.as_str())
            {
                looks.push(comparison.as_str());
            }
        }
        looks
    }

    /// Whether another tuning has looked at this test set.
    pub(crate) fn looked_by_others(&self, of: &str, own: &str) -> bool {
        self.entries.iter().any(|entry| {
            matches!(entry, Entry::Look { seal, tuning, .. } if seal == of && tuning != own)
        })
    }

    /// What came of a question to the proposer, if it was asked before.
    pub(crate) fn proposal(&self, of: &str) -> Option<(Option<&str>, &[String])> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Proposal { asked, folder, refused, .. } if asked == of => {
                Some((folder.as_deref(), refused.as_slice()))
            }
            _ => None,
        })
    }

    /// Calls to proposers for these questions, and what they cost.
    pub(crate) fn proposer(&self, of: &[String]) -> (u64, Option<f64>) {
        self.entries.iter().fold((0, Some(0.0)), |(count, cost), entry| match entry {
            Entry::Proposal { asked, calls, cost_usd, .. } if of.contains(asked) => {
                (count + calls, cost.zip(*cost_usd).map(|(sum, own)| sum + own))
            }
            _ => (count, cost),
        })
    }

    /// Whether a comparison has its answer.
    pub(crate) fn is_answered(&self, of: &str) -> bool {
        let answers =
            |entry: &Entry| matches!(entry, Entry::Answer { comparison, .. } if comparison == of);
        self.entries.iter().any(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let look = |comparison: &str| Entry::Look {
            at: jiff::Timestamp::UNIX_EPOCH,
            tuning: "t".to_owned(),
            seal: "s".to_owned(),
            comparison: comparison.to_owned(),
        };
        let mut ledger = Ledger::open(folder.path()).unwrap();
        for comparison in ["a", "b", "a"] {
            ledger.append(look(comparison)).unwrap();
        }
        let path = folder.path().join("ledger.jsonl");
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"kind\": \"lo");
        fs::write(&path, &text).unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap();
        assert_eq!(ledger.looks("s"), ["a", "b"]);
        ledger.append(look("c")).unwrap();
        assert_eq!(Ledger::open(folder.path()).unwrap().looks("s"), ["a", "b", "c"]);
        assert!(ledger.looks("other").is_empty());
        fs::write(&path, "nonsense\n").unwrap();
        let error = Ledger::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("ledger.jsonl:1"), "{error}");
    }
}
