//! Questions for files, and their answers.
//!
//! Owns how such a question is told from one for a verdict, and which names of the tree answer it.
//! The words on the wire are the worker's: `"files"` or `paths, one a line` behind the last criterion,
//! and names in a `<tree>` whose branches are drawn with box characters.

use std::collections::BTreeSet;

use crate::{question::fold, verdict::terms::for_each_term};

/// Files that are named where the question does not say how many.
const MOST: usize = 10;

/// A question for files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RankQuestion {
    /// The criteria that the files are for.
    pub(crate) criteria: Vec<String>,
    /// How many are named at most.
    pub(crate) max_files: usize,
}

// === impl RankQuestion ===

impl RankQuestion {
    /// The question for files that `text` ends with, if it does.
    pub(crate) fn find(text: &str) -> Option<RankQuestion> {
        let end = text.rfind("</criterion")?;
        let asked = &text[end..];
        if !asked.contains("\"files\"") && !asked.contains("paths, one a line") {
            return None;
        }
        let number = asked.split_once("up to ").and_then(|(_, rest)| {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        });
        let criteria = text.split("<criterion ").skip(1).filter_map(|part| {
            let (_, inner) = part.split_once('>')?;
            Some(fold(inner.split("</criterion").next()?))
        });
        Some(RankQuestion { criteria: criteria.collect(), max_files: number.unwrap_or(MOST) })
    }

    /// The names that share most words with the criteria, ties in the order of the tree.
    pub(crate) fn answer(&self, paths: &[&str]) -> Vec<String> {
        let mut asked: BTreeSet<String> = BTreeSet::new();
        for criterion in &self.criteria {
            for_each_term(criterion, |term| {
                asked.insert(term.to_owned());
            });
        }
        let shared = |path: &str| {
            let mut count = 0_usize;
            for_each_term(path, |term| count += usize::from(asked.contains(term)));
            count
        };
        let mut ranked: Vec<(usize, &str)> =
            paths.iter().map(|path| (shared(path), *path)).collect();
        ranked.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        ranked.into_iter().take(self.max_files).map(|(_, path)| path.to_owned()).collect()
    }
}

/// The files of the directory trees in `text`, by their paths.
pub(crate) fn tree_paths(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for part in text.split("<tree").skip(1) {
        let Some(body) = part.split_once('>').and_then(|(_, rest)| rest.split("</tree").next())
        else {
            continue;
        };
        let entries: Vec<(usize, &str)> = body.lines().filter_map(entry).collect();
        let mut above: Vec<&str> = Vec::new();
        for (at, (depth, name)) in entries.iter().enumerate() {
            above.truncate(*depth);
            let is_folder = entries.get(at + 1).is_some_and(|(next, _)| next > depth);
            above.push(name);
            if !is_folder {
                paths.push(above.join("/"));
            }
        }
    }
    paths
}

/// A line of a tree: how deep its entry lies, and its name.
fn entry(line: &str) -> Option<(usize, &str)> {
    let at = line.find("├── ").or_else(|| line.find("└── "))?;
    let name = &line[at + "├── ".len()..];
    Some((line[..at].chars().count() / 4, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "Files:\n\n<tree nonce=\"5f\">\n├── README.md\n├── src\n│   ├── train loss.py\n│   \
                        └── nets\n│       └── encoder.py\n└── zeta.py\n</tree nonce=\"5f\">\n";

    #[test]
    fn names_of_the_tree_are_paths() {
        let paths = ["README.md", "src/train loss.py", "src/nets/encoder.py", "zeta.py"];
        assert_eq!(tree_paths(TREE), paths);
        assert_eq!(tree_paths("no tree"), Vec::<String>::new());
    }

    #[test]
    fn a_question_for_files_is_told_from_one_for_a_verdict() {
        let two = "<criterion category=\"a\">\nThe encoder  works.\n</criterion>\n<criterion \
                   category=\"a\">\nThe loss falls.\n</criterion>\nName up to 2 of them. Answer with \
                   `{\"files\": []}`.";
        let question = RankQuestion::find(two).expect("a question");
        assert_eq!(question.criteria, ["The encoder works.", "The loss falls."]);
        let paths = tree_paths(TREE);
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        assert_eq!(question.answer(&paths), ["src/train loss.py", "src/nets/encoder.py"]);
        let verdict =
            "<criterion category=\"a\">\nIt has \"files\".\n</criterion>\nAnswer in JSON.";
        assert_eq!(RankQuestion::find(verdict), None);
        let prose =
            "<criterion category=\"a\">\nx\n</criterion>\nAnswer with the paths, one a line";
        assert_eq!(RankQuestion::find(prose).map(|q| q.max_files), Some(10));
    }
}
