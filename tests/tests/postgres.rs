//! The same commands on a PostgreSQL server: several processes, one killed, a password that nobody
//! sees.

use std::process::Output;

use tribunal_e2e::{
    PASSWORD, PostgresServer, Running, SimProcess, Workspace, assert_exit, describe, document,
    number, wait_until,
};

const LEAVES: u64 = 100;
const CONCURRENCY: u64 = 4;

/// A workspace whose config names the server as its store.
fn workspace(server: &PostgresServer, leaves: u64) -> Workspace {
    let workspace = Workspace::generated(leaves as usize);
    let store = format!("[store]\nurl = \"{}\"\n", server.url());
    workspace.write("tribunal.toml", &format!("{store}[worker]\nlease_s = 4\nheartbeat_s = 1\n"));
    workspace
}

fn with_password(workspace: &Workspace, password: &str, args: &[&str]) -> Output {
    let mut command = workspace.command(args);
    command.env("PGPASSWORD", password);
    Running::start(command).finish()
}

#[track_caller]
fn assert_silent(output: &Output) {
    for bytes in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(bytes).contains(PASSWORD), "{}", describe(output));
    }
}

#[test]
fn two_processes_share_a_run_and_one_is_killed() {
    let Some(server) = PostgresServer::start(&["fsync=on"]) else { return };
    let sim = SimProcess::start(&["--latency-ms", "200", "--latency-sigma", "0.5"]);
    let workspace = workspace(&server, LEAVES);
    let concurrency = CONCURRENCY.to_string();
    let grade = ["--quiet", "--concurrency", &concurrency];
    let mut grading = Running::start(workspace.grade(&sim.base_url, &grade));
    wait_until("the judge is asked", || sim.requests() > CONCURRENCY || grading.has_ended());
    let work = ["work", "--until-empty", "--quiet", "--concurrency", &concurrency];
    let mut working = Running::start(workspace.command(&work));
    let leased = "SELECT count(DISTINCT worker) FROM tribunal.tasks WHERE state = 2";
    wait_until("both have claimed", || {
        server.sql(leased) == "2" || grading.has_ended() || working.has_ended()
    });
    assert!(!grading.has_ended() && !working.has_ended(), "{}", grading.stderr());
    let _ = grading.kill();
    assert_exit(&working.finish(), 0);

    let status = workspace.status();
    for (name, count) in [("done", LEAVES), ("pending", 0), ("leased", 0), ("dead", 0)] {
        assert_eq!(number(&status, &format!("/{name}")), count, "{status:#}");
    }
    assert_eq!(server.sql("SELECT count(*) FROM tribunal.verdicts"), LEAVES.to_string());
    let requests = sim.settled_requests();
    assert!(requests - LEAVES <= CONCURRENCY, "{} calls lost by one kill", requests - LEAVES);

    // The killed command again finds its run done.
    let again = workspace.run_grade(&sim.base_url, &grade);
    assert_exit(&again, 0);
    assert_eq!(number(&document(&again), "/outcomes/graded"), LEAVES);
    assert_eq!(sim.requests(), requests, "nothing was asked again");
    let undisturbed = Workspace::generated(LEAVES as usize);
    assert_exit(&undisturbed.run_grade(&sim.base_url, &["--quiet"]), 0);
    for file in ["out/scored_tree.json", "out/leaves.csv"] {
        assert!(workspace.read(file) == undisturbed.read(file), "{file} differs from SQLite's");
    }

    let check = workspace.run(&["store", "check", "--json"]);
    assert_exit(&check, 0);
    assert_eq!(number(&document(&check), "/verdicts"), LEAVES);
    server.sql(
        "UPDATE tribunal.verdicts SET record = '\\x00' WHERE position = (\
                SELECT max(position) FROM tribunal.verdicts)",
    );
    let check = workspace.run(&["store", "check", "--json"]);
    assert_exit(&check, 1);
    let problems = document(&check)["problems"].to_string();
    assert!(problems.contains(status["run"].as_str().expect("an id")), "{problems}");
}

#[test]
fn a_store_is_made_by_who_needs_it_and_refused_where_it_is_newer() {
    let Some(server) = PostgresServer::start(&[]) else { return };
    let workspace = workspace(&server, 1);
    assert!(workspace.runs().is_empty());
    assert_exit(&workspace.run(&["store", "check"]), 2);
    assert_eq!(server.sql("SELECT to_regnamespace('tribunal') IS NULL"), "t", "looking makes none");
    for _ in 0..2 {
        assert_exit(&workspace.run(&["store", "init"]), 0);
    }
    assert_exit(&workspace.run(&["store", "check"]), 0);
    server.sql("UPDATE tribunal.store_meta SET version = 99, works_with = 99");
    for args in [&["status"][..], &["store", "init"], &["work", "--until-empty"]] {
        let refused = workspace.run(args);
        assert_exit(&refused, 2);
        assert!(String::from_utf8_lossy(&refused.stderr).contains("99"), "{}", describe(&refused));
    }
}

#[test]
fn a_password_opens_the_store_and_is_shown_nowhere() {
    let Some(server) = PostgresServer::start(&[]) else { return };
    server.require_password();
    let workspace = workspace(&server, 1);
    let refused = with_password(&workspace, "another", &["store", "init"]);
    assert_exit(&refused, 2);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("PGPASSWORD") && !said.contains("another"), "{said}");

    let sim = SimProcess::start(&[]);
    let mut grade = workspace.grade(&sim.base_url, &[]);
    grade.env("PGPASSWORD", PASSWORD).env("RUST_LOG", "trace");
    let output = Running::start(grade).finish();
    assert_exit(&output, 0);
    assert_silent(&output);

    // In a file, and in the URL itself.
    let line = format!("127.0.0.1:{}:*:tribunal:{PASSWORD}\n", server.port());
    workspace.write("pgpass", &line);
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(workspace.file("pgpass"), private).expect("a file of ours");
    let mut status = workspace.command(&["status", "--json"]);
    status.env("PGPASSFILE", workspace.file("pgpass"));
    let output = Running::start(status).finish();
    assert_exit(&output, 0);
    assert_silent(&output);
    let url = server.url().replace("tribunal@", &format!("tribunal:{PASSWORD}@"));
    workspace
        .write("tribunal.toml", &format!("[store]\nurl = \"{url}\"\n[log]\nlevel = \"trace\"\n"));
    for args in
        [&["store", "check"][..], &["status"], &["config", "show"], &["config", "show", "--json"]]
    {
        let output = workspace.run(args);
        assert_exit(&output, 0);
        assert_silent(&output);
    }
    for file in ["out/run.json", "out/grader_output.json", "out/report.html"] {
        assert!(!workspace.read(file).contains(PASSWORD), "{file}");
    }
}
