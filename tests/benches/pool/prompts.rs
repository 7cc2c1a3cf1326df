//! Input tokens a leaf against the three calls of PaperBench's SimpleJudge.
//!
//! Owns the material and the formula. What we send is measured; what SimpleJudge would send of the
//! same material is computed: a call that ranks the files (paper, tree, criterion), one that judges
//! (paper, files, log, criterion) and one that parses the reply. Its instructions count as nothing.

use std::{fmt::Write, fs};

use serde_json::Value;
use tribunal_e2e::{SimProcess, Workspace, write_rubric};

use crate::{measure::used, table::Table, workload::Workload};

/// Leaves, about as many as a paper of PaperBench has.
const LEAVES: usize = 200;

/// Files, as many as SimpleJudge shows of a ranking.
const FILES: usize = 10;

/// Lines of the paper, of each file and of the log: with these the three calls take about as many
/// tokens as they were seen to take on PaperBench's paper `all-in-one`, 86,700 a leaf.
const LINES: [usize; 3] = [1_350, 62, 80];

/// The share of SimpleJudge's input that was seen cached there, at 200 ms a call.
const SEEN_CACHED: f64 = 0.52;

pub(crate) fn measure(_: &Workload, table: &mut Table) {
    let workspace = material();
    let sim = SimProcess::start(&["--latency-ms", "200"]);
    let grade = workspace.grade(&sim.base_url, &["--paper", "paper.md"]);
    let graded = used(&grade);
    let document: Value = serde_json::from_str(&graded.stdout).expect("one JSON document");
    assert_eq!(document["outcomes"]["graded"], LEAVES);
    let stats = sim.stats();
    let each = |name: &str| stats[name].as_f64().expect("a count") / LEAVES as f64;
    let (input, cached, reply) =
        (each("prompt_tokens"), each("cached_tokens"), each("completion_tokens"));

    let of = |arguments: &[&str]| -> Value {
        serde_json::from_str(&used(&workspace.command(arguments)).stdout)
            .expect("one JSON document")
    };
    let inputs = ["--rubric", "rubric.json", "--submission", "submission", "--paper", "paper.md"];
    let prompt = of(&[&["prompt", "--json", "--leaf", "#100"][..], &inputs].concat());
    let criterion = prompt["tokens"]["own"].as_f64().expect("tokens");
    let evidence = of(&["evidence", "submission", "--json", "--paper", "paper.md"]);
    let shown = &evidence["categories"]["Code Execution"];
    assert_eq!(shown["fits"], true);
    let tokens = |list: &str, name: Option<&str>| -> f64 {
        let entries = shown[list].as_array().expect("a list").iter();
        let named = entries.filter(|entry| name.is_none() || entry["part"] == name.unwrap_or(""));
        named.map(|entry| entry["tokens"].as_f64().expect("tokens")).sum()
    };
    let [paper, tree, log] = ["paper", "tree", "log"].map(|part| tokens("parts", Some(part)));
    let files = tokens("files", None);

    let rank = paper + tree + criterion;
    let judge = paper + files + log + criterion;
    let theirs = rank + judge + reply;
    // Its two papers from the second leaf on, had it not sent many leaves at once.
    let at_best = 2.0 * paper * (LEAVES - 1) as f64 / LEAVES as f64 / theirs;
    let billed = |price: f64, their_share: f64| {
        let paid = |share: f64| 1.0 - share * (1.0 - price);
        input * paid(cached / input) / (theirs * paid(their_share)) * 100.0
    };
    table.row(
        format!(
            "input tokens a leaf, paper {paper:.0}, {FILES} files {files:.0}, log {log:.0}, against \
             SimpleJudge's three calls"
        ),
        format!("{input:.0} of {theirs:.0} ({:.0}%)", input / theirs * 100.0),
        "≤ 62%",
    );
    table.row(
        "cached share of them",
        format!(
            "{:.1}% (SimpleJudge's {:.0}%, at best {:.0}%)",
            cached / input * 100.0,
            SEEN_CACHED * 100.0,
            at_best * 100.0
        ),
        "≥ 90%",
    );
    table.row(
        "input billed against SimpleJudge's, cached tokens at half price; at a tenth",
        format!(
            "{:.0}%; {:.0}% ({:.0}%; {:.0}% of SimpleJudge's at best)",
            billed(0.5, SEEN_CACHED),
            billed(0.1, SEEN_CACHED),
            billed(0.5, at_best),
            billed(0.1, at_best)
        ),
        "≤ 50%; ≤ 25%",
    );
}

/// A paper, a rubric and a submission with a log.
fn material() -> Workspace {
    let workspace = Workspace::empty();
    let [paper, file, log] = LINES;
    write_rubric(&workspace.file("rubric.json"), LEAVES);
    let mut text = "# A method\n\n".to_owned();
    for i in 0..paper {
        let _ = writeln!(
            text,
            "In setting {i} the estimator with {} parts converges after {} rounds, as Section {} says.",
            i % 7,
            i * 3,
            i % 9
        );
    }
    workspace.write("paper.md", &text);
    let submission = workspace.file("submission");
    fs::create_dir_all(submission.join("src")).expect("a folder");
    for i in 0..FILES {
        let mut code = String::new();
        for j in 0..file {
            let _ = writeln!(code, "def transform_{i}_{j}(tensor, part={j}):");
            let _ =
                writeln!(code, "    return scale(tensor, factor={}.{j}) + offset[{i}]\n", j % 7);
        }
        fs::write(submission.join(format!("src/part_{i}.py")), code).expect("written");
    }
    fs::write(submission.join("reproduce.sh"), "python3 src/part_0.py\n").expect("written");
    let log: String =
        (0..log).map(|i| format!("step {i}: loss 0.{i}, part {} done\n", i % 10)).collect();
    fs::write(submission.join("reproduce.log"), log).expect("written");
    workspace
}
