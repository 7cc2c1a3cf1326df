//! From text to lines as they are shown.
//!
//! Owns line ends, terminal escapes and over-long lines. A carriage return or a backspace ends a
//! line as a line break does: each update of a progress bar is a line.

/// Bytes of an unfinished line that are held; of a longer one the middle is dropped at once.
const HELD_MAX: usize = 64 * 1024;

/// Splits text that comes in pieces.
#[derive(Debug)]
pub(super) struct Lines {
    line_bytes: usize,
    /// The unfinished line.
    held: String,
    /// Bytes dropped from its middle, which is at half of [`HELD_MAX`].
    dropped: usize,
    /// Whether the physical line has already given one.
    given: bool,
    /// Whether the text so far ends with a line break.
    ended: bool,
    /// The line as it is shown, while it is made.
    shown: String,
}

// === impl Lines ===

impl Lines {
    pub(super) fn new(line_bytes: usize) -> Self {
        Lines {
            line_bytes,
            held: String::new(),
            dropped: 0,
            given: false,
            ended: false,
            shown: String::new(),
        }
    }

    /// Takes the next piece and gives every line that it ends.
    pub(super) fn push(&mut self, text: &str, mut give: impl FnMut(&str)) {
        let mut rest = text;
        while let Some(end) = rest.bytes().position(|b| matches!(b, b'\n' | b'\r' | b'\x08')) {
            let (line, after) = rest.split_at(end);
            let newline = after.as_bytes()[0] == b'\n';
            rest = &after[1..];
            // Without a copy where the line lies whole in the piece.
            if self.held.is_empty() {
                self.end(Some(line), newline, &mut give);
            } else {
                self.hold(line);
                self.end(None, newline, &mut give);
            }
        }
        if !rest.is_empty() {
            self.hold(rest);
            self.ended = false;
        }
    }

    /// Gives the last line. Returns whether the text ended with a line break.
    pub(super) fn finish(mut self, mut give: impl FnMut(&str)) -> bool {
        if !self.held.is_empty() {
            self.end(None, false, &mut give);
        }
        self.ended
    }

    fn hold(&mut self, text: &str) {
        self.held.push_str(text);
        if self.held.len() > HELD_MAX {
            let start = floor(&self.held, HELD_MAX / 4);
            let end = floor(&self.held, self.held.len() - HELD_MAX / 4);
            self.held.drain(start..end);
            self.dropped += end - start;
        }
    }

    /// Gives the line, `None` being the one that is held.
    fn end(&mut self, line: Option<&str>, newline: bool, give: &mut impl FnMut(&str)) {
        let line = line.unwrap_or(&self.held);
        self.ended = newline;
        let plain = self.dropped == 0 && line.len() <= self.line_bytes && !has_controls(line);
        if !plain {
            show(line, self.dropped, self.line_bytes, &mut self.shown);
        }
        let line = if plain { line } else { &self.shown };
        if !line.is_empty() || (newline && !self.given) {
            give(line);
            self.given = true;
        }
        self.given &= !newline;
        self.held.clear();
        self.dropped = 0;
    }
}

fn has_controls(line: &str) -> bool {
    line.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f)
}

/// The line without escapes and controls, and without its middle where it is too long.
fn show(line: &str, dropped: usize, line_bytes: usize, shown: &mut String) {
    shown.clear();
    strip(line, shown);
    if dropped == 0 && shown.len() <= line_bytes {
        return;
    }
    let start = floor(shown, line_bytes / 4 * 3);
    let end = ceil(shown, shown.len().saturating_sub(line_bytes / 4).max(start));
    let mark = format!(" [… {} bytes left out …] ", end - start + dropped);
    shown.replace_range(start..end, &mark);
}

/// Appends the text without the terminal's escape sequences (ECMA-48) and control characters.
pub(crate) fn strip(text: &str, into: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
        into.push_str(&rest[..at]);
        let control = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        if control != 0x1b {
            continue;
        }
        let bytes = rest.as_bytes();
        let length = match bytes.first() {
            // Parameters, then one final byte.
            Some(b'[') => match bytes[1..].iter().position(|b| !(0x20..0x40).contains(b)) {
                Some(end) if (0x40..0x7f).contains(&bytes[1 + end]) => end + 2,
                Some(end) => end + 1,
                None => bytes.len(),
            },
            // A string for the terminal, up to a bell or another escape.
            Some(b']' | b'P' | b'_' | b'^') => {
                match bytes.iter().position(|b| matches!(b, 0x07 | 0x1b)) {
                    Some(end) if bytes[end] == 0x1b && bytes.get(end + 1) == Some(&b'\\') => {
                        end + 2
                    }
                    Some(end) if bytes[end] == 0x07 => end + 1,
                    _ => 1,
                }
            }
            Some(b'(' | b')') if bytes.get(1).is_some_and(u8::is_ascii) => 2,
            Some(byte) if byte.is_ascii() => 1,
            _ => 0,
        };
        rest = &rest[length..];
    }
    into.push_str(rest);
}

/// The greatest boundary of characters that is not above `at`.
pub(crate) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The least boundary of characters that is not below `at`.
fn ceil(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&str]) -> (Vec<String>, bool) {
        let mut lines = Lines::new(100);
        let mut given = Vec::new();
        for piece in pieces {
            lines.push(piece, |line| given.push(line.to_owned()));
        }
        let ended = lines.finish(|line| given.push(line.to_owned()));
        (given, ended)
    }

    #[test]
    fn line_ends() {
        let cases: [(&str, &[&str], bool); 7] = [
            ("a\nb", &["a", "b"], false),
            ("a\r\n\r\nb\r\n", &["a", "", "b"], true),
            ("\n\na\n", &["", "", "a"], true),
            ("1%\r2%\r\r3%\n", &["1%", "2%", "3%"], true),
            ("1\x08\x08\x08 2\x08\x08\n", &["1", " 2"], true),
            ("", &[], false),
            ("\r\r", &[], false),
        ];
        for (text, expected, ended) in cases {
            let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(lines(&[text]), (expected, ended), "{text:?}");
        }
    }

    #[test]
    fn escapes_are_taken_off() {
        let strip = |text: &str| {
            let mut into = String::new();
            strip(text, &mut into);
            into
        };
        assert_eq!(strip("\x1b[31;1mred\x1b[0m\x1b[K plain\0"), "red plain");
        assert_eq!(strip("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1b(Bc\x1b7d"), "abcd");
        assert_eq!(strip("\x1b[31"), "");
        assert_eq!(strip("a\x1b"), "a");
        assert_eq!(strip("\x1bü\x1b[ü\x1b(ü"), "üüü");
    }

    #[test]
    fn long_lines_lose_their_middle() {
        let long = format!("{}{}", "a".repeat(90), "z".repeat(90));
        let (given, _) = lines(&[&long, "\n"]);
        let expected = format!("{} [… 80 bytes left out …] {}", "a".repeat(75), "z".repeat(25));
        assert_eq!(given, [expected]);
        let endless = "x".repeat(10_000);
        let (given, _) = lines(&[endless.as_str(); 100]);
        assert!(given[0].len() < 150 && given[0].contains("999900 bytes"), "{given:?}");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[ab\r\n\x08\x1b\\[mü]{0,40}", at in 0usize..40) {
            let at = floor(&text, at);
            prop_assert_eq!(lines(&[&text]), lines(&[&text[..at], &text[at..]]));
        }

        #[test]
        fn any_text_is_stripped(text in "[\x1b\\[\\]P()\x07\\\\a;0ü\x7f]{0,30}") {
            let mut into = String::new();
            strip(&text, &mut into);
            prop_assert!(!into.contains('\x1b'));
        }
    }
}
