//! A reduced log within a number of tokens.
//!
//! Owns which lines stay: first the tail, then the head, then the error-like ones, then as much
//! before the tail as there is room for.

use std::collections::HashMap;

use super::{HEAD_LINES, TAIL_LINES, errors::Errors, mask};
use crate::tokens::Tokenizer;

/// Tokens that the mark of a gap takes at most.
const MARK_TOKENS: usize = 16;

/// Shortens a reduced log to at most `max` tokens, and returns the tokens that were cut. Every gap
/// is marked with the number of its lines. Where not even a mark fits, the log is empty.
pub fn fit(log: &str, max: usize, tokenizer: &dyn Tokenizer) -> (String, usize) {
    let whole = tokenizer.count(log);
    if whole <= max {
        return (log.to_owned(), 0);
    }
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    let costs: Vec<usize> = lines.iter().map(|line| tokenizer.count(line)).collect();
    let mut room = max;
    loop {
        let shown = assemble(&lines, &choose(&lines, &costs, room));
        let tokens = tokenizer.count(&shown);
        if tokens <= max {
            return (shown, whole - tokens.min(whole));
        }
        // Marks between many gaps, or lines that count for more together.
        match room.checked_sub(tokens - max + MARK_TOKENS) {
            Some(less) => room = less,
            None => return (String::new(), whole),
        }
    }
}

/// Which lines stay within `room` tokens.
fn choose(lines: &[&str], costs: &[usize], room: usize) -> Vec<bool> {
    let count = lines.len();
    let mut kept = vec![false; count];
    let mut left = room.saturating_sub(MARK_TOKENS);
    let mut take = |kept: &mut Vec<bool>,
                    order: &mut dyn Iterator<Item = usize>,
                    share: usize,
                    together: bool| {
        let mut share = share.min(left);
        let before = share;
        for line in order.filter(|line| *line < count) {
            if kept[line] {
                continue;
            }
            let joined = (line > 0 && kept[line - 1]) || kept.get(line + 1) == Some(&true);
            let cost = costs[line] + if joined { 0 } else { MARK_TOKENS };
            if cost > share {
                if together { break } else { continue }
            }
            share -= cost;
            kept[line] = true;
        }
        left -= before - share;
    };
    let tail = count.saturating_sub(TAIL_LINES);
    take(&mut kept, &mut (tail..count).rev(), room / 2, true);
    take(&mut kept, &mut (0..HEAD_LINES), room / 4, true);
    take(&mut kept, &mut errors(lines).into_iter(), usize::MAX, false);
    take(&mut kept, &mut (0..count).rev(), usize::MAX, true);
    kept
}

/// The error-like lines: the first of each kind, then the last of each.
fn errors(lines: &[&str]) -> Vec<usize> {
    let mut errors = Errors::default();
    let mut masked = Vec::new();
    let mut last: HashMap<u64, usize> = HashMap::new();
    let mut order = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let line = line.trim_end_matches('\n');
        if errors.next(line) && last.insert(mask::hash(line, &mut masked), at).is_none() {
            order.push(at);
        }
    }
    let mut last: Vec<usize> = last.into_values().collect();
    last.sort_unstable();
    order.extend(last);
    order
}

fn assemble(lines: &[&str], kept: &[bool]) -> String {
    let mut text = String::new();
    let mut gap = 0;
    let mark = |gap: usize, text: &mut String| {
        if gap > 0 {
            text.push_str(&format!("[… {gap} lines left out …]\n"));
        }
    };
    for (line, kept) in lines.iter().zip(kept) {
        if *kept {
            mark(std::mem::take(&mut gap), &mut text);
            text.push_str(line);
        } else {
            gap += 1;
        }
    }
    mark(gap, &mut text);
    text
}
