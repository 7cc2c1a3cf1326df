//! A comparison as text for a terminal.
//!
//! Owns its tables. Numbers come from [`Comparison`].

use comfy_table::{
    Cell, CellAlignment, ContentArrangement, Table,
    presets::{ASCII_FULL_CONDENSED, UTF8_FULL_CONDENSED},
};
use tribunal_core::Score;

use super::{Comparison, Difference, Flips, Side};
use crate::text::{TextStyle, sanitize_line, thousands};

/// Characters that the numbers of the table of changed leaves take.
const NUMBERS: usize = 44;

/// The comparison, with at most `max_changed` of the leaves that differ.
pub fn text(comparison: &Comparison, style: TextStyle, max_changed: usize) -> String {
    let Comparison { a, b, .. } = comparison;
    let mut text = format!("A  {}\nB  {}\n", side(a), side(b));
    if a.simulated || b.simulated {
        text.push_str("*** SIMULATED JUDGE: no model has read the submission ***\n");
    }
    if comparison.only_a + comparison.only_b > 0 {
        let (a, b) = (comparison.only_a, comparison.only_b);
        text.push_str(&format!("only in A {a} leaves, only in B {b}: not compared\n"));
    }
    let mut table = table(style);
    table.set_header(["", "A", "B", "B - A", "95% paired", "up", "down", "p"]);
    let mut row = |name: &str, scores: [Option<&Score>; 2], flips: &Flips, of: &Difference| {
        let score = |score: Option<&Score>| score.map_or_else(String::new, |s| shown(s, style));
        let interval = match (of.low, of.high) {
            (Some(low), Some(high)) => format!("[{low:+.4}, {high:+.4}]"),
            _ => String::new(),
        };
        let difference = match (of.difference, of.paired) {
            (Some(difference), _) => format!("{difference:+.4}"),
            // Over the leaves that both have.
            (None, Some(paired)) => format!("({paired:+.4})"),
            (None, None) => style.score(None),
        };
        let p = flips.mcnemar_p.map_or_else(String::new, |p| format!("{p:.3}"));
        let cells = [
            score(scores[0]),
            score(scores[1]),
            difference,
            interval,
            flips.up.to_string(),
            flips.down.to_string(),
            p,
        ];
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let mut line = vec![Cell::new(name)];
        line.extend(cells.map(right));
        table.add_row(line);
    };
    row("root", [Some(&a.root), Some(&b.root)], &comparison.flips, &comparison.root);
    for (category, of) in &comparison.by_category {
        if let Some(of) = of {
            row(category.name(), [None, None], &of.flips, &of.difference);
        }
    }
    text.push_str(&table.trim_fmt());
    text.push('\n');
    let flips = &comparison.flips;
    let same = flips.both_graded - flips.up - flips.down;
    text.push_str(&format!(
        "{} leaves: {same} alike, {} up, {} down; graded in A alone {}, in B alone {}, in neither {}\n",
        thousands(comparison.leaves as u64),
        flips.up,
        flips.down,
        flips.only_a_graded,
        flips.only_b_graded,
        flips.neither_graded
    ));
    if comparison.root.difference.is_none() {
        let Difference { lower, upper, .. } = comparison.root;
        text.push_str(&format!(
            "incomplete: B - A lies between {lower:+.4} and {upper:+.4}; in brackets the difference \
             over the leaves that both have\n"
        ));
    }
    if let Some(cost) = comparison.cost_difference_usd {
        text.push_str(&format!("cost: B - A = {cost:+.4} USD\n"));
    }
    text.push_str(&changed(comparison, style, max_changed));
    text
}

fn changed(comparison: &Comparison, style: TextStyle, max: usize) -> String {
    if comparison.changed.is_empty() || max == 0 {
        return String::new();
    }
    let mut table = table(style);
    table.set_header(["leaf", "share", "A", "B", "criterion"]);
    let room = usize::from(style.width).saturating_sub(NUMBERS).max(24);
    for leaf in comparison.changed.iter().take(max) {
        table.add_row([
            format!("#{}", leaf.index),
            format!("{:.2}%", leaf.share * 100.0),
            score(leaf.a),
            score(leaf.b),
            style.shorten(&leaf.requirements, room),
        ]);
    }
    let more = comparison.changed.len().saturating_sub(max);
    let more =
        if more > 0 { format!("and {more} more; --json has them all\n") } else { String::new() };
    format!("{}\n{more}", table.trim_fmt())
}

fn score(score: Option<f64>) -> String {
    score.map_or_else(|| "not graded".to_owned(), |score| format!("{score}"))
}

/// A score, or its bounds.
fn shown(score: &Score, style: TextStyle) -> String {
    match score.score {
        Some(_) => style.score(score.score),
        None => format!("[{:.4}, {:.4}]", score.lower, score.upper),
    }
}

fn side(side: &Side) -> String {
    let mut text = sanitize_line(&side.name);
    if !side.model.is_empty() {
        text.push_str(&format!(", judged by {}", sanitize_line(&side.model)));
    }
    if let Some(cost) = side.cost_usd {
        text.push_str(&format!(", {cost:.4} USD"));
    }
    text
}

fn table(style: TextStyle) -> Table {
    let mut table = Table::new();
    table.load_style(if style.unicode { UTF8_FULL_CONDENSED } else { ASCII_FULL_CONDENSED });
    if style.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_width(style.width).set_content_arrangement(ContentArrangement::Dynamic);
    table
}
