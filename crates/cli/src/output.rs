//! Standard output: one JSON document, or text for people.
//!
//! Owns every write to standard output, and how numbers are put in words. Everything else goes to
//! standard error.

use std::{
    fmt::Display,
    io::{self, Write},
};

use anyhow::Context;
use serde::Serialize;

/// A document of a command: its fields behind the `schema` that names it.
#[derive(Serialize)]
pub(crate) struct Document<'a, T> {
    schema: String,
    #[serde(flatten)]
    body: &'a T,
}

impl<'a, T> Document<'a, T> {
    /// The document of this command.
    pub(crate) fn new(command: &str, body: &'a T) -> Self {
        Self { schema: format!("tribunal.{command}/1"), body }
    }
}

/// Prints the command's one JSON document.
///
/// # Errors
///
/// Standard output cannot be written, as when its reader has gone.
pub(crate) fn print_json<T: Serialize>(command: &str, body: &T) -> anyhow::Result<()> {
    write_all(&json_bytes(command, body)?)
}

/// The command's document as text.
///
/// # Errors
///
/// The body cannot be written as JSON.
pub(crate) fn json_bytes<T: Serialize>(command: &str, body: &T) -> anyhow::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(&Document::new(command, body))?;
    text.push(b'\n');
    Ok(text)
}

/// Prints text as it is.
///
/// # Errors
///
/// Standard output cannot be written.
pub(crate) fn print_text(text: &str) -> anyhow::Result<()> {
    write_all(text.as_bytes())
}

fn write_all(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // `tribunal … | head` has read what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// A number with what it counts, such as `1 leaf` or `2 leaves`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(
    number: N,
    one: &str,
    many: &str,
) -> String {
    let noun = if number == N::from(1) { one } else { many };
    format!("{number} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_nouns_agree() {
        assert_eq!(counted(1_usize, "leaf", "leaves"), "1 leaf");
        assert_eq!(counted(0_u64, "leaf", "leaves"), "0 leaves");
        assert_eq!(counted(2_u64, "look", "looks"), "2 looks");
    }
}
