//! What is said of one leaf: verdict, reasons, quotes in their source, votes, calls, what was shown.
//!
//! Owns the part of a page that a reader opens leaf by leaf. It is the same text in a file and from
//! the server.

use serde::Serialize;
use tribunal_core::verdict::Quote;

use crate::{
    model::{Exhibit, Leaf, Source},
    page::{PageError, fragment},
};

/// Lines of a source around a quote.
const AROUND: usize = 3;

/// Lines of a source shown for one quote, at most.
const MOST_LINES: usize = 60;

#[derive(Serialize)]
struct Body<'l> {
    leaf: &'l Leaf,
    agreement: Option<f64>,
    quotes: Vec<Quoted<'l>>,
    /// Whether the exhibit is on another part of the page, and only named here.
    named: bool,
}

#[derive(Serialize)]
struct Quoted<'l> {
    quote: &'l Quote,
    excerpt: Option<Excerpt<'l>>,
}

/// Lines of the source around a quote.
#[derive(Debug, PartialEq, Serialize)]
struct Excerpt<'l> {
    /// Whether the numbers are those of the file.
    numbered: bool,
    lines: Vec<Line<'l>>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Line<'l> {
    number: usize,
    text: &'l str,
    /// Whether it belongs to the quote.
    quoted: bool,
}

/// The body of a leaf as HTML, every text in it escaped. With `named`, what the judge was shown is
/// only named: it stands elsewhere on the page under its key.
///
/// # Errors
///
/// The template fails.
pub fn leaf_body(leaf: &Leaf, named: bool) -> Result<String, PageError> {
    let exhibit = leaf.exhibit.as_ref();
    let quotes = leaf.quotes.iter();
    let quotes =
        quotes.map(|quote| Quoted { quote, excerpt: exhibit.and_then(|e| excerpt(quote, e)) });
    fragment(
        "leaf.html",
        Body { leaf, agreement: leaf.agreement(), quotes: quotes.collect(), named },
    )
}

/// The quote in the file as it was shown, where that is at hand and the quote stands in it.
fn excerpt<'l>(quote: &Quote, exhibit: &'l Exhibit) -> Option<Excerpt<'l>> {
    let shared = &exhibit.shared;
    let mut sources = shared.sources.iter().chain(&exhibit.chosen);
    let source = sources.find(|source| source.path == quote.file)?;
    let record = shared.files.iter().find(|file| file.path == quote.file);
    // Of a file that a selection cut into pieces, nobody knows which line of it this is.
    let numbered = record.is_none_or(|file| file.reason.as_deref() != Some("selection"));
    let (first, last) = place(quote, source)?;
    let all: Vec<&str> = source.text.lines().collect();
    let (from, to) = (first.saturating_sub(AROUND), (last + AROUND).min(all.len() - 1));
    let to = to.min(from + MOST_LINES);
    let line =
        |at: usize| Line { number: at + 1, text: all[at], quoted: (first..=last).contains(&at) };
    Some(Excerpt { numbered, lines: (from..=to).map(line).collect() })
}

/// First and last line of the quote, 0-based: where its text stands, white space aside; else where
/// the judge says that it stands, if it is checked.
fn place(quote: &Quote, source: &Source) -> Option<(usize, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let wanted: Vec<String> =
        quote.quote.lines().map(words).filter(|line| !line.is_empty()).collect();
    let first = wanted.first()?;
    for (at, line) in lines.iter().enumerate() {
        if !words(line).contains(first.as_str()) {
            continue;
        }
        let mut last = at;
        let rest = wanted[1..].iter().all(|want| {
            let mut next = (last + 1..lines.len()).skip_while(|i| lines[*i].trim().is_empty());
            let found = next.next().filter(|i| words(lines[*i]).contains(want.as_str()));
            found.inspect(|i| last = *i).is_some()
        });
        if rest {
            return Some((at, last));
        }
    }
    if quote.verified == Some(false) {
        return None;
    }
    let mut numbers =
        quote.lines.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    let from: usize = numbers.next()?;
    let to = numbers.next().unwrap_or(from);
    (1 <= from && from <= to && to <= lines.len()).then(|| (from - 1, to - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_found_in_its_source() {
        let text = "import x\n\ndef f(a):\n\n    return  a + 1\n\nprint(f(2))\n".to_owned();
        let source = Source { path: "a.py".into(), text };
        let quote = |text: &str, lines: &str, verified| Quote {
            file: "a.py".into(),
            lines: lines.into(),
            quote: text.into(),
            verified,
        };
        let place = |text: &str, lines: &str, verified| {
            super::place(&quote(text, lines, verified), &source)
        };
        assert_eq!(place("return a + 1", "", Some(true)), Some((4, 4)));
        assert_eq!(place("def f(a):\n  return a + 1", "", Some(true)), Some((2, 4)));
        assert_eq!(place("f(2)", "99", Some(true)), Some((6, 6)));
        assert_eq!(place("not there", "3-5", None), Some((2, 4)));
        assert_eq!(place("not there", "3-5", Some(false)), None);
        assert_eq!(place("not there", "3-99", None), None);
        assert_eq!(place("", "1", None), None);
    }
}
