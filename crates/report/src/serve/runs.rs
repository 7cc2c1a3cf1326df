//! The list of runs: how far each is, and what it has cost.
//!
//! Owns the first page and its stream. A run that does not go on is counted once.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::State,
    response::{Response, sse::Event},
};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tribunal_collector::progress_of_leaves;
use tribunal_core::RunId;
use tribunal_store::{Progress, RunRecord};

use super::{
    App, ServeError, Shared,
    events::{EVERY, event, permit, respond},
    html, served_page,
};
use crate::{model::time, read::ReadError};

const SCRIPTS: [&str; 1] = [include_str!("../../assets/runs.js")];

/// Runs listed, the newest first; what is older is named by its address.
const MOST_RUNS: usize = 200;

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct RunLine {
    run: String,
    judge: String,
    model: String,
    simulated: bool,
    state: &'static str,
    created_at: Option<String>,
    leaves: u64,
    done: u64,
    working: u64,
    ungraded: u64,
    calls: u64,
    rejected: u64,
    cost_usd: Option<f64>,
}

#[derive(Serialize)]
struct Context {
    runs: Vec<RunLine>,
    more: usize,
}

/// The page.
pub(super) async fn page(State(app): Shared) -> Result<Response, ServeError> {
    let (runs, more) = Lines::default().read(&app).await?;
    let page = served_page("runs.html", "Runs · Tribunal", &SCRIPTS, Some("{}".to_owned()));
    Ok(html(page.render(Context { runs, more })?))
}

struct Listener {
    app: Arc<App>,
    lines: Lines,
    told: Vec<RunLine>,
    begun: bool,
    _permit: OwnedSemaphorePermit,
}

/// The stream of the page: every line, whenever one of them changes.
pub(super) async fn events(State(app): Shared) -> Result<Response, ServeError> {
    let permit = permit(&app)?;
    let lines = Lines::default();
    let listener = Listener { app, lines, told: Vec::new(), begun: false, _permit: permit };
    Ok(respond(listener, Listener::next))
}

// === impl Listener ===

impl Listener {
    async fn next(mut self) -> Option<(Vec<Event>, Listener)> {
        if self.begun {
            tokio::time::sleep(EVERY).await;
        }
        self.begun = true;
        let (lines, _) = self.lines.read(&self.app).await.ok()?;
        if lines == self.told {
            return Some((Vec::new(), self));
        }
        let due = event("runs", &lines).into_iter().collect();
        self.told = lines;
        Some((due, self))
    }
}

/// Lines, with the progress that they were made of.
#[derive(Default)]
struct Lines {
    made: HashMap<RunId, (Progress, &'static str, RunLine)>,
}

// === impl Lines ===

impl Lines {
    /// The lines of the newest runs, and how many more there are.
    async fn read(&mut self, app: &App) -> Result<(Vec<RunLine>, usize), ServeError> {
        let store = &app.from.store;
        let records = store.runs().await.map_err(ReadError::from)?;
        let more = records.len().saturating_sub(MOST_RUNS);
        let mut lines = Vec::new();
        for record in records.into_iter().take(MOST_RUNS) {
            let progress = progress_of_leaves(&**store, &record.run.id).await;
            let progress = progress.map_err(ReadError::from)?;
            let state = state(&record, &progress);
            let known = self.made.get(&record.run.id);
            let line = match known {
                Some((seen, was, line)) if *seen == progress && *was == state => line.clone(),
                _ => line(app, &record, &progress, state).await?,
            };
            self.made.insert(record.run.id, (progress, state, line.clone()));
            lines.push(line);
        }
        Ok((lines, more))
    }
}

fn state(record: &RunRecord, progress: &Progress) -> &'static str {
    match record.state {
        _ if progress.pending + progress.leased == 0 && progress.dead + progress.cancelled == 0 => {
            "done"
        }
        tribunal_core::RunState::Active if progress.leased > 0 => "grading",
        tribunal_core::RunState::Active if progress.pending > 0 => "waiting",
        tribunal_core::RunState::Active => "done",
        state => state.name(),
    }
}

async fn line(
    app: &App,
    record: &RunRecord,
    progress: &Progress,
    state: &'static str,
) -> Result<RunLine, ServeError> {
    let run = &record.run;
    let totals = app.from.store.totals(&run.id).await.map_err(ReadError::from)?;
    Ok(RunLine {
        run: run.id.to_string(),
        judge: run.judge.clone(),
        model: run.model.clone(),
        simulated: run.simulated || totals.any_simulated,
        state,
        created_at: time(record.created_ms),
        leaves: progress.leaves,
        done: progress.done,
        working: progress.leased,
        ungraded: progress.ungraded.values().sum(),
        calls: totals.judge_calls + totals.rank_calls + totals.repair_calls,
        rejected: totals.rejected,
        // Several judges have no one price: what each call cost was recorded with it.
        cost_usd: match (app.from.prices)(&run.model) {
            Some(prices) => Some(totals.cost_usd(&prices)),
            None => totals.recorded_usd(),
        },
    })
}
