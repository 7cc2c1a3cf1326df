//! Votes: every one is a call of its own, is kept, and is paid once; what they come to is no guess.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tribunal_e2e::{Running, SimProcess, Workspace, assert_exit, document, number, wait_until};

const LEAVES: u64 = 60;

/// The workspace with `labels.json`, in which every second leaf is fulfilled, and a simulated judge
/// around these grades that is right about four times of five, and not always alike.
fn labelled() -> (Workspace, SimProcess) {
    let workspace = Workspace::generated(LEAVES as usize);
    let mut labels = workspace.json("rubric.json");
    grade(&mut labels, &mut 0);
    workspace.write("labels.json", &labels.to_string());
    let labels = workspace.file("labels.json");
    let labels = labels.to_str().expect("a path in Unicode");
    let sim = SimProcess::start(&[
        "--labels",
        labels,
        "--sensitivity",
        "0.8",
        "--specificity",
        "0.8",
        "--seed",
        "11",
    ]);
    let judge = |name: &str, model: &str| {
        format!(
            "[judge.{name}]\nbase_url = \"{}\"\nmodel = \"{model}\"\n\n\
             [judge.{name}.extra_body]\nseed = 5\n\n",
            sim.base_url
        )
    };
    let judges =
        [judge("cheap", "sim-cheap"), judge("strong", "sim-strong"), judge("third", "sim-third")];
    workspace.write("tribunal.toml", &judges.concat());
    (workspace, sim)
}

fn grade(node: &mut Value, next: &mut u64) {
    node["valid_score"] = json!(true);
    node["explanation"] = json!("as the human saw it");
    let children = node["sub_tasks"].as_array_mut().expect("children");
    if children.is_empty() {
        node["score"] = json!(f64::from(u8::from(next.is_multiple_of(2))));
        *next += 1;
        return;
    }
    children.iter_mut().for_each(|child| grade(child, next));
    node["score"] = json!(0.5);
}

/// The command without a judge, which the arguments name.
fn panel(workspace: &Workspace, args: &[&str]) -> Running {
    let files = ["grade", "--json", "--rubric", "rubric.json", "--submission", "submission"];
    Running::start(workspace.command(&[&files[..], &["--out", "out"], args].concat()))
}

#[track_caller]
fn graded(workspace: &Workspace, args: &[&str], exit: i32) -> Value {
    let output = panel(workspace, args).finish();
    assert_exit(&output, exit);
    document(&output)
}

/// The leaves of `out/scored_tree.json` by their position.
fn leaves(workspace: &Workspace) -> BTreeMap<u64, Value> {
    let mut leaves = BTreeMap::new();
    let mut rest = vec![workspace.json("out/scored_tree.json")["tree"].clone()];
    while let Some(node) = rest.pop() {
        let children = node["sub_tasks"].as_array().cloned().unwrap_or_default();
        if children.is_empty() {
            leaves.insert(number(&node, "/position"), node);
        } else {
            rest.extend(children);
        }
    }
    assert_eq!(leaves.len() as u64, LEAVES);
    leaves
}

/// The scores of a leaf's votes, in the order of their samples.
#[track_caller]
fn votes(leaf: &Value) -> Vec<Option<f64>> {
    let votes = leaf["votes"].as_array().expect("votes");
    let samples: Vec<u64> = votes.iter().map(|vote| number(vote, "/sample")).collect();
    assert!(samples.is_sorted(), "{leaf:#}");
    votes.iter().map(|vote| vote["score"].as_f64()).collect()
}

fn passes(votes: &[Option<f64>]) -> usize {
    votes.iter().filter(|vote| **vote == Some(1.0)).count()
}

#[test]
fn every_vote_is_a_call_of_its_own_and_the_majority_decides() {
    let (workspace, sim) = labelled();
    let three = ["--judge", "cheap", "--samples", "3"];
    let document = graded(&workspace, &three, 0);
    assert_eq!(number(&document, "/calls/judge"), 3 * LEAVES);
    assert_eq!(sim.requests(), 3 * LEAVES);
    assert_eq!(number(&document, "/outcomes/graded"), LEAVES);
    let leaves_of_three = leaves(&workspace);
    let mut divided = 0;
    for leaf in leaves_of_three.values() {
        let votes = votes(leaf);
        assert_eq!(votes.len(), 3);
        let majority = if passes(&votes) >= 2 { 1.0 } else { 0.0 };
        assert_eq!(leaf["score"], majority, "{leaf:#}");
        divided += u64::from((1..3).contains(&passes(&votes)));
    }
    assert!(divided > 0, "votes that never differ show nothing");
    assert_eq!(number(&document, "/votes/divided"), divided);
    assert_eq!(number(&document, "/votes/unanimous"), LEAVES - divided);

    // The same again asks nothing; more votes ask for those that are missing alone.
    assert_eq!(graded(&workspace, &three, 0)["root"], document["root"]);
    assert_eq!(sim.requests(), 3 * LEAVES);
    let more = graded(&workspace, &["--judge", "cheap", "--samples", "5"], 0);
    assert_eq!(sim.requests(), 5 * LEAVES);
    assert_ne!(more["run"], document["run"]);
    for (position, leaf) in leaves(&workspace) {
        let (all, first) = (votes(&leaf), votes(&leaves_of_three[&position]));
        assert_eq!(all[..3], first[..], "a vote that was cast stays");
    }
}

#[test]
fn an_even_vote_is_no_score() {
    let (workspace, _sim) = labelled();
    let document = graded(&workspace, &["--judge", "cheap", "--samples", "2"], 3);
    let tied = number(&document, "/outcomes/ungraded/tied");
    assert!(tied > 0, "{document:#}");
    assert_eq!(
        (number(&document, "/votes/tied"), number(&document, "/votes/divided")),
        (tied, tied)
    );
    assert!(document["root"]["score"].is_null());
    assert_eq!(number(&document, "/outcomes/graded"), LEAVES - tied);
    let leaves = leaves(&workspace);
    let even = leaves.values().find(|leaf| passes(&votes(leaf)) == 1).expect("a divided leaf");
    assert!(even["score"].is_null());
    let said = even["explanation"].as_str().expect("text");
    assert!(said.contains("the votes are even: 1 fulfilled, 1 not"), "{said}");

    let (run, leaf) =
        (document["run"].as_str().expect("a run"), format!("#{}", even["leaf_index"]));
    let explained = workspace.run(&["explain", run, &leaf, "--json"]);
    assert_exit(&explained, 0);
    let explained = tribunal_e2e::document(&explained);
    assert_eq!((&explained["state"], &explained["reason"]), (&json!("ungraded"), &json!("tied")));
    assert_eq!(explained["votes"].as_array().map(Vec::len), Some(2));
    // The report says so too, with every vote.
    let page = workspace.read("out/report.html");
    assert!(page.contains("the votes are even: 1 fulfilled, 1 not"));
    assert!(page.contains("disagreement"));
}

#[test]
fn a_kill_pays_no_vote_twice() {
    const CONCURRENCY: u64 = 4;
    let (workspace, sim) = labelled();
    let args = ["--judge", "cheap", "--samples", "3", "--concurrency", "4"];
    for asked in [20, 70, 130] {
        let running = panel(&workspace, &args);
        wait_until("some votes are cast", || sim.requests() >= asked);
        running.kill();
    }
    let document = graded(&workspace, &args, 0);
    assert_eq!(number(&document, "/outcomes/graded"), LEAVES);
    for leaf in leaves(&workspace).values() {
        assert_eq!(votes(leaf).len(), 3);
    }
    let lost = sim.requests() - 3 * LEAVES;
    assert!(lost <= 3 * CONCURRENCY, "{lost} calls were paid twice");
    assert_eq!(number(&workspace.status(), "/done"), 3 * LEAVES);
}

#[test]
fn a_jury_is_asked_judge_by_judge_and_shares_what_was_said_before() {
    let (workspace, sim) = labelled();
    let alone = graded(&workspace, &["--judge", "strong"], 0);
    assert_eq!(number(&alone, "/calls/judge"), LEAVES);
    let alone = leaves(&workspace);
    let plan = workspace.run(&[
        "plan",
        "--json",
        "--rubric",
        "rubric.json",
        "--submission",
        "submission",
        "--jury",
        "cheap,strong,third",
    ]);
    assert_exit(&plan, 0);
    let plan = document(&plan);
    assert_eq!(number(&plan, "/calls/judge"), 2 * LEAVES, "{plan:#}");
    assert_eq!((number(&plan, "/votes"), number(&plan, "/reused")), (3, LEAVES));

    let jury = graded(&workspace, &["--jury", "cheap,strong,third"], 0);
    assert_eq!(jury["run"], plan["run"]);
    assert_eq!(sim.requests(), 3 * LEAVES);
    assert_eq!(jury["judge"], "cheap + strong + third");
    for (position, leaf) in leaves(&workspace) {
        let cast = leaf["votes"].as_array().expect("votes");
        let judges: Vec<&str> = cast.iter().filter_map(|vote| vote["judge"].as_str()).collect();
        assert_eq!(judges, ["cheap", "strong", "third"]);
        assert_eq!((&cast[1]["source"], &cast[0]["source"]), (&json!("reused"), &json!("judge")));
        assert_eq!(cast[1]["score"], alone[&position]["score"]);
        let majority = if passes(&votes(&leaf)) >= 2 { 1.0 } else { 0.0 };
        assert_eq!(leaf["score"], majority, "{leaf:#}");
    }
    for wrong in [["--jury", "cheap,cheap"], ["--jury", "cheap,nobody"]] {
        let output = panel(&workspace, &wrong).finish();
        assert_exit(&output, 2);
    }
}

#[test]
fn votes_weigh_by_audited_accuracy() {
    let (workspace, _sim) = labelled();
    let mut files = Vec::new();
    for judge in ["cheap", "strong", "third"] {
        let run = graded(&workspace, &["--judge", judge], 0)["run"].clone();
        files.push(format!("{judge}.json"));
        save(&workspace, run.as_str().expect("a run"), &files[files.len() - 1], "0.9");
    }
    let weights = files.join(",");
    let args = ["--jury", "cheap,strong,third", "--weights", &weights];
    let output = panel(&workspace, &args).finish();
    // Three unequal weights have no even vote.
    assert_exit(&output, 0);
    for leaf in leaves(&workspace).values() {
        let cast = leaf["votes"].as_array().expect("votes");
        let lead: f64 = cast
            .iter()
            .map(|vote| {
                let weight = vote["weight"].as_f64().expect("a weight");
                assert!(weight > 0.0, "{vote:#}");
                if vote["score"] == 1.0 { weight } else { -weight }
            })
            .sum();
        assert_eq!(leaf["score"], if lead > 0.0 { 1.0 } else { 0.0 }, "{leaf:#}");
    }
    // A calibration of another judge weighs nothing.
    let missing =
        panel(&workspace, &["--jury", "cheap,strong", "--weights", "cheap.json"]).finish();
    assert_exit(&missing, 2);
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(said.contains("no file of --weights is of strong"), "{said}");
}

/// Keeps the calibration of an audit that wants so many right verdicts.
fn save(workspace: &Workspace, run: &str, file: &str, agreement: &str) -> Value {
    let output = workspace.run(&[
        "audit",
        "--json",
        "--judge",
        run,
        "--human",
        "labels.json",
        "--out",
        "audit",
        "--save",
        file,
        "--agreement",
        agreement,
    ]);
    assert_exit(&output, 0);
    document(&output)
}

#[test]
fn what_the_first_judge_is_not_sure_of_is_sent_on() {
    let (workspace, sim) = labelled();
    let cheap = graded(&workspace, &["--judge", "cheap", "--samples", "3"], 0);
    let run = cheap["run"].as_str().expect("a run");
    let lax = save(&workspace, run, "cal.json", "0.5");
    // As much as leaves of one mind just show: what votes are divided on is then sent on.
    let bound = lax["escalation"]["tried"][0]["risk_bound"].as_f64().expect("a bound");
    let wanted = format!("{:.4}", 1.0 - bound - 0.0001);
    let audited = save(&workspace, run, "cal.json", &wanted);
    let escalation = &audited["escalation"];
    assert_eq!(escalation["threshold"], 1.0, "{escalation:#}");
    assert_eq!(escalation["risk_bound"].as_f64(), Some(bound));
    assert_eq!(escalation["tried"][1]["passed"], false, "{escalation:#}");
    let errors = number(escalation, "/tried/0/errors") as f64;
    let kept = number(escalation, "/tried/0/leaves") as f64;
    assert!(errors / kept < bound && bound < 0.5, "{escalation:#}");
    assert_eq!(number(&audited, "/reliability/samples"), 3);
    let before = leaves(&workspace);
    let unsure = before.values().filter(|leaf| (1..3).contains(&passes(&votes(leaf)))).count();
    assert!(unsure > 0);

    let asked = sim.requests();
    let args = [
        "--escalate",
        "cheap->strong",
        "--samples",
        "3",
        "--escalation",
        "cal.json",
        "--agreement",
        &wanted,
    ];
    let output = panel(&workspace, &args).finish();
    assert_exit(&output, 0);
    let document = document(&output);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("verdicts stand where 3 of 3 votes agree"), "{said}");
    // The first judge's votes were cast before; the second is asked about the rest alone.
    assert_eq!(sim.requests() - asked, unsure as u64);
    assert_eq!(number(&document, "/votes/sent_on"), unsure as u64);
    for leaf in leaves(&workspace).values() {
        let votes = votes(leaf);
        match votes[..] {
            [a, b, c] => assert!(a == b && b == c && leaf["score"].as_f64() == a, "{leaf:#}"),
            [.., strong] if votes.len() == 4 => assert_eq!(leaf["score"].as_f64(), strong),
            _ => panic!("{leaf:#}"),
        }
    }
    assert_eq!(sim.requests() - asked, unsure as u64);
    let again = panel(&workspace, &args).finish();
    assert_exit(&again, 0);
    assert_eq!(sim.requests() - asked, unsure as u64, "nothing is sent on twice");

    // A calibration of other votes, or of another judge, says nothing about these.
    for (wrong, words) in [
        (["--escalate", "cheap->strong", "--samples", "5"], "another judge"),
        (["--escalate", "third->strong", "--samples", "3"], "another model"),
    ] {
        let output = panel(&workspace, &[&wrong[..], &["--escalation", "cal.json"]].concat());
        let output = output.finish();
        assert_exit(&output, 2);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_budget_holds_over_the_votes_of_several_judges() {
    let (workspace, sim) = labelled();
    let args = ["--jury", "cheap,strong", "--max-tokens", "60000", "--concurrency", "2"];
    let output = panel(&workspace, &args).finish();
    assert_exit(&output, 3);
    let document = document(&output);
    assert!(number(&document, "/outcomes/ungraded/budget") > 0, "{document:#}");
    let tokens = number(&document, "/tokens/input") + number(&document, "/tokens/output");
    assert!(tokens > 0 && tokens <= 60_000, "{tokens}");
    let more = ["--jury", "cheap,strong", "--max-tokens", "none"];
    let output = panel(&workspace, &more).finish();
    let whole = tribunal_e2e::document(&output);
    assert_eq!(sim.requests(), 2 * LEAVES, "{whole:#}");
}
