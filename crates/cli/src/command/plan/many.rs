//! The plan of a batch: the sum of its trees' plans.
//!
//! Owns the sum, its document and its text. A tree's own plan is its parent's.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;
use tribunal_collector::text::{duration, thousands};
use tribunal_core::{RunId, Usage};

use super::{CostInterval, PlanDocument, PlannedCalls, plan};
use crate::{
    args::InputArgs,
    command::Context,
    config::{Config, judge::ResolvedJudge},
    exit::Exit,
    output,
    panel::Panel,
    trees::refuse,
};

/// The document of `tribunal batch --plan`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BatchPlanDocument {
    /// Trees that are judged; rows with the same inputs are one.
    trees: usize,
    /// All leaves.
    leaves: u64,
    /// Leaves that a rule decides, without a call.
    by_rule: u64,
    /// Leaves whose verdict an earlier run has made.
    reused: u64,
    /// Leaves that have their verdict already, where the batch was begun before.
    done: u64,
    /// Calls, where each is answered at the first try.
    calls: PlannedCalls,
    /// Tokens of those calls: the expected ones.
    tokens: Usage,
    /// In US dollars; null where the model's price is not known.
    cost_usd: Option<CostInterval>,
    /// Seconds at the known limits and latency; null where neither is known.
    time_s: Option<f64>,
    /// What the numbers rest on.
    assumptions: Vec<String>,
    /// What is likely not meant.
    warnings: Vec<String>,
}

/// Prints the plan of these trees, each with its row of the manifest.
///
/// # Errors
///
/// Inputs cannot be used: all of them are told at once. Or the config or the store cannot.
pub(crate) async fn many(
    trees: Vec<(&str, &InputArgs)>,
    config: &Config,
    judge: &ResolvedJudge,
    context: &Context,
) -> anyhow::Result<Exit> {
    let panel = Panel::of(judge.clone());
    let (mut plans, mut problems) = (Vec::new(), Vec::new());
    let mut seen: BTreeSet<RunId> = BTreeSet::new();
    for (at, inputs) in trees {
        match plan(inputs, config, &panel).await {
            Ok(plan) if seen.insert(plan.run.clone()) => plans.push(plan),
            Ok(_) => {}
            Err(error) => problems.push(format!("{at}: {error:#}")),
        }
    }
    refuse(&problems)?;
    let document = sum(plans);
    if context.json {
        output::print_json("batch plan", &document)?;
    } else {
        output::print_text(&render(&document))?;
    }
    Ok(Exit::Complete)
}

fn sum(plans: Vec<PlanDocument>) -> BatchPlanDocument {
    let count = |of: fn(&PlanDocument) -> u64| plans.iter().map(of).sum();
    let mut tokens = Usage::default();
    for plan in &plans {
        tokens += plan.tokens;
    }
    let costs: Option<Vec<CostInterval>> = plans.iter().map(|plan| plan.cost_usd).collect();
    let dollars = |costs: &[CostInterval], of: fn(&CostInterval) -> f64| costs.iter().map(of).sum();
    let times: Option<Vec<f64>> = plans.iter().map(|plan| plan.time_s).collect();
    let unique = |of: fn(&PlanDocument) -> &Vec<String>| -> Vec<String> {
        let lines: BTreeSet<&String> = plans.iter().flat_map(of).collect();
        lines.into_iter().cloned().collect()
    };
    BatchPlanDocument {
        trees: plans.len(),
        leaves: count(|plan| plan.leaves),
        by_rule: count(|plan| plan.by_rule),
        reused: count(|plan| plan.reused),
        done: count(|plan| plan.done),
        calls: PlannedCalls {
            judge: count(|plan| plan.calls.judge),
            rank: count(|plan| plan.calls.rank),
        },
        tokens,
        cost_usd: costs.map(|costs| CostInterval {
            low: dollars(&costs, |cost| cost.low),
            expected: dollars(&costs, |cost| cost.expected),
            high: dollars(&costs, |cost| cost.high),
        }),
        time_s: times.map(|times| times.into_iter().sum()),
        assumptions: unique(|plan| &plan.assumptions),
        warnings: unique(|plan| &plan.warnings),
    }
}

fn render(plan: &BatchPlanDocument) -> String {
    let mut text = format!(
        "trees    {}\nleaves   {}: {} to ask, {} by rule, {} reused, {} done before\n\
         tokens   {} in, {} cached, {} out\n",
        plan.trees,
        thousands(plan.leaves),
        thousands(plan.calls.judge),
        thousands(plan.by_rule),
        thousands(plan.reused),
        thousands(plan.done),
        thousands(plan.tokens.input),
        thousands(plan.tokens.cached),
        thousands(plan.tokens.output)
    );
    text.push_str(&match &plan.cost_usd {
        Some(CostInterval { low, expected, high }) => {
            format!("cost     ${expected:.2} (from ${low:.2} to ${high:.2})\n")
        }
        None => "cost     not known\n".to_owned(),
    });
    text.push_str(&match plan.time_s {
        Some(seconds) => format!("time     {}\n", duration((seconds * 1000.0) as u64)),
        None => "time     not known\n".to_owned(),
    });
    for (head, lines) in [("assuming", &plan.assumptions), ("warning", &plan.warnings)] {
        for line in lines {
            text.push_str(&format!("{head}: {line}\n"));
        }
    }
    text
}
