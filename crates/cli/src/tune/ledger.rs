//! The ledger: every look at a test set, every proposal and what was spent, a JSON line each.
//!
//! Owns the file. Lines are appended and reach the disk before anything rests on them; a line that a
//! kill cut off is no line.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tribunal_tune::{
    document::{LedgerDocument, Spent},
    final_test::Finding,
};

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
        /// What each of its runs has used so far, where that is news. Tunings share runs: the last line
        /// about a run is what was paid for it, whoever paid.
        #[serde(default)]
        runs: BTreeMap<String, RunSpent>,
    },
}

/// What a run has used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunSpent {
    /// Calls for verdicts, rankings and repairs.
    pub(crate) calls: u64,
    /// US dollars; none where no price is known.
    pub(crate) cost_usd: Option<f64>,
}

/// The file with its lines.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    entries: Vec<Entry>,
    /// The bytes of whole lines, where there is more: what is behind was never acknowledged.
    whole_bytes: Option<u64>,
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
            // That something else stands where the folder should be, who makes it will say.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                String::new()
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let end = if whole.is_empty() { 0 } else { whole.len() + 1 };
        let whole_bytes = (end < text.len()).then_some(end as u64);
        let entry = |(at, line): (usize, &str)| {
            serde_json::from_str(line)
                .with_context(|| format!("{}:{}: not a ledger's line", path.display(), at + 1))
        };
        let lines = whole.lines().enumerate().filter(|(_, line)| !line.is_empty());
        let entries = lines.map(entry).collect::<anyhow::Result<_>>()?;
        Ok(Ledger { path, entries, whole_bytes })
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
            // Not sooner: who only plans writes nothing.
            if let Some(whole) = self.whole_bytes {
                file.set_len(whole)?;
            }
            file.write_all(&line)?;
            file.sync_data()
        };
        write().with_context(|| format!("cannot write {}", self.path.display()))?;
        self.whole_bytes = None;
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

    /// Records what a tuning and its runs have used until now: at its end, or where it is news.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(crate) fn spend(
        &mut self,
        tuning: &str,
        spent: Spent,
        mut runs: BTreeMap<String, RunSpent>,
        at_its_end: bool,
    ) -> anyhow::Result<()> {
        let known = self.by_run();
        runs.retain(|run, spent| known.get(run.as_str()) != Some(spent));
        if runs.is_empty() && !at_its_end {
            return Ok(());
        }
        let at = jiff::Timestamp::now();
        self.append(Entry::Spent { at, tuning: tuning.to_owned(), spent, runs })
    }

    /// What is known of each run.
    fn by_run(&self) -> BTreeMap<&str, RunSpent> {
        let mut by_run = BTreeMap::new();
        for entry in &self.entries {
            if let Entry::Spent { runs, .. } = entry {
                by_run.extend(runs.iter().map(|(run, spent)| (run.as_str(), *spent)));
            }
        }
        by_run
    }

    /// Everything that stands here, over all tunings on the same labels.
    pub(crate) fn total(&self) -> LedgerDocument {
        let (mut looks, mut tunings) = (BTreeSet::new(), BTreeSet::new());
        let mut total = LedgerDocument { cost_usd: Some(0.0), ..LedgerDocument::default() };
        let add = |total: &mut LedgerDocument, calls: u64, cost: Option<f64>| {
            total.calls += calls;
            total.cost_usd = total.cost_usd.zip(cost).map(|(sum, own)| sum + own);
        };
        for entry in &self.entries {
            match entry {
                Entry::Look { tuning, seal, comparison, .. } => {
                    looks.insert((seal, comparison));
                    tunings.insert(tuning);
                }
                Entry::Spent { tuning, .. } => {
                    tunings.insert(tuning);
                }
                Entry::Proposal { calls, cost_usd, .. } => add(&mut total, *calls, *cost_usd),
                Entry::Answer { .. } => {}
            }
        }
        for spent in self.by_run().into_values() {
            add(&mut total, spent.calls, spent.cost_usd);
        }
        LedgerDocument { looks: looks.len(), tunings: tunings.len(), ..total }
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

    #[test]
    fn a_run_that_tunings_share_is_paid_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap();
        let runs = |all: &[(&str, u64)]| -> BTreeMap<String, RunSpent> {
            let spent = |calls: u64| RunSpent { calls, cost_usd: Some(calls as f64) };
            all.iter().map(|(run, calls)| ((*run).to_owned(), spent(*calls))).collect()
        };
        let spent = Spent::default();
        ledger.spend("one", spent, runs(&[("base", 3), ("a", 2)]), false).unwrap();
        ledger.spend("one", spent, runs(&[("base", 5), ("a", 2)]), true).unwrap();
        // The other one finds the baseline's answers there.
        ledger.spend("two", spent, runs(&[("base", 5)]), false).unwrap();
        ledger.spend("two", spent, runs(&[("base", 5), ("b", 4)]), true).unwrap();
        ledger
            .append(Entry::Proposal {
                at: jiff::Timestamp::UNIX_EPOCH,
                asked: "q".to_owned(),
                folder: None,
                refused: Vec::new(),
                calls: 1,
                cost_usd: Some(0.5),
            })
            .unwrap();
        assert_eq!(ledger.entries.len(), 4, "what is no news is no line");
        let total = Ledger::open(folder.path()).unwrap().total();
        let expected = LedgerDocument { looks: 0, tunings: 2, calls: 12, cost_usd: Some(11.5) };
        assert_eq!(total, expected);
    }
}
