//! The page of an audit in a real browser, at ten thousand leaves: sorted, filtered by its address, and
//! nothing that a judge or a rubric wrote acts.

use std::path::Path;

use serde_json::{Value, json};
use tribunal_e2e::{Browser, Workspace, assert_exit, document, number, skip};

const LEAVES: usize = 10_000;

/// Every third leaf is one that judge and human differ on.
const DIFFER: usize = LEAVES.div_ceil(3);

/// Marks that a hostile text carries; none may ever become an element or run.
const HOSTILE: &str = "<img src=x onerror=alert(1)><script>window.acted=1</script></script>\
                       <a href=\"javascript:alert(1)\">a</a>\u{202e}&amp;";

/// A graded tree of groups of ten; the judge passes everything, the human fails every third leaf.
fn graded(is_judge: bool) -> Value {
    let leaf = |i: usize| {
        let text = if i == 3 { HOSTILE.to_owned() } else { format!("Leaf {i} is there.") };
        let who = if is_judge { "judge" } else { "human" };
        let passes = is_judge || !i.is_multiple_of(3);
        json!({
            "id": format!("leaf-{i}"), "requirements": text.clone(), "weight": 1 + i % 7,
            "sub_tasks": [],
            "task_category": if i.is_multiple_of(2) { "Code Development" } else { "Code Execution" },
            "score": u8::from(passes), "valid_score": true,
            "explanation": format!("{text} So says the {who}."), "judge_metadata": null,
        })
    };
    let group = |g: usize| {
        let members: Vec<Value> = (g * 10..g * 10 + 10).map(leaf).collect();
        json!({"id": format!("group-{g}"), "requirements": format!("Group {g}"), "weight": 1,
            "sub_tasks": members, "score": 0, "valid_score": true, "explanation": ""})
    };
    let groups: Vec<Value> = (0..LEAVES / 10).map(group).collect();
    json!({"id": "root", "requirements": "All of it", "weight": 1, "sub_tasks": groups,
        "score": 0, "valid_score": true, "explanation": ""})
}

fn address(path: &Path) -> String {
    format!("file://{}", path.display())
}

const STATUS: &str = "document.querySelector('#disagreements [role=status]').textContent";
const ROWS: &str = "document.querySelectorAll('#disagreements tbody tr').length";

/// What stands in a column of the first row of the list.
fn cell(column: usize) -> String {
    format!("document.querySelector('#disagreements tbody tr').children[{column}].textContent")
}

#[test]
fn ten_thousand_leaves_are_sorted_filtered_and_harmless() {
    let workspace = Workspace::empty();
    workspace.write("judge.json", &graded(true).to_string());
    workspace.write("human.json", &graded(false).to_string());
    let audit = ["audit", "--json", "--judge", "judge.json", "--human", "human.json", "--out", "a"];
    let audited = workspace.run(&audit);
    assert_exit(&audited, 0);
    let audited = document(&audited);
    assert_eq!(number(&audited, "/leaves"), LEAVES as u64);
    assert_eq!(audited["disagreements"].as_array().map(Vec::len), Some(DIFFER));
    let Some(mut browser) = Browser::start() else {
        skip("no Chromium is installed: `apt-get install chromium`, then `make test` again");
        return;
    };
    let page = address(&workspace.file("a/audit.html"));
    browser.open(&page);
    browser.until(&format!("{STATUS} === '{DIFFER} of {DIFFER} disagreements'"));
    assert_eq!(browser.value(ROWS), json!(100), "a page at a time");

    // What moves the score most comes first; a click turns the order, and the address has it.
    let most = browser.value(&cell(0));
    browser.value("document.querySelectorAll('#disagreements th button')[0].click()");
    browser.until("location.hash === '#sort=moves'");
    browser.until(
        "document.querySelector('#disagreements th').getAttribute('aria-sort') === 'ascending'",
    );
    let least = browser.value(&cell(0));
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    assert!(number(&least) < number(&most), "{least} and {most}");
    browser.value("document.querySelectorAll('#disagreements th button')[2].click()");
    browser.until("location.hash === '#sort=leaf'");
    browser.until(&format!("{} === '#0 leaf-0'", cell(2)));

    // The same view from its address, on another page of it.
    browser.open(&format!("{page}#category=Code+Execution&sort=-leaf&page=2"));
    let execution = (0..LEAVES).step_by(3).filter(|i| i % 2 == 1).collect::<Vec<_>>();
    browser.until(&format!("{STATUS} === '{} of {DIFFER} disagreements'", execution.len()));
    let first = execution[execution.len() - 101];
    browser.until(&format!("{} === '#{first} leaf-{first}'", cell(2)));
    let chosen = "document.querySelector('#filters select[name=category]').value";
    assert_eq!(browser.value(chosen), json!("Code Execution"));
    browser.value(
        "{ const f = document.querySelector('#filters select[name=direction]'); \
         f.value = 'judge too strict'; f.dispatchEvent(new Event('change')); }",
    );
    browser.until(&format!("{STATUS} === '0 of {DIFFER} disagreements'"));
    browser.until("location.hash.includes('direction=judge+too+strict')");

    // Texts of others stand there as text, both explanations side by side.
    browser.open(&format!("{page}#q=onerror"));
    browser.until(&format!("{STATUS} === '1 of {DIFFER} disagreements'"));
    browser.value("document.querySelector('#disagreements details').open = true");
    browser.until("document.querySelectorAll('#disagreements pre').length === 2");
    let said = browser.value("document.querySelector('#disagreements details').textContent");
    let said = said.as_str().expect("text");
    assert!(said.contains("<img src=x onerror=alert(1)>"), "{said}");
    assert!(said.contains("So says the human.") && said.contains("So says the judge."), "{said}");
    assert_eq!(browser.value("document.images.length + (window.acted ?? 0)"), json!(0));
    assert_eq!(browser.value("document.querySelectorAll('a[href^=javascript]').length"), json!(0));

    assert_eq!(browser.complaints(), [""; 0]);
    let others = browser.requests().into_iter().filter(|url| !url.starts_with("file:"));
    assert_eq!(others.filter(|url| !url.starts_with("data:")).collect::<Vec<_>>(), [""; 0]);
}
