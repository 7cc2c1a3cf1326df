//! Lines that look like errors.
//!
//! Owns the words, and the blocks that a Python traceback makes. It errs on the side of keeping: a
//! line about the mean squared error looks like one too.

use std::sync::LazyLock;

use regex::Regex;

/// Words that lines about errors have.
static ERROR: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)error|exception|traceback|fail|fatal|panic|segfault|segmentation fault",
        r"|(?-u:\b)killed(?-u:\b)|(?-u:\b)oom(?-u:\b)|out of memory|assert|abort|core dumped",
        r"|exit(?:ed)?(?: with)?(?: status| code)?[ :=]*-?[1-9]|non-?zero",
    ))
    .expect("a constant pattern")
});

/// Follows the lines of a log.
#[derive(Debug, Default)]
pub(super) struct Errors {
    in_traceback: bool,
}

/// Whether the line alone looks like an error: it speaks of an error, exception, failure, panic or
/// failed assertion, of a process that was killed, ran out of memory or left with another code than 0.
pub fn looks_like_error(line: &str) -> bool {
    ERROR.is_match(line)
}

// === impl Errors ===

impl Errors {
    /// Whether the next line belongs to an error.
    pub(super) fn next(&mut self, line: &str) -> bool {
        let inside = self.in_traceback;
        let begins = line.trim_start().starts_with("Traceback (most recent call last)");
        // The block ends with its first line that is not indented, which names the exception.
        self.in_traceback = begins || (inside && line.starts_with([' ', '\t']));
        inside || looks_like_error(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for line in [
            "RuntimeError: CUDA out of memory.",
            "2024-01-01 ERROR x",
            "thread 'main' panicked at src/main.rs",
            "Killed",
            "make: *** [all] Error 2",
            "assertion `left == right` failed",
            "process exited with code 137",
            "exit status: 1",
            "subprocess returned non-zero",
            "slurmstepd: OOM kill",
        ] {
            assert!(looks_like_error(line), "{line}");
        }
        for line in ["warning: unused", "exit code 0", "skilled room", "step 3 done", ""] {
            assert!(!looks_like_error(line), "{line}");
        }
    }

    #[test]
    fn a_traceback_is_one_block() {
        let mut errors = Errors::default();
        let block = [
            ("start", false),
            ("Traceback (most recent call last):", true),
            ("  File \"a.py\", line 3, in f", true),
            ("    x = g()", true),
            ("KeyboardInterrupt", true),
            ("end", false),
        ];
        for (line, expected) in block {
            assert_eq!(errors.next(line), expected, "{line}");
        }
    }
}
