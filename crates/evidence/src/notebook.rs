//! Jupyter notebooks as text.
//!
//! Owns what is shown of a notebook (nbformat 3 and 4): the source of its cells, and what they put
//! out as text, bounded. Images and other data are named, not shown. A notebook that breaks off,
//! because only its beginning was read, is shown up to there.

mod json;

use serde_json::{Map, Value};

use crate::log::strip_escapes;

/// Characters of a cell's outputs that are shown unless a profile says otherwise.
pub const OUTPUT_CHARS: usize = 2_000;

/// Kinds of output that are shown as text, the best first.
const TEXT_TYPES: [&str; 6] = [
    "text/plain",
    "text/markdown",
    "text/latex",
    "application/json",
    "text/html",
    "application/javascript",
];

/// Kinds of output in the keys of nbformat 3.
const OLD_TYPES: [(&str, &str); 7] = [
    ("text", "text/plain"),
    ("latex", "text/latex"),
    ("html", "text/html"),
    ("png", "image/png"),
    ("jpeg", "image/jpeg"),
    ("svg", "image/svg+xml"),
    ("pdf", "application/pdf"),
];

/// The notebook as text, each cell with at most `output_chars` characters of outputs. `None` where
/// the text is not a notebook.
pub fn render(notebook: &str, output_chars: usize) -> Option<String> {
    let (value, whole) = json::parse(notebook)?;
    let cells = cells(&value)?;
    let mut text = String::new();
    let language = value["metadata"]["kernelspec"]["language"]
        .as_str()
        .or_else(|| value["metadata"]["language_info"]["name"].as_str());
    let language = language.map_or(String::new(), |language| format!(", {}", one_line(language)));
    text.push_str(&format!("[notebook: {} cells{language}]\n", cells.len()));
    for (index, cell) in cells.iter().enumerate() {
        self::cell(index + 1, cell, output_chars, &mut text);
    }
    if !whole {
        text.push_str("[… the notebook breaks off here …]\n");
    }
    Some(text)
}

/// The cells, which nbformat 3 keeps in worksheets.
fn cells(notebook: &Value) -> Option<Vec<&Map<String, Value>>> {
    let lists: Vec<&Vec<Value>> = match (&notebook["cells"], &notebook["worksheets"]) {
        (Value::Array(cells), _) => vec![cells],
        (_, Value::Array(sheets)) => {
            sheets.iter().filter_map(|sheet| sheet["cells"].as_array()).collect()
        }
        _ => return None,
    };
    Some(lists.into_iter().flatten().filter_map(Value::as_object).collect())
}

fn cell(number: usize, cell: &Map<String, Value>, output_chars: usize, text: &mut String) {
    let kind = cell.get("cell_type").and_then(Value::as_str).unwrap_or("cell");
    text.push_str(&format!("\n[{} cell {number}]\n", one_line(kind)));
    let source = cell.get("source").or_else(|| cell.get("input"));
    line(&source.map(joined).unwrap_or_default(), text);
    let outputs = cell.get("outputs").and_then(Value::as_array);
    let Some(outputs) = outputs.filter(|outputs| !outputs.is_empty()) else { return };
    let mut shown = String::new();
    let mut left_out = Vec::new();
    for output in outputs.iter().filter_map(Value::as_object) {
        self::output(output, &mut shown, &mut left_out);
    }
    if !shown.is_empty() {
        text.push_str(&format!("[output of cell {number}]\n"));
        line(&bounded(&shown, output_chars), text);
    }
    if !left_out.is_empty() {
        left_out.dedup();
        left_out.truncate(8);
        text.push_str(&format!("[output of cell {number} left out: {}]\n", left_out.join(", ")));
    }
}

/// Appends what the output says as text, or names what it is instead.
fn output(output: &Map<String, Value>, text: &mut String, left_out: &mut Vec<String>) {
    let kind = output.get("output_type").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "stream" => line(&plain(&joined(output.get("text").unwrap_or(&Value::Null))), text),
        "error" | "pyerr" => {
            let trace = output.get("traceback").map(|trace| match trace {
                Value::Array(lines) => lines.iter().map(joined).collect::<Vec<_>>().join("\n"),
                other => joined(other),
            });
            let field = |key: &str| joined(output.get(key).unwrap_or(&Value::Null));
            let trace = trace
                .filter(|trace| !trace.trim().is_empty())
                .unwrap_or_else(|| format!("{}: {}", field("ename"), field("evalue")));
            line(&plain(&trace), text);
        }
        _ => {
            let old: Map<String, Value>;
            let data = match output.get("data").and_then(Value::as_object) {
                Some(data) => data,
                None => {
                    let named = |(key, kind): &(&str, &str)| {
                        Some(((*kind).to_owned(), output.get(*key)?.clone()))
                    };
                    old = OLD_TYPES.iter().filter_map(named).collect();
                    &old
                }
            };
            let best = TEXT_TYPES.iter().find_map(|kind| data.get(*kind));
            if let Some(best) = best {
                line(&plain(&joined(best)), text);
            }
            let is_data = |kind: &&String| !TEXT_TYPES.contains(&kind.as_str());
            left_out.extend(data.keys().filter(is_data).map(|kind| one_line(kind)));
        }
    }
}

/// A text that is one string, or a list of its lines.
fn joined(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The text without terminal escapes; of the updates of a line the last.
fn plain(text: &str) -> String {
    let mut stripped = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let line = line.trim_end_matches(['\r', '\n']);
        let last = line.rsplit('\r').find(|update| !update.is_empty()).unwrap_or_default();
        strip_escapes(last, &mut stripped);
        stripped.push('\n');
    }
    stripped
}

/// At most `max` characters, the beginning and the end, with a mark between them.
fn bounded(text: &str, max: usize) -> String {
    let count = text.chars().count();
    if count <= max {
        return text.to_owned();
    }
    let start = max / 3 * 2;
    let at = |chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    let (start, end) = (at(start), at(count - (max - start)));
    let left_out = text[start..end].chars().count();
    let mark = format!("\n[… {left_out} characters of output left out …]\n");
    format!("{}{mark}{}", &text[..start], &text[end..])
}

/// Appends the text, ended by a line break.
fn line(text: &str, into: &mut String) {
    into.push_str(text);
    if !text.is_empty() && !text.ends_with('\n') {
        into.push('\n');
    }
}

/// A name that must not draw lines of its own.
fn one_line(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTEBOOK: &str = r##"{
      "cells": [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "execution_count": 1, "source": "x = 1\nprint(x)", "outputs": [
          {"output_type": "stream", "name": "stdout", "text": ["10%\r100%\n", "\u001b[31m1\u001b[0m\n"]},
          {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo=", "text/plain": ["<Figure>"]}},
          {"output_type": "execute_result", "data": {"text/html": "<b>2</b>"}},
          {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\u001b[0;31mE\u001b[0m: v", "at 1"]}
        ]},
        {"cell_type": "code", "source": [], "outputs": []}
      ],
      "metadata": {"kernelspec": {"language": "python"}}, "nbformat": 4
    }"##;

    #[test]
    fn cells_and_outputs_are_text() {
        let text = render(NOTEBOOK, 1_000).expect("a notebook");
        let expected = "[notebook: 3 cells, python]\n\n[markdown cell 1]\n# Title\ntext\n\n\
            [code cell 2]\nx = 1\nprint(x)\n[output of cell 2]\n100%\n1\n<Figure>\n<b>2</b>\nE: v\nat 1\n\
            [output of cell 2 left out: image/png]\n\n[code cell 3]\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn outputs_are_bounded() {
        let long = "ä".repeat(5_000);
        let notebook = format!(
            r#"{{"cells": [{{"cell_type": "code", "source": "f()", "outputs":
                [{{"output_type": "stream", "text": "{long}"}}, {{"output_type": "stream", "text": "end"}}]}}]}}"#
        );
        let text = render(&notebook, 300).expect("a notebook");
        assert!(text.contains("[… 4705 characters of output left out …]"), "{text}");
        assert!(text.contains("end\n") && text.chars().count() < 500, "{text}");
    }

    #[test]
    fn a_notebook_that_breaks_off_is_shown_up_to_there() {
        let at = NOTEBOOK.find("iVBOR").expect("the image");
        let text = render(&NOTEBOOK[..at + 4], 1_000).expect("a notebook");
        assert!(text.contains("print(x)") && text.contains("100%\n1\n"), "{text}");
        assert!(text.ends_with("[… the notebook breaks off here …]\n"), "{text}");
    }

    #[test]
    fn old_notebooks() {
        let text = r#"{"worksheets": [{"cells": [{"cell_type": "code", "input": ["y"],
            "outputs": [{"output_type": "pyout", "text": "3", "png": "x"}]}]}], "nbformat": 3}"#;
        let text = render(text, 100).expect("a notebook");
        assert!(text.contains("y\n[output of cell 1]\n3\n"), "{text}");
        assert!(text.contains("left out: image/png"), "{text}");
    }

    #[test]
    fn what_is_no_notebook_is_none() {
        for text in ["", "x", "[]", "{}", "{\"cells\": 3}", "\"cells\""] {
            assert_eq!(render(text, 10), None, "{text}");
        }
    }
}
