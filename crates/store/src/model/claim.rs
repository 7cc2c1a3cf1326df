//! Who gets which task next in the store in memory.
//!
//! Owns stride scheduling over runs, and what other runs know of a question: a verdict that can
//! be taken over, or that it is being asked at this moment.

use std::{collections::HashSet, time::Duration};

use tribunal_core::{ContentKey, LeaseId, RunId, Verdict, VerdictSource, WorkerId};

use super::{Run, State, Tables, Task};
use crate::store::{Claim, Reusable};

/// What other runs know of a question.
enum Twin {
    None,
    Asking,
    Graded(Box<Reusable>),
}

/// The number of a run in the tables, a task's key, and the verdict that it can take over.
type Next = (usize, (u32, u32), Option<Box<Reusable>>);

// === impl Tables ===

impl Tables {
    /// Always from the run that has had the fewest tokens over its weight, of those of the highest
    /// priority.
    pub(super) fn claim(
        &mut self,
        (worker, slots): (WorkerId, usize),
        end: i64,
        only: Option<&RunId>,
        now: i64,
    ) -> Vec<Claim> {
        // Who had nothing to claim starts level: neither behind, nor owed what it did not use.
        let level = self.virtual_time;
        for run in self.runs.iter_mut().filter(|run| run.is_contending() && !run.contending) {
            run.virtual_time = run.virtual_time.max(level);
        }
        let mut claims = Vec::new();
        while claims.len() < slots {
            let Some((at, key, reusable)) = self.next(only) else { break };
            let run = &mut self.runs[at];
            let Some(task) = run.tasks.get_mut(&key) else { break };
            run.virtual_time += run.record.weight.charge(task.task.estimated_tokens);
            run.first_claim_ms.get_or_insert(now);
            let first = *task.first_claim_ms.get_or_insert(now);
            let lease = LeaseId::from_bytes(rand::random());
            task.state = State::Leased { lease, end, worker };
            claims.push(Claim {
                lease,
                run: run.record.run.id.clone(),
                task: task.task.clone(),
                failures: task.failures,
                age: Duration::from_millis(u64::try_from(now - first).unwrap_or(0)),
                budgeted: !run.account.budget.is_unlimited(),
                reusable,
                via: run.record.via,
                answered: task.posted.as_ref().and_then(|posted| posted.answered()),
            });
        }
        for run in &mut self.runs {
            run.contending = run.is_contending();
        }
        // A run that becomes ready later starts level with the one that has had the least.
        let contending = self.runs.iter().filter(|run| run.contending);
        if let Some((_, least)) = contending.map(Run::rank).min() {
            self.virtual_time = self.virtual_time.max(least);
        }
        claims
    }

    /// The run and the task to be claimed next, and the verdict that it can take over.
    fn next(&self, only: Option<&RunId>) -> Option<Next> {
        let named = |run: &Run| only.is_none_or(|only| run.record.run.id == *only);
        let mut runs: Vec<usize> = (0..self.runs.len())
            .filter(|at| self.runs[*at].is_contending() && named(&self.runs[*at]))
            .collect();
        runs.sort_by_key(|at| self.runs[*at].rank());
        runs.into_iter().find_map(|at| {
            self.runs[at].ready().into_iter().find_map(|key| {
                match self.twin(at, &self.runs[at].tasks[&key]) {
                    Twin::None => Some((at, key, None)),
                    Twin::Asking => None,
                    Twin::Graded(reusable) => Some((at, key, Some(reusable))),
                }
            })
        })
    }

    /// The content keys of verdicts that can be taken over.
    pub(super) fn reusable_keys(&self) -> HashSet<ContentKey> {
        let tasks = self.runs.iter().flat_map(|run| run.tasks.values());
        let reusable = tasks.filter(|task| match &task.state {
            State::Done { verdict, .. } => is_reusable(verdict),
            _ => false,
        });
        reusable.map(|task| task.task.content_key).collect()
    }

    fn twin(&self, at: usize, task: &Task) -> Twin {
        if !self.runs[at].record.run.reuse || task.task.rule.is_some() {
            return Twin::None;
        }
        let others = self.runs.iter().enumerate().filter(|(other, _)| *other != at);
        let twins = others.flat_map(|(_, run)| run.tasks.values().map(move |task| (run, task)));
        let twins = twins.filter(|(_, twin)| twin.task.content_key == task.task.content_key);
        let mut asking = false;
        let mut oldest = None;
        for (run, twin) in twins {
            match &twin.state {
                State::Leased { .. } | State::Posted => asking = true,
                State::Done { verdict, stored_ms, .. }
                    if is_reusable(verdict)
                        && oldest.as_ref().is_none_or(|(oldest, _)| stored_ms < oldest) =>
                {
                    let (run, verdict) = (run.record.run.id.clone(), (**verdict).clone());
                    oldest = Some((*stored_ms, Reusable { run, verdict }));
                }
                _ => {}
            }
        }
        match oldest {
            Some((_, reusable)) => Twin::Graded(Box::new(reusable)),
            None if asking => Twin::Asking,
            None => Twin::None,
        }
    }
}

/// Whether a judge graded it, for this run or another.
fn is_reusable(verdict: &Verdict) -> bool {
    verdict.outcome.score().is_some() && !matches!(verdict.source, VerdictSource::Rule { .. })
}
