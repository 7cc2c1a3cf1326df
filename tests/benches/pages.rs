//! The report of 10,000 leaves in Chromium: first paint, and how long a reader waits for each act.
//!
//! Owns what is measured and the lines that say it. The page is written by the release binary and
//! opened from a file; each act is timed inside the page, from the event to the frame after it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints what it measured"
)]

use std::fs;

use serde_json::{Value, json};
use tribunal_e2e::{Browser, Workspace, assert_exit, number};

const LEAVES: usize = 10_000;

/// How often each is measured; the middle and the worst are printed.
const TIMES: usize = 7;

/// What a reader does, each with the page's own events; what is undone is not timed.
const ACTS: [(&str, &str, &str); 9] = [
    ("open all groups", "click('expand')", "click('collapse')"),
    ("scroll to the end of all", "tree.scrollTop = tree.scrollHeight", "tree.scrollTop = 0"),
    ("open a leaf", "key('n')", ""),
    ("what if it passed", "click('flip')", "click('whatif-undo')"),
    ("move to the next row", "key('ArrowDown')", ""),
    ("search", "type('zebra 77')", "type('')"),
    ("filter by outcome", "choose('filter-outcome', 'failed')", "choose('filter-outcome', '')"),
    ("largest loss first", "choose('order', 'lost')", "choose('order', '')"),
    ("icicle", "click('icicle-toggle')", "click('icicle-toggle')"),
];

/// The acts' words, and a promise of the milliseconds until what they changed is painted.
const HELPERS: &str = "
    window.tree = document.getElementById('tree');
    window.click = (id) => document.getElementById(id).click();
    window.key = (key) => tree.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    window.type = (text) => { const s = document.getElementById('search'); s.value = text; s.dispatchEvent(new Event('input')); };
    window.choose = (id, value) => { const s = document.getElementById(id); s.value = value; s.dispatchEvent(new Event('change')); };
    window.painted = () => new Promise((done) => requestAnimationFrame(() => { const c = new MessageChannel(); c.port1.onmessage = done; c.port2.postMessage(0); }));
    window.timed = async (act) => { await painted(); const begun = performance.now(); act(); await painted(); return performance.now() - begun; };
    0";

fn main() {
    let Some(mut browser) = Browser::start() else {
        eprintln!("no Chromium is installed: nothing is measured");
        return;
    };
    let workspace = Workspace::empty();
    fs::write(workspace.file("graded.json"), graded().to_string()).expect("written");
    let made = workspace.run(&["report", "graded.json", "--out", "report.html", "--json"]);
    assert_exit(&made, 0);
    let bytes = number(&tribunal_e2e::document(&made), "/bytes");
    println!("report of {LEAVES} leaves: {:.1} MB", bytes as f64 / 1e6);
    let page = format!("file://{}", workspace.file("report.html").display());

    browser.resize(1300, 900);
    let paints = (0..TIMES).map(|_| {
        browser.open(&page);
        browser.until("performance.getEntriesByName('first-contentful-paint').length");
        milliseconds(
            &browser.value("performance.getEntriesByName('first-contentful-paint')[0].startTime"),
        )
    });
    say("first contentful paint", paints.collect());
    let loads = (0..TIMES).map(|_| {
        browser.open(&page);
        browser.until("document.querySelectorAll('#tree .row').length");
        milliseconds(
            &browser
                .value("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"),
        )
    });
    say("tree drawn, scripts run", loads.collect());

    browser.open(&page);
    browser.until("document.querySelectorAll('#tree .row').length");
    browser.value(HELPERS);
    for (what, act, undo) in ACTS {
        let times = (0..TIMES).map(|_| {
            let time = milliseconds(&browser.value(&format!("timed(() => {act})")));
            browser.value(&format!("(async () => {{ {undo}; await painted(); return 0; }})()"));
            time
        });
        say(what, times.collect());
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

fn milliseconds(value: &Value) -> f64 {
    value.as_f64().expect("milliseconds")
}

fn say(what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let (middle, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what:<28} {middle:>7.1} ms, {worst:>7.1} at worst");
}

/// Leaves in groups of 20, these in groups of 25, with words as long as a judge's.
fn graded() -> Value {
    let inner = |id: String, below: Vec<Value>| {
        json!({"id": id, "requirements": format!("Part {id} of the work is there."), "weight": 1,
            "sub_tasks": below, "score": 0, "valid_score": true, "explanation": ""})
    };
    let words = "The submission does this in its own way, line by line, as the paper says. ";
    let leaf = |i: usize| {
        json!({"id": format!("leaf-{i}"), "weight": 1 + i % 3, "sub_tasks": [],
            "requirements": format!("What the paper calls step {i} has been implemented as described."),
            "task_category": if i.is_multiple_of(2) { "Code Development" } else { "Code Execution" },
            "score": if i.is_multiple_of(3) { 0 } else { 1 }, "valid_score": true,
            "explanation": format!("{}It is the word zebra {i}.", words.repeat(5))})
    };
    let group = |g: usize| inner(format!("g{g}"), (g * 20..g * 20 + 20).map(leaf).collect());
    let part = |p: usize| inner(format!("p{p}"), (p * 25..p * 25 + 25).map(group).collect());
    inner("root".to_owned(), (0..LEAVES / 500).map(part).collect())
}
