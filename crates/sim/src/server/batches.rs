//! Files and batches: `/v1/files` and `/v1/batches` as OpenAI's API has them.
//!
//! Owns both, in memory, and the life of a batch: its questions are answered when its delay has
//! passed, all of them, or half of them where it expires. What an answer says is `call`'s.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Multipart, Path, Query, Request, State},
    http::{Response, StatusCode},
    middleware::{self, Next},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio_util::sync::CancellationToken;

use super::{App, json_response, unix_seconds};
use crate::{cache::lock, chance, request::ApiError};

/// Bytes of a file that is taken: a little more than OpenAI's 200 MB.
const MAX_FILE: usize = 256 << 20;

/// Batches on a page of the list.
const PAGE: usize = 20;

/// What was uploaded and created.
#[derive(Default)]
pub(super) struct Shelf {
    files: Mutex<BTreeMap<String, File>>,
    /// In the order of their creation.
    batches: Mutex<Vec<Batch>>,
    ordinal: AtomicU64,
}

struct File {
    ordinal: u64,
    name: String,
    purpose: &'static str,
    content: Bytes,
    created: u64,
}

struct Batch {
    id: String,
    status: &'static str,
    input: String,
    output: Option<String>,
    errors: Option<String>,
    refusal: Option<Value>,
    metadata: Value,
    created: u64,
    total: usize,
    completed: usize,
    failed: usize,
    /// Tokens of its questions while they wait.
    tokens: u64,
    cancel: CancellationToken,
}

/// A line of an uploaded file.
#[derive(Deserialize)]
struct Line<'l> {
    custom_id: String,
    #[serde(borrow)]
    body: &'l RawValue,
}

#[derive(Deserialize)]
struct NewBatch {
    input_file_id: String,
    endpoint: String,
    completion_window: String,
    #[serde(default)]
    metadata: Value,
}

/// How a batch ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Completed,
    Expired,
    Cancelled,
}

pub(super) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/v1/files", get(list_files).post(upload))
        .route("/v1/files/{id}", axum::routing::delete(delete_file))
        .route("/v1/files/{id}/content", get(content))
        .route("/v1/batches", get(list).post(create))
        .route("/v1/batches/{id}", get(look))
        .route("/v1/batches/{id}/cancel", post(cancel))
        .route_layer(middleware::from_fn_with_state(Arc::clone(app), authorized))
        .layer(DefaultBodyLimit::max(MAX_FILE))
}

async fn authorized(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response<Body>, Response<Body>> {
    app.authorize(request.headers()).map_err(ApiError::response)?;
    Ok(next.run(request).await)
}

async fn upload(State(app): State<Arc<App>>, mut form: Multipart) -> Response<Body> {
    let (mut purpose, mut file) = (None, None);
    loop {
        let field = match form.next_field().await {
            Ok(Some(field)) => field,
            Ok(None) => break,
            Err(error) => return refuse(error.body_text()),
        };
        let (name, file_name) =
            (field.name().map(str::to_owned), field.file_name().map(str::to_owned));
        let content = match field.bytes().await {
            Ok(content) => content,
            Err(error) => return refuse(error.body_text()),
        };
        match name.as_deref() {
            Some("purpose") => purpose = Some(content),
            Some("file") => file = file_name.map(|name| (name, content)),
            _ => {}
        }
    }
    let Some((name, content)) = file.filter(|_| purpose.as_deref() == Some(b"batch")) else {
        return refuse("a file with the purpose `batch` is needed".to_owned());
    };
    app.counters.files.fetch_add(1, Relaxed);
    let id = app.shelve(name, "batch", content);
    json_response(app.file(&id).unwrap_or_default().to_string())
}

async fn list_files(
    State(app): State<Arc<App>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response<Body> {
    let files = lock(&app.shelf.files);
    let asked = query.get("purpose");
    let mut found: Vec<_> =
        files.iter().filter(|(_, file)| asked.is_none_or(|p| p == file.purpose)).collect();
    found.sort_by_key(|(_, file)| std::cmp::Reverse(file.ordinal));
    let data: Vec<Value> = found.into_iter().map(|(id, file)| file.document(id)).collect();
    json_response(json!({"object": "list", "data": data, "has_more": false}).to_string())
}

async fn delete_file(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response<Body> {
    match lock(&app.shelf.files).remove(&id) {
        Some(_) => json_response(json!({"id": id, "object": "file", "deleted": true}).to_string()),
        None => missing("File", &id),
    }
}

async fn content(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response<Body> {
    match lock(&app.shelf.files).get(&id) {
        Some(file) => Response::new(Body::from(file.content.clone())),
        None => missing("File", &id),
    }
}

async fn create(State(app): State<Arc<App>>, body: Bytes) -> Response<Body> {
    let new: NewBatch = match serde_json::from_slice(&body) {
        Ok(new) => new,
        Err(error) => return refuse(error.to_string()),
    };
    if new.endpoint != "/v1/chat/completions" || new.completion_window != "24h" {
        return refuse("only /v1/chat/completions within 24h is answered here".to_owned());
    }
    let file = lock(&app.shelf.files).get(&new.input_file_id).map(|file| file.content.clone());
    let Some(file) = file else {
        return refuse(format!("Invalid file: {} does not exist.", new.input_file_id));
    };
    let number = app.counters.batches.fetch_add(1, Relaxed);
    let id = app.id("batch_sim_", &number.to_le_bytes());
    let cancel = CancellationToken::new();
    // About as many as they are: four bytes each.
    let tokens = file.len() as u64 / 4;
    let mut batches = lock(&app.shelf.batches);
    let waiting: u64 = batches.iter().filter(|batch| batch.is_open()).map(|b| b.tokens).sum();
    let full = app.config.batch_queue_tokens.is_some_and(|most| waiting + tokens > most);
    batches.push(Batch {
        id: id.clone(),
        status: if full { "failed" } else { "in_progress" },
        input: new.input_file_id,
        output: None,
        errors: None,
        refusal: full.then(|| {
            let message = "[simulated] Enqueued token limit reached for this model.";
            json!({"object": "list", "data": [{
                "code": "token_limit_exceeded", "message": message, "param": null, "line": null,
            }]})
        }),
        metadata: new.metadata,
        created: unix_seconds(),
        total: file.iter().filter(|byte| **byte == b'\n').count(),
        completed: 0,
        failed: 0,
        tokens,
        cancel: cancel.clone(),
    });
    drop(batches);
    if !full {
        tokio::spawn(Arc::clone(&app).live(id.clone(), number, file, cancel));
    }
    app.shown(&id)
}

async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response<Body> {
    let batches = lock(&app.shelf.batches);
    let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(PAGE);
    let newest = batches.iter().rev();
    let start = query.get("after").and_then(|after| newest.clone().position(|b| b.id == *after));
    let rest: Vec<&Batch> = newest.skip(start.map_or(0, |at| at + 1)).collect();
    let data: Vec<Value> = rest.iter().take(limit).map(|batch| batch.document()).collect();
    let more = rest.len() > data.len();
    json_response(json!({"object": "list", "data": data, "has_more": more}).to_string())
}

async fn look(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response<Body> {
    app.shown(&id)
}

async fn cancel(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response<Body> {
    if let Some(batch) = lock(&app.shelf.batches).iter_mut().find(|batch| batch.id == id) {
        if !batch.is_open() {
            return refuse(format!("Cannot cancel a batch with status '{}'.", batch.status));
        }
        batch.status = "cancelling";
        batch.cancel.cancel();
    }
    app.shown(&id)
}

// === impl App ===

impl App {
    /// The life of a batch from its creation on.
    async fn live(
        self: Arc<Self>,
        id: String,
        number: u64,
        file: Bytes,
        cancel: CancellationToken,
    ) {
        let delay = Duration::from_secs_f64(self.config.batch_delay_ms / 1_000.0);
        let drawn = chance::uniform(self.config.seed, "batch expiry", &[&number.to_le_bytes()]);
        let end = tokio::select! {
            () = self.stop.cancelled() => return,
            () = cancel.cancelled() => End::Cancelled,
            () = tokio::time::sleep(delay) => match drawn < self.config.batch_expiry_rate {
                true => End::Expired,
                false => End::Completed,
            },
        };
        let lines: Vec<&[u8]> =
            file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let asked = match end {
            End::Completed => lines.len(),
            End::Expired => lines.len() / 2,
            End::Cancelled => 0,
        };
        let (mut output, mut errors) = (String::new(), String::new());
        for (at, line) in lines.iter().enumerate() {
            let (text, failed) = match at < asked {
                true => self.answer_line(line).await,
                false => (not_asked(line, end), true),
            };
            let file = if failed { &mut errors } else { &mut output };
            file.push_str(&text);
            file.push('\n');
        }
        let (completed, failed) = (output.lines().count(), errors.lines().count());
        let shelve = |name: &str, text: String| {
            (!text.is_empty()).then(|| {
                self.shelve(format!("{id}_{name}.jsonl"), "batch_output", Bytes::from(text))
            })
        };
        let (output, errors) = (shelve("output", output), shelve("error", errors));
        let counted = match end {
            End::Completed => None,
            End::Expired => Some(&self.counters.expired_batches),
            End::Cancelled => Some(&self.counters.cancelled_batches),
        };
        if let Some(counter) = counted {
            counter.fetch_add(1, Relaxed);
        }
        if let Some(batch) = lock(&self.shelf.batches).iter_mut().find(|batch| batch.id == id) {
            batch.status = match end {
                End::Completed => "completed",
                End::Expired => "expired",
                End::Cancelled => "cancelled",
            };
            (batch.output, batch.errors) = (output, errors);
            (batch.completed, batch.failed) = (completed, failed);
        }
    }

    /// The line that answers a question, and whether it is one of errors.
    async fn answer_line(&self, line: &[u8]) -> (String, bool) {
        let ordinal = self.counters.batch_questions.fetch_add(1, Relaxed);
        let Ok(Line { custom_id, body }) = serde_json::from_slice::<Line<'_>>(line) else {
            return (
                json!({"custom_id": null, "error": {"code": "invalid_line"}}).to_string(),
                true,
            );
        };
        let drawn = chance::uniform(self.config.seed, "batch error", &[&ordinal.to_le_bytes()]);
        let body = Bytes::copy_from_slice(body.get().as_bytes());
        let (status, body) = if drawn < self.config.batch_error_rate {
            let message = "[simulated] The server had an error while processing your request.";
            (
                500,
                json!({"error": {"message": message, "type": "server_error", "code": null}})
                    .to_string(),
            )
        } else {
            match self.read_body(body).await {
                Ok((request, prompt)) => (200, self.answer_posted(ordinal, request, prompt)),
                Err(error) => (error.status.as_u16(), error.document().to_string()),
            }
        };
        let body: Box<RawValue> = RawValue::from_string(body).unwrap_or_default();
        let bytes = ordinal.to_le_bytes();
        let answered = json!({
            "id": self.id("batch_req_", &bytes),
            "custom_id": custom_id,
            "response": {
                "status_code": status,
                "request_id": self.id("req_batch_", &bytes),
                "body": body,
            },
            "error": null,
        });
        (answered.to_string(), status != 200)
    }

    /// Keeps a file; returns its id.
    fn shelve(&self, name: String, purpose: &'static str, content: Bytes) -> String {
        let ordinal = self.shelf.ordinal.fetch_add(1, Relaxed);
        let id = self.id("file-sim-", &ordinal.to_le_bytes());
        let file = File { ordinal, name, purpose, content, created: unix_seconds() };
        lock(&self.shelf.files).insert(id.clone(), file);
        id
    }

    fn file(&self, id: &str) -> Option<Value> {
        lock(&self.shelf.files).get(id).map(|file| file.document(id))
    }

    /// The batch's document.
    fn shown(&self, id: &str) -> Response<Body> {
        let batches = lock(&self.shelf.batches);
        match batches.iter().find(|batch| batch.id == id) {
            Some(batch) => json_response(batch.document().to_string()),
            None => missing("Batch", id),
        }
    }
}

// === impl Batch ===

impl Batch {
    fn is_open(&self) -> bool {
        matches!(self.status, "in_progress" | "cancelling")
    }

    fn document(&self) -> Value {
        json!({
            "id": self.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "status": self.status,
            "input_file_id": self.input,
            "output_file_id": self.output,
            "error_file_id": self.errors,
            "errors": self.refusal,
            "metadata": self.metadata,
            "created_at": self.created,
            "request_counts":
                {"total": self.total, "completed": self.completed, "failed": self.failed},
        })
    }
}

// === impl File ===

impl File {
    fn document(&self, id: &str) -> Value {
        json!({
            "id": id,
            "object": "file",
            "bytes": self.content.len(),
            "created_at": self.created,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        })
    }
}

/// The line of a question that was not answered before the batch ended.
fn not_asked(line: &[u8], end: End) -> String {
    let custom_id = serde_json::from_slice::<Line<'_>>(line).map(|line| line.custom_id).ok();
    let (code, message) = match end {
        End::Cancelled => ("batch_cancelled", "[simulated] The batch was cancelled."),
        End::Completed | End::Expired => (
            "batch_expired",
            "[simulated] This request could not be executed before the batch expired.",
        ),
    };
    let error = json!({"code": code, "message": message});
    json!({"custom_id": custom_id, "response": null, "error": error}).to_string()
}

fn refuse(message: String) -> Response<Body> {
    ApiError::bad_request(None, None, message).response()
}

fn missing(noun: &str, id: &str) -> Response<Body> {
    let message = format!("No such {noun} object: {id}");
    ApiError { status: StatusCode::NOT_FOUND, ..ApiError::bad_request(None, None, message) }
        .response()
}
