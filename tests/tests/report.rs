//! The report in a real browser: it loads, opens, filters, links, and lets nothing of others act.

use std::path::Path;

use serde_json::{Value, json};
use tribunal_e2e::{Browser, SimProcess, Workspace, assert_exit, number, skip};

/// Marks that every hostile text carries; none may ever become an element or run.
const HOSTILE: &str = "<img src=x onerror=alert(1)><script>window.acted=1</script>\u{1b}[31m\
                       </noscript></script><!--end-->[x](javascript:alert(1))\u{202e}&amp;";

fn browser() -> Option<Browser> {
    let browser = Browser::start();
    if browser.is_none() {
        skip("no Chromium is installed: `apt-get install chromium`, then `make test` again");
    }
    browser
}

fn address(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// A graded tree of groups of ten with a hostile leaf in it; every third leaf failed.
fn graded(leaves: usize, hostile: bool) -> Value {
    let leaf = |i: usize| {
        let text =
            if hostile && i == 3 { HOSTILE.to_owned() } else { format!("Leaf {i} is there.") };
        json!({
            "id": format!("leaf-{i}"), "requirements": text.clone(), "weight": 1 + i % 3,
            "sub_tasks": [], "task_category": if i.is_multiple_of(2) { "Code Development" } else { "Code Execution" },
            "score": if i.is_multiple_of(3) { 0 } else { 1 }, "valid_score": true,
            "explanation": format!("{text} It is the word {}.", "zebra ".repeat(usize::from(i == 7))),
            "judge_metadata": {"evidence": [
                {"file": text, "lines": "1", "quote": text, "verified": false}]},
        })
    };
    let group = |g: usize| {
        let members: Vec<Value> = (g * 10..leaves.min(g * 10 + 10)).map(leaf).collect();
        json!({"id": format!("group-{g}"), "requirements": format!("Group {g}"), "weight": 1,
            "sub_tasks": members, "score": 0, "valid_score": true, "explanation": ""})
    };
    let groups: Vec<Value> = (0..leaves.div_ceil(10)).map(group).collect();
    json!({"id": "root", "requirements": "All of it", "weight": 1, "sub_tasks": groups,
        "score": 0, "valid_score": true, "explanation": ""})
}

/// The report of a graded tree, written by the binary.
fn report(workspace: &Workspace, tree: &Value) -> String {
    std::fs::write(workspace.file("graded.json"), tree.to_string()).expect("written");
    let made = workspace.run(&["report", "graded.json", "--out", "report.html", "--json"]);
    assert_exit(&made, 0);
    address(&workspace.file("report.html"))
}

const ROWS: &str = "document.querySelectorAll('#tree .row').length";

#[test]
fn a_run_is_looked_at() {
    let Some(mut browser) = browser() else { return };
    let (workspace, sim) = (Workspace::example(), SimProcess::start(&[]));
    assert_exit(&workspace.run_grade(&sim.base_url, &["--quiet"]), 0);
    let beside = address(&workspace.file("out/report.html"));
    browser.open(&beside);
    browser.until("!document.getElementById('app').hidden");
    let opened = browser.value(ROWS).as_u64().expect("rows");
    assert!((5..44).contains(&opened), "open on the way to the largest loss alone: {opened} rows");

    browser.value("document.getElementById('expand').click()");
    browser.until("document.querySelectorAll('#tree .row.leaf').length > 5");

    // A leaf by its address, with its words, calls and what was shown.
    browser.open(&format!("{beside}#leaf=2"));
    browser.until("document.querySelector('#panel h2')?.textContent === 'Leaf #2'");
    browser.until("document.querySelector('#panel .said')");
    browser.value("document.querySelector('#panel a[data-exhibit]').click()");
    browser.until("document.querySelector('#panel .shown td')");

    // A run says what it is; the page connects nowhere and complains of nothing.
    let banners = browser.value("document.querySelector('.banner.bad').textContent");
    assert!(banners.as_str().is_some_and(|text| text.starts_with("Simulated")), "{banners}");
    assert_eq!(browser.complaints(), [""; 0]);
    let outside = browser.requests().into_iter().filter(|url| !url.starts_with("file:"));
    assert_eq!(outside.filter(|url| !url.starts_with("data:")).collect::<Vec<_>>(), [""; 0]);

    // With prompts, replies and sources.
    let run = workspace.status()["run"].as_str().expect("an id").to_owned();
    assert_exit(&workspace.run(&["report", &run, "--full", "--out", "full.html"]), 0);
    browser.open(&format!("{}#leaf=2", address(&workspace.file("full.html"))));
    browser.until("document.querySelector('#panel .source mark')");
    let panel = "document.querySelector('#panel .body').textContent";
    browser.until(&format!("{panel}.includes('raw reply')"));
    browser.until(&format!("{panel}.includes('behind the cache boundary')"));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn leaves_are_found_and_linked() {
    let Some(mut browser) = browser() else { return };
    let workspace = Workspace::empty();
    let page = report(&workspace, &graded(200, false));
    browser.open(&page);
    let type_in = |browser: &mut Browser, text: &str| {
        browser.value(&format!(
            "{{ const s = document.getElementById('search'); s.value = '{text}'; \
             s.dispatchEvent(new Event('input')); }}"
        ));
    };
    // The criterion, and the judge's words.
    type_in(&mut browser, "leaf 123 ");
    browser.until("document.getElementById('matches').textContent.startsWith('1 of 221')");
    type_in(&mut browser, "zebra");
    browser.until("document.getElementById('matches').textContent.startsWith('1 of 221')");
    browser.until("location.hash === '#q=zebra'");
    type_in(&mut browser, "");

    browser.value(
        "{ const f = document.getElementById('filter-outcome'); f.value = 'failed'; \
         f.dispatchEvent(new Event('change')); }",
    );
    browser.until("document.getElementById('matches').textContent.startsWith('67 of 221')");
    browser.until("location.hash === '#outcome=failed'");

    // The same view from its address; keys move in it, and the address follows.
    browser.open(&format!("{page}#outcome=failed&category=Code+Development&leaf=6"));
    browser.until("document.getElementById('matches').textContent.startsWith('34 of 221')");
    browser.until("document.querySelector('#panel h2').textContent === 'Leaf #6'");
    browser.value("document.getElementById('tree').focus()");
    browser.press("ArrowUp");
    browser.until("document.querySelector('#panel h2').textContent === 'Leaf #0'");
    browser.press("n");
    browser.until("location.hash.includes('leaf=6')");

    // What if a failed leaf had passed: the root moves, and nothing is kept.
    let before = browser.value("document.getElementById('root-score').textContent");
    browser.value("document.getElementById('flip').click()");
    browser.until("document.getElementById('whatif-text').textContent.includes('(+0.0')");
    browser.value("document.getElementById('whatif-undo').click()");
    browser.until("document.getElementById('whatif').hidden");
    assert_eq!(browser.value("document.getElementById('root-score').textContent"), before);

    // The icicle selects too.
    browser.value("document.getElementById('icicle-toggle').click()");
    browser.until("document.querySelectorAll('#icicle rect').length > 20");
    // By keys alone too: to the root, down, beside, closer, and back.
    let selected = |node: &str| {
        format!("document.querySelector('#icicle rect.selected')?.id === 'icicle-{node}'")
    };
    browser.value("document.querySelector('#icicle rect').dispatchEvent(new MouseEvent('click', { bubbles: true }))");
    browser.until(&selected("0"));
    browser.value("document.querySelector('#icicle svg').focus()");
    browser.press("ArrowDown");
    browser.until(&selected("1"));
    browser.press("ArrowRight");
    browser.until("!document.getElementById('icicle-1').classList.contains('selected')");
    browser.press("ArrowLeft");
    browser.until(&selected("1"));
    let all = browser.value("document.querySelectorAll('#icicle rect').length");
    browser.press("Enter");
    browser.until("document.querySelector('#icicle rect').id === 'icicle-1'");
    browser.press("Escape");
    browser.until(&format!("document.querySelectorAll('#icicle rect').length === {all}"));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn texts_of_others_do_nothing() {
    let Some(mut browser) = browser() else { return };
    let workspace = Workspace::empty();
    let page = report(&workspace, &graded(20, true));
    browser.open(&format!("{page}#leaf=3"));
    browser.until("document.querySelector('#panel figure')");
    let shown = browser.value("document.querySelector('#panel .criterion').textContent");
    let shown = shown.as_str().expect("text");
    assert!(shown.contains("<img src=x onerror=alert(1)>"), "{shown}");
    assert!(shown.contains("\\u{1b}[31m") && shown.contains("\\u{202e}"), "made visible: {shown}");
    let said = browser.value("document.querySelector('#panel .said').textContent");
    assert!(said.as_str().is_some_and(|said| said.contains("&amp;")), "{said}");
    assert_eq!(browser.value("document.images.length + (window.acted ?? 0)"), json!(0));
    assert_eq!(browser.value("document.querySelectorAll('a[href^=javascript]').length"), json!(0));
    assert_eq!(browser.complaints(), [""; 0]);
    let others = browser.requests().into_iter().filter(|url| !url.starts_with("file:"));
    assert_eq!(others.filter(|url| !url.starts_with("data:")).count(), 0);
}

#[test]
fn it_reads_without_scripts_and_on_a_phone() {
    let Some(mut browser) = browser() else { return };
    let workspace = Workspace::empty();
    let page = report(&workspace, &graded(30, true));
    browser.resize(360, 740);
    browser.open(&format!("{page}#leaf=3"));
    browser.until("document.querySelector('#panel figure')");
    let wide = browser.value("document.documentElement.scrollWidth");
    assert!(wide.as_u64().is_some_and(|wide| wide <= 360), "nothing sticks out: {wide}");
    browser.scripts(false);
    browser.open(&page);
    // The tools' own evaluation needs scripts; the document is read as it was laid out.
    let root = browser.command("DOM.getDocument", json!({"depth": 0}));
    let find = |browser: &mut Browser, selector: &str| {
        let query = json!({"nodeId": root["root"]["nodeId"], "selector": selector});
        let found = browser.command("DOM.querySelectorAll", query);
        found["nodeIds"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(find(&mut browser, "noscript details > summary"), 34, "30 leaves, 3 groups, a root");
    assert_eq!(find(&mut browser, "noscript figure"), 30);
    assert_eq!(find(&mut browser, "img"), 0);
}

#[test]
fn two_thousand_leaves_stay_below_three_megabytes() {
    let workspace = Workspace::empty();
    let mut tree = graded(2_000, false);
    // As long as what judges write: about 80 words, and a quote.
    let words = "The submission does this in its own way, line by line. ".repeat(8);
    for group in tree["sub_tasks"].as_array_mut().expect("groups") {
        for leaf in group["sub_tasks"].as_array_mut().expect("leaves") {
            leaf["explanation"] = json!(words);
        }
    }
    std::fs::write(workspace.file("graded.json"), tree.to_string()).expect("written");
    let made = workspace.run(&["report", "graded.json", "--out", "report.html", "--json"]);
    assert_exit(&made, 0);
    let document = tribunal_e2e::document(&made);
    assert_eq!(number(&document, "/leaves/0"), 2_000);
    let bytes = number(&document, "/bytes");
    assert!((1_000_000..3_000_000).contains(&bytes), "{bytes} bytes");
}

#[test]
fn trees_are_set_side_by_side() {
    let Some(mut browser) = browser() else { return };
    let workspace = Workspace::empty();
    let (first, mut second) = (graded(30, true), graded(30, true));
    second["sub_tasks"][0]["sub_tasks"][3]["score"] = json!(1);
    second["sub_tasks"][0]["sub_tasks"][3]["explanation"] = json!("now it is there");
    second["sub_tasks"][0]["sub_tasks"][5]["valid_score"] = json!(false);
    std::fs::write(workspace.file("a.json"), first.to_string()).expect("written");
    std::fs::write(workspace.file("b.json"), second.to_string()).expect("written");
    let made = workspace.run(&["report", "a.json", "b.json", "--out", "compare.html"]);
    assert_exit(&made, 0);
    browser.open(&address(&workspace.file("compare.html")));
    assert_eq!(
        browser.value("document.querySelectorAll('#differences tbody tr').length"),
        json!(2)
    );
    let rows = "document.querySelector('#differences tbody').textContent";
    browser.until(&format!("{rows}.includes('now it is there')"));
    assert_eq!(browser.value("document.images.length + (window.acted ?? 0)"), json!(0));
    let table = browser.value("document.querySelector('#trees tbody tr:last-child').textContent");
    assert!(table.as_str().is_some_and(|row| row.contains("29 of 30")), "{table}");
    let heads = browser.value("document.querySelector('#trees thead').textContent");
    assert!(heads.as_str().is_some_and(|heads| heads.contains("F1, A being true")), "{heads}");
    browser.value("document.querySelector('#differences th button').click()");
    assert_eq!(browser.complaints(), [""; 0]);

    std::fs::write(
        workspace.file("c.json"),
        graded(1, true).to_string().replace("leaf-0", "other"),
    )
    .expect("written");
    let refused = workspace.run(&["report", "a.json", "c.json", "--out", "no.html"]);
    assert_exit(&refused, 2);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no leaf in common"));
}

#[test]
fn what_cannot_be_shown_is_said() {
    let workspace = Workspace::example();
    for (input, words) in [
        ("rubric.json", "no node has a grade"),
        ("nothing.json", "there is no file nothing.json"),
        ("submission", "is a folder"),
    ] {
        let made = workspace.run(&["report", input, "--out", "report.html"]);
        assert_exit(&made, 2);
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(said.contains(words), "{input}: {said}");
        assert!(!workspace.file("report.html").exists());
    }
}
