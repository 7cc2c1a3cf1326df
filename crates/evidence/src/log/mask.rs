//! What makes two lines the same.
//!
//! Owns the masks: a line with its times, durations, addresses, identifiers and counters taken out.
//! A hand-written scanner, since a log may have gigabytes. Other numbers stay: a loss that falls is
//! no repetition. Masks are compared, never shown.

use std::hash::{DefaultHasher, Hasher};

use self::scan::Scan;

mod progress;
mod scan;

/// Words before a counter.
const COUNTERS: [&str; 16] = [
    "epoch",
    "epochs",
    "step",
    "steps",
    "global_step",
    "iter",
    "iters",
    "iteration",
    "iterations",
    "batch",
    "batches",
    "it",
    "ep",
    "episode",
    "round",
    "attempt",
];

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Units of durations that stand right behind their number.
const UNITS: [&str; 22] = [
    "s", "ms", "us", "µs", "ns", "m", "h", "d", "sec", "secs", "second", "seconds", "min", "mins",
    "minute", "minutes", "hr", "hrs", "hour", "hours", "day", "days",
];

/// Hexadecimal digits from which a word is an address, a hash or an identifier.
const HEX_MIN: usize = 8;

/// The line's mask: equal for lines that are repetitions of each other.
pub fn mask(line: &str) -> String {
    let mut masked = Vec::new();
    write(line, &mut masked);
    String::from_utf8_lossy(&masked).into_owned()
}

/// The hash of the line's mask; `masked` is room for it.
pub(super) fn hash(line: &str, masked: &mut Vec<u8>) -> u64 {
    masked.clear();
    write(line, masked);
    let mut hasher = DefaultHasher::new();
    hasher.write(masked);
    hasher.finish()
}

fn write(line: &str, masked: &mut Vec<u8>) {
    let bytes = line.as_bytes();
    if progress::is_progress(bytes) {
        return progress::write(bytes, masked);
    }
    let mut scan = Scan::new(bytes);
    while let Some(byte) = scan.peek() {
        let begins = scan.at_word_start();
        if begins && byte.is_ascii_digit() {
            number(&mut scan, masked);
        } else if begins && (byte.is_ascii_alphabetic() || byte == b'_') {
            word(&mut scan, masked);
        } else if byte == b'[' {
            scan.advance(1);
            masked.push(byte);
            bracket(&mut scan, masked);
        } else {
            scan.advance(1);
            masked.push(byte);
        }
    }
}

/// A word that begins with a letter: an identifier, or what announces a number.
fn word(scan: &mut Scan<'_>, masked: &mut Vec<u8>) {
    if identifier(scan, masked) {
        return;
    }
    let word = scan.word();
    masked.extend_from_slice(word);
    scan.advance(word.len());
    let is = |list: &[&str]| list.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()));
    if word.len() == 3 && is(&MONTHS) {
        let spaces = scan.run(0, |b| b == b' ');
        let digits = scan.run(spaces, |b| b.is_ascii_digit());
        if (1..=2).contains(&spaces) && (1..=2).contains(&digits) {
            masked.truncate(masked.len() - word.len());
            masked.extend_from_slice(b"<day>");
            scan.advance(spaces + digits);
        }
    } else if word.len() <= 11 && is(&COUNTERS) {
        let between = scan.run(0, |b| matches!(b, b' ' | b':' | b'=' | b'#' | b'[' | b'(' | b'-'));
        let digits = scan.run(between, |b| b.is_ascii_digit());
        if between <= 4 && digits > 0 {
            masked.extend_from_slice(b" <n>");
            scan.advance(between + digits);
            total(scan, masked);
        }
    }
}

/// The `/10` behind a counter.
fn total(scan: &mut Scan<'_>, masked: &mut Vec<u8>) {
    let spaces = scan.run(0, |b| b == b' ');
    if scan.ahead(spaces) == Some(b'/') {
        let more = scan.run(spaces + 1, |b| b == b' ');
        let digits = scan.run(spaces + 1 + more, |b| b.is_ascii_digit());
        if digits > 0 {
            masked.extend_from_slice(b"/<n>");
            scan.advance(spaces + 1 + more + digits);
        }
    }
}

/// A counter in brackets such as `[ 3/10]`.
fn bracket(scan: &mut Scan<'_>, masked: &mut Vec<u8>) {
    let spaces = scan.run(0, |b| b == b' ');
    let digits = scan.run(spaces, |b| b.is_ascii_digit());
    if digits > 0 && scan.ahead(spaces + digits) == Some(b'/') {
        let total = scan.run(spaces + digits + 1, |b| b.is_ascii_digit());
        if total > 0 && scan.ahead(spaces + digits + 1 + total) == Some(b']') {
            masked.extend_from_slice(b"<n>/<n>");
            scan.advance(spaces + digits + 1 + total);
        }
    }
}

/// A word of hexadecimal digits with both digits and letters, or a UUID.
fn identifier(scan: &mut Scan<'_>, masked: &mut Vec<u8>) -> bool {
    let word = scan.word();
    let (hex, prefix) = match word {
        [b'0', b'x' | b'X', hex @ ..] if !hex.is_empty() => (hex, true),
        hex => (hex, false),
    };
    if !hex.iter().all(u8::is_ascii_hexdigit) {
        return false;
    }
    if !prefix && word.len() == 8 {
        let groups = [4, 4, 4, 12];
        let mut length = 8;
        let uuid = groups.iter().all(|group| {
            let digits = scan.run(length + 1, |b| b.is_ascii_hexdigit());
            let fits = scan.ahead(length) == Some(b'-') && digits == *group;
            length += 1 + group;
            fits
        });
        if uuid {
            masked.extend_from_slice(b"<uuid>");
            scan.advance(length);
            return true;
        }
    }
    let mixed = hex.iter().any(u8::is_ascii_digit) && hex.iter().any(u8::is_ascii_alphabetic);
    if !prefix && (hex.len() < HEX_MIN || !mixed) {
        return false;
    }
    masked.extend_from_slice(b"<hex>");
    scan.advance(word.len());
    true
}

/// A word that begins with a digit.
fn number(scan: &mut Scan<'_>, masked: &mut Vec<u8>) {
    if identifier(scan, masked) {
        return;
    }
    if let Some(length) = date(scan).or_else(|| clock(scan, 0)).or_else(|| epoch(scan)) {
        masked.extend_from_slice(b"<time>");
        scan.advance(length);
        return;
    }
    if let Some(length) = address(scan) {
        masked.extend_from_slice(b"<ip>");
        scan.advance(length);
        return;
    }
    if let Some(length) = duration(scan) {
        masked.extend_from_slice(b"<duration>");
        scan.advance(length);
        return;
    }
    let digits = scan.run(0, |b| b.is_ascii_digit());
    scan.copy(digits, masked);
}

/// `2024-01-31`, `2024/01/31`, `01/31/2024`, each with a clock time behind it or not.
fn date(scan: &Scan<'_>) -> Option<usize> {
    let digit = |b: u8| b.is_ascii_digit();
    let first = scan.run(0, digit);
    let separator = scan.ahead(first).filter(|b| matches!(b, b'-' | b'/' | b'.'))?;
    let second = scan.run(first + 1, digit);
    if scan.ahead(first + 1 + second) != Some(separator) {
        return None;
    }
    let third = scan.run(first + second + 2, digit);
    let fits = match (first, second, third) {
        (4, 1..=2, 1..=2) => true,
        (1..=2, 1..=2, 2 | 4) => separator != b'-',
        _ => false,
    };
    let length = first + second + third + 2;
    if !fits || (separator == b'.' && third == 2 && first != 4) {
        return None;
    }
    let gap = scan.run(length, |b| matches!(b, b' ' | b'T' | b't' | b'_' | b','));
    match (1..=2).contains(&gap).then(|| clock(scan, length + gap)).flatten() {
        Some(clock) => Some(length + gap + clock),
        None => (!scan.ahead(length).is_some_and(scan::is_word)).then_some(length),
    }
}

/// `12:30`, `12:30:59.123`, `12:30:59,123`, `1:02:03 PM`, `12:30:59Z`, `12:30:59+01:00`.
fn clock(scan: &Scan<'_>, from: usize) -> Option<usize> {
    let digit = |b: u8| b.is_ascii_digit();
    // Behind a colon it is a place in a file.
    if from == 0 && scan.before() == Some(b':') {
        return None;
    }
    let hours = scan.run(from, digit);
    let pair = |at: usize| scan.ahead(at) == Some(b':') && scan.run(at + 1, digit) == 2;
    if !(1..=3).contains(&hours) || !pair(from + hours) {
        return None;
    }
    let mut length = hours + 3;
    if pair(from + length) {
        length += 3;
        if matches!(scan.ahead(from + length), Some(b'.' | b',')) {
            let fraction = scan.run(from + length + 1, digit);
            length += if fraction > 0 { fraction + 1 } else { 0 };
        }
    }
    match scan.ahead(from + length) {
        Some(b'Z') => length += 1,
        Some(b'+' | b'-') => {
            let zone = scan.run(from + length + 1, |b| digit(b) || b == b':');
            length += if matches!(zone, 2 | 4 | 5) { zone + 1 } else { 0 };
        }
        Some(b' ') if matches!(scan.ahead(from + length + 1), Some(b'A' | b'P' | b'a' | b'p')) => {
            let half = matches!(scan.ahead(from + length + 2), Some(b'M' | b'm'));
            length += if half { 3 } else { 0 };
        }
        _ => {}
    }
    (!scan.ahead(from + length).is_some_and(|b| scan::is_word(b) || b == b':')).then_some(length)
}

/// Seconds, milli-, micro- or nanoseconds since 1970, from 2001 on.
fn epoch(scan: &Scan<'_>) -> Option<usize> {
    let digits = scan.run(0, |b| b.is_ascii_digit());
    let fits = matches!(digits, 10 | 13 | 16 | 19) && scan.peek() == Some(b'1');
    let mut length = digits;
    if fits && scan.ahead(digits) == Some(b'.') {
        let fraction = scan.run(digits + 1, |b| b.is_ascii_digit());
        length += if fraction > 0 { fraction + 1 } else { 0 };
    }
    (fits && !scan.ahead(length).is_some_and(scan::is_word)).then_some(length)
}

/// An IPv4 address with or without a port.
fn address(scan: &Scan<'_>) -> Option<usize> {
    let digit = |b: u8| b.is_ascii_digit();
    let mut length = 0;
    for part in 0..4 {
        if part > 0 {
            if scan.ahead(length) != Some(b'.') {
                return None;
            }
            length += 1;
        }
        let digits = scan.run(length, digit);
        if !(1..=3).contains(&digits) {
            return None;
        }
        length += digits;
    }
    if scan.ahead(length) == Some(b':') {
        let port = scan.run(length + 1, digit);
        length += if port > 0 { port + 1 } else { 0 };
    }
    let goes_on = scan.ahead(length).is_some_and(|b| scan::is_word(b) || b == b'.');
    (!goes_on).then_some(length)
}

/// `3.2s`, `1h02m03s`, `5 seconds`, `3.1it/s`, `12ms/step`.
fn duration(scan: &Scan<'_>) -> Option<usize> {
    let digit = |b: u8| b.is_ascii_digit();
    let unit_letter = |b: u8| b.is_ascii_alphabetic() || matches!(b, 0xc2 | 0xb5);
    let is_unit = |word: &[u8]| UNITS.iter().any(|unit| word == unit.as_bytes());
    let mut length = 0;
    loop {
        let digits = scan.run(length, digit);
        let mut end = length + digits;
        if scan.ahead(end) == Some(b'.') {
            let fraction = scan.run(end + 1, digit);
            end += if fraction > 0 { fraction + 1 } else { 0 };
        }
        let space = usize::from(length == 0 && scan.ahead(end) == Some(b' '));
        let letters = scan.run(end + space, unit_letter);
        let word = scan.slice(end + space, letters);
        let after = end + space + letters;
        if space == 0 && scan.ahead(after) == Some(b'/') && (1..=5).contains(&letters) {
            let per = scan.run(after + 1, |b| b.is_ascii_alphabetic());
            let per_word = scan.slice(after + 1, per);
            let rate = matches!(per_word, b"s" | b"sec" | b"it" | b"iter" | b"step" | b"batch");
            return rate.then_some(after + 1 + per);
        }
        // `5 m` and `2 d` are more often something else.
        if digits == 0 || !is_unit(word) || (space == 1 && matches!(word, b"m" | b"h" | b"d")) {
            return None;
        }
        match scan.ahead(after) {
            Some(next) if digit(next) && space == 0 => length = after,
            Some(next) if scan::is_word(next) => return None,
            _ => return Some(after),
        }
    }
}
