//! Batches of the size that people run: a whole benchmark's table, and many large trees.
//!
//! They take minutes, so they run only when asked for: `cargo nextest run -p tribunal-e2e --test
//! batch_scale --run-ignored only --no-capture`. What they print is what was measured.

use std::{
    fs,
    process::Output,
    time::{Duration, Instant},
};

use serde_json::Value;
use tribunal_e2e::{
    Running, SimProcess, Workspace, assert_exit, document, number, wait_until, write_labels,
    write_rubric, write_submission,
};

/// Time between two looks at a process that takes minutes.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the simulated judge passes of each requirement type; humans passed all.
const RATES: [(&str, f64); 2] = [("Code Development", 0.7), ("Code Execution", 0.4)];

/// Papers with rubrics of so many leaves, and a submission for every agent, paper, seed and hour.
fn workspace(
    agents: usize,
    papers: usize,
    seeds: usize,
    hours: &[u32],
    leaves: usize,
) -> Workspace {
    let workspace = Workspace::empty();
    for paper in 0..papers {
        let folder = workspace.file(&format!("papers/paper{paper}"));
        fs::create_dir_all(&folder).expect("a folder");
        write_rubric(&folder.join("rubric.json"), leaves);
        fs::write(folder.join("paper.md"), format!("# Paper {paper}\n")).expect("written");
        let labels = workspace.file(&format!("labels{paper}.json"));
        write_labels(&labels, leaves, 1.0);
        // Each paper has criteria of its own: the sim draws by criterion.
        for file in [folder.join("rubric.json"), labels] {
            let text = fs::read_to_string(&file).expect("written before");
            let own = text.replace("transform_", &format!("transform_{paper}_"));
            fs::write(file, own).expect("written");
        }
        for agent in 0..agents {
            for seed in 0..seeds {
                for hour in hours {
                    let name = format!("agent{agent}/paper{paper}/seed{seed}/{hour}h");
                    let submission = workspace.file(&format!("work/{name}"));
                    write_submission(&submission, 12);
                    fs::write(submission.join("README.md"), format!("# {name}\n"))
                        .expect("written");
                }
            }
        }
    }
    let rates = RATES.map(|(name, rate)| format!("[\"{name}\"]\nsensitivity = {rate}\n"));
    workspace.write("rates.toml", &rates.concat());
    workspace.write(
        "batch.toml",
        "[defaults]\npapers = \"papers\"\n\n\
         [[row]]\nsubmission = \"work/{agent}/{paper_id}/seed{seed}/{elapsed_hours}h\"\n",
    );
    workspace
}

fn sim(workspace: &Workspace, papers: usize, args: &[&str]) -> SimProcess {
    let labels =
        (0..papers).map(|n| workspace.file(&format!("labels{n}.json")).display().to_string());
    let (labels, rates) = (labels.collect::<Vec<_>>().join(","), workspace.file("rates.toml"));
    let rates = rates.display().to_string();
    SimProcess::start(&[&["--labels", labels.as_str(), "--rates", rates.as_str()], args].concat())
}

fn batch(workspace: &Workspace, judge: &[&str]) -> Running {
    let args = ["batch", "batch.toml", "--json", "--out", "out", "--quiet"];
    Running::start(workspace.command(&[&args[..], judge].concat()))
}

/// Waits for as long as it takes.
fn outlast(mut running: Running) -> Output {
    while !running.has_ended() {
        std::thread::sleep(LOOK_EVERY);
    }
    running.finish()
}

/// The most memory that the process has had, in MiB; 0 once it has ended.
fn peak_mib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// Bytes below a folder, in MiB.
fn mib(folder: &std::path::Path) -> u64 {
    let files = fs::read_dir(folder).expect("a folder").filter_map(Result::ok);
    files.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum::<u64>() >> 20
}

#[test]
#[ignore = "a benchmark's table takes minutes"]
fn the_table_of_a_benchmark_recovers_the_rates() {
    const HOURS: [u32; 6] = [1, 3, 6, 12, 24, 36];
    let workspace = workspace(5, 4, 3, &HOURS, 60);
    let (first, second) = (sim(&workspace, 4, &[]), sim(&workspace, 4, &["--latency-ms", "5"]));
    let judge = |second: &str| {
        format!(
            "[judge.both]\nbase_url = \"{}\"\nmodel = \"tribunal-sim\"\n\
             endpoints = [{{ base_url = \"{second}\" }}]\n[retry]\nbase_ms = 1\nmax_ms = 100\n",
            first.base_url
        )
    };
    workspace.write("tribunal.toml", &judge(&second.base_url));
    let leaves: u64 = 5 * 4 * 3 * 6 * 60;
    let asked = || first.requests();
    let start = Instant::now();
    let killed = batch(&workspace, &["--judge", "both"]);
    wait_until("some are asked", || asked() >= leaves / 20);
    killed.kill();
    // One of the two endpoints is dead for a while.
    let (url, before) = (second.base_url.clone(), second.requests());
    drop(second);
    let resumed = batch(&workspace, &["--judge", "both"]);
    wait_until("more are asked", || asked() >= leaves / 8);
    let labels = (0..4).map(|n| workspace.file(&format!("labels{n}.json")).display().to_string());
    let (labels, rates) = (labels.collect::<Vec<_>>().join(","), workspace.file("rates.toml"));
    let rates = rates.display().to_string();
    let second = SimProcess::start_at(&url, &["--labels", &labels, "--rates", &rates]);
    let output = outlast(resumed);
    assert_exit(&output, 0);
    let found = document(&output);
    assert_eq!((number(&found, "/leaves"), number(&found, "/ungraded")), (leaves, 0));
    let calls = first.requests() + before + second.requests();
    let table = workspace.run(&["table", "out", "--json"]);
    assert_exit(&table, 0);
    let table = document(&table);
    let rows = table["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 5);
    for row in rows {
        for (category, rate) in RATES {
            let mean = row["by_category"][category]["mean"].as_f64().expect("a score");
            // 240 criteria, half of each type; weights of 1 to 3, and four binomial errors.
            let error = (rate * (1.0 - rate) / 120.0).sqrt();
            assert!((mean - rate).abs() < 4.0 * 1.1 * error, "{category}: {mean} is not {rate}");
        }
    }
    let curves = workspace.run(&["table", "out", "--by", "elapsed", "--json"]);
    let curves: Value = document(&curves);
    assert_eq!(curves["rows"].as_array().map(Vec::len), Some(30));
    tell(&format!(
        "360 trees, {leaves} leaves, {calls} calls, killed once, one endpoint dead for a while: {:.0} s",
        start.elapsed().as_secs_f64()
    ));
}

#[test]
#[ignore = "100,000 leaves take minutes"]
fn two_hundred_trees_of_five_hundred_leaves() {
    let workspace = workspace(200, 1, 1, &[1], 500);
    let sim = SimProcess::start(&[]);
    let judge = ["--base-url", &sim.base_url, "--model", "gpt-4.1", "--via"];
    for via in ["live", "batch"] {
        let start = Instant::now();
        let fresh = [&judge[..], &[via, "--fresh"]].concat();
        let mut running = batch(&workspace, &fresh);
        let mut peak = 0;
        while !running.has_ended() {
            peak = peak.max(peak_mib(running.id()));
            std::thread::sleep(LOOK_EVERY);
        }
        let seconds = start.elapsed().as_secs_f64();
        let output = running.finish();
        assert_exit(&output, 0);
        assert_eq!(number(&document(&output), "/leaves"), 100_000);
        let store = mib(&workspace.file(".tribunal"));
        tell(&format!(
            "200 trees of 500 leaves, {via}: {seconds:.0} s, {peak} MiB at most, store {store} MiB"
        ));
    }
}

#[expect(clippy::print_stderr, reason = "what was measured is what these are for")]
fn tell(text: &str) {
    eprintln!("{text}");
}
