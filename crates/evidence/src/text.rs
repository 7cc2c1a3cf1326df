//! Bytes of a file to text.
//!
//! Owns telling text from binary. First version: UTF-8, with a cut last character forgiven, and
//! Latin-1 for what has no NUL byte, as PaperBench reads it.

/// What a file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Text, with the name of its encoding.
    Text(String, &'static str),
    /// Not text.
    Binary,
}

/// Bytes looked at for signs of binary content.
const SNIFFED: usize = 8 * 1024;

/// Decodes the first bytes of a file; `cut` says that the file goes on.
pub fn decode(bytes: &[u8], cut: bool) -> Decoded {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.iter().take(SNIFFED).any(|byte| *byte == 0) {
        return Decoded::Binary;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Decoded::Text(text.to_owned(), "UTF-8"),
        // No `error_len`: the bytes end within a character.
        Err(error) if cut && error.error_len().is_none() => {
            let text = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
            Decoded::Text(text, "UTF-8")
        }
        Err(_) if is_mostly_control(bytes) => Decoded::Binary,
        Err(_) => Decoded::Text(bytes.iter().map(|byte| char::from(*byte)).collect(), "Latin-1"),
    }
}

/// Whether more than 1% of the sniffed bytes are control characters that no text has.
fn is_mostly_control(bytes: &[u8]) -> bool {
    let sniffed = &bytes[..bytes.len().min(SNIFFED)];
    let control =
        |byte: &&u8| **byte < 0x20 && !matches!(**byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
    sniffed.iter().filter(control).count() * 100 > sniffed.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        let text = |s: &str, e| Decoded::Text(s.to_owned(), e);
        assert_eq!(decode("naïve".as_bytes(), false), text("naïve", "UTF-8"));
        assert_eq!(decode(b"\xef\xbb\xbfx", false), text("x", "UTF-8"));
        assert_eq!(decode(b"na\xefve", false), text("naïve", "Latin-1"));
        assert_eq!(decode(&"né".as_bytes()[..2], true), text("n", "UTF-8"));
        assert_eq!(decode(b"\x7fELF\x02\x00", false), Decoded::Binary);
        assert_eq!(decode(b"\x01\x02\x03\xff\x04\x05", false), Decoded::Binary);
        assert_eq!(decode(b"", false), text("", "UTF-8"));
    }
}
