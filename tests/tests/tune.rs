//! Tunings from end to end, over a simulated judge whose best prompt is known.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use tribunal_e2e::{
    Browser, Gate, PostgresServer, Reply, Running, SimProcess, TestServer, Workspace, assert_exit,
    describe, document, number, skip, wait_until,
};

#[path = "tune/told.rs"]
mod told;

const LEAVES: usize = 40;
const PAPERS: usize = 7;

/// `strict` is the best of the given ones by far, and what is proposed is better than `default`.
const PROFILE: &str = "churn = 0.2\nproposals = [\"Count what runs.\"]\n\
    [[shift]]\nprompt = \"burden of proof\"\nsensitivity = 0.2\nspecificity = 0.25\n\
    [[shift]]\nprompt = \"Count what runs.\"\nsensitivity = 0.26\nspecificity = 0.28\n";

fn leaf(at: usize) -> Value {
    let category = ["Code Development", "Code Execution"][at % 2];
    json!({
        "id": format!("leaf-{at}"),
        "requirements": format!("The function transform_{at} scales the tensor of part {at}."),
        "weight": 1 + at % 3, "sub_tasks": [], "valid_score": true,
        "score": f64::from(u8::from((at / 2).is_multiple_of(3))),
        "task_category": category,
        "finegrained_task_category": "Method Implementation", "explanation": "as the human saw it",
    })
}

/// Submissions to papers of one tree each, with the same labels; `labels.toml` names them.
fn workspace() -> Workspace {
    let workspace = Workspace::empty();
    let leaves: Vec<Value> = (0..LEAVES).map(leaf).collect();
    let sum = |of: &dyn Fn(&Value) -> f64| leaves.iter().map(of).sum::<f64>();
    let weight = |leaf: &Value| leaf["weight"].as_f64().expect("a weight");
    let score = sum(&|leaf| weight(leaf) * leaf["score"].as_f64().expect("a score")) / sum(&weight);
    let tree = json!({
        "id": "root", "requirements": "The method is reproduced.", "weight": 1,
        "sub_tasks": leaves, "task_category": null, "score": score, "valid_score": true,
    });
    workspace.write("human.json", &tree.to_string());
    let mut labels = String::new();
    for paper in 0..PAPERS {
        let folder = workspace.file(&format!("work-{paper}"));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("main.py"), format!("print({paper})\n")).expect("written");
        fs::write(folder.join("reproduce.sh"), "python3 main.py\n").expect("written");
        labels.push_str(&format!(
            "[[tree]]\nhuman = \"human.json\"\nsubmission = \"work-{paper}\"\npaper_id = \"paper-{paper}\"\n"
        ));
    }
    workspace.write("labels.toml", &labels);
    workspace.write("profile.toml", PROFILE);
    workspace
}

fn sim(workspace: &Workspace, more: &[&str]) -> SimProcess {
    let file = |name: &str| workspace.file(name).display().to_string();
    let (labels, profile) = (file("human.json"), file("profile.toml"));
    let own = ["--labels", &labels, "--profile", &profile];
    let rates = ["--sensitivity", "0.72", "--specificity", "0.7", "--seed", "2"];
    SimProcess::start(&[&own[..], &rates, more].concat())
}

/// A config with the sim as the judge `sim` and the proposer `writer`.
fn configure(workspace: &Workspace, base_url: &str) {
    let judge = |name: &str| {
        format!(
            "[judge.{name}]\nbase_url = \"{base_url}\"\nmodel = \"tribunal-sim\"\nmax_output_tokens = 4096\n"
        )
    };
    let text = format!("[worker]\nconcurrency = 8\n{}{}", judge("sim"), judge("writer"));
    workspace.write("tribunal.toml", &text);
}

const TUNE: [&str; 9] =
    ["tune", "--json", "--quiet", "--labels", "labels.toml", "--judge", "sim", "--out", "out"];

/// Calls that the store has an answer of, by the document of a tuning.
fn calls(document: &Value) -> u64 {
    number(document, "/spent/judge_calls") + number(document, "/spent/proposer_calls")
}

#[test]
fn the_known_best_is_found_and_its_folder_is_ready() {
    let workspace = workspace();
    let sim = sim(&workspace, &[]);
    configure(&workspace, &sim.base_url);
    let sets = ["--prompts", "default", "lenient", "strict", "code-dev", "--target-effect", "20"];
    let output = workspace.run(&[&TUNE[..], &sets].concat());
    assert_exit(&output, 0);
    let found = document(&output);
    assert_eq!(found["schema"], "tribunal.tune/1");
    let winner = number(&found, "/winner") as usize;
    assert_eq!(found["candidates"][winner]["name"], "strict", "{found:#}");
    assert_eq!(found["test"]["finding"], "improved");
    assert!(found["test"]["low"].as_f64().expect("an interval") > 0.0);
    assert_eq!(found["simulated"], true);
    assert_eq!(number(&found, "/sealed/looks"), 1);
    assert_eq!(calls(&found), sim.requests(), "every call is in the bill");
    assert!(number(&found, "/projection/questions") >= calls(&found));
    assert_eq!(found["power_before"]["rates"]["basis"], "assumed");
    let rates = &found["power"]["rates"];
    assert_eq!(rates["basis"], "measured", "{rates}");
    // 30 leaves of each kind were asked about: three standard errors.
    for (rate, known) in [("sensitivity", 0.72), ("specificity", 0.7)] {
        let found = rates[rate].as_f64().expect("a rate");
        assert!((found - known).abs() < 0.25, "{rate} {found}");
    }
    let page = workspace.read("out/tune.html");
    assert!(page.contains("strict") && page.contains("Leaves that flipped"));
    assert_eq!(workspace.json("out/tune.json")["tuning"], found["tuning"]);
    assert_exit(&workspace.run(&["prompt", "--check", "out/winner"]), 0);
    assert!(workspace.read("out/winner/system.md").contains("burden of proof"));
    assert!(found["prompt_diff"]["system.md"].is_array());
    let gained = found["flips"].as_array().expect("flips").iter();
    assert!(gained.filter(|flip| flip["gained"] == true).count() > 3, "{}", found["flips"]);

    is_looked_at(&workspace);
    told::has_no_empty_runs(&workspace);

    // A finished tuning asks nobody, and looks at nothing anew.
    let asked = sim.requests();
    let again = document(&workspace.run(&[&TUNE[..], &sets].concat()));
    assert_eq!((sim.requests(), &again["test"]), (asked, &found["test"]));
    assert_eq!(number(&again, "/sealed/looks"), 1);
    let told = describe(&workspace.run(&[&told::plain()[..], &sets].concat()));
    assert!(told.contains(", 1 look so far") && !told.contains("1 looks"), "{told}");

    // Another tuning on the same test set needs the flag, before anything is asked.
    let other = ["--prompts", "lenient", "strict"];
    let refused = workspace.run(&[&TUNE[..], &other].concat());
    assert_exit(&refused, 2);
    assert!(describe(&refused).contains("--burn-test"), "{}", describe(&refused));
    assert_eq!(sim.requests(), asked);
    let burnt = workspace.run(&[&TUNE[..], &other, &["--burn-test"]].concat());
    assert_exit(&burnt, 0);
    let burnt = document(&burnt);
    assert_eq!(number(&burnt, "/sealed/looks"), 2);
    assert_eq!(number(&burnt, "/ledger/tunings"), 2);
    assert_eq!(number(&burnt, "/ledger/looks"), 2);
    assert_eq!(number(&burnt, "/ledger/calls"), sim.requests(), "a shared run is paid once");
    let looks = workspace.read("out/ledger.jsonl");
    assert_eq!(looks.lines().filter(|line| line.contains("\"look\"")).count(), 2);
}

/// The page in a real browser, on a phone and on a desk, everything unfolded.
fn is_looked_at(workspace: &Workspace) {
    let Some(mut browser) = Browser::start() else {
        skip("no Chromium is installed: `apt-get install chromium`, then `make test` again");
        return;
    };
    let page = format!("file://{}", workspace.file("out/tune.html").display());
    for width in [360, 1280] {
        browser.resize(width, 740);
        browser.open(&page);
        let unfold = "document.querySelectorAll('details').forEach(one => one.open = true)";
        browser.value(unfold);
        let wide = browser.value("document.documentElement.scrollWidth").as_u64();
        assert!(
            wide.is_some_and(|wide| wide <= width.into()),
            "{width}: it sticks out to {wide:?}"
        );
        let tables = browser.value("document.querySelectorAll('table').length").as_u64();
        assert!(tables.is_some_and(|tables| tables > 4), "{tables:?}");
        assert_eq!(browser.complaints(), [""; 0]);
        assert!(browser.requests().iter().all(|url| url.starts_with("file:")));
    }
}

#[test]
fn what_cannot_be_seen_is_refused_before_the_first_call() {
    let workspace = workspace();
    let sim = sim(&workspace, &[]);
    configure(&workspace, &sim.base_url);
    let sets = ["--prompts", "default", "strict", "--target-effect", "1"];
    let refused = workspace.run(&[&TUNE[..], &sets].concat());
    assert_exit(&refused, 2);
    assert!(describe(&refused).contains("cannot be seen"), "{}", describe(&refused));
    let alone = workspace.run(&[&TUNE[..], &["--prompts", "default"]].concat());
    assert_exit(&alone, 2);
    assert_eq!(sim.requests(), 0);
    let planned = workspace.run(&[&TUNE[..], &sets, &["--force", "--plan"]].concat());
    assert_exit(&planned, 0);
    let planned = document(&planned);
    assert!(number(&planned, "/projection/questions") > 100);
    let expected = number(&planned, "/projection/expected_questions");
    assert!(expected <= number(&planned, "/projection/questions"), "{planned:#}");
    assert_eq!(planned["power"]["rates"]["basis"], "assumed");
    // Known rates stand in the labels.
    let known = format!(
        "[baseline]\nsensitivity = 0.72\nspecificity = 0.7\n{}",
        workspace.read("labels.toml")
    );
    workspace.write("known.toml", &known);
    let args = ["tune", "--json", "--quiet", "--labels", "known.toml", "--judge", "sim", "--plan"];
    let planned = document(&workspace.run(&[&args[..], &sets, &["--force"]].concat()));
    assert_eq!(
        planned["power"]["rates"],
        json!({"basis": "labels", "sensitivity": 0.72, "specificity": 0.7})
    );
    assert_eq!(sim.requests(), 0);
    // One paper says nothing of another.
    let one =
        workspace.read("labels.toml").split("[[tree]]").nth(1).map(|row| format!("[[tree]]{row}"));
    workspace.write("one.toml", &one.expect("a row"));
    let args = ["tune", "--labels", "one.toml", "--judge", "sim", "--prompts", "default", "strict"];
    assert_exit(&workspace.run(&args), 2);
    // Nor do labels that know no failure.
    let passed = workspace.read("human.json").replace("\"score\":0.0", "\"score\":1.0");
    workspace.write("human.json", &passed);
    let refused = workspace.run(&[&TUNE[..], &["--prompts", "default", "strict"]].concat());
    assert_exit(&refused, 2);
    assert!(describe(&refused).contains("failed 0"), "{}", describe(&refused));
    // Nor a set beside itself.
    let twice = workspace.run(&[&TUNE[..], &["--prompts", "default", "default"]].concat());
    assert_exit(&twice, 2);
    assert_eq!(sim.requests(), 0);
}

#[test]
fn what_the_noise_hides_is_refused_before_the_race() {
    let workspace = workspace();
    // A judge that answers every other question otherwise.
    let asked = AtomicU64::new(0);
    let server = TestServer::start(move |_| {
        Reply::verdict(u8::from(asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2)))
    });
    configure(&workspace, &server.base_url());
    let args = ["--prompts", "default", "strict", "--target-effect", "14"];
    let planned = workspace.run(&[&TUNE[..], &args, &["--plan"]].concat());
    assert_exit(&planned, 0);
    let refused = workspace.run(&[&TUNE[..], &args].concat());
    assert_exit(&refused, 2);
    assert!(describe(&refused).contains("cannot be seen"), "{}", describe(&refused));
    // 60 leaves, three times: what it has paid is known, and not paid again.
    assert_eq!(server.requests(), 180);
    let ledger = workspace.read("out/ledger.jsonl");
    let spent: Value = serde_json::from_str(ledger.lines().last().expect("a line")).expect("JSON");
    assert_eq!(number(&spent, "/spent/judge_calls"), 180, "{ledger}");
    told::has_no_empty_runs(&workspace);
    assert_exit(&workspace.run(&[&TUNE[..], &args].concat()), 2);
    assert_eq!(server.requests(), 180);
}

/// Whether a tuning that has said these lines asks with this request in the phase.
type Phase = (&'static str, fn(&[&str], &str) -> bool);

/// Whether the last of the lines that begin a phase begins with this.
fn last_is(said: &[&str], phase: &str) -> bool {
    let all = ["noise floor: ", "train: ", "race: ", "test: "];
    let last = said.iter().rev().find(|line| all.iter().any(|begin| line.starts_with(begin)));
    last.is_some_and(|line| line.starts_with(phase))
}

/// Where it is killed. What begins a phase is said before its first request is sent.
const PHASES: [Phase; 6] = [
    ("noise floor", |said, _| last_is(said, "noise floor: ")),
    ("train", |said, body| last_is(said, "train: ") && !is_proposal(body)),
    ("proposal", |_, body| is_proposal(body)),
    ("race", |said, _| last_is(said, "race: ")),
    ("a later rung", |said, _| {
        last_is(said, "race: ") && said.iter().filter(|line| line.starts_with("race: ")).count() > 1
    }),
    ("test", |said, _| last_is(said, "test: ")),
];

fn is_proposal(body: &str) -> bool {
    body.contains("<proposal_request>")
}

/// A gate before the sim with one request at a time, so that while one waits the one before is stored; and the
/// arguments of a tuning that says where it is.
fn one_at_a_time(workspace: &Workspace, sim: &SimProcess) -> (Gate, Vec<&'static str>) {
    let gate = Gate::before(&sim.base_url);
    configure(workspace, &gate.base_url());
    let config = workspace.read("tribunal.toml").replace("concurrency = 8", "concurrency = 1");
    workspace.write("tribunal.toml", &config);
    (gate, TUNE.into_iter().filter(|arg| *arg != "--quiet").collect())
}

#[test]
fn killed_in_every_phase_it_pays_no_call_twice() {
    let workspace = workspace();
    // Not so much better that the first rung would decide.
    workspace.write("profile.toml", &PROFILE.replace("0.26", "0.07").replace("0.28", "0.07"));
    let sim = sim(&workspace, &[]);
    let (gate, told) = one_at_a_time(&workspace, &sim);
    let args = [
        &told[..],
        &["--prompts", "default", "lenient", "code-dev"],
        &["--propose", "2", "--proposer", "writer", "--repeats", "2"],
    ]
    .concat();
    for (phase, is_in) in PHASES {
        let mut running = Running::start(workspace.command(&args));
        let mut inside = 0;
        while inside < 3 {
            let body = gate.first(|| running.has_ended());
            let body = body.unwrap_or_else(|| panic!("no {phase}: {}", running.stderr()));
            let said = running.stderr();
            let said: Vec<&str> = said.lines().collect();
            inside = if is_in(&said, &body) { inside + 1 } else { 0 };
            if is_proposal(&body) {
                for part in ["Criterion: The function transform_", "as the human saw it", "Saw: "] {
                    assert!(body.contains(part), "{part}: {body}");
                }
                assert!(body.contains("It was shown: ") && body.contains("main.py"), "{body}");
            }
            // A proposal is one request: it is killed over the first.
            if inside == 3 || (inside > 0 && is_proposal(&body)) {
                break;
            }
            gate.let_through();
        }
        running.kill();
        gate.forget();
    }
    gate.open();
    let last = Running::start(workspace.command(&args)).finish();
    assert_exit(&last, 0);
    let found = document(&last);
    let requests = sim.requests();
    assert_eq!(requests, calls(&found), "{found:#}");
    assert!(found["test"]["finding"].is_string(), "{found:#}");
    let candidates = found["candidates"].as_array().expect("candidates");
    let proposed = candidates.iter().find(|of| !of["parent"].is_null()).expect("a proposal");
    assert!(proposed["reason"].as_str().expect("a reason").contains("[simulated]"));
    assert!(!proposed["seen"].as_array().expect("papers").is_empty());
    let folder = proposed["prompt_set"].as_str().expect("a folder");
    assert!(workspace.read(&format!("{folder}/system.md")).contains("Count what runs."));
    let record = workspace.json(&format!("{folder}/proposal.json"));
    assert_eq!((&record["parent"], &record["reason"]), (&proposed["parent"], &proposed["reason"]));

    // Nothing is asked again, the proposer neither.
    let again = Running::start(workspace.command(&args)).finish();
    assert_exit(&again, 0);
    assert_eq!(sim.requests(), requests);
}

/// Ctrl-C while the last votes of the noise floor are asked for: every leaf has most of its votes by then.
#[test]
fn an_interrupted_tuning_queues_nothing_more() {
    let workspace = workspace();
    let sim = sim(&workspace, &[]);
    let (gate, told) = one_at_a_time(&workspace, &sim);
    let args = [&told[..], &["--prompts", "default", "strict", "--repeats", "3"]].concat();
    let mut running = Running::start(workspace.command(&args));
    let mut asked = 0;
    let votes = |said: &str| {
        let line = said.lines().find(|line| line.starts_with("noise floor: "))?;
        let numbers = line.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        Some(numbers.product::<u64>())
    };
    while votes(&running.stderr()).is_none_or(|votes| asked < votes * 2 / 3 + 3) {
        gate.first(|| running.has_ended()).expect("a vote");
        gate.let_through();
        asked += 1;
    }
    gate.first(|| running.has_ended()).expect("a vote that is still to come");
    running.interrupt();
    wait_until("it stops", || running.stderr().contains("stopping"));
    gate.open();
    let output = running.finish();
    assert_exit(&output, 130);
    assert!(!describe(&output).contains("race: "), "{}", describe(&output));
    let waiting: u64 = workspace.runs().iter().map(|run| number(run, "/pending")).sum();
    let votes = votes(&describe(&output)).expect("it said how many votes");
    assert_eq!(waiting, votes - sim.requests(), "votes of the noise floor, and nothing else");
}

#[test]
fn a_tuning_on_postgresql_says_the_same() {
    let Some(server) = PostgresServer::start(&["fsync=on"]) else { return };
    let workspace = workspace();
    let sim = sim(&workspace, &[]);
    configure(&workspace, &sim.base_url);
    let run = |out: &str| {
        let args = ["tune", "--json", "--quiet", "--labels", "labels.toml", "--judge", "sim"];
        let output =
            workspace.run(&[&args[..], &["--prompts", "default", "strict", "--out", out]].concat());
        assert_exit(&output, 0);
        document(&output)
    };
    let here = run("here");
    let config = workspace.read("tribunal.toml");
    workspace.write("tribunal.toml", &format!("[store]\nurl = \"{}\"\n{config}", server.url()));
    let there = run("there");
    assert_eq!(calls(&here) + calls(&there), sim.requests(), "nothing of the other store is known");
    for field in ["answer", "winner", "races", "test", "flips"] {
        assert_eq!(here[field], there[field], "{field}");
    }
    assert_eq!(run("there")["test"], there["test"]);
    assert_eq!(calls(&here) + calls(&there), sim.requests(), "a finished tuning asks nobody");
}

/// A request's body as JSON, and all that its messages say.
fn said(body: &Value) -> String {
    let messages = body["messages"].as_array().expect("messages").iter();
    messages.filter_map(|message| message["content"].as_str()).collect::<Vec<_>>().join("\n")
}

/// What a tuning of the one prompt with this factor asks.
fn asked_with(factor: &str) -> Vec<Value> {
    let workspace = workspace();
    let bodies = Arc::<Mutex<Vec<Value>>>::default();
    let kept = Arc::clone(&bodies);
    let server = TestServer::start(move |request| {
        let body = serde_json::from_str(&request.body).expect("JSON");
        kept.lock().expect("nobody has panicked here").push(body);
        Reply::verdict(1)
    });
    let judge = |name: &str, model: &str| {
        let base_url = server.base_url();
        format!("[judge.{name}]\nbase_url = \"{base_url}\"\nmodel = \"{model}\"\n")
    };
    let text =
        "[run]\nmax_prior_nodes = 5\n[evidence]\nselection = \"lexical\"\ntoken_budget = 1500\n";
    let text = format!("{text}{}{}", judge("sim", "a-model"), judge("second", "second-model"));
    workspace.write("tribunal.toml", &text);
    for paper in 0..PAPERS {
        for file in 0..4 {
            let lines: String =
                (0..80).map(|line| format!("value_{file}_{line} = {line}\n")).collect();
            workspace.write(&format!("work-{paper}/part_{file}.py"), &lines);
        }
    }
    let labels = workspace.read("labels.toml");
    let few: Vec<&str> = labels.split("[[tree]]").skip(1).take(2).collect();
    workspace.write("labels.toml", &format!("[[tree]]{}", few.join("[[tree]]")));
    let args = ["--prompts", "default", "--repeats", "1", "--factor", factor];
    let output = workspace.run(&[&TUNE[..], &args].concat());
    assert_exit(&output, 0);
    let found = document(&output);
    assert_eq!(found["candidates"][1]["name"], format!("default {factor}"), "{found:#}");
    drop(server);
    bodies.lock().expect("nobody has panicked here").clone()
}

#[test]
fn every_factor_changes_what_the_judge_is_asked() {
    let longest = |bodies: &[Value]| bodies.iter().map(|body| said(body).len()).max().unwrap_or(0);
    let usual = asked_with("reasoning_effort=high");
    let effort = |body: &&Value| body["reasoning_effort"] == "high";
    let plain: Vec<Value> = usual.iter().filter(|body| !effort(body)).cloned().collect();
    assert!(plain.len() >= LEAVES && usual.len() > plain.len(), "{} {}", plain.len(), usual.len());

    for (factor, model) in [("judge=second", "second-model"), ("model=other-model", "other-model")]
    {
        let asked = asked_with(factor);
        assert!(plain.iter().all(|body| body["model"] == "a-model"));
        assert!(asked.iter().any(|body| body["model"] == model), "{factor}");
        assert!(asked.iter().any(|body| body["model"] == "a-model"), "{factor}");
    }
    let ranks = |bodies: &[Value]| {
        bodies.iter().filter(|body| said(body).contains("Which of the submission's files")).count()
    };
    assert_eq!(ranks(&plain), 0);
    assert!(ranks(&asked_with("selection=judge")) > 10);
    let wide = asked_with("token_budget=3000");
    assert!(longest(&wide) > longest(&plain) + 1_000, "{} {}", longest(&wide), longest(&plain));
    let prior = |body: &Value| said(body).matches("scales the tensor of part").count();
    let most = |bodies: &[Value]| bodies.iter().map(prior).max().unwrap_or(0);
    assert_eq!(most(&plain), 6, "the criterion and five before it");
    let fewer = asked_with("max_prior_nodes=2");
    let with_two = |bodies: &[Value]| bodies.iter().filter(|body| prior(body) == 3).count();
    assert!(with_two(&fewer) > with_two(&plain) + 10, "{}", with_two(&fewer));
    let same = |bodies: &[Value]| {
        let said: Vec<String> = bodies.iter().map(said).collect();
        said.iter().map(|one| said.iter().filter(|other| *other == one).count()).max().unwrap_or(0)
    };
    assert_eq!(same(&plain), 1);
    assert_eq!(same(&asked_with("samples=3")), 3, "the first is the baseline's own answer");
    // Answers without a quote are sent back.
    let repairs = |bodies: &[Value]| {
        let own = |body: &&Value| {
            let mut messages = body["messages"].as_array().expect("messages").iter();
            messages.any(|message| message["role"] == "assistant")
        };
        bodies.iter().filter(own).count()
    };
    assert_eq!(repairs(&plain), 0);
    assert!(repairs(&asked_with("require_evidence=true")) > 10);
}
