//! JSON as it comes.
//!
//! Owns reading JSON that serde_json refuses: broken off at any place, with Python's `NaN` and
//! `Infinity`, with commas before a bracket, with raw line breaks in strings.

use serde_json::{Map, Number, Value};

/// Values within values; beyond it the text is taken for hostile.
const DEPTH_MAX: usize = 64;

/// A place in the text.
struct Parser<'t> {
    text: &'t str,
    at: usize,
    /// Whether the text ended before the value did.
    broken_off: bool,
}

/// Why reading stops.
enum Stop {
    /// At the text's end.
    End,
    /// It is not JSON from here on.
    Invalid,
}

/// The value, and whether it is whole: what a text that breaks off has begun is closed. `None`
/// where it is not JSON.
pub(super) fn parse(text: &str) -> Option<(Value, bool)> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some((value, true));
    }
    let text = text.trim_start_matches('\u{feff}');
    let mut parser = Parser { text, at: 0, broken_off: false };
    let value = parser.value(0).ok()?;
    parser.space();
    (parser.at == text.len() || parser.broken_off).then_some((value, !parser.broken_off))
}

// === impl Parser ===

impl Parser<'_> {
    fn peek(&mut self) -> Result<u8, Stop> {
        self.space();
        self.text.as_bytes().get(self.at).copied().ok_or(Stop::End)
    }

    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::Invalid);
        }
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(Value::String),
            _ => self.word(),
        }
    }

    /// Whether a list or object goes on; a comma and the closing bracket are taken.
    fn goes_on(&mut self, close: u8) -> Result<bool, Stop> {
        loop {
            match self.peek()? {
                b',' => self.at += 1,
                byte if byte == close => {
                    self.at += 1;
                    return Ok(false);
                }
                _ => return Ok(true),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Stop> {
        self.at += 1;
        let mut list = Vec::new();
        loop {
            let next = match self.goes_on(b']') {
                Ok(false) => break,
                Ok(true) => self.value(depth + 1),
                Err(stop) => Err(stop),
            };
            match next {
                Ok(value) => list.push(value),
                Err(Stop::End) => {
                    self.broken_off = true;
                    break;
                }
                Err(Stop::Invalid) => return Err(Stop::Invalid),
            }
            if self.broken_off {
                break;
            }
        }
        Ok(Value::Array(list))
    }

    fn object(&mut self, depth: usize) -> Result<Value, Stop> {
        self.at += 1;
        let mut map = Map::new();
        loop {
            match self.member(depth) {
                Ok(Some((key, value))) => {
                    map.insert(key, value);
                }
                Ok(None) => break,
                Err(Stop::End) => {
                    self.broken_off = true;
                    break;
                }
                Err(Stop::Invalid) => return Err(Stop::Invalid),
            }
            if self.broken_off {
                break;
            }
        }
        Ok(Value::Object(map))
    }

    fn member(&mut self, depth: usize) -> Result<Option<(String, Value)>, Stop> {
        if !self.goes_on(b'}')? {
            return Ok(None);
        }
        if self.peek()? != b'"' {
            return Err(Stop::Invalid);
        }
        let key = self.string()?;
        if self.broken_off {
            return Err(Stop::End);
        }
        if self.peek()? != b':' {
            return Err(Stop::Invalid);
        }
        self.at += 1;
        Ok(Some((key, self.value(depth + 1)?)))
    }

    /// A string; one that breaks off ends there.
    fn string(&mut self) -> Result<String, Stop> {
        self.at += 1;
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(end) = rest.find(['"', '\\']) else {
                string.push_str(rest);
                self.at = self.text.len();
                self.broken_off = true;
                return Ok(string);
            };
            string.push_str(&rest[..end]);
            self.at += end + 1;
            if rest.as_bytes()[end] == b'"' {
                return Ok(string);
            }
            self.escape(&mut string);
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self, string: &mut String) {
        let Some(escape) = self.text[self.at..].chars().next() else { return };
        self.at += escape.len_utf8();
        match escape {
            'n' => string.push('\n'),
            't' => string.push('\t'),
            'r' => string.push('\r'),
            'b' => string.push('\x08'),
            'f' => string.push('\x0c'),
            'u' => {
                let Some(high) = self.unit() else { return string.push('\u{fffd}') };
                let mut units = vec![high];
                if (0xd800..0xdc00).contains(&high) && self.text[self.at..].starts_with("\\u") {
                    let before = self.at;
                    self.at += 2;
                    match self.unit() {
                        Some(low) if (0xdc00..0xe000).contains(&low) => units.push(low),
                        _ => self.at = before,
                    }
                }
                string.push_str(&String::from_utf16_lossy(&units));
            }
            other => string.push(other),
        }
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u16> {
        let digits = self.text.get(self.at..self.at + 4)?;
        let unit = digits.bytes().all(|b| b.is_ascii_hexdigit());
        let unit = unit.then(|| u16::from_str_radix(digits, 16).ok()).flatten()?;
        self.at += 4;
        Some(unit)
    }

    /// A number, `true`, `false`, `null`, or one of Python's numbers that JSON does not have.
    fn word(&mut self) -> Result<Value, Stop> {
        let rest = &self.text[self.at..];
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
        let word = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
        self.at += word.len();
        let value = match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" | "NaN" | "Infinity" | "-Infinity" => Value::Null,
            "" => return Err(Stop::Invalid),
            word => match word.parse::<f64>().ok().and_then(Number::from_f64) {
                Some(number) => Value::Number(number),
                None if self.at == self.text.len() => return Err(Stop::End),
                None => return Err(Stop::Invalid),
            },
        };
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_breaks_off_is_closed() {
        let whole = r#"{"a": [1, {"b": "x\u00e4\ud83d\ude00y\n"}, null, true], "c": -2.5e3}"#;
        for end in (1..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            let (value, is_whole) = parse(&whole[..end]).expect("lenient");
            assert!(value.is_object() && !is_whole, "{end}: {value}");
        }
        let (value, _) = parse(&whole[..36]).expect("lenient");
        assert_eq!(value, json!({"a": [1.0, {"b": "xä😀"}]}));
    }

    #[test]
    fn what_python_writes() {
        let (value, whole) = parse("[NaN, -Infinity, 1e5, \"a\nb\", ]").expect("lenient");
        assert_eq!(value, json!([null, null, 1e5, "a\nb"]));
        assert!(whole);
    }

    #[test]
    fn what_is_not_json() {
        let deep = "[".repeat(100_000);
        for text in ["", "{a: 1}", "[1 2", "[x]", "{\"a\" 1}", "[] []", deep.as_str()] {
            assert!(
                matches!(parse(text), None | Some((_, false))),
                "{}",
                &text[..text.len().min(9)]
            );
        }
        assert!(parse("{a: 1}").is_none() && parse("[x]").is_none() && parse("[] []").is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}:,\"\\\\u0a9 nNtrue.-]{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_serde_json_reads_is_read_alike(text in "(\\PC|[\"\\\\\n]){0,30}", n in -1e9f64..1e9) {
            let value = json!({"k": [text, n, true, null]});
            let spaced = value.to_string().replacen("[", "[ ,", 1);
            let (read, whole) = parse(&spaced).expect("lenient");
            prop_assert!(whole);
            prop_assert_eq!(&read["k"][0], &value["k"][0]);
            prop_assert_eq!(read["k"][1].as_f64(), value["k"][1].as_f64());
        }
    }
}
