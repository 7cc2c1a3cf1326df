//! Text for terminals: what it may hold and how numbers look in it.
//!
//! Owns shortening, number formats, and what is done with characters that a terminal would act on.
//! Rubrics, submissions and judges' replies come from others: no such character passes.

use std::io::{self, IsTerminal};

use comfy_table::Table;

/// How text for people may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextStyle {
    /// Lines and marks beyond ASCII.
    pub unicode: bool,
    /// Colours.
    pub colour: bool,
    /// Columns that a line may have.
    pub width: u16,
}

// === impl TextStyle ===

impl TextStyle {
    /// ASCII without colours, in 100 columns: for files and logs.
    pub const PLAIN: TextStyle = TextStyle { unicode: false, colour: false, width: 100 };

    /// What standard output can show: colours and its own width on a terminal only.
    pub fn of_stdout() -> TextStyle {
        let width = Table::new().width().unwrap_or(Self::PLAIN.width);
        TextStyle { unicode: true, colour: io::stdout().is_terminal(), width: width.max(60) }
    }

    /// `text` on one line without control characters, cut to `width` characters.
    pub(crate) fn shorten(self, text: &str, width: usize) -> String {
        let words = text.split(|c: char| c.is_whitespace() || is_acted_on(c));
        let mut line = String::new();
        for word in words.filter(|word| !word.is_empty()) {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
            // Enough to know that it must be cut, however long the text.
            if line.len() > width * 4 {
                break;
            }
        }
        if line.chars().count() <= width {
            return line;
        }
        let dots = if self.unicode { "…" } else { "..." };
        let keep = width.saturating_sub(dots.chars().count());
        let mut cut: String = line.chars().take(keep).collect();
        cut.truncate(cut.trim_end().len());
        cut.push_str(dots);
        cut
    }

    /// A score with four digits, or a dash where there is none.
    pub(crate) fn score(self, score: Option<f64>) -> String {
        match score {
            Some(score) => format!("{score:.4}"),
            None if self.unicode => "–".to_owned(),
            None => "-".to_owned(),
        }
    }
}

/// `text` as a terminal may show it, its lines and tabs kept: every other control character, escape
/// sequences among them, and every character that reorders or hides text stands there in its
/// escaped form, such as `\u{1b}`.
pub fn sanitize(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => safe.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            c if is_acted_on(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

/// As [`sanitize`], on one line: line breaks and tabs are escaped too.
pub fn sanitize_line(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in sanitize(text).chars() {
        match c {
            '\n' | '\t' => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    safe
}

/// Whether a terminal does something at this character instead of showing it: control characters
/// (C0, DEL, C1), line and paragraph separators, bidirectional marks, embeddings, overrides and
/// isolates, zero-width spaces, and tags. The joiners are left: words are written with them.
fn is_acted_on(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// A share in percent; rounded down, so that 100% says that nothing is missing.
pub fn percent(share: f64) -> String {
    // The nudge keeps what is whole in decimals, such as 0.3, from falling to 29.9%.
    format!(
        "{:.1}%",
        ((share * 1000.0 + 1e-9).floor() / 10.0).min(if share < 1.0 { 99.9 } else { 100.0 })
    )
}

/// A count with its thousands apart.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration for people.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_cleaned() {
        let style = TextStyle::PLAIN;
        assert_eq!(style.shorten("a\n b\u{1b}[31m\tc", 20), "a b [31m c");
        assert_eq!(style.shorten("abcdefghij", 10), "abcdefghij");
        assert_eq!(style.shorten("abcdefghijk", 10), "abcdefg...");
        let unicode = TextStyle { unicode: true, ..style };
        assert_eq!(unicode.shorten("äöüäöüäöüäöü", 10), "äöüäöüäöü…");
        assert_eq!(style.shorten(&"word ".repeat(100_000), 12), "word word...");
    }

    #[test]
    fn nothing_that_a_terminal_acts_on_passes() {
        assert_eq!(sanitize("a\tb\r\nc — 日本 👩\u{200d}🔬\n"), "a\tb\nc — 日本 👩\u{200d}🔬\n");
        assert_eq!(sanitize("\u{1b}[2J\u{7}x\ry"), "\\u{1b}[2J\\u{7}x\\u{d}y");
        assert_eq!(sanitize("\u{9b}31m\u{202e}pass\u{2066}"), "\\u{9b}31m\\u{202e}pass\\u{2066}");
        assert_eq!(sanitize_line("a\n\tb\u{1b}"), "a\\n\\tb\\u{1b}");
        assert_eq!(TextStyle::PLAIN.shorten("a\u{202e}b", 20), "a b");
        for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let shown = sanitize(&c.to_string());
            assert!(matches!(c, '\n' | '\t') || !shown.chars().any(is_acted_on), "{c:?}");
        }
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(percent(1.0), "100.0%");
        assert_eq!(percent(0.99999), "99.9%");
        assert_eq!(percent(1.0 - f64::EPSILON), "99.9%");
        assert_eq!(percent(0.3), "30.0%");
        assert_eq!(percent(0.0), "0.0%");
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(duration(1_250), "1.2 s");
        assert_eq!(duration(61_000), "1 min 1 s");
        assert_eq!(duration(3_660_000), "1 h 1 min");
        assert_eq!(TextStyle::PLAIN.score(None), "-");
        assert_eq!(TextStyle::PLAIN.score(Some(0.5)), "0.5000");
    }
}
