//! The files of a view that exceeds its budget, to choose from for each leaf.
//!
//! Owns the record of them, which is part of the evidence and so of every key made of it: their
//! contents, the method and the budget. Which files a leaf gets is not in it. Texts come from the
//! caller, for they lie in a store.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tribunal_core::{BlobHash, SelectionMethod};

use crate::{
    assemble::{FENCE_TOKENS, FileRecord, FileState, ShownFile},
    profile::Profile,
    select::{Document, Index, Selection},
    snapshot::{FileEntry, OmittedReason},
    tokens::{DEFAULT_VOCABULARY, Vocabulary},
    view::printable,
};

/// Files that a judge's ranking names at most, as in PaperBench's SimpleJudge.
pub const RANKED_FILES: usize = 10;

/// Bytes of text that are indexed, and counted, of one view; files behind them, by path, are left
/// out. It bounds memory: a submission may be gigabytes.
pub const INDEXED_BYTES: u64 = 64 << 20;

/// The files of a view and how some of them are chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// How.
    pub method: SelectionMethod,
    /// Tokens that chosen files and their fences may take.
    pub room: usize,
    /// Whose rules render the files.
    pub profile: String,
    /// The vocabulary that counts them.
    pub tokenizer: String,
    /// The files, by path.
    pub files: Vec<PoolFile>,
}

/// A file to choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolFile {
    /// Path below the submission's root.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Its content in the store.
    pub text: Option<BlobHash>,
    /// Whether that content is not all of the file.
    pub cut: bool,
    /// Why it cannot be chosen, if so: `index_limit` or an [`OmittedReason`].
    pub reason: Option<String>,
    /// Tokens of its text as it would be shown, where they were counted.
    pub tokens: Option<usize>,
}

/// What a leaf is shown of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// The files, in the order of the selection.
    pub files: Vec<ShownFile>,
    /// Their paths in the submission.
    pub paths: Vec<String>,
    /// The record of every file of the pool, by path.
    pub records: Vec<FileRecord>,
    /// Tokens of the files and their fences.
    pub tokens: usize,
}

// === impl Pool ===

impl Pool {
    /// An empty pool.
    pub fn new(method: SelectionMethod, room: usize, profile: &str, tokenizer: &str) -> Pool {
        let (profile, tokenizer) = (profile.to_owned(), tokenizer.to_owned());
        Pool { method, room, profile, tokenizer, files: Vec::new() }
    }

    /// Adds the view's next file, with the tokens of its text as it is shown; without them, it cannot
    /// be chosen.
    pub fn push(&mut self, file: &FileEntry, tokens: Option<usize>) {
        let omitted = file.omitted.map(|reason| OmittedReason::name(reason).to_owned());
        let beyond = || (tokens.is_none() || file.text.is_none()).then(|| "index_limit".to_owned());
        self.files.push(PoolFile {
            path: file.path.clone(),
            bytes: file.bytes,
            text: file.text,
            cut: file.cut_bytes > 0,
            reason: omitted.or_else(beyond),
            tokens,
        });
    }

    /// The files that can be chosen, by path.
    pub fn candidates(&self) -> impl Iterator<Item = &PoolFile> {
        self.files.iter().filter(|file| file.reason.is_none())
    }

    /// Tokens that ten files ranked by a judge would be expected to take, their fences included, at
    /// most the room. What is relevant is rarely among the small files: the expectation is that of
    /// files drawn by their size.
    pub fn ranked_tokens(&self) -> usize {
        let sizes = || self.candidates().filter_map(|file| file.tokens).map(|tokens| tokens as f64);
        let total: f64 = sizes().sum();
        if total <= 0.0 {
            return 0;
        }
        let mean = sizes().map(|size| size * size).sum::<f64>() / total;
        let count = RANKED_FILES.min(self.candidates().count()) as f64;
        let fences = FENCE_TOKENS as f64;
        ((count * (mean + fences)).min(total + count * fences).ceil() as usize).min(self.room)
    }

    /// The vocabulary that counts its files.
    pub fn vocabulary(&self) -> Option<Vocabulary> {
        Vocabulary::named(&self.tokenizer).or_else(|| Vocabulary::named(DEFAULT_VOCABULARY))
    }

    /// The file's text as it is shown.
    pub fn document(&self, file: &PoolFile, text: &str) -> Document {
        let profile = Profile::builtin(&self.profile);
        let rendered = profile.map(|profile| profile.render(&file.path, text).into_owned());
        let text = rendered.unwrap_or_else(|| text.to_owned());
        Document { path: file.path.clone(), text, tokens: file.tokens }
    }

    /// The candidate that a judge means by this path, as judges write paths.
    pub fn find(&self, path: &str) -> Option<&PoolFile> {
        let path = path.trim().trim_matches(['`', '"', '\'']);
        let path = path.strip_prefix("./").unwrap_or(path);
        let is = |wanted: &str| {
            self.candidates().find(|file| file.path == wanted || printable(&file.path) == wanted)
        };
        is(path)
            .or_else(|| is(path.strip_prefix("submission/")?))
            .or_else(|| is(path.strip_prefix('/')?))
    }

    /// What is shown of the pool for a selection made of `index`, which knows files by their paths.
    pub fn selected(&self, index: &Index, selection: &Selection) -> Selected {
        let documents = index.documents();
        let mut shown = Selected { tokens: selection.tokens, ..Selected::default() };
        let mut states = HashMap::new();
        for chosen in &selection.files {
            let path = documents[chosen.file].path.as_str();
            states.insert(path, (chosen.whole, chosen.tokens));
            shown.paths.push(path.to_owned());
            shown.files.push(ShownFile {
                path: printable(path),
                text: chosen.text.clone(),
                tokens: chosen.tokens,
            });
        }
        shown.records =
            self.files.iter().map(|file| file.record(states.get(file.path.as_str()))).collect();
        shown
    }

    /// The record of every file while none is chosen yet.
    pub fn records(&self) -> Vec<FileRecord> {
        self.files.iter().map(|file| file.record(None)).collect()
    }
}

// === impl PoolFile ===

impl PoolFile {
    /// The file's record where it is shown, whole or not, in so many tokens; or not at all.
    fn record(&self, shown: Option<&(bool, usize)>) -> FileRecord {
        let (state, tokens) = match shown {
            None => (FileState::Omitted, 0),
            Some((true, tokens)) if !self.cut => (FileState::Shown, *tokens),
            Some((_, tokens)) => (FileState::Truncated, *tokens),
        };
        let reason = match (shown, &self.reason) {
            (_, Some(reason)) => Some(reason.clone()),
            (Some((true, _)), None) => self.cut.then(|| "file_max_bytes".to_owned()),
            _ => Some("selection".to_owned()),
        };
        let (path, bytes) = (self.path.clone(), self.bytes);
        let cut = self.tokens.map(|all| all.saturating_sub(tokens));
        let tokens_cut = cut.filter(|_| !self.cut || shown.is_none());
        FileRecord { path, state, reason, bytes, tokens, tokens_cut }
    }
}
