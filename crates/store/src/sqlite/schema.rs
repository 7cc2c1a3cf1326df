//! The tables of an SQLite store.
//!
//! Owns the format: its version, its statements, the numbers that stand for a task's state.
//! Changing anything here means a new version and a step from the old one.

/// `PRAGMA application_id` of every store: `TRBN`.
pub(super) const APPLICATION_ID: i64 = 0x5452_424e;

/// `PRAGMA user_version`: the format of the tables, which is the number of steps to it.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// What leads from each version to the next, from an empty file on. A new store goes through all
/// of them, so that it never differs from one that was upgraded. A step that was published never
/// changes.
pub(super) const STEPS: [&str; 10] =
    [TABLES, SHARES, MONEY, LABELS, CALLS, BATCHES, FLEET, CAPS, WAITS, PRIORITIES];

/// Lets what is removed be given back in steps; takes hold in a file without tables, or when it
/// is rewritten.
pub(super) const GIVE_BACK: &str = "PRAGMA auto_vacuum = INCREMENTAL";

/// May be claimed now.
pub(super) const READY: i64 = 0;
/// May be claimed from `run_at` on.
pub(super) const WAITING: i64 = 1;
/// The `run_at` of a task that waits for a batch's reply.
pub(super) const POSTED: i64 = i64::MAX;
/// Held under a lease.
pub(super) const LEASED: i64 = 2;
/// Has a verdict.
pub(super) const DONE: i64 = 3;
/// Given up.
pub(super) const DEAD: i64 = 4;
/// Of a cancelled run.
pub(super) const CANCELLED: i64 = 5;

/// The keys of `store_meta`: the virtual time that a run starts from when it becomes ready.
pub(super) const VIRTUAL_TIME: &str = "virtual_time";
/// 32 random bytes, made with the store and never changed.
pub(super) const STORE_KEY: &str = "store_key";
/// The greatest number that a run has had.
pub(super) const LAST_SEQ: &str = "last_seq";

/// Version 1: everything.
///
/// - `runs.seq` stands for the run in all other tables: 1 byte instead of 16 in every key.
/// - `tasks.turn` is how often the task was lost in a row: claims go by (turn, place), so a lost
///   task goes behind all that were lost less often. `reason` is set where a task has ended
///   without a score, so that counting needs no verdict.
/// - `verdicts.record` comes last: outcomes are read without it.
/// - `verdicts`, `attempts` and `blobs` keep a rowid, because their rows are long and a table
///   without one would put every one on an overflow page.
const TABLES: &str = "
CREATE TABLE store_meta (
    key TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE blobs (
    hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
    size INTEGER NOT NULL,
    content BLOB NOT NULL
) STRICT;

CREATE TABLE runs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    inputs BLOB NOT NULL,
    generation INTEGER NOT NULL,
    spec BLOB NOT NULL,
    judge TEXT NOT NULL,
    model TEXT NOT NULL,
    simulated INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'paused', 'cancelled')),
    reason TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    virtual_time INTEGER NOT NULL DEFAULT 0,
    first_claim_ms INTEGER
) STRICT;

CREATE TABLE tasks (
    run INTEGER NOT NULL REFERENCES runs (seq),
    position INTEGER NOT NULL,
    sample INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 5),
    turn INTEGER NOT NULL DEFAULT 0,
    place INTEGER NOT NULL,
    estimated_tokens INTEGER NOT NULL,
    run_at INTEGER,
    lease BLOB,
    lease_end INTEGER,
    worker BLOB,
    failures INTEGER NOT NULL DEFAULT 0,
    ended_leases INTEGER NOT NULL DEFAULT 0,
    dead_workers INTEGER NOT NULL DEFAULT 0,
    class TEXT,
    reason TEXT,
    id TEXT NOT NULL,
    category TEXT NOT NULL,
    content_key BLOB NOT NULL,
    rule TEXT,
    error TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run, position, sample),
    CHECK ((state = 1) = (run_at IS NOT NULL)),
    CHECK ((state = 2) = (lease IS NOT NULL AND lease_end IS NOT NULL AND worker IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX tasks_ready ON tasks (run, turn, place) WHERE state = 0;
CREATE INDEX tasks_waiting ON tasks (run_at) WHERE state = 1;
CREATE INDEX tasks_leased ON tasks (lease_end) WHERE state = 2;

CREATE TABLE verdicts (
    run INTEGER NOT NULL,
    position INTEGER NOT NULL,
    sample INTEGER NOT NULL,
    lease BLOB NOT NULL,
    score REAL,
    reason TEXT,
    source TEXT NOT NULL,
    simulated INTEGER NOT NULL,
    stored_ms INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (run, position, sample),
    FOREIGN KEY (run, position, sample) REFERENCES tasks (run, position, sample),
    CHECK ((score IS NULL) = (reason IS NOT NULL)),
    CHECK (score BETWEEN 0 AND 1)
) STRICT;

CREATE TABLE attempts (
    seq INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    position INTEGER NOT NULL,
    sample INTEGER NOT NULL,
    kind TEXT NOT NULL,
    class TEXT,
    status INTEGER,
    input INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    output INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    waited_ms INTEGER NOT NULL,
    latency_ms INTEGER NOT NULL,
    request_id TEXT,
    error TEXT NOT NULL,
    FOREIGN KEY (run, position, sample) REFERENCES tasks (run, position, sample)
) STRICT;

CREATE INDEX attempts_of_task ON attempts (run, position, sample);

CREATE TABLE workers (
    id BLOB PRIMARY KEY,
    pid INTEGER NOT NULL,
    joined_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

PRAGMA application_id = 1414677070;
";

/// Version 2: weights of runs, and runs that are being removed.
///
/// - `runs.virtual_time` counts 5,040 a token instead of 1, so that it can be divided by weights.
/// - `runs.contending` is whether the run had ready tasks after the last claim: a run that had
///   none starts level with the others.
/// - `runs.pruned` runs have no id any more; what is left of them goes with the next prune.
/// - `last_seq` in `store_meta`: a number is never given to another run.
const SHARES: &str = "
ALTER TABLE runs ADD COLUMN weight INTEGER NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000);
ALTER TABLE runs ADD COLUMN contending INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET virtual_time = virtual_time * 5040;
UPDATE store_meta SET value = value * 5040 WHERE key = 'virtual_time';
INSERT INTO store_meta (key, value) SELECT 'last_seq', coalesce(max(seq), 0) FROM runs;
CREATE INDEX runs_contending ON runs (seq) WHERE contending = 1;
";

/// Version 3: budgets of runs, and verdicts that runs take over from each other.
///
/// - `runs.reserved_*` are the sums of the run's `reservations`.
/// - `reservations` are of calls that are not settled. Those whose lease is not the task's any
///   more stay: their outcome is unknown, so they count as spent.
/// - `tasks_content` is over all tasks, whatever their state, so that no change of state costs it
///   anything.
const MONEY: &str = "
ALTER TABLE runs ADD COLUMN reuse INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN budget_micro_usd INTEGER;
ALTER TABLE runs ADD COLUMN budget_tokens INTEGER;
ALTER TABLE runs ADD COLUMN spent_micro_usd INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN spent_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN reserved_micro_usd INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN reserved_tokens INTEGER NOT NULL DEFAULT 0;

CREATE TABLE reservations (
    id BLOB PRIMARY KEY,
    run INTEGER NOT NULL,
    position INTEGER NOT NULL,
    sample INTEGER NOT NULL,
    lease BLOB NOT NULL,
    micro_usd INTEGER NOT NULL,
    tokens INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX reservations_of_run ON reservations (run);
CREATE INDEX tasks_content ON tasks (content_key);
";

/// Version 4: what people say of leaves. `seq` is the place in the list, over all runs.
const LABELS: &str = "
CREATE TABLE labels (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL REFERENCES runs (seq),
    position INTEGER NOT NULL,
    author TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('label', 'adjudication', 'withdrawal')),
    score REAL CHECK (score BETWEEN 0 AND 1),
    note TEXT NOT NULL,
    blind INTEGER NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX labels_of_run ON labels (run, seq);
";

/// Version 5: what each call has cost, and when a task was first claimed.
///
/// - `attempts.possible_*` are of calls of which nobody knows what they used.
const CALLS: &str = "
ALTER TABLE attempts ADD COLUMN endpoint TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN cost_usd REAL;
ALTER TABLE attempts ADD COLUMN possible_input INTEGER;
ALTER TABLE attempts ADD COLUMN possible_output INTEGER;
ALTER TABLE attempts ADD COLUMN possible_usd REAL;
ALTER TABLE tasks ADD COLUMN first_claim_ms INTEGER;
";

/// Version 6: questions that go through a provider's batch API.
///
/// - `batches.voter` is the number of the run's judge that all its questions are for.
/// - `batches.remote` is what the provider calls it, once that is known.
/// - `postings` are of tasks that wait for a reply (`tasks.run_at` is the largest number) or have one
///   that no verdict was made of yet. A posting's batch may have ended.
const BATCHES: &str = "
ALTER TABLE runs ADD COLUMN via TEXT NOT NULL DEFAULT 'live' CHECK (via IN ('live', 'batch'));
ALTER TABLE attempts ADD COLUMN via TEXT NOT NULL DEFAULT 'live';

CREATE TABLE batches (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    run INTEGER NOT NULL,
    voter INTEGER NOT NULL,
    remote TEXT,
    worker BLOB NOT NULL,
    held_until INTEGER NOT NULL,
    opened_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX batches_of_run ON batches (run);

CREATE TABLE postings (
    run INTEGER NOT NULL,
    position INTEGER NOT NULL,
    sample INTEGER NOT NULL,
    batch BLOB NOT NULL,
    lease BLOB NOT NULL,
    reservation BLOB,
    question BLOB NOT NULL,
    reply BLOB,
    PRIMARY KEY (run, position, sample)
) STRICT;

CREATE INDEX postings_open ON postings (batch) WHERE reply IS NULL;
";

/// Version 7: what workers say of themselves.
const FLEET: &str = "
ALTER TABLE workers ADD COLUMN host TEXT NOT NULL DEFAULT '';
ALTER TABLE workers ADD COLUMN version TEXT NOT NULL DEFAULT '';
ALTER TABLE workers ADD COLUMN seen_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN done INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;
";

/// Version 8: caps on the leases of a run.
const CAPS: &str = "
ALTER TABLE runs ADD COLUMN max_in_flight INTEGER CHECK (max_in_flight > 0);
";

/// Version 9: when a task's wait began, so that one that a clock set before it was set back is known.
const WAITS: &str = "
ALTER TABLE tasks ADD COLUMN waits_from INTEGER;
CREATE INDEX tasks_waiting_from ON tasks (waits_from) WHERE state = 1;
";

/// Version 10: priorities of runs.
const PRIORITIES: &str = "
ALTER TABLE runs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_sets_what_the_constants_say() {
        assert!(TABLES.contains(&format!("PRAGMA application_id = {APPLICATION_ID};")));
        for (state, what) in [(READY, "ready"), (WAITING, "waiting"), (LEASED, "leased")] {
            let index = TABLES.lines().find(|line| line.contains(&format!("tasks_{what} ")));
            assert!(index.unwrap().ends_with(&format!("WHERE state = {state};")));
        }
    }
}
