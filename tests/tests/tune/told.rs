//! What a tuning is told on its command line, and what it says: plans, refusals, budgets, words.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tribunal_e2e::{
    Reply, SimProcess, TestServer, Workspace, assert_exit, describe, document, number,
};

use super::{TUNE, calls, configure, said, sim, workspace};

const SETS: [&str; 3] = ["--prompts", "default", "strict"];

/// The arguments of a tuning that tells people.
pub(super) fn plain() -> Vec<&'static str> {
    TUNE.into_iter().filter(|arg| *arg != "--json").collect()
}

/// Who was never asked about a submission has no run over it, which would be complete from the start.
#[track_caller]
pub(super) fn has_no_empty_runs(workspace: &Workspace) {
    let runs = workspace.runs();
    assert!(!runs.is_empty());
    assert!(runs.iter().all(|run| number(run, "/leaves") > 0), "{runs:#?}");
}

/// Everything below a folder.
fn names(folder: &Path) -> BTreeSet<PathBuf> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            names.append(&mut self::names(&path));
        }
        names.insert(path);
    }
    names
}

/// A model with a price in the place of the sim's own.
fn with_a_price() -> (Workspace, SimProcess) {
    let workspace = workspace();
    let sim = sim(&workspace, &[]);
    configure(&workspace, &sim.base_url);
    let config = workspace.read("tribunal.toml").replace("\"tribunal-sim\"", "\"gpt-4.1\"");
    workspace.write("tribunal.toml", &config);
    (workspace, sim)
}

#[test]
fn plans_and_refusals_leave_nothing_behind() {
    let workspace = workspace();
    let sim = sim(&workspace, &[]);
    configure(&workspace, &sim.base_url);
    let cases: [(&[&str], i32); 6] = [
        (&["--plan"], 0),
        (&["--propose", "1", "--proposer", "writer", "--plan"], 0),
        (&["--target-effect", "1"], 2),
        (&["--target-effect", "1", "--plan"], 2),
        (&["--factor", "samples=0"], 2),
        (&["--propose", "1", "--proposer", "nobody"], 2),
    ];
    let before = names(workspace.path());
    for (more, code) in cases {
        assert_exit(&workspace.run(&[&TUNE[..], &SETS, more].concat()), code);
        assert_eq!(names(workspace.path()), before, "{more:?}");
    }
    // Nor where nobody says where the results go.
    let planned = ["tune", "--labels", "labels.toml", "--judge", "sim", "--plan"];
    assert_exit(&workspace.run(&[&planned[..], &SETS].concat()), 0);
    assert_eq!(names(workspace.path()), before);

    // Nor in a store that is there.
    assert_exit(&workspace.run(&["store", "init"]), 0);
    for (more, code) in cases {
        assert_exit(&workspace.run(&[&TUNE[..], &SETS, more].concat()), code);
        assert!(workspace.runs().is_empty(), "{more:?}");
    }
    assert!(!workspace.file("out").exists());
    assert_eq!(sim.requests(), 0);
}

#[test]
fn what_no_tuning_can_mean_is_a_usage_error() {
    let workspace = workspace();
    // Where nobody listens: a plan asks nobody.
    configure(&workspace, "http://127.0.0.1:9/v1");
    let plan = |more: &[&str]| workspace.run(&[&plain()[..], &SETS, &["--plan"], more].concat());
    for wrong in ["0", "-1", "-0.5", "NaN", "inf", "many"] {
        let refused = plan(&["--max-cost-ratio", wrong]);
        assert_exit(&refused, 2);
        let said = describe(&refused);
        assert!(said.contains("--max-cost-ratio") && said.contains("above 0"), "{said}");
    }
    let refused = plan(&["--proposer", "writer"]);
    assert_exit(&refused, 2);
    assert!(describe(&refused).contains("--propose <N>"), "{}", describe(&refused));
    for wrong in ["0", "-1", "much"] {
        let refused = plan(&[&format!("--budget={wrong}")]);
        assert_exit(&refused, 2);
        assert!(describe(&refused).contains("--budget"), "{}", describe(&refused));
    }
    assert_exit(&plan(&["--max-cost-ratio", "1.5", "--budget", "none"]), 0);
    let one = plan(&["--propose", "1", "--proposer", "writer"]);
    assert_exit(&one, 0);
    assert!(describe(&one).contains(", 1 proposal;"), "{}", describe(&one));
}

#[test]
fn a_budget_holds_over_all_runs_and_a_larger_one_goes_on() {
    let (workspace, sim) = with_a_price();
    let sets = ["--prompts", "default", "lenient", "strict"];
    let run = |budget: &str| workspace.run(&[&TUNE[..], &sets, &["--budget", budget]].concat());
    let short = run("0.80");
    assert_exit(&short, 3);
    let short = document(&short);
    assert_eq!(short["state"], "incomplete");
    let spent = short["spent"]["cost_usd"].as_f64().expect("a price");
    assert!(spent > 0.2 && spent <= 0.8, "{spent}");
    let asked = sim.requests();
    let whole = run("100");
    assert_exit(&whole, 0);
    let whole = document(&whole);
    assert_eq!(whole["state"], "complete");
    assert_eq!(calls(&whole), sim.requests());
    assert!(sim.requests() > asked);
}

#[test]
fn none_lifts_a_budget_that_stays_without_a_word() {
    let (workspace, sim) = with_a_price();
    let run = |budget: &[&str]| workspace.run(&[&TUNE[..], &SETS, budget].concat());
    assert_exit(&run(&["--budget", "0.40"]), 3);
    let asked = sim.requests();
    assert_exit(&run(&[]), 3);
    let limited = |run: &Value| !run["budget_usd"].is_null();
    assert!(workspace.runs().iter().any(limited));
    let whole = run(&["--budget", "none"]);
    assert_exit(&whole, 0);
    let whole = document(&whole);
    assert_eq!(whole["state"], "complete");
    assert_eq!(calls(&whole), sim.requests());
    assert!(sim.requests() > asked);
    assert!(!workspace.runs().iter().any(limited));
}

/// Leaves on which `strict` errs, by paper: what it passes too much on one it fails too much on the other, so
/// that it is ahead over both alone. Those of one paper weigh as much as those of the other.
const STRICT_ERRS: [[usize; 3]; 2] = [[3, 4, 10], [0, 7, 13]];

/// Leaves on which `default` errs on either, half of them each way.
const DEFAULT_ERRS: [usize; 4] = [1, 6, 9, 16];

#[test]
fn a_winner_over_all_papers_alone_is_not_told_as_none() {
    let workspace = workspace();
    let human = workspace.read("human.json");
    let mut labels = String::new();
    for paper in 0..2 {
        let own = human.replace("transform_", &format!("transform_{paper}_"));
        workspace.write(&format!("human-{paper}.json"), &own);
        labels.push_str(&format!(
            "[[tree]]\nhuman = \"human-{paper}.json\"\nsubmission = \"work-{paper}\"\npaper_id = \"paper-{paper}\"\n"
        ));
    }
    workspace.write("labels.toml", &labels);
    let server = TestServer::start(|request| {
        let asked = said(&serde_json::from_str(&request.body).expect("JSON"));
        let (_, criterion) = asked.rsplit_once("<criterion ").expect("a criterion");
        let name = criterion.split("transform_").nth(1).expect("a function");
        let name = name.split_whitespace().next().expect("its name");
        let (paper, leaf) = name.split_once('_').expect("paper and leaf");
        let paper: usize = paper.parse().expect("a paper");
        let leaf: usize = leaf.parse().expect("a leaf");
        let errs = match asked.contains("burden of proof") {
            true => STRICT_ERRS[paper].contains(&leaf),
            false => DEFAULT_ERRS.contains(&leaf),
        };
        Reply::verdict(u8::from((leaf / 2).is_multiple_of(3) != errs))
    });
    configure(&workspace, &server.base_url());
    let output = workspace.run(&[&plain()[..], &SETS, &["--repeats", "1"]].concat());
    assert_exit(&output, 0);
    let told = describe(&output);
    for part in [
        "without paper-0: the baseline stays",
        "without paper-1: the baseline stays",
        "over all papers strict ended above the baseline",
        "the test set stays sealed",
        "answer: not shown: strict",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("no candidate within"), "{told}");
    let found = workspace.json("out/tune.json");
    assert_eq!(number(&found, "/sealed/looks"), 0);
}
