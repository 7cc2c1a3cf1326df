//! What is special to the SQLite engine: its file, its processes, its disk.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking and skip aloud")]

use std::{fs, path::Path, sync::Arc, time::Duration};

use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use tribunal_core::{
    Attempt, BlobHash, CallKind, Category, ContentKey, LeafTask, Outcome, RunId, Usage, Verdict,
    VerdictSource, WorkerId,
};
use tribunal_store::{
    Claim, CompleteOutcome, Completion, ManualClock, NewRun, SqliteStore, Store, StoreError,
};

#[path = "sqlite/file.rs"]
mod file;
#[path = "sqlite/process.rs"]
mod process;
#[path = "sqlite/prune.rs"]
mod prune;

const TTL: Duration = Duration::from_secs(60);

fn run_id() -> RunId {
    RunId::from_hash(BlobHash::of(b"run"))
}

fn worker(number: u8) -> WorkerId {
    WorkerId::from_bytes([number; 16])
}

fn task(position: u32) -> LeafTask {
    LeafTask {
        position,
        sample: 0,
        id: format!("leaf-{position}"),
        category: Category::CodeDevelopment,
        content_key: ContentKey::from_bytes(*BlobHash::of(&position.to_le_bytes()).as_bytes()),
        order: position,
        estimated_tokens: 1_000,
        rule: None,
    }
}

fn completion(claim: &Claim, reply: usize) -> Completion {
    Completion {
        run: claim.run.clone(),
        lease: claim.lease,
        verdict: Arc::new(Verdict {
            position: claim.task.position,
            sample: claim.task.sample,
            id: claim.task.id.clone(),
            outcome: Outcome::Graded { score: 1.0 },
            source: VerdictSource::Judge,
            rationale: Default::default(),
            content_key: claim.task.content_key,
            model: "model".to_owned(),
            simulated: true,
            reply: Some(noise(reply)),
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
            request_id: None,
            started_ms: 0,
            waited_ms: 0,
            latency_ms: 1_000,
            usage: Usage::default(),
            endpoint: String::new(),
            cost_usd: None,
            possible: None,
        }]),
    }
}

/// Text that does not compress well.
fn noise(bytes: usize) -> String {
    let blocks = (0_u64..).map(|at| BlobHash::of(&at.to_le_bytes()).to_string());
    let mut text: String = blocks.take(bytes / 64 + 1).collect();
    text.truncate(bytes);
    text
}

fn path(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("store.db")
}

async fn open(path: &Path, clock: &ManualClock) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, Arc::new(clock.clone())).await
}

async fn open_new(path: &Path, tasks: u32) -> SqliteStore {
    let store = open(path, &ManualClock::at(1_000)).await.unwrap();
    add_run(&store, tasks).await;
    store
}

fn new_run() -> NewRun {
    NewRun {
        id: run_id(),
        inputs: BlobHash::of(b"inputs"),
        generation: 0,
        spec: BlobHash::of(b"spec"),
        judge: "judge".to_owned(),
        model: "model".to_owned(),
        simulated: true,
        reuse: true,
    }
}

async fn add_run(store: &SqliteStore, tasks: u32) {
    store.create_run(new_run()).await.unwrap();
    store.enqueue(&run_id(), (0..tasks).map(task).collect()).await.unwrap();
}

async fn sql(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

/// Everything in a folder, by name.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    // The folders on the way are made.
    let path = folder.path().join("deep/er/store.db");
    let store = open_new(&path, 3).await;
    let hashes = store.put_blobs(vec![b"paper".to_vec()]).await.unwrap();
    let claims = store.claim(worker(1), 2, TTL, None).await.unwrap();
    store.complete(vec![completion(&claims[0], 10)]).await.unwrap();
    let progress = store.progress(&run_id()).await.unwrap();
    // Without closing, as after a kill.
    drop(store);

    let store = open(&path, &ManualClock::at(2_000)).await.unwrap();
    assert_eq!(store.progress(&run_id()).await.unwrap(), progress);
    assert_eq!(&store.blob(hashes[0]).await.unwrap()[..], b"paper");
    let again = store.complete(vec![completion(&claims[0], 10)]).await.unwrap();
    assert_eq!(again, [CompleteOutcome::Duplicate]);
    let late = store.complete(vec![completion(&claims[1], 10)]).await.unwrap();
    assert_eq!(late, [CompleteOutcome::Stored], "the lease outlives the store's process");
    store.close().await.unwrap();
    let left = names(&folder.path().join("deep/er"));
    assert_eq!(left, ["store.db", "store.db.ballast", "store.db.workers"]);
    let closed = store.claim(worker(1), 1, TTL, None).await.unwrap_err();
    assert!(closed.to_string().contains("closed"), "{closed}");
}

#[tokio::test]
async fn token_counts_stay_until_their_text_is_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let store = open_new(&path, 0).await;
    let texts = store.put_blobs(vec![b"paper".to_vec()]).await.unwrap();
    let texts = [texts[0], BlobHash::of(b"nobody's")];
    assert_eq!(store.token_counts("o200k_base", &texts).await.unwrap(), [None, None]);
    store.put_token_counts("o200k_base", vec![(texts[0], 7)]).await.unwrap();
    store.put_token_counts("o200k_base", vec![(texts[0], 8)]).await.unwrap();
    add_run(&store, 0).await;
    drop(store);

    let store = open(&path, &ManualClock::at(2_000)).await.unwrap();
    assert_eq!(store.token_counts("o200k_base", &texts).await.unwrap(), [Some(7), None]);
    assert_eq!(store.token_counts("cl100k_base", &texts).await.unwrap(), [None, None]);
    store.prune(&run_id()).await.unwrap();
    assert_eq!(store.token_counts("o200k_base", &texts).await.unwrap(), [None, None]);
}

#[tokio::test]
async fn a_url_opens_a_store() {
    let folder = tempfile::tempdir().unwrap();
    // Whatever is special in a URL is not in a path.
    let path = folder.path().join("a?mode=ro&b#c%20d.db");
    for url in ["sqlite:", "sqlite://"] {
        let store = tribunal_store::open(&format!("{url}{}", path.display())).await.unwrap();
        assert!(store.runs().await.unwrap().is_empty());
        store.close().await.unwrap();
    }
    assert!(path.exists());
    let error = tribunal_store::open("mysql://me:s3cret@host/db").await.err().unwrap();
    assert!(matches!(error, StoreError::Url { .. }));
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

#[tokio::test]
async fn statements_find_tasks_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    open_new(&path, 10).await.close().await.unwrap();
    let mut conn = sql(&path).await;
    let update = "EXPLAIN QUERY PLAN WITH j (run, position, sample, lease) AS (VALUES (1, 2, 3, 4)) \
         UPDATE tasks SET state = 0 FROM j WHERE tasks.run = j.run AND tasks.position = j.position \
         AND tasks.sample = j.sample AND tasks.lease = j.lease \
         AND +tasks.state = 2 AND +tasks.lease_end > 0";
    let rows: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(update).fetch_all(&mut conn).await.unwrap();
    let plan: Vec<String> = rows.into_iter().map(|row| row.3).collect();
    assert!(plan.iter().any(|step| step.starts_with("SEARCH tasks USING PRIMARY KEY")), "{plan:?}");
}

/// Not a test of anything: prints what this machine does, with one run, and with a second one that
/// takes verdicts over from it.
/// `cargo nextest run -p tribunal-store --run-ignored only --no-capture throughput`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput() {
    const TASKS: u32 = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let begun = std::time::Instant::now();
    let store = Arc::new(open_new(&path, TASKS).await);
    eprintln!("enqueue {TASKS}: {:?}", begun.elapsed());
    eprintln!("{}", work(&store, &run_id(), "one run").await);
    let other = NewRun { id: RunId::from_hash(BlobHash::of(b"other")), ..new_run() };
    store.create_run(other.clone()).await.unwrap();
    store.enqueue(&other.id, (0..TASKS).map(task).collect()).await.unwrap();
    eprintln!("{}", work(&store, &run_id(), "two runs, the first one's").await);
    eprintln!("{}", work(&store, &other.id, "two runs, verdicts taken over").await);
    let begun = std::time::Instant::now();
    store.progress(&run_id()).await.unwrap();
    eprintln!("progress over {TASKS}: {:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    store.outcomes(&run_id(), None, usize::MAX).await.unwrap();
    eprintln!("outcomes over {TASKS}: {:?}", begun.elapsed());
}

/// What 64 workers do that claim and complete a task at a time of a run.
async fn work(store: &Arc<SqliteStore>, run: &RunId, what: &str) -> String {
    const CLAIMED: u32 = 20_000;
    let begun = std::time::Instant::now();
    let cpu = cpu_time();
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..64 {
        let (store, run) = (store.clone(), run.clone());
        workers.spawn(async move {
            for _ in 0..CLAIMED / 64 {
                let claims = store.claim(worker(number), 1, TTL, Some(&run)).await.unwrap();
                let stored = store.complete(vec![completion(&claims[0], 1_500)]).await.unwrap();
                assert_eq!(stored, [CompleteOutcome::Stored]);
            }
        });
    }
    workers.join_all().await;
    let (wall, cpu) = (begun.elapsed(), cpu_time() - cpu);
    format!(
        "claim + complete, 64 workers, batch 1, {what}: {:.0}/s, {:.3} ms of CPU each",
        f64::from(CLAIMED) / wall.as_secs_f64(),
        cpu * 1_000.0 / f64::from(CLAIMED)
    )
}

/// Seconds of CPU that this process has used; 0 where the kernel does not tell.
fn cpu_time() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
