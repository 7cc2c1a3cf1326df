//! Verdicts of other runs: taken over by content, never asked for twice.

use serde_json::Value;
use tribunal_e2e::{Running, SimProcess, Workspace, assert_exit, document, number};

/// Grades what is in the workspace, and says what it asked.
fn grade(workspace: &Workspace, sim: &SimProcess, args: &[&str]) -> (Value, u64) {
    let before = sim.requests();
    let output = workspace.run_grade(&sim.base_url, args);
    assert_exit(&output, 0);
    (document(&output), sim.requests() - before)
}

#[test]
fn a_changed_leaf_alone_is_asked_again() {
    let (workspace, sim) = (Workspace::generated(40), SimProcess::start(&[]));
    let (first, asked) = grade(&workspace, &sim, &[]);
    assert_eq!(asked, 40);

    // The last leaf stands before no other.
    let rubric = workspace.read("rubric.json");
    let changed = rubric.replacen("transform_39 scales", "transform_39 never scales", 1);
    assert_ne!(rubric, changed);
    workspace.write("rubric.json", &changed);
    let (second, asked) = grade(&workspace, &sim, &[]);
    assert_eq!(asked, 1);
    assert_ne!(first["run"], second["run"]);
    assert_eq!(number(&second, "/outcomes/reused"), 39);
    assert_eq!(
        (number(&second, "/calls/judge"), second["root"]["coverage"].as_f64()),
        (1, Some(1.0))
    );
    assert!(number(&second, "/tokens/input") < number(&first, "/tokens/input") / 20, "{second:#}");
    let tree = workspace.read("out/scored_tree.json");
    let origin = first["run"].as_str().expect("an id");
    assert_eq!(tree.matches(origin).count(), 39, "each verdict says where it is from");

    // Leaf 30 stands before the nine that follow it in its group.
    let changed = changed.replacen("transform_30 scales", "transform_30 never scales", 1);
    workspace.write("rubric.json", &changed);
    assert_eq!(grade(&workspace, &sim, &[]).1, 10);

    let (fresh, asked) = grade(&workspace, &sim, &["--fresh"]);
    assert_eq!((asked, number(&fresh, "/outcomes/reused")), (40, 0), "fresh means fresh");
}

#[test]
fn another_judge_prompt_set_or_paper_is_another_question() {
    let (workspace, sim) = (Workspace::generated(10), SimProcess::start(&[]));
    workspace.write("paper.md", "# A paper\n");
    assert_eq!(grade(&workspace, &sim, &[]).1, 10);
    assert_eq!(grade(&workspace, &sim, &["--paper", "paper.md"]).1, 10);
    assert_eq!(grade(&workspace, &sim, &["--prompt-set", "strict"]).1, 10);
    let other = SimProcess::start(&[]);
    assert_eq!(grade(&workspace, &other, &[]).1, 10, "another endpoint");
    workspace.write("tribunal.toml", "[run]\nmax_prior_nodes = 1\n");
    assert_eq!(grade(&workspace, &sim, &[]).1, 10);
    // What no judge is shown changes nothing.
    workspace.write("tribunal.toml", "");
    workspace.write("submission/plot.svg", "<svg/>");
    let (document, _) = grade(&workspace, &sim, &["--budget", "none"]);
    assert_eq!(number(&document, "/outcomes/graded"), 10);
}

#[test]
fn two_runs_in_flight_ask_each_question_once() {
    let sim = SimProcess::start(&["--latency-ms", "100"]);
    let workspace = Workspace::generated(60);
    let rubric = workspace.read("rubric.json");
    let changed = rubric.replacen("transform_59 scales", "transform_59 never scales", 1);
    workspace.write("other.json", &changed);
    let start = |rubric: &str, out: &str| {
        let inputs = ["grade", "--json", "--rubric", rubric, "--submission", "submission"];
        let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim", "--out", out];
        let few = ["--concurrency", "8"];
        Running::start(workspace.command(&[&inputs[..], &judge, &few].concat()))
    };
    let (first, second) = (start("rubric.json", "out1"), start("other.json", "out2"));
    for output in [first.finish(), second.finish()] {
        assert_exit(&output, 0);
        assert_eq!(number(&document(&output), "/outcomes/graded"), 60);
    }
    assert_eq!(sim.requests(), 61, "59 leaves are the same");
}
