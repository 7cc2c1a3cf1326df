//! Rate limits end to end, against a simulated provider that enforces them: by its counts, not by
//! time. The shares of long runs are measured by `make bench`.

use std::process::Output;

use tribunal_e2e::{Running, SimProcess, Workspace, assert_exit, document, number};

const LEAVES: u64 = 300;

/// Calls rejected for each that was admitted.
fn rejected(sim: &SimProcess) -> f64 {
    sim.stat("rejected") as f64 / sim.stat("admitted") as f64
}

/// Every leaf was graded, at one call each besides those that the provider turned away.
#[track_caller]
fn assert_graded(output: &Output, sim: &SimProcess) {
    assert_exit(output, 0);
    let document = document(output);
    assert_eq!(number(&document, "/outcomes/graded"), LEAVES);
    assert_eq!(number(&document, "/calls/failed"), 0);
    assert_eq!(number(&document, "/calls/rejected"), sim.stat("rejected"));
    assert_eq!(sim.stat("answered"), LEAVES);
}

#[test]
fn a_limit_known_from_flags_or_headers_is_not_hit() {
    for (provider, flags) in [
        (&["--hide-limits"][..], &["--rpm", "2400"][..]),
        (&[], &[]),
        (&["--hide-limits", "--count-rejected"], &["--rpm", "2400"]),
    ] {
        let limits = ["--rpm", "2400", "--latency-ms", "50"];
        let sim = SimProcess::start(&[&limits, provider].concat());
        let workspace = Workspace::generated(LEAVES as usize);
        assert_graded(&workspace.run_grade(&sim.base_url, flags), &sim);
        assert!(rejected(&sim) <= 0.02, "{provider:?}: {}", sim.stats());
    }
}

#[test]
fn two_processes_on_one_store_share_a_limit() {
    let sim = SimProcess::start(&["--rpm", "2400", "--latency-ms", "50"]);
    let workspace = Workspace::generated(LEAVES as usize);
    let inputs = ["submit", "--rubric", "rubric.json", "--submission", "submission"];
    let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim"];
    assert_exit(&workspace.run(&[&inputs[..], &judge].concat()), 0);
    let work = ["work", "--until-empty", "--quiet"];
    let workers = [0, 1].map(|_| Running::start(workspace.command(&work)));
    for worker in workers {
        assert_exit(&worker.finish(), 0);
    }
    assert_eq!(sim.stat("answered"), LEAVES);
    assert!(rejected(&sim) <= 0.05, "{}", sim.stats());
}

#[test]
fn an_unknown_limit_is_found_and_no_leaf_is_burnt() {
    for provider in [&[][..], &["--count-rejected"], &["--halve-after", "150"]] {
        let limits = ["--rpm", "2400", "--hide-limits", "--latency-ms", "50"];
        let sim = SimProcess::start(&[&limits, provider].concat());
        let workspace = Workspace::generated(LEAVES as usize);
        assert_graded(&workspace.run_grade(&sim.base_url, &[]), &sim);
        // A short run is mostly the search.
        assert!(rejected(&sim) <= 0.4, "{provider:?}: {}", sim.stats());
    }
}

#[test]
fn a_stated_limit_below_one_question_pauses_the_run_and_costs_no_leaf() {
    let sim = SimProcess::start(&["--tpm", "200"]);
    let workspace = Workspace::generated(20);
    let output = workspace.run_grade(&sim.base_url, &[]);
    assert_exit(&output, 4);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("more than the 200"), "{said}");
    let document = document(&output);
    let open =
        number(&document, "/outcomes/graded") + number(&document, "/outcomes/ungraded/pending");
    assert_eq!(open, 20, "{document:#}");
}
