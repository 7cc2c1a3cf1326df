//! `tribunal evidence`: what the judge of each category would be shown of a submission.
//!
//! Owns the arguments, the document and its text. Nothing is stored: the submission's texts are
//! kept in memory for as long as the command runs.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, sync::Arc};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use tribunal_collector::{sanitize_line, text::thousands};
use tribunal_core::{Category, SelectionMethod};
use tribunal_evidence::{
    Evidence, FileRecord, PartRecord, Snapshot,
    snapshot::{REPRODUCE_LOG, REPRODUCTION_TIME},
};
use tribunal_store::{ModelStore, Store, SystemClock};

use crate::{
    args::{JudgeArgs, RateArgs},
    command::Context,
    config::FlagValue,
    exit::Exit,
    output,
    prepare::{
        self,
        evidence::{Material, Texts, snapshot},
        selection::Load,
    },
};

/// Arguments of `tribunal evidence`.
#[derive(Debug, Args)]
pub(crate) struct EvidenceArgs {
    /// The submission
    submission: PathBuf,
    /// One category, such as `Code Development` or `code-development`; without, the three of a
    /// rubric
    #[arg(long, value_name = "NAME", value_parser = category)]
    category: Option<Category>,
    /// Which files each category is shown [default: the config's]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// How files are chosen where not all fit [default: the config's]
    #[arg(long, value_name = "METHOD")]
    selection: Option<String>,
    /// The paper, as Markdown or text: it shares the window with the files
    #[arg(long, value_name = "FILE")]
    paper: Option<PathBuf>,
    /// The authors' clarifications
    #[arg(long, value_name = "FILE")]
    addendum: Option<PathBuf>,
    /// Hints for the judge alone
    #[arg(long, value_name = "FILE")]
    judge_addendum: Option<PathBuf>,
    /// As for grading Code Development leaves only
    #[arg(long)]
    code_only: bool,
    #[command(flatten)]
    judge: JudgeArgs,
}

/// The document of `tribunal evidence`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EvidenceDocument {
    /// Which files each category is shown.
    profile: String,
    /// When the reproduction began, in seconds since the Unix epoch; null without a log.
    reproduction_time: Option<f64>,
    /// Whether the reproduction wrote any document or table. If not, Result Analysis leaves are
    /// graded 0 by rule.
    reproduction_touched_files: bool,
    /// The evidence of each category asked for.
    categories: BTreeMap<Category, CategoryDocument>,
}

/// What a category would be shown.
#[derive(Debug, Serialize, JsonSchema)]
struct CategoryDocument {
    /// Whether all of it fits the judge's window.
    fits: bool,
    /// Tokens of all that is shown, the paper and other texts included; without the files that are
    /// chosen for each leaf.
    tokens: usize,
    /// How files are chosen for each leaf; null where all of them fit.
    selection: Option<SelectionDocument>,
    /// The directory tree as the judge sees it.
    tree: String,
    /// Texts beside the files, in the order shown.
    parts: Vec<PartDocument>,
    /// The category's files, by path.
    files: Vec<FileDocument>,
    /// Texts beside the files that are cut, such as `paper` or `log`.
    cuts: Vec<CutDocument>,
    /// Files of the submission that this category is not shown by its definition.
    other_files: usize,
}

/// How files are chosen for a leaf.
#[derive(Debug, Serialize, JsonSchema)]
struct SelectionDocument {
    /// The method.
    method: SelectionMethod,
    /// Tokens that the files may take.
    budget: usize,
}

/// A text beside the files.
#[derive(Debug, Serialize, JsonSchema)]
struct PartDocument {
    /// `paper`, `addendum`, `judge_addendum`, `script`, `log` or `tree`.
    part: String,
    /// Tokens shown.
    tokens: usize,
    /// Tokens cut.
    tokens_cut: usize,
}

/// A file of a category's view.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FileDocument {
    /// Path below the submission's root.
    pub(crate) path: String,
    /// `shown`, `truncated` or `omitted`.
    pub(crate) state: &'static str,
    /// Why it is not shown whole, such as `budget`, `file_max_bytes`, `binary` or `link`.
    pub(crate) reason: Option<String>,
    /// Size in bytes.
    pub(crate) bytes: u64,
    /// Tokens shown.
    pub(crate) tokens: usize,
    /// Tokens cut; null where the rest was not counted.
    pub(crate) tokens_cut: Option<usize>,
}

/// A text beside the files that is cut.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CutDocument {
    /// `paper`, `addendum`, `judge_addendum`, `script`, `log` or `tree`.
    pub(crate) part: String,
    /// Tokens cut.
    pub(crate) tokens_cut: usize,
}

/// Runs `tribunal evidence`.
///
/// # Errors
///
/// The submission, a text or the config cannot be used.
pub(crate) async fn run(args: EvidenceArgs, context: &Context) -> anyhow::Result<Exit> {
    let profile = args.profile.as_ref();
    let profile = profile.map(|name| ("evidence.profile", name.clone().into(), "--profile"));
    let selection = args.selection.as_ref();
    let selection =
        selection.map(|name| ("evidence.selection", name.clone().into(), "--selection"));
    let flags: Vec<FlagValue<'_>> = profile.into_iter().chain(selection).collect();
    let config = context.load(&flags)?;
    // Nobody is called, so no key has to be there.
    let judge = match &args.judge.base_url {
        Some(_) => prepare::judge(&args.judge, RateArgs::default(), &config)?,
        None => {
            config.judge_without_key(args.judge.judge.as_deref().unwrap_or(&config.run.judge))?
        }
    };
    let categories = categories(args.category, args.code_only)?;
    let texts = Texts::read(
        args.paper.as_deref(),
        args.addendum.as_deref(),
        args.judge_addendum.as_deref(),
    )?;
    let store: Arc<dyn Store> = Arc::new(ModelStore::new(Arc::new(SystemClock)));
    let snapshot = snapshot(&args.submission, &config, &store).await?;
    let material = Material {
        texts: &texts,
        snapshot: &snapshot,
        config: &config,
        judge: &judge,
        counter: &judge.facts.counter(),
        store: &store,
    };
    let mut document = EvidenceDocument {
        profile: config.evidence.profile.clone(),
        reproduction_time: snapshot.reproduction_ms.map(seconds),
        reproduction_touched_files: material.is_touched(),
        categories: BTreeMap::new(),
    };
    for category in categories {
        let assembled = material.assemble(category, args.code_only, Load::ASSUMED).await?;
        let evidence = assembled.evidence;
        document.categories.insert(category, CategoryDocument::new(evidence, &snapshot));
    }
    match context.json {
        true => output::print_json("evidence", &document)?,
        false => output::print_text(&render(&document))?,
    }
    Ok(Exit::Complete)
}

/// The categories to list.
fn categories(only: Option<Category>, code_only: bool) -> anyhow::Result<Vec<Category>> {
    match (only, code_only) {
        (Some(category), true) if category != Category::CodeDevelopment => {
            anyhow::bail!("--code-only grades Code Development leaves alone, no {category} ones")
        }
        (Some(category), _) => Ok(vec![category]),
        (None, true) => Ok(vec![Category::CodeDevelopment]),
        (None, false) => {
            Ok(Category::ALL.into_iter().filter(|c| *c != Category::Subtree).collect())
        }
    }
}

/// A category by its name, in any case, with spaces, `-` or `_` between its words.
fn category(text: &str) -> Result<Category, String> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], " ");
    let found = Category::ALL.into_iter().find(|c| plain(c.name()) == plain(text));
    found.ok_or_else(|| format!("it is one of {}", Category::ALL.map(Category::name).join(", ")))
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this age are far below 2^53")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

// === impl CategoryDocument ===

impl CategoryDocument {
    fn new(evidence: Evidence, snapshot: &Snapshot) -> Self {
        let records = evidence.all_records();
        let cuts = CutDocument::of(&evidence);
        let Evidence { parts, fits, tokens, tree, pool, .. } = evidence;
        let part = |PartRecord { part, tokens, tokens_cut }: PartRecord| PartDocument {
            part,
            tokens,
            tokens_cut,
        };
        let beside = |path: &str| path == REPRODUCE_LOG || path == REPRODUCTION_TIME;
        let files = snapshot.files.iter().filter(|file| !beside(&file.path)).count();
        CategoryDocument {
            fits,
            tokens,
            tree,
            other_files: files.saturating_sub(records.len()),
            selection: pool
                .map(|pool| SelectionDocument { method: pool.method, budget: pool.room }),
            parts: parts.into_iter().map(part).collect(),
            files: records.into_iter().map(Into::into).collect(),
            cuts,
        }
    }
}

// === impl FileDocument ===

impl From<FileRecord> for FileDocument {
    fn from(record: FileRecord) -> Self {
        let FileRecord { path, state, reason, bytes, tokens, tokens_cut } = record;
        let state = state.name();
        FileDocument { path, state, reason, bytes, tokens, tokens_cut }
    }
}

// === impl CutDocument ===

impl CutDocument {
    /// The texts of the evidence that are cut.
    pub(crate) fn of(evidence: &Evidence) -> Vec<CutDocument> {
        let cut = evidence.parts.iter().filter(|part| part.tokens_cut > 0);
        let document = |part: &PartRecord| CutDocument {
            part: part.part.clone(),
            tokens_cut: part.tokens_cut,
        };
        cut.map(document).collect()
    }
}

// === text ===

fn render(document: &EvidenceDocument) -> String {
    let mut text = format!("profile {}\n", document.profile);
    match document.reproduction_time {
        #[expect(clippy::cast_possible_truncation, reason = "a time in milliseconds fits")]
        Some(time) => {
            let at = jiff::Timestamp::from_millisecond((time * 1000.0) as i64);
            let at = at.map_or_else(|_| format!("{time} s"), |at| at.to_string());
            let wrote = if document.reproduction_touched_files {
                "it wrote documents or tables"
            } else {
                "it wrote no document and no table, so Result Analysis leaves are 0 by rule"
            };
            let _ = writeln!(text, "reproduction began {at}; {wrote}");
        }
        None => text.push_str("no reproduction: there is no reproduce.log\n"),
    }
    for (category, shown) in &document.categories {
        let fits = if shown.fits { "all of it fits" } else { "not all of it fits" };
        let tokens = thousands(shown.tokens as u64);
        let _ = writeln!(text, "\n{category}: {tokens} tokens, {fits}");
        if let Some(SelectionDocument { method, budget }) = &shown.selection {
            let budget = thousands(*budget as u64);
            let whom = if method.is_shared() { "the leaves of each parent" } else { "each leaf" };
            let _ = writeln!(text, "  {method} chooses files for {whom}, up to {budget} tokens");
        }
        for PartDocument { part, tokens, tokens_cut } in &shown.parts {
            let state = if *tokens_cut > 0 { "truncated" } else { "shown" };
            let tokens = thousands(*tokens as u64);
            let cut = match tokens_cut {
                0 => String::new(),
                cut => format!("  (budget: {} tokens cut)", thousands(*cut as u64)),
            };
            let name = part.replace('_', " ");
            let _ = writeln!(text, "  {state:<9} {tokens:>9}  the {name}{cut}");
        }
        text.push_str(&file_lines(&shown.files));
        match shown.other_files {
            0 => {}
            1 => text.push_str("  1 other file is not shown to this category\n"),
            n => {
                let n = thousands(n as u64);
                let _ = writeln!(text, "  {n} other files are not shown to this category");
            }
        }
    }
    text
}

/// A line for each text that is cut.
pub(crate) fn cut_lines(cuts: &[CutDocument]) -> String {
    let mut text = String::new();
    for CutDocument { part, tokens_cut } in cuts {
        let _ = writeln!(text, "  the {part} is cut by {} tokens", thousands(*tokens_cut as u64));
    }
    text
}

/// A line for each file, with its tokens and what is missing of it.
pub(crate) fn file_lines(files: &[FileDocument]) -> String {
    let mut text = String::new();
    for file in files {
        let why = match (&file.reason, file.tokens_cut) {
            (None, _) => String::new(),
            (Some(reason), Some(cut)) => {
                format!("  ({reason}: {} tokens cut)", thousands(cut as u64))
            }
            (Some(reason), None) => format!("  ({reason}, of {} bytes)", thousands(file.bytes)),
        };
        let (state, tokens) = (file.state, thousands(file.tokens as u64));
        // A name with line breaks must not draw lines of its own.
        let path = sanitize_line(&file.path);
        let _ = writeln!(text, "  {state:<9} {tokens:>9}  {path}{why}");
    }
    text
}

#[cfg(test)]
mod tests {
    use tribunal_evidence::FileState;

    use super::*;

    #[test]
    fn categories_by_any_spelling() {
        assert_eq!(category("Code Development"), Ok(Category::CodeDevelopment));
        assert_eq!(category("result-analysis"), Ok(Category::ResultAnalysis));
        assert_eq!(category("SUBTREE"), Ok(Category::Subtree));
        assert!(category("code").is_err());
        let code = categories(None, true).expect("one");
        assert_eq!(code, [Category::CodeDevelopment]);
        assert!(categories(Some(Category::CodeExecution), true).is_err());
        assert_eq!(categories(None, false).map(|all| all.len()).ok(), Some(3));
    }

    #[test]
    fn what_is_missing_of_a_file_is_said() {
        let file = |path: &str, state, reason: Option<&str>, tokens_cut| FileRecord {
            path: path.to_owned(),
            state,
            reason: reason.map(str::to_owned),
            bytes: 12_345,
            tokens: 1_200,
            tokens_cut,
        };
        let files: Vec<FileDocument> = vec![
            file("a.py", FileState::Shown, None, Some(0)).into(),
            file("b\u{1b}[2J\n.py", FileState::Truncated, Some("budget"), Some(3_400)).into(),
            file("c.py", FileState::Omitted, Some("binary"), None).into(),
        ];
        let lines = file_lines(&files);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].ends_with("1,200  a.py"), "{lines:?}");
        assert!(lines[1].ends_with("b\\u{1b}[2J\\n.py  (budget: 3,400 tokens cut)"), "{lines:?}");
        assert!(lines[2].ends_with("c.py  (binary, of 12,345 bytes)"), "{lines:?}");
    }
}
