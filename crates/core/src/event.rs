//! The facts of a running pool, as they happen.
//!
//! Owns the enum alone. Workers send events and never print; progress bars, logs and metrics
//! consume them and never steer.

use std::time::Duration;

use crate::{
    failure::FailureClass,
    ids::{RunId, TaskKey},
    verdict::{CallKind, Outcome, Usage, VerdictSource, Via},
};

/// One fact.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker holds the task.
    Claimed {
        /// Which task.
        task: TaskKey,
    },
    /// A call is over, with or without a usable reply.
    CallEnded {
        /// Which task.
        task: TaskKey,
        /// What the call was for.
        kind: CallKind,
        /// How the question reached the judge.
        via: Via,
        /// `None` for a usable reply.
        class: Option<FailureClass>,
        /// Its tokens.
        usage: Usage,
        /// From sending to the whole answer.
        latency: Duration,
        /// What it cost by the prices known, in US dollars.
        cost_usd: Option<f64>,
        /// Whether the reply says that it is simulated.
        simulated: bool,
    },
    /// The verdict is stored.
    Stored {
        /// Which task.
        task: TaskKey,
        /// Score or reason.
        outcome: Outcome,
        /// Who decided.
        source: VerdictSource,
    },
    /// The task waits for the reply of a batch.
    Posted {
        /// Which task.
        task: TaskKey,
    },
    /// The task went back to the queue and is not to be claimed for a while.
    Requeued {
        /// Which task.
        task: TaskKey,
        /// Why.
        class: FailureClass,
        /// For how long.
        delay: Duration,
    },
    /// The task was given up.
    Dead {
        /// Which task.
        task: TaskKey,
        /// Why.
        class: FailureClass,
        /// The last message.
        error: String,
    },
    /// The lease was lost: somebody else has the task, and this answer does not count.
    Lost {
        /// Which task.
        task: TaskKey,
    },
    /// No call goes out for a while.
    Throttled {
        /// How long the provider asked for.
        delay: Duration,
    },
    /// An endpoint fails and gets no calls for a while.
    EndpointDown {
        /// Its URL.
        endpoint: String,
        /// The last failure.
        error: String,
        /// Until one call tries it again.
        rest: Duration,
    },
    /// An endpoint that failed answers again.
    EndpointUp {
        /// Its URL.
        endpoint: String,
    },
    /// Questions were handed to the judge's batch API.
    BatchSent {
        /// Whose.
        run: RunId,
        /// How many.
        questions: u64,
    },
    /// A batch has ended, and its replies are stored.
    BatchEnded {
        /// Whose.
        run: RunId,
        /// Replies that came since the last look.
        answered: u64,
        /// Questions without a reply, which are asked again.
        unanswered: u64,
    },
    /// The run was paused because the judge's account or endpoint refuses.
    Paused {
        /// Which run.
        run: RunId,
        /// What the provider said, and what to do.
        reason: String,
    },
    /// Nothing new is claimed; what is in flight may end.
    Draining {
        /// Calls in flight.
        in_flight: usize,
    },
}
