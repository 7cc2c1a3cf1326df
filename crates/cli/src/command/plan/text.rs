//! The plan as people read it.
//!
//! Owns its lines. The numbers are the document's.

use comfy_table::{Cell, CellAlignment, Table, presets::NOTHING};
use tribunal_collector::text::{duration, percent, thousands};

use super::{CostInterval, PlanDocument};

/// The plan with its assumptions and warnings.
pub(super) fn render(plan: &PlanDocument) -> String {
    let mut facts = Table::new();
    facts.load_style(NOTHING);
    facts.add_row(["run", plan.run.as_str()]);
    facts.add_row(["judge", &format!("{}, model {}", plan.judge, plan.model)]);
    let mut leaves = format!("{}: {} to ask", thousands(plan.leaves), thousands(plan.calls.judge));
    for (count, what) in
        [(plan.by_rule, "by rule"), (plan.reused, "reused"), (plan.done, "done before")]
    {
        if count > 0 {
            leaves.push_str(&format!(", {} {what}", thousands(count)));
        }
    }
    facts.add_row(["leaves", &leaves]);
    let calls =
        format!("{} judge, {} rank", thousands(plan.calls.judge), thousands(plan.calls.rank));
    facts.add_row(["calls", &calls]);
    let cached =
        plan.cached_share.map_or_else(String::new, |share| format!(" ({} cached)", percent(share)));
    let tokens = format!(
        "{} in{cached}, {} out",
        thousands(plan.tokens.input),
        thousands(plan.tokens.output)
    );
    facts.add_row(["tokens", &tokens]);
    facts.add_row(["cost", &plan.cost_usd.as_ref().map_or("not known".to_owned(), cost)]);
    facts.add_row(["time", &plan.time_s.map_or("not known".to_owned(), time)]);
    let mut text = format!("{}\n", facts.trim_fmt());

    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["", "leaves", "asked", "shared tokens", "longest question"]);
    for (category, planned) in &plan.categories {
        let number = |n| Cell::new(thousands(n)).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(category),
            number(planned.leaves),
            number(planned.asked),
            number(planned.shared_tokens),
            number(planned.longest_tokens),
        ]);
    }
    text.push_str(&format!("\n{}\n", table.trim_fmt()));
    for (head, lines) in [("assuming", &plan.assumptions), ("warning", &plan.warnings)] {
        for line in lines {
            text.push_str(&format!("{head}: {line}\n"));
        }
    }
    text
}

fn cost(cost: &CostInterval) -> String {
    format!("{}, between {} and {}", dollars(cost.expected), dollars(cost.low), dollars(cost.high))
}

/// A call may cost a hundredth of a cent.
fn dollars(usd: f64) -> String {
    let digits = if usd < 1.0 { 4 } else { 2 };
    format!("${usd:.digits$}")
}

fn time(seconds: f64) -> String {
    duration((seconds * 1000.0).ceil() as u64)
}
