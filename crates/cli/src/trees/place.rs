//! What the place of a graded file says of its tree.
//!
//! Owns names of files and folders as labels, and which file of a folder is the tree.

use std::path::{Path, PathBuf};

use tribunal_collector::results::Labels;

use super::GRADED;
use crate::batch::document::BATCH_FILE;

/// What a file or folder is called, without the ending of a file of ours or of an archive.
pub(super) fn stem(path: &Path) -> String {
    let named = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let endings = [".json", ".tar.gz", ".tar.zst", ".tar", ".zip"];
        let stem = endings.iter().find_map(|ending| name.strip_suffix(ending));
        stem.unwrap_or(&name).to_owned()
    };
    let name = named(path);
    if matches!(name.as_str(), "scored_tree" | "grader_output" | "grade" | "submission") {
        path.parent().map(named).filter(|above| !above.is_empty()).unwrap_or(name)
    } else {
        name
    }
}

/// Labels from a file's place below a folder: `<agent>`, `<paper>/<agent>` or
/// `<paper>/<agent>/<seed>`, the file being the last of them or standing in it.
pub(super) fn labels_of(place: &Path) -> Labels {
    let mut names: Vec<String> =
        place.parent().into_iter().flat_map(Path::components).map(|c| stem(c.as_ref())).collect();
    let file = stem(place);
    if names.last() != Some(&file) {
        names.push(file);
    }
    let mut names = names.into_iter();
    let (first, second, third) = (names.next(), names.next(), names.next());
    let (paper, agent) = match second {
        Some(second) => (first.unwrap_or_default(), second),
        None => (String::new(), first.unwrap_or_default()),
    };
    Labels { paper, agent, seed: third.unwrap_or_default(), ..Labels::default() }
}

/// Whether this file is the one of its folder that tells most of a tree, and is none of ours that
/// is no tree.
pub(super) fn is_best(file: &Path, files: &[PathBuf]) -> bool {
    let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
    let own = name(file).unwrap_or_default();
    if own == "run.json" || own == BATCH_FILE {
        return false;
    }
    let beside = |wanted: &str| {
        let is_it = |other: &&PathBuf| {
            other.parent() == file.parent() && name(other).as_deref() == Some(wanted)
        };
        files.iter().any(|other| is_it(&other))
    };
    match GRADED[..2].iter().find(|wanted| beside(wanted)) {
        Some(best) => own == **best,
        None => true,
    }
}
