//! The judge's ranking of files.
//!
//! Owns reading the paths out of one reply, in its order. Which of them exist is not known here, nor
//! whether what exists is enough.

use serde_json::Value;
use tribunal_core::ReplyForm;

use super::{BadReply, json, without_reasoning};

/// The paths that the reply `content` names, each once, the most relevant first.
///
/// # Errors
///
/// The reply names none, or cannot be read in `form`.
pub fn ranking(content: &str, form: ReplyForm) -> Result<Vec<String>, BadReply> {
    let content = without_reasoning(content).trim();
    if content.is_empty() {
        return Err(BadReply("it is empty".to_owned()));
    }
    let named = match form {
        ReplyForm::JsonSchema | ReplyForm::JsonObject => listed(content)?,
        ReplyForm::Text => lines(content),
    };
    let mut paths: Vec<String> = Vec::new();
    for path in named {
        let path = path.trim().to_owned();
        if !path.is_empty() && !paths.contains(&path) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(BadReply("it names no file".to_owned()));
    }
    Ok(paths)
}

fn listed(content: &str) -> Result<Vec<String>, BadReply> {
    let object = json::object(content)?;
    let files = object.get("files").and_then(Value::as_array);
    let files = files.ok_or_else(|| BadReply("it has no list `files`".to_owned()))?;
    let path = |file: &Value| match file {
        Value::String(path) => Ok(path.clone()),
        _ => Err(BadReply("its `files` holds something that is no path".to_owned())),
    };
    files.iter().map(path).collect()
}

/// One path a line, as lists in prose are written.
fn lines(content: &str) -> Vec<String> {
    let path = |line: &str| {
        let line = line.trim();
        let marked = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let numbered = marked.len() < line.len();
        let rest = marked.strip_prefix(". ").or(marked.strip_prefix(") ")).filter(|_| numbered);
        let line = rest.unwrap_or(line);
        let line =
            ["- ", "* ", "• "].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line);
        line.trim().trim_matches(['`', '"', '*']).to_owned()
    };
    content.lines().filter(|line| !line.trim_start().starts_with("```")).map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_in_order_and_once() {
        let json = |content| ranking(content, ReplyForm::JsonObject).map_err(|error| error.0);
        let text = |content| ranking(content, ReplyForm::Text).map_err(|error| error.0);
        let both = Ok(vec!["b.py".to_owned(), "a b/c.py".to_owned()]);
        assert_eq!(json(r#"{"files": ["b.py", " a b/c.py", "b.py", ""]}"#), both);
        assert_eq!(json("```json\n{\"files\": [\"b.py\", \"a b/c.py\"]}\n```"), both);
        assert_eq!(text("b.py\na b/c.py\n"), both);
        assert_eq!(text("<think>a.py?</think>\n1. `b.py`\n2) a b/c.py\n\n"), both);
        assert_eq!(text("```\n- b.py\n* a b/c.py\n```"), both);
        assert_eq!(text("10.py\n-x.py"), Ok(vec!["10.py".to_owned(), "-x.py".to_owned()]));
        for bad in
            [r#"{"score": 1}"#, r#"{"files": []}"#, r#"{"files": [1]}"#, "", "b.py", r#"["b.py"]"#]
        {
            assert!(json(bad).is_err(), "{bad}");
        }
        assert!(text(" \n```\n```").is_err());
    }
}
