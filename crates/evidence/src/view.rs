//! Which files of a submission a category sees.
//!
//! Owns what a category is shown of each kind of file; which files are of a kind is the profile's
//! business. A folder's name counts only below the submission's root. How many of the files fit the
//! judge's context is not decided here.

use tribunal_core::Category;

use crate::{
    profile::Profile,
    snapshot::{FileEntry, OmittedReason, REPRODUCE_LOG, REPRODUCTION_TIME, Snapshot},
};

/// What a category sees of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View<'s> {
    /// The category.
    pub category: Category,
    /// The profile that chose the files.
    pub profile: &'s Profile,
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
        profile: &'s Profile,
    ) -> View<'s> {
        let touched =
            |file: &FileEntry| snapshot.reproduction_ms.is_some_and(|start| file.mtime_ms >= start);
        let foreign = |file: &FileEntry| {
            matches!(file.omitted, Some(OmittedReason::Outside | OmittedReason::Housekeeping))
        };
        let files: Vec<&FileEntry> = snapshot
            .files
            .iter()
            .filter(|file| !foreign(file) && !is_ignored(profile, &file.path, max_depth))
            .filter(|file| file.path != REPRODUCE_LOG && file.path != REPRODUCTION_TIME)
            .filter(|file| {
                let (_, name) = split(&file.path);
                let table = || profile.is_table(name) && touched(file);
                match category {
                    Category::CodeDevelopment | Category::CodeExecution => {
                        profile.is_doc(name) || profile.is_code(name)
                    }
                    Category::ResultAnalysis => profile.is_doc(name) || table(),
                    Category::Subtree => profile.is_doc(name) || profile.is_code(name) || table(),
                }
            })
            .collect();
        View {
            category,
            profile,
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

fn is_ignored(profile: &Profile, path: &str, max_depth: Option<usize>) -> bool {
    let (folders, _) = split(path);
    let folders = folders.split('/').filter(|folder| !folder.is_empty());
    let too_deep = max_depth.is_some_and(|max| folders.clone().count() > max);
    too_deep || folders.into_iter().any(|folder| profile.ignores(folder))
}
