//! What becomes of leaves when the provider fails in every way.
//!
//! Owns the rates and the count. The judge passes everything, so that a 0 could only be a failure.

use std::process::Command;

use serde_json::Value;
use tribunal_e2e::{SimProcess, Workspace, sum, write_labels, write_rubric, write_submission};

use crate::{measure::ended, table::Table, workload::Workload};

const LEAVES: usize = 5_000;

/// Shares of calls: server errors, answers that are no verdict, calls never answered, connections
/// that break in mid-body, answers that stop there.
const FAULTS: [&str; 10] = [
    "--error-rate",
    "0.02",
    "--malformed-rate",
    "0.02",
    "--timeout-rate",
    "0.01",
    "--reset-rate",
    "0.01",
    "--stall-rate",
    "0.01",
];

pub(crate) fn measure(_: &Workload, table: &mut Table) {
    let workspace = Workspace::empty();
    write_rubric(&workspace.file("rubric.json"), LEAVES);
    write_submission(&workspace.file("submission"), 30);
    write_labels(&workspace.file("labels.json"), LEAVES, 1.0);
    let labels = workspace.file("labels.json");
    let labels = ["--labels", labels.to_str().expect("a path in UTF-8"), "--latency-ms", "50"];
    let sim = SimProcess::start(&[&FAULTS[..], &labels].concat());
    let url = &sim.base_url;
    workspace.write(
        "tribunal.toml",
        &format!("[judge.faulty]\nbase_url = \"{url}\"\nmodel = \"tribunal-sim\"\ntimeout_s = 3\n"),
    );
    let inputs = ["--rubric", "rubric.json", "--submission", "submission", "--out", "out"];
    let grade: Command =
        workspace.command(&[&["grade", "--json", "--judge", "faulty"][..], &inputs].concat());
    let graded = ended(&grade);
    let document: Value = serde_json::from_str(&graded.stdout).expect("one JSON document");
    let (outcomes, stats) = (&document["outcomes"], sim.stats());
    let typed = sum(&outcomes["ungraded"]);
    let whole = outcomes["graded"].as_u64().expect("a count");
    let zeros = zeros(&workspace.json("out/scored_tree.json")["tree"]);
    assert_eq!(whole + typed, LEAVES as u64, "every leaf ends graded or typed");
    let faults = ["errors", "malformed", "timeouts", "resets", "stalls"]
        .map(|name| format!("{} {name}", stats[name]));
    table.row(
        format!("{LEAVES} leaves through {}: graded, typed, 0 by failure", faults.join(", ")),
        format!("{whole}, {typed}, {zeros}"),
        "every leaf graded or typed, none 0",
    );
}

/// Leaves with a score of 0.
fn zeros(node: &Value) -> usize {
    let children = node["sub_tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let here = children.is_empty() && node["score"].as_f64() == Some(0.0);
    usize::from(here) + children.iter().map(zeros).sum::<usize>()
}
