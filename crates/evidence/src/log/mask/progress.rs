//! Progress bars.
//!
//! Owns telling them by their drawing and masking them: only their words are left.

/// Words of lines that are progress where they have a percentage, without their first letter.
const VERBS: [&[u8]; 11] = [
    b"ownload",
    b"pload",
    b"xtract",
    b"npack",
    b"oading",
    b"rogress",
    b"eceiving",
    b"ounting",
    b"ompressing",
    b"etching",
    b"omplete",
];

/// Whether the line is a state of a progress bar: of tqdm, Keras, pip, wget, git and the like.
pub(super) fn is_progress(line: &[u8]) -> bool {
    let (mut percent, mut dots) = (false, false);
    for (at, byte) in line.iter().enumerate() {
        let rest = &line[at..];
        match byte {
            b'%' if at > 0 && line[at - 1].is_ascii_digit() => {
                if rest.starts_with(b"%|") || rest.starts_with(b"% (") {
                    return true;
                }
                percent = true;
            }
            b'/' => {
                let before = &line[..at];
                let rate = (before.ends_with(b"it") && rest.starts_with(b"/s"))
                    || (before.ends_with(b"s") && rest.starts_with(b"/it"));
                if rate {
                    let unit = if rest.starts_with(b"/s") { 2 } else { 3 };
                    if matches!(rest.get(unit), Some(b']' | b',')) {
                        return true;
                    }
                }
            }
            b'[' => {
                let is_bar = |b: &&u8| matches!(b, b'=' | b'#' | b'>' | b'.' | b'-');
                if rest[1..].iter().take(5).filter(is_bar).count() == 5 {
                    return true;
                }
            }
            // Block elements and heavy lines.
            0xe2 if matches!(rest, [_, 0x96, 0x80..=0x9f, ..] | [_, 0x94, 0x81, ..]) => {
                return true;
            }
            b'E' if rest.starts_with(b"ETA:") => return true,
            b'e' if rest.starts_with(b"eta ") => {
                if let [hours, b':', ..] = &rest[4..]
                    && (hours.is_ascii_digit() || *hours == b'-')
                {
                    return true;
                }
            }
            b'.' if rest.starts_with(b".......... ") => dots = true,
            _ => {}
        }
    }
    percent && (dots || VERBS.iter().any(|verb| contains(line, verb)))
}

fn contains(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len()).any(|window| window == word)
}

/// Leaves out numbers with what is attached to them, the bar's drawing, and white space.
pub(super) fn write(line: &[u8], masked: &mut Vec<u8>) {
    let mut at = 0;
    while at < line.len() {
        let byte = line[at];
        let in_word = at > 0 && (line[at - 1].is_ascii_alphabetic() || line[at - 1] == b'_');
        if (byte.is_ascii_digit() && !in_word) || byte == b'?' {
            let attached = |b: &u8| {
                b.is_ascii_alphanumeric()
                    || matches!(b, b'.' | b',' | b':' | b'/' | b'%' | b'<' | b'?')
            };
            at += line[at..].iter().take_while(|b| attached(b)).count().max(1);
        } else if matches!(byte, b'#' | b'=' | b'>' | b'.' | b'-' | b'|' | b' ' | b'\t') {
            at += 1;
        } else if byte == 0xe2 && matches!(line.get(at + 1), Some(0x94..=0x96)) {
            at += 3.min(line.len() - at);
        } else {
            masked.push(byte);
            at += 1;
        }
    }
}
