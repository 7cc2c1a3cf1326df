//! What a process tells Prometheus, and whoever asks if it is well.
//!
//! Owns the names of the metrics and the three pages: `/metrics`, `/healthz`, `/readyz`. It consumes
//! the pool's events and steers nothing. Names of runs and leaves are no labels: they would never end.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, sync::Mutex};
use tokio_util::sync::CancellationToken;
use tribunal_collector::without_canaries;
use tribunal_core::event::Event;
use tribunal_store::{Store, StoreError};
use tribunal_worker::EventSink;

use crate::{progress::note, run_state};

/// How long a count of the queue is shown again: a scrape is cheap, however many scrape.
const COUNTED_FOR: Duration = Duration::from_secs(5);

/// How long the store may take to answer a process that calls itself ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// Bounds of the histogram's buckets, in seconds.
const SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Counts the pool's events on their way to somebody else.
pub(crate) struct Counted(pub(crate) Arc<dyn EventSink>);

/// What the pages are made of.
struct Monitor {
    handle: PrometheusHandle,
    store: Arc<dyn Store>,
    /// Cancelled when the process takes nothing more.
    drain: CancellationToken,
    counted: Mutex<Option<Instant>>,
}

/// Listens and serves the pages for as long as the process lives.
///
/// # Errors
///
/// The address cannot be listened at.
pub(crate) async fn serve(
    addr: SocketAddr,
    store: Arc<dyn Store>,
    drain: CancellationToken,
) -> anyhow::Result<()> {
    let builder = PrometheusBuilder::new();
    let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS);
    let handle = builder.and_then(PrometheusBuilder::install_recorder);
    let handle = handle.context("metrics cannot be recorded")?;
    describe();
    let listener = TcpListener::bind(addr).await;
    let listener = listener.with_context(|| format!("cannot listen at {addr} for metrics"))?;
    note(&format!("metrics at http://{}/metrics", listener.local_addr()?));
    let monitor = Monitor { handle, store, drain, counted: Mutex::default() };
    let pages = Router::new()
        .route("/metrics", get(page))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Arc::new(monitor));
    tokio::spawn(async move { axum::serve(listener, pages).await });
    Ok(())
}

async fn page(State(monitor): State<Arc<Monitor>>) -> String {
    // A store that is away shows in its own metric; the others are still worth having.
    let answered = tokio::time::timeout(READY_WITHIN, monitor.look()).await;
    gauge!("tribunal_store_up").set(if matches!(answered, Ok(Ok(()))) { 1.0 } else { 0.0 });
    monitor.handle.run_upkeep();
    monitor.handle.render()
}

async fn ready(State(monitor): State<Arc<Monitor>>) -> (StatusCode, String) {
    let no = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    if monitor.drain.is_cancelled() {
        return no("it takes nothing more".to_owned());
    }
    match tokio::time::timeout(READY_WITHIN, monitor.store.ready()).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n".to_owned()),
        Ok(Err(error)) => no(error.to_string()),
        Err(_) => no(format!("the store did not answer within {} s", READY_WITHIN.as_secs())),
    }
}

// === impl Monitor ===

impl Monitor {
    /// Asks whether the store is there, and counts what is in it.
    async fn look(&self) -> Result<(), StoreError> {
        self.store.ready().await?;
        self.count().await
    }

    /// Counts what is in the queue, unless that was done a moment ago.
    async fn count(&self) -> Result<(), StoreError> {
        let mut counted = self.counted.lock().await;
        if counted.is_some_and(|at| at.elapsed() < COUNTED_FOR) {
            return Ok(());
        }
        let (mut depths, mut runs) = ([0_u64; 6], run_state::ALL.map(|word| (word, 0_u64)));
        for record in self.store.runs().await? {
            let of = self.store.progress(&record.run.id).await?;
            let counts =
                [of.pending - of.posted, of.posted, of.leased, of.done, of.dead, of.cancelled];
            depths.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            let leaves = without_canaries(of, &*self.store, &record.run.id).await?;
            let word = run_state::word(record.state, &leaves);
            let same = runs.iter_mut().filter(|(known, _)| *known == word);
            same.for_each(|(_, count)| *count += 1);
        }
        let states = ["pending", "posted", "leased", "done", "dead", "cancelled"];
        for (state, depth) in states.into_iter().zip(depths) {
            gauge!("tribunal_tasks", "state" => state).set(depth as f64);
        }
        for (state, count) in runs {
            gauge!("tribunal_runs", "state" => state).set(count as f64);
        }
        *counted = Some(Instant::now());
        Ok(())
    }
}

// === impl Counted ===

impl EventSink for Counted {
    fn event(&self, event: Event) {
        count(&event);
        self.0.event(event);
    }
}

fn count(event: &Event) {
    match event {
        Event::CallEnded { kind, via, class, usage, latency, cost_usd, .. } => {
            let class = class.map_or("ok", |class| class.name());
            let labels = [("kind", kind.name()), ("via", via.name()), ("class", class)];
            counter!("tribunal_calls_total", &labels).increment(1);
            let fresh = usage.input.saturating_sub(usage.cached);
            for (kind, tokens) in
                [("input", fresh), ("cached", usage.cached), ("output", usage.output)]
            {
                counter!("tribunal_tokens_total", "kind" => kind).increment(tokens);
            }
            metrics::histogram!("tribunal_call_seconds").record(latency.as_secs_f64());
            gauge!("tribunal_cost_usd").increment(cost_usd.unwrap_or(0.0));
        }
        Event::Stored { outcome, source, .. } => {
            let outcome = outcome.ungraded().map_or("graded", |reason| reason.name());
            let labels = [("outcome", outcome), ("source", source.name())];
            counter!("tribunal_verdicts_total", &labels).increment(1);
        }
        Event::Requeued { class, .. } => {
            counter!("tribunal_requeued_total", "class" => class.name()).increment(1);
        }
        Event::Dead { class, .. } => {
            counter!("tribunal_dead_total", "class" => class.name()).increment(1);
        }
        Event::Lost { .. } => {
            counter!("tribunal_leases_lost_total").increment(1);
        }
        Event::Throttled { .. } => counter!("tribunal_throttled_total").increment(1),
        Event::EndpointDown { .. } => counter!("tribunal_endpoint_down_total").increment(1),
        Event::Claimed { .. }
        | Event::Posted { .. }
        | Event::EndpointUp { .. }
        | Event::BatchSent { .. }
        | Event::BatchEnded { .. }
        | Event::Paused { .. }
        | Event::Draining { .. } => {}
    }
}

fn describe() {
    describe_gauge!("tribunal_tasks", "Tasks in the store by state, over all runs");
    describe_gauge!("tribunal_runs", "Runs in the store by state");
    describe_gauge!("tribunal_store_up", "Whether the store answered this scrape");
    describe_gauge!("tribunal_leaves_in_flight", "Leaves that this process holds");
    describe_gauge!("tribunal_limiter_waiting", "Calls that wait for the account's limit");
    describe_gauge!("tribunal_cost_usd", "What this process's calls have cost, in US dollars");
    describe_counter!("tribunal_calls_total", "Calls of this process by kind, way and class");
    describe_counter!("tribunal_tokens_total", "Tokens of this process's calls by kind");
    describe_counter!("tribunal_verdicts_total", "Verdicts that this process stored");
    describe_counter!("tribunal_requeued_total", "Leaves put back to be claimed later");
    describe_counter!("tribunal_dead_total", "Leaves given up");
    describe_counter!("tribunal_leases_lost_total", "Leases that ended before their answer");
    describe_counter!("tribunal_throttled_total", "Times that a provider asked to wait");
    describe_counter!("tribunal_endpoint_down_total", "Times that an endpoint was given a rest");
    describe_histogram!("tribunal_call_seconds", Unit::Seconds, "From sending to the whole answer");
    describe_histogram!("tribunal_store_seconds", Unit::Seconds, "The store's answer by call");
    // What has not happened yet is 0, not absent.
    counter!("tribunal_leases_lost_total").absolute(0);
    counter!("tribunal_throttled_total").absolute(0);
    gauge!("tribunal_limiter_waiting").set(0.0);
    gauge!("tribunal_leaves_in_flight").set(0.0);
    gauge!("tribunal_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}
