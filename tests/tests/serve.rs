//! The served pages in a real browser: a run that goes on, the desk, and who is not heard.

use std::process::Stdio;

use serde_json::{Value, json};
use tribunal_e2e::{Browser, Running, SimProcess, Workspace, assert_exit, skip, wait_until};

/// A server of the workspace's store, and where it is.
struct Served {
    _running: Running,
    url: String,
}

fn serve(workspace: &Workspace) -> Served {
    let mut command = workspace.command(&["serve", "--addr", "127.0.0.1:0"]);
    command.stdin(Stdio::null());
    let running = Running::start(command);
    let url = || {
        let said = running.stderr();
        said.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
    };
    wait_until("the server says where it is", || url().is_some());
    let url = url().expect("it said so").trim_end_matches('/').to_owned();
    Served { _running: running, url }
}

fn client() -> reqwest::blocking::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::blocking::Client::builder().no_proxy().build().expect("a client")
}

fn browser() -> Option<Browser> {
    let browser = Browser::start();
    if browser.is_none() {
        skip("no Chromium is installed: `apt-get install chromium`, then `make test` again");
    }
    browser
}

#[test]
fn a_run_is_watched_while_it_is_graded() {
    let Some(mut browser) = browser() else { return };
    let (workspace, sim) = (Workspace::example(), SimProcess::start(&["--latency-ms", "100"]));
    let mut grade = workspace.grade(&sim.base_url, &["--quiet", "--concurrency", "1"]);
    grade.stdout(Stdio::null());
    let mut grading = Running::start(grade);
    wait_until("the run is there", || {
        workspace.file(".tribunal/store.db").exists() && !workspace.runs().is_empty()
    });
    let served = serve(&workspace);
    browser.open(&format!("{}/", served.url));
    let done = "Number(document.querySelector('#runs progress').value)";
    browser.until(&format!("{done} > 0"));
    let run = workspace.status()["run"].as_str().expect("an id").to_owned();
    browser.open(&format!("{}/runs/{run}#leaf=0", served.url));
    browser.until("document.querySelector('#panel h2')?.textContent === 'Leaf #0'");
    browser.until("document.getElementById('root-coverage').textContent === '100.0%'");
    // At its end what stands above the tree is the finished run's.
    browser.until(
        "document.querySelector('.cards').textContent.includes('all of the weight is graded')",
    );
    browser.until("document.querySelector('#panel .body .said')");
    browser.until("document.querySelector('#panel .body').textContent.includes('cache boundary')");
    assert_eq!(browser.complaints(), [""; 0]);
    let own = |url: &String| url.starts_with(&served.url) || url.starts_with("data:");
    assert!(browser.requests().iter().all(own), "{:?}", browser.requests());
    wait_until("the run ends", || grading.has_ended());
}

#[test]
fn leaves_are_labelled_blind_and_undone() {
    let Some(mut browser) = browser() else { return };
    let (workspace, sim) = (Workspace::example(), SimProcess::start(&[]));
    assert_exit(&workspace.run_grade(&sim.base_url, &["--quiet"]), 0);
    let run = workspace.status()["run"].as_str().expect("an id").to_owned();
    let served = serve(&workspace);
    let desk = |author: &str, task: &str| {
        format!("{}/runs/{run}/desk?author={author}&order=rubric&task={task}", served.url)
    };
    let count =
        |words: &str| format!("document.getElementById('count').textContent.includes('{words}')");
    browser.open(&desk("ann", "label"));
    browser.until(&count("Leaf 1 of 29; 0 done"));
    browser.until("document.querySelector('#evidence details')");
    // Blind: nothing of the judge's is on the page.
    let page = browser.value("document.documentElement.textContent");
    assert!(!page.as_str().expect("text").contains("[simulated]"), "the verdict is hidden");
    browser.press("y");
    browser.until(&count("Leaf 2 of 29; 1 done"));
    browser.press("n");
    browser.until(&count("; 2 done"));
    browser.press("u");
    browser.until(&count("Leaf 2 of 29; 1 done"));
    browser.press("v");
    browser.until("document.getElementById('judge').textContent.includes('[simulated]')");
    browser.press("a");
    browser.until(&count("Leaf 3 of 29; 2 done"));

    // Another person sees the first leaf differently; a third one settles it.
    browser.open(&desk("bob", "label"));
    browser.until(&count("; 0 done"));
    browser.press("n");
    browser.until(&count("; 1 done"));
    browser.open(&desk("cyd", "adjudicate"));
    browser.until(&count("Leaf 1 of 1"));
    browser.until("document.getElementById('given').textContent.includes('ann: fulfilled')");
    browser.press("y");
    browser.until(&count("; 1 done"));
    assert_eq!(browser.complaints(), [""; 0]);

    // What is exported is a graded tree; the judge's verdict is as it was.
    let export = |query: &str| -> Value {
        let url = format!("{}/runs/{run}/labels{query}", served.url);
        client().get(url).send().and_then(|answer| answer.json()).expect("a graded tree")
    };
    let scores = |tree: &Value| {
        let leaf = |i: usize| &tree["sub_tasks"][0]["sub_tasks"][0]["sub_tasks"][i];
        (leaf(0)["valid_score"].clone(), leaf(0)["score"].clone(), leaf(1)["valid_score"].clone())
    };
    assert_eq!(scores(&export("")), (json!(true), json!(1.0), json!(false)));
    assert_eq!(scores(&export("?author=bob")), (json!(true), json!(0.0), json!(false)));
    // The audit reads it, and what it learns of the judge stands on the report.
    std::fs::write(workspace.file("human.json"), export("").to_string()).expect("written");
    let arguments = ["--judge", &run, "--human", "human.json", "--save", "cal.json", "--json"];
    let audited = workspace.run(&[&["audit"][..], &arguments].concat());
    assert_exit(&audited, 0);
    assert_eq!(tribunal_e2e::number(&tribunal_e2e::document(&audited), "/leaves"), 1);
    let report = ["report", &run, "--calibration", "cal.json", "--out", "corrected.html"];
    assert_exit(&workspace.run(&report), 0);
    assert!(workspace.read("corrected.html").contains("As humans would score it"));

    let collected = workspace.run(&["collect", &run, "--out", "again", "--quiet"]);
    assert_exit(&collected, 0);
    assert_eq!(workspace.json("again/run.json")["root"], workspace.json("out/run.json")["root"]);
    browser.open(&format!("{}/runs/{run}#leaf=0", served.url));
    let card = browser.value("document.getElementById('overruled').textContent");
    assert!(card.as_str().is_some_and(|card| card.contains("1 leaves graded by people")), "{card}");
    browser
        .until("document.querySelector('#panel .body')?.textContent.includes('cyd, settling it')");
}

#[test]
fn only_its_own_pages_are_heard() {
    let (workspace, sim) = (Workspace::example(), SimProcess::start(&[]));
    assert_exit(&workspace.run_grade(&sim.base_url, &["--quiet"]), 0);
    let run = workspace.status()["run"].as_str().expect("an id").to_owned();
    let served = serve(&workspace);
    let client = client();
    let status = |path: &str, headers: &[(&str, &str)]| {
        let mut request = client.get(format!("{}{path}", served.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().expect("an answer").status().as_u16()
    };
    assert_eq!(status("/", &[]), 200);
    assert_eq!(status("/", &[("host", "evil.example")]), 421);
    assert_eq!(status(&format!("/runs/{run}"), &[("sec-fetch-site", "cross-site")]), 403);
    for path in
        ["/runs/0000000000000000", "/runs/nothing", "/etc/passwd", "/runs/..%2f..%2fetc%2fpasswd"]
    {
        assert_eq!(status(path, &[]), 404, "{path}");
    }
    let label = json!({"position": 3, "author": "eve", "kind": "label", "score": 1.0, "note": "", "blind": true});
    let post = |origin: Option<&str>, body: &Value| {
        let mut request = client.post(format!("{}/runs/{run}/labels", served.url)).json(body);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.send().expect("an answer").status().as_u16()
    };
    assert_eq!(post(None, &label), 403);
    assert_eq!(post(Some("http://evil.example"), &label), 403);
    assert_eq!(post(Some(&served.url), &label), 200);
    let mut wrong = label.clone();
    wrong["author"] = json!(" ");
    assert_eq!(post(Some(&served.url), &wrong), 400);
    wrong = label;
    wrong["position"] = json!(0);
    assert_eq!(post(Some(&served.url), &wrong), 404, "the root is no leaf");
}

#[test]
fn another_address_needs_a_token() {
    let workspace = Workspace::example();
    let none = workspace.run(&["serve", "--addr", "127.0.0.1:0"]);
    assert_exit(&none, 2);
    assert!(String::from_utf8_lossy(&none.stderr).contains("there is no store"));
    workspace.write("token", "short");
    let sim = SimProcess::start(&[]);
    assert_exit(&workspace.run_grade(&sim.base_url, &["--quiet"]), 0);
    let short = workspace.run(&["serve", "--addr", "127.0.0.1:0", "--token-file", "token"]);
    assert_exit(&short, 2);
    let command = workspace.command(&["serve", "--addr", "0.0.0.0:0"]);
    let running = Running::start(command);
    wait_until("it says where", || running.stderr().contains("/?token="));
    let said = running.stderr();
    let url = said.split_whitespace().find(|word| word.starts_with("http://")).expect("an address");
    let (base, _) = url.split_once("/?token=").expect("a token");
    let base = base.replace("0.0.0.0", "127.0.0.1");
    let token = url.split_once('=').expect("a token").1;
    let client = client();
    let plain = client.get(format!("{base}/")).send().expect("an answer");
    assert_eq!(plain.status().as_u16(), 401);
    let known = client.get(format!("{base}/")).bearer_auth(token).send().expect("an answer");
    assert_eq!(known.status().as_u16(), 200);
}
