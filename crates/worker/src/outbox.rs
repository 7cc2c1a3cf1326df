//! Ends of claims on their way to the store.
//!
//! Owns grouping them, and the leases that this process holds until their end is stored. A claim's
//! slot is free only then: when the store is slow, claiming stops. Decides nothing about a leaf.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tribunal_core::{Attempt, LeaseId, RunId, RunState, event::Event, ids::TaskKey};
use tribunal_store::{
    Claim, CompleteOutcome, Completion, FailOutcome, Failure, Held, Store, StoreError,
};

use crate::{
    attempt::{Attempted, End},
    measure::{leaves_in_flight, timed},
    pool::EventSink,
};

/// Ends stored in one transaction at most.
const GROUP: usize = 256;

/// Tries of a write while another process holds the store.
const BUSY_TRIES: u32 = 20;

/// Share of a lease that is left when its attempt stops: the end must not come too late to be given
/// back, nor a call be begun that nobody waits for.
const LEASE_MARGIN: u32 = 20;

/// One finished claim, with the slot that it frees.
pub(crate) struct Finished {
    pub(crate) claim: Claim,
    pub(crate) attempted: Attempted,
    pub(crate) slot: OwnedSemaphorePermit,
}

/// A lease held by this process.
struct HeldLease {
    run: RunId,
    position: u32,
    sample: u32,
    deadline: Instant,
    stop: CancellationToken,
}

/// The leases held by this process.
#[derive(Default)]
pub(crate) struct Leases(Mutex<HashMap<LeaseId, HeldLease>>);

/// A claim as its attempt sees it: cancelled when the lease is lost.
pub(crate) type Stop = CancellationToken;

// === impl Leases ===

impl Leases {
    /// Holds the claim's lease from `claimed`, the instant before it was asked for.
    pub(crate) fn hold(&self, claim: &Claim, claimed: Instant, ttl: Duration, stop: Stop) {
        let lease = HeldLease {
            run: claim.run.clone(),
            position: claim.task.position,
            sample: claim.task.sample,
            deadline: deadline(claimed, ttl),
            stop,
        };
        let mut leases = self.lock();
        leases.insert(claim.lease, lease);
        leaves_in_flight(leases.len());
    }

    fn release(&self, lease: LeaseId) {
        let mut leases = self.lock();
        leases.remove(&lease);
        leaves_in_flight(leases.len());
    }

    /// Stops every attempt at its lease's deadline, as soon as it has come. `look` is the longest time
    /// between two looks; shorter than any lease.
    pub(crate) async fn watch(&self, look: Duration) {
        loop {
            let now = Instant::now();
            let next = self.stop_ended(now).map_or(now + look, |next| next.min(now + look));
            tokio::time::sleep_until(next).await;
        }
    }

    /// Stops every attempt whose deadline has come; returns the next deadline.
    fn stop_ended(&self, now: Instant) -> Option<Instant> {
        let leases = self.lock();
        let mut next: Option<Instant> = None;
        for lease in leases.values() {
            if lease.deadline <= now {
                lease.stop.cancel();
            } else {
                next = Some(next.map_or(lease.deadline, |next| next.min(lease.deadline)));
            }
        }
        next
    }

    /// Stops every attempt whose lease has ended by this process's own clock, and asks the store
    /// for more time for the rest.
    ///
    /// # Errors
    ///
    /// The store's; the leases then end by their own deadline.
    pub(crate) async fn beat(
        &self,
        store: &dyn Store,
        ttl: Duration,
        events: &dyn EventSink,
    ) -> Result<(), StoreError> {
        let now = Instant::now();
        self.stop_ended(now);
        let held: Vec<(RunId, u32, u32, LeaseId)> = {
            let leases = self.lock();
            let alive = leases.iter().filter(|(_, lease)| lease.deadline > now);
            alive.map(|(id, l)| (l.run.clone(), l.position, l.sample, *id)).collect()
        };
        if held.is_empty() {
            return Ok(());
        }
        let answers = timed("heartbeat", store.heartbeat(held.clone(), ttl)).await?;
        let mut leases = self.lock();
        for ((run, position, sample, id), answer) in held.into_iter().zip(answers) {
            let Some(lease) = leases.get_mut(&id) else {
                continue;
            };
            match answer {
                Held::Held | Held::Drain => lease.deadline = deadline(now, ttl),
                Held::Cancel => lease.stop.cancel(),
                Held::Lost => {
                    // It is not asked about again.
                    lease.deadline = now;
                    lease.stop.cancel();
                    events.event(Event::Lost { task: TaskKey { run, position, sample } });
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<LeaseId, HeldLease>> {
        // A panic while the map was locked leaves a map: every operation on it is one step.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Stores ends until every sender is gone; tells `stored_some` after each group.
///
/// # Errors
///
/// The store's, when it is not a lock that passes. What was not stored is graded again.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    leases: Arc<Leases>,
    events: Arc<dyn EventSink>,
    (stored_some, done): (&Notify, &AtomicU64),
    mut finished: mpsc::Receiver<Finished>,
) -> Result<(), StoreError> {
    let mut group = Vec::with_capacity(GROUP);
    while let Some(first) = finished.recv().await {
        group.push(first);
        // What ends at this moment goes with it: a transaction costs little more for many than for one.
        tokio::task::yield_now().await;
        while group.len() < GROUP
            && let Ok(next) = finished.try_recv()
        {
            group.push(next);
        }
        let mut slots = Vec::with_capacity(group.len());
        let mut ends = Ends::default();
        for Finished { claim, mut attempted, slot } in group.drain(..) {
            slots.push((claim.lease, (slot, attempted.call_place.take())));
            ends.add(claim, attempted);
        }
        let stored = ends.store(&*store, &*events, done).await;
        for (lease, slot) in slots {
            leases.release(lease);
            drop(slot);
        }
        stored_some.notify_one();
        stored?;
    }
    Ok(())
}

/// A group of ends, by what is done with them.
#[derive(Default)]
struct Ends {
    completions: Vec<Completion>,
    failures: Vec<Failure>,
    releases: Vec<(RunId, u32, u32, LeaseId, Vec<Attempt>)>,
    pauses: Vec<(RunId, String)>,
}

// === impl Ends ===

impl Ends {
    fn add(&mut self, claim: Claim, attempted: Attempted) {
        let Attempted { end, attempts, .. } = attempted;
        let Claim { run, lease, task, .. } = claim;
        let (position, sample) = (task.position, task.sample);
        let mut failure = |class, retry_in, charged, error, attempts| {
            let run = run.clone();
            self.failures.push(Failure {
                run,
                lease,
                position,
                sample,
                class,
                retry_in,
                charged,
                error,
                attempts,
            });
        };
        match end {
            End::Verdict(verdict) => {
                let attempts = attempts.into();
                self.completions.push(Completion { run, lease, verdict, attempts });
            }
            End::Retry { class, delay, charged, error } => {
                failure(class, Some(delay), charged, error, attempts);
            }
            End::Dead { class, error } => failure(class, None, 0, error, attempts),
            End::Posted => {}
            End::Release => self.releases.push((run, position, sample, lease, attempts)),
            End::Pause { reason } => {
                if !self.pauses.iter().any(|(paused, _)| *paused == run) {
                    self.pauses.push((run.clone(), reason));
                }
                self.releases.push((run, position, sample, lease, attempts));
            }
        }
    }

    /// Stores all of them; counts verdicts in `done`.
    async fn store(
        self,
        store: &dyn Store,
        events: &dyn EventSink,
        done: &AtomicU64,
    ) -> Result<(), StoreError> {
        // The pause goes first, so that no worker claims what is being released.
        for (run, reason) in self.pauses {
            again(|| store.control(&run, RunState::Paused, &reason)).await?;
            events.event(Event::Paused { run, reason });
        }
        if !self.completions.is_empty() {
            let outcomes =
                again(|| timed("complete", store.complete(self.completions.clone()))).await?;
            for (completion, outcome) in self.completions.iter().zip(outcomes) {
                let Completion { run, verdict, .. } = completion;
                done.fetch_add(u64::from(outcome != CompleteOutcome::Fenced), Ordering::Relaxed);
                let (position, sample) = (verdict.position, verdict.sample);
                match outcome {
                    CompleteOutcome::Fenced => {
                        tracing::info!(%run, position, sample, "verdict fenced: the lease was lost");
                    }
                    _ => tracing::debug!(%run, position, sample, "verdict acknowledged"),
                }
                let task = key(run, position, sample);
                events.event(match outcome {
                    CompleteOutcome::Stored | CompleteOutcome::Duplicate => Event::Stored {
                        task,
                        outcome: verdict.outcome,
                        source: verdict.source.clone(),
                    },
                    CompleteOutcome::Fenced => Event::Lost { task },
                });
            }
        }
        if !self.failures.is_empty() {
            let outcomes = again(|| timed("fail", store.fail(self.failures.clone()))).await?;
            for (failure, outcome) in self.failures.iter().zip(outcomes) {
                let Failure { run, position, sample, class, retry_in, error, .. } = failure;
                let task = key(run, *position, *sample);
                let (class, error) = (*class, error.clone());
                events.event(match (outcome, retry_in) {
                    (FailOutcome::Fenced, _) => Event::Lost { task },
                    (_, Some(delay)) => Event::Requeued { task, class, delay: *delay },
                    (_, None) => Event::Dead { task, class, error },
                });
            }
        }
        if !self.releases.is_empty() {
            again(|| timed("release", store.release(self.releases.clone()))).await?;
        }
        Ok(())
    }
}

/// When an attempt stops whose lease was asked for, or prolonged, at this instant: before the store
/// lets it end.
fn deadline(asked: Instant, ttl: Duration) -> Instant {
    asked + ttl - ttl / LEASE_MARGIN
}

fn key(run: &RunId, position: u32, sample: u32) -> TaskKey {
    TaskKey { run: run.clone(), position, sample }
}

/// Repeats a write that a passing lock refused: every write of the store may be repeated.
pub(crate) async fn again<T, F>(mut write: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        match write().await {
            Err(error) if error.is_retryable() && tries < BUSY_TRIES => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_attempt_stops_before_its_lease_ends_though_nobody_beats() {
        const TTL: Duration = Duration::from_secs(60);
        let (leases, stops) = (Arc::new(Leases::default()), [Stop::new(), Stop::new()]);
        let start = Instant::now();
        for (number, stop) in stops.iter().enumerate() {
            let lease = HeldLease {
                run: RunId::from_hash(tribunal_core::BlobHash::of(b"run")),
                position: 0,
                sample: 0,
                deadline: deadline(start + TTL * number as u32, TTL),
                stop: stop.clone(),
            };
            leases.lock().insert(LeaseId::from_bytes([number as u8; 16]), lease);
        }
        let watched = Arc::clone(&leases);
        let watch = tokio::spawn(async move { watched.watch(TTL / 4).await });
        stops[0].cancelled().await;
        assert_eq!(start.elapsed().as_secs(), 57);
        assert!(!stops[1].is_cancelled());
        stops[1].cancelled().await;
        assert_eq!(start.elapsed().as_secs(), 117);
        watch.abort();
    }
}
