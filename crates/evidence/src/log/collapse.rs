//! Repetitions.
//!
//! Owns finding them, in one pass: first runs of lines with the same mask, then cycles of a few such
//! runs. A run is shown as its first line with the number of its lines, and its last line where
//! that differs; a cycle likewise.

use std::collections::VecDeque;

use super::Line;

/// Runs in the longest cycle that is found.
const PERIOD_MAX: usize = 16;

/// Rounds from which a cycle is one.
const ROUNDS_MIN: usize = 3;

/// Lines with the same mask in a row.
#[derive(Clone, Debug)]
struct Run {
    first: Line,
    /// The last line; empty while there is one line only.
    last: String,
    count: u64,
}

/// Runs that come round.
#[derive(Debug)]
struct Cycle {
    first: Vec<Run>,
    /// The last whole round.
    last: Vec<Run>,
    /// The round that is under way.
    current: Vec<Run>,
    rounds: u64,
}

/// Collapses lines as they come.
#[derive(Debug, Default)]
pub(super) struct Collapse {
    run: Option<Run>,
    /// Runs that may turn out to be part of a cycle, the newest last.
    pending: VecDeque<Run>,
    /// For each period, how many of the newest runs are equal to the run that many before.
    equal: [usize; PERIOD_MAX + 1],
    cycle: Option<Cycle>,
}

// === impl Collapse ===

impl Collapse {
    /// Takes the next line; `give` receives what is settled.
    pub(super) fn push(&mut self, text: &str, mask: u64, error: bool, give: &mut impl FnMut(Line)) {
        if let Some(run) = &mut self.run
            && run.first.mask == mask
        {
            run.count += 1;
            run.last.clear();
            run.last.push_str(text);
            run.first.error |= error;
            return;
        }
        let first = Line { text: text.to_owned(), mask, error };
        let next = Run { first, last: String::new(), count: 1 };
        if let Some(run) = self.run.replace(next) {
            self.settle(run, give);
        }
    }

    /// Gives what is left.
    pub(super) fn finish(mut self, give: &mut impl FnMut(Line)) {
        if let Some(run) = self.run.take() {
            self.settle(run, give);
        }
        while let Some(cycle) = self.cycle.take() {
            self.end(cycle, give);
        }
        self.pending.drain(..).for_each(|run| run.give(give));
    }

    /// Takes a run that is complete.
    fn settle(&mut self, run: Run, give: &mut impl FnMut(Line)) {
        let Some(mut cycle) = self.cycle.take() else {
            return self.look_for_cycle(run, give);
        };
        if cycle.first[cycle.current.len()].first.mask == run.first.mask {
            cycle.current.push(run);
            if cycle.current.len() == cycle.first.len() {
                std::mem::swap(&mut cycle.last, &mut cycle.current);
                cycle.current.clear();
                cycle.rounds += 1;
            }
            self.cycle = Some(cycle);
            return;
        }
        self.end(cycle, give);
        self.settle(run, give);
    }

    /// Gives the cycle; the round that was under way begins anew as lines like any others.
    fn end(&mut self, mut cycle: Cycle, give: &mut impl FnMut(Line)) {
        let current = std::mem::take(&mut cycle.current);
        cycle.give(give);
        // Fewer runs than the cycle had: this ends.
        for run in current {
            self.settle(run, give);
        }
    }

    fn look_for_cycle(&mut self, run: Run, give: &mut impl FnMut(Line)) {
        self.pending.push_back(run);
        let newest = self.pending.len() - 1;
        let mask = |at: usize| self.pending[at].first.mask;
        let mut found = None;
        // Runs are told apart from their neighbours, so no cycle has the period 1.
        for period in 2..=PERIOD_MAX.min(newest) {
            let same = mask(newest) == mask(newest - period);
            self.equal[period] = if same { self.equal[period] + 1 } else { 0 };
            if found.is_none() && self.equal[period] >= period * (ROUNDS_MIN - 1) {
                found = Some(period);
            }
        }
        if let Some(period) = found {
            let begin = self.pending.len() - period * ROUNDS_MIN;
            self.pending.drain(..begin).for_each(|run| run.give(give));
            let mut rounds: Vec<Run> = self.pending.drain(..).collect();
            let last = rounds.split_off(period * (ROUNDS_MIN - 1));
            rounds.truncate(period);
            self.cycle =
                Some(Cycle { first: rounds, last, current: Vec::new(), rounds: ROUNDS_MIN as u64 });
            self.equal = Default::default();
        } else if self.pending.len() > PERIOD_MAX * ROUNDS_MIN
            && let Some(oldest) = self.pending.pop_front()
        {
            oldest.give(give);
        }
    }
}

// === impl Run ===

impl Run {
    /// Gives the first line with the number of lines, and the last line if it differs.
    fn give(self, give: &mut impl FnMut(Line)) {
        let Run { mut first, last, count } = self;
        let (mask, error) = (first.mask, first.error);
        let differs = count > 1 && last != first.text;
        let blank = first.text.trim().is_empty();
        if count > if differs { 2 } else { 1 } && !blank {
            first.text.push_str(&format!(" (repeated {count} times)"));
        }
        give(first);
        if differs && !blank {
            give(Line { text: last, mask, error });
        }
    }

    fn same_text(&self, other: &Run) -> bool {
        self.first.text == other.first.text && self.last == other.last && self.count == other.count
    }
}

// === impl Cycle ===

impl Cycle {
    /// Gives the first round, the number of rounds, and the last round if it differs.
    fn give(self, give: &mut impl FnMut(Line)) {
        let Cycle { first, last, rounds, .. } = self;
        let differs = first.iter().zip(&last).any(|(a, b)| !a.same_text(b));
        let mut lines = 0;
        for run in first {
            run.give(&mut |line| {
                lines += 1;
                give(line);
            });
        }
        let shown = if differs { "; the last time:" } else { "" };
        let text = format!("(the {lines} lines above repeated {rounds} times{shown})");
        give(Line { text, mask: 0, error: false });
        if differs {
            last.into_iter().for_each(|run| run.give(give));
        }
    }
}
