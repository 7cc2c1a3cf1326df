//! What became of a batch at the provider.
//!
//! Owns finding a batch that may or may not have been created, looking at it again and again, and
//! storing its replies. What nobody answered goes back to the queue.

use async_trait::async_trait;
use bytes::Bytes;
use tribunal_core::{FailureClass, RunState, event::Event};
use tribunal_store::{BatchRecord, BatchReply, StoreError};

use super::{
    Batcher, Contexts, api,
    send::{GivenUp, refusal},
};
use crate::{
    outbox::again,
    provider::{
        CallFailure,
        batch::{BatchApi, LineReply, LineSink, RemoteBatch, RemoteState},
    },
};

/// The code of a batch that is refused because too many tokens are waiting in others.
const QUEUE_FULL: &str = "token_limit_exceeded";

/// Stores the lines of a file.
struct Replies<'b> {
    batcher: &'b Batcher,
    api: &'b dyn BatchApi,
    record: &'b BatchRecord,
    model: &'b str,
    answered: u64,
    /// The account's refusal, where one of the questions met it.
    refused: Option<CallFailure>,
    /// Why nothing more can be stored.
    failed: Option<StoreError>,
}

// === impl Batcher ===

impl Batcher {
    /// Looks at a batch, and does what is to be done.
    pub(super) async fn look(
        &self,
        record: BatchRecord,
        contexts: &Contexts,
    ) -> Result<(), StoreError> {
        self.look_later(record.id);
        let context = match contexts(record.run.clone(), record.voter as usize).await {
            Ok(context) => context,
            Err(error) => return self.pause(&record.run, error.to_string()).await,
        };
        let route = context.routes.first();
        let Some(api) = api(route) else {
            return again(|| self.store.end_batch(record.id)).await.map(drop);
        };
        let remote = match &record.remote {
            None => match self.recover(api, &record).await {
                Ok(Some(remote)) => {
                    let name = Some(remote.id.clone());
                    let mark =
                        || self.store.mark_batch(record.id, self.worker, self.hold, name.clone());
                    if !again(mark).await? {
                        return Ok(());
                    }
                    Ok(remote)
                }
                Ok(None) => return again(|| self.store.end_batch(record.id)).await.map(drop),
                Err(failure) => Err(failure),
            },
            Some(remote) => api.look(remote).await,
        };
        let remote = match remote {
            Ok(remote) => remote,
            // Nobody there knows it: nothing of it can be billed any more.
            Err(CallFailure { status: Some(404), .. }) if record.remote.is_some() => {
                return again(|| self.store.end_batch(record.id)).await.map(drop);
            }
            Err(failure) => return self.not_seen(&record, &route.name, failure).await,
        };
        let cancelled = self.store.run(&record.run).await?.state == RunState::Cancelled;
        match &remote.state {
            RemoteState::Working => {
                if cancelled && let Err(failure) = api.cancel(&remote.id).await {
                    tracing::info!(error = failure.message, "a batch is not cancelled yet");
                }
                Ok(())
            }
            RemoteState::Ended => {
                let model = &context.run.spec.judge.model;
                self.collect(api, &record, &remote, (model, &route.name)).await
            }
            RemoteState::Refused { code, .. } if code == QUEUE_FULL && !cancelled => {
                self.send_again(api, &record, &remote).await
            }
            RemoteState::Refused { message, .. } => {
                again(|| self.store.end_batch(record.id)).await?;
                let name = &route.name;
                let reason = format!(
                    "{name} refuses a batch: {message}. Check the judge's parameters in the config, or go \
                     on without batches: --via live"
                );
                if cancelled { Ok(()) } else { self.pause(&record.run, reason).await }
            }
        }
    }

    /// The batch at the provider that a process may have created before it ended. If there is none,
    /// there never will be one.
    async fn recover(
        &self,
        api: &dyn BatchApi,
        record: &BatchRecord,
    ) -> Result<Option<RemoteBatch>, CallFailure> {
        if let Some(found) = api.find(record.id, record.opened_ms).await? {
            return Ok(Some(found));
        }
        // A creation that is under way still needs the file. Once that is gone, and the provider's list
        // has had its time, looking again is conclusive.
        api.withdraw(record.id).await?;
        tokio::select! {
            () = self.stop.cancelled() => {
                let message = "this process ends".to_owned();
                return Err(CallFailure::unanswered(FailureClass::Transient, message));
            }
            () = tokio::time::sleep(self.policy.poll) => {}
        }
        api.find(record.id, record.opened_ms).await
    }

    /// What a look that failed does.
    async fn not_seen(
        &self,
        record: &BatchRecord,
        endpoint: &str,
        failure: CallFailure,
    ) -> Result<(), StoreError> {
        match failure.class {
            FailureClass::Transient | FailureClass::Throttled | FailureClass::BadReply => {
                tracing::info!(error = failure.message, "a batch was not seen this time");
                Ok(())
            }
            _ if self.store.run(&record.run).await?.state == RunState::Active => {
                let reason = refusal(endpoint, "say how far a batch is", &failure);
                self.pause(&record.run, reason).await
            }
            _ => Ok(()),
        }
    }

    /// Stores what a batch has brought; the rest goes back to the queue.
    async fn collect(
        &self,
        api: &dyn BatchApi,
        record: &BatchRecord,
        remote: &RemoteBatch,
        (model, endpoint): (&str, &str),
    ) -> Result<(), StoreError> {
        let mut replies =
            Replies { batcher: self, api, record, model, answered: 0, refused: None, failed: None };
        for file in &remote.files {
            if let Err(failure) = api.read(file, &mut replies).await {
                return match replies.failed {
                    Some(error) => Err(error),
                    // What was stored stays; the rest is read at the next look.
                    None => self.not_seen(record, endpoint, failure).await,
                };
            }
        }
        let Replies { answered, refused, .. } = replies;
        let unanswered = again(|| self.store.end_batch(record.id)).await?;
        let run = record.run.clone();
        self.events.event(Event::BatchEnded { run, answered, unanswered });
        self.stored.notify_one();
        // Nobody needs them there any more: they hold the submission's text.
        for file in std::iter::once(&remote.input_file).chain(&remote.files) {
            if let Err(failure) = api.discard(file).await {
                tracing::info!(error = failure.message, file, "a file stays at the provider");
            }
        }
        match refused {
            Some(failure) => {
                self.pause(&record.run, refusal(endpoint, "answer all of a batch", &failure)).await
            }
            None => Ok(()),
        }
    }

    /// Creates a batch again that was refused because others are waiting, from the file that is there.
    async fn send_again(
        &self,
        api: &dyn BatchApi,
        record: &BatchRecord,
        refused: &RemoteBatch,
    ) -> Result<(), StoreError> {
        // From here on nobody knows whether it is there: who comes next looks for it.
        if !again(|| self.store.mark_batch(record.id, self.worker, self.hold, None)).await? {
            return Ok(());
        }
        let created = self.create(api, record.id, &refused.input_file, record.opened_ms).await;
        match created {
            Ok(remote) => {
                let name = Some(remote.id);
                let mark =
                    || self.store.mark_batch(record.id, self.worker, self.hold, name.clone());
                again(mark).await.map(drop)
            }
            Err(GivenUp::Stopped) => Ok(()),
            Err(GivenUp::Refused(failure)) => {
                tracing::info!(error = failure.message, "a refused batch cannot be sent again");
                again(|| self.store.end_batch(record.id)).await.map(drop)
            }
        }
    }
}

#[async_trait]
impl LineSink for Replies<'_> {
    async fn lines(&mut self, lines: Vec<Bytes>) -> Result<(), CallFailure> {
        let mut replies = Vec::with_capacity(lines.len());
        for line in &lines {
            let Some((name, LineReply::Asked(asked))) = self.api.read_line(line, self.model) else {
                continue;
            };
            if let Err(failure) = &*asked
                && failure.class == FailureClass::Account
            {
                // The account's affair, not the leaf's: it is asked again once that is put right.
                self.refused = Some(failure.clone());
                continue;
            }
            let (position, sample) = (name.position, name.sample);
            replies.push(BatchReply { position, sample, reply: line.to_vec() });
        }
        let store = &self.batcher.store;
        match again(|| store.answer(self.record.id, replies.clone())).await {
            Ok(new) => {
                self.answered += new;
                self.batcher.stored.notify_one();
                Ok(())
            }
            Err(error) => {
                self.failed = Some(error);
                let message = "the replies cannot be stored".to_owned();
                Err(CallFailure::unanswered(FailureClass::Internal, message))
            }
        }
    }
}
