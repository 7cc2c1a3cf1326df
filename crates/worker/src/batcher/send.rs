//! A batch on its way to the provider.
//!
//! Owns the order: upload, ask the store whether the batch is held still, create, record. A request
//! that failed for a moment is made again; before a second creation the provider is asked whether the
//! first has come through.

use std::time::Duration;

use tribunal_core::{BatchId, FailureClass, RunState, event::Event};
use tribunal_store::StoreError;

use super::{Batcher, Closed, api};
use crate::{
    outbox::again,
    provider::{
        CallFailure,
        batch::{BatchApi, RemoteBatch},
    },
};

/// Why a request of the batch API is not made again.
pub(super) enum GivenUp {
    /// The provider refuses.
    Refused(CallFailure),
    /// This process ends.
    Stopped,
}

// === impl Batcher ===

impl Batcher {
    /// Sends a batch. Where that fails for good, its questions go back to the queue and the run is
    /// paused; where the process ends before, the next one goes on.
    pub(super) async fn send(&self, batch: Closed) -> Result<(), StoreError> {
        let Closed { id, run, route, lines, opened_ms } = batch;
        let questions = lines.len() as u64;
        let Some(api) = api(&route).filter(|_| questions > 0) else {
            return again(|| self.store.end_batch(id)).await.map(drop);
        };
        let name = &route.name;
        let file = match self.persist(|| api.upload(id, lines.clone())).await {
            Ok(file) => file,
            Err(GivenUp::Stopped) => return Ok(()),
            Err(GivenUp::Refused(failure)) => {
                again(|| self.store.end_batch(id)).await?;
                return self.pause(&run, refusal(name, "take the file of a batch", &failure)).await;
            }
        };
        drop(lines);
        let held = || self.store.mark_batch(id, self.worker, self.hold, None);
        if !again(held).await? {
            // Somebody else has given the questions back: they must not be asked from here.
            let _ = self.persist(|| api.withdraw(id)).await;
            return Ok(());
        }
        match self.create(api, id, &file, opened_ms).await {
            Ok(remote) => {
                // Whoever cancels a run cancels what the store knows of: not what was on its way.
                let state = self.store.run(&run).await.map(|record| record.state);
                if matches!(state, Ok(RunState::Cancelled)) {
                    let _ = self.persist(|| api.cancel(&remote.id)).await;
                }
                let remote = Some(remote.id);
                again(|| self.store.mark_batch(id, self.worker, self.hold, remote.clone())).await?;
                self.look_later(id);
                self.events.event(Event::BatchSent { run, questions });
                Ok(())
            }
            Err(GivenUp::Stopped) => Ok(()),
            Err(GivenUp::Refused(failure)) => {
                again(|| self.store.end_batch(id)).await?;
                self.pause(&run, refusal(name, "answer a batch", &failure)).await
            }
        }
    }

    /// Creates the batch, once.
    pub(super) async fn create(
        &self,
        api: &dyn BatchApi,
        id: BatchId,
        file: &str,
        since_ms: i64,
    ) -> Result<RemoteBatch, GivenUp> {
        let mut first = true;
        self.persist(|| {
            let since_ms = (!std::mem::take(&mut first)).then_some(since_ms);
            create(api, id, file, since_ms)
        })
        .await
    }

    /// Makes a request until it is answered, refused, or the process ends.
    pub(super) async fn persist<T, F>(&self, mut request: impl FnMut() -> F) -> Result<T, GivenUp>
    where
        F: Future<Output = Result<T, CallFailure>>,
    {
        let mut failures = 0;
        loop {
            let failure = tokio::select! {
                () = self.stop.cancelled(), if failures > 0 => return Err(GivenUp::Stopped),
                asked = request() => match asked {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => failure,
                },
            };
            failures += 1;
            let passes = matches!(failure.class, FailureClass::Transient | FailureClass::Throttled);
            if !passes {
                return Err(GivenUp::Refused(failure));
            }
            tracing::info!(error = failure.message, "the batch API fails, and is asked again");
            let asked = failure.retry_after.unwrap_or(Duration::ZERO);
            let wait = self.retry.delay(failures).max(asked.min(self.retry.throttle_cap));
            tokio::select! {
                () = self.stop.cancelled() => return Err(GivenUp::Stopped),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

/// Creates the batch, unless one that was begun since then has come through.
async fn create(
    api: &dyn BatchApi,
    id: BatchId,
    file: &str,
    since_ms: Option<i64>,
) -> Result<RemoteBatch, CallFailure> {
    if let Some(since_ms) = since_ms
        && let Some(created) = api.find(id, since_ms).await?
    {
        return Ok(created);
    }
    api.create(id, file).await
}

/// Why a run is paused, and what to do.
pub(super) fn refusal(endpoint: &str, what: &str, failure: &CallFailure) -> String {
    let status = failure.status.map_or(String::new(), |status| format!(" ({status})"));
    let message = failure.message.trim_end_matches('.');
    format!(
        "{endpoint} does not {what}{status}: {message}. Check the key, the account's quota and that the \
         endpoint has a batch API, or go on without it: --via live"
    )
}
