//! The templates of a set and the variables that each is given.
//!
//! Owns the lists alone; the values are `Prompts`'s. The line between what leaves share and what is
//! a leaf's own runs between two lists of templates, so no template can cross it.

/// The templates that all leaves of a category share, in the order of the prompt. The prompt's
/// cached prefix ends with the last of them.
pub const SHARED_TEMPLATES: [&str; 3] = ["system.md", "paper.md", "evidence.md"];

/// The templates behind that line: the leaf's own message, the question for files, the question
/// after an answer that cannot be used.
pub const OWN_TEMPLATES: [&str; 3] = ["criterion.md", "rank.md", "repair.md"];

/// All templates of a set.
pub const TEMPLATES: [&str; 6] =
    ["system.md", "paper.md", "evidence.md", "criterion.md", "rank.md", "repair.md"];

/// Variables of the templates before the line.
pub const SHARED: [&str; 12] = [
    "paper",
    "addendum",
    "judge_addendum",
    "category",
    "shows_script",
    "script",
    "shows_log",
    "log",
    "tree",
    "files",
    "fits",
    "nonce",
];

/// Variables of `criterion.md`.
pub const CRITERION: [&str; 10] = [
    "prior",
    "category",
    "requirements",
    "subtree",
    "question",
    "reply_form",
    "reply",
    "scale",
    "files",
    "nonce",
];

/// Variables of `rank.md`.
pub const RANK: [&str; 7] =
    ["prior", "category", "criteria", "tree", "max_files", "reply_form", "nonce"];

/// Variables of `repair.md`.
pub const REPAIR: [&str; 4] = ["problem", "category", "scale", "ranking"];

/// Whether the template stands before the line.
pub fn is_shared(template: &str) -> bool {
    SHARED_TEMPLATES.contains(&template)
}

/// The variables that the template is given.
pub fn of(template: &str) -> &'static [&'static str] {
    match template {
        "criterion.md" => &CRITERION,
        "rank.md" => &RANK,
        "repair.md" => &REPAIR,
        _ => &SHARED,
    }
}

/// Whether the variable is given to templates behind the line alone.
pub fn is_own(variable: &str) -> bool {
    let own = OWN_TEMPLATES.iter().any(|template| of(template).contains(&variable));
    own && !SHARED.contains(&variable)
}
