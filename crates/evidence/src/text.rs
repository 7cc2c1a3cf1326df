//! Bytes of a file to text.
//!
//! Owns telling text from binary and which encoding a text is in: by a byte order mark, as UTF-8, as
//! UTF-16 by where its zero bytes stand, else by the frequencies of letters (chardetng, the
//! detector of Firefox). Nothing here fails: what cannot be decoded is replaced by U+FFFD.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

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

/// The name of UTF-8 in which some bytes had to be replaced.
const UTF_8_WITH_ERRORS: &str = "UTF-8 (with errors)";

/// Characters in UTF-8 for each byte that is not, from which a text is broken UTF-8 and not
/// something else.
const UTF_8_CHARS_PER_ERROR: usize = 4;

/// Bytes beyond ASCII that say too little of their encoding: with so few, it is the commonest, which
/// contains Latin-1.
const FEW_LETTERS: usize = 4;

/// An encoding, and the bytes of the mark that names it.
#[derive(Clone, Copy, Debug)]
struct Detected {
    encoding: &'static Encoding,
    name: &'static str,
    mark: usize,
}

/// Decodes a text that comes in blocks.
pub(crate) struct StreamDecoder {
    decoder: Decoder,
    name: &'static str,
    mark: usize,
    text: String,
}

/// Decodes the first bytes of a file; `cut` says that the file goes on.
pub fn decode(bytes: &[u8], cut: bool) -> Decoded {
    let Some(detected) = detect(bytes, cut) else { return Decoded::Binary };
    let mut text = String::new();
    let mut decoder = detected.encoding.new_decoder_without_bom_handling();
    append(&mut decoder, &bytes[detected.mark..], !cut, &mut text);
    if detected.encoding != UTF_8 && is_mostly_noise(&text) {
        return Decoded::Binary;
    }
    if text.contains('\0') {
        text = text.replace('\0', "\u{fffd}");
    }
    Decoded::Text(text, detected.name)
}

fn detect(bytes: &[u8], cut: bool) -> Option<Detected> {
    let found = |encoding: &'static Encoding, mark| {
        Some(Detected { encoding, name: encoding.name(), mark })
    };
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => return found(UTF_8, 3),
        // The marks of UTF-32, which nobody writes; no text begins with U+0000.
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return None,
        [0xff, 0xfe, ..] => return found(UTF_16LE, 2),
        [0xfe, 0xff, ..] => return found(UTF_16BE, 2),
        _ => {}
    }
    let sniffed = &bytes[..bytes.len().min(SNIFFED)];
    if sniffed.contains(&0) {
        return found(utf_16_without_mark(sniffed)?, 0);
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => return if control_share_exceeds(sniffed, 10) { None } else { found(UTF_8, 0) },
        // No `error_len`: the bytes end within a character.
        Err(error) if cut && error.error_len().is_none() => return found(UTF_8, 0),
        Err(_) if control_share_exceeds(sniffed, 1) => return None,
        Err(_) => {}
    }
    let (mut chars, mut errors) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        chars += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        errors += usize::from(!chunk.invalid().is_empty());
    }
    if chars >= errors * UTF_8_CHARS_PER_ERROR {
        return Some(Detected { encoding: UTF_8, name: UTF_8_WITH_ERRORS, mark: 0 });
    }
    if bytes.iter().filter(|byte| !byte.is_ascii()).count() <= FEW_LETTERS {
        return found(WINDOWS_1252, 0);
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, !cut);
    found(detector.guess(None, Utf8Detection::Deny), 0)
}

/// UTF-16 without a mark: many zero bytes, nearly all on one side of the units, and nothing that no
/// text has.
fn utf_16_without_mark(sniffed: &[u8]) -> Option<&'static Encoding> {
    let units = sniffed.len() / 2;
    let zeros = |side: usize| {
        sniffed[..units * 2].iter().skip(side).step_by(2).filter(|byte| **byte == 0).count()
    };
    let (encoding, zeros, stray) = match (zeros(0), zeros(1)) {
        (low, high) if low < high => (UTF_16LE, high, low),
        (high, low) => (UTF_16BE, high, low),
    };
    let mut text = String::new();
    append(
        &mut encoding.new_decoder_without_bom_handling(),
        &sniffed[..units * 2],
        false,
        &mut text,
    );
    let odd =
        |c: char| is_control(c) || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}');
    (zeros * 10 >= units && stray * 10 <= zeros && !text.is_empty() && !text.contains(odd))
        .then_some(encoding)
}

/// Decodes a block to the end of `text`.
fn append(decoder: &mut Decoder, bytes: &[u8], last: bool, text: &mut String) {
    // The length is of what is in memory: it cannot overflow.
    text.reserve(decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(bytes.len() * 3 + 16));
    let mut rest = bytes;
    loop {
        let (result, read, _) = decoder.decode_to_string(rest, text, last);
        rest = &rest[read..];
        match result {
            encoding_rs::CoderResult::InputEmpty => return,
            encoding_rs::CoderResult::OutputFull => text.reserve(rest.len() * 3 + 16),
        }
    }
}

/// Whether more than 2% of the characters are replacements or controls.
fn is_mostly_noise(text: &str) -> bool {
    let noise = text.chars().filter(|c| *c == '\u{fffd}' || is_control(*c)).count();
    noise > 0 && noise * 50 > text.chars().count()
}

/// Whether more than `percent` of the bytes are control characters that no text has.
fn control_share_exceeds(sniffed: &[u8], percent: usize) -> bool {
    let control = sniffed.iter().filter(|byte| is_control(char::from(**byte))).count();
    control * 100 > sniffed.len() * percent
}

/// Whether no text has this character. Backspaces and bells come from progress bars.
fn is_control(c: char) -> bool {
    c < ' ' && !matches!(c, '\t' | '\n' | '\r' | '\x07' | '\x08' | '\x0c' | '\x1b')
}

// === impl StreamDecoder ===

impl StreamDecoder {
    /// Finds the encoding by the first block, which is not yet decoded; `cut` says that more
    /// follows. `None` where it is not text.
    pub(crate) fn detect(first: &[u8], cut: bool) -> Option<StreamDecoder> {
        let detected = detect(first, cut)?;
        Some(StreamDecoder {
            decoder: detected.encoding.new_decoder_without_bom_handling(),
            name: detected.name,
            mark: detected.mark,
            text: String::new(),
        })
    }

    /// The name of the encoding.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The text of the next block.
    pub(crate) fn decode(&mut self, block: &[u8]) -> &str {
        let mark = std::mem::take(&mut self.mark).min(block.len());
        self.text.clear();
        append(&mut self.decoder, &block[mark..], false, &mut self.text);
        &self.text
    }

    /// The text that the end of the last block leaves.
    pub(crate) fn finish(&mut self) -> &str {
        self.text.clear();
        append(&mut self.decoder, &[], true, &mut self.text);
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use encoding_rs::{GBK, SHIFT_JIS, WINDOWS_1251};
    use proptest::prelude::*;

    use super::*;

    fn utf_16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(unit).collect()
    }

    #[test]
    fn encodings() {
        let text = |s: &str, e| Decoded::Text(s.to_owned(), e);
        assert_eq!(decode("naïve".as_bytes(), false), text("naïve", "UTF-8"));
        assert_eq!(decode(b"\xef\xbb\xbfx", false), text("x", "UTF-8"));
        assert_eq!(decode(b"na\xefve", false), text("naïve", "windows-1252"));
        assert_eq!(decode(&"né".as_bytes()[..2], true), text("n", "UTF-8"));
        assert_eq!(decode(b"\x7fELF\x02\x00", false), Decoded::Binary);
        assert_eq!(decode(b"\x01\x02\x03\xff\x04\x05", false), Decoded::Binary);
        assert_eq!(decode(b"", false), text("", "UTF-8"));
        assert_eq!(decode(&[1, 2, 3, 4, 5, 6].repeat(9), false), Decoded::Binary);
        let broken = "größer übermütig ".repeat(3).into_bytes();
        let broken = [broken, vec![0xff]].concat();
        assert!(matches!(decode(&broken, false), Decoded::Text(_, UTF_8_WITH_ERRORS)));
    }

    #[test]
    fn utf_16_with_and_without_a_mark() {
        let source = "Größe = 3\nprint('fertig 😀')\n";
        let le = utf_16(source, u16::to_le_bytes);
        let be = utf_16(source, u16::to_be_bytes);
        let text = |e| Decoded::Text(source.to_owned(), e);
        assert_eq!(decode(&le, false), text("UTF-16LE"));
        assert_eq!(decode(&be, false), text("UTF-16BE"));
        assert_eq!(decode(&[b"\xff\xfe".as_slice(), &le].concat(), false), text("UTF-16LE"));
        assert_eq!(decode(&[b"\xfe\xff".as_slice(), &be].concat(), false), text("UTF-16BE"));
        // A cut within a unit, then within a pair of units.
        for cut in 1..4 {
            let Decoded::Text(start, _) = decode(&le[..le.len() - 8 - cut], true) else {
                panic!("text");
            };
            assert!(source.starts_with(&start), "{start:?}");
        }
    }

    #[test]
    fn legacy_encodings_are_told_by_their_letters() {
        let cases = [
            (SHIFT_JIS, "この関数は学習率を計算します。結果は表に保存されます。\n"),
            (GBK, "该函数计算学习率，并将结果保存到表格中。训练过程如下所示。\n"),
            (WINDOWS_1251, "Эта функция вычисляет скорость обучения и сохраняет таблицу.\n"),
        ];
        for (encoding, source) in cases {
            let (bytes, _, errors) = encoding.encode(source);
            assert!(!errors);
            let expected = Decoded::Text(source.to_owned(), encoding.name());
            assert_eq!(decode(&bytes, false), expected);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_text_or_binary(bytes in prop::collection::vec(any::<u8>(), 0..300), cut: bool) {
            let _ = decode(&bytes, cut);
        }

        #[test]
        fn text_survives_a_cut_anywhere(text in "(\\PC|\n){1,60}", at in 0.0f64..1.0) {
            let end = (text.len() as f64 * at) as usize;
            match decode(&text.as_bytes()[..end], true) {
                Decoded::Text(start, "UTF-8") => prop_assert!(text.starts_with(&start)),
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn blocks_decode_as_the_whole(text in "(\\PC|\n){1,60}", size in 1usize..9) {
            let bytes = text.as_bytes();
            let mut decoder = StreamDecoder::detect(bytes, false).expect("text");
            let mut decoded = String::new();
            for block in bytes.chunks(size) {
                decoded.push_str(decoder.decode(block));
            }
            decoded.push_str(decoder.finish());
            prop_assert_eq!(decoded, text.trim_start_matches('\u{feff}'));
        }
    }
}
