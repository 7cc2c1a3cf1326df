//! Which files of a submission a category sees.
//!
//! Owns PaperBench's lists of file types and ignored folders (arXiv 2504.01848, appendix; profile
//! `paperbench`). A folder's name counts only below the submission's root. How many of the files
//! fit the judge's context is not decided here.

use tribunal_core::Category;

use crate::snapshot::{FileEntry, REPRODUCE_LOG, REPRODUCTION_TIME, Snapshot};

const DOCS: [&str; 3] = ["md", "txt", "rst"];
const CODE: [&str; 26] = [
    "py", "R", "Rmd", "m", "jl", "c", "h", "cpp", "hpp", "cc", "cxx", "hxx", "java", "js", "ts",
    "scala", "go", "rs", "sh", "config", "cfg", "json", "yaml", "yml", "toml", "ini",
];
const TABLES: [&str; 14] = [
    "csv", "tsv", "psv", "json", "jsonl", "html", "xml", "yaml", "yml", "toml", "arff", "tex",
    "svm", "libsvm",
];
const IGNORED_FOLDERS: [&str; 9] = [
    "venv",
    ".venv",
    ".env",
    "wandb",
    ".egg-info",
    ".git",
    ".github",
    "__pycache__",
    "node_modules",
];

/// What a category sees of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View<'s> {
    /// The category.
    pub category: Category,
    /// Its files, by path.
    pub files: Vec<&'s FileEntry>,
    /// Whether `reproduce.sh` is shown.
    pub script: bool,
    /// Whether `reproduce.log` is shown.
    pub log: bool,
    /// For Result Analysis: whether any file it sees is as new as the reproduction. Where none is,
    /// its leaves are 0 by rule.
    pub touched: bool,
}

// === impl View ===

impl<'s> View<'s> {
    /// The view of `category`. `max_depth` leaves out files below so many folders; `code_only`
    /// shows neither script nor log.
    pub fn new(
        snapshot: &'s Snapshot,
        category: Category,
        max_depth: Option<usize>,
        code_only: bool,
    ) -> View<'s> {
        let touched =
            |file: &FileEntry| snapshot.reproduction_ms.is_some_and(|start| file.mtime_ms >= start);
        let files: Vec<&FileEntry> = snapshot
            .files
            .iter()
            .filter(|file| !is_ignored(&file.path, max_depth))
            .filter(|file| file.path != REPRODUCE_LOG && file.path != REPRODUCTION_TIME)
            .filter(|file| {
                let (_, name) = split(&file.path);
                let suffix = suffix(name);
                let is = |list: &[&str]| suffix.is_some_and(|suffix| list.contains(&suffix));
                match category {
                    Category::CodeDevelopment | Category::CodeExecution => is(&DOCS) || is(&CODE),
                    Category::ResultAnalysis => is(&DOCS) || (is(&TABLES) && touched(file)),
                    Category::Subtree => is(&DOCS) || is(&CODE) || (is(&TABLES) && touched(file)),
                }
            })
            .collect();
        View {
            category,
            touched: files.iter().any(|file| touched(file)),
            files,
            script: !code_only,
            log: !code_only && category != Category::CodeDevelopment,
        }
    }

    /// The files as a directory tree in text, one entry a line.
    pub fn tree(&self) -> String {
        let mut lines = Vec::new();
        let paths: Vec<Vec<&str>> =
            self.files.iter().map(|file| file.path.split('/').collect()).collect();
        draw(&paths, 0, "", &mut lines);
        lines.join("\n")
    }
}

/// Draws the entries of one folder: `paths` share their first `depth` components.
fn draw(paths: &[Vec<&str>], depth: usize, indent: &str, lines: &mut Vec<String>) {
    let mut rest = paths;
    while let Some(name) = rest.first().map(|path| path[depth]) {
        let same = rest.iter().take_while(|path| path[depth] == name).count();
        let (group, after) = rest.split_at(same);
        let (connector, extension) =
            if after.is_empty() { ("└── ", "    ") } else { ("├── ", "│   ") };
        lines.push(format!("{indent}{connector}{}", printable(name)));
        let below: Vec<Vec<&str>> =
            group.iter().filter(|path| path.len() > depth + 1).cloned().collect();
        draw(&below, depth + 1, &format!("{indent}{extension}"), lines);
        rest = after;
    }
}

/// The name with control characters, line breaks among them, made visible: a file's name must not
/// draw lines of its own.
pub(crate) fn printable(name: &str) -> String {
    name.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The part behind the last dot, as Python's `PurePath.suffix` has it: a leading dot begins a name
/// and a dot at the end begins nothing.
fn suffix(name: &str) -> Option<&str> {
    let (stem, suffix) = name.rsplit_once('.')?;
    (!stem.trim_start_matches('.').is_empty() && !suffix.is_empty()).then_some(suffix)
}

fn is_ignored(path: &str, max_depth: Option<usize>) -> bool {
    let (folders, _) = split(path);
    let folders = folders.split('/').filter(|folder| !folder.is_empty());
    let too_deep = max_depth.is_some_and(|max| folders.clone().count() > max);
    let ignored = |folder: &str| IGNORED_FOLDERS.iter().any(|ignored| folder.contains(ignored));
    too_deep || folders.into_iter().any(ignored)
}
