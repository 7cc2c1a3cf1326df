//! Files in chunks.
//!
//! Owns where they are divided: at line breaks, without overlap, so that all chunks of a file are
//! the file.

use std::ops::Range;

/// Lines of a chunk at most.
const LINES: usize = 60;

/// Bytes of a chunk at most, which are about 800 tokens of code.
const BYTES: usize = 3_200;

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where it lies in the text.
    pub bytes: Range<usize>,
    /// Number of its first line, from 1.
    pub first_line: usize,
    /// Number of its last line.
    pub last_line: usize,
}

/// The text in chunks of at most 60 lines and 3,200 bytes; only a longer line is divided within.
pub fn chunks(text: &str) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    let (mut begin, mut first_line, mut at, mut line) = (0, 1, 0, 1);
    for whole_line in text.split_inclusive('\n') {
        let mut rest = whole_line;
        while !rest.is_empty() {
            let full = line - first_line >= LINES || at - begin + rest.len() > BYTES;
            if full && at > begin {
                // A line that was divided belongs to both chunks.
                let last_line = if rest.len() < whole_line.len() { line } else { line - 1 };
                chunks.push(Chunk { bytes: begin..at, first_line, last_line });
                (begin, first_line) = (at, line);
                continue;
            }
            let piece = crate::log::floor(rest, BYTES);
            at += piece;
            rest = &rest[piece..];
        }
        line += 1;
    }
    if at > begin {
        chunks.push(Chunk { bytes: begin..at, first_line, last_line: line - 1 });
    }
    chunks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn chunks_have_their_lines() {
        let lines = |text: &str| -> Vec<(usize, usize)> {
            chunks(text).iter().map(|chunk| (chunk.first_line, chunk.last_line)).collect()
        };
        assert_eq!(lines(&"x\n".repeat(150)), [(1, 60), (61, 120), (121, 150)]);
        assert_eq!(
            lines(&format!("a\n{}\nb\n", "x".repeat(7_000))),
            [(1, 1), (2, 2), (2, 2), (2, 3)]
        );
        assert_eq!(lines(""), []);
        assert_eq!(lines("a"), [(1, 1)]);
    }

    proptest! {
        #[test]
        fn all_chunks_are_the_text(lines in prop::collection::vec((0usize..20, 0usize..90), 0..90)) {
            // Some lines are longer than a chunk.
            let line = |(long, short): &(usize, usize)| "aü".repeat(short + long / 19 * 2_000);
            let text = lines.iter().map(line).collect::<Vec<_>>().join("\n");
            let chunks = chunks(&text);
            let joined: String = chunks.iter().map(|chunk| &text[chunk.bytes.clone()]).collect();
            prop_assert_eq!(&joined, &text);
            let mut before = 1;
            for chunk in chunks {
                prop_assert!(chunk.bytes.len() <= BYTES && !chunk.bytes.is_empty());
                let newlines = &text.as_bytes()[..chunk.bytes.start];
                let first = newlines.iter().filter(|byte| **byte == b'\n').count() + 1;
                prop_assert_eq!(first, chunk.first_line);
                prop_assert!(chunk.first_line >= before && chunk.last_line >= chunk.first_line);
                prop_assert!(chunk.last_line - chunk.first_line < LINES);
                before = chunk.last_line;
            }
        }
    }
}
