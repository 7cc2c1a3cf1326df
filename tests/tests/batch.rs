//! Batches over the real binary: a manifest becomes runs, runs become a table.

use std::fs;

use serde_json::{Value, json};
use tribunal_e2e::{
    Running, SimProcess, Workspace, assert_exit, describe, document, number, wait_until,
    write_labels, write_rubric, write_submission,
};

/// What the simulated judge passes of each requirement type; humans passed all.
const RATES: [(&str, f64); 2] = [("Code Development", 0.6), ("Code Execution", 0.3)];

const AGENTS: [&str; 2] = ["alpha", "beta"];
const SEEDS: [u32; 2] = [1, 2];
const HOURS: [u32; 2] = [1, 6];

/// Two papers with their rubrics, and a submission for every agent, paper, seed and hour.
fn workspace() -> Workspace {
    let workspace = Workspace::empty();
    for (paper, leaves) in [("fre", 120), ("bbox", 80)] {
        let dir = workspace.file(&format!("papers/{paper}"));
        fs::create_dir_all(&dir).expect("a folder");
        write_rubric(&dir.join("rubric.json"), leaves);
        fs::write(dir.join("paper.md"), format!("# The paper {paper}\n")).expect("written");
        write_labels(&workspace.file(&format!("{paper}-labels.json")), leaves, 1.0);
        for agent in AGENTS {
            for seed in SEEDS {
                for hours in HOURS {
                    let name = format!("work/{agent}/{paper}/seed{seed}/{hours}h");
                    write_submission(&workspace.file(&name), leaves);
                    let readme = workspace.file(&name).join("README.md");
                    fs::write(readme, format!("# {agent} {seed} {hours}\n")).expect("written");
                }
            }
        }
    }
    workspace.write("split.txt", "bbox\n");
    let rates = RATES.map(|(name, rate)| format!("[\"{name}\"]\nsensitivity = {rate}\n"));
    workspace.write("rates.toml", &rates.concat());
    workspace.write(
        "batch.toml",
        "[defaults]\npapers = \"papers\"\n\n\
         [[row]]\nsubmission = \"work/{agent}/{paper_id}/seed{seed}/{elapsed_hours}h\"\n",
    );
    workspace
}

fn sim(workspace: &Workspace, args: &[&str]) -> SimProcess {
    let labels = ["fre", "bbox"]
        .map(|paper| workspace.file(&format!("{paper}-labels.json")).display().to_string());
    let rates = workspace.file("rates.toml").display().to_string();
    let labels = labels.join(",");
    SimProcess::start(&[&["--labels", labels.as_str(), "--rates", rates.as_str()], args].concat())
}

fn batch(sim: &SimProcess) -> Vec<String> {
    let args = ["batch", "batch.toml", "--json", "--out", "out", "--concurrency", "8", "--quiet"];
    let judge = ["--model", "tribunal-sim", "--base-url", &sim.base_url];
    args.iter().chain(&judge).map(|arg| (*arg).to_owned()).collect()
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn a_killed_batch_goes_on_and_its_table_recovers_the_rates() {
    let workspace = workspace();
    let sim = sim(&workspace, &["--latency-ms", "5"]);
    let args = batch(&sim);
    let leaves = 2 * 2 * 2 * (120 + 80);

    let plan = workspace.run(&[&strs(&args)[..], &["--plan"]].concat());
    assert_exit(&plan, 0);
    let plan = document(&plan);
    assert_eq!((number(&plan, "/trees"), number(&plan, "/leaves")), (16, leaves));
    assert_eq!(sim.requests(), 0, "a plan asks nobody");

    let killed = Running::start(workspace.command(&strs(&args)));
    wait_until("a third is asked", || sim.requests() >= leaves / 3);
    killed.kill();
    assert!(!workspace.file("out/batch.json").exists());

    let output = workspace.run(&strs(&args));
    assert_exit(&output, 0);
    let first = document(&output);
    assert_eq!(first["state"], "complete");
    assert_eq!((number(&first, "/leaves"), number(&first, "/ungraded")), (leaves, 0));
    assert_eq!(first["rows"].as_array().map(Vec::len), Some(16));
    let asked = sim.settled_requests();
    assert!(asked <= leaves + 8, "{asked} calls for {leaves} leaves");
    // A finished batch asks nobody again.
    let again = document(&workspace.run(&strs(&args)));
    assert_eq!((sim.requests(), &again["batch"]), (asked, &first["batch"]));

    let table = |args: &[&str]| {
        let output = workspace.run(&[&["table", "out", "--json"], args].concat());
        assert_exit(&output, 0);
        document(&output)
    };
    let by_agent = table(&[]);
    let rows = by_agent["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), AGENTS.len());
    for row in rows {
        assert_eq!((&row["seeds"], &row["score"]["seeds"]), (&json!(2), &json!(2)));
        for (category, rate) in RATES {
            // The sim draws by criterion and evidence, so that seeds differ: 200 leaves of each type
            // in the last snapshots, and four binomial errors.
            let of = |name: &str| row["by_category"][category][name].as_f64().expect("a number");
            let (mean, error) = (of("mean"), (rate * (1.0 - rate) / 200.0).sqrt());
            assert!(of("se") > 0.0, "{category}: the seeds are the same");
            // Weights of 1 to 3 make the effective number of leaves a little smaller.
            assert!((mean - rate).abs() < 4.0 * 1.1 * error, "{category}: {mean} is not {rate}");
        }
    }
    let by_elapsed = table(&["--by", "elapsed", "--plot", "curves.svg"]);
    assert_eq!(by_elapsed["rows"].as_array().map(Vec::len), Some(AGENTS.len() * HOURS.len()));
    assert!(workspace.read("curves.svg").contains("alpha"));
    let split = table(&["--split", "split.txt", "--by", "paper"]);
    assert_eq!(split["papers"], json!(["bbox"]));

    // Any two trees of the batch can be compared.
    let out = |row: usize| {
        let folder = first["rows"][row]["out"].as_str().expect("a folder").to_owned();
        format!("out/{folder}")
    };
    let compared = workspace.run(&["compare", &out(0), &out(1), "--json"]);
    assert_exit(&compared, 0);
    assert_eq!(number(&document(&compared), "/leaves"), 80);
}

#[test]
fn bad_rows_are_told_at_once_and_nothing_is_begun() {
    let workspace = workspace();
    let sim = sim(&workspace, &[]);
    workspace.write("broken.json", "{");
    workspace.write(
        "batch.toml",
        "[defaults]\nrubric = \"papers/fre/rubric.json\"\nseed = 1\n\
         [[row]]\nsubmission = \"work/alpha/fre/seed1/1h\"\nagent = \"a\"\n\
         [[row]]\nsubmission = \"work/alpha/fre/seed1/6h\"\nagent = \"a\"\n\
         [[row]]\nsubmission = \"nowhere\"\n\
         [[row]]\nsubmission = \"broken.json\"\npaper_id = \"b\"\nrubric = \"broken.json\"\n\
         [[row]]\nsubmission = \"work/alpha/fre/seed1/1h\"\nagent = \"c\"\npaper = \"gone.md\"\n",
    );
    let output = workspace.run(&strs(&batch(&sim)));
    assert_exit(&output, 2);
    let said = describe(&output);
    for problem in [
        "batch.toml:7: a on fre, seed 1: the row at batch.toml:4",
        "batch.toml:10: the submission",
        "batch.toml:12: broken.json",
        "batch.toml:16: the paper",
    ] {
        assert!(said.contains(problem), "{problem}\n{said}");
    }
    assert_eq!(sim.requests(), 0);
    assert!(!workspace.file(".tribunal/store.db").exists(), "nothing is begun");
}

#[test]
fn missing_and_disqualified_submissions_count_as_the_manifest_says() {
    let workspace = workspace();
    let sim = sim(&workspace, &[]);
    workspace.write(
        "batch.toml",
        "[defaults]\nrubric = \"papers/bbox/rubric.json\"\n\
         [[row]]\nsubmission = \"work/alpha/bbox/seed1/1h\"\nagent = \"judged\"\n\
         [[row]]\nsubmission = \"work/alpha/bbox/seed1/1h\"\nagent = \"twin\"\n\
         [[row]]\nsubmission = \"gone\"\nagent = \"zero\"\nmissing = \"zero\"\n\
         [[row]]\nsubmission = \"gone\"\nagent = \"left\"\nmissing = \"exclude\"\n\
         [[row]]\nsubmission = \"work/beta/bbox/seed1/1h\"\nagent = \"out\"\ndisqualified = true\n",
    );
    let output = workspace.run(&strs(&batch(&sim)));
    assert_exit(&output, 0);
    let found = document(&output);
    let rows = found["rows"].as_array().expect("rows");
    let standings: Vec<&Value> = rows.iter().map(|row| &row["standing"]).collect();
    let expected = ["graded", "graded", "missing", "", "disqualified"].map(|name| match name {
        "" => Value::Null,
        name => json!(name),
    });
    assert_eq!(standings, expected.iter().collect::<Vec<_>>());
    assert_eq!(rows[0]["run"], rows[1]["run"], "the same inputs are one run");
    assert_eq!((sim.requests(), number(&found, "/leaves")), (80, 80));
    assert_eq!(rows[4]["root"]["score"], json!(0.0));

    let table = workspace.run(&["table", "out", "--json"]);
    assert_exit(&table, 0);
    let kinds = document(&table)["notes"].clone();
    let kinds: Vec<&str> =
        kinds.as_array().expect("notes").iter().filter_map(|note| note["kind"].as_str()).collect();
    assert_eq!(kinds, ["disqualified", "missing_counts_zero", "excluded"]);
    let low = workspace.run(&[&strs(&batch(&sim))[..], &["--fail-under", "0.9"]].concat());
    assert_exit(&low, 5);
}

#[test]
fn a_batch_has_one_budget_that_is_used_up_and_not_passed() {
    const LEAVES: u64 = 4 * (120 + 80);
    let workspace = workspace();
    workspace.write(
        "batch.toml",
        "[defaults]\npapers = \"papers\"\nagent = \"alpha\"\n\n\
         [[row]]\nsubmission = \"work/alpha/{paper_id}/seed{seed}/{elapsed_hours}h\"\n",
    );
    let sim = sim(&workspace, &[]);
    let run = |limit: &str, code: i32| {
        let args = batch(&sim);
        let output = workspace.run(&[&strs(&args)[..], &["--max-tokens", limit]].concat());
        assert_exit(&output, code);
        document(&output)
    };
    let used = |of: &Value| number(of, "/tokens/input") + number(of, "/tokens/output");

    let first = run("200_000", 3);
    assert_eq!((&first["state"], number(&first, "/leaves")), (&json!("incomplete"), LEAVES));
    let (spent, ungraded) = (used(&first), number(&first, "/ungraded"));
    assert!(spent <= 200_000, "{spent} tokens");
    // The runs' leaves differ in number and length, so no division in advance could be right.
    assert!(spent >= 185_000, "what some runs did not need is left: {spent} tokens");
    let asked = sim.settled_requests();
    assert_eq!(asked, LEAVES - ungraded);

    // The same again spends nothing; a larger one goes on with what this one left.
    assert_eq!(used(&run("200_000", 3)), spent);
    assert_eq!(sim.settled_requests(), asked);
    let whole = run("none", 0);
    assert_eq!((number(&whole, "/ungraded"), sim.settled_requests()), (0, LEAVES));
}
