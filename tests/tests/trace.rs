//! What a leaf leaves behind besides its verdict: one trace in an OpenTelemetry collector, and lines of a
//! log that name it.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Output,
    sync::{Arc, Mutex},
};

use serde_json::{Map, Value};
use tribunal_e2e::{
    Reply, Running, SimProcess, TestServer, Workspace, assert_exit, describe, document, number,
};

/// So many that some call fails, whatever is drawn.
const LEAVES: usize = 40;
/// Calls that fail, and replies that must be asked for again.
const FAULTS: [&str; 6] = ["--error-rate", "0.3", "--malformed-rate", "0.3", "--seed", "5"];
/// No leaf is given up, and each that failed goes back to the queue.
const PATIENT: &str = "[retry]\nbase_ms = 1\nmax_ms = 20\ninline_wait_ms = 0\n\
    transient_attempts = 50\nbad_reply_attempts = 50\n";

/// A collector that keeps what it is sent.
struct Collector {
    server: TestServer,
    sent: Arc<Mutex<Vec<Value>>>,
}

/// A span as a collector sees it.
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    failed: bool,
    events: usize,
    attributes: BTreeMap<String, Value>,
}

// === impl Collector ===

impl Collector {
    fn start() -> Self {
        let sent = Arc::<Mutex<Vec<Value>>>::default();
        let kept = Arc::clone(&sent);
        let server = TestServer::start(move |request| {
            assert_eq!(request.path, "/v1/traces");
            let spans = serde_json::from_str(&request.body).expect("OTLP as JSON");
            kept.lock().expect("no handler fails").push(spans);
            reply(200)
        });
        Self { server, sent }
    }

    fn spans(&self) -> Vec<Span> {
        let sent = self.sent.lock().expect("no handler fails");
        let resources = sent.iter().flat_map(|sent| list(&sent["resourceSpans"]));
        let scopes = resources.flat_map(|resource| list(&resource["scopeSpans"]));
        scopes.flat_map(|scope| list(&scope["spans"])).map(Span::read).collect()
    }
}

// === impl Span ===

impl Span {
    fn read(span: &Value) -> Self {
        let text = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
        let attributes = list(&span["attributes"]).iter().map(|attribute| {
            let value = attribute["value"].as_object().and_then(|value| value.values().next());
            (attribute["key"].as_str().expect("a key").to_owned(), value.expect("a value").clone())
        });
        Self {
            trace: text("traceId"),
            id: text("spanId"),
            parent: text("parentSpanId"),
            name: text("name"),
            failed: span["status"]["code"] == 2,
            events: list(&span["events"]).len(),
            attributes: attributes.collect(),
        }
    }

    fn says(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.as_str()
    }

    /// A whole number; OTLP writes them as text (<https://protobuf.dev/programming-guides/json/>).
    fn counts(&self, name: &str) -> u64 {
        self.says(name).map_or(0, |number| number.parse().expect("a whole number"))
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn reply(status: u16) -> Reply {
    Reply { status, headers: Vec::new(), body: "{}".to_owned() }
}

fn grade_traced(workspace: &Workspace, sim: &SimProcess, collector: &str) -> Output {
    let mut grade = workspace.grade(&sim.base_url, &[]);
    grade.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
    grade.env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
    Running::start(grade).finish()
}

fn workspace(config: &str) -> Workspace {
    let workspace = Workspace::generated(LEAVES);
    workspace.write("tribunal.toml", &format!("{PATIENT}{config}"));
    workspace
}

#[test]
fn a_leaf_is_one_trace_with_a_span_for_each_call() {
    let (collector, sim) = (Collector::start(), SimProcess::start(&FAULTS));
    let workspace = workspace("");
    let output =
        grade_traced(&workspace, &sim, collector.server.base_url().trim_end_matches("/v1"));
    assert_exit(&output, 0);
    let document = document(&output);

    let spans = collector.spans();
    let (leaves, calls): (Vec<&Span>, Vec<&Span>) =
        spans.iter().partition(|span| span.parent.is_empty());
    assert!(leaves.iter().all(|leaf| leaf.name == "leaf"));
    let graded = leaves.iter().filter(|leaf| leaf.says("tribunal.outcome") == Some("graded"));
    assert_eq!(graded.clone().count(), LEAVES);
    assert!(graded.clone().all(|leaf| leaf.events == 1), "each says its score");
    // A leaf that is claimed again stays in its trace.
    let traces: BTreeSet<&str> = leaves.iter().map(|leaf| &*leaf.trace).collect();
    let named: BTreeSet<_> = leaves.iter().map(|leaf| leaf.says("tribunal.position")).collect();
    assert_eq!((traces.len(), named.len()), (LEAVES, LEAVES));
    assert!(leaves.len() > LEAVES, "some leaf was claimed twice");
    let run = document["run"].as_str();
    assert!(leaves.iter().all(|leaf| leaf.says("tribunal.run") == run));

    assert_eq!(calls.len() as u64, sim.requests());
    for call in &calls {
        assert_eq!(call.name, "chat tribunal-sim");
        let leaf = leaves.iter().find(|leaf| leaf.id == call.parent).expect("its claim");
        assert_eq!(leaf.trace, call.trace);
        assert_eq!(call.says("gen_ai.operation.name"), Some("chat"));
        assert_eq!(call.says("gen_ai.request.model"), Some("tribunal-sim"));
        assert_eq!(call.attributes["tribunal.simulated"], true);
        assert_eq!(call.failed, call.says("error.type").is_some(), "{:?}", call.attributes);
        assert!(call.says("tribunal.request_id").is_some());
    }
    assert!(calls.iter().any(|call| call.counts("http.response.status_code") >= 500));
    for (token, attribute) in [
        ("input", "gen_ai.usage.input_tokens"),
        ("output", "gen_ai.usage.output_tokens"),
        ("cached", "gen_ai.usage.cache_read.input_tokens"),
    ] {
        let traced: u64 = calls.iter().map(|call| call.counts(attribute)).sum();
        assert_eq!(traced, number(&document, &format!("/tokens/{token}")), "{attribute}");
    }
    // What is graded is a submission that nobody gave to the collector.
    let sent = collector.sent.lock().expect("no handler fails");
    let sent = sent.iter().map(Value::to_string).collect::<String>();
    for word in ["criterion", "messages", "rationale", "requirements"] {
        assert!(!sent.contains(word), "{word}");
    }
}

#[test]
fn a_collector_that_takes_nothing_costs_no_leaf() {
    let sim = SimProcess::start(&[]);
    let refusing = TestServer::start(|_| reply(500));
    let url = refusing.base_url();
    for collector in [url.trim_end_matches("/v1"), "http://127.0.0.1:9"] {
        let workspace = workspace("");
        let output = grade_traced(&workspace, &sim, collector);
        assert_exit(&output, 0);
        assert_eq!(number(&document(&output), "/outcomes/graded"), LEAVES as u64);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("opentelemetry"), "{}", describe(&output));
    }
}

#[test]
fn a_setting_that_no_exporter_knows_is_said_and_costs_no_leaf() {
    let sim = SimProcess::start(&[]);
    let workspace = workspace("");
    let output = grade_traced(&workspace, &sim, "no address");
    assert_exit(&output, 0);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no traces"), "{}", describe(&output));
}

#[test]
fn a_line_about_a_call_names_run_leaf_attempt_and_request() {
    let sim = SimProcess::start(&FAULTS);
    let workspace = workspace("[log]\nlevel = \"debug\"\nformat = \"json\"\n");
    let output = workspace.run_grade(&sim.base_url, &[]);
    assert_exit(&output, 0);
    let run = document(&output)["run"].as_str().expect("a run").to_owned();

    let mut logged = BTreeMap::<String, Vec<(u64, String)>>::new();
    let said = String::from_utf8(output.stderr).expect("Unicode");
    let mut is_begun = false;
    for line in said.lines() {
        let line: Map<String, Value> = serde_json::from_str(line).expect("what people read too");
        let begun = line["fields"]["message"].as_str();
        is_begun |= begun.is_some_and(|message| message.contains("leaves to grade"));
        let fields = &line["fields"];
        if !["the judge answered", "a call failed"].iter().any(|text| fields["message"] == *text) {
            continue;
        }
        let span = &line["span"];
        assert_eq!(span["run"], *run, "{line:?}");
        let leaf = span["leaf"].as_str().expect("a leaf").to_owned();
        let attempt = fields["attempt"].as_u64().expect("an attempt");
        let request = fields["request_id"].as_str().expect("a request id");
        logged.entry(leaf).or_default().push((attempt, request.to_owned()));
    }
    assert_eq!(logged.values().map(|calls| calls.len() as u64).sum::<u64>(), sim.requests());
    assert_eq!(logged.len(), LEAVES);
    assert!(is_begun, "{said}");
    for (leaf, calls) in &logged {
        let explained = workspace.run(&["explain", &run, leaf, "--json"]);
        assert_exit(&explained, 0);
        let explained = document(&explained);
        let kept: BTreeSet<&str> = list(&explained["attempts"])
            .iter()
            .map(|attempt| attempt["request_id"].as_str().expect("a request id"))
            .collect();
        let logged: BTreeSet<&str> = calls.iter().map(|(_, request)| &**request).collect();
        assert_eq!(kept, logged, "{explained:#}");
        // Under each claim calls are counted from 1.
        assert_eq!(calls[0].0, 1, "{calls:?}");
    }
    assert!(sim.requests() > LEAVES as u64);
}
