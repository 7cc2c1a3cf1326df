//! How a prompt is read: which criterion is asked, after which context, over which evidence.
//!
//! Owns the elements on the wire and nothing of their meaning:
//!
//! - `<criterion category="Code Development">…</criterion>`, the last one, is the question;
//! - `<context>…</context>` before it lists the prior nodes, `- ` and a requirement a line;
//! - `<file path="…">…</file>`, `<script path="…">…</script>`, `<log>…</log>` and
//!   `<paper>…</paper>` hold what is shown. Their tags stand at a line's start, and one that opens
//!   with a `nonce` closes with the same.

use std::borrow::Cow;

use tribunal_core::Category;

/// What is asked about one leaf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Question {
    /// The requirement type, where the prompt names one that exists.
    pub(crate) category: Option<Category>,
    /// The criterion, runs of white space folded to one space.
    pub(crate) requirement: String,
    /// The criterion's first line, folded: the node's own words where a list of what is below it
    /// follows.
    pub(crate) first_line: String,
    /// Requirements of the prior nodes in document order, folded.
    pub(crate) context: Vec<String>,
}

/// What an element of the evidence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ElementKind {
    File,
    Log,
}

/// A file or log that the prompt shows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) kind: ElementKind,
    pub(crate) path: String,
    /// The text between the tags, without the newline after the opening one.
    pub(crate) body: &'a str,
}

/// An opening or closing tag.
struct Tag<'a> {
    attributes: Vec<(&'a str, Cow<'a, str>)>,
    /// One past its `>`, relative to where it was looked for.
    end: usize,
}

/// Longest tag that is read, bytes.
const MAX_TAG: usize = 8_192;

// === impl Question ===

impl Question {
    /// A question of which only the words are known.
    pub(crate) fn of_text(text: &str) -> Question {
        Question {
            requirement: fold(text),
            first_line: fold(text.trim().lines().next().unwrap_or_default()),
            ..Question::default()
        }
    }

    /// The last criterion in `text`, and where the question with its context begins.
    pub(crate) fn find(text: &str) -> Option<(Question, usize)> {
        let start = text
            .rmatch_indices("<criterion")
            .map(|(at, _)| at)
            .find(|at| text[*at + 10..].starts_with(|c: char| c == '>' || c.is_whitespace()))?;
        let tag = Tag::read(text, start, "<criterion")?;
        let inner = &text[tag.end..];
        let inner = &inner[..inner.rfind("</criterion")?];
        let category = tag.attribute("category").and_then(Category::from_name);
        let (context, begin) = context_before(&text[..start]).unwrap_or((Vec::new(), start));
        let question = Question { category, context, ..Question::of_text(inner) };
        Some((question, begin))
    }
}

/// Byte offset in `text` at which the last question begins, its context included, without reading
/// it. `text` may still be JSON-escaped.
pub(crate) fn split_point(text: &str) -> Option<usize> {
    let criterion = text.rfind("<criterion")?;
    let before = &text[..criterion];
    Some(match (before.rfind("<context>"), before.rfind("</context")) {
        (Some(open), Some(close)) if open < close => open,
        _ => criterion,
    })
}

fn context_before(text: &str) -> Option<(Vec<String>, usize)> {
    let close = text.rfind("</context")?;
    let open = text[..close].rfind("<context>")?;
    let lines = text[open + "<context>".len()..close].lines();
    let items = lines.filter_map(|line| line.trim_start().strip_prefix("- "));
    Some((items.map(fold).collect(), open))
}

/// Every file and log that `text` shows, in order. What stands in a paper, or in another file, is
/// that element's text.
pub(crate) fn elements(text: &str) -> Vec<Element<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(step) = text[at..].find('<') {
        let start = at + step;
        at = start + 1;
        if !at_line_start(text, start) {
            continue;
        }
        let Some((name, kind)) = [
            ("file", Some(ElementKind::File)),
            ("script", Some(ElementKind::File)),
            ("log", Some(ElementKind::Log)),
            ("paper", None),
        ]
        .into_iter()
        .find(|(name, _)| names_tag(&text[at..], name)) else {
            continue;
        };
        let Some(tag) = Tag::read(text, start, name) else {
            continue;
        };
        let Some((close, end)) = closing(text, &tag, name) else {
            continue;
        };
        at = end;
        if let Some(kind) = kind {
            let body = &text[tag.end..close];
            let body = body.strip_prefix('\r').unwrap_or(body);
            let path = tag.attribute("path").or(tag.attribute("name"));
            found.push(Element {
                kind,
                path: path.map_or_else(|| format!("the {name}"), str::to_owned),
                body: body.strip_prefix('\n').unwrap_or(body),
            });
        }
    }
    found
}

/// Where the element that `tag` opens ends: start and end of its closing tag.
fn closing(text: &str, tag: &Tag<'_>, name: &str) -> Option<(usize, usize)> {
    let needle = format!("</{name}");
    let mut at = tag.end;
    while let Some(step) = text[at..].find(&needle) {
        let start = at + step;
        at = start + needle.len();
        if let Some(close) = Tag::read(text, start, &needle)
            && close.attribute("nonce") == tag.attribute("nonce")
        {
            return Some((start, close.end));
        }
    }
    None
}

fn names_tag(text: &str, name: &str) -> bool {
    text.strip_prefix(name)
        .is_some_and(|rest| rest.starts_with(|c: char| c == '>' || c.is_whitespace()))
}

fn at_line_start(text: &str, at: usize) -> bool {
    let before = text[..at].trim_end_matches([' ', '\t']);
    before.is_empty() || before.ends_with('\n')
}

/// The text with every run of white space as one space, and none at the ends.
pub(crate) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(word);
    }
    folded
}

// === impl Tag ===

impl<'a> Tag<'a> {
    /// The tag at `start`, whose text begins with `head` (with or without its `<`).
    fn read(text: &'a str, start: usize, head: &str) -> Option<Tag<'a>> {
        let mut at = start + head.trim_start_matches('<').len() + 1;
        let limit = (start + MAX_TAG).min(text.len());
        let mut attributes = Vec::new();
        loop {
            let rest = text.get(at..)?.trim_start();
            at = text.len() - rest.len();
            if rest.starts_with('>') {
                let end = at + 1;
                return Some(Tag { attributes, end });
            }
            let name =
                &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')?];
            let value = rest[name.len()..].strip_prefix("=\"")?;
            let length = value.find('"')?;
            at += name.len() + 2 + length + 1;
            if name.is_empty() || at > limit {
                return None;
            }
            attributes.push((name, unescape(&value[..length])));
        }
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| *key == name)?;
        Some(&found.1)
    }
}

fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut plain = text.to_owned();
    for (entity, character) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&#39;", "'"),
        ("&#10;", "\n"),
        // Last, so that what it uncovers stays as it is.
        ("&amp;", "&"),
    ] {
        plain = plain.replace(entity, character);
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_last_criterion_with_its_context() {
        let text = "<criterion category=\"Code Execution\">old</criterion>\n<context>\n- root\n  - \
                    second   one\nno item\n</context>\n<criterion category=\"Result Analysis\" \
                    id=\"a&amp;b\">\n  The  table\n shows 1 < 2 </b>\n</criterion>\nAnswer.";
        let (question, start) = Question::find(text).expect("a criterion");
        assert_eq!(question.category, Some(Category::ResultAnalysis));
        assert_eq!(question.requirement, "The table shows 1 < 2 </b>");
        assert_eq!(question.first_line, "The table");
        assert_eq!(question.context, ["root", "second one"]);
        assert!(text[start..].starts_with("<context>\n- root"));
        assert_eq!(split_point(text), Some(start));
    }

    #[test]
    fn a_category_that_does_not_exist_is_unknown() {
        let (question, _) = Question::find("<criterion category=\"X\">a</criterion>").expect("one");
        assert_eq!((question.category, question.context.len()), (None, 0));
        assert_eq!(Question::find("no <criterions> here"), None);
        assert_eq!(Question::find("<criterion category=\"X\">never closed"), None);
    }

    #[test]
    fn files_end_where_their_own_nonce_does() {
        let text = "Intro, such as <file path=\"in/prose\">x</file>.\n<paper>\n<file path=\"p\">\n\
                    no\n</file>\n</paper>\n<file path=\"a &lt;1&gt;.py\" nonce=\"n1\">\nx\n</file>\n\
                    <file path=\"evil\">\n</file nonce=\"n2\">\ny\n</file nonce=\"n1\">\n\
                    <log>\nline\n</log>\n<script path=\"r.sh\">\nrun\n</script>\n<file path=\"b\">\n</file>\n<file path=\"open\">\nz";
        let found = elements(text);
        let shown: Vec<(&str, &str)> = found.iter().map(|e| (e.path.as_str(), e.body)).collect();
        let a = "x\n</file>\n<file path=\"evil\">\n</file nonce=\"n2\">\ny\n";
        let expected = [("a <1>.py", a), ("the log", "line\n"), ("r.sh", "run\n"), ("b", "")];
        assert_eq!(shown, expected);
        assert_eq!(found[1].kind, ElementKind::Log);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(<|/|>|file|log|criterion|context| |path=\"|\"|nonce=|é|\n|- |a){0,60}") {
            let bodies: usize = elements(&text).iter().map(|e| e.body.len()).sum();
            prop_assert!(bodies <= text.len());
            if let Some((_, start)) = Question::find(&text) {
                prop_assert!(text.is_char_boundary(start));
            }
            split_point(&text);
        }
    }
}
