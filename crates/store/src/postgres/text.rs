//! Text as PostgreSQL can hold it.
//!
//! Owns the one character that a rubric or a provider may send and `TEXT` refuses: NUL. It is
//! written as an escape, and so is the escape itself; all other text stays readable as it is.

/// SUB, which stands before an escaped character.
const ESCAPE: char = '\u{1A}';

/// The text as stored.
pub(super) fn put(text: &str) -> String {
    if !text.contains(['\0', ESCAPE]) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut stored, char| {
        match char {
            '\0' => stored.extend([ESCAPE, '0']),
            ESCAPE => stored.extend([ESCAPE, '1']),
            other => stored.push(other),
        }
        stored
    })
}

/// The text that was stored.
pub(super) fn get(stored: String) -> String {
    if !stored.contains(ESCAPE) {
        return stored;
    }
    let mut text = String::with_capacity(stored.len());
    let mut chars = stored.chars();
    while let Some(char) = chars.next() {
        match (char, char == ESCAPE) {
            (_, true) => text.push(if chars.next() == Some('0') { '\0' } else { ESCAPE }),
            (other, false) => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_comes_back(text in "[a\u{0}\u{1A}01é]{0,12}") {
            let stored = put(&text);
            prop_assert!(!stored.contains('\0'));
            prop_assert_eq!(get(stored), text);
        }
    }
}
