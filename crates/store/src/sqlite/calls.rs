//! The steps that the store's methods share.
//!
//! Owns finding a run's number, sending a request and reading its answer. The methods themselves are in `sqlite.rs`.

use std::sync::PoisonError;

use tribunal_core::{LeaseId, RunId};

use super::{
    SqliteStore,
    claim::ClaimedTask,
    error,
    outcome::NewVerdict,
    read,
    request::{Answer, LeaseRef, Request},
};
use crate::{
    error::StoreError,
    record,
    store::{Claim, Completion, Reusable},
};

/// The number of a run that does not exist: no lease of it can be held.
const NO_RUN: i64 = -1;

// === impl SqliteStore ===

impl SqliteStore {
    pub(super) fn error(&self, error: sqlx::Error) -> StoreError {
        error::sql(&self.name, error)
    }

    /// The number of a run, or [`StoreError::NoSuchRun`].
    pub(super) async fn seq(&self, run: &RunId) -> Result<i64, StoreError> {
        self.find(run).await?.ok_or_else(|| StoreError::NoSuchRun { run: run.to_string() })
    }

    pub(super) async fn find(&self, run: &RunId) -> Result<Option<i64>, StoreError> {
        let runs = || self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&seq) = runs().get(run) {
            return Ok(Some(seq));
        }
        let seq = read::seq(&self.readers, run).await.map_err(|e| self.error(e))?;
        if let Some(seq) = seq {
            runs().insert(run.clone(), seq);
        }
        Ok(seq)
    }

    /// Forgets the number of a run that is not there any more.
    pub(super) fn forget(&self, run: &RunId) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
    }

    pub(super) async fn lease(
        &self,
        run: &RunId,
        position: u32,
        sample: u32,
        lease: LeaseId,
    ) -> Result<LeaseRef, StoreError> {
        Ok(LeaseRef { run: self.find(run).await?.unwrap_or(NO_RUN), position, sample, lease })
    }

    /// A claim as callers see it.
    pub(super) fn claimed(&self, claimed: ClaimedTask) -> Result<Claim, StoreError> {
        let reusable = claimed.reusable.map(|(run, bytes)| {
            let (position, sample) = (claimed.task.position, claimed.task.sample);
            let verdict = record::decode(&bytes, position, sample, &self.name)?;
            Ok(Box::new(Reusable { run, verdict }))
        });
        Ok(Claim {
            lease: claimed.lease.lease,
            run: claimed.run,
            task: claimed.task,
            failures: claimed.failures,
            age: claimed.age,
            budgeted: claimed.budgeted,
            reusable: reusable.transpose()?,
            via: claimed.via,
            answered: claimed.answered.map(|row| self.answered(row)).transpose()?,
        })
    }

    pub(super) fn wrong_answer(&self) -> StoreError {
        StoreError::Engine {
            store: self.name.clone(),
            reason: "a request was answered as if it were another".to_owned(),
        }
    }

    pub(super) async fn count(&self, request: Request) -> Result<u64, StoreError> {
        match self.writer.send(request).await? {
            Answer::Count(count) => Ok(count),
            _ => Err(self.wrong_answer()),
        }
    }

    pub(super) async fn done(&self, request: Request) -> Result<(), StoreError> {
        match self.writer.send(request).await? {
            Answer::Done => Ok(()),
            _ => Err(self.wrong_answer()),
        }
    }

    pub(super) async fn new_verdict(
        &self,
        completion: Completion,
    ) -> Result<NewVerdict, StoreError> {
        let Completion { run, lease, verdict, attempts } = completion;
        record::check(&verdict, &self.name)?;
        Ok(NewVerdict {
            lease: self.lease(&run, verdict.position, verdict.sample, lease).await?,
            score: verdict.outcome.score(),
            reason: verdict.outcome.ungraded().map(|reason| reason.name()),
            source: verdict.source.name(),
            simulated: verdict.simulated,
            record: record::encode(&verdict, &self.name)?,
            attempts,
        })
    }
}
