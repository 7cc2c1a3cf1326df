//! A provider's batch API: many questions in one file, answered within a day at a lower price.
//!
//! Owns the trait and its nouns. As with a call, a provider makes one request for each method, and
//! neither retries nor waits; who does is `batcher`.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use tribunal_core::BatchId;

use super::{CallFailure, Question, Reply};

/// A line of a batch's file: one question, in parts that many lines share.
#[derive(Clone, Debug)]
pub struct BatchLine {
    pub(crate) parts: Vec<Bytes>,
}

/// A batch as the provider tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteBatch {
    /// The provider's name for it.
    pub id: String,
    /// How far it is.
    pub state: RemoteState,
    /// The file with the questions.
    pub input_file: String,
    /// The files with replies and errors, as far as there are any.
    pub files: Vec<String>,
}

/// How far a batch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteState {
    /// There will be more replies.
    Working,
    /// There will be no more replies: all questions are answered, or its time is over, or it was
    /// cancelled.
    Ended,
    /// It was refused as a whole, and nothing of it was asked.
    Refused {
        /// The provider's code.
        code: String,
        /// What the provider says.
        message: String,
    },
}

/// What a line of a file of replies or errors says.
#[derive(Debug)]
pub enum LineReply {
    /// The judge's answer, or a failure.
    Asked(Box<Result<Reply, CallFailure>>),
    /// It was not asked before the batch was cancelled.
    NotAsked,
}

/// Which question a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineName {
    /// Position of the task.
    pub position: u32,
    /// Sample of the task.
    pub sample: u32,
}

/// Receives the lines of a file, some at a time.
#[async_trait]
pub trait LineSink: Send {
    /// Whole lines, in order.
    ///
    /// # Errors
    ///
    /// Why reading is to end.
    async fn lines(&mut self, lines: Vec<Bytes>) -> Result<(), CallFailure>;
}

/// Sends and fetches batches.
#[async_trait]
pub trait BatchApi: Send + Sync {
    /// A question as a line of a file.
    fn line(&self, name: LineName, question: &Question<'_>) -> BatchLine;

    /// What a line of a file of replies or errors says; `None` for one that is about no question of
    /// ours. `model` is the one that was asked.
    fn read_line(&self, line: &[u8], model: &str) -> Option<(LineName, LineReply)>;

    /// Uploads the questions of a batch; returns the provider's name for the file.
    async fn upload(&self, batch: BatchId, lines: Vec<BatchLine>) -> Result<String, CallFailure>;

    /// Has the questions of a file answered.
    async fn create(&self, batch: BatchId, file: &str) -> Result<RemoteBatch, CallFailure>;

    /// The batch that was created under this name since then, in milliseconds since the Unix epoch. One
    /// that was refused as a whole is not looked for.
    async fn find(&self, batch: BatchId, since_ms: i64)
    -> Result<Option<RemoteBatch>, CallFailure>;

    /// How far a batch is.
    async fn look(&self, remote: &str) -> Result<RemoteBatch, CallFailure>;

    /// Asks no more of it. What is answered already is billed, and can be fetched.
    async fn cancel(&self, remote: &str) -> Result<(), CallFailure>;

    /// Removes files that were uploaded for the batch: it cannot be created from them any more.
    async fn withdraw(&self, batch: BatchId) -> Result<(), CallFailure>;

    /// Removes a file, ours or one of replies, if it is there.
    async fn discard(&self, file: &str) -> Result<(), CallFailure>;

    /// Reads a file of replies or errors line by line.
    async fn read(&self, file: &str, sink: &mut dyn LineSink) -> Result<(), CallFailure>;
}

// === impl BatchLine ===

impl BatchLine {
    /// Bytes of the line, its end included.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }
}

// === impl LineName ===

impl LineName {
    /// The name as it stands in a file.
    pub fn parse(text: &str) -> Option<LineName> {
        let (position, sample) = text.split_once('-')?;
        Some(LineName { position: position.parse().ok()?, sample: sample.parse().ok()? })
    }
}

impl fmt::Display for LineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.position, self.sample)
    }
}
