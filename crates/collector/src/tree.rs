//! Trees drawn as text.
//!
//! Owns the lines and where criteria are cut. What stands before and in front of a criterion is
//! the caller's.

use tribunal_core::{Outcome, Rubric};

use crate::{collect::Collected, text::TextStyle};

/// What is drawn for one node.
pub struct TreeLine {
    /// Stands in a column of its own, left of the tree.
    pub left: String,
    /// Stands before the criterion.
    pub mark: String,
    /// Stands behind the criterion, which is cut in its favour.
    pub right: String,
}

/// Draws `rubric` down to `max_depth` levels (the root is level 1), a line a node, criteria cut
/// to the style's width.
pub fn draw_tree(
    rubric: &Rubric,
    style: TextStyle,
    max_depth: Option<u32>,
    line: impl Fn(usize) -> TreeLine,
) -> String {
    let [fork, last_fork, pass, gap] = if style.unicode {
        ["├─ ", "└─ ", "│  ", "   "]
    } else {
        ["|- ", "`- ", "|  ", "   "]
    };
    let deepest = max_depth.unwrap_or(u32::MAX).max(1);
    let shown: Vec<usize> = (0..rubric.nodes().len())
        .filter(|index| rubric.nodes()[*index].depth() <= deepest)
        .collect();
    let lines: Vec<TreeLine> = shown.iter().map(|index| line(*index)).collect();
    let left = lines.iter().map(|line| line.left.chars().count()).max();
    let left = left.unwrap_or(0);
    // For each open level, whether another child follows there.
    let mut more: Vec<bool> = Vec::new();
    let mut text = String::new();
    for (index, line) in shown.into_iter().zip(lines) {
        let node = &rubric.nodes()[index];
        let mut branch = String::new();
        if let Some(parent) = node.parent() {
            more.truncate(node.depth() as usize - 2);
            for open in &more {
                branch.push_str(if *open { pass } else { gap });
            }
            let follows = rubric.end(index) < rubric.end(parent);
            branch.push_str(if follows { fork } else { last_fork });
            more.push(follows);
        }
        let hidden = if node.depth() == deepest && !node.is_leaf() {
            let nodes = rubric.end(index) - index - 1;
            format!(" ({nodes} below)")
        } else {
            String::new()
        };
        let mut head = String::new();
        if left > 0 {
            head = format!("{:<left$}  ", line.left);
        }
        head.push_str(&branch);
        if !line.mark.is_empty() {
            head.push_str(&line.mark);
            head.push(' ');
        }
        let mut tail = hidden;
        if !line.right.is_empty() {
            tail = format!(" {}{tail}", line.right);
        }
        let used = head.chars().count() + tail.chars().count();
        // However deep the tree, some of the criterion is seen.
        let room = usize::from(style.width).saturating_sub(used).max(16);
        text.push_str(&head);
        text.push_str(&style.shorten(&node.requirements, room));
        text.push_str(&tail);
        text.push('\n');
    }
    text
}

/// Draws a run's scored tree: for every node its score, or its bounds where something is missing,
/// and its share of the root; for a leaf its outcome.
pub fn scored_tree(collected: &Collected, style: TextStyle, max_depth: Option<u32>) -> String {
    let rubric = collected.rubric();
    let shares = rubric.weight_shares();
    let [met, unmet, partly, missing] =
        if style.unicode { ["✓", "✗", "~", "?"] } else { ["+", "x", "~", "?"] };
    let drawn = draw_tree(rubric, style, max_depth, |index| {
        let node = &rubric.nodes()[index];
        let score = collected.scores().node(index);
        let shown = match score.score {
            Some(score) => format!("{score:.4}"),
            None => format!("{:.2}..{:.2}", score.lower, score.upper),
        };
        let outcome = node.is_leaf().then(|| collected.outcome(index));
        let mark = match outcome {
            None => "",
            Some(Outcome::Graded { score }) if score >= 1.0 => met,
            Some(Outcome::Graded { score }) if score <= 0.0 => unmet,
            Some(Outcome::Graded { .. }) => partly,
            Some(Outcome::Ungraded { .. }) => missing,
        };
        let reason = outcome.and_then(Outcome::ungraded);
        TreeLine {
            left: format!("{shown:<10} {:>5.1}%", shares[index] * 100.0),
            mark: mark.to_owned(),
            right: match reason {
                Some(reason) => format!("[{reason}]"),
                None if node.is_leaf() && rubric.is_approximate(index) => {
                    "[approximate]".to_owned()
                }
                None => String::new(),
            },
        }
    });
    format!("{:<10} {:>6}\n{drawn}", "score", "share")
}
