//! OpenAI's batch API: `/v1/files` and `/v1/batches`.
//!
//! Owns its requests and the lenient reading of what it answers. A file's name and a batch's
//! metadata carry our own name, by which both are found again.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method};
use reqwest::{
    Body, RequestBuilder,
    multipart::{Form, Part},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tribunal_core::{BatchId, FailureClass};

use super::{
    Answer, OpenAiProvider,
    body::{self, SplicedBody},
};
use crate::provider::{
    CallFailure, Question,
    batch::{BatchApi, BatchLine, LineName, LineReply, LineSink, RemoteBatch, RemoteState},
    classify::{ErrorBody, class},
};

/// Limit of a whole upload or download.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3_600);

/// The key of our own name in a batch's metadata.
const METADATA: &str = "tribunal_batch";

/// Batches listed at once: the API's own limit.
const PAGE: usize = 100;

/// How much earlier than ours the provider's clock may be.
const CLOCK_SLACK_S: i64 = 3_600;

/// Lines handed on together.
const LINES: usize = 256;

/// Bytes of one line that are read at most.
const MAX_LINE: usize = 16 << 20;

// Every field of an answer may be missing, and unknown values are no error.

#[derive(Deserialize)]
struct RawBatch {
    id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    input_file_id: Option<String>,
    #[serde(default)]
    output_file_id: Option<String>,
    #[serde(default)]
    error_file_id: Option<String>,
    #[serde(default)]
    errors: Option<RawErrors>,
    #[serde(default)]
    metadata: Option<Value>,
    #[serde(default)]
    created_at: Option<i64>,
}

#[derive(Default, Deserialize)]
struct RawErrors {
    #[serde(default)]
    data: Vec<RawError>,
}

#[derive(Deserialize)]
struct RawError {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct RawLine<'l> {
    custom_id: String,
    #[serde(default, borrow)]
    response: Option<RawResponse<'l>>,
    #[serde(default)]
    error: Option<RawError>,
}

#[derive(Deserialize)]
struct RawResponse<'l> {
    #[serde(default)]
    status_code: Option<u16>,
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default, borrow)]
    body: Option<&'l RawValue>,
}

#[derive(Deserialize)]
struct RawFile {
    id: String,
    #[serde(default)]
    filename: String,
}

#[derive(Deserialize)]
struct RawList<T> {
    data: Vec<T>,
    #[serde(default)]
    has_more: bool,
}

#[async_trait]
impl BatchApi for OpenAiProvider {
    fn line(&self, name: LineName, question: &Question<'_>) -> BatchLine {
        let head = format!(
            "{{\"custom_id\":\"{name}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":"
        );
        let body = body::body(question, self.config.endpoint.prompt_cache_key);
        let parts = std::iter::once(Bytes::from(head)).chain(body.into_parts());
        BatchLine { parts: parts.chain([Bytes::from_static(b"}\n")]).collect() }
    }

    fn read_line(&self, line: &[u8], model: &str) -> Option<(LineName, LineReply)> {
        let raw: RawLine<'_> = serde_json::from_slice(line).ok()?;
        let name = LineName::parse(&raw.custom_id)?;
        let asked = match (raw.response, raw.error) {
            (Some(RawResponse { status_code, request_id, body }), _) => {
                let body = body.map_or_else(Vec::new, |body| body.get().as_bytes().to_vec());
                let status = status_code.unwrap_or(200);
                let answer = Answer { status, headers: HeaderMap::new(), body };
                match self.read_answer(&answer, model) {
                    Ok(reply) => Ok(super::Reply { request_id, ..reply }),
                    Err(failure) => Err(CallFailure { request_id, ..failure }),
                }
            }
            (None, error) => {
                let code = error.as_ref().and_then(|e| e.code.clone()).unwrap_or_default();
                if code == "batch_cancelled" {
                    return Some((name, LineReply::NotAsked));
                }
                let message = error.and_then(|e| e.message);
                let message = message.unwrap_or_else(|| "no reply, and no reason".to_owned());
                // Such as `batch_expired`: as if a server had not answered.
                let class = class(500, &ErrorBody { message: message.clone(), code });
                Err(self.failed(class, &Answer::without_status(), &message))
            }
        };
        Some((name, LineReply::Asked(Box::new(asked))))
    }

    async fn upload(&self, batch: BatchId, lines: Vec<BatchLine>) -> Result<String, CallFailure> {
        let parts = lines.into_iter().flat_map(|line| line.parts);
        let body = SplicedBody::of(parts.collect());
        let length = body.bytes();
        let part = Part::stream_with_length(Body::wrap(body), length);
        let part = part.file_name(file_name(batch)).mime_str("application/jsonl");
        let part = part.map_err(|error| self.not_sent(&error))?;
        let form = Form::new().text("purpose", "batch").part("file", part);
        let request = self.request(Method::POST, "/files").multipart(form);
        let file: RawFile = self.json(request.timeout(TRANSFER_TIMEOUT)).await?;
        Ok(file.id)
    }

    async fn create(&self, batch: BatchId, file: &str) -> Result<RemoteBatch, CallFailure> {
        let body = json!({
            "input_file_id": file,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {METADATA: batch.to_string()},
        });
        let request = self.request(Method::POST, "/batches").json(&body);
        Ok(self.remote(self.json(request).await?))
    }

    async fn find(
        &self,
        batch: BatchId,
        since_ms: i64,
    ) -> Result<Option<RemoteBatch>, CallFailure> {
        let name = batch.to_string();
        let mut after: Option<String> = None;
        loop {
            let mut query = vec![("limit", PAGE.to_string())];
            query.extend(after.map(|after| ("after", after)));
            let request = self.request(Method::GET, "/batches").query(&query);
            let page: RawList<RawBatch> = self.json(request).await?;
            let (last, more) = (page.data.last().map(|last| last.id.clone()), page.has_more);
            let oldest = page.data.iter().filter_map(|raw| raw.created_at).min();
            for raw in page.data {
                let ours = raw.metadata.as_ref().and_then(|data| data.get(METADATA)?.as_str());
                if ours == Some(&name) {
                    let found = self.remote(raw);
                    if !matches!(found.state, RemoteState::Refused { .. }) {
                        return Ok(Some(found));
                    }
                }
            }
            // The newest come first.
            let since = since_ms / 1_000 - CLOCK_SLACK_S;
            if !more || last.is_none() || oldest.is_some_and(|oldest| oldest < since) {
                return Ok(None);
            }
            after = last;
        }
    }

    async fn look(&self, remote: &str) -> Result<RemoteBatch, CallFailure> {
        let request = self.request(Method::GET, &format!("/batches/{remote}"));
        Ok(self.remote(self.json(request).await?))
    }

    async fn cancel(&self, remote: &str) -> Result<(), CallFailure> {
        let request = self.request(Method::POST, &format!("/batches/{remote}/cancel"));
        match self.answer(request).await {
            // It has ended meanwhile.
            Err(CallFailure { status: Some(400 | 409), .. }) | Ok(_) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn withdraw(&self, batch: BatchId) -> Result<(), CallFailure> {
        let name = file_name(batch);
        let query = [("purpose", "batch"), ("order", "desc")];
        let request = self.request(Method::GET, "/files").query(&query);
        let files: RawList<RawFile> = self.json(request).await?;
        for file in files.data.into_iter().filter(|file| file.filename == name) {
            self.discard(&file.id).await?;
        }
        Ok(())
    }

    async fn discard(&self, file: &str) -> Result<(), CallFailure> {
        let request = self.request(Method::DELETE, &format!("/files/{file}"));
        match self.answer(request).await {
            Err(CallFailure { status: Some(404), .. }) | Ok(_) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn read(&self, file: &str, sink: &mut dyn LineSink) -> Result<(), CallFailure> {
        let request = self.request(Method::GET, &format!("/files/{file}/content"));
        let sent = request.timeout(TRANSFER_TIMEOUT).send().await;
        let mut response = sent.map_err(|error| self.not_sent(&error))?;
        if !response.status().is_success() {
            let answer = Answer::read(response).await.map_err(|error| self.not_sent(&error))?;
            return Err(self.refused(&answer));
        }
        let (mut rest, mut lines) = (Vec::new(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(|error| self.not_sent(&error))? {
            rest.extend_from_slice(&chunk);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                lines.push(Bytes::from(line));
                if lines.len() == LINES {
                    sink.lines(std::mem::take(&mut lines)).await?;
                }
            }
            if rest.len() > MAX_LINE {
                let message = "a line of the file of replies is longer than 16 MiB";
                return Err(self.failed(
                    FailureClass::BadReply,
                    &Answer::without_status(),
                    message,
                ));
            }
        }
        lines.push(Bytes::from(rest));
        sink.lines(lines).await
    }
}

// === impl OpenAiProvider ===

impl OpenAiProvider {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let endpoint = &self.config.endpoint;
        let url = format!("{}{path}", endpoint.base_url);
        self.http.request(method, url).headers(self.config.headers.clone())
    }

    /// The answer to a request, where it is a success.
    async fn answer(&self, request: RequestBuilder) -> Result<Answer, CallFailure> {
        let response = request.send().await.map_err(|error| self.not_sent(&error))?;
        let answer = Answer::read(response).await.map_err(|error| self.not_sent(&error))?;
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(self.refused(&answer)) }
    }

    /// A batch as the provider tells of it.
    fn remote(&self, raw: RawBatch) -> RemoteBatch {
        let state = match raw.status.as_str() {
            "completed" | "expired" | "cancelled" => RemoteState::Ended,
            "failed" => {
                let first = raw.errors.unwrap_or_default().data.into_iter().next();
                let (code, message) = first.map_or((None, None), |e| (e.code, e.message));
                let message = message.unwrap_or_else(|| "the provider gives no reason".to_owned());
                let message = self.scrub(&message);
                RemoteState::Refused { code: code.unwrap_or_default(), message }
            }
            _ => RemoteState::Working,
        };
        RemoteBatch {
            id: raw.id,
            state,
            input_file: raw.input_file_id.unwrap_or_default(),
            files: raw.output_file_id.into_iter().chain(raw.error_file_id).collect(),
        }
    }

    async fn json<T: for<'a> Deserialize<'a>>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, CallFailure> {
        let answer = self.answer(request).await?;
        serde_json::from_slice(&answer.body).map_err(|error| {
            let message = format!("the answer is not what the batch API gives: {error}");
            self.failed(FailureClass::BadRequest, &answer, &message)
        })
    }
}

fn file_name(batch: BatchId) -> String {
    format!("tribunal-{batch}.jsonl")
}
