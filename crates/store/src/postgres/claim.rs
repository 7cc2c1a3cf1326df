//! Who gets which task next.
//!
//! Owns fair claiming: stride scheduling over runs by the tokens that their tasks are expected to
//! use. Who claims is alone with the queue: tasks are read in pages and picked in memory, and all
//! picks are written with one statement.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use sqlx::{Connection, PgConnection, Row, postgres::PgRow};
use tribunal_core::{Category, ContentKey, LeafTask, LeaseId, RunId, Via, WorkerId};

use super::{
    batches,
    call::number,
    lease, read,
    reuse::{self, Graded, Twin},
    schema::{BEGIN_CLAIM, now},
    text,
};
use crate::{
    ready::{self, ReadyRun},
    row::{damaged, named},
    share::Weight,
    store::{Claim, SUSPECT_DEAD_WORKERS},
};

/// Tasks claimed at once, at most.
const MOST: usize = 1024;

/// Tasks of one run read at once, at most.
const PAGE: usize = 256;

/// Leases taken back in one statement, at most.
const REAPED: i64 = 1024;

/// A claim, and the verdict that it can take over: where it stands and the compressed bytes.
pub(super) type Claimed = (Claim, Option<(RunId, Vec<u8>)>);

/// Counts what runs owe since the last claim, and makes tasks ready whose wait is over, or has begun in
/// the future: then the server's clock was set back.
const PREPARE: &str = concat!(
    "WITH counted AS (DELETE FROM settlements RETURNING run, owed), \
     owed AS ( \
         UPDATE runs SET virtual_time = runs.virtual_time + c.owed \
         FROM (SELECT run, sum(owed) AS owed FROM counted GROUP BY run) c \
         WHERE runs.seq = c.run), \
     over AS MATERIALIZED ( \
         SELECT run, position, sample FROM tasks WHERE state = 1 AND (run_at <= ",
    now!(),
    " OR waits_from > ",
    now!(),
    ") ORDER BY run, position, sample FOR UPDATE SKIP LOCKED) \
     UPDATE tasks t SET state = 0, run_at = NULL FROM over o \
     WHERE t.run = o.run AND t.position = o.position AND t.sample = o.sample AND t.state = 1"
);

/// The virtual time of the store, whether there are several runs, and the active runs that have
/// ready tasks: the index of those is walked from run to run.
const READY: &str = "WITH RECURSIVE hop (run) AS ( \
         (SELECT run FROM tasks WHERE state = 0 ORDER BY run LIMIT 1) \
         UNION ALL \
         SELECT (SELECT t.run FROM tasks t WHERE t.state = 0 AND t.run > hop.run \
                 ORDER BY t.run LIMIT 1) \
         FROM hop WHERE hop.run IS NOT NULL) \
     SELECT s.virtual_time, (SELECT count(*) > 1 FROM (SELECT 1 FROM runs WHERE NOT pruned LIMIT 2) n), \
         r.seq, r.id, r.virtual_time, r.weight, r.contending, r.reuse, \
         coalesce(r.budget_micro_usd, r.budget_tokens) IS NOT NULL, r.via, \
         EXISTS (SELECT 1 FROM postings), \
         r.max_in_flight, CASE WHEN r.max_in_flight IS NULL THEN 0 ELSE \
             (SELECT count(*) FROM tasks t WHERE t.state = 2 AND t.run = r.seq) END, r.priority \
     FROM shares s LEFT JOIN (hop JOIN runs r ON r.seq = hop.run AND r.state = 'active') ON true \
     ORDER BY r.seq";

/// The next ready tasks of some runs, a page of each.
const CANDIDATES: &str = "SELECT f.seq, t.turn, t.place, t.position, t.sample, t.id, t.category, \
         t.content_key, t.estimated_tokens, t.rule, t.failures, t.dead_workers >= $7 \
     FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) \
         AS f (seq, turn, place, position, sample) \
     CROSS JOIN LATERAL ( \
         SELECT * FROM tasks WHERE tasks.run = f.seq AND tasks.state = 0 \
             AND (tasks.turn, tasks.place, tasks.position, tasks.sample) \
                 > (f.turn, f.place, f.position, f.sample) \
         ORDER BY tasks.turn, tasks.place, tasks.position, tasks.sample LIMIT $6) t \
     ORDER BY f.seq, t.turn, t.place, t.position, t.sample";

/// Writes what was picked: the leases, the runs' shares, the store's virtual time. Returns the tasks'
/// numbers and their time since the first claim.
const WRITE: &str = concat!(
    "WITH moved AS ( \
         UPDATE runs SET virtual_time = j.virtual_time, contending = j.contending, \
             first_claim_ms = CASE WHEN j.claimed THEN coalesce(first_claim_ms, ",
    now!(),
    ") ELSE first_claim_ms END \
         FROM unnest($8::bigint[], $9::bigint[], $10::bool[], $11::bool[]) \
             AS j (seq, virtual_time, contending, claimed) \
         WHERE runs.seq = j.seq), \
     idle AS ( \
         UPDATE runs SET contending = false WHERE contending AND NOT seq = ANY ($12::bigint[])), \
     level AS ( \
         UPDATE shares SET virtual_time = $13 WHERE virtual_time <> $13), \
     picked AS MATERIALIZED ( \
         SELECT j.n, j.lease, t.run, t.position, t.sample \
         FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[]) WITH ORDINALITY \
             AS j (run, position, sample, lease, n) \
         JOIN tasks t ON t.run = j.run AND t.position = j.position AND t.sample = j.sample \
         WHERE t.state = 0 FOR UPDATE OF t SKIP LOCKED) \
     UPDATE tasks t SET state = 2, lease = p.lease, worker = $2, lease_end = ",
    now!(),
    " + $3, first_claim_ms = coalesce(t.first_claim_ms, ",
    now!(),
    ") FROM picked p \
     WHERE t.run = p.run AND t.position = p.position AND t.sample = p.sample AND t.state = 0 \
     RETURNING p.n, t.lease_end - $3 - t.first_claim_ms"
);

/// A task that may be claimed.
struct Candidate {
    task: LeafTask,
    failures: u32,
    /// Whether its workers keep dying.
    suspect: bool,
    reusable: Option<Graded>,
}

/// Everything that a claim is picked from.
struct Picker<'c> {
    conn: &'c mut PgConnection,
    runs: Vec<ReadyRun<Candidate>>,
    virtual_time: i64,
    page: usize,
    /// Whether there are other runs to take verdicts over from.
    several_runs: bool,
    /// Whether anything is posted, so that there may be replies.
    posted: bool,
    /// The questions of this claim, and the run that asks.
    asked: HashMap<ContentKey, i64>,
}

/// A task that was picked.
struct Pick {
    run: usize,
    lease: LeaseId,
    candidate: Candidate,
}

/// Claims up to `slots` tasks; `None` when `only` names no run.
pub(super) async fn claim(
    conn: &mut PgConnection,
    worker: WorkerId,
    slots: usize,
    ttl_ms: i64,
    only: Option<&RunId>,
    now: Option<i64>,
) -> Result<Option<Vec<Claimed>>, sqlx::Error> {
    let slots = slots.min(MOST);
    let mut tx = conn.begin_with(BEGIN_CLAIM).await?;
    let only: Option<i64> = match only {
        None => None,
        Some(run) => match read::seq(&mut tx, run).await? {
            None => return Ok(None),
            seq => seq,
        },
    };
    while lease::reap(&mut tx, REAPED, now).await? == REAPED.unsigned_abs() {}
    sqlx::query(PREPARE).bind(now).execute(&mut *tx).await?;
    let mut picker = Picker::new(&mut tx, slots).await?;
    let picks = picker.pick(worker, slots, only).await?;
    let claims = picker.write(picks, worker, ttl_ms, now).await?;
    tx.commit().await?;
    Ok(Some(claims))
}

// === impl Picker ===

impl<'c> Picker<'c> {
    async fn new(conn: &'c mut PgConnection, slots: usize) -> Result<Self, sqlx::Error> {
        let rows = sqlx::query(READY).fetch_all(&mut *conn).await?;
        let first = rows.first().ok_or_else(|| damaged("shares"))?;
        let (virtual_time, several_runs) = (first.try_get(0)?, first.try_get(1)?);
        let there = |row: &&PgRow| row.try_get::<Option<i64>, _>(2).is_ok_and(|seq| seq.is_some());
        let runs: Result<Vec<ReadyRun<Candidate>>, sqlx::Error> =
            rows.iter().filter(there).map(ready_run).collect();
        let mut runs = runs?;
        // Who had nothing to claim starts level: neither behind, nor owed what it did not use.
        for run in runs.iter_mut().filter(|run| run.joins_in()) {
            run.virtual_time = run.virtual_time.max(virtual_time);
        }
        // One more than is wanted tells whether the run is ready still.
        let page = slots.saturating_add(1).min(PAGE);
        let (posted, asked) = (first.try_get(10)?, HashMap::new());
        Ok(Self { conn, runs, virtual_time, page, several_runs, posted, asked })
    }

    /// Picks: always from the run that has had the fewest tokens, of those of the highest priority.
    async fn pick(
        &mut self,
        worker: WorkerId,
        slots: usize,
        only: Option<i64>,
    ) -> Result<Vec<Pick>, sqlx::Error> {
        let named = |run: &ReadyRun<Candidate>| only.is_none_or(|only| run.seq == only);
        // No more runs than slots have their turn, but for those that wait for others.
        let mut first: Vec<usize> = (0..self.runs.len())
            .filter(|at| named(&self.runs[*at]) && self.runs[*at].is_ready())
            .collect();
        first.sort_by_key(|at| self.runs[*at].rank());
        first.truncate(slots);
        self.fill(&first).await?;
        let mut picks = Vec::with_capacity(slots);
        let mut has_suspect = false;
        while picks.len() < slots {
            let ready = self.runs.iter().enumerate();
            let ready = ready.filter(|(_, run)| run.is_ready() && named(run));
            let next = ready.min_by_key(|(_, run)| run.rank());
            let Some(at) = next.map(|(at, _)| at) else {
                break;
            };
            let Some(candidate) = self.take(at).await? else {
                continue;
            };
            if candidate.suspect {
                let had = std::mem::replace(&mut has_suspect, true);
                if had || lease::holds_suspect(&mut *self.conn, worker).await? {
                    self.runs[at].held_back = true;
                    continue;
                }
            }
            let run = &mut self.runs[at];
            self.asked.insert(candidate.task.content_key, run.seq);
            run.charge(&candidate.task);
            picks.push(Pick { run: at, lease: LeaseId::from_bytes(rand::random()), candidate });
        }
        self.advance().await?;
        Ok(picks)
    }

    /// The next candidate of a run; `None` when it has no more.
    async fn take(&mut self, at: usize) -> Result<Option<Candidate>, sqlx::Error> {
        loop {
            self.fill(&[at]).await?;
            let run = &mut self.runs[at];
            let Some(candidate) = run.candidates.pop_front() else {
                // Where all of a page was passed over there may be another.
                if run.more {
                    continue;
                }
                return Ok(None);
            };
            // What this claim has picked is not in the tables yet.
            let asked = self.asked.get(&candidate.task.content_key);
            if run.takes_over(&candidate.task)
                && candidate.reusable.is_none()
                && asked.is_some_and(|by| *by != run.seq)
            {
                run.held_back = true;
                continue;
            }
            return Ok(Some(candidate));
        }
    }

    /// Reads candidates of these runs where all that were read are picked.
    async fn fill(&mut self, runs: &[usize]) -> Result<(), sqlx::Error> {
        let empty = |at: &&usize| self.runs[**at].candidates.is_empty() && self.runs[**at].more;
        let runs: Vec<usize> = runs.iter().filter(empty).copied().collect();
        if runs.is_empty() {
            return Ok(());
        }
        let place = |part: usize| -> Vec<i64> {
            runs.iter().map(|at| self.runs[*at].read_to[part]).collect()
        };
        let rows = sqlx::query(CANDIDATES)
            .bind(runs.iter().map(|at| self.runs[*at].seq).collect::<Vec<_>>())
            .bind(place(0))
            .bind(place(1))
            .bind(place(2))
            .bind(place(3))
            .bind(i64::try_from(self.page).unwrap_or(i64::MAX))
            .bind(i64::from(SUSPECT_DEAD_WORKERS))
            .fetch_all(&mut *self.conn)
            .await?;
        let numbers: HashMap<i64, usize> =
            runs.iter().map(|at| (self.runs[*at].seq, *at)).collect();
        let mut found: HashMap<usize, usize> = HashMap::new();
        for row in &rows {
            let at = *numbers.get(&row.try_get(0)?).ok_or_else(|| damaged("run"))?;
            *found.entry(at).or_default() += 1;
            let run = &mut self.runs[at];
            run.read_to = [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?];
            run.candidates.push_back(Candidate::read(row)?);
        }
        for at in &runs {
            self.runs[*at].more = found.get(at) == Some(&self.page);
        }
        self.find_twins(&runs).await
    }

    /// Finds verdicts for the candidates just read; passes over those that another run asks for.
    async fn find_twins(&mut self, runs: &[usize]) -> Result<(), sqlx::Error> {
        let mut asking: Vec<(i64, ContentKey)> = Vec::new();
        for run in runs.iter().map(|at| &self.runs[*at]).filter(|_| self.several_runs) {
            let tasks = run.candidates.iter().map(|candidate| &candidate.task);
            let tasks = tasks.filter(|task| run.takes_over(task));
            asking.extend(tasks.map(|task| (run.seq, task.content_key)));
        }
        if asking.is_empty() {
            return Ok(());
        }
        let mut twins = reuse::twins(&mut *self.conn, &asking).await?;
        for run in runs {
            let run = &mut self.runs[*run];
            for mut candidate in std::mem::take(&mut run.candidates) {
                if run.takes_over(&candidate.task) {
                    match twins.get_mut(&(run.seq, candidate.task.content_key)) {
                        Some(Twin::Asking) => {
                            run.held_back = true;
                            continue;
                        }
                        Some(Twin::Graded(graded)) => candidate.reusable = Some(graded.clone()),
                        None => {}
                    }
                }
                run.candidates.push_back(candidate);
            }
        }
        Ok(())
    }

    /// Moves the virtual time up to the run that has had the least and is ready still: one that
    /// becomes ready later starts level with it.
    async fn advance(&mut self) -> Result<(), sqlx::Error> {
        let claimed: Vec<usize> =
            (0..self.runs.len()).filter(|at| self.runs[*at].claimed).collect();
        self.fill(&claimed).await?;
        let ready = self.runs.iter().filter(|run| run.is_contending());
        if let Some((_, least)) = ready.map(ReadyRun::rank).min() {
            self.virtual_time = self.virtual_time.max(least);
        }
        Ok(())
    }

    async fn write(
        self,
        picks: Vec<Pick>,
        worker: WorkerId,
        ttl_ms: i64,
        now: Option<i64>,
    ) -> Result<Vec<Claimed>, sqlx::Error> {
        let changed: Vec<&ReadyRun<Candidate>> =
            self.runs.iter().filter(|run| run.has_changed()).collect();
        let run_of = |pick: &Pick| self.runs[pick.run].seq;
        let task_of = |pick: &Pick, of: fn(&LeafTask) -> u32| i64::from(of(&pick.candidate.task));
        let rows = sqlx::query(WRITE)
            .bind(now)
            .bind(worker.as_bytes().to_vec())
            .bind(ttl_ms)
            .bind(picks.iter().map(run_of).collect::<Vec<_>>())
            .bind(picks.iter().map(|pick| task_of(pick, |task| task.position)).collect::<Vec<_>>())
            .bind(picks.iter().map(|pick| task_of(pick, |task| task.sample)).collect::<Vec<_>>())
            .bind(picks.iter().map(|pick| pick.lease.as_bytes().to_vec()).collect::<Vec<_>>())
            .bind(changed.iter().map(|run| run.seq).collect::<Vec<_>>())
            .bind(changed.iter().map(|run| run.virtual_time).collect::<Vec<_>>())
            .bind(changed.iter().map(|run| run.is_contending()).collect::<Vec<_>>())
            .bind(changed.iter().map(|run| run.claimed).collect::<Vec<_>>())
            .bind(self.runs.iter().map(|run| run.seq).collect::<Vec<_>>())
            .bind(self.virtual_time)
            .fetch_all(&mut *self.conn)
            .await?;
        if rows.len() != picks.len() {
            return Err(damaged("index of ready tasks: it disagrees with the tasks"));
        }
        let mut ages = vec![Duration::ZERO; picks.len()];
        for row in &rows {
            let age: i64 = row.try_get(1)?;
            ages[number::<usize>(row, 0)? - 1] =
                Duration::from_millis(u64::try_from(age).unwrap_or(0));
        }
        let graded = picks.iter().filter_map(|pick| pick.candidate.reusable.as_ref());
        let records = reuse::records(&mut *self.conn, graded).await?;
        let key = |pick: &Pick| {
            let task = &pick.candidate.task;
            (run_of(pick), i64::from(task.position), i64::from(task.sample))
        };
        let mut replies = match self.posted {
            true => {
                let keys: Vec<_> = picks.iter().map(key).collect();
                batches::replies(&mut *self.conn, &keys).await?
            }
            false => HashMap::new(),
        };
        let claim = |(pick, age): (Pick, Duration)| {
            let answered = replies.remove(&key(&pick)).map(Box::new);
            let Pick { run, lease, candidate } = pick;
            let run = &self.runs[run];
            let claim = Claim {
                lease,
                run: run.id.clone(),
                task: candidate.task,
                failures: candidate.failures,
                age,
                budgeted: run.budgeted,
                reusable: None,
                via: run.via,
                answered,
            };
            let reusable = candidate.reusable;
            let record =
                reusable.and_then(|graded| Some((graded.id, records.get(&graded.key)?.clone())));
            (claim, record)
        };
        Ok(picks.into_iter().zip(ages).map(claim).collect())
    }
}

// === impl Candidate ===

impl Candidate {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let rule: Option<String> = row.try_get(9)?;
        Ok(Self {
            task: LeafTask {
                position: number(row, 3)?,
                sample: number(row, 4)?,
                id: text::get(row.try_get(5)?),
                category: named(row, 6, Category::from_name)?,
                content_key: ContentKey::from_slice(row.try_get(7)?)
                    .ok_or_else(|| damaged("content key"))?,
                order: number(row, 2)?,
                estimated_tokens: number(row, 8)?,
                rule: rule.map(text::get),
            },
            failures: number(row, 10)?,
            suspect: row.try_get(11)?,
            reusable: None,
        })
    }
}

/// A run that has ready tasks.
fn ready_run(row: &PgRow) -> Result<ReadyRun<Candidate>, sqlx::Error> {
    let id: &str = row.try_get(3)?;
    let weight = Weight::new(number(row, 5)?);
    Ok(ReadyRun {
        seq: row.try_get(2)?,
        id: id.parse().map_err(|_| damaged("run id"))?,
        virtual_time: row.try_get(4)?,
        weight: weight.ok_or_else(|| damaged("weight"))?,
        reuse: row.try_get(7)?,
        budgeted: row.try_get(8)?,
        via: named(row, 9, Via::from_name)?,
        claimed: false,
        held_back: false,
        stored: (row.try_get(4)?, row.try_get(6)?),
        candidates: VecDeque::new(),
        read_to: [-1; 4],
        more: true,
        room: ready::room(row.try_get(11)?, row.try_get(12)?),
        priority: read::priority(row, 13)?,
    })
}
