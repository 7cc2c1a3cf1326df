//! How far a run is, while it works.
//!
//! Owns what is shown on standard error: a bar on a terminal, plain lines elsewhere. It consumes
//! the pool's events, tells who waits for the first leaf, and steers nothing of the pool.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IsTerminal,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::Notify;
use tribunal_core::{FailureClass, Prices, Usage, Via, canary, event::Event};
use tribunal_worker::EventSink;

use crate::{log, output::counted, tally::Tally};

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Time without a call that was let through after which somebody is told.
const LONG: Duration = Duration::from_secs(60);

/// Time between two looks of the bar.
const BAR_EVERY: Duration = Duration::from_millis(200);

/// The bars of this process: the log is written between them.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// The bars of this process.
pub(crate) fn bars() -> &'static MultiProgress {
    BARS.get_or_init(MultiProgress::new)
}

/// Counts and shows the progress of one command.
pub(crate) struct Progress {
    state: Mutex<State>,
    bar: Option<ProgressBar>,
    lines: bool,
    prices: Option<Prices>,
    start: Instant,
    /// Told when the first leaf is begun, or none will be.
    begun: Notify,
}

#[derive(Clone, Default)]
struct State {
    /// Leaves there are, as far as known.
    leaves: u64,
    /// Finished before this command began.
    before: u64,
    /// Finished by this command.
    finished: u64,
    ungraded: u64,
    dead: u64,
    in_flight: u64,
    rejected: u64,
    paused: bool,
    /// The command's deadline, once it has come.
    past: Option<Duration>,
    /// Endpoints that get no calls.
    down: BTreeSet<String>,
    /// What the command has done, by run.
    tally: Tally,
    failures: BTreeMap<FailureClass, u64>,
    /// Since when every call was turned away.
    turned_away: Option<Instant>,
    /// Whether that was said.
    is_told: bool,
    usage: Usage,
    /// That of it which went by the batch API.
    batched: Usage,
}

// === impl Progress ===

impl Progress {
    /// The progress of a run of `leaves` leaves, of which `before` are finished already.
    pub(crate) fn new(leaves: u64, before: u64, quiet: bool, prices: Option<Prices>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| {
            let bar = bars().add(ProgressBar::new(leaves));
            let style = ProgressStyle::with_template("{bar:28} {pos}/{len}  {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_position(before);
            bar
        });
        let state = State { leaves, before, ..State::default() };
        Self {
            state: Mutex::new(state),
            bar,
            lines: !terminal && !quiet,
            prices,
            start: Instant::now(),
            begun: Notify::new(),
        }
    }

    /// Shows the state again and again, until it is aborted.
    pub(crate) async fn tick(self: std::sync::Arc<Self>) {
        let every = if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        let mut ticks = tokio::time::interval(every);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.show();
        }
    }

    /// Whether a run was paused meanwhile because its judge refuses.
    pub(crate) fn has_paused(&self) -> bool {
        self.lock().paused
    }

    /// Waits until the first leaf is begun, or the pool has ended.
    pub(crate) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Shows the end.
    pub(crate) fn finish(&self) {
        self.begun.notify_one();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        } else {
            self.show();
        }
    }

    /// Notes that the command's deadline has come, before the pool is told: it is to be said why
    /// the pool ends.
    pub(crate) fn pass_deadline(&self, deadline: Duration) {
        self.lock().past = Some(deadline);
    }

    /// Whether the command's deadline has come.
    pub(crate) fn is_past_deadline(&self) -> bool {
        self.lock().past.is_some()
    }

    /// What this command has done until now.
    pub(crate) fn tally(&self) -> Tally {
        self.lock().tally.clone()
    }

    fn show(&self) {
        let state = self.lock().clone();
        let text = state.describe(self.start.elapsed(), self.prices.as_ref());
        if let Some(bar) = &self.bar {
            bar.set_length(state.leaves);
            bar.set_position(state.before + state.finished);
            bar.set_message(text);
        } else if self.lines {
            let done = state.before + state.finished;
            note(&format!("{done}/{} leaves  {text}", state.leaves));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for Progress {
    fn event(&self, event: Event) {
        let mut said = None;
        let mut state = self.lock();
        state.tally.count(&event);
        match event {
            Event::Claimed { .. } => {
                if state.in_flight + state.finished == 0 {
                    self.begun.notify_one();
                }
                state.in_flight += 1;
            }
            Event::CallEnded { via, class, usage, .. } => {
                state.usage += usage;
                if via == Via::Batch {
                    state.batched += usage;
                }
                if class != Some(FailureClass::Throttled) {
                    state.turned_away = None;
                }
                match class {
                    None => {}
                    Some(FailureClass::Throttled) => {
                        state.rejected += 1;
                        let since = *state.turned_away.get_or_insert_with(Instant::now);
                        if since.elapsed() >= LONG && !std::mem::replace(&mut state.is_told, true) {
                            said = Some(format!(
                                "every call was turned away for {} s: the account is used up \
                                 elsewhere, or may use less in a minute than one question needs",
                                LONG.as_secs()
                            ));
                        }
                    }
                    Some(class) => *state.failures.entry(class).or_default() += 1,
                }
            }
            // A canary is no leaf.
            Event::Stored { task, .. } | Event::Dead { task, .. }
                if canary::is_canary(task.position) =>
            {
                state.end(false);
            }
            Event::Stored { outcome, .. } => {
                state.end(true);
                state.ungraded += u64::from(outcome.ungraded().is_some());
            }
            Event::Requeued { .. } | Event::Lost { .. } => state.end(false),
            Event::Dead { task, class, error } => {
                state.end(true);
                state.dead += 1;
                said = Some(format!("node {} is given up ({class}): {error}", task.position));
            }
            Event::Paused { run, reason } => {
                // Every leaf in flight may meet the same refusal.
                let first = !std::mem::replace(&mut state.paused, true);
                said = first.then(|| format!("run {run} is paused: {reason}"));
            }
            Event::Posted { .. } => state.end(false),
            Event::BatchSent { questions, .. } => {
                said = Some(format!("a batch of {questions} questions is sent"));
            }
            Event::BatchEnded { answered, unanswered, .. } => {
                let again = match unanswered {
                    0 => String::new(),
                    n => format!(", {n} are asked again"),
                };
                said = Some(format!("a batch has ended: {answered} answered{again}"));
            }
            Event::Throttled { .. } => {}
            Event::EndpointDown { endpoint, error, .. } => {
                let first = state.down.insert(endpoint.clone());
                said = first.then(|| {
                    format!("the endpoint {endpoint} fails and gets no calls for now: {error}")
                });
            }
            Event::EndpointUp { endpoint } => {
                let was_down = state.down.remove(&endpoint);
                said = was_down.then(|| format!("the endpoint {endpoint} answers again"));
            }
            Event::Draining { in_flight } => {
                said = Some(match state.past {
                    Some(deadline) => format!(
                        "the deadline of {} s has come: no further leaf is begun, and the \
                         {in_flight} in flight may finish",
                        deadline.as_secs()
                    ),
                    None => format!(
                        "stopping: {in_flight} leaves in flight may finish; again to stop at once"
                    ),
                });
            }
        }
        drop(state);
        if let Some(said) = said {
            note(&said);
        }
    }
}

// === impl State ===

impl State {
    fn end(&mut self, finished: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.finished += u64::from(finished);
        self.leaves = self.leaves.max(self.before + self.finished);
    }

    fn describe(&self, elapsed: Duration, prices: Option<&Prices>) -> String {
        let rate = self.finished as f64 / elapsed.as_secs_f64().max(1e-3);
        let left = self.leaves.saturating_sub(self.before + self.finished);
        let mut parts = vec![format!("{rate:.1}/s")];
        if left > 0 && rate > 0.0 {
            let seconds = (left as f64 / rate).min(1e9).ceil() as u64;
            parts.push(format!("{} left", clock(seconds)));
        }
        if let Some(prices) = prices {
            parts.push(format!("${:.2}", prices.cost_mixed(&self.usage, &self.batched)));
        }
        if !self.down.is_empty() {
            parts.push(format!("{} down", counted(self.down.len(), "endpoint", "endpoints")));
        }
        if self.rejected > 0 {
            parts.push(format!("{} rejected", self.rejected));
        }
        for (class, count) in &self.failures {
            parts.push(format!("{count} {class}"));
        }
        if self.ungraded + self.dead > 0 {
            parts.push(format!("{} ungraded", self.ungraded + self.dead));
        }
        parts.join("  ")
    }
}

/// Seconds as `1h02m`, `3m07s` or `9s`.
fn clock(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

/// Says something on standard error, above the bars.
#[expect(clippy::print_stderr, reason = "this is where people are spoken to")]
pub(crate) fn note(text: &str) {
    let line = log::told(text);
    bars().suspend(|| eprintln!("{line}"));
}
