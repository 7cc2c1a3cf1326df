//! What is kept of a reduced log that is still too long.
//!
//! Owns the bound on memory: the front, the back, and between them the error-like lines, the first
//! and the last of each kind.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{HEAD_LINES, Line, LogLimits, TAIL_LINES};

/// A kind of error-like line in the part that is left out.
#[derive(Debug)]
struct ErrorKind {
    first: u64,
    last: u64,
}

/// Collects the lines of the reduced log.
#[derive(Debug)]
pub(super) struct Kept {
    limits: LogLimits,
    front: String,
    front_lines: usize,
    back: VecDeque<Line>,
    back_bytes: usize,
    /// Lines that are in neither.
    left_out: u64,
    /// Kinds of error-like lines among them, by mask.
    kinds: HashMap<u64, ErrorKind>,
    /// Their first and last lines, by their number among the lines left out.
    errors: BTreeMap<u64, String>,
    /// Error-like lines of further kinds, which are not kept.
    errors_left_out: u64,
}

// === impl Kept ===

impl Kept {
    pub(super) fn new(limits: LogLimits) -> Self {
        Kept {
            limits,
            front: String::new(),
            front_lines: 0,
            back: VecDeque::new(),
            back_bytes: 0,
            left_out: 0,
            kinds: HashMap::new(),
            errors: BTreeMap::new(),
            errors_left_out: 0,
        }
    }

    /// Takes the next line.
    pub(super) fn push(&mut self, line: Line) {
        let fits = self.front.len() + line.text.len() < self.limits.front_bytes;
        if self.back.is_empty() && (fits || self.front_lines < HEAD_LINES) {
            self.front.push_str(&line.text);
            self.front.push('\n');
            self.front_lines += 1;
            return;
        }
        self.back_bytes += line.text.len() + 1;
        self.back.push_back(line);
        while self.back_bytes > self.limits.back_bytes
            && self.back.len() > TAIL_LINES
            && let Some(oldest) = self.back.pop_front()
        {
            self.back_bytes -= oldest.text.len() + 1;
            self.leave_out(oldest);
        }
    }

    fn leave_out(&mut self, line: Line) {
        self.left_out += 1;
        if !line.error {
            return;
        }
        let number = self.left_out;
        let room = self.kinds.len() < self.limits.error_kinds;
        match self.kinds.get_mut(&line.mask) {
            Some(kind) => {
                if kind.last != kind.first {
                    self.errors.remove(&kind.last);
                }
                kind.last = number;
            }
            None if room => {
                self.kinds.insert(line.mask, ErrorKind { first: number, last: number });
            }
            None => {
                self.errors_left_out += 1;
                return;
            }
        }
        self.errors.insert(number, line.text);
    }

    /// The text of what is kept. `ends` says that it ends with a line break.
    pub(super) fn finish(self, ends: bool) -> String {
        let mut text = self.front;
        if self.left_out > 0 {
            let left_out = self.left_out - self.errors.len() as u64;
            text.push_str(&format!("[… {left_out} lines left out"));
            if self.errors_left_out > 0 {
                let further = self.errors_left_out;
                text.push_str(&format!(", {further} of them look like further errors"));
            }
            match self.errors.is_empty() {
                true => text.push_str(" …]\n"),
                false => {
                    text.push_str("; of each kind of error among them the first and last: …]\n")
                }
            }
            for line in self.errors.values() {
                text.push_str(line);
                text.push('\n');
            }
            if !self.errors.is_empty() {
                text.push_str("[… the end of the log: …]\n");
            }
        }
        for line in &self.back {
            text.push_str(&line.text);
            text.push('\n');
        }
        if !ends && text.ends_with('\n') {
            text.pop();
        }
        text
    }
}
