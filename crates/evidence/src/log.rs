//! The reproduction's log, reduced to what it says.
//!
//! Owns what a judge is shown of a log. Lines that differ only in times, addresses or counters
//! collapse into the first and the last of them with their number, progress bars and short cycles
//! of lines alike. The head, the tail and lines that look like errors are never dropped. What is
//! shown is never masked; masks only compare. One pass, bounded memory, the same bytes for the same
//! input. It decides nothing about tokens but in [`fit()`].

mod collapse;
mod errors;
mod fit;
mod kept;
mod lines;
mod mask;

use std::io::{self, Read};

pub(crate) use self::lines::{floor, strip as strip_escapes};
use self::{collapse::Collapse, errors::Errors, kept::Kept, lines::Lines};
pub use self::{errors::looks_like_error, fit::fit, mask::mask};

/// Lines at the beginning that are kept before any others.
pub const HEAD_LINES: usize = 50;

/// Lines at the end that are kept before any others.
pub const TAIL_LINES: usize = 100;

/// Bytes read at once.
const BLOCK: usize = 64 * 1024;

/// What a reduced log may be at most. Together they bound the memory that reducing takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of a line; of a longer one the beginning and the end are kept.
    pub line_bytes: usize,
    /// Bytes kept from the beginning of the reduced log, at least [`HEAD_LINES`] lines.
    pub front_bytes: usize,
    /// Bytes kept from its end, at least [`TAIL_LINES`] lines.
    pub back_bytes: usize,
    /// Kinds of error-like lines kept from what lies between, the first and the last of each.
    pub error_kinds: usize,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// The text as it is shown.
    text: String,
    /// Equal for lines that count as repetitions.
    mask: u64,
    /// Whether it looks like an error.
    error: bool,
}

/// Reduces a log that comes in pieces.
#[derive(Debug)]
pub struct Reducer {
    lines: Lines,
    errors: Errors,
    masked: Vec<u8>,
    collapse: Collapse,
    kept: Kept,
}

// === impl LogLimits ===

impl Default for LogLimits {
    fn default() -> Self {
        LogLimits {
            line_bytes: 2_000,
            front_bytes: 2 << 20,
            back_bytes: 2 << 20,
            error_kinds: 2_000,
        }
    }
}

// === impl Reducer ===

impl Reducer {
    /// Begins a log.
    pub fn new(limits: LogLimits) -> Self {
        Reducer {
            lines: Lines::new(limits.line_bytes),
            errors: Errors::default(),
            masked: Vec::new(),
            collapse: Collapse::default(),
            kept: Kept::new(limits),
        }
    }

    /// Takes the next piece; it may end anywhere.
    pub fn push(&mut self, text: &str) {
        let Reducer { lines, errors, masked, collapse, kept } = self;
        lines.push(text, |text| take(text, errors, masked, collapse, kept));
    }

    /// The reduced log.
    pub fn finish(self) -> String {
        let Reducer { lines, mut errors, mut masked, mut collapse, mut kept } = self;
        let ends = lines.finish(|text| {
            take(text, &mut errors, &mut masked, &mut collapse, &mut kept);
        });
        collapse.finish(&mut |line| kept.push(line));
        kept.finish(ends)
    }
}

impl Default for Reducer {
    fn default() -> Self {
        Reducer::new(LogLimits::default())
    }
}

fn take(
    text: &str,
    errors: &mut Errors,
    masked: &mut Vec<u8>,
    collapse: &mut Collapse,
    kept: &mut Kept,
) {
    let error = errors.next(text);
    collapse.push(text, mask::hash(text, masked), error, &mut |line| kept.push(line));
}

/// The log, reduced.
pub fn reduce(log: &str) -> String {
    let mut reducer = Reducer::default();
    reducer.push(log);
    reducer.finish()
}

/// The log that the reader gives, reduced; bytes that are not UTF-8 become U+FFFD.
///
/// # Errors
///
/// The reader failed.
pub fn reduce_reader(mut log: impl Read) -> io::Result<String> {
    let mut reducer = Reducer::default();
    let mut decoder = encoding_rs::UTF_8.new_decoder();
    let mut block = vec![0; BLOCK];
    let mut text = String::with_capacity(BLOCK * 3 + 16);
    loop {
        let read = log.read(&mut block)?;
        text.clear();
        let _ = decoder.decode_to_string(&block[..read], &mut text, read == 0);
        reducer.push(&text);
        if read == 0 {
            return Ok(reducer.finish());
        }
    }
}
