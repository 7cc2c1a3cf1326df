//! The server.
//!
//! Owns the listener, the routes, and what every reply carries. The way of a call is `call`.

mod batches;
mod call;

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    middleware,
    routing::{get, post},
    serve::ListenerExt as _,
};
use serde_json::json;
use tokio::{net::TcpSocket, runtime::Handle, task::AbortHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    cache::PrefixCache,
    config::SimConfig,
    error::SimError,
    limit::Limiter,
    reply::SIMULATED,
    request::{ApiError, set_headers},
    segment::{SegmentCache, count_tokens},
    stats::{Counters, SimStats},
    verdict::Judge,
};

/// Largest body that is read, bytes.
const MAX_BODY: usize = 64 << 20;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4_096;

/// How long a shutdown waits for connections to end by themselves.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// A running simulated judge; it stops when this is dropped.
#[derive(Debug)]
pub struct Sim {
    address: SocketAddr,
    app: Arc<App>,
    server: AbortHandle,
}

/// What every call needs.
struct App {
    config: SimConfig,
    judge: Judge,
    limiter: Limiter,
    segments: SegmentCache,
    prefixes: PrefixCache,
    counters: Counters,
    replies: AtomicU64,
    shelf: batches::Shelf,
    /// Unix seconds.
    started: u64,
    stop: CancellationToken,
    ended: CancellationToken,
    outcome: OnceLock<Result<(), String>>,
}

// === impl Sim ===

impl Sim {
    /// Starts a simulated judge on 127.0.0.1; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// A setting out of range, a file of the config that cannot be used, a port that is taken, or
    /// no tokio runtime around.
    pub fn start(config: SimConfig, port: u16) -> Result<Sim, SimError> {
        config.validate()?;
        let runtime = Handle::try_current().map_err(|_| SimError::NoRuntime)?;
        let listen = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into())?;
            let listener = socket.listen(BACKLOG)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let judge = Judge::new(&config)?;
        let (listener, address) = listen().map_err(|source| SimError::Listen { port, source })?;
        let now = Instant::now();
        let app = Arc::new(App {
            judge,
            limiter: Limiter::new(&config, now),
            segments: SegmentCache::new(),
            prefixes: PrefixCache::new(),
            counters: Counters::new(now),
            replies: AtomicU64::new(0),
            shelf: batches::Shelf::default(),
            started: unix_seconds(),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
            outcome: OnceLock::new(),
            config,
        });
        // Without it, the end of an answer waits for the client's acknowledgement of its start.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let stop = app.stop.clone().cancelled_owned();
        let serve = axum::serve(listener, router(&app)).with_graceful_shutdown(stop);
        let served = Arc::clone(&app);
        let server = runtime.spawn(async move {
            let outcome = serve.await.map_err(|error| error.to_string());
            // The first outcome is the only one.
            drop(served.outcome.set(outcome));
            served.ended.cancel();
        });
        // The vocabulary takes a moment to unpack; better now than during the first call.
        runtime.spawn_blocking(|| count_tokens("warm"));
        Ok(Sim { address, app, server: server.abort_handle() })
    }

    /// What a client takes as its base URL, such as `http://127.0.0.1:4010/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Where the counts are, such as `http://127.0.0.1:4010/stats`.
    pub fn stats_url(&self) -> String {
        format!("http://{}/stats", self.address)
    }

    /// The counts now.
    pub fn stats(&self) -> SimStats {
        self.app.counters.snapshot(Instant::now(), self.app.limiter.allowed())
    }

    /// Waits for as long as the server runs: until it is stopped or fails.
    ///
    /// # Errors
    ///
    /// Why the server ended by itself.
    pub async fn wait(&self) -> Result<(), SimError> {
        self.app.ended.cancelled().await;
        match self.app.outcome.get() {
            Some(Err(error)) => Err(SimError::Ended(error.clone())),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Stops: no new connection is taken, and calls in flight end at once, those still waiting for
    /// their latency with a 503. Afterwards the port is free.
    pub async fn shutdown(self) {
        self.app.stop.cancel();
        let ended = tokio::time::timeout(SHUTDOWN_GRACE, self.app.ended.cancelled()).await;
        if ended.is_err() {
            self.server.abort();
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.app.stop.cancel();
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("config", &self.config).finish_non_exhaustive()
    }
}

fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .route("/stats", get(stats))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .merge(batches::routes(app))
        .fallback(unknown_url)
        .method_not_allowed_fallback(unknown_url)
        .layer(middleware::map_response_with_state(Arc::clone(app), mark))
        .with_state(Arc::clone(app))
}

// Routes.

async fn chat(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response<Body> {
    let call = app.counters.enter();
    match app.read(&headers, body).await {
        Ok((request, prompt)) => app.answer(&call, request, prompt).await,
        Err(error) => {
            app.counters.invalid.fetch_add(1, Relaxed);
            error.response()
        }
    }
}

async fn models(State(app): State<Arc<App>>, headers: HeaderMap) -> Response<Body> {
    if let Err(error) = app.authorize(&headers) {
        return error.response();
    }
    let named = app.config.models.iter().map(String::as_str);
    let data: Vec<_> = named
        .chain(app.config.models.is_empty().then_some(SIMULATED))
        .map(|id| {
            json!({"id": id, "object": "model", "created": app.started, "owned_by": SIMULATED})
        })
        .collect();
    json_response(json!({"object": "list", "data": data}).to_string())
}

async fn stats(State(app): State<Arc<App>>) -> Response<Body> {
    let stats = app.counters.snapshot(Instant::now(), app.limiter.allowed());
    json_response(serde_json::to_string(&stats).unwrap_or_default())
}

async fn unknown_url(method: axum::http::Method, url: axum::http::Uri) -> Response<Body> {
    ApiError {
        status: StatusCode::NOT_FOUND,
        kind: "invalid_request_error",
        code: Some("unknown_url"),
        param: None,
        message: format!("Unknown request URL: {method} {}.", url.path()),
        headers: Vec::new(),
    }
    .response()
}

/// What every reply carries: that it is simulated, its id, and the state of the limits.
async fn mark(State(app): State<Arc<App>>, mut response: Response<Body>) -> Response<Body> {
    let ordinal = app.replies.fetch_add(1, Relaxed).to_le_bytes();
    let id = app.id("req_", &ordinal);
    let mut headers = vec![("x-tribunal-simulated", "true".to_owned()), ("x-request-id", id)];
    headers.extend(app.limiter.headers(Instant::now()));
    // The limits as they stood when a call was admitted are not to be overwritten.
    headers.retain(|(name, _)| !response.headers().contains_key(*name));
    set_headers(&mut response, headers);
    response
}

fn json_response(body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
