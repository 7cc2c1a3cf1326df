//! Who gets which task next.
//!
//! Owns fair claiming: stride scheduling over runs by the tokens that their tasks are expected to
//! use. All claims of a group are picked in memory and written with a few statements.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use tribunal_core::{Category, ContentKey, LeafTask, LeaseId, RunId, Via};

use super::{
    batch::{Script, slices},
    lease::{self, Loss},
    outcome::NewRelease,
    postings::{self, AnsweredRow},
    request::{ClaimRequest, LeaseRef},
    reuse::{self, Graded, Twin},
    schema,
};
use crate::{
    ready::{self, ReadyRun},
    row::{damaged, named},
    share::Weight,
    store::SUSPECT_DEAD_WORKERS,
};

/// Candidates read at once, at most.
const PAGE: usize = 256;

/// A task that was claimed.
pub(super) struct ClaimedTask {
    pub(super) lease: LeaseRef,
    pub(super) run: RunId,
    pub(super) task: LeafTask,
    pub(super) failures: u32,
    pub(super) age: Duration,
    pub(super) budgeted: bool,
    /// A verdict that can be taken over: the run that has it, and the compressed verdict.
    pub(super) reusable: Option<(RunId, Vec<u8>)>,
    pub(super) via: Via,
    pub(super) answered: Option<AnsweredRow>,
}

/// A task that may be claimed.
struct Candidate {
    task: LeafTask,
    failures: u32,
    /// When it was first claimed, in milliseconds of the store's time.
    first_claim_ms: Option<i64>,
    /// Whether its workers keep dying.
    suspect: bool,
    reusable: Option<Graded>,
}

/// What a group of claims finds, read in one way to SQLite's thread and back.
struct Glance {
    /// Whether leases have ended, or waits are over, that the tables do not show yet.
    is_late: bool,
    virtual_time: i64,
    /// Whether there are other runs to take verdicts over from.
    several_runs: bool,
    /// Whether questions are posted in batches.
    any_posted: bool,
    /// The runs that had something to claim after the last claim.
    contending: Vec<i64>,
    /// The active ones that have ready tasks.
    runs: Vec<ReadyRun<Candidate>>,
}

/// Everything that a group of claims is picked from.
struct Picker<'c> {
    conn: &'c mut SqliteConnection,
    now: i64,
    runs: Vec<ReadyRun<Candidate>>,
    /// The runs that had something to claim after the last claim.
    contending: Vec<i64>,
    virtual_time: i64,
    page: usize,
    /// Whether there are other runs to take verdicts over from.
    several_runs: bool,
    /// The questions of this group's claims, and the run that asks.
    asked: HashMap<ContentKey, i64>,
}

// === impl ClaimedTask ===

impl ClaimedTask {
    /// Gives the task back unused.
    pub(super) fn release(&self) -> NewRelease {
        NewRelease { lease: self.lease, attempts: Vec::new() }
    }
}

/// Claims for several workers, one list for each, in their order.
pub(super) async fn claim(
    conn: &mut SqliteConnection,
    requests: &[ClaimRequest],
    now: i64,
) -> Result<Vec<Vec<ClaimedTask>>, sqlx::Error> {
    let mut glance = Glance::read(conn, now).await?;
    if glance.is_late {
        lease::take_back(conn, &Loss::Ended { now, limit: -1 }).await?;
        promote(conn, now).await?;
        glance = Glance::read(conn, now).await?;
    }
    let slots = requests.iter().fold(0_usize, |sum, request| sum.saturating_add(request.slots));
    let (virtual_time, any_posted) = (glance.virtual_time, glance.any_posted);
    let mut picker = Picker::new(conn, glance, slots, now);
    let mut claimed = Vec::with_capacity(requests.len());
    for request in requests {
        claimed.push(picker.pick(request).await?);
    }
    let times = picker.times(virtual_time, now);
    let leases = requests.iter().zip(&claimed).flat_map(|(request, tasks)| {
        let end = now.saturating_add(request.ttl_ms);
        tasks.iter().map(move |task| (task.lease, request, end))
    });
    store(conn, times, &leases.collect::<Vec<_>>(), now).await?;
    if any_posted {
        postings::find_replies(conn, &mut claimed).await?;
    }
    Ok(claimed)
}

/// Makes tasks ready whose wait is over, or has begun in the future: then the clock was set back. They
/// stay so if it steps back later.
async fn promote(conn: &mut SqliteConnection, now: i64) -> Result<(), sqlx::Error> {
    // Each by its index; both in one would read all tasks.
    for ready in [
        "UPDATE tasks INDEXED BY tasks_waiting SET state = 0, run_at = NULL \
         WHERE state = 1 AND run_at <= ?",
        "UPDATE tasks INDEXED BY tasks_waiting_from SET state = 0, run_at = NULL \
         WHERE state = 1 AND waits_from > ?",
    ] {
        sqlx::query(ready).bind(now).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Writes the runs' times and the leases.
async fn store(
    conn: &mut SqliteConnection,
    (mut script, mut changes): (Script, u64),
    leases: &[(LeaseRef, &ClaimRequest, i64)],
    now: i64,
) -> Result<(), sqlx::Error> {
    for slice in slices(leases) {
        script = script
            .and_rows(
                "run, position, sample, lease, worker, lease_end",
                slice.len(),
                1,
                "UPDATE tasks SET state = 2, lease = j.lease, worker = j.worker, \
                     lease_end = j.lease_end, \
                     first_claim_ms = coalesce(tasks.first_claim_ms, ?1) \
                 FROM j WHERE tasks.run = j.run AND tasks.position = j.position \
                     AND tasks.sample = j.sample AND +tasks.state = 0",
            )
            .bind(now);
        for (lease, request, end) in slice {
            script = script.bind_lease(lease).bind(request.worker.as_bytes().to_vec()).bind(*end);
        }
        changes += slice.len() as u64;
    }
    if script.execute(conn).await? != changes {
        return Err(sqlx::Error::Protocol(
            "the index of waiting tasks disagrees with the tasks".to_owned(),
        ));
    }
    Ok(())
}

// === impl Glance ===

impl Glance {
    /// Finds the active runs that have ready tasks, hopping through the index from run to run.
    async fn read(conn: &mut SqliteConnection, now: i64) -> Result<Self, sqlx::Error> {
        let script = Script::default()
            .and(
                "SELECT \
                     EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_leased \
                         WHERE state = 2 AND lease_end <= ?) \
                     OR EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_waiting \
                         WHERE state = 1 AND run_at <= ?) \
                     OR EXISTS (SELECT 1 FROM tasks INDEXED BY tasks_waiting_from \
                         WHERE state = 1 AND waits_from > ?), \
                     (SELECT value FROM store_meta WHERE key = ?), \
                     (SELECT count(*) > 1 FROM (SELECT 1 FROM runs WHERE pruned = 0 LIMIT 2)), \
                     EXISTS (SELECT 1 FROM postings), \
                     (SELECT json_group_array(seq) FROM runs INDEXED BY runs_contending \
                         WHERE contending = 1)",
            )
            .bind(now)
            .bind(now)
            .bind(now)
            .bind(schema::VIRTUAL_TIME)
            .and(
                "WITH RECURSIVE ready (run) AS ( \
                     SELECT min(run) FROM tasks INDEXED BY tasks_ready WHERE state = 0 \
                     UNION ALL \
                     SELECT (SELECT min(tasks.run) FROM tasks INDEXED BY tasks_ready \
                             WHERE tasks.state = 0 AND tasks.run > ready.run) \
                     FROM ready WHERE ready.run IS NOT NULL) \
                 SELECT runs.seq, runs.id, runs.virtual_time, runs.weight, runs.contending, \
                     runs.reuse, coalesce(runs.budget_micro_usd, runs.budget_tokens) IS NOT NULL, \
                     runs.via, runs.max_in_flight, iif(runs.max_in_flight IS NULL, 0, \
                         (SELECT count(*) FROM tasks INDEXED BY tasks_leased \
                         WHERE tasks.state = 2 AND tasks.run = runs.seq)), runs.priority \
                 FROM ready \
                 CROSS JOIN runs ON runs.seq = ready.run WHERE runs.state = 'active' \
                 ORDER BY runs.seq",
            );
        let rows = script.fetch_all(conn).await?;
        let (first, runs) = rows.split_first().ok_or(sqlx::Error::RowNotFound)?;
        let contending: &str = first.try_get(4)?;
        Ok(Self {
            is_late: first.try_get(0)?,
            virtual_time: first.try_get(1)?,
            several_runs: first.try_get(2)?,
            any_posted: first.try_get(3)?,
            contending: serde_json::from_str(contending).map_err(|_| damaged("list of runs"))?,
            runs: runs.iter().map(ready_run).collect::<Result<_, _>>()?,
        })
    }
}

// === impl Picker ===

impl<'c> Picker<'c> {
    fn new(conn: &'c mut SqliteConnection, glance: Glance, slots: usize, now: i64) -> Self {
        let Glance { virtual_time, several_runs, contending, mut runs, .. } = glance;
        // Who had nothing to claim starts level: neither behind, nor owed what it did not use.
        for run in runs.iter_mut().filter(|run| run.joins_in()) {
            run.virtual_time = run.virtual_time.max(virtual_time);
        }
        Self {
            several_runs,
            asked: HashMap::new(),
            conn,
            now,
            runs,
            contending,
            virtual_time,
            // One more than is wanted tells whether the run is ready still.
            page: slots.saturating_add(1).min(PAGE),
        }
    }

    /// Picks for one worker: always from the run that has had the fewest tokens, of those of the highest
    /// priority.
    async fn pick(&mut self, request: &ClaimRequest) -> Result<Vec<ClaimedTask>, sqlx::Error> {
        let mut picked = Vec::new();
        let mut has_suspect = false;
        while picked.len() < request.slots {
            let ready = self.runs.iter().enumerate().filter(|(_, run)| {
                run.is_ready() && request.run.is_none_or(|only| run.seq == only)
            });
            let next = ready.min_by_key(|(_, run)| run.rank());
            let Some(at) = next.map(|(at, _)| at) else {
                break;
            };
            let Some(candidate) = self.take(at).await? else {
                continue;
            };
            if candidate.suspect {
                let had = std::mem::replace(&mut has_suspect, true);
                if had || lease::holds_suspect(&mut *self.conn, request.worker).await? {
                    self.runs[at].held_back = true;
                    continue;
                }
            }
            let reusable = match candidate.reusable {
                Some(graded) => {
                    let record = reuse::record(&mut *self.conn, &graded).await?;
                    Some((graded.id, record))
                }
                None => None,
            };
            let age = self.age(candidate.first_claim_ms);
            let run = &mut self.runs[at];
            self.asked.insert(candidate.task.content_key, run.seq);
            run.charge(&candidate.task);
            picked.push(ClaimedTask {
                lease: LeaseRef {
                    run: run.seq,
                    position: candidate.task.position,
                    sample: candidate.task.sample,
                    lease: LeaseId::from_bytes(rand::random()),
                },
                run: run.id.clone(),
                task: candidate.task,
                failures: candidate.failures,
                age,
                budgeted: run.budgeted,
                reusable,
                via: run.via,
                answered: None,
            });
        }
        self.advance().await?;
        Ok(picked)
    }

    /// Time since a task was first claimed.
    fn age(&self, first_claim_ms: Option<i64>) -> Duration {
        let first = first_claim_ms.unwrap_or(self.now);
        Duration::from_millis(u64::try_from(self.now.saturating_sub(first)).unwrap_or(0))
    }

    /// The next candidate of a run; `None` when it has no more.
    async fn take(&mut self, at: usize) -> Result<Option<Candidate>, sqlx::Error> {
        loop {
            self.fill(at).await?;
            let run = &mut self.runs[at];
            let Some(candidate) = run.candidates.pop_front() else {
                // Where all of a page was passed over there may be another.
                if run.more {
                    continue;
                }
                return Ok(None);
            };
            // What this group has claimed is not in the tables yet.
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

    /// Reads candidates where all that were read are picked.
    async fn fill(&mut self, at: usize) -> Result<(), sqlx::Error> {
        let run = &mut self.runs[at];
        if !run.candidates.is_empty() || !run.more {
            return Ok(());
        }
        let [turn, place, position, sample] = run.read_to;
        // `+ 0`: SQLite prepares a statement anew for every value of a bare `LIMIT ?`.
        let rows = sqlx::query(
            "SELECT turn, place, position, sample, id, category, content_key, estimated_tokens, \
                 rule, failures, first_claim_ms, dead_workers >= ? \
             FROM tasks INDEXED BY tasks_ready WHERE run = ? AND state = 0 \
                 AND (turn, place, position, sample) > (?, ?, ?, ?) \
             ORDER BY turn, place, position, sample LIMIT ? + 0",
        )
        .bind(SUSPECT_DEAD_WORKERS)
        .bind(run.seq)
        .bind(turn)
        .bind(place)
        .bind(position)
        .bind(sample)
        .bind(i64::try_from(self.page).unwrap_or(i64::MAX))
        .fetch_all(&mut *self.conn)
        .await?;
        run.more = rows.len() == self.page;
        for row in &rows {
            run.read_to = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
            run.candidates.push_back(Candidate::read(row)?);
        }
        self.find_twins(at).await
    }

    /// Finds verdicts for the candidates just read; passes over those that another run asks for.
    async fn find_twins(&mut self, at: usize) -> Result<(), sqlx::Error> {
        let run = &mut self.runs[at];
        let asking = run.candidates.iter().filter(|candidate| run.takes_over(&candidate.task));
        let keys: Vec<ContentKey> = asking.map(|candidate| candidate.task.content_key).collect();
        if !self.several_runs || keys.is_empty() {
            return Ok(());
        }
        let twins = reuse::twins(&mut *self.conn, run.seq, &keys).await?;
        for mut candidate in std::mem::take(&mut run.candidates) {
            let twin = twins.get(&candidate.task.content_key);
            match twin.filter(|_| run.takes_over(&candidate.task)) {
                Some(Twin::Asking) => {
                    run.held_back = true;
                    continue;
                }
                Some(Twin::Graded(graded)) => candidate.reusable = Some(graded.clone()),
                None => {}
            }
            run.candidates.push_back(candidate);
        }
        Ok(())
    }

    /// Moves the virtual time up to the run that has had the least and is ready still: one that
    /// becomes ready later starts level with it.
    async fn advance(&mut self) -> Result<(), sqlx::Error> {
        for at in 0..self.runs.len() {
            if self.runs[at].claimed {
                self.fill(at).await?;
            }
        }
        let ready = self.runs.iter().filter(|run| run.is_contending());
        if let Some((_, least)) = ready.map(ReadyRun::rank).min() {
            self.virtual_time = self.virtual_time.max(least);
        }
        Ok(())
    }

    /// What writes the times that have changed, and how many rows it changes.
    fn times(&self, before: i64, now: i64) -> (Script, u64) {
        let (mut script, mut changes) = (Script::default(), 0);
        // Those that have had nothing to claim since the last claim.
        let idle = |seq: &&i64| !self.runs.iter().any(|run| run.seq == **seq);
        for seq in self.contending.iter().filter(idle) {
            script = script.and("UPDATE runs SET contending = 0 WHERE seq = ?").bind(*seq);
            changes += 1;
        }
        for run in self.runs.iter().filter(|run| run.has_changed()) {
            script = script
                .and(
                    "UPDATE runs SET virtual_time = ?, contending = ?, \
                         first_claim_ms = iif(?, coalesce(first_claim_ms, ?), first_claim_ms) \
                     WHERE seq = ?",
                )
                .bind(run.virtual_time)
                .bind(run.is_contending())
                .bind(run.claimed)
                .bind(now)
                .bind(run.seq);
            changes += 1;
        }
        if self.virtual_time != before {
            script = script
                .and("UPDATE store_meta SET value = ? WHERE key = ?")
                .bind(self.virtual_time)
                .bind(schema::VIRTUAL_TIME);
            changes += 1;
        }
        (script, changes)
    }
}

// === impl Candidate ===

impl Candidate {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let content_key: &[u8] = row.try_get(6)?;
        Ok(Self {
            task: LeafTask {
                position: row.try_get(2)?,
                sample: row.try_get(3)?,
                id: row.try_get(4)?,
                category: named(row, 5, Category::from_name)?,
                content_key: ContentKey::from_slice(content_key)
                    .ok_or_else(|| damaged("content key"))?,
                order: row.try_get(1)?,
                estimated_tokens: row.try_get(7)?,
                rule: row.try_get(8)?,
            },
            failures: row.try_get(9)?,
            first_claim_ms: row.try_get(10)?,
            suspect: row.try_get(11)?,
            reusable: None,
        })
    }
}

/// A run that has ready tasks.
fn ready_run(row: &SqliteRow) -> Result<ReadyRun<Candidate>, sqlx::Error> {
    let id: &str = row.try_get(1)?;
    Ok(ReadyRun {
        seq: row.try_get(0)?,
        id: id.parse().map_err(|_| damaged("run id"))?,
        virtual_time: row.try_get(2)?,
        weight: Weight::new(row.try_get(3)?).unwrap_or_default(),
        stored: (row.try_get(2)?, row.try_get(4)?),
        reuse: row.try_get(5)?,
        budgeted: row.try_get(6)?,
        via: named(row, 7, Via::from_name)?,
        claimed: false,
        held_back: false,
        candidates: VecDeque::new(),
        read_to: [-1; 4],
        more: true,
        room: ready::room(row.try_get(8)?, row.try_get(9)?),
        priority: row.try_get(10)?,
    })
}
