//! The tables of a PostgreSQL store.
//!
//! Owns the format: its version, which versions may work side by side on it, its statements. The
//! numbers that stand for a task's state are those of the SQLite engine. All tables lie in one
//! schema of the database, which every connection has as its search path.

/// The format of the tables, which is the number of steps to it.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// The oldest format whose tribunal may still work on tables of this version: a step that only
/// adds what older workers need not know leaves it as it is.
pub(super) const WORKS_WITH: i64 = 3;

/// What leads from each version to the next, from an empty schema on. A step that was published
/// never changes.
pub(super) const STEPS: [&str; 5] = [TABLES, BATCHES, CAPS, WAITS, PRIORITIES];

/// The `run_at` of a task that waits for a batch's reply.
pub(super) const POSTED: i64 = i64::MAX;

/// The oldest server that knows every statement, as `server_version_num`.
pub(super) const OLDEST_SERVER: i64 = 130_000;

/// The moment that a statement is of, in milliseconds since the Unix epoch: the server's clock,
/// unless a test injects its own as the first parameter. Stable within a statement, so that
/// indices over times can be used.
macro_rules! now {
    () => {
        "coalesce($1::bigint, (extract(epoch FROM statement_timestamp()) * 1000)::bigint)"
    };
}
pub(super) use now;

/// Begins a transaction that picks tasks: no other picks meanwhile. A claim that a crash of the
/// server forgets is a task that is claimed again, so its commit is not waited for; whatever is
/// acknowledged later is on disk only together with it.
pub(super) const BEGIN_CLAIM: &str = "BEGIN; SET LOCAL synchronous_commit = off; \
    SELECT pg_advisory_xact_lock('runs'::regclass::oid::int, 1); \
    SELECT pg_advisory_xact_lock_shared('runs'::regclass::oid::int, 2)";

/// Begins a transaction that puts tasks into the queue: no run changes its state meanwhile.
pub(super) const BEGIN_PUT: &str =
    "BEGIN; SELECT pg_advisory_xact_lock_shared('runs'::regclass::oid::int, 2)";

/// Begins a transaction that changes what may be done with runs: nobody picks, and nobody puts
/// tasks into the queue meanwhile.
pub(super) const BEGIN_CONTROL: &str = "BEGIN; \
    SELECT pg_advisory_xact_lock('runs'::regclass::oid::int, 1); \
    SELECT pg_advisory_xact_lock('runs'::regclass::oid::int, 2)";

/// Begins a transaction that announces blobs, or removes some.
pub(super) const BEGIN_BLOBS: &str =
    "BEGIN; SELECT pg_advisory_xact_lock('runs'::regclass::oid::int, 3)";

/// Version 1: everything.
///
/// - `tasks` is a queue: every row is updated a few times, so pages keep room for that, and dead
///   rows go early and without pause. The indices over states are partial: they hold what waits.
/// - `settlements` are what runs owe or are owed beyond their tasks' estimates. They are written
///   with a verdict and counted by the next claim, so that verdicts do not queue for a run's row.
/// - `runs.reserved_*` are the sums of the run's `reservations`, which are of calls that are not
///   settled.
/// - `puts` are the store's users who put blobs for a run that is not created yet.
/// - `attempts.possible_*` are of calls of which nobody knows what they used.
/// - `labels.seq` is the place in the list, over all runs.
/// - `token_counts` is a memory alone: without it texts are counted again.
/// - Columns of bytes are compressed before they come here.
const TABLES: &str = "
CREATE TABLE store_meta (
    only_row BOOLEAN PRIMARY KEY DEFAULT true CHECK (only_row),
    version BIGINT NOT NULL,
    works_with BIGINT NOT NULL,
    store_key BYTEA NOT NULL CHECK (length(store_key) = 32)
);

CREATE TABLE shares (
    only_row BOOLEAN PRIMARY KEY DEFAULT true CHECK (only_row),
    virtual_time BIGINT NOT NULL,
    puts_begun BIGINT NOT NULL
) WITH (fillfactor = 10);
INSERT INTO shares (virtual_time, puts_begun) VALUES (0, 0);

CREATE TABLE puts (
    handle BYTEA PRIMARY KEY,
    begun_ms BIGINT NOT NULL
);

CREATE TABLE blobs (
    hash BYTEA PRIMARY KEY CHECK (length(hash) = 32),
    size BIGINT NOT NULL,
    content BYTEA NOT NULL
);
ALTER TABLE blobs ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE runs (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    inputs BYTEA NOT NULL,
    generation BIGINT NOT NULL,
    spec BYTEA NOT NULL,
    judge TEXT NOT NULL,
    model TEXT NOT NULL,
    simulated BOOLEAN NOT NULL,
    reuse BOOLEAN NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'paused', 'cancelled')),
    reason TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    virtual_time BIGINT NOT NULL DEFAULT 0,
    weight BIGINT NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),
    contending BOOLEAN NOT NULL DEFAULT false,
    first_claim_ms BIGINT,
    pruned BOOLEAN NOT NULL DEFAULT false,
    budget_micro_usd BIGINT,
    budget_tokens BIGINT,
    spent_micro_usd BIGINT NOT NULL DEFAULT 0,
    spent_tokens BIGINT NOT NULL DEFAULT 0,
    reserved_micro_usd BIGINT NOT NULL DEFAULT 0,
    reserved_tokens BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE INDEX runs_contending ON runs (seq) WHERE contending;
CREATE INDEX runs_pruned ON runs (seq) WHERE pruned;

CREATE TABLE settlements (
    run BIGINT NOT NULL,
    owed BIGINT NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);

CREATE TABLE tasks (
    run BIGINT NOT NULL REFERENCES runs (seq),
    position BIGINT NOT NULL,
    sample BIGINT NOT NULL,
    state SMALLINT NOT NULL CHECK (state BETWEEN 0 AND 5),
    turn BIGINT NOT NULL DEFAULT 0,
    place BIGINT NOT NULL,
    estimated_tokens BIGINT NOT NULL,
    run_at BIGINT,
    lease BYTEA,
    lease_end BIGINT,
    worker BYTEA,
    failures BIGINT NOT NULL DEFAULT 0,
    ended_leases BIGINT NOT NULL DEFAULT 0,
    dead_workers BIGINT NOT NULL DEFAULT 0,
    class TEXT,
    reason TEXT,
    id TEXT NOT NULL,
    category TEXT NOT NULL,
    content_key BYTEA NOT NULL,
    rule TEXT,
    first_claim_ms BIGINT,
    error TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run, position, sample),
    CHECK ((state = 1) = (run_at IS NOT NULL)),
    CHECK ((state = 2) = (lease IS NOT NULL)),
    CHECK ((state = 2) = (lease_end IS NOT NULL)),
    CHECK ((state = 2) = (worker IS NOT NULL))
) WITH (fillfactor = 70,
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_insert_scale_factor = 0.2,
        autovacuum_analyze_scale_factor = 0.1,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX tasks_ready ON tasks (run, turn, place, position, sample) WHERE state = 0;
CREATE INDEX tasks_waiting ON tasks (run_at) WHERE state = 1;
CREATE INDEX tasks_leased ON tasks (lease_end) WHERE state = 2;

CREATE INDEX tasks_content ON tasks (content_key);

CREATE TABLE reservations (
    id BYTEA PRIMARY KEY,
    run BIGINT NOT NULL,
    position BIGINT NOT NULL,
    sample BIGINT NOT NULL,
    lease BYTEA NOT NULL,
    micro_usd BIGINT NOT NULL,
    tokens BIGINT NOT NULL
);
CREATE INDEX reservations_of_run ON reservations (run);

CREATE TABLE verdicts (
    run BIGINT NOT NULL,
    position BIGINT NOT NULL,
    sample BIGINT NOT NULL,
    lease BYTEA NOT NULL,
    score DOUBLE PRECISION,
    reason TEXT,
    source TEXT NOT NULL,
    simulated BOOLEAN NOT NULL,
    stored_ms BIGINT NOT NULL,
    record BYTEA NOT NULL,
    PRIMARY KEY (run, position, sample),
    CHECK ((score IS NULL) = (reason IS NOT NULL)),
    CHECK (score BETWEEN 0 AND 1)
);
ALTER TABLE verdicts ALTER COLUMN record SET STORAGE EXTERNAL;

CREATE TABLE attempts (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run BIGINT NOT NULL,
    position BIGINT NOT NULL,
    sample BIGINT NOT NULL,
    kind TEXT NOT NULL,
    class TEXT,
    status INTEGER,
    input BIGINT NOT NULL,
    cached BIGINT NOT NULL,
    output BIGINT NOT NULL,
    started_ms BIGINT NOT NULL,
    waited_ms BIGINT NOT NULL,
    latency_ms BIGINT NOT NULL,
    request_id TEXT,
    error TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    cost_usd DOUBLE PRECISION,
    possible_input BIGINT,
    possible_output BIGINT,
    possible_usd DOUBLE PRECISION
);
CREATE INDEX attempts_of_task ON attempts (run, position, sample);

CREATE TABLE labels (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run BIGINT NOT NULL,
    position BIGINT NOT NULL,
    author TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('label', 'adjudication', 'withdrawal')),
    score DOUBLE PRECISION CHECK (score BETWEEN 0 AND 1),
    note TEXT NOT NULL,
    blind BOOLEAN NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE INDEX labels_of_run ON labels (run, seq);

CREATE TABLE token_counts (
    vocabulary TEXT NOT NULL,
    text BYTEA NOT NULL CHECK (length(text) = 32),
    tokens BIGINT NOT NULL,
    PRIMARY KEY (text, vocabulary)
);

CREATE TABLE quotas (
    account TEXT NOT NULL,
    family TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (account, family)
) WITH (fillfactor = 10);

CREATE TABLE workers (
    id BYTEA PRIMARY KEY,
    machine TEXT NOT NULL,
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    started TEXT NOT NULL,
    version TEXT NOT NULL,
    joined_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL,
    done BIGINT NOT NULL DEFAULT 0,
    draining BOOLEAN NOT NULL DEFAULT false
) WITH (fillfactor = 50);
";

/// Version 2: questions that go through a provider's batch API. Older workers would ask again what is
/// answered.
///
/// - `batches.voter` is the number of the run's judge that all its questions are for.
/// - `batches.remote` is what the provider calls it, once that is known.
/// - `postings` are of tasks that wait for a reply (`tasks.run_at` is the largest number) or have one
///   that no verdict was made of yet. A posting's batch may have ended.
const BATCHES: &str = "
ALTER TABLE runs ADD COLUMN via TEXT NOT NULL DEFAULT 'live' CHECK (via IN ('live', 'batch'));
ALTER TABLE attempts ADD COLUMN via TEXT NOT NULL DEFAULT 'live';

CREATE TABLE batches (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    run BIGINT NOT NULL,
    voter BIGINT NOT NULL,
    remote TEXT,
    worker BYTEA NOT NULL,
    held_until BIGINT NOT NULL,
    opened_ms BIGINT NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX batches_of_run ON batches (run);

CREATE TABLE postings (
    run BIGINT NOT NULL,
    position BIGINT NOT NULL,
    sample BIGINT NOT NULL,
    batch BYTEA NOT NULL,
    lease BYTEA NOT NULL,
    reservation BYTEA,
    question BYTEA NOT NULL,
    reply BYTEA,
    PRIMARY KEY (run, position, sample)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
ALTER TABLE postings ALTER COLUMN question SET STORAGE EXTERNAL;
ALTER TABLE postings ALTER COLUMN reply SET STORAGE EXTERNAL;
CREATE INDEX postings_open ON postings (batch) WHERE reply IS NULL;
";

/// Version 3: caps on the leases of a run. Older workers would pass them.
const CAPS: &str = "
ALTER TABLE runs ADD COLUMN max_in_flight BIGINT CHECK (max_in_flight > 0);
";

/// Version 4: when a task's wait began, so that one that a clock set before it was set back is known.
/// Older workers wait for as long as the step was.
const WAITS: &str = "
ALTER TABLE tasks ADD COLUMN waits_from BIGINT;
CREATE INDEX tasks_waiting_from ON tasks (waits_from) WHERE state = 1;
";

/// Version 5: priorities of runs. Older workers share by weight alone.
const PRIORITIES: &str = "
ALTER TABLE runs ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;
";
