//! Prompt sets as people write them: what is refused and where, and what is rendered.

use std::{fs, path::Path};

use tempfile::TempDir;
use tribunal_core::{BlobHash, Category, ReplyForm, Rubric};
use tribunal_evidence::{Evidence, ShownFile};
use tribunal_worker::{
    PromptSet,
    prompt::{
        BUILTIN, LeafPrompt, PromptError, Prompts, RankPrompt, lint, nonce,
        variables::{SHARED_TEMPLATES, TEMPLATES},
    },
};

const FORMS: [ReplyForm; 3] = [ReplyForm::JsonSchema, ReplyForm::JsonObject, ReplyForm::Text];

const RUBRIC: &str = r#"{"id": "root", "requirements": "The paper\n is reproduced.", "weight": 1, "sub_tasks": [
    {"id": "m", "requirements": "The method.", "weight": 2, "sub_tasks": [
        {"id": "a", "requirements": "The loss is (1).", "weight": 1.5, "sub_tasks": [],
            "task_category": "Code Development"},
        {"id": "g", "requirements": "The training.", "weight": 1, "sub_tasks": [
            {"id": "b", "requirements": "It ran.", "weight": 0, "sub_tasks": [],
                "task_category": "Code Execution"}]}]},
    {"id": "c", "requirements": "Table 1\nis matched.", "weight": 1, "sub_tasks": [],
        "task_category": "Result Analysis"}]}"#;

fn rubric() -> Rubric {
    Rubric::parse("rubric", RUBRIC.as_bytes()).expect("a rubric")
}

fn compiled(name: &str) -> Prompts {
    Prompts::compile(PromptSet::builtin(name).expect("a set")).expect("that compiles")
}

fn file(path: &str, text: &str) -> ShownFile {
    ShownFile { path: path.to_owned(), text: text.to_owned(), tokens: 1 }
}

fn evidence(category: Category) -> Evidence {
    Evidence {
        schema: Evidence::SCHEMA.to_owned(),
        category,
        paper: Some("# Paper".to_owned()),
        addendum: None,
        judge_addendum: Some("A hint.".to_owned()),
        script: Some("python a.py".to_owned()),
        log: None,
        tree: "└── a.py".to_owned(),
        files: vec![file("a \"b\" <c>.py", "x = 1")],
        records: Vec::new(),
        parts: Vec::new(),
        fits: true,
        tokens: 0,
        pool: None,
    }
}

fn leaf<'a>(rubric: &'a Rubric, whole: &'a Rubric, index: usize) -> LeafPrompt<'a> {
    LeafPrompt {
        rubric,
        whole,
        index,
        max_prior_nodes: None,
        reply_form: ReplyForm::JsonObject,
        files: &[],
        nonce: None,
    }
}

fn with(template: &str, text: &str) -> PromptSet {
    let mut set = PromptSet::builtin("default").expect("a set");
    set.templates.insert(template.to_owned(), text.to_owned());
    set
}

/// What the lint says, one line a problem.
fn said(set: &PromptSet) -> Vec<String> {
    lint(set).iter().map(ToString::to_string).collect()
}

#[test]
fn the_builtin_sets_render_for_every_category_and_form() {
    let whole = rubric();
    let cut = whole.cut(2);
    for name in BUILTIN {
        let set = PromptSet::builtin(name).expect("a set");
        assert_eq!((set.name.as_str(), said(&set)), (name, Vec::new()));
        assert_eq!(set.templates.len(), TEMPLATES.len());
        assert_eq!(set.reply.len(), 5, "{name} says what every field holds");
        let prompts = Prompts::compile(set).expect("that compiles");
        for category in Category::ALL {
            let shared = prompts.shared(evidence(category), true, true, Some("00ff00ff00ff"));
            let shared = shared.expect("a prompt");
            assert!(shared.shared.contains("x = 1\n</file nonce=\"00ff00ff00ff\">"), "{name}");
            assert!(!shared.system.contains("00ff") && !shared.system.contains("{{"), "{name}");
            let repair =
                |ranking| prompts.repair("it is odd", category, ranking).expect("a prompt");
            assert!(repair(false).contains("score being") && !repair(true).contains("score"));
        }
        let mut categories = Vec::new();
        for rubric in [&whole, &cut] {
            for (index, node) in rubric.leaves() {
                let category = node.category.expect("a leaf");
                categories.push(category);
                for reply_form in FORMS {
                    let leaf = LeafPrompt { reply_form, ..leaf(rubric, &whole, index) };
                    let text = prompts.leaf(&leaf).expect("a prompt");
                    assert!(text.contains(&format!("<criterion category=\"{category}\">\n")));
                    assert!(text.contains(&prompts.set().questions[&category]), "{name}");
                    let fractional = text.contains("a number from 0 to 1");
                    assert_eq!(fractional, category.is_fractional(), "{name}: {text}");
                    assert_eq!(text.contains("JSON"), reply_form != ReplyForm::Text, "{name}");
                    let lower = text.to_lowercase();
                    let field = |name: &str| lower.find(&format!("{name}`:")).expect("asked for");
                    assert!(field("explanation") < field("score"), "reasoning first: {text}");
                }
            }
        }
        categories.sort();
        categories.dedup();
        assert_eq!(categories, Category::ALL);
    }
}

#[test]
fn a_small_prompt_to_the_byte() {
    let prompts = compiled("default");
    let shared = prompts.shared(evidence(Category::CodeExecution), true, true, Some("00ff"));
    let expected = "<paper>\n# Paper\n</paper>\n\n<judge_addendum>\nA hint.\n</judge_addendum>\n\n\
        The submission's reproduce.sh:\n\n<script path=\"reproduce.sh\" nonce=\"00ff\">\npython a.py\n\
        </script nonce=\"00ff\">\n\nThere is no reproduce.log.\n\nThe submission's files:\n\n\
        <tree nonce=\"00ff\">\n└── a.py\n</tree nonce=\"00ff\">\n\n\
        <file path=\"a &quot;b&quot; &lt;c&gt;.py\" nonce=\"00ff\">\nx = 1\n</file nonce=\"00ff\">\n";
    assert_eq!(shared.expect("a prompt").shared, expected);

    let whole = rubric();
    let index = whole.nodes().iter().position(|node| node.id == "b").expect("the leaf");
    let files = [file("b.sh", "ls")];
    let leaf =
        LeafPrompt { reply_form: ReplyForm::Text, files: &files, ..leaf(&whole, &whole, index) };
    let question = &prompts.set().questions[&Category::CodeExecution];
    let expected = format!(
        "The submission's files that bear on the criterion:\n\n<file path=\"b.sh\">\nls\n</file>\n\n\
         <context>\n- The paper is reproduced.\n- The method.\n- The loss is (1).\n- The training.\n\
         </context>\n\n<criterion category=\"Code Execution\">\nIt ran.\n</criterion>\n\n{question}\n\n\
         Answer in these sections, each with its heading, in this order:\n\n\
         - `# Expectations`: what fulfilling the criterion would look like\n\
         - `# Reality`: what the submission does\n\
         - `# Evidence`: the passages that decide, each with its file, its lines and the quoted \
         text, exactly as it stands\n\
         - `# Explanation`: the verdict in one or two sentences\n\
         - `# Score`: 0 or 1, and nothing below it\n"
    );
    assert_eq!(prompts.leaf(&leaf).expect("a prompt"), expected);
    let short = LeafPrompt { max_prior_nodes: Some(1), ..leaf };
    let text = prompts.leaf(&short).expect("a prompt");
    assert!(text.contains("<context>\n- The training.\n</context>"), "{text}");
}

#[test]
fn a_cut_node_lists_what_is_below_it_in_order() {
    let whole = rubric();
    let cut = whole.cut(2);
    let index = cut.nodes().iter().position(|node| node.id == "m").expect("the cut node");
    let text = compiled("default").leaf(&leaf(&cut, &whole, index)).expect("a prompt");
    let expected = "<criterion category=\"Subtree\">\nThe method.\n\
        - The loss is (1). (weight 1.5, Code Development)\n\
        - The training. (weight 1)\n\
        \x20 - It ran. (weight 0, Code Execution)\n</criterion>\n";
    assert!(text.contains(expected), "{text}");
    // A leaf of the whole rubric that is next to it lists nothing.
    let index = cut.nodes().iter().position(|node| node.id == "c").expect("the leaf");
    let text = compiled("default").leaf(&leaf(&cut, &whole, index)).expect("a prompt");
    let expected = "- The method.\n</context>\n\n<criterion category=\"Result Analysis\">\nTable 1\n\
        is matched.\n</criterion>\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn siblings_are_ranked_for_together() {
    let whole = rubric();
    let leaves: Vec<usize> = whole.leaves().map(|(index, _)| index).collect();
    let rank = RankPrompt {
        rubric: &whole,
        indices: &leaves[..1],
        max_prior_nodes: None,
        tree: Some("└── a.py"),
        max_files: 10,
        reply_form: ReplyForm::JsonSchema,
        nonce: Some("00ff"),
    };
    let prompts = compiled("default");
    let one = prompts.rank(&rank).expect("a prompt");
    assert!(one.contains("grade this criterion?\nName up to 10 of them"), "{one}");
    assert!(one.contains("<tree nonce=\"00ff\">\n└── a.py\n</tree nonce=\"00ff\">"), "{one}");
    assert!(one.contains(r#"{"files": ["…", "…"]}"#), "{one}");
    let text = RankPrompt { indices: &leaves, tree: None, reply_form: ReplyForm::Text, ..rank };
    let three = prompts.rank(&text).expect("a prompt");
    assert!(three.contains("these 3 criteria together") && three.contains("one a line"), "{three}");
    assert_eq!(three.matches("<criterion ").count(), 3);
    assert!(!three.contains("<tree") && !three.contains("JSON"), "{three}");
}

#[test]
fn an_unknown_variable_is_named_with_its_template_and_line() {
    let set = with("evidence.md", "{# papr #}\n\n{% if tree %}{{ papr }}{% endif %}{{ tree }}");
    let problems = said(&set);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("evidence.md:3: unknown variable `papr`; there is: paper,"));
    let refused = Prompts::compile(set).expect_err("a set with a problem");
    assert!(refused.to_string().contains("evidence.md:3: unknown variable `papr`"), "{refused}");
    // What a loop or a set binds is known.
    let bound =
        "{% for f in files %}{{ f.path }}{{ loop.index }}{% endfor %}{% set y = 1 %}{{ y }}";
    assert_eq!(said(&with("evidence.md", bound)), Vec::<String>::new());
    let outside = "{% for f in files %}{{ f.path }}{% endfor %}\n{{ f }}";
    assert!(
        said(&with("evidence.md", outside))[0].starts_with("evidence.md:2: unknown variable `f`")
    );
}

#[test]
fn a_leaf_variable_before_the_boundary_is_refused() {
    for template in SHARED_TEMPLATES {
        for variable in
            ["prior", "requirements", "question", "reply_form", "scale", "subtree", "criteria"]
        {
            let problems = said(&with(template, &format!("x\n{{{{ {variable} }}}}")));
            let expected = format!(
                "{template}:2: the leaf's variable `{variable}` stands before the end of the shared \
                 prefix (system.md, paper.md, evidence.md)"
            );
            assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{problems:?}");
        }
        // Evidence is a category's, so its name is shared by all who see it.
        assert_eq!(said(&with(template, "{{ category }}")), Vec::<String>::new());
    }
    let problems = said(&with("criterion.md", "{{ requirements }}\n{{ paper }}"));
    assert!(problems[0].starts_with("criterion.md:2: unknown variable `paper`"), "{problems:?}");
}

#[test]
fn what_only_rendering_shows_is_found_too() {
    for (template, text, expected) in [
        ("paper.md", "a\n{{ paper|shout }}", "paper.md:2: unknown filter: filter shout is unknown"),
        ("paper.md", "a\n{% if paper %}\n", "paper.md:2: syntax error: unexpected end of input"),
        (
            "evidence.md",
            "{% for f in files %}\n{{ f.txt }}{% endfor %}",
            "evidence.md:2: undefined value",
        ),
        (
            "evidence.md",
            "\n{% include 'criterion.md' %}",
            "evidence.md:2: `include`: a template stands",
        ),
        ("criterion.md", "{{ question }}", "criterion.md: never uses `requirements`"),
        ("system.md", "{{ debug() }}", "system.md:1: unknown variable `debug`"),
    ] {
        let problems = said(&with(template, text));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(expected), "{problems:?}");
    }
    let mut set = PromptSet::builtin("default").expect("a set");
    set.questions.remove(&Category::Subtree);
    set.templates.remove("rank.md");
    let expected = ["set.toml: [questions] has none for \"Subtree\"", "rank.md: is missing"];
    assert_eq!(said(&set), expected);
}

fn folder(name: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../prompts")).join(name);
    for entry in fs::read_dir(source).expect("the set") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("a copy");
    }
    folder
}

#[test]
fn a_folder_is_a_set() {
    for name in BUILTIN {
        let folder = folder(name);
        let path = folder.path().display().to_string();
        let loaded = PromptSet::named(&path).expect("a set");
        assert_eq!(loaded, PromptSet::builtin(name).expect("a set"));
    }
    let unknown = PromptSet::named("defualt").expect_err("no such set").to_string();
    assert!(unknown.contains("`defualt`") && unknown.contains("code-dev"), "{unknown}");
}

#[test]
fn a_broken_folder_says_what_and_where() {
    let broken = |file: &str, bytes: Option<&[u8]>| {
        let folder = folder("default");
        let path = folder.path().join(file);
        match bytes {
            Some(bytes) => fs::write(path, bytes),
            None => fs::remove_file(path),
        }
        .expect("the folder is ours");
        match PromptSet::load(folder.path()).expect_err("a broken set") {
            PromptError::File { file, reason, .. } => format!("{file}: {reason}"),
            other => panic!("{other}"),
        }
    };
    assert!(
        broken("rank.md", None).starts_with("rank.md: is missing; a set is set.toml, system.md")
    );
    assert_eq!(broken("paper.md", Some(b"a\nb\xff")), "paper.md: line 2: is not UTF-8 text");
    let toml =
        broken("set.toml", Some(b"name = \"x\"\ndescription = \"y\"\nnmae = 1\n[questions]\n"));
    assert!(toml.starts_with("set.toml: line 3: unknown field `nmae`"), "{toml}");
    let toml =
        broken("set.toml", Some(b"name = \"x\"\ndescription = \"y\"\n[questions]\nSub = \"\"\n"));
    assert!(toml.starts_with("set.toml: line 4: "), "{toml}");
}

#[test]
fn shared_bytes_depend_on_no_leaf() {
    // The same for every leaf by construction: nothing of a leaf goes in. What is left to show is
    // that the same evidence gives the same bytes, and another nonce others.
    let prompts = compiled("default");
    let shared = |nonce| prompts.shared(evidence(Category::Subtree), true, true, nonce);
    let one = shared(Some("00ff")).expect("a prompt");
    assert_eq!(
        one,
        compiled("default")
            .shared(evidence(Category::Subtree), true, true, Some("00ff"))
            .expect("a prompt")
    );
    let other = shared(Some("ff00")).expect("a prompt");
    // Not so the paper's part, which stays cached for every submission.
    let paper = one.shared.find("The submission's").expect("evidence");
    assert_eq!(one.shared[..paper], other.shared[..paper]);
    assert_ne!(one.shared[paper..], other.shared[paper..]);
    assert!(!shared(None).expect("a prompt").shared.contains("nonce"));
}

#[test]
fn the_nonce_depends_on_key_and_snapshot() {
    let (one, other) = (BlobHash::of(b"a"), BlobHash::of(b"b"));
    let nonces = [nonce(&[1; 32], &one), nonce(&[2; 32], &one), nonce(&[1; 32], &other)];
    assert!(nonces.iter().all(|n| n.len() == 12 && n.bytes().all(|b| b.is_ascii_hexdigit())));
    assert_eq!(nonces[0], nonce(&[1; 32], &one));
    assert!(nonces[0] != nonces[1] && nonces[0] != nonces[2]);
}
