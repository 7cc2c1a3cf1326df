//! The files that a leaf is shown where not all of them fit.
//!
//! Owns asking the judge for a ranking, once for all leaves that share it, and what an unusable one
//! leads to: another question, and in the end a leaf without a score. No leaf is ever asked about
//! without the files that its method promises.

use std::sync::Arc;

use tribunal_core::{CallKind, FailureClass, LeafTask, Rubric, UngradedReason};

use super::{
    Asker, End, Turn,
    ask::{NotAsked, OwnMessages},
    cut::Cut,
    shown_again, unusable,
};
use crate::{
    parse::{self, BadReply},
    provider::{Finish, Reply},
    recorded::ContextError,
    run_context::Shared,
    select::{Files, Group, Selector},
};

/// The files of one leaf.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Whether they were chosen within half the room.
    shrunk: bool,
    /// The files.
    pub(super) files: Arc<Files>,
    /// The leaves that are shown the same.
    pub(super) group: Arc<Group>,
}

/// Why there are no files.
#[derive(Debug)]
pub(super) enum NoFiles {
    /// The attempt ends.
    End(Box<End>),
    /// What all leaves are shown was too long already, and is shown shrunk from now on.
    Shrunk,
    /// The leaf is not to blame.
    Context(ContextError),
}

// === impl Turn ===

impl Turn<'_> {
    /// Chooses the leaf's files, where they are to be chosen and are not yet.
    pub(super) async fn choose(
        &mut self,
        shared: &Shared,
        rubric: &Rubric,
        index: usize,
    ) -> Result<(), NoFiles> {
        let Some(selector) = &shared.selector else { return Ok(()) };
        if self.chosen.as_ref().is_some_and(|chosen| chosen.shrunk == self.shrunk) {
            return Ok(());
        }
        let Asker { run, stop, .. } = *self.asker;
        let group = selector.group(rubric, index);
        let first = match group[..] {
            [first, _, ..] => rubric.nodes()[first].position(),
            _ => self.claim.task.position,
        };
        let shares = run.groups.of(first, self.claim.task.sample);
        let ranking = if selector.method().asks_judge() {
            let cut = Cut::of(stop, self.deadline);
            let make = async || self.ranking(shared, selector, rubric, &group).await;
            tokio::select! {
                biased;
                cut = cut => return Err(self.cut(cut).into()),
                made = shares.ranking.get_or_try_init(make) => Some(made?.clone()),
            }
        } else {
            None
        };
        let mut known = shares.files[usize::from(self.shrunk)].lock().await;
        let files = match known.upgrade() {
            Some(files) => files,
            None => selector.files(&*run.store, rubric, &group, ranking.as_deref()).await?,
        };
        *known = Arc::downgrade(&files);
        drop(known);
        self.chosen = Some(Chosen { shrunk: self.shrunk, files, group: shares });
        Ok(())
    }

    /// The ranking for these leaves: what a sibling's verdict says of it, else the judge's.
    async fn ranking(
        &mut self,
        shared: &Shared,
        selector: &Selector,
        rubric: &Rubric,
        group: &[usize],
    ) -> Result<Vec<String>, NoFiles> {
        if let Some(posted) = &self.answered {
            return Ok(posted.selected.clone());
        }
        if let Some(recorded) = self.recorded_ranking(rubric, group).await? {
            return Ok(recorded);
        }
        let Asker { run, policy, budget, .. } = *self.asker;
        let mut repairs: Vec<(String, String)> = Vec::new();
        loop {
            self.form = run.form();
            let prompts = run.run.prompts_about(rubric, self.form);
            let own = prompts.rank(group, &shared.tree).map_err(unusable)?;
            let (kind, first_tokens) = (CallKind::Rank, None);
            let messages =
                OwnMessages { kind, group: None, first: &own, first_tokens, repairs: &repairs };
            let reply = match self.ask(shared, messages).await {
                Err(NotAsked::End(end)) => return Err(NoFiles::End(end)),
                Err(NotAsked::Context(error)) => return Err(error.into()),
                Ok(Ok(reply)) => reply,
                Ok(Err(failure)) => {
                    let shrunk = self.shrunk;
                    match self.failed(failure).await {
                        Some(end) => return Err(end.into()),
                        None if self.shrunk != shrunk => return Err(NoFiles::Shrunk),
                        None => continue,
                    }
                }
            };
            let problem = match self.read_ranking(&reply, selector) {
                Ok(paths) => {
                    budget.earn();
                    self.report_last(None, "");
                    return Ok(paths);
                }
                Err(BadReply(problem)) => problem,
            };
            self.report_last(Some(FailureClass::BadReply), &problem);
            if repairs.len() < policy.bad_reply_attempts as usize {
                let repair = run.run.repair(&problem, self.category, true)?;
                repairs.push((shown_again(&reply.content), repair));
                continue;
            }
            let asked = repairs.len() + 1;
            let words =
                format!("no usable ranking of files in {asked} tries; the last one: {problem}");
            let reason = UngradedReason::Unranked;
            return Err(self.ungraded(reason, words, reply.model, Some(reply.content)).into());
        }
    }

    fn read_ranking(&self, reply: &Reply, selector: &Selector) -> Result<Vec<String>, BadReply> {
        if reply.finish == Finish::Length {
            let cap = self.asker.run.run.spec.judge.max_output_tokens;
            return Err(BadReply(format!("it was cut off at {cap} tokens; name fewer files")));
        }
        selector.known(&parse::ranking(&reply.content, self.form)?)
    }

    /// The ranking that siblings were shown, by another process or before a restart.
    async fn recorded_ranking(
        &self,
        rubric: &Rubric,
        group: &[usize],
    ) -> Result<Option<Vec<String>>, NoFiles> {
        let run = self.asker.run;
        let evidence = run.run.evidence_hash(self.category)?;
        for sibling in group.iter().filter(|_| group.len() > 1) {
            let position = rubric.nodes()[*sibling].position();
            let sample = self.claim.task.sample;
            let before = match sample.checked_sub(1) {
                Some(before) => Some((position, before)),
                None => position.checked_sub(1).map(|before| (before, u32::MAX)),
            };
            let stored = run.store.verdicts(&run.run.id, before, 1).await;
            let stored = stored.map_err(ContextError::from)?.into_iter().next();
            let verdict =
                stored.filter(|stored| (stored.position, stored.sample) == (position, sample));
            let shown = verdict.and_then(|stored| stored.verdict).map(|verdict| verdict.shown);
            if let Some(shown) = shown
                && (shown.evidence, shown.shrunk) == (Some(evidence), false)
                && !shown.selected.is_empty()
            {
                return Ok(Some(shown.selected));
            }
        }
        Ok(None)
    }

    /// Forgets a group that was this leaf's alone, now that it has its verdict.
    pub(super) fn forget_own_group(&self) {
        let selector = self.shared.as_ref().and_then(|shared| shared.selector.as_ref());
        if selector.is_some_and(|selector| !selector.method().is_shared()) {
            let LeafTask { position, sample, .. } = self.claim.task;
            self.asker.run.groups.forget(position, sample);
        }
    }
}

// === impl NoFiles ===

impl From<End> for NoFiles {
    fn from(end: End) -> Self {
        NoFiles::End(Box::new(end))
    }
}

impl From<ContextError> for NoFiles {
    fn from(error: ContextError) -> Self {
        NoFiles::Context(error)
    }
}
