//! How much of a provider's limit is used, and how many calls it turns away.
//!
//! Owns the cases and their shares, which are the provider's own counts. Each case has a simulated
//! provider and a grader in processes of their own. All run at once: at these rates each of them
//! waits most of the time.

use std::{process::Command, thread};

use serde_json::Value;
use tribunal_e2e::{SimProcess, Workspace, write_rubric, write_submission};

use crate::{measure::used, table::Table, workload::Workload};

/// Leaves of a case: a minute and a half of calls at the whole limit.
const LEAVES: usize = 9_000;

/// Requests a minute.
const RPM: &str = "6000";

/// Tokens a minute; a question of these cases has about 1,000.
const TPM: &str = "6000000";

/// Admitted calls after which a limit is cut in half.
const HALVE_AFTER: &str = "4500";

/// A provider, what the grader is told of it, and what is expected.
struct Case {
    what: &'static str,
    sim: &'static [&'static str],
    flags: &'static [&'static str],
    target: &'static str,
}

const KNOWN: &str = "≥ 98%, ≤ 0.1%";
const UNKNOWN: &str = "≥ 90%, ≤ 2%";

const CASES: [Case; 7] = [
    Case {
        what: "requests, from --rpm",
        sim: &["--rpm", RPM, "--hide-limits"],
        flags: &["--rpm", RPM],
        target: KNOWN,
    },
    Case { what: "requests, from headers", sim: &["--rpm", RPM], flags: &[], target: KNOWN },
    Case {
        what: "tokens, from --tpm",
        sim: &["--tpm", TPM, "--hide-limits"],
        flags: &["--tpm", TPM],
        target: KNOWN,
    },
    Case { what: "tokens, from headers", sim: &["--tpm", TPM], flags: &[], target: KNOWN },
    Case {
        what: "requests, unknown, cut in half mid-run",
        sim: &["--rpm", RPM, "--hide-limits", "--halve-after", HALVE_AFTER],
        flags: &[],
        target: UNKNOWN,
    },
    Case {
        what: "tokens, unknown, cut in half mid-run",
        sim: &["--tpm", TPM, "--hide-limits", "--halve-after", HALVE_AFTER],
        flags: &[],
        target: UNKNOWN,
    },
    Case {
        what: "requests, unknown, cut in half, rejected calls charged",
        sim: &["--rpm", RPM, "--hide-limits", "--halve-after", HALVE_AFTER, "--count-rejected"],
        flags: &[],
        target: UNKNOWN,
    },
];

pub(crate) fn measure(_: &Workload, table: &mut Table) {
    let measured = thread::scope(|scope| {
        let running = CASES.each_ref().map(|case| scope.spawn(|| shares(case)));
        running.map(|case| case.join().expect("a case is measured"))
    });
    for (case, (used, rejected)) in CASES.iter().zip(measured) {
        let (used, rejected) = (used * 100.0, rejected * 100.0);
        let shares = format!("{used:.1}%, {rejected:.2}%");
        table.row(format!("limit of {}: used, rejected", case.what), shares, case.target);
    }
}

/// The used share of what the limit allowed from the first call to the last, and calls turned away
/// for each that was let in.
fn shares(case: &Case) -> (f64, f64) {
    let sim = SimProcess::start(&[case.sim, &["--latency-ms", "200"]].concat());
    let workspace = Workspace::empty();
    write_rubric(&workspace.file("rubric.json"), LEAVES);
    write_submission(&workspace.file("submission"), 30);
    let grade: Command = workspace.grade(&sim.base_url, case.flags);
    // A failed run fails the benchmark: every leaf is graded.
    let graded = used(&grade);
    let document: Value = serde_json::from_str(&graded.stdout).expect("one JSON document");
    assert_eq!(document["outcomes"]["graded"], LEAVES);
    let stats = sim.stats();
    let count = |name: &str| stats[name].as_f64().expect("a count");
    let used = match count("allowed_tokens") {
        0.0 => count("admitted") / count("allowed_requests"),
        allowed => (count("prompt_tokens") + count("completion_tokens")) / allowed,
    };
    (used, count("rejected") / count("admitted"))
}
