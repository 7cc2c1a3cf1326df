//! The one task that writes.
//!
//! Owns the writing connection and its transactions. What waits in the queue is executed in one
//! transaction and answered after its commit, so the cost of making it durable is shared. It
//! does not know what the requests mean.

use std::{path::PathBuf, sync::Arc};

use sqlx::{Connection, SqliteConnection};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    ballast,
    claim::ClaimedTask,
    error,
    request::{Answer, Request, execute},
    turn::Turn,
};
use crate::{clock::Clock, error::StoreError};

/// Requests that wait before senders have to.
const QUEUE: usize = 1024;

/// Requests in one transaction at most.
const GROUP: usize = 256;

/// The sending end of the writer's queue.
pub(super) struct Writer {
    store: String,
    /// `None` once the store is closed.
    queue: std::sync::Mutex<Option<mpsc::Sender<Job>>>,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

/// A request and where its answer goes.
struct Job {
    request: Request,
    answer: oneshot::Sender<Result<Answer, StoreError>>,
}

/// The receiving end.
struct Loop {
    path: PathBuf,
    store: String,
    conn: SqliteConnection,
    clock: Arc<dyn Clock>,
    turn: Turn,
}

// === impl Writer ===

impl Writer {
    /// Starts the task.
    pub(super) fn start(
        path: PathBuf,
        conn: SqliteConnection,
        clock: Arc<dyn Clock>,
        turn: Turn,
    ) -> Self {
        let store = path.display().to_string();
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writing = Loop { path, store: store.clone(), conn, clock, turn };
        Self {
            store,
            queue: std::sync::Mutex::new(Some(sender)),
            task: tokio::sync::Mutex::new(Some(tokio::spawn(writing.run(receiver)))),
        }
    }

    /// Executes a request. The answer comes when it is on disk.
    pub(super) async fn send(&self, request: Request) -> Result<Answer, StoreError> {
        let queue = self.lock().clone();
        let queue = queue.ok_or_else(|| self.closed())?;
        let (answer, answered) = oneshot::channel();
        let job = Job { request, answer };
        queue.send(job).await.map_err(|_| self.closed())?;
        drop(queue);
        answered.await.map_err(|_| self.closed())?
    }

    /// Executes what is queued, and closes the connection.
    pub(super) async fn close(&self) {
        drop(self.lock().take());
        if let Some(task) = self.task.lock().await.take() {
            let _ = task.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Job>>> {
        let poisoned = std::sync::PoisonError::into_inner;
        self.queue.lock().unwrap_or_else(poisoned)
    }

    fn closed(&self) -> StoreError {
        StoreError::Engine { store: self.store.clone(), reason: "the store is closed".to_owned() }
    }
}

// === impl Loop ===

impl Loop {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::new();
        while queue.recv_many(&mut jobs, GROUP).await > 0 {
            // A claim that nobody waits for any more would strand its tasks until the lease ends;
            // anything else is work that was paid for.
            jobs.retain(|job| !(job.answer.is_closed() && job.request.is_claim()));
            let (requests, answers): (Vec<_>, Vec<_>) =
                jobs.drain(..).map(|job| (job.request, job.answer)).unzip();
            if requests.is_empty() {
                continue;
            }
            let mut stranded = Vec::new();
            for (answer, result) in answers.into_iter().zip(self.group(&requests).await) {
                if let Err(Ok(Answer::Claimed(claims))) = answer.send(result) {
                    stranded.extend(claims.iter().map(ClaimedTask::release));
                }
            }
            if !stranded.is_empty() {
                // Should it fail, the leases end by themselves.
                self.group(&[Request::Release(stranded)]).await;
            }
        }
        if let Err(error) = self.conn.close().await {
            let error = error::sql(&self.store, error);
            tracing::warn!(%error, "closing the store");
        }
    }

    /// Executes requests in one transaction; one that fails does not take the others with it.
    async fn group(&mut self, requests: &[Request]) -> Vec<Result<Answer, StoreError>> {
        match self.transaction(requests).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            // What is wrong with one request is found out by executing them singly.
            Err(StoreError::Engine { .. } | StoreError::Damaged { .. }) if requests.len() > 1 => {
                let mut results = Vec::with_capacity(requests.len());
                for request in requests {
                    let single = self.transaction(std::slice::from_ref(request)).await;
                    results.push(
                        single.and_then(|mut answers| {
                            answers.pop().ok_or_else(|| self.lost_answer())
                        }),
                    );
                }
                results
            }
            Err(error) => requests.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn transaction(&mut self, requests: &[Request]) -> Result<Vec<Answer>, StoreError> {
        self.turn.take().await;
        let result = self.attempt(requests).await;
        if result.is_err() {
            // SQLite may have rolled back by itself: then this fails, and that is well.
            let _ = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
        }
        self.turn.give();
        let result = result.map_err(|error| error::sql(&self.store, error));
        if matches!(result, Err(StoreError::Full { .. })) {
            ballast::release(&self.path);
        }
        let answers = result?;
        match answers.len() == requests.len() {
            true => Ok(answers),
            false => Err(self.lost_answer()),
        }
    }

    async fn attempt(&mut self, requests: &[Request]) -> Result<Vec<Answer>, sqlx::Error> {
        // Locked for writing from the start: a lock taken later could not be waited for.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.conn).await?;
        // Read only now, because the lock may have been waited for.
        let now = self.clock.now_ms();
        let answers = execute(&mut self.conn, requests, now).await?;
        sqlx::query("COMMIT").execute(&mut self.conn).await?;
        Ok(answers)
    }

    fn lost_answer(&self) -> StoreError {
        StoreError::Engine {
            store: self.store.clone(),
            reason: "a request was left without an answer".to_owned(),
        }
    }
}
