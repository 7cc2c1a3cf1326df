//! A server, a judge, a submitted run, and what must hold of them after every fault.
//!
//! Owns the invariants, and the row that a fault has in the table of `docs/reliability.md`.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fs,
};

use tribunal_e2e::{
    Log, PATIENCE, PostgresServer, Running, SimProcess, Workspace, assert_exit, number, repository,
    wait_until,
};

pub(crate) const LEAVES: u64 = 120;
pub(crate) const WORKERS: usize = 3;
pub(crate) const CONCURRENCY: u64 = 4;

/// Leases of a scene in which nobody is to wait for one to end.
pub(crate) const LONG_LEASE_S: u64 = 600;

/// Leases of a scene in which they do end.
pub(crate) const SHORT_LEASE_S: u64 = 4;

/// Where the table begins, and where it ends.
const TABLE: [&str; 2] = ["<!-- faults -->\n", "<!-- end of faults -->\n"];

/// Who answers.
pub(crate) enum Judge {
    Sim,
    /// Another one, at this URL, whose verdicts are not compared.
    At(String),
}

/// A server, a judge and a submitted run. It may be set again, for another run on the same server.
pub(crate) struct Scene {
    // Before the server, so that nobody asks it when it ends.
    pub(crate) workspace: Workspace,
    pub(crate) sim: SimProcess,
    pub(crate) server: PostgresServer,
    judge: Judge,
    lease_s: u64,
    /// Scenes set on this server so far: each has a store of its own.
    set: Cell<u64>,
    again: Cell<u64>,
    lost: Cell<i64>,
    doubled: Cell<i64>,
    /// What the workers of this run have said.
    logs: RefCell<Vec<Log>>,
}

// === impl Scene ===

impl Scene {
    /// A scene on a server of its own; `None`, said aloud, without PostgreSQL.
    pub(crate) fn new(lease_s: u64) -> Option<Scene> {
        let server = PostgresServer::start(&["fsync=on"])?;
        Some(Scene::on(server, Judge::Sim, lease_s))
    }

    /// A scene on this server.
    pub(crate) fn on(server: PostgresServer, judge: Judge, lease_s: u64) -> Scene {
        let sim = SimProcess::start(&["--latency-ms", "40", "--latency-sigma", "0.5"]);
        let scene = Scene {
            workspace: Workspace::generated(LEAVES as usize),
            sim,
            server,
            judge,
            lease_s,
            set: Cell::new(0),
            again: Cell::new(0),
            lost: Cell::new(0),
            doubled: Cell::new(0),
            logs: RefCell::default(),
        };
        scene.set();
        scene
    }

    /// Submits the same run into a new store of the same server.
    pub(crate) fn set(&self) {
        self.set.set(self.set.get() + 1);
        let store = format!("[store]\nurl = \"{}\"\n", self.url(self.server.port()));
        let worker = format!("[worker]\nlease_s = {}\nheartbeat_s = 1\n", self.lease_s);
        // Workers say which verdicts the store has acknowledged.
        let log = "[log]\nlevel = \"debug\"\nformat = \"json\"\n";
        self.workspace.write("tribunal.toml", &format!("{store}{worker}{log}"));
        let submit = ["submit", "--rubric", "rubric.json", "--submission", "submission"];
        let base_url = match &self.judge {
            Judge::Sim => &self.sim.base_url,
            Judge::At(url) => url,
        };
        let judge = ["--base-url", base_url, "--model", "tribunal-sim"];
        assert_exit(&self.workspace.run(&[&submit[..], &judge[..]].concat()), 0);
    }

    fn schema(&self) -> String {
        format!("scene_{}", self.set.get())
    }

    fn url(&self, port: u16) -> String {
        let own = self.server.url();
        let url = own.replace(&format!(":{}/", self.server.port()), &format!(":{port}/"));
        format!("{url}?schema={}", self.schema())
    }

    /// Runs SQL in the scene's store.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.server.sql(&format!("SET search_path = {}; {sql}", self.schema()))
    }

    /// As [`Scene::sql`], where it may fail.
    pub(crate) fn try_sql(&self, sql: &str) -> Result<String, String> {
        self.server.try_sql(&format!("SET search_path = {}; {sql}", self.schema()))
    }

    /// As [`Scene::sql`], at a moment when nobody claims; the last line of what it prints.
    pub(crate) fn unclaimed(&self, sql: &str) -> String {
        let alone = "SELECT pg_advisory_xact_lock('runs'::regclass::oid::int, 1)";
        let said = self.sql(&format!("BEGIN; {alone}; {sql}; COMMIT"));
        said.lines().last().unwrap_or_default().to_owned()
    }

    /// A worker's command.
    pub(crate) fn work(&self) -> std::process::Command {
        let concurrency = CONCURRENCY.to_string();
        let args = ["work", "--until-empty", "--quiet", "--concurrency", &concurrency];
        self.workspace.command(&args)
    }

    pub(crate) fn worker(&self) -> Running {
        self.start(self.work())
    }

    /// Starts a worker's command, and keeps what it says.
    pub(crate) fn start(&self, work: std::process::Command) -> Running {
        let worker = Running::start(work);
        self.logs.borrow_mut().push(worker.log());
        worker
    }

    pub(crate) fn workers(&self, count: usize) -> Vec<Running> {
        (0..count).map(|_| self.worker()).collect()
    }

    /// A command that reaches the store by another port.
    pub(crate) fn by(&self, port: u16, mut command: std::process::Command) -> Running {
        command.args(["--store", &self.url(port)]);
        self.start(command)
    }

    pub(crate) fn done(&self) -> u64 {
        number(&self.workspace.status(), "/done")
    }

    /// Waits until the judge was asked so many times more, or there is nobody left to ask it.
    pub(crate) fn asked(&self, more: u64, running: &mut [Running]) {
        let before = self.sim.requests();
        wait_until("the judge is asked", || {
            self.sim.requests() >= before + more || running.iter_mut().all(Running::has_ended)
        });
    }

    /// Has the fault come, once or as often as is asked for, each time to another run, and checks what must
    /// hold. `once` says how often it came.
    pub(crate) fn repeat(mut self, fault: &str, mut once: impl FnMut(&mut Scene) -> u64) {
        let mut came = 0;
        for time in 0..times() {
            if time > 0 {
                self.set();
            }
            came += once(&mut self);
            self.check(fault, 0);
        }
        self.row(fault, came);
    }

    /// What holds after every fault: each task has its one verdict or is one of the `dead`, nothing is
    /// left over, no cap was passed, and what is stored can be read.
    #[track_caller]
    pub(crate) fn check(&self, fault: &str, dead: u64) {
        let status = self.workspace.status();
        let left = [("done", LEAVES - dead), ("pending", 0), ("leased", 0), ("dead", dead)];
        for (name, count) in left {
            assert_eq!(number(&status, &format!("/{name}")), count, "{fault}: {status:#}");
        }
        let count = |sql: &str| -> i64 { self.sql(sql).parse().expect("a count") };
        let verdicts = count("SELECT count(DISTINCT (run, position, sample)) FROM verdicts");
        let all = count("SELECT count(*) FROM verdicts");
        let (lost, doubled) = ((LEAVES - dead).cast_signed() - verdicts, all - verdicts);
        assert_eq!((lost, doubled), (0, 0), "{fault}: verdicts lost, verdicts doubled");
        let apart = "SELECT count(*) FROM tasks t FULL JOIN verdicts v \
                     USING (run, position, sample) \
                     WHERE t.run IS NULL OR (v.run IS NULL) <> (t.state = 4) \
                         OR t.state NOT IN (3, 4)";
        assert_eq!(self.sql(apart), "0", "{fault}: tasks and verdicts agree");
        let beyond = "SELECT count(*) FROM tasks \
                      WHERE failures > 6 OR ended_leases > 3 OR dead_workers > 10";
        assert_eq!(self.sql(beyond), "0", "{fault}: the caps hold");
        self.check_acknowledged(fault);
        assert_exit(&self.workspace.run(&["store", "check"]), 0);
        self.lost.set(self.lost.get() + lost);
        self.doubled.set(self.doubled.get() + doubled);
        if matches!(self.judge, Judge::Sim) {
            self.check_results(fault, &status["run"]);
        }
    }

    /// Every verdict that a worker was told is stored is stored, whatever became of the worker.
    #[track_caller]
    fn check_acknowledged(&self, fault: &str) {
        let field = |line: &serde_json::Value, name: &str| line["fields"][name].to_string();
        let acknowledged: BTreeSet<String> = self
            .logs
            .take()
            .iter()
            .flat_map(|log| log.lines())
            // One that was killed may have been within a line.
            .filter_map(|line| serde_json::from_str(&line).ok())
            .filter(|line: &serde_json::Value| line["fields"]["message"] == "verdict acknowledged")
            .map(|line| format!("{} {}", field(&line, "position"), field(&line, "sample")))
            .collect();
        assert!(!acknowledged.is_empty(), "{fault}: no worker said anything");
        let stored = self.sql("SELECT position || ' ' || sample FROM verdicts");
        let stored: BTreeSet<String> = stored.lines().map(str::to_owned).collect();
        let gone: Vec<&String> = acknowledged.difference(&stored).collect();
        assert!(gone.is_empty(), "{fault}: acknowledged and not stored: {gone:?}");
    }

    /// The results are those of an undisturbed run on another engine, to the byte.
    #[track_caller]
    fn check_results(&self, fault: &str, run: &serde_json::Value) {
        let again = self.sim.settled_requests() - self.counted();
        assert!(again >= LEAVES, "{fault}: verdicts without a call");
        self.again.set(self.again.get() + again - LEAVES);
        let run = run.as_str().expect("an id");
        assert_exit(&self.workspace.run(&["collect", run, "--out", "out", "--quiet"]), 0);
        if !self.workspace.file("undisturbed/scored_tree.json").exists() {
            let args = ["--quiet", "--store", "sqlite:undisturbed.db", "--out", "undisturbed"];
            let mut grade = self.workspace.command(&["grade", "--rubric", "rubric.json"]);
            grade.args(["--submission", "submission", "--model", "tribunal-sim"]);
            grade.args(["--base-url", &self.sim.base_url]).args(args);
            assert_exit(&Running::start(grade).finish(), 0);
        }
        for file in ["scored_tree.json", "leaves.csv"] {
            let whole = self.workspace.read(&format!("undisturbed/{file}"));
            let same = self.workspace.read(&format!("out/{file}")) == whole;
            assert!(same, "{fault}: {file} differs");
        }
        self.workspace.write("counted", &self.sim.requests().to_string());
    }

    /// Calls that were made before this run.
    fn counted(&self) -> u64 {
        let file = self.workspace.file("counted");
        fs::read_to_string(file).map_or(0, |count| count.parse().expect("a count"))
    }

    /// The fault's row: how often it came, and what it cost over all its runs.
    #[expect(clippy::print_stdout, reason = "`make chaos` shows the rows as they come")]
    pub(crate) fn row(&self, fault: &str, times: u64) {
        let (runs, again) = (self::times(), self.again.get());
        let (lost, doubled) = (self.lost.get(), self.doubled.get());
        let again = match self.judge {
            Judge::Sim => again.to_string(),
            Judge::At(_) => "–".to_owned(),
        };
        let row = format!("| {fault} | {times} | {runs} | {again} | {lost} | {doubled} |\n");
        println!("{}", row.trim_end());
        if std::env::var_os("TRIBUNAL_CHAOS").is_some() {
            write_row(fault, &row);
        }
    }
}

/// How often each fault comes: once, or `TRIBUNAL_CHAOS` times.
pub(crate) fn times() -> u64 {
    std::env::var("TRIBUNAL_CHAOS").map_or(1, |times| times.parse().expect("a number"))
}

/// Ends of workers that had nothing left to do.
#[track_caller]
pub(crate) fn finish(workers: Vec<Running>) {
    for worker in workers {
        assert_exit(&worker.finish(), 0);
    }
}

/// Waits for what takes longer than others' patience, such as leases that end one after the other.
pub(crate) fn wait_long(what: &str, mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < 3 * PATIENCE, "waited in vain until {what}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Puts the row into the table, in the place of the one that it had.
fn write_row(fault: &str, row: &str) {
    let path = repository("docs/reliability.md");
    let text = fs::read_to_string(&path).expect("docs/reliability.md");
    let (head, rest) = text.split_once(TABLE[0]).expect("the table begins");
    let (table, tail) = rest.split_once(TABLE[1]).expect("the table ends");
    let own = format!("| {fault} |");
    let mut rows: Vec<&str> = table.split_inclusive('\n').collect();
    match rows.iter().position(|row| row.starts_with(&own)) {
        Some(at) => rows[at] = row,
        None => rows.push(row),
    }
    let table = rows.concat();
    fs::write(&path, [head, TABLE[0], &table, TABLE[1], tail].concat()).expect("it is written");
}
