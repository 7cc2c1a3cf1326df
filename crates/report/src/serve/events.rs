//! What is new in a run, as server-sent events.
//!
//! Owns when the store is looked at and what is told: leaves whose outcome changed, and the numbers
//! above the tree. A stream ends when its run does.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Path, State},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tribunal_collector::{Collected, GradeState, percent};
use tribunal_core::{Outcome, RunId};
use tribunal_store::Progress;

use super::{App, ServeError, Shared};
use crate::sampling::sampled;

/// Between two looks at the store.
pub(super) const EVERY: Duration = Duration::from_millis(500);

/// Events as a stream: `next` gives those that are due, and `None` at the end.
pub(super) fn respond<S, F>(state: S, next: fn(S) -> F) -> Response
where
    S: Send + 'static,
    F: Future<Output = Option<(Vec<Event>, S)>> + Send + 'static,
{
    let batches = stream::unfold(state, next);
    let events = futures_util::StreamExt::flat_map(batches, |batch: Vec<Event>| {
        stream::iter(batch.into_iter().map(Ok::<_, Infallible>))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// One event with a JSON document.
pub(super) fn event(name: &str, data: &impl Serialize) -> Option<Event> {
    Event::default().event(name).json_data(data).ok()
}

/// A place among those who listen.
pub(super) fn permit(app: &Arc<App>) -> Result<OwnedSemaphorePermit, ServeError> {
    Arc::clone(&app.streams).try_acquire_owned().map_err(|_| ServeError::Busy)
}

/// Leaves with a new outcome, a column a property.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Leaves {
    position: Vec<u32>,
    score: Vec<Option<f64>>,
    reason: Vec<Option<&'static str>>,
}

/// The numbers above the tree, as they stand there.
#[derive(Debug, Serialize)]
struct Header {
    state: &'static str,
    root: String,
    interval: String,
    coverage: String,
    cost: String,
    outcomes: Vec<(String, u64)>,
}

struct Listener {
    app: Arc<App>,
    run: RunId,
    told: HashMap<u32, Outcome>,
    seen: Option<Progress>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// The events of one run.
pub(super) async fn of_run(
    State(app): Shared,
    Path(run): Path<String>,
) -> Result<Response, ServeError> {
    let run = app.run(&run).await?;
    let permit = permit(&app)?;
    let told = HashMap::new();
    let listener = Listener { app, run, told, seen: None, ended: false, _permit: permit };
    Ok(respond(listener, Listener::next))
}

// === impl Listener ===

impl Listener {
    /// What is due; at the end nothing more.
    async fn next(mut self) -> Option<(Vec<Event>, Listener)> {
        if self.ended {
            return None;
        }
        if self.seen.is_some() {
            tokio::time::sleep(EVERY).await;
        }
        // A store that cannot be read now ends the stream; the page asks again by itself.
        let progress = self.app.from.store.progress(&self.run).await.ok()?;
        if self.seen.as_ref() == Some(&progress) {
            return Some((Vec::new(), self));
        }
        let collected = self.app.collected(&self.run).await.ok()?;
        let leaves = self.news(&collected);
        self.ended = collected.state() == GradeState::Complete;
        self.seen = Some(progress);
        let mut due = Vec::new();
        if !leaves.position.is_empty() {
            due.extend(event("leaves", &leaves));
        }
        due.extend(event("header", &Header::of(&collected)));
        if self.ended {
            due.extend(event("end", &()));
        }
        Some((due, self))
    }

    fn news(&mut self, collected: &Collected) -> Leaves {
        let mut leaves = Leaves::default();
        for (index, node) in collected.rubric().leaves() {
            let outcome = collected.outcome(index);
            if self.told.insert(node.position(), outcome) == Some(outcome) {
                continue;
            }
            leaves.position.push(node.position());
            leaves.score.push(outcome.score());
            leaves.reason.push(outcome.ungraded().map(|reason| reason.name()));
        }
        leaves
    }
}

// === impl Header ===

impl Header {
    fn of(collected: &Collected) -> Header {
        let root = &collected.summary().root;
        let counts = collected.counts();
        let mut passed = 0;
        let mut failed = 0;
        for (index, _) in collected.rubric().leaves() {
            match collected.outcome(index).score() {
                Some(score) if score >= 1.0 => passed += 1,
                Some(score) if score <= 0.0 => failed += 1,
                _ => {}
            }
        }
        let mut outcomes = vec![
            ("passed".to_owned(), passed),
            ("failed".to_owned(), failed),
            ("in part".to_owned(), counts.graded - passed - failed),
        ];
        for (reason, count) in &counts.ungraded {
            outcomes.push((format!("not graded: {reason}").replace('_', " "), *count));
        }
        outcomes.retain(|(_, count)| *count > 0);
        Header {
            state: collected.state().name(),
            root: match root.score {
                Some(score) => format!("{score:.4}"),
                None => format!("{:.4}–{:.4}", root.lower, root.upper),
            },
            interval: root_interval(collected),
            coverage: percent(root.coverage),
            cost: collected.cost_usd().map_or("–".to_owned(), |cost| format!("${cost:.4}")),
            outcomes,
        }
    }
}

/// The root's interval, as it stands above the tree.
fn root_interval(collected: &Collected) -> String {
    let rubric = collected.rubric();
    let shares = rubric.weight_shares();
    let leaves = rubric
        .leaves()
        .filter_map(|(index, _)| Some((shares[index], collected.outcome(index).score()?)));
    let found = sampled(leaves, (0.0, 1.0));
    found.map_or("–".to_owned(), |found| format!("{:.4} to {:.4}", found.low, found.high))
}
