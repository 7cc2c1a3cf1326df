//! Claims and verdicts a second of both engines beside pgbench on the same server, and a small run
//! behind a large one: `make bench`.
//!
//! Owns what is measured and the tables that say it. Disks are real: both engines wait for theirs.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints what it measured"
)]

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime::Builder, task::JoinSet};
use tribunal_core::{
    Attempt, BlobHash, CallKind, Category, ContentKey, LeafTask, Outcome, RunId, Usage, Verdict,
    VerdictSource, WorkerId,
};
use tribunal_store::{
    Claim, Completion, NewRun, PostgresOptions, PostgresStore, SqliteStore, Store, SystemClock,
};

#[expect(dead_code, unreachable_pub, reason = "the file serves test suites too")]
#[path = "../../../tests/src/postgres.rs"]
mod server;

use server::PostgresServer;

/// Where the tables are written, from the root of the repository.
const FILE: &str = "tribunal-out/bench-store.md";

/// Logical workers that share a store, and clients of pgbench.
const WORKERS: u32 = 64;

/// Leaves for each of them.
const EACH: u32 = 300;

/// Tasks claimed at once, and verdicts stored at once.
const BATCHES: [usize; 2] = [1, 32];

const TTL: Duration = Duration::from_secs(60);

/// The run that comes late, and the one that is there.
const SMALL: u32 = 100;
const LARGE: u32 = 100_000;

/// Leaves in work at once, and how long a call takes, while the small run waits for its share.
const PLACES: usize = 16;
const CALL: Duration = Duration::from_millis(100);

/// What it may take beside its time alone.
const MOST: f64 = 2.5;

/// A claim and a verdict as plain SQL: two transactions, the first one not waited for.
const SCRIPT: &str = "BEGIN; SET LOCAL synchronous_commit = off;
UPDATE queue SET state = 2 WHERE id = (SELECT id FROM queue WHERE state = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id \\gset
COMMIT;
BEGIN;
UPDATE queue SET state = 3 WHERE id = :id AND state = 2;
INSERT INTO done VALUES (:id, 1, repeat('x', 400));
INSERT INTO called VALUES (:id, 'judge', 200, 1000, 50);
COMMIT;
";

/// Seconds that each call took, and all of them together.
struct Measured {
    what: String,
    leaves: u32,
    wall: f64,
    calls: Vec<f64>,
}

fn main() {
    let Some(server) = PostgresServer::start(&["fsync=on"]) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let fair = runtime.block_on(fairness(&server, folder.path()));
    let text = format!("{}\n{fair}", runtime.block_on(throughput(&server, folder.path())));
    println!("{text}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(FILE);
    let written = path.parent().map_or(Ok(()), fs::create_dir_all);
    written.and_then(|()| fs::write(&path, text)).expect("the tables can be written");
    eprintln!("written to {FILE}");
}

async fn throughput(server: &PostgresServer, folder: &Path) -> String {
    let mut measured = Vec::new();
    for batch in BATCHES {
        for (name, store) in engines(server, folder, &format!("by{batch}")).await {
            eprintln!("measuring {name} by {batch} …");
            measured.extend(drive(name, &store, batch).await);
            store.close().await.expect("close");
        }
    }
    eprintln!("measuring pgbench …");
    server.sql(
        "CREATE TABLE queue (id BIGINT PRIMARY KEY, state SMALLINT NOT NULL DEFAULT 0) \
        WITH (fillfactor = 70); CREATE INDEX ON queue (id) WHERE state = 0; \
        CREATE TABLE done (id BIGINT PRIMARY KEY, score FLOAT8 NOT NULL, record TEXT NOT NULL); \
        CREATE TABLE called (id BIGINT NOT NULL, kind TEXT, status INT, input INT, output INT); \
        CREATE INDEX ON called (id)",
    );
    server.sql(&format!("INSERT INTO queue SELECT * FROM generate_series(1, {})", WORKERS * EACH));
    server.sql("VACUUM ANALYZE queue");
    fs::write(folder.join("script.sql"), SCRIPT).expect("a temporary file");
    let scale = WORKERS.to_string();
    pgbench(server, folder, &["-i", "-q", "-s", &scale]);
    let like = clients(server, folder, "pgbench, claim and verdict", &["-n", "-f", "script.sql"]);
    let own = clients(server, folder, "pgbench, its default script", &[]);
    let reference = like.rate();
    measured.extend([like, own]);
    let mut text = format!(
        "| {WORKERS} at once | leaves/s | p50 ms | p99 ms | p99.9 ms | of pgbench's claims and verdicts |\n\
         | --- | --- | --- | --- | --- | --- |\n"
    );
    for one in &measured {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| one.percentile(share) * 1e3);
        let (what, rate, ratio) = (&one.what, one.rate(), one.rate() / reference);
        let line =
            writeln!(text, "| {what} | {rate:.0} | {p50:.1} | {p99:.1} | {p999:.1} | {ratio:.2} |");
        line.expect("a text can be written to");
    }
    text
}

/// A new store of each engine.
async fn engines(
    server: &PostgresServer,
    folder: &Path,
    name: &str,
) -> [(&'static str, Arc<dyn Store>); 2] {
    let file = folder.join(format!("{name}.db"));
    let sqlite = SqliteStore::open(&file, Arc::new(SystemClock)).await.expect("a store");
    let url = format!("{}?schema={name}", server.url());
    let postgres = PostgresStore::open(&url, PostgresOptions::default()).await.expect("a store");
    [("SQLite", Arc::new(sqlite)), ("PostgreSQL", Arc::new(postgres))]
}

/// All workers claim and complete until nothing is left: claims and verdicts apart.
async fn drive(name: &str, store: &Arc<dyn Store>, batch: usize) -> [Measured; 2] {
    let leaves = WORKERS * EACH;
    submit(store, 1, leaves).await;
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (store, worker) = (Arc::clone(store), WorkerId::from_bytes(rand::random()));
        workers.spawn(async move {
            let (mut claimed, mut completed) = (Vec::new(), Vec::new());
            loop {
                let asked = Instant::now();
                let claims = store.claim(worker, batch, TTL, None).await.expect("claim");
                if claims.is_empty() {
                    return (claimed, completed);
                }
                claimed.push(asked.elapsed().as_secs_f64());
                let completions = claims.iter().map(completion).collect();
                let asked = Instant::now();
                store.complete(completions).await.expect("complete");
                completed.push(asked.elapsed().as_secs_f64());
            }
        });
    }
    let (mut claims, mut verdicts) = (Vec::new(), Vec::new());
    for (claimed, completed) in workers.join_all().await {
        claims.extend(claimed);
        verdicts.extend(completed);
    }
    let wall = begun.elapsed().as_secs_f64();
    let progress = store.progress(&run_id(1)).await.expect("progress");
    assert_eq!(progress.done, u64::from(leaves), "every leaf has its verdict");
    [("claims", claims), ("verdicts", verdicts)].map(|(what, calls)| {
        Measured::new(format!("{name}, {what} by {batch}"), leaves, wall, calls)
    })
}

/// What so many clients of pgbench measured of a script.
fn clients(server: &PostgresServer, folder: &Path, what: &str, script: &[&str]) -> Measured {
    let (clients, each) = (WORKERS.to_string(), EACH.to_string());
    let begun = Instant::now();
    let common = ["-c", &clients, "-j", "2", "-t", &each, "-l", "--log-prefix=timed"];
    pgbench(server, folder, &[&common[..], script].concat());
    let wall = begun.elapsed().as_secs_f64();
    let mut calls = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.file_name().to_string_lossy().starts_with("timed.") {
            let log = fs::read_to_string(entry.path()).expect("a log");
            let micros = log.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok());
            calls.extend(micros.map(|micros| micros / 1e6));
            fs::remove_file(entry.path()).expect("a temporary file");
        }
    }
    assert_eq!(calls.len() as u32, WORKERS * EACH, "{what}: every transaction is logged");
    Measured::new(what.to_owned(), WORKERS * EACH, wall, calls)
}

fn pgbench(server: &PostgresServer, folder: &Path, arguments: &[&str]) {
    let out =
        Command::new("pgbench").args(arguments).arg(server.url()).current_dir(folder).output();
    let out = out.expect("pgbench is installed with PostgreSQL's server");
    assert!(out.status.success(), "pgbench: {}", String::from_utf8_lossy(&out.stderr));
}

/// The small run's time alone, and behind the large one.
async fn fairness(server: &PostgresServer, folder: &Path) -> String {
    let mut text = format!(
        "| {SMALL} leaves, {PLACES} in work, calls of {} ms | alone | behind {LARGE} | times |\n\
         | --- | --- | --- | --- |\n",
        CALL.as_millis()
    );
    for (name, store) in engines(server, folder, "fair").await {
        eprintln!("measuring {SMALL} leaves behind {LARGE} in {name} …");
        let workers = work(&store);
        let alone = until_done(&store, 2).await;
        submit(&store, 1, LARGE).await;
        let settled = Instant::now() + 20 * CALL;
        tokio::time::sleep_until(settled.into()).await;
        let behind = until_done(&store, 3).await;
        let times = behind / alone;
        writeln!(text, "| {name} | {alone:.2} s | {behind:.2} s | {times:.2} |")
            .expect("a text can be written to");
        drop(workers);
        assert!(times <= MOST, "{name}: {times} times its own time");
    }
    text
}

/// Workers with as many places as there are, until they are dropped.
fn work(store: &Arc<dyn Store>) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    for _ in 0..PLACES {
        let (store, worker) = (Arc::clone(store), WorkerId::from_bytes(rand::random()));
        workers.spawn(async move {
            loop {
                let claims = store.claim(worker, 1, TTL, None).await.expect("claim");
                tokio::time::sleep(if claims.is_empty() { CALL / 10 } else { CALL }).await;
                store.complete(claims.iter().map(completion).collect()).await.expect("complete");
            }
        });
    }
    workers
}

/// Submits a small run; seconds until it is done.
async fn until_done(store: &Arc<dyn Store>, number: u8) -> f64 {
    let begun = Instant::now();
    submit(store, number, SMALL).await;
    while store.progress(&run_id(number)).await.expect("progress").done < u64::from(SMALL) {
        tokio::time::sleep(CALL / 20).await;
    }
    begun.elapsed().as_secs_f64()
}

async fn submit(store: &Arc<dyn Store>, number: u8, leaves: u32) {
    let run = NewRun {
        id: run_id(number),
        inputs: BlobHash::of(&[number]),
        generation: 0,
        spec: BlobHash::of(b"spec"),
        judge: "judge".to_owned(),
        model: "model".to_owned(),
        simulated: true,
        reuse: true,
    };
    store.create_run(run).await.expect("a run");
    let tasks: Vec<LeafTask> = (0..leaves).map(|position| task(number, position)).collect();
    for tasks in tasks.chunks(1_000) {
        store.enqueue(&run_id(number), tasks.to_vec()).await.expect("enqueue");
    }
}

fn run_id(number: u8) -> RunId {
    RunId::from_hash(BlobHash::of(&[number]))
}

fn task(run: u8, position: u32) -> LeafTask {
    LeafTask {
        position,
        sample: 0,
        id: format!("leaf-{position}"),
        category: Category::ALL[position as usize % Category::ALL.len()],
        content_key: ContentKey::from_bytes(
            *BlobHash::of(format!("{run} {position}").as_bytes()).as_bytes(),
        ),
        order: position,
        estimated_tokens: 1_000,
        rule: None,
    }
}

/// A verdict of the usual size.
fn completion(claim: &Claim) -> Completion {
    let task = &claim.task;
    Completion {
        run: claim.run.clone(),
        lease: claim.lease,
        verdict: Arc::new(Verdict {
            position: task.position,
            sample: task.sample,
            id: task.id.clone(),
            outcome: Outcome::Graded { score: 1.0 },
            source: VerdictSource::Judge,
            rationale: Default::default(),
            content_key: task.content_key,
            model: "model".to_owned(),
            simulated: true,
            reply: Some(
                format!("Leaf {}: the file defines it as the paper says. ", task.id).repeat(8),
            ),
            shown: Default::default(),
            suspected_injection: Vec::new(),
            graded_ms: 0,
        }),
        attempts: Arc::from([Attempt {
            kind: CallKind::Judge,
            via: Default::default(),
            class: None,
            status: Some(200),
            error: String::new(),
            request_id: Some("request".to_owned()),
            started_ms: 0,
            waited_ms: 3,
            latency_ms: 1_200,
            usage: Usage { input: 1_000, cached: 800, output: 50 },
            endpoint: "https://judge/v1".to_owned(),
            cost_usd: None,
            possible: None,
        }]),
    }
}

// === impl Measured ===

impl Measured {
    fn new(what: String, leaves: u32, wall: f64, mut calls: Vec<f64>) -> Self {
        calls.sort_by(f64::total_cmp);
        Self { what, leaves, wall, calls }
    }

    /// The seconds within which this share of the calls was answered.
    fn percentile(&self, share: f64) -> f64 {
        let rank = (self.calls.len() as f64 * share).ceil() as usize;
        self.calls[rank.max(1) - 1]
    }

    /// Leaves a second.
    fn rate(&self) -> f64 {
        f64::from(self.leaves) / self.wall
    }
}
