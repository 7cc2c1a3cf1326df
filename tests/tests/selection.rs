//! A submission several times the judge's window: files are chosen for each leaf, by every method.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use tribunal_e2e::{SimProcess, Workspace, assert_exit, document, number};

/// Tokens of prompt and answer that the judge's model takes.
const WINDOW: u64 = 16_000;

/// Groups of leaves; each leaf is about the words that its file's name and code have.
const GROUPS: [[&str; 3]; 2] = [
    ["cosine schedule", "momentum teacher", "gradient clipping"],
    ["patch embedding", "retrieval recall", "kmeans baseline"],
];
const LEAVES: u64 = 6;

fn filler(salt: usize) -> String {
    let line = |n: usize| format!("def helper_{salt}_{n}(value):\n    return value + {n}\n");
    (0..130).map(line).collect()
}

/// 30 files of about 2,400 tokens, six of them with a topic in their middle.
fn workspace() -> Workspace {
    let workspace = Workspace::empty();
    let folder = workspace.file("submission/src");
    fs::create_dir_all(&folder).expect("a folder");
    let mut salt = 0;
    let mut write = |name: &str, topic: &str| {
        salt += 2;
        let text = format!("{}{topic}{}", filler(salt), filler(salt + 1));
        fs::write(folder.join(name), text).expect("written");
    };
    for topic in GROUPS.as_flattened() {
        let name = topic.replace(' ', "_");
        write(&format!("{name}.py"), &format!("def {name}(x):\n    return {name}_of(x)\n"));
    }
    (0..24).for_each(|n| write(&format!("module_{n:02}.py"), ""));
    fs::write(workspace.file("submission/README.md"), "# Reproduction\n").expect("written");
    let leaf = |topic: &&str| {
        json!({"id": topic.replace(' ', "-"), "weight": 1, "sub_tasks": [],
            "requirements": format!("The {topic} computation."),
            "task_category": "Code Development"})
    };
    let group = |topics: &[&str; 3]| {
        json!({"id": topics[0], "requirements": "A part of the method.", "weight": 1,
            "sub_tasks": topics.iter().map(leaf).collect::<Vec<_>>()})
    };
    let groups: Vec<Value> = GROUPS.iter().map(group).collect();
    let rubric = json!({"id": "root", "requirements": "The method.", "weight": 1,
        "sub_tasks": groups});
    workspace.write("rubric.json", &rubric.to_string());
    workspace.write(
        "models.toml",
        &format!(
            "[\"tribunal-sim\"]\ncontext_window = {WINDOW}\ntokenizer = \"o200k_base\"\n\
             price_input = 2.0\nprice_cached = 0.5\nprice_output = 8.0\n\
             reply_forms = [\"json_schema\", \"json_object\", \"text\"]\n\
             output_cap_field = \"max_completion_tokens\"\n"
        ),
    );
    workspace.write("tribunal.toml", "[run]\nmodels = \"models.toml\"\n");
    workspace
}

fn explain(workspace: &Workspace, run: &Value, leaf: usize) -> Value {
    let run = run.as_str().expect("a run");
    let output = workspace.run(&["explain", run, &format!("#{leaf}"), "--prompt", "--json"]);
    assert_exit(&output, 0);
    document(&output)
}

fn strings(values: &Value) -> Vec<&str> {
    values.as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

#[test]
fn every_method_chooses_the_files_that_count() {
    let workspace = workspace();
    for (method, rankings) in
        [("judge", LEAVES), ("judge-shared", 2), ("lexical", 0), ("lexical-shared", 0), ("auto", 0)]
    {
        let sim = SimProcess::start(&[]);
        let plan = ["plan", "--json", "--rubric", "rubric.json", "--submission", "submission"];
        let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim"];
        let plan = workspace.run(&[&plan[..], &judge, &["--selection", method]].concat());
        assert_exit(&plan, 0);
        let plan = document(&plan);
        assert_eq!(number(&plan, "/calls/rank"), rankings, "{plan:#}");
        assert_eq!(number(&plan, "/calls/judge"), LEAVES);

        let graded = workspace.run_grade(&sim.base_url, &["--selection", method]);
        assert_exit(&graded, 0);
        let graded = document(&graded);
        assert_eq!(graded["root"]["score"], 1.0, "{method}: {graded:#}");
        assert_eq!(number(&graded, "/calls/rank"), rankings, "{method}");
        assert_eq!(sim.stat("rankings"), rankings, "{method}");
        assert_eq!((number(&graded, "/calls/judge"), sim.requests()), (LEAVES, LEAVES + rankings));

        // What is cached was planned, about: files that siblings share are, a leaf's own are not.
        let cached = |document: &Value| number(document, "/tokens/cached");
        let (planned, found) = (cached(&plan), cached(&graded));
        assert!(planned.abs_diff(found) * 4 <= found, "{method}: {planned} planned, {found} found");

        let used = if method == "auto" { "lexical-shared" } else { method };
        let shared = used.ends_with("-shared");
        let mut groups: Vec<BTreeSet<Vec<String>>> = vec![BTreeSet::new(), BTreeSet::new()];
        for (leaf, topic) in GROUPS.as_flattened().iter().enumerate() {
            let explained = explain(&workspace, &graded["run"], leaf);
            let shown = &explained["shown"];
            assert_eq!(shown["selection"], used);
            assert_eq!(shown["fits"], false);
            assert!(number(shown, "/tokens") < WINDOW);
            let selected = strings(&shown["selected"]);
            let file = format!("src/{}.py", topic.replace(' ', "_"));
            assert!(selected.contains(&file.as_str()) && selected.len() <= 10, "{selected:?}");
            // What is recorded is what was sent.
            let messages = explained["prompt"].as_array().expect("the prompt");
            let own = messages.last().expect("messages")["content"].as_str().expect("text");
            let shared_part = messages[1]["content"].as_str().expect("text");
            assert!(own.contains(&format!("def {}(x)", topic.replace(' ', "_"))), "{own}");
            assert!(!shared_part.contains("def helper_") && shared_part.contains("module_23.py"));
            let files = shown["files"].as_array().expect("files");
            assert_eq!(files.len(), 31);
            let listed = files.iter().filter(|file| file["state"] != "omitted").count();
            assert_eq!(listed, selected.len());
            let attempts = explained["attempts"].as_array().expect("attempts");
            assert!(attempts.iter().all(|attempt| number(attempt, "/usage/input") < WINDOW));
            for quote in explained["rationale"]["evidence"].as_array().expect("quotes") {
                assert_eq!(quote["verified"], true, "{quote}");
            }
            groups[leaf / 3].insert(selected.iter().map(|path| (*path).to_owned()).collect());
        }
        let distinct = if shared { 1 } else { 3 };
        assert!(groups.iter().all(|group| group.len() == distinct), "{method}: {groups:?}");

        let again = workspace.run_grade(&sim.base_url, &["--selection", method]);
        assert_eq!(document(&again), graded, "nothing is asked twice");
        assert_eq!(sim.requests(), LEAVES + rankings);
    }
    let runs = workspace.runs().len();
    // Each sim has a port of its own; `auto` came to a smaller budget than `lexical-shared`.
    assert_eq!(runs, 5);
}

#[test]
fn an_unusable_ranking_is_repaired_or_an_error_and_never_empty_evidence() {
    let workspace = workspace();
    let sim = SimProcess::start(&["--unusable-ranking-rate", "1"]);
    let graded = workspace.run_grade(&sim.base_url, &["--selection", "judge"]);
    assert_exit(&graded, 3);
    let graded = document(&graded);
    assert_eq!(graded["outcomes"]["ungraded"], json!({"unranked": LEAVES}), "{graded:#}");
    assert_eq!((number(&graded, "/calls/judge"), number(&graded, "/calls/rank")), (0, 0));
    assert_eq!(number(&graded, "/calls/failed"), 3 * LEAVES, "three tries for each leaf");
    let explained = explain(&workspace, &graded["run"], 0);
    let words = explained["rationale"]["explanation"].as_str().expect("words");
    assert!(words.contains("no usable ranking of files in 3 tries"), "{words}");
    let kinds: Vec<&Value> =
        explained["attempts"].as_array().expect("attempts").iter().map(|a| &a["kind"]).collect();
    assert_eq!(kinds, ["rank"; 3]);

    for (method, least) in [("judge", LEAVES), ("judge-shared", 2)] {
        let sim = SimProcess::start(&["--unusable-ranking-rate", "0.4", "--seed", "5"]);
        let graded = workspace.run_grade(&sim.base_url, &["--selection", method]);
        assert_exit(&graded, 0);
        let graded = document(&graded);
        assert_eq!(number(&graded, "/calls/rank"), least);
        assert_eq!(number(&graded, "/calls/failed"), sim.stat("unusable_rankings"));
    }
}

#[test]
fn siblings_take_over_a_ranking_that_a_verdict_records() {
    let workspace = workspace();
    workspace.write(
        "tribunal.toml",
        "[run]\nmodels = \"models.toml\"\n[retry]\nbad_reply_attempts = 0\n",
    );
    // Every second call is refused; one at a time, they come in order.
    let sim = SimProcess::start(&["--refusal-rate", "0.4", "--seed", "2"]);
    let args = ["--selection", "judge-shared", "--concurrency", "1"];
    let graded = workspace.run_grade(&sim.base_url, &args);
    assert_exit(&graded, 3);
    let graded = document(&graded);
    let missing = number(&graded, "/root/ungraded");
    assert!(missing > 0 && number(&graded, "/calls/rank") == 2, "{graded:#}");
    let url = sim.base_url.clone();
    drop(sim);

    let sim = SimProcess::start_at(&url, &[]);
    let run = graded["run"].as_str().expect("a run");
    assert_exit(&workspace.run(&["retry", run]), 0);
    let graded = workspace.run_grade(&url, &args);
    assert_exit(&graded, 0);
    assert_eq!((sim.stat("rankings"), sim.requests()), (0, missing));
}

#[test]
fn what_would_be_sent_is_shown_without_a_call() {
    let workspace = workspace();
    let evidence = ["evidence", "submission", "--category", "code-development", "--json"];
    let of = |method: &str| {
        let output = workspace.run(&[&evidence[..], &["--selection", method]].concat());
        assert_exit(&output, 0);
        document(&output)["categories"]["Code Development"].clone()
    };
    let (auto, lexical) = (of("auto"), of("lexical"));
    assert_eq!(auto["selection"]["method"], "lexical-shared");
    assert_eq!(lexical["selection"]["method"], "lexical");
    let budget = |document: &Value| number(document, "/selection/budget");
    assert!(budget(&auto) <= budget(&lexical) && budget(&lexical) < WINDOW);
    assert!(lexical["files"].as_array().expect("files").iter().all(|file| {
        file["reason"] == "selection" && file["tokens_cut"].as_u64().is_some_and(|cut| cut > 0)
    }));

    let prompt =
        ["prompt", "--rubric", "rubric.json", "--submission", "submission", "--leaf", "#1"];
    let of = |method: &str| {
        let output = workspace.run(&[&prompt[..], &["--json", "--selection", method]].concat());
        assert_exit(&output, 0);
        document(&output)
    };
    let judge = of("judge-shared");
    let question = judge["ranking"]["content"].as_str().expect("a question for files");
    assert!(GROUPS[0].iter().all(|topic| question.contains(topic)), "{question}");
    assert!(number(&judge, "/tokens/total") < WINDOW);
    let lexical = of("lexical");
    assert_eq!((&lexical["ranking"], &lexical["selection"]), (&Value::Null, &json!("lexical")));
    let own = lexical["messages"][2]["content"].as_str().expect("text");
    assert!(own.contains("def momentum_teacher(x)"), "{own}");
    let unknown = workspace.run(&[&prompt[..], &["--selection", "best"]].concat());
    assert_exit(&unknown, 2);
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(text.contains("--selection") && text.contains("lexical-shared"), "{text}");
}
