//! What ends an attempt from outside: its lease or pool, or the leaf's own deadline.
//!
//! Owns waiting for either, and the end that each leads to. A call that is cut off may be billed all the
//! same: its record says what it may have used.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tribunal_core::UngradedReason;

use super::{End, Turn};

/// Why an attempt ends in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The lease is lost or cancelled, or the pool stops at once.
    Stopped,
    /// The leaf is past its deadline.
    Late,
}

// === impl Cut ===

impl Cut {
    /// Waits until the attempt is to end.
    pub(super) async fn of(stop: &CancellationToken, deadline: Option<Instant>) -> Cut {
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Cut::Stopped,
            () = late => Cut::Late,
        }
    }

    /// What it says of a call that was under way.
    pub(super) fn words(self) -> &'static str {
        match self {
            Cut::Stopped => "abandoned when the worker stopped",
            Cut::Late => "abandoned at the leaf's deadline",
        }
    }
}

// === impl Turn ===

impl Turn<'_> {
    /// The end that it leads to.
    pub(super) fn cut(&self, cut: Cut) -> End {
        match cut {
            Cut::Stopped => End::Release,
            Cut::Late => {
                let limit = self.asker.policy.leaf_deadline.unwrap_or_default().as_secs_f64();
                let words = format!(
                    "not graded within the {limit} s that a leaf has from its first claim on \
                     (retry.leaf_deadline_s)"
                );
                let model = self.asker.run.run.spec.judge.model.clone();
                self.ungraded(UngradedReason::Deadline, words, model, None)
            }
        }
    }

    /// A wait in the queue, which is over at the leaf's deadline.
    pub(super) fn before_deadline(&self, wait: Duration) -> Duration {
        let left = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        left.map_or(wait, |left| wait.min(left))
    }
}
