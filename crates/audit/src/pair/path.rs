//! Files paired by their relative paths.
//!
//! Owns the rule: the same relative path; else, where file names differ as PaperBench's do
//! (`rice/grader_output.json` beside `rice/expected_result.json`), the same folder or the same
//! folder and stem. A file alone on either side is paired with the other one.

use std::collections::BTreeMap;

use super::PairError;

/// A file by what the user called it and by its path below the folder that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// As the user can find it.
    pub shown: String,
    /// Below the named folder, with `/`; the file's name where the file itself was named.
    pub relative: String,
}

/// File names that say what a file is, and not of what.
const GENERIC: [&str; 8] = [
    "scored_tree",
    "grader_output",
    "expected_result",
    "grading",
    "graded",
    "result",
    "results",
    "0",
];

/// What a submission is called: the relative path without names that say nothing.
pub fn submission_name(relative: &str) -> String {
    let stem = relative.strip_suffix(".json").unwrap_or(relative);
    let parts: Vec<&str> = stem.split('/').filter(|part| !part.is_empty()).collect();
    let kept: Vec<&str> = parts.iter().copied().filter(|part| !GENERIC.contains(part)).collect();
    if kept.is_empty() { stem.to_owned() } else { kept.join("/") }
}

/// The partners of each of `files` among `others`, as indices.
///
/// # Errors
///
/// [`PairError::Files`] where a file's name fits several others, or one of `others` fits none.
/// A file without partner has none: it has no label.
pub fn partners(files: &[Named], others: &[Named]) -> Result<Vec<Option<usize>>, PairError> {
    if let ([_], [_]) = (files, others) {
        return Ok(vec![Some(0)]);
    }
    let mut found: Vec<Option<usize>> = vec![None; files.len()];
    let mut taken = vec![false; others.len()];
    for key in
        [|named: &Named| named.relative.clone(), |named: &Named| submission_name(&named.relative)]
    {
        let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, other) in others.iter().enumerate().filter(|(at, _)| !taken[*at]) {
            by_key.entry(key(other)).or_default().push(at);
        }
        let mut matched = Vec::new();
        for (at, file) in files.iter().enumerate().filter(|(at, _)| found[*at].is_none()) {
            match by_key.get(&key(file)).map(Vec::as_slice) {
                Some([other]) => matched.push((at, *other)),
                Some(several) => {
                    let names: Vec<&str> =
                        several.iter().map(|other| others[*other].shown.as_str()).collect();
                    return Err(PairError::Files(format!(
                        "{} fits several files: {}; say which with --pair",
                        file.shown,
                        names.join(", ")
                    )));
                }
                None => {}
            }
        }
        for (at, other) in matched {
            if taken[other] {
                return Err(PairError::Files(format!(
                    "{} is the partner of several files, {} among them; say which with --pair",
                    others[other].shown, files[at].shown
                )));
            }
            found[at] = Some(other);
            taken[other] = true;
        }
    }
    let left: Vec<&str> = others
        .iter()
        .zip(&taken)
        .filter(|(_, taken)| !**taken)
        .map(|(other, _)| other.shown.as_str())
        .collect();
    if left.is_empty() {
        return Ok(found);
    }
    let known: Vec<&str> = files.iter().map(|file| file.relative.as_str()).collect();
    Err(PairError::Files(format!(
        "no partner by relative path for {}; there are {}. Name the pairs with --pair",
        left.join(", "),
        known.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(paths: &[&str]) -> Vec<Named> {
        let one = |path: &&str| Named { shown: format!("x/{path}"), relative: (*path).to_owned() };
        paths.iter().map(one).collect()
    }

    fn pairs(files: &[&str], others: &[&str]) -> Result<Vec<Option<usize>>, String> {
        partners(&named(files), &named(others)).map_err(|error| error.to_string())
    }

    #[test]
    fn files_find_their_partners() {
        assert_eq!(pairs(&["a.json"], &["b.json"]), Ok(vec![Some(0)]));
        assert_eq!(
            pairs(&["p/g.json", "q/g.json"], &["q/g.json", "p/g.json"]),
            Ok(vec![Some(1), Some(0)])
        );
        assert_eq!(
            pairs(
                &["rice/grader_output.json", "pinn/scored_tree.json", "new.json"],
                &["pinn/0/grading/expected_result.json", "rice/0/grading/expected_result.json"],
            ),
            Ok(vec![Some(1), Some(0), None])
        );
        assert_eq!(
            pairs(&["rice.json", "pinn.json"], &["rice/expected_result.json"]),
            Ok(vec![Some(0), None])
        );
    }

    #[test]
    fn what_fits_nothing_or_several_says_so() {
        let none = pairs(&["a.json", "b.json"], &["c.json"]).expect_err("no partner");
        assert!(none.contains("x/c.json") && none.contains("--pair"), "{none}");
        let several = pairs(
            &["a/grader_output.json", "b.json"],
            &["a/expected_result.json", "a/graded.json", "b.json"],
        )
        .expect_err("two of them");
        assert!(several.contains("a/graded.json"), "{several}");
    }
}
