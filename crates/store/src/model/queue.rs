//! The queue of the store in memory: states of a task, reaping, settling, adding up.
//!
//! Owns what becomes of a lost task. Who is claimed next is `claim`'s.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use tribunal_core::{
    Attempt, FailureClass, LeafTask, LeaseId, RunId, RunState, UngradedReason, Verdict, WorkerId,
    verdict::PossibleSpend,
};

use super::{Tables, batches::Posted};
use crate::{
    budget::Account,
    label::Label,
    store::{MAX_LOST_LEASES, Progress, RunRecord},
    totals::{KindTotals, RunTotals},
};

/// A run and its tasks.
pub(super) struct Run {
    pub(super) record: RunRecord,
    pub(super) tasks: BTreeMap<(u32, u32), Task>,
    pub(super) first_claim_ms: Option<i64>,
    /// What people said of its leaves, in order.
    pub(super) labels: Vec<Label>,
    /// What its claims have used over its weight; level with the others when it had been idle.
    pub(super) virtual_time: i64,
    /// Whether it had ready tasks after the last claim.
    pub(super) contending: bool,
    pub(super) account: Account,
}

/// A task with everything known of it.
pub(super) struct Task {
    pub(super) task: LeafTask,
    pub(super) state: State,
    pub(super) failures: u32,
    /// Leases that ended by time since a living worker last reported.
    pub(super) ended_leases: u32,
    pub(super) class: Option<FailureClass>,
    pub(super) first_claim_ms: Option<i64>,
    pub(super) error: String,
    pub(super) attempts: Vec<Attempt>,
    pub(super) posted: Option<Posted>,
}

/// Where a task stands.
pub(super) enum State {
    Ready,
    /// Not before `until`, unless the clock is set back to before `from`.
    Waiting {
        from: i64,
        until: i64,
    },
    /// Until its batch has a reply for it, or ends.
    Posted,
    Leased {
        lease: LeaseId,
        end: i64,
        worker: WorkerId,
    },
    Done {
        lease: LeaseId,
        verdict: Arc<Verdict>,
        stored_ms: i64,
    },
    Dead,
    Cancelled,
}

// === impl Run ===

impl Run {
    pub(super) fn new(record: RunRecord) -> Self {
        Self {
            record,
            tasks: BTreeMap::new(),
            first_claim_ms: None,
            labels: Vec::new(),
            virtual_time: 0,
            contending: false,
            account: Account::default(),
        }
    }

    /// The state of a task that nobody holds and that has no verdict.
    pub(super) fn back_in_queue(&self) -> State {
        match self.record.state {
            RunState::Cancelled => State::Cancelled,
            RunState::Active | RunState::Paused => State::Ready,
        }
    }

    /// The tasks after a key.
    pub(super) fn page(
        &self,
        after: Option<(u32, u32)>,
        limit: usize,
    ) -> impl Iterator<Item = (&(u32, u32), &Task)> {
        let from = after.map_or(Unbounded, Excluded);
        self.tasks.range((from, Unbounded)).take(limit)
    }

    /// What its calls and verdicts add up to; what is reserved is the tables' to say.
    pub(super) fn totals(&self) -> RunTotals {
        let mut totals = RunTotals::default();
        for task in self.tasks.values() {
            for attempt in &task.attempts {
                let Attempt { kind, class, via, usage, cost_usd, .. } = *attempt;
                let free = (usage.input + usage.output == 0).then_some(0.0);
                totals.add_calls(kind, class, KindTotals::of(via, 1, usage, cost_usd.or(free)));
                if let Some(PossibleSpend { usage, cost_usd }) = attempt.possible {
                    totals.possible.add(KindTotals::of(via, 1, usage, cost_usd));
                }
            }
            if let State::Done { verdict, stored_ms, .. } = &task.state {
                totals.any_simulated |= verdict.simulated;
                totals.lasted(self.first_claim_ms.unwrap_or(*stored_ms), *stored_ms);
                if verdict.outcome.score().is_some() {
                    totals.add_graded(verdict.source.name(), 1);
                }
            }
        }
        totals
    }

    pub(super) fn progress(&self, now: i64) -> Progress {
        let mut progress = Progress::default();
        for task in self.tasks.values() {
            progress.leaves += 1;
            let mut waits = |until: i64| {
                let wait = u64::try_from(until.saturating_sub(now)).unwrap_or(0);
                let known = progress.next_in_ms.unwrap_or(u64::MAX);
                progress.next_in_ms = Some(known.min(wait));
            };
            match &task.state {
                State::Ready => waits(now),
                State::Waiting { from, .. } if *from > now => waits(now),
                State::Waiting { until, .. } => waits(*until),
                _ => {}
            }
            progress.posted += u64::from(matches!(task.state, State::Posted));
            *match &task.state {
                State::Ready | State::Waiting { .. } | State::Posted => &mut progress.pending,
                State::Leased { .. } => &mut progress.leased,
                State::Done { .. } => &mut progress.done,
                State::Dead => &mut progress.dead,
                State::Cancelled => &mut progress.cancelled,
            } += 1;
            let verdict = task.verdict().map(|verdict| verdict.outcome);
            let reason = match verdict {
                Some(outcome) => outcome.ungraded(),
                None => task.missing().filter(|r| *r != UngradedReason::Pending),
            };
            if let Some(reason) = reason {
                *progress.ungraded.entry(reason).or_default() += 1;
            }
        }
        progress
    }

    /// Tasks that may be claimed, in claim order: those lost least often first.
    pub(super) fn ready(&self) -> Vec<(u32, u32)> {
        let ready = self.tasks.iter().filter(|(_, task)| matches!(task.state, State::Ready));
        let mut ready: Vec<_> =
            ready.map(|(key, task)| (task.ended_leases, task.task.order, *key)).collect();
        ready.sort_unstable();
        ready.into_iter().map(|(_, _, key)| key).collect()
    }

    /// Who is claimed from first: the least.
    pub(super) fn rank(&self) -> (Reverse<i32>, i64) {
        (Reverse(self.record.priority), self.virtual_time)
    }

    /// Whether it has tasks that may be claimed, be it that they wait for another run's verdict.
    pub(super) fn is_contending(&self) -> bool {
        let ready = |task: &Task| matches!(task.state, State::Ready);
        let leased = |task: &&Task| matches!(task.state, State::Leased { .. });
        let room = self
            .record
            .max_in_flight
            .is_none_or(|cap| self.tasks.values().filter(leased).count() < cap.get() as usize);
        self.record.state == RunState::Active && room && self.tasks.values().any(ready)
    }
}

// === impl Task ===

impl Task {
    pub(super) fn new(task: LeafTask, state: State) -> Self {
        Self {
            task,
            state,
            failures: 0,
            ended_leases: 0,
            class: None,
            first_claim_ms: None,
            error: String::new(),
            attempts: Vec::new(),
            posted: None,
        }
    }

    /// Ready, if it waited for a batch.
    pub(super) fn wake(&mut self) {
        if matches!(self.state, State::Posted) {
            self.state = State::Ready;
        }
    }

    /// Back in the queue as if it were new, except for the calls that were made and posted.
    pub(super) fn begin_again(&mut self) {
        let (attempts, posted) = (std::mem::take(&mut self.attempts), self.posted.take());
        let state = match &posted {
            Some(posted) if posted.reply.is_none() => State::Posted,
            _ => State::Ready,
        };
        *self = Task { attempts, posted, ..Task::new(self.task.clone(), state) };
    }

    pub(super) fn verdict(&self) -> Option<&Verdict> {
        match &self.state {
            State::Done { verdict, .. } => Some(verdict),
            _ => None,
        }
    }

    /// Why there is no verdict; `None` when there is one.
    pub(super) fn missing(&self) -> Option<UngradedReason> {
        match &self.state {
            State::Done { .. } => None,
            State::Ready | State::Waiting { .. } | State::Posted | State::Leased { .. } => {
                Some(UngradedReason::Pending)
            }
            State::Dead => {
                Some(self.class.map_or(UngradedReason::Internal, FailureClass::ungraded_reason))
            }
            State::Cancelled => Some(UngradedReason::Cancelled),
        }
    }

    pub(super) fn forgive_losses(&mut self) {
        self.ended_leases = 0;
    }

    pub(super) fn may_retry(&self, classes: &[FailureClass]) -> bool {
        let any = classes.is_empty();
        match &self.state {
            State::Cancelled => true,
            State::Dead => any || self.class.is_some_and(|class| classes.contains(&class)),
            State::Done { verdict, .. } => verdict
                .outcome
                .ungraded()
                .is_some_and(|reason| any || classes.iter().any(|class| class.leads_to(reason))),
            State::Ready | State::Waiting { .. } | State::Posted | State::Leased { .. } => false,
        }
    }
}

// === impl Tables ===

impl Tables {
    /// Takes back ended leases, the oldest end first.
    pub(super) fn reap(&mut self, limit: usize, now: i64) -> u64 {
        let mut ended = Vec::new();
        for (seq, run) in self.runs.iter().enumerate() {
            for (key, task) in &run.tasks {
                match task.state {
                    State::Leased { end, .. } if end <= now => ended.push((end, seq, *key)),
                    _ => {}
                }
            }
        }
        ended.sort_unstable();
        ended.truncate(limit);
        for (_, seq, key) in &ended {
            let run = &mut self.runs[*seq];
            let back = run.back_in_queue();
            if let Some(task) = run.tasks.get_mut(key) {
                task.ended_leases += 1;
                task.class = Some(FailureClass::LostLease);
                task.error = format!(
                    "lost without an answer: {} leases ended, 0 worker processes died",
                    task.ended_leases
                );
                let worn = task.ended_leases >= MAX_LOST_LEASES;
                task.state = match back {
                    State::Ready if worn => State::Dead,
                    back => back,
                };
            }
        }
        ended.len() as u64
    }

    /// Makes tasks ready whose wait is over, or has begun in the future: then the clock was set back.
    /// They stay so if it steps back later.
    pub(super) fn promote(&mut self, now: i64) {
        for task in self.runs.iter_mut().flat_map(|run| run.tasks.values_mut()) {
            match task.state {
                State::Waiting { from, until } if until <= now || from > now => {
                    task.state = State::Ready;
                }
                _ => {}
            }
        }
    }

    /// Charges a run what a claim used beyond the estimate, or gives back the difference.
    pub(super) fn settle(&mut self, run: &RunId, key: (u32, u32), used_tokens: u64) {
        let Some(run) = self.find(run) else { return };
        if let Some(task) = run.tasks.get(&key) {
            let estimated = task.task.estimated_tokens;
            run.virtual_time += run.record.weight.settlement(estimated, used_tokens);
        }
    }
}
