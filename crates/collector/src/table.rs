//! The table that closes a run.
//!
//! Owns its rows. Numbers come from [`Collected`]; who prints them is the caller.

use std::fmt::Write;

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, Table,
    presets::{ASCII_FULL_CONDENSED, NOTHING, UTF8_FULL_CONDENSED},
};
use tribunal_core::{Rubric, Score};
use tribunal_store::Amount;

use crate::{
    canary::Canaries,
    collect::Collected,
    document::GradeState,
    summary::ScoreSummary,
    text::{TextStyle, duration, percent, thousands},
};

/// Characters that the columns of numbers take, frames included.
const NUMBERS: usize = 64;

/// What is said of a budget below what was spent: nothing is sent that could exceed one.
const SET_LATE: &str = " (set when more was spent)";

/// What is said above every score of a simulated judge.
const SIMULATED: &str =
    "SIMULATED JUDGE: no model has read the submission; these scores say nothing about it";

/// The scores of a run with what they rest on: root, categories, first level, outcomes, calls,
/// tokens and time; before them, loud lines where the judge is simulated or leaves are missing.
pub fn closing_table(collected: &Collected, style: TextStyle) -> String {
    let mut text = String::new();
    if collected.simulated() {
        text.push_str(&loud(SIMULATED, style));
    }
    if let Some(line) = collected.canaries().and_then(Canaries::warning) {
        text.push_str(&loud(&line, style));
    }
    if let Some(line) = unfinished(collected, style) {
        text.push_str(&loud(&line, style));
    }
    text.push_str(&scores(collected.summary(), collected.rubric(), style));
    text.push_str(&facts(collected, style).trim_fmt());
    text.push('\n');
    text
}

/// The scores of a tree: root, categories, and the first level of `rubric`, which is the pruned
/// rubric that was scored; before them, loud lines where the judge was simulated or leaves are missing.
pub fn score_table(
    summary: &ScoreSummary,
    rubric: &Rubric,
    simulated: bool,
    style: TextStyle,
) -> String {
    let mut text = String::new();
    if simulated {
        text.push_str(&loud(SIMULATED, style));
    }
    if summary.root.ungraded > 0 {
        text.push_str(&loud(&format!("INCOMPLETE: {}", missing(&summary.root)), style));
    }
    text.push_str(&scores(summary, rubric, style));
    text
}

/// What is left to do or cannot be known, if anything.
fn unfinished(collected: &Collected, style: TextStyle) -> Option<String> {
    let root = &collected.summary().root;
    let state = collected.state();
    if state == GradeState::Complete && root.ungraded == 0 {
        return None;
    }
    let mut line = state.name().to_uppercase();
    if root.ungraded > 0 {
        let _ = write!(line, ": {}", missing(root));
    }
    let reason = &collected.record().reason;
    if state == GradeState::Paused && !reason.is_empty() {
        let _ = write!(line, " ({})", style.shorten(reason, 400));
    }
    Some(line)
}

fn missing(root: &Score) -> String {
    let (ungraded, leaves) = (thousands(root.ungraded.into()), thousands(root.leaves.into()));
    let what = match root.score {
        Some(_) => "they weigh nothing".to_owned(),
        None => format!("the score lies between {:.4} and {:.4}", root.lower, root.upper),
    };
    format!("{ungraded} of {leaves} leaves are not graded; {what}")
}

fn loud(line: &str, style: TextStyle) -> String {
    if style.colour {
        format!("\u{1b}[1;33m{line}\u{1b}[0m\n")
    } else {
        format!("*** {line} ***\n")
    }
}

fn table(style: TextStyle) -> Table {
    let mut table = Table::new();
    if style.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_width(style.width);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if !style.unicode {
        table.set_truncation_indicator("...");
    }
    table
}

fn scores(summary: &ScoreSummary, rubric: &Rubric, style: TextStyle) -> String {
    let mut table = table(style);
    table.load_style(if style.unicode { UTF8_FULL_CONDENSED } else { ASCII_FULL_CONDENSED });
    table.set_header(["", "score", "lower", "upper", "coverage", "leaves", "ungraded"]);
    let mut row = |name: Cell, score: &Score| {
        let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let shown = number(style.score(score.score));
        let ungraded = number(thousands(u64::from(score.ungraded)));
        let missing = style.colour && score.ungraded > 0;
        table.add_row([
            name,
            if style.colour { shown.add_attribute(Attribute::Bold) } else { shown },
            number(style.score(Some(score.lower))),
            number(style.score(Some(score.upper))),
            number(percent(score.coverage)),
            number(thousands(u64::from(score.leaves))),
            if missing { ungraded.fg(Color::Yellow) } else { ungraded },
        ]);
    };
    let root = Cell::new("root");
    row(if style.colour { root.add_attribute(Attribute::Bold) } else { root }, &summary.root);
    for (category, score) in &summary.by_category {
        if let Some(score) = score {
            row(Cell::new(category), score);
        }
    }
    let room = usize::from(style.width).saturating_sub(NUMBERS).clamp(20, 60);
    for (number, (child, scored)) in rubric.children(0).zip(&summary.first_level).enumerate() {
        let number = format!("{}. ", number + 1);
        let criterion = &rubric.nodes()[child].requirements;
        let criterion = style.shorten(criterion, room - number.len());
        row(Cell::new(number + &criterion), &scored.score);
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// What the run cost, by what it was for, and against its budget and its plan.
fn bill(collected: &Collected, cost: f64) -> String {
    let bill = collected.bill();
    let mut text = dollars(cost);
    let spending = collected.totals().spending;
    if let Some(micro_usd) = spending.and_then(|spending| spending.budget.micro_usd) {
        let budget = Amount { micro_usd, tokens: 0 }.usd();
        let _ = write!(text, " of {}", dollars(budget));
        if cost > budget {
            text.push_str(SET_LATE);
        }
    }
    let mut parts = Vec::new();
    for (line, what) in [(bill.judge, "judge"), (bill.rank, "rank"), (bill.repair, "repair")] {
        if let Some(cost) = line.cost_usd.filter(|cost| *cost > 0.0) {
            parts.push(format!("{what} {}", dollars(cost)));
        }
    }
    if let Some(unknown) = bill.unknown_usd.filter(|unknown| *unknown > 0.0) {
        parts.push(format!("calls of unknown outcome {}", dollars(unknown)));
    }
    if parts.len() > 1 {
        let _ = write!(text, ": {}", parts.join(", "));
    }
    let unsure = bill.possible.cost_usd.filter(|cost| *cost > 0.0);
    // Under a budget of whatever kind they are charged.
    if let Some(possible) = unsure.filter(|_| spending.is_none()) {
        let calls = bill.possible.calls;
        let _ = write!(
            text,
            "; {calls} calls of unknown outcome may have cost up to {} besides",
            dollars(possible)
        );
    }
    if let Some(saved) = bill.reused.cost_usd.filter(|saved| *saved > 0.0) {
        let _ = write!(text, "; reuse saved about {}", dollars(saved));
    }
    let planned =
        bill.planned.and_then(|planned| planned.cost_usd).filter(|planned| *planned > 0.0);
    if let Some((planned, difference)) = planned.zip(bill.difference_usd) {
        let sign = if difference < 0.0 { '-' } else { '+' };
        let share = difference.abs() / planned * 100.0;
        let _ = write!(text, "; planned {} ({sign}{share:.1}%)", dollars(planned));
    }
    text
}

/// A call may cost a hundredth of a cent.
fn dollars(usd: f64) -> String {
    let digits = if usd < 1.0 { 4 } else { 2 };
    format!("${usd:.digits$}")
}

fn facts(collected: &Collected, style: TextStyle) -> Table {
    let mut table = table(style);
    table.load_style(NOTHING);
    let run = &collected.record().run;
    let simulated = if collected.simulated() { " (simulated)" } else { "" };
    let judge = style.shorten(&run.judge, 60);
    let model = style.shorten(&run.model, 60);
    table.add_row(["run", &format!("{}, {}", run.id, collected.state())]);
    table.add_row(["judge", &format!("{judge}{simulated}, model {model}")]);

    let counts = collected.counts();
    let mut outcomes = format!(
        "{} graded, {} by rule, {} reused",
        thousands(counts.graded),
        thousands(counts.by_rule),
        thousands(counts.reused)
    );
    for (reason, count) in &counts.ungraded {
        let _ = write!(outcomes, "; {} {reason}", thousands(*count));
    }
    table.add_row(["outcomes", &outcomes]);

    if let Some(votes) = collected.votes() {
        let mut said = format!(
            "{} a leaf, by {}: {} leaves of one mind, {} divided",
            votes.per_leaf,
            votes.counted,
            thousands(votes.unanimous),
            thousands(votes.divided)
        );
        for (count, what) in [(votes.tied, "tied"), (votes.sent_on, "sent on")] {
            if count > 0 {
                let _ = write!(said, ", {} {what}", thousands(count));
            }
        }
        table.add_row(["votes", &said]);
    }

    let totals = collected.totals();
    let calls = format!(
        "{} judge, {} rank, {} repair; {} rejected, {} failed",
        thousands(totals.judge_calls),
        thousands(totals.rank_calls),
        thousands(totals.repair_calls),
        thousands(totals.rejected),
        thousands(totals.failed)
    );
    table.add_row(["calls", &calls]);
    let usage = totals.usage;
    let cached = if usage.input == 0 {
        String::new()
    } else {
        // Token counts are far below 2^53.
        let share = usage.cached as f64 / usage.input as f64;
        format!(" ({} cached)", percent(share))
    };
    let (input, output) = (thousands(usage.input), thousands(usage.output));
    let mut tokens = format!("{input} in{cached}, {output} out");
    let limit =
        totals.spending.and_then(|spending| Some((spending.budget.tokens?, spending.spent)));
    if let Some((most, spent)) = limit {
        let _ = write!(tokens, "; {} of {} spent", thousands(spent.tokens), thousands(most));
        if spent.tokens > most {
            tokens.push_str(SET_LATE);
        }
    }
    table.add_row(["tokens", &tokens]);
    if let Some(cost) = collected.cost_usd() {
        table.add_row(["cost", &bill(collected, cost)]);
    }
    table.add_row(["time", &duration(totals.wall_ms)]);
    table
}
