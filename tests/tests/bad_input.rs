//! Bad input: what is wrong, where, what to do, exit code 2, and nothing written.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    process::Output,
};

use tribunal_e2e::{Running, SimProcess, Workspace, assert_exit, describe, document, run, skip};

/// Makes a store, and asks nobody.
const SUBMIT: [&str; 5] = ["submit", "--rubric", "rubric.json", "--submission", "submission"];

/// Asserts that the command was refused before it did anything, in words that hold all of `says`.
#[track_caller]
fn assert_refused(workspace: &Workspace, output: &Output, says: &[&str]) {
    assert_exit(output, 2);
    assert!(output.stdout.is_empty(), "{}", describe(output));
    let said = String::from_utf8_lossy(&output.stderr);
    for words in says {
        assert!(said.contains(words), "`{words}` is not in: {said}");
    }
    for words in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
        assert!(!said.contains(words), "{said}");
    }
    let written = fs::read_dir(workspace.file("out")).map_or(0, Iterator::count);
    assert_eq!(written, 0, "something was written to --out");
}

/// Grades what is in the workspace and asserts that it is refused.
#[track_caller]
fn assert_not_graded(workspace: &Workspace, args: &[&str], says: &[&str]) {
    let sim = SimProcess::start(&[]);
    let output = workspace.run_grade(&sim.base_url, args);
    assert_refused(workspace, &output, says);
    assert_eq!(sim.requests(), 0, "no call is paid for");
}

#[test]
fn a_truncated_rubric() {
    let workspace = Workspace::generated(20);
    let whole = workspace.read("rubric.json");
    workspace.write("rubric.json", &whole[..whole.len() / 2]);
    assert_not_graded(&workspace, &[], &["rubric.json:1:", "not valid JSON"]);
}

#[test]
fn a_string_as_weight() {
    let workspace = Workspace::generated(20);
    let rubric = workspace.read("rubric.json");
    let wrong = rubric.replacen("\"weight\":2", "\"weight\":\"2\"", 1);
    assert_ne!(rubric, wrong);
    workspace.write("rubric.json", &wrong);
    let path = "$.sub_tasks[0].sub_tasks[1].weight";
    assert_not_graded(&workspace, &[], &["rubric.json", path, "number"]);
}

#[test]
fn a_rubric_that_does_not_exist() {
    let workspace = Workspace::generated(20);
    fs::remove_file(workspace.file("rubric.json")).expect("removed");
    assert_not_graded(&workspace, &[], &["rubric.json", "No such file", "--rubric"]);
    fs::create_dir(workspace.file("rubric.json")).expect("a folder");
    assert_not_graded(&workspace, &[], &["rubric.json", "folder", "--rubric"]);
}

#[test]
fn a_paper_that_is_no_text() {
    let workspace = Workspace::generated(20);
    fs::write(workspace.file("paper.pdf"), b"%PDF-1.7\n\xff\xfe\xfd").expect("written");
    assert_not_graded(&workspace, &["--paper", "paper.pdf"], &["paper.pdf", "UTF-8", "Markdown"]);
}

#[test]
fn a_paper_that_may_never_end() {
    let workspace = Workspace::generated(20);
    for flag in ["--paper", "--addendum", "--judge-addendum"] {
        assert_not_graded(&workspace, &[flag, "/dev/zero"], &["/dev/zero", "64 MiB", flag]);
    }
}

#[test]
fn a_submission_that_does_not_exist() {
    let workspace = Workspace::generated(20);
    fs::remove_dir_all(workspace.file("submission")).expect("removed");
    assert_not_graded(&workspace, &[], &["submission", "No such file", "--submission"]);
}

#[test]
fn a_submission_that_is_a_file() {
    let workspace = Workspace::generated(20);
    fs::remove_dir_all(workspace.file("submission")).expect("removed");
    workspace.write("submission", "PK");
    assert_not_graded(&workspace, &[], &["submission", "a single file", "give a folder"]);
}

#[test]
fn an_empty_submission() {
    let workspace = Workspace::generated(20);
    fs::remove_dir_all(workspace.file("submission")).expect("removed");
    fs::create_dir_all(workspace.file("submission/src")).expect("folders");
    assert_not_graded(&workspace, &[], &["submission", "no files", "--submission"]);
}

#[test]
fn a_rubric_without_code_graded_code_only() {
    let workspace = Workspace::generated(20);
    let rubric = workspace.read("rubric.json").replace("Code Development", "Code Execution");
    workspace.write("rubric.json", &rubric);
    assert_not_graded(&workspace, &["--code-only"], &["rubric.json", "--code-only"]);
}

#[test]
fn a_folder_for_results_that_cannot_be_written() {
    let workspace = Workspace::generated(20);
    workspace.write("occupied", "a file");
    // The later of two values of `--out` would be an error of its own.
    let sim = SimProcess::start(&[]);
    let inputs = ["grade", "--rubric", "rubric.json", "--submission", "submission"];
    let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim"];
    for out in ["occupied/results", "occupied", "/proc/results"] {
        let output = workspace.run(&[&inputs[..], &judge[..], &["--out", out]].concat());
        assert_refused(&workspace, &output, &[out, "--out"]);
    }
    assert_eq!(sim.requests(), 0, "no call is paid for");
    assert_eq!(workspace.read("occupied"), "a file");
}

#[test]
fn a_folder_for_results_within_the_submission() {
    let workspace = Workspace::generated(20);
    let sim = SimProcess::start(&[]);
    let inputs = ["grade", "--rubric", "rubric.json", "--submission", "submission"];
    let judge = ["--base-url", &sim.base_url, "--model", "tribunal-sim"];
    for out in ["submission", "submission/results/of/it"] {
        let output = workspace.run(&[&inputs[..], &judge[..], &["--out", out]].concat());
        assert_refused(&workspace, &output, &[out, "--out", "within the submission"]);
    }
    assert_eq!(sim.requests(), 0, "no call is paid for");
    assert!(!workspace.file("submission/results").exists());
}

#[test]
fn a_store_from_a_newer_version() {
    /// Where SQLite's header keeps `PRAGMA user_version`, big-endian.
    const USER_VERSION: u64 = 60;
    let workspace = Workspace::generated(20);
    assert_exit(&workspace.run(&SUBMIT), 0);
    let path = workspace.file(".tribunal/store.db");
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).expect("a store");
    let mut version = [0; 4];
    file.read_exact_at(&mut version, USER_VERSION).expect("a header");
    let newer = u32::from_be_bytes(version) + 1;
    file.write_all_at(&newer.to_be_bytes(), USER_VERSION).expect("patched");
    drop(file);
    let before = fs::read(&path).expect("a store");
    let says = ["store.db", &format!("format {newer}"), "Upgrade tribunal", "--store"];
    assert_not_graded(&workspace, &[], &says);
    assert_refused(&workspace, &workspace.run(&["status"]), &says);
    assert!(before == fs::read(&path).expect("a store"), "it was left alone");
}

/// A check that finds something has not failed: it says what, and what to do.
#[test]
fn a_store_that_is_damaged() {
    let workspace = Workspace::generated(20);
    assert_exit(&workspace.run(&SUBMIT), 0);
    assert_exit(&workspace.run(&["store", "check"]), 0);
    let store = workspace.file(".tribunal/store.db");
    let file = fs::OpenOptions::new().write(true).open(store).expect("a store");
    let length = file.metadata().expect("an open file").len();
    file.set_len(length / 2).expect("cut");
    drop(file);
    let check = workspace.run(&["store", "check", "--json"]);
    assert_exit(&check, 1);
    let problems = document(&check)["problems"].to_string();
    assert!(problems.contains("store.db is damaged"), "{problems}");
    let check = workspace.run(&["store", "check"]);
    assert_exit(&check, 1);
    assert!(describe(&check).contains("restore the store from a backup"), "{}", describe(&check));
    assert_refused(&workspace, &workspace.run(&["status"]), &["store.db is damaged", "backup"]);
}

#[test]
fn a_store_that_is_none() {
    let workspace = Workspace::generated(20);
    workspace.write("notes.txt", &"Not a database.\n".repeat(100));
    assert_not_graded(
        &workspace,
        &["--store", "sqlite:notes.txt"],
        &["notes.txt", "not an SQLite database", "--store"],
    );
    assert_eq!(workspace.read("notes.txt"), "Not a database.\n".repeat(100));
    assert_not_graded(&workspace, &["--store", "sqlite:submission"], &["submission", "folder"]);
    assert_not_graded(&workspace, &["--store", "redis://host"], &["redis", "sqlite:PATH"]);
    assert_not_graded(&workspace, &["--store", "sqlite:/proc/none/store.db"], &["/proc/none"]);
}

#[test]
fn a_store_that_is_read_only() {
    let workspace = Workspace::generated(20);
    assert_exit(&workspace.run(&SUBMIT), 0);
    let folder = workspace.file(".tribunal");
    let before = fs::read(folder.join("store.db")).expect("a store");
    let grade = ["grade", "--rubric", "rubric.json", "--submission", "submission", "--out", "out"];
    let output = if rustix::process::geteuid().is_root() {
        // Modes do not bind root; a mount of this process's own does.
        let script = "mount --bind .tribunal .tribunal && \
                      mount -o remount,ro,bind .tribunal && exec \"$@\"";
        let Some(output) = in_namespace(&workspace, script, &grade) else {
            return skip("root without the right to mount cannot make a read-only store");
        };
        output
    } else {
        let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode));
        mode(0o555).expect("read-only");
        let output = workspace.run(&grade);
        mode(0o755).expect("writable again");
        output
    };
    assert_refused(&workspace, &output, &["store.db", "read-only", "--store"]);
    assert!(before == fs::read(folder.join("store.db")).expect("a store"), "it was left alone");
    assert_exit(&workspace.run(&grade), 0);
}

/// Runs a script with mounts of its own, the binary and `args` as its arguments; `None` where
/// this process may not mount.
fn in_namespace(workspace: &Workspace, script: &str, args: &[&str]) -> Option<Output> {
    let unshare = |script: &str| {
        let mut command = workspace.command(args);
        let program = command.get_program().to_owned();
        let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = std::process::Command::new("unshare");
        command.args(["--mount", "bash", "-c", script, "bash"]).arg(program).args(args);
        command.current_dir(workspace.path());
        Running::start(command).finish()
    };
    let may = unshare("mount -t tmpfs tmpfs .").status.success();
    may.then(|| unshare(script))
}

#[test]
fn a_config_with_an_unknown_key() {
    let workspace = Workspace::generated(20);
    workspace.write("tribunal.toml", "[worker]\nconcurrency = 4\nconcurency = 8\n");
    assert_not_graded(&workspace, &[], &["tribunal.toml", "3", "concurency"]);
    workspace.write("tribunal.toml", "");
    workspace.write("mine.toml", "[worker]\nconcurrency = \"many\"\n");
    let says = ["mine.toml", "2", "worker.concurrency"];
    assert_not_graded(&workspace, &["--config", "mine.toml"], &says);
    assert_not_graded(&workspace, &["--config", "none.toml"], &["none.toml"]);
    let checked = workspace.run(&["config", "check", "mine.toml"]);
    assert_exit(&checked, 1);
}

#[test]
fn a_judge_that_nobody_knows() {
    let workspace = Workspace::generated(20);
    let inputs = ["grade", "--rubric", "rubric.json", "--submission", "submission", "--out", "out"];
    let refused = |args: &[&str], says: &[&str]| {
        assert_refused(&workspace, &workspace.run(&[&inputs[..], args].concat()), says);
    };
    refused(&["--judge", "solomon"], &["solomon", "simulated"]);
    refused(&["--base-url", "http://127.0.0.1:9/v1"], &["--model"]);
    refused(&["--model", "m"], &["--base-url"]);
    refused(&["--base-url", "not a url", "--model", "m"], &["--base-url", "not a URL", "https://"]);
    let unset = "[judge.mine]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\n\
                 api_key_env = \"E2E_NOT_SET\"\n";
    workspace.write("tribunal.toml", unset);
    refused(&["--judge", "mine"], &["mine", "E2E_NOT_SET"]);
}

#[test]
fn a_run_that_nobody_knows() {
    let workspace = Workspace::generated(20);
    let commands = ["collect", "pause", "resume", "cancel", "retry", "status"];
    for command in commands {
        let output = workspace.run(&[command, "0123456789abcdef"]);
        assert_refused(&workspace, &output, &["no store at", ".tribunal/store.db", "--store"]);
        assert!(!workspace.file(".tribunal").exists(), "looking makes no store");
    }
    assert_exit(&workspace.run(&["status"]), 0);
    assert!(!workspace.file(".tribunal").exists(), "looking makes no store");
    assert_exit(&workspace.run(&SUBMIT), 0);
    for command in commands {
        let output = workspace.run(&[command, "0123456789abcdef"]);
        assert_refused(&workspace, &output, &["0123456789abcdef", "tribunal status"]);
    }
}

#[test]
fn a_command_that_nobody_knows() {
    let folder = tempfile::tempdir().expect("a folder");
    for args in [&["judge"][..], &["grade"], &["grade", "--rubric"], &[]] {
        let output = run(folder.path(), args);
        assert_exit(&output, 2);
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{}", describe(&output));
    }
}

#[test]
fn rates_of_a_sim_without_labels() {
    let folder = tempfile::tempdir().expect("a folder");
    for flag in ["--sensitivity", "--specificity", "--rates"] {
        let output = run(folder.path(), &["sim", flag, "0.5"]);
        assert_exit(&output, 2);
        assert!(describe(&output).contains("--labels"), "{}", describe(&output));
    }
}

#[test]
fn an_archive_that_is_none() {
    let workspace = Workspace::generated(20);
    workspace.write("junk.tar.gz", "not an archive");
    let output = workspace.run(&["evidence", "junk.tar.gz"]);
    assert_refused(&workspace, &output, &["junk.tar.gz", "named like an archive"]);
}
