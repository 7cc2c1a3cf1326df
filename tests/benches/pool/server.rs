//! The other end: a server that reads a whole question and answers it with one good verdict.
//!
//! Owns nothing but speed: it does not look at what it is asked, so that the grader and the bare
//! client are measured, and not it. The simulated judge answers where answers matter.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::State,
    http::{Response, header::CONTENT_TYPE},
    routing::post,
};
use tokio::{net::TcpListener, runtime::Runtime};

/// A judge without a thought; ends when dropped.
pub(crate) struct Server {
    counts: Arc<Counts>,
    address: SocketAddr,
    _runtime: Runtime,
}

/// What it has seen.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    bytes: AtomicU64,
    first: Mutex<Option<Instant>>,
    latency: Duration,
}

// === impl Server ===

impl Server {
    /// Answers so long after a question was read.
    ///
    /// # Panics
    ///
    /// When it cannot listen on loopback.
    pub(crate) fn start(latency: Duration) -> Self {
        let counts = Arc::new(Counts { latency, ..Counts::default() });
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let app = Router::new()
            .route("/v1/chat/completions", post(answer))
            .with_state(Arc::clone(&counts));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { counts, address, _runtime: runtime }
    }

    /// Its URL, with `/v1`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Questions answered since the last time, with their mean size in bytes.
    pub(crate) fn take_counts(&self) -> (u64, f64) {
        let requests = self.counts.requests.swap(0, Ordering::Relaxed);
        let bytes = self.counts.bytes.swap(0, Ordering::Relaxed);
        (requests, bytes as f64 / requests.max(1) as f64)
    }

    /// When the first question since the last time came in.
    pub(crate) fn take_first(&self) -> Option<Instant> {
        self.counts.first.lock().expect("nothing panics under it").take()
    }
}

async fn answer(State(counts): State<Arc<Counts>>, mut body: Body) -> Response<Body> {
    if counts.requests.fetch_add(1, Ordering::Relaxed) == 0 {
        *counts.first.lock().expect("nothing panics under it") = Some(Instant::now());
    }
    let mut bytes = 0;
    while let Some(Ok(frame)) =
        std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await
    {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    counts.bytes.fetch_add(bytes, Ordering::Relaxed);
    if !counts.latency.is_zero() {
        tokio::time::sleep(counts.latency).await;
    }
    Response::builder()
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(ANSWER))
        .expect("a valid answer")
}

/// A verdict of ordinary length; it says that nobody judged.
const ANSWER: &str = concat!(
    r#"{"id":"bench","object":"chat.completion","created":0,"model":"bench","#,
    r#""system_fingerprint":"tribunal-sim","choices":[{"index":0,"finish_reason":"stop","#,
    r#""message":{"role":"assistant","content":"{\"expectations\":\"The function scales the "#,
    r#"tensor of its part, as section 3 of the paper says, and is called by the training loop.\","#,
    r#"\"reality\":\"The submission defines the function and calls it once for each part.\","#,
    r#"\"evidence\":[],\"explanation\":\"A fixed answer of the benchmark's server; nobody judged."#,
    r#"\",\"score\":1,\"confidence\":0.9}"}}],"usage":{"prompt_tokens":30000,"#,
    r#""completion_tokens":120,"total_tokens":30120,"prompt_tokens_details":{"cached_tokens":29952}}}"#,
);
