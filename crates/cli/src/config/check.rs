//! Checking one configuration file on its own: over the defaults, without the other layers.
//!
//! Owns the order of the findings. It reports; it does not print.

use std::path::Path;

use super::{
    Config, ConfigError, Problem,
    document::{CheckedProblem, ConfigCheck},
    raw::{self, RawConfig, Source},
};

/// Everything that is wrong in the file.
///
/// # Errors
///
/// The file cannot be read as text.
pub(crate) fn check(path: &Path) -> Result<ConfigCheck, ConfigError> {
    let text = raw::read(path)?;
    let mut raw = RawConfig::defaults();
    let mut problems = Vec::new();
    raw.apply_file(path, &text, &mut problems);
    let mut problems = match Config::resolve(raw, problems) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Invalid(problems)) => problems,
        Err(error) => return Err(error),
    };
    problems.sort_by_key(Problem::line);
    Ok(ConfigCheck {
        file: path.display().to_string(),
        valid: problems.is_empty(),
        problems: problems.into_iter().map(|problem| checked(path, problem)).collect(),
    })
}

/// The findings as text, a line each.
pub(crate) fn render(document: &ConfigCheck) -> String {
    if document.valid {
        return format!("{}: ok\n", document.file);
    }
    let lines: Vec<String> = document
        .problems
        .iter()
        .map(|problem| {
            let key = match problem.key.as_str() {
                "" => String::new(),
                key => format!("{key}: "),
            };
            let CheckedProblem { file, line, message, .. } = problem;
            format!("{file}:{line}: {key}{message}\n")
        })
        .collect();
    lines.concat()
}

fn checked(path: &Path, problem: Problem) -> CheckedProblem {
    let (file, line) = match &problem.source {
        Source::File { path, line } => (path.as_path(), *line),
        // A value that only a default could have made wrong; the whole file bears it.
        _ => (path, 1),
    };
    CheckedProblem {
        file: file.display().to_string(),
        line,
        key: problem.key,
        message: problem.message,
    }
}
