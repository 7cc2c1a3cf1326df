//! Questions by the provider's batch API: the verdicts of live calls at half the price, and nothing
//! paid twice, whatever is killed, refused or expires.

use std::{
    process::Output,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;
use tribunal_e2e::{
    Reply, Request, Running, SimProcess, TestServer, Workspace, assert_exit, describe, document,
    number, wait_until,
};

const LEAVES: u64 = 60;

/// A workspace whose batches are looked at without waiting.
fn workspace(more: &str) -> Workspace {
    let workspace = Workspace::generated(LEAVES as usize);
    let text = format!("[batch_api]\npoll_ms = 20\nmax_poll_ms = 50\n{more}");
    workspace.write("tribunal.toml", &text);
    workspace
}

/// `tribunal grade` by gpt-4.1, which has a price, at this endpoint.
fn grade(workspace: &Workspace, base_url: &str, args: &[&str]) -> Running {
    let judge = ["--base-url", base_url, "--model", "gpt-4.1"];
    let inputs = ["grade", "--json", "--rubric", "rubric.json", "--submission", "submission"];
    Running::start(workspace.command(&[&inputs[..], &judge, args].concat()))
}

fn batched(workspace: &Workspace, sim: &SimProcess) -> Running {
    grade(workspace, &sim.base_url, &["--via", "batch", "--out", "out"])
}

fn usd(document: &Value, pointer: &str) -> f64 {
    let found = document.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {pointer} in {document:#}"))
}

/// What the sim's answers cost at the prices of gpt-4.1, in US dollars, outside the batch API.
fn whole_price(sim: &SimProcess) -> f64 {
    let tokens = |name: &str| sim.stat(name) as f64;
    let fresh = tokens("prompt_tokens") - tokens("cached_tokens");
    (fresh * 2.0 + tokens("cached_tokens") * 0.5 + tokens("completion_tokens") * 8.0) / 1e6
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// Every leaf's verdict.
fn verdicts(workspace: &Workspace) -> Vec<String> {
    let text = workspace.read("out/leaves.csv");
    let mut rows = csv_rows(&text);
    rows.sort();
    rows
}

/// Id, category and score of each row.
fn csv_rows(text: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers().expect("a head").clone();
    let at = |name: &str| headers.iter().position(|head| head == name).expect("a column");
    let columns = [at("id"), at("score"), at("explanation")];
    let row = |row: csv::StringRecord| columns.map(|at| row[at].to_owned()).join("|");
    reader.records().map(|record| row(record.expect("a row"))).collect()
}

#[test]
fn verdicts_are_those_of_live_calls_at_half_the_price() {
    let (workspace, sim) = (workspace("max_requests = 25\n"), SimProcess::start(&[]));
    let live = workspace_live();
    let output = batched(&workspace, &sim).finish();
    assert_exit(&output, 0);
    let found = document(&output);
    assert_eq!(verdicts(&workspace), verdicts(&live.0));
    assert_eq!((sim.requests(), sim.stat("batch_questions")), (0, LEAVES));
    assert!(sim.stat("batches") >= 3, "25 questions at most in each");
    assert!(close(usd(&found, "/cost_usd"), whole_price(&sim) / 2.0), "{found:#}");
    assert_eq!(found["bill"]["judge"]["batched"], found["bill"]["judge"]["tokens"]);
    let files = reqwest::blocking::get(format!("{}/files", sim.base_url));
    let files: Value =
        serde_json::from_str(&files.and_then(|files| files.text()).expect("a list")).expect("JSON");
    assert_eq!(files["data"], Value::Array(Vec::new()), "nothing stays at the provider");
    // Nothing is asked again, live or not.
    let again = grade(&workspace, &sim.base_url, &["--out", "out"]).finish();
    assert_exit(&again, 0);
    assert_eq!((sim.requests(), sim.stat("batch_questions")), (0, LEAVES));
}

/// The same leaves graded live.
fn workspace_live() -> (Workspace, SimProcess) {
    let (workspace, sim) = (workspace(""), SimProcess::start(&[]));
    let output = grade(&workspace, &sim.base_url, &["--out", "out"]).finish();
    assert_exit(&output, 0);
    assert!(close(usd(&document(&output), "/cost_usd"), whole_price(&sim)));
    (workspace, sim)
}

/// What a jury makes of the leaves that has two judges, each with a price and an endpoint of its own
/// and two votes.
fn jury(more: &[&str]) -> (Workspace, [SimProcess; 2], Output) {
    let sims = [SimProcess::start(&[]), SimProcess::start(&[])];
    let judge = |name: &str, model: &str, sim: &SimProcess| {
        format!("[judge.{name}]\nbase_url = \"{}\"\nmodel = \"{model}\"\n\n", sim.base_url)
    };
    let judges = judge("large", "gpt-4.1", &sims[0]) + &judge("small", "gpt-4.1-mini", &sims[1]);
    let workspace = workspace(&format!("max_requests = 50\n\n{judges}"));
    let output = workspace.run(&[&["grade", "--out", "out"], &JURY[..], more].concat());
    (workspace, sims, output)
}

const JURY: [&str; 9] = [
    "--json",
    "--rubric",
    "rubric.json",
    "--submission",
    "submission",
    "--jury",
    "large,small",
    "--samples",
    "2",
];

#[test]
fn each_judge_of_a_jury_answers_batches_of_its_own_at_its_own_price() {
    // The small one costs a fifth.
    let cost = |sims: &[SimProcess; 2]| whole_price(&sims[0]) + whole_price(&sims[1]) / 5.0;
    let (live, asked, lived) = jury(&[]);
    let (workspace, sims, output) = jury(&["--via", "batch"]);
    assert_eq!(output.status.code(), lived.status.code(), "{}", describe(&output));
    assert_eq!(verdicts(&workspace), verdicts(&live));
    for sim in &asked {
        assert_eq!((sim.requests(), sim.stat("batch_questions")), (2 * LEAVES, 0));
    }
    for sim in &sims {
        assert_eq!((sim.requests(), sim.stat("batch_questions")), (0, 2 * LEAVES));
    }
    let (found, lived) = (document(&output), document(&lived));
    assert!(close(usd(&lived, "/cost_usd"), cost(&asked)), "{lived:#}");
    assert!(close(usd(&found, "/cost_usd"), cost(&sims) / 2.0), "{found:#}");
    assert!(close(usd(&found, "/bill/judge/cost_usd"), cost(&sims) / 2.0), "{found:#}");
    assert_eq!(found["bill"]["judge"]["batched"], found["bill"]["judge"]["tokens"]);

    // Nothing is taken to be cached in the most that may be paid.
    let plan = |more: &[&str]| {
        let output = workspace.run(&[&["plan", "--fresh"], &JURY[..], more].concat());
        assert_exit(&output, 0);
        usd(&document(&output), "/cost_usd/high")
    };
    assert!(close(plan(&["--via", "batch"]), plan(&[]) / 2.0));
}

/// Where a client is killed: at the first request of this kind, before or after the provider has it.
#[derive(Clone, Copy, Debug)]
struct Point {
    method: &'static str,
    path: &'static str,
    arrives: bool,
}

/// A server before the sim that holds one request, and hands on all others.
struct Gate {
    server: TestServer,
    state: Arc<(Mutex<bool>, Condvar)>,
    reached: Arc<AtomicBool>,
}

// === impl Gate ===

impl Gate {
    fn before(sim: &SimProcess, point: Point) -> Gate {
        let (target, client) = (sim.base_url.clone(), reqwest::blocking::Client::new());
        let state: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let reached: Arc<AtomicBool> = Arc::default();
        let (held, told) = (Arc::clone(&state), Arc::clone(&reached));
        let server = TestServer::start(move |request: &Request| {
            let hold = request.method == point.method
                && request.path.contains(point.path)
                && !told.swap(true, Ordering::SeqCst);
            let path = request.path.strip_prefix("/v1").unwrap_or_default();
            let forward = || {
                let method = request.method.parse().expect("a method");
                let mut sent = client.request(method, format!("{target}{path}"));
                if let Some(content) = request.header("content-type") {
                    sent = sent.header("content-type", content);
                }
                let answer = sent.body(request.body.clone()).send().expect("the sim answers");
                let status = answer.status().as_u16();
                Reply { status, headers: Vec::new(), body: answer.text().expect("text") }
            };
            let wait = || {
                let (open, changed) = &*held;
                let open = open.lock().expect("no panic");
                drop(changed.wait_while(open, |open| !*open).expect("no panic"));
            };
            match (hold, point.arrives) {
                (false, _) => forward(),
                (true, true) => {
                    let reply = forward();
                    wait();
                    reply
                }
                (true, false) => {
                    wait();
                    forward()
                }
            }
        });
        Gate { server, state, reached }
    }

    fn is_reached(&self) -> bool {
        self.reached.load(Ordering::SeqCst)
    }

    /// Lets the request go that was held, though its client is gone.
    fn open(&self) {
        *self.state.0.lock().expect("no panic") = true;
        self.state.1.notify_all();
    }
}

/// Killed with a request on its way, and gone on with: every question is answered once.
fn killed_at(point: Point) {
    let (workspace, sim) = (workspace(""), SimProcess::start(&[]));
    let gate = Gate::before(&sim, point);
    let url = gate.server.base_url();
    let args = ["--via", "batch", "--out", "out"];
    let killed = grade(&workspace, &url, &args);
    wait_until("the client is at the gate", || gate.is_reached());
    killed.kill();
    let output = grade(&workspace, &url, &args).finish();
    assert_exit(&output, 0);
    let found = document(&output);
    assert_eq!(number(&found, "/outcomes/graded"), LEAVES, "{point:?}");
    // What was held comes late, and leads to nothing.
    let before = sim.stat("requests");
    gate.open();
    wait_until("the held request is through", || Arc::strong_count(&gate.state) <= 2);
    assert_eq!((before, sim.stat("requests")), (0, 0));
    let stats = sim.stats();
    assert_eq!(number(&stats, "/batch_questions"), LEAVES, "{point:?}: {stats:#}");
    assert!(close(usd(&found, "/cost_usd"), whole_price(&sim) / 2.0), "{point:?}: {found:#}");
}

#[test]
fn a_kill_before_the_upload_pays_nothing_twice() {
    killed_at(Point { method: "POST", path: "/files", arrives: false });
}

#[test]
fn a_kill_after_the_upload_pays_nothing_twice() {
    killed_at(Point { method: "POST", path: "/files", arrives: true });
}

#[test]
fn a_creation_that_comes_late_finds_no_file() {
    killed_at(Point { method: "POST", path: "/batches", arrives: false });
}

#[test]
fn a_creation_that_nobody_heard_of_is_found() {
    killed_at(Point { method: "POST", path: "/batches", arrives: true });
}

#[test]
fn a_kill_while_the_batch_is_looked_at_pays_nothing_twice() {
    killed_at(Point { method: "GET", path: "/batches/", arrives: true });
}

#[test]
fn a_kill_while_replies_are_fetched_pays_nothing_twice() {
    killed_at(Point { method: "GET", path: "/content", arrives: true });
}

const PATIENT: &str = "[retry]\nbase_ms = 1\nmax_ms = 5\ntransient_attempts = 50\n\
                       retry_budget_ratio = 1.0\n";

#[test]
fn only_what_is_missing_is_asked_again() {
    let sim = SimProcess::start(&["--batch-error-rate", "0.3", "--batch-expiry-rate", "0.6"]);
    let workspace = workspace(PATIENT);
    let output = batched(&workspace, &sim).finish();
    assert_exit(&output, 0);
    let found = document(&output);
    assert_eq!(number(&found, "/outcomes/graded"), LEAVES);
    assert!(sim.stat("expired_batches") > 0 && sim.stat("batches") > 2, "{:#}", sim.stats());
    assert_eq!((sim.stat("distinct_criteria"), sim.stat("repeated_criteria")), (LEAVES, 0));
    assert_eq!(sim.requests(), 0);
    assert!(close(usd(&found, "/cost_usd"), whole_price(&sim) / 2.0), "{found:#}");
    assert!(number(&found, "/calls/failed") > 0, "{found:#}");
}

#[test]
fn what_must_be_mended_goes_live() {
    let (workspace, sim) = (workspace(""), SimProcess::start(&["--malformed-rate", "0.3"]));
    let output = batched(&workspace, &sim).finish();
    let found = document(&output);
    assert_eq!(sim.stat("batch_questions"), LEAVES, "no verdict was asked for twice by batch");
    let repairs = number(&found, "/bill/repair/calls");
    assert!(repairs > 0 && repairs == sim.requests(), "{found:#}");
    assert_eq!(number(&found, "/bill/repair/batched/input"), 0);
    let judge = |what: &str| number(&found, &format!("/bill/judge/{what}/input"));
    assert!(judge("batched") > 0 && judge("batched") == judge("tokens"), "{found:#}");
    assert!(number(&found, "/outcomes/graded") > LEAVES - 10);
}

#[test]
fn an_interrupt_leaves_the_batch_where_it_is() {
    let (workspace, sim) = (workspace(""), SimProcess::start(&["--batch-delay-ms", "1500"]));
    let begun = batched(&workspace, &sim);
    wait_until("the batch is sent", || begun.stderr().contains("questions is sent"));
    begun.interrupt();
    let output = begun.finish();
    assert_exit(&output, 130);
    let status = workspace.status();
    assert_eq!((number(&status, "/posted"), number(&status, "/done")), (LEAVES, 0));
    // A worker elsewhere fetches it.
    assert_exit(&workspace.run(&["work", "--until-empty", "--quiet"]), 0);
    assert_eq!(number(&workspace.status(), "/done"), LEAVES);
    assert_eq!((sim.requests(), sim.stat("batch_questions")), (0, LEAVES));
}

#[test]
fn cancel_reaches_the_provider() {
    let (workspace, sim) = (workspace(""), SimProcess::start(&["--batch-delay-ms", "3600000"]));
    let begun = batched(&workspace, &sim);
    wait_until("the batch is sent", || begun.stderr().contains("questions is sent"));
    let run = workspace.status()["run"].as_str().expect("an id").to_owned();
    assert_exit(&workspace.run(&["cancel", &run]), 0);
    wait_until("the batch is cancelled", || sim.stat("cancelled_batches") == 1);
    assert_exit(&begun.finish(), 3);
    assert_eq!(sim.stat("batch_questions"), 0);
    // What was cancelled is asked anew, live this time.
    assert_exit(&workspace.run(&["retry", &run]), 0);
    let output = grade(&workspace, &sim.base_url, &["--via", "live", "--out", "out"]).finish();
    assert_exit(&output, 0);
    assert_eq!((sim.requests(), sim.stat("batch_questions")), (LEAVES, 0));
}

#[test]
fn a_budget_holds_for_batches() {
    let (workspace, sim) = (workspace(""), SimProcess::start(&[]));
    // A question takes a cent at most by batch, and a tenth of that in the end: what is not held at
    // first is held once the first batch has given back what it did not use.
    let args = ["--via", "batch", "--out", "out", "--budget", "0.20"];
    let output = grade(&workspace, &sim.base_url, &args).finish();
    assert_exit(&output, 0);
    let found = document(&output);
    assert!(sim.stat("batches") > 1, "{:#}", sim.stats());
    assert_eq!(sim.stat("batch_questions"), LEAVES);
    assert!(usd(&found, "/cost_usd") <= 0.20, "{found:#}");
    assert!((usd(&found, "/cost_usd") - whole_price(&sim) / 2.0).abs() < 1e-4, "{found:#}");
}

#[test]
fn a_full_queue_is_waited_for() {
    let sim = SimProcess::start(&["--batch-queue-tokens", "40000", "--batch-delay-ms", "100"]);
    let workspace = workspace(&format!("max_requests = 20\n{PATIENT}"));
    let output = batched(&workspace, &sim).finish();
    assert_exit(&output, 0);
    assert!(
        sim.stat("batches") > sim.stat("files"),
        "one was refused and created again: {:#}",
        sim.stats()
    );
    assert_eq!(sim.stat("batch_questions"), LEAVES);
}

#[test]
fn an_endpoint_without_a_batch_api_pauses_the_run() {
    let server = TestServer::start(|request: &Request| match request.path.as_str() {
        "/v1/chat/completions" => Reply::verdict(1),
        path => Reply::error(404, "unknown_url", &format!("Unknown request URL: {path}")),
    });
    let workspace = workspace("");
    let args = ["--via", "batch", "--out", "out"];
    let output = grade(&workspace, &server.base_url(), &args).finish();
    assert_exit(&output, 4);
    assert!(describe(&output).contains("--via live"), "{}", describe(&output));
    assert_eq!(number(&workspace.status(), "/pending"), LEAVES, "no leaf is burnt");
    let output = grade(&workspace, &server.base_url(), &["--via", "live", "--out", "out"]).finish();
    assert_exit(&output, 0);
}

#[test]
fn plan_says_the_price_of_a_batch() {
    let (workspace, sim) = (workspace(""), SimProcess::start(&[]));
    let plan = |via: &str| {
        let judge = ["--base-url", &sim.base_url, "--model", "gpt-4.1", "--via", via];
        let inputs = ["plan", "--json", "--rubric", "rubric.json", "--submission", "submission"];
        let output = workspace.run(&[&inputs[..], &judge].concat());
        assert_exit(&output, 0);
        document(&output)
    };
    let (live, batch) = (plan("live"), plan("batch"));
    assert!(close(usd(&batch, "/cost_usd/high"), usd(&live, "/cost_usd/high") / 2.0));
    assert_eq!((number(&batch, "/tokens/cached"), &batch["time_s"]), (0, &Value::Null));
    assert_eq!(batch["run"], live["run"], "the way is no part of a run");
    let said = batch["assumptions"].to_string();
    assert!(said.contains("50% of the price"), "{said}");
    assert_eq!(sim.requests() + sim.stat("files"), 0);
}

/// A manifest of two agents with two snapshots each of one paper, and `tribunal batch` of it.
fn many(via: &str, sim: &SimProcess) -> (Workspace, Vec<String>) {
    let workspace = workspace("");
    let paper = workspace.file("papers/fre");
    std::fs::create_dir_all(&paper).expect("a folder");
    tribunal_e2e::write_rubric(&paper.join("rubric.json"), 40);
    for name in ["a/fre/seed1/1h", "a/fre/seed1/6h", "b/fre/seed1/1h", "b/fre/seed1/6h"] {
        let submission = workspace.file(&format!("work/{name}"));
        tribunal_e2e::write_submission(&submission, 40);
        std::fs::write(submission.join("README.md"), name).expect("written");
    }
    workspace.write(
        "batch.toml",
        "[defaults]\npapers = \"papers\"\n\n\
         [[row]]\nsubmission = \"work/{agent}/{paper_id}/seed{seed}/{elapsed_hours}h\"\n",
    );
    let judge = ["--base-url", &sim.base_url, "--model", "gpt-4.1", "--via", via];
    let args = ["batch", "batch.toml", "--json", "--out", "out"].iter().chain(&judge);
    let args = args.map(|arg| (*arg).to_owned()).collect();
    (workspace, args)
}

#[test]
fn many_trees_by_batch_have_the_scores_of_live_calls_at_half_the_price() {
    let (live, slow) = (SimProcess::start(&[]), SimProcess::start(&["--batch-delay-ms", "500"]));
    let run = |(workspace, args): &(Workspace, Vec<String>)| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Running::start(workspace.command(&args))
    };
    let whole = many("live", &live);
    let expected = run(&whole).finish();
    assert_exit(&expected, 0);
    let batched = many("batch", &slow);
    let killed = run(&batched);
    wait_until("a batch is at the provider", || slow.stat("batches") > 0);
    killed.kill();
    let found = run(&batched).finish();
    assert_exit(&found, 0);
    let (expected, found) = (document(&expected), document(&found));
    let roots = |document: &Value| {
        let rows = document["rows"].as_array().expect("rows").clone();
        rows.into_iter().map(|row| row["root"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(roots(&found), roots(&expected));
    assert_eq!((slow.requests(), slow.stat("batch_questions")), (0, 160));
    assert!(close(usd(&expected, "/cost_usd"), whole_price(&live)), "{expected:#}");
    assert!(close(usd(&found, "/cost_usd"), whole_price(&slow) / 2.0), "{found:#}");
}
