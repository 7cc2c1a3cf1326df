//! Snapshots of real folders, hostile ones among them.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
};

use tempfile::tempdir;
use tribunal_core::{Category, SelectionMethod};
use tribunal_evidence::{
    Assembler, Evidence, FileState, Index, Limits, OmittedReason, Pool, PoolFile, Profile,
    Snapshot, SnapshotError, Tokenizer, View, Vocabulary, assemble::Context, select,
};

use crate::pack::{LIMITS, Texts, take};

#[path = "support/pack.rs"]
#[expect(dead_code, reason = "shared with the tests of archives")]
mod pack;

fn assemble(snapshot: &Snapshot, texts: &Texts, window: usize) -> Evidence {
    let tokenizer = Vocabulary::named("o200k_base").expect("embedded");
    let profile = Profile::builtin("paperbench").expect("built in");
    let view = View::new(snapshot, Category::CodeDevelopment, None, false, &profile);
    let context = Context { paper: Some("A paper."), ..Context::default() };
    let mut assembler = Assembler::new(&view, context, &tokenizer, window, 100, None);
    for file in &view.files {
        let room = assembler.has_room();
        let text = file.text.filter(|_| room).map(|hash| texts[&hash].as_str());
        assembler.file(file, text);
    }
    assembler.finish()
}

#[test]
fn nothing_outside_the_root_is_read() {
    let outside = tempdir().expect("a folder");
    fs::write(outside.path().join("secret.py"), "SECRET").expect("written");
    let root = tempdir().expect("a folder");
    fs::write(root.path().join("a.py"), "a = 1\n").expect("written");
    symlink(outside.path().join("secret.py"), root.path().join("link.py")).expect("linked");
    symlink(outside.path(), root.path().join("folder")).expect("linked");
    symlink("..", root.path().join("up")).expect("linked");
    fs::create_dir(root.path().join(".git")).expect("made");
    fs::write(root.path().join(".git/x.py"), "x").expect("written");
    fs::write(root.path().join("._a.py"), "apple").expect("written");
    fs::write(root.path().join("b.bin"), b"\0\0\0").expect("written");
    let _socket = UnixListener::bind(root.path().join("socket.py")).expect("bound");
    let (snapshot, texts) = take(root.path(), &LIMITS).expect("a snapshot");
    let paths: Vec<&str> = snapshot.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["._a.py", "a.py", "b.bin", "folder", "link.py", "socket.py", "up"]);
    assert!(texts.values().all(|text| text == "a = 1\n"));
    let omitted = |path: &str| snapshot.file(path).expect("listed").omitted;
    assert_eq!(omitted("link.py"), Some(OmittedReason::Link));
    assert_eq!(omitted("folder"), Some(OmittedReason::Link));
    assert_eq!(omitted("socket.py"), Some(OmittedReason::Special));
    assert_eq!(omitted("b.bin"), Some(OmittedReason::Binary));
    assert_eq!(omitted("._a.py"), Some(OmittedReason::Housekeeping));
    assert_eq!(omitted("a.py"), None);
}

#[test]
fn each_limit_has_its_error() {
    let root = tempdir().expect("a folder");
    assert!(matches!(take(root.path(), &LIMITS), Err(SnapshotError::Empty { .. })));
    fs::write(root.path().join("a.py"), "a = 1\n").expect("written");
    fs::create_dir_all(root.path().join("x/y")).expect("made");
    fs::write(root.path().join("x/y/long_name.py"), "b = 2\n").expect("written");
    let key = |limits: Limits| match take(root.path(), &limits) {
        Err(SnapshotError::TooLarge { key, .. }) => key,
        other => panic!("no limit hit: {other:?}"),
    };
    assert_eq!(key(Limits { max_entries: 2, ..LIMITS }), "max_entries");
    assert_eq!(key(Limits { max_total_bytes: 7, ..LIMITS }), "max_total_bytes");
    assert_eq!(key(Limits { max_depth: 1, ..LIMITS }), "max_depth");
    assert_eq!(key(Limits { max_path_bytes: 10, ..LIMITS }), "max_path_bytes");
    assert!(take(root.path(), &LIMITS).is_ok());
    let file = root.path().join("a.py");
    assert!(matches!(take(&file, &LIMITS), Err(SnapshotError::NotASubmission { .. })));
    let missing = root.path().join("missing");
    assert!(matches!(take(&missing, &LIMITS), Err(SnapshotError::Open { .. })));
}

#[test]
fn a_cut_is_visible_and_recorded() {
    let root = tempdir().expect("a folder");
    let line = "value = compute(value)\n";
    fs::write(root.path().join("a.py"), line.repeat(50)).expect("written");
    fs::write(root.path().join("b.py"), line.repeat(500)).expect("written");
    fs::write(root.path().join("c.py"), line.repeat(50)).expect("written");
    let (snapshot, texts) = take(root.path(), &LIMITS).expect("a snapshot");
    let whole = assemble(&snapshot, &texts, 32_000);
    let states: Vec<FileState> = whole.records.iter().map(|record| record.state).collect();
    // b.py is longer than what is read of a file.
    assert_eq!(states, [FileState::Shown, FileState::Truncated, FileState::Shown]);
    assert!(whole.fits);
    let small = assemble(&snapshot, &texts, 800);
    assert!(!small.fits);
    assert!(small.tokens <= 800, "{}", small.tokens);
    assert!(small.files.iter().any(|file| file.text.contains("cut to fit")), "{small:?}");
    assert_eq!(assemble(&snapshot, &texts, 800), small, "same input, same bytes");
    let tokenizer = Vocabulary::named("o200k_base").expect("embedded");
    let shrunk = whole.shrunk(&tokenizer);
    let tokens = |e: &Evidence| e.files.iter().map(|file| file.tokens).sum::<usize>();
    assert!(tokens(&shrunk) * 2 <= tokens(&whole), "{shrunk:?}");
    assert!(shrunk.tokens < whole.tokens, "it says what it takes now");
}

#[test]
fn a_notebook_is_shown_as_the_profile_says() {
    let root = tempdir().expect("a folder");
    let cell = r#"{"cells": [{"cell_type": "code", "source": "x = 1", "outputs": []}]}"#;
    fs::write(root.path().join("n.ipynb"), cell).expect("written");
    let (snapshot, texts) = take(root.path(), &LIMITS).expect("a snapshot");
    let profile = Profile::builtin("default").expect("built in");
    let tokenizer = Vocabulary::named("o200k_base").expect("embedded");
    let view = View::new(&snapshot, Category::CodeDevelopment, None, false, &profile);
    let mut assembler = Assembler::new(&view, Context::default(), &tokenizer, 8_000, 100, None);
    for file in &view.files {
        assembler.file(file, file.text.map(|hash| texts[&hash].as_str()));
    }
    let evidence = assembler.finish();
    assert!(evidence.files[0].text.contains("[code cell 1]\nx = 1\n"), "{evidence:?}");
    let paperbench = Profile::builtin("paperbench").expect("built in");
    let view = View::new(&snapshot, Category::CodeDevelopment, None, false, &paperbench);
    assert!(view.files.is_empty());
}

#[test]
fn what_is_selected_is_shown_and_the_rest_recorded() {
    let root = tempdir().expect("a folder");
    for n in 0..12 {
        let text = format!("def helper_{n}(value):\n    return value + {n}\n").repeat(20);
        fs::write(root.path().join(format!("helper_{n:02}.py")), text).expect("written");
    }
    fs::write(root.path().join("zeta.py"), "def contrastive_loss(a, b):\n    return a @ b\n")
        .expect("written");
    fs::write(root.path().join("data.py"), b"\0\0").expect("written");
    let (snapshot, texts) = take(root.path(), &LIMITS).expect("a snapshot");
    let profile = Profile::builtin("paperbench").expect("built in");
    let tokenizer = Vocabulary::named("o200k_base").expect("embedded");
    let view = View::new(&snapshot, Category::CodeDevelopment, None, false, &profile);
    let mut assembler = Assembler::new(&view, Context::default(), &tokenizer, 2_000, 100, None);
    for file in &view.files {
        assembler.file(file, file.text.map(|hash| texts[&hash].as_str()));
    }
    assert!(!assembler.fits());
    let evidence = assembler.into_pool(|room| {
        let mut pool = Pool::new(SelectionMethod::Lexical, room, "paperbench", "o200k_base");
        for file in &view.files {
            pool.push(file, file.text.map(|hash| tokenizer.count(&texts[&hash])));
        }
        pool
    });
    let pool = evidence.pool.as_ref().expect("a pool");
    assert!(evidence.files.is_empty() && evidence.tokens + pool.room <= 1_900);
    let document = |file: &PoolFile| pool.document(file, &texts[&file.text.expect("a text")]);
    let index = Index::new(pool.candidates().map(document).collect(), &tokenizer);
    let selection = select("The contrastive loss is used", &index, pool.room, &tokenizer);
    let selected = pool.selected(&index, &selection);
    assert!(selected.tokens <= pool.room);
    assert_eq!(
        (selected.files[0].path.as_str(), selected.paths[0].as_str()),
        ("zeta.py", "zeta.py")
    );
    let records = evidence.records_with(selected.records);
    assert_eq!(records.len(), 14);
    let record = |path: &str| records.iter().find(|r| r.path == path).expect("recorded");
    assert_eq!(record("zeta.py").state, FileState::Shown);
    assert_eq!(record("data.py").reason.as_deref(), Some("binary"));
    assert!(records.iter().any(|r| r.reason.as_deref() == Some("selection")));
    assert!(evidence.all_records().iter().all(|record| record.state == FileState::Omitted));
    for (named, found) in [
        ("./zeta.py", Some("zeta.py")),
        ("`submission/zeta.py`", Some("zeta.py")),
        ("data.py", None),
        ("other.py", None),
    ] {
        assert_eq!(pool.find(named).map(|file| file.path.as_str()), found, "{named}");
    }
    let half = evidence.shrunk(&tokenizer);
    assert_eq!(half.pool.as_ref().map(|half| half.room), Some(pool.room / 2));
}

#[test]
fn the_script_is_shown_once() {
    let root = tempdir().expect("a folder");
    fs::write(root.path().join("reproduce.sh"), "python a.py\n").expect("written");
    fs::write(root.path().join("a.py"), "x = 1\n").expect("written");
    let (snapshot, texts) = take(root.path(), &LIMITS).expect("a snapshot");
    let profile = Profile::builtin("paperbench").expect("built in");
    let tokenizer = Vocabulary::named("o200k_base").expect("embedded");
    for (code_only, shown) in [(false, &["a.py"][..]), (true, &["a.py", "reproduce.sh"])] {
        let view = View::new(&snapshot, Category::CodeDevelopment, None, code_only, &profile);
        let context = Context { script: Some("python a.py\n"), ..Context::default() };
        let mut assembler = Assembler::new(&view, context, &tokenizer, 8_000, 100, None);
        for file in &view.files {
            assembler.file(file, file.text.map(|hash| texts[&hash].as_str()));
        }
        let evidence = assembler.finish();
        let files: Vec<&str> = evidence.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(files, shown);
        let states: Vec<FileState> = evidence.records.iter().map(|record| record.state).collect();
        assert_eq!(states, [FileState::Shown; 2], "the view has it either way");
        let parts = evidence.parts.iter().map(|part| part.tokens);
        let files = evidence.files.iter().map(|file| file.tokens + 40);
        assert_eq!(parts.chain(files).sum::<usize>(), evidence.tokens);
    }
}
