//! A view within a budget: the texts that a category's judge is shown, and the record of them.
//!
//! Owns what is shown, truncated and omitted, in tokens. The same view and budget give the same
//! bytes. Texts come from the caller one by one, so that no more is held than is shown.

use serde::{Deserialize, Serialize};
use tribunal_core::Category;

use crate::{
    budget::{Budget, Parts},
    log,
    pool::Pool,
    profile::Profile,
    snapshot::{FileEntry, OmittedReason, REPRODUCE_SH},
    tokens::Tokenizer,
    view::{View, printable},
};

/// Marks a cut, visibly, where text was left out.
const CUT_MARK: &str = "[… cut to fit the judge's context …]";

/// Tokens that a file's fence and line breaks take.
pub(crate) const FENCE_TOKENS: usize = 40;

/// What became of a file of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// Shown whole.
    Shown,
    /// Shown in part.
    Truncated,
    /// Not shown.
    Omitted,
}

// === impl FileState ===

impl FileState {
    /// What it is called in documents and on pages.
    pub fn name(self) -> &'static str {
        match self {
            FileState::Shown => "shown",
            FileState::Truncated => "truncated",
            FileState::Omitted => "omitted",
        }
    }
}

/// The record of a file of the view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Path below the submission's root.
    pub path: String,
    /// What became of it.
    pub state: FileState,
    /// Why it is not shown whole: `budget`, `selection`, `file_max_bytes`, `context_overflow` or an
    /// [`OmittedReason`].
    pub reason: Option<String>,
    /// Size in bytes.
    pub bytes: u64,
    /// Tokens shown.
    pub tokens: usize,
    /// Tokens cut; `None` where the rest was not counted.
    pub tokens_cut: Option<usize>,
}

/// The record of a text beside the files that is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// `paper`, `addendum`, `judge_addendum`, `script`, `log` or `tree`.
    pub part: String,
    /// Tokens shown.
    pub tokens: usize,
    /// Tokens cut.
    pub tokens_cut: usize,
}

/// A file as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownFile {
    /// Path below the submission's root, control characters made visible.
    pub path: String,
    /// The text, with a mark where it is cut.
    pub text: String,
    /// Tokens of it.
    pub tokens: usize,
}

/// Everything that the leaves of one category are shown alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Format of this document.
    pub schema: String,
    /// The category.
    pub category: Category,
    /// The paper.
    pub paper: Option<String>,
    /// The authors' clarifications.
    pub addendum: Option<String>,
    /// Hints for the judge.
    pub judge_addendum: Option<String>,
    /// `reproduce.sh`, where the category sees it and it exists.
    pub script: Option<String>,
    /// `reproduce.log`, where the category sees it and it exists.
    pub log: Option<String>,
    /// The directory tree of the view.
    pub tree: String,
    /// The files shown, in order.
    pub files: Vec<ShownFile>,
    /// The record of every file of the view.
    pub records: Vec<FileRecord>,
    /// The texts beside the files, in the order shown.
    pub parts: Vec<PartRecord>,
    /// Whether the whole view is shown.
    pub fits: bool,
    /// Tokens of all the above.
    pub tokens: usize,
    /// Where the view exceeds its budget: its files, to choose from for each leaf. None of them stands
    /// above then.
    pub pool: Option<Pool>,
}

/// The texts beside the files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'c> {
    /// The paper.
    pub paper: Option<&'c str>,
    /// The authors' clarifications.
    pub addendum: Option<&'c str>,
    /// Hints for the judge.
    pub judge_addendum: Option<&'c str>,
    /// `reproduce.sh`.
    pub script: Option<&'c str>,
    /// `reproduce.log`.
    pub log: Option<&'c str>,
}

/// Fills the budget file by file.
pub struct Assembler<'t> {
    tokenizer: &'t dyn Tokenizer,
    profile: Profile,
    evidence: Evidence,
    files_left: usize,
    /// The path of a file of the view that is shown as a text beside the files.
    elsewhere: Option<String>,
}

// === impl Assembler ===

impl<'t> Assembler<'t> {
    /// Begins with the texts beside the files. `window` and `output` are the model's, in tokens;
    /// `files` limits the files' tokens below what the window leaves.
    pub fn new(
        view: &View<'_>,
        context: Context<'_>,
        tokenizer: &'t dyn Tokenizer,
        window: usize,
        output: usize,
        files: Option<usize>,
    ) -> Self {
        let script = context.script.filter(|_| view.script);
        let log = context.log.filter(|_| view.log);
        let count = |text: Option<&str>| text.map_or(0, |text| tokenizer.count(text));
        let parts = Parts {
            paper: count(context.paper),
            addenda: count(context.addendum) + count(context.judge_addendum),
            script: count(script),
            log: count(log),
        };
        let budget = Budget::divide(window, output, parts, files);
        let mut assembler = Assembler {
            tokenizer,
            profile: view.profile.clone(),
            files_left: budget.files,
            elsewhere: None,
            evidence: Evidence {
                schema: Evidence::SCHEMA.to_owned(),
                category: view.category,
                paper: None,
                addendum: None,
                judge_addendum: None,
                script: None,
                log: None,
                tree: String::new(),
                files: Vec::new(),
                records: Vec::new(),
                parts: Vec::new(),
                fits: true,
                tokens: 0,
                pool: None,
            },
        };
        assembler.evidence.paper = assembler.part("paper", context.paper, budget.paper);
        let judge_addendum = count(context.judge_addendum).min(budget.addenda);
        let addendum = budget.addenda - judge_addendum;
        assembler.evidence.addendum = assembler.part("addendum", context.addendum, addendum);
        assembler.evidence.judge_addendum =
            assembler.part("judge_addendum", context.judge_addendum, judge_addendum);
        assembler.evidence.script = assembler.part("script", script, budget.script);
        assembler.evidence.log = log.map(|log| assembler.log(log, budget.log));
        // A tree of names is worth at most a quarter of the files' budget.
        let tree = view.tree();
        let most = assembler.files_left / 4;
        let before = assembler.evidence.tokens;
        assembler.evidence.tree = assembler.part("tree", Some(&tree), most).unwrap_or_default();
        let used = assembler.evidence.tokens - before;
        assembler.files_left = assembler.files_left.saturating_sub(used);
        assembler
    }

    /// Whether another file could still be shown; if not, its text need not be read.
    pub fn has_room(&self) -> bool {
        self.files_left > FENCE_TOKENS
    }

    /// Tokens that files and their fences may still take: the budget of a selection.
    pub fn room(&self) -> usize {
        self.files_left
    }

    /// Whether all files until now are shown as far as they were read.
    pub fn fits(&self) -> bool {
        self.evidence.fits
    }

    /// Leaves the files to a selection: none is shown to all leaves. The pool is made within the
    /// [`room`](Self::room) that is free again, of the files that are not shown
    /// [elsewhere](Self::shows_elsewhere).
    pub fn into_pool(mut self, pool: impl FnOnce(usize) -> Pool) -> Evidence {
        let freed: usize = self.evidence.files.iter().map(|f| f.tokens + FENCE_TOKENS).sum();
        self.evidence.tokens -= freed;
        self.evidence.files.clear();
        let elsewhere = self.elsewhere.clone();
        self.evidence.records.retain(|record| elsewhere.as_ref() == Some(&record.path));
        self.evidence.fits = false;
        self.evidence.pool = Some(pool(self.files_left + freed));
        self.evidence
    }

    /// Whether the file is shown as a text beside the files, and not once more among them.
    pub fn shows_elsewhere(&self, file: &FileEntry) -> bool {
        file.path == REPRODUCE_SH && self.evidence.script.is_some()
    }

    /// Adds the view's next file; `text` is its content, `None` where there is none or no room. A
    /// notebook is rendered as the profile says.
    pub fn file(&mut self, file: &FileEntry, text: Option<&str>) {
        if self.shows_elsewhere(file) {
            return self.beside(file);
        }
        let mut record = FileRecord::omitted(file);
        let rendered = text.map(|text| self.profile.render(&file.path, text));
        let text = rendered.as_deref();
        let room = self.files_left.saturating_sub(FENCE_TOKENS);
        match text {
            None => {
                let budget = file.text.is_some();
                record.reason = record.reason.or_else(|| Some("budget".to_owned()));
                self.evidence.fits &= !budget;
            }
            Some(text) => {
                let tokens = self.tokenizer.count(text);
                if tokens > room {
                    record.reason = Some("budget".to_owned());
                    self.evidence.fits = false;
                } else if file.cut_bytes > 0 {
                    record.reason = Some("file_max_bytes".to_owned());
                }
                let whole = tokens <= room && file.cut_bytes == 0;
                let (shown, cut) = self.cut(text, tokens, room, whole);
                if !shown.is_empty() || tokens == 0 {
                    let tokens = if whole { tokens } else { self.tokenizer.count(&shown) };
                    record.state = if whole { FileState::Shown } else { FileState::Truncated };
                    record.tokens = tokens;
                    record.tokens_cut = (file.cut_bytes == 0).then_some(cut);
                    self.files_left = self.files_left.saturating_sub(tokens + FENCE_TOKENS);
                    self.evidence.tokens += tokens + FENCE_TOKENS;
                    let path = printable(&file.path);
                    self.evidence.files.push(ShownFile { path, text: shown, tokens });
                }
            }
        }
        self.evidence.records.push(record);
    }

    /// Records a file of the view whose text is the script's part.
    fn beside(&mut self, file: &FileEntry) {
        let part = self.evidence.parts.iter().find(|part| part.part == "script");
        let (tokens, cut) = part.map_or((0, 0), |part| (part.tokens, part.tokens_cut));
        let whole = cut == 0 && file.cut_bytes == 0;
        let mut record = FileRecord::omitted(file);
        record.state = if whole { FileState::Shown } else { FileState::Truncated };
        record.reason =
            (!whole).then(|| if cut > 0 { "budget" } else { "file_max_bytes" }.to_owned());
        record.tokens = tokens;
        record.tokens_cut = (file.cut_bytes == 0).then_some(cut);
        self.elsewhere = Some(record.path.clone());
        self.evidence.records.push(record);
    }

    /// The evidence.
    pub fn finish(self) -> Evidence {
        self.evidence
    }

    /// The log, shortened to `most` tokens.
    fn log(&mut self, log: &str, most: usize) -> String {
        let (shown, cut) = log::fit(log, most, self.tokenizer);
        let tokens = self.tokenizer.count(&shown);
        self.record("log", tokens, cut);
        shown
    }

    /// A part beside the files, cut to `most` tokens.
    fn part(&mut self, name: &str, text: Option<&str>, most: usize) -> Option<String> {
        let text = text?;
        let tokens = self.tokenizer.count(text);
        let (shown, cut) = self.cut(text, tokens, most, tokens <= most);
        let tokens = if cut > 0 { self.tokenizer.count(&shown) } else { tokens };
        self.record(name, tokens, cut);
        Some(shown)
    }

    fn record(&mut self, part: &str, tokens: usize, tokens_cut: usize) {
        self.evidence.tokens += tokens;
        self.evidence.parts.push(PartRecord { part: part.to_owned(), tokens, tokens_cut });
    }

    /// The text, or its beginning with the mark of a cut in at most `most` tokens; and the tokens
    /// that were cut.
    fn cut(&self, text: &str, tokens: usize, most: usize, whole: bool) -> (String, usize) {
        if whole {
            return (text.to_owned(), 0);
        }
        cut(self.tokenizer, text, tokens, most)
    }
}

// === impl Evidence ===

impl Evidence {
    /// The current format.
    pub const SCHEMA: &'static str = "tribunal.evidence/1";

    /// The same evidence in about half the tokens, for a judge whose context is smaller than
    /// expected: the log and the files are cut to half of theirs, the last files first; a selection
    /// gets half its room.
    pub fn shrunk(&self, tokenizer: &dyn Tokenizer) -> Evidence {
        let mut small = self.clone();
        small.fits = false;
        if let (Some(log), Some(part)) =
            (&mut small.log, small.parts.iter_mut().find(|part| part.part == "log"))
        {
            let (half, cut) = log::fit(log, part.tokens / 2, tokenizer);
            *log = half;
            part.tokens = tokenizer.count(log);
            part.tokens_cut += cut;
        }
        if let Some(pool) = &mut small.pool {
            pool.room /= 2;
        }
        let mut left = self.files.iter().map(|file| file.tokens).sum::<usize>() / 2;
        small.files.clear();
        for file in &self.files {
            let Some(record) = small.records.iter_mut().find(|r| printable(&r.path) == file.path)
            else {
                continue;
            };
            if file.tokens <= left {
                left -= file.tokens;
                small.files.push(file.clone());
                continue;
            }
            let (text, _) = cut(tokenizer, &file.text, file.tokens, left);
            let tokens = tokenizer.count(&text);
            record.reason = Some("context_overflow".to_owned());
            record.tokens_cut = record.tokens_cut.map(|cut| cut + file.tokens - tokens);
            record.tokens = tokens;
            left = 0;
            if text.is_empty() {
                record.state = FileState::Omitted;
            } else {
                record.state = FileState::Truncated;
                small.files.push(ShownFile { path: file.path.clone(), text, tokens });
            }
        }
        let files: usize = small.files.iter().map(|file| file.tokens + FENCE_TOKENS).sum();
        small.tokens = files + small.parts.iter().map(|part| part.tokens).sum::<usize>();
        small
    }

    /// The records of all files of the view, by path, before any is chosen for a leaf.
    pub fn all_records(&self) -> Vec<FileRecord> {
        self.records_with(self.pool.as_ref().map(Pool::records).unwrap_or_default())
    }

    /// The records of all files of the view, by path, those of its pool being given.
    pub fn records_with(&self, chosen: Vec<FileRecord>) -> Vec<FileRecord> {
        let mut records = self.records.clone();
        records.extend(chosen);
        records.sort_by(|a, b| a.path.cmp(&b.path));
        records
    }
}

/// The beginning of a text with the mark of a cut, in at most `most` tokens, and the tokens that
/// were cut of its `tokens`.
fn cut(tokenizer: &dyn Tokenizer, text: &str, tokens: usize, most: usize) -> (String, usize) {
    let mark = tokenizer.count(CUT_MARK) + 1;
    let Some(room) = most.checked_sub(mark) else {
        return (String::new(), tokens);
    };
    let kept = tokenizer.truncate(text, room);
    let newline = if kept.is_empty() || kept.ends_with('\n') { "" } else { "\n" };
    let cut = tokens.saturating_sub(tokenizer.count(kept));
    (format!("{kept}{newline}{CUT_MARK}"), cut)
}

// === impl FileRecord ===

impl FileRecord {
    /// The record of a file that is not shown.
    fn omitted(file: &FileEntry) -> FileRecord {
        FileRecord {
            path: file.path.clone(),
            state: FileState::Omitted,
            reason: file.omitted.map(|reason| OmittedReason::name(reason).to_owned()),
            bytes: file.bytes,
            tokens: 0,
            tokens_cut: None,
        }
    }
}
