//! An audit where the truth is known: a judge with set error rates around human grades, over real
//! HTTP, and what its calibration makes of another submission's score.

use serde_json::Value;
use tribunal_e2e::{SimProcess, Workspace, assert_exit, document};

const LEAVES: usize = 600;

/// The judge's sensitivity and specificity.
const RATE: f64 = 0.8;

/// What humans pass.
const PASSED: f64 = 0.25;

/// One leaf of four is fulfilled, in both categories alike.
fn label(node: &mut Value, next: &mut usize) -> f64 {
    let children = node["sub_tasks"].as_array_mut().expect("children");
    let score = if children.is_empty() {
        *next += 1;
        f64::from(u8::from(((*next - 1) / 2).is_multiple_of(4)))
    } else {
        let weight = |child: &Value| child["weight"].as_f64().expect("a weight");
        let all: f64 = children.iter().map(weight).sum();
        children.iter_mut().map(|child| weight(child) * label(child, next)).sum::<f64>() / all
    };
    node["score"] = score.into();
    node["valid_score"] = true.into();
    node["explanation"] = "as the human saw it".into();
    score
}

#[test]
fn a_calibration_takes_the_judges_bias_out_of_another_score() {
    let workspace = Workspace::generated(LEAVES);
    let mut labels = workspace.json("rubric.json");
    let truth = label(&mut labels, &mut 0);
    assert!((truth - PASSED).abs() < 0.03, "{truth}");
    workspace.write("labels.json", &labels.to_string());
    let labels = workspace.file("labels.json").display().to_string();
    let rate = RATE.to_string();
    let rates = ["--sensitivity", &rate, "--specificity", &rate, "--seed", "3"];
    let sim = SimProcess::start(&[&["--labels", labels.as_str()][..], &rates].concat());
    let run = |args: &[&str]| {
        let output = workspace.run(args);
        assert_exit(&output, 0);
        document(&output)
    };
    let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim", "--quiet", "--json"];
    let grade = |more: &[&str]| {
        run(&[
            &["grade", "--rubric", "rubric.json", "--submission", "submission"],
            &judge[..],
            more,
        ]
        .concat())
    };
    let first = grade(&["--out", "first"]);
    let first = first["run"].as_str().expect("a run");
    let audit = ["audit", "--json", "--judge", first, "--human", "labels.json", "--out", "audit"];
    let audited = run(&[&audit[..], &["--save", "cal.json"]].concat());
    // Three standard errors of the rates over 150 and 450 leaves.
    for (name, leaves) in [("sensitivity", 150.0_f64), ("specificity", 450.0)] {
        let measured = &audited["overall"]["dropped"][name];
        let measured = measured.as_f64().unwrap_or_else(|| panic!("{}", audited["overall"]));
        let error = (RATE * (1.0 - RATE) / leaves).sqrt();
        assert!((measured - RATE).abs() < 3.0 * error, "{name}: {measured}");
    }

    // The judge errs on another submission by itself, and humans see the same in it.
    workspace.write("submission/README.md", "# The same, by somebody else\n");
    let second = grade(&["--out", "second", "--calibration", "cal.json"]);
    let corrected = |name: &str| second["corrected"][name].as_f64().expect("a number");
    let biased = truth * RATE + (1.0 - truth) * (1.0 - RATE);
    assert!((corrected("raw") - biased).abs() < 0.06, "{} is not {biased}", corrected("raw"));
    assert!(corrected("raw") > truth + 0.04, "nothing to correct");
    assert!((corrected("estimate") - truth).abs() < (corrected("raw") - truth).abs());
    assert!(corrected("low") <= truth && truth <= corrected("high"), "{}", second["corrected"]);
    assert_eq!(second["corrected"]["own_calibration"], false);

    let own = run(&["collect", first, "--calibration", "cal.json", "--out", "own", "--json"]);
    assert_eq!(own["corrected"]["own_calibration"], true);
}
