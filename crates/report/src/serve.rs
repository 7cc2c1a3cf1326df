//! The pages live from a store: runs, trees that go on, leaves on demand, the desk.
//!
//! Owns the server: its routes and what they read. Nothing outside the store is served, and
//! nothing is written but labels. Who may ask is `guard`'s, what is new is `events`'s.

mod desk;
mod events;
mod guard;
mod runs;

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tribunal_audit::calibration::CorrectedRoot;
use tribunal_collector::{CollectOptions, Collected, collect};
use tribunal_core::{Prices, RunId};
use tribunal_store::{Store, StoreError};

pub use self::guard::Guard;
use crate::{
    compare::{CompareError, compare_page},
    labelled,
    page::{Page, PageError, Rendered},
    read::{self, Exhibits, ReadError},
    tree::{Served, leaf_body, tree_page},
};

/// Streams of events open at once, at most: each looks at the store again and again.
const MOST_STREAMS: usize = 64;

/// Runs that are compared at once, at most.
const MOST_COMPARED: usize = 8;

/// Bytes of a label that is sent, at most.
const MOST_BYTES: usize = 64 << 10;

/// The prices of a model, `None` where they are not known.
pub type PricesOf = Box<dyn Fn(&str) -> Option<Prices> + Send + Sync>;

/// The corrected root of a run; `None` where nothing is known of its judge's errors.
pub type Correction = Box<dyn Fn(&Collected) -> Option<CorrectedRoot> + Send + Sync>;

/// What the server is made of.
pub struct Sources {
    /// Runs and labels.
    pub store: Arc<dyn Store>,
    /// What judges were shown.
    pub exhibits: Arc<dyn Exhibits>,
    /// What calls cost.
    pub prices: PricesOf,
    /// What humans would give a run, where that is known of its judge.
    pub correct: Correction,
    /// The root's coverage from which a finished run is complete, in [0, 1].
    pub coverage_floor: f64,
}

/// What every request can reach.
struct App {
    from: Sources,
    streams: Arc<Semaphore>,
}

type Shared = State<Arc<App>>;

/// A request that cannot be answered.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("there is no run {0} in the store")]
    NoRun(String),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Page(#[from] PageError),
    #[error(transparent)]
    Compare(#[from] CompareError),
    #[error("choose two runs or more, and they are compared")]
    Few,
    #[error("{MOST_STREAMS} pages listen already; close one")]
    Busy,
}

/// Serves until the process ends.
///
/// # Errors
///
/// The listener fails.
pub async fn serve(listener: TcpListener, guard: Guard, from: Sources) -> io::Result<()> {
    axum::serve(listener, router(guard, from)).await
}

fn router(guard: Guard, from: Sources) -> Router {
    let app = Arc::new(App { from, streams: Arc::new(Semaphore::new(MOST_STREAMS)) });
    Router::new()
        .route("/", get(runs::page))
        .route("/events", get(runs::events))
        .route("/compare", get(compare))
        .route("/runs/{run}", get(tree))
        .route("/runs/{run}/events", get(events::of_run))
        .route("/runs/{run}/leaves/{position}", get(leaf))
        .route("/runs/{run}/leaves/{position}/evidence", get(desk::evidence))
        .route("/runs/{run}/desk", get(desk::page))
        .route("/runs/{run}/labels", get(desk::export).post(desk::append))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is no such page") })
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::check))
        .with_state(app)
}

/// The page of a run.
async fn tree(State(app): Shared, Path(run): Path<String>) -> Result<Response, ServeError> {
    let run = app.run(&run).await?;
    let collected = app.collected(&run).await?;
    let mut tree = read::run(&*app.from.store, &collected, None, false).await?;
    tree.set_corrected((app.from.correct)(&collected));
    let links =
        vec![("/".to_owned(), "Runs".to_owned()), (format!("/runs/{run}/desk"), "Desk".to_owned())];
    let served = Served { run: format!("/runs/{run}"), links };
    Ok(html(tree_page(&tree, Some(&served))?))
}

/// Runs set against the first of them: `?run=ID&run=ID`.
async fn compare(
    State(app): Shared,
    Query(asked): Query<Vec<(String, String)>>,
) -> Result<Response, ServeError> {
    let mut trees = Vec::new();
    let named = asked.iter().filter(|(key, _)| key == "run").map(|(_, run)| run);
    for run in named.take(MOST_COMPARED) {
        let run = app.run(run).await?;
        let collected = app.collected(&run).await?;
        trees.push(read::run(&*app.from.store, &collected, None, false).await?);
    }
    if trees.len() < 2 {
        return Err(ServeError::Few);
    }
    Ok(html(compare_page(&trees, true)?))
}

/// The body of one leaf.
async fn leaf(
    State(app): Shared,
    Path((run, position)): Path<(String, u32)>,
) -> Result<Html<String>, ServeError> {
    let run = app.run(&run).await?;
    let mut leaf = read::leaf(&*app.from.store, &run, position, &*app.from.exhibits).await?;
    leaf.labels = labelled::of_leaf(&desk::labels(&app, &run).await?, position);
    Ok(Html(leaf_body(&leaf, false)?))
}

/// The page under its own policy, which forbids to frame it too.
fn html(page: Rendered) -> Response {
    let policy = format!("{}; frame-ancestors 'none'", page.policy);
    let mut response = Html(page.html).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

// === impl App ===

impl App {
    /// The run with exactly this id.
    async fn run(&self, id: &str) -> Result<RunId, ServeError> {
        let run: RunId = id.parse().map_err(|_| ServeError::NoRun(id.to_owned()))?;
        match self.from.store.run(&run).await {
            Ok(record) => Ok(record.run.id),
            Err(StoreError::NoSuchRun { .. }) => Err(ServeError::NoRun(id.to_owned())),
            Err(error) => Err(ReadError::from(error).into()),
        }
    }

    async fn collected(&self, run: &RunId) -> Result<Collected, ServeError> {
        let options = CollectOptions {
            coverage_floor: self.from.coverage_floor,
            ..CollectOptions::default()
        };
        let collected = collect(&*self.from.store, run, &options).await;
        let mut collected = collected.map_err(ReadError::from)?;
        let prices = (self.from.prices)(&collected.record().run.model);
        collected.set_prices(prices);
        Ok(collected)
    }
}

// === impl ServeError ===

impl IntoResponse for ServeError {
    fn into_response(self) -> Response {
        let status = match &self {
            ServeError::NoRun(_) | ServeError::Read(ReadError::NoSuchLeaf { .. }) => {
                StatusCode::NOT_FOUND
            }
            ServeError::Read(ReadError::Store(StoreError::Label { .. })) => StatusCode::BAD_REQUEST,
            ServeError::Few | ServeError::Compare(CompareError::NothingInCommon { .. }) => {
                StatusCode::BAD_REQUEST
            }
            ServeError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            ServeError::Read(_) | ServeError::Page(_) | ServeError::Compare(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        // Plain text: no word of it is markup.
        (status, self.to_string()).into_response()
    }
}

/// A page of this server with these scripts.
fn served_page<'p>(
    template: &'static str,
    title: &'p str,
    scripts: &'p [&'static str],
    data: Option<String>,
) -> Page<'p> {
    Page { template, title, styles: &[], scripts, data, connect: crate::page::Connect::Server }
}
