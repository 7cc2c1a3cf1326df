//! The reference: a bare client that sends bodies spliced like the grader's and reads the answers.
//!
//! Owns as little as can be: one reqwest client, and bodies of which all requests share the beginning and
//! the end, and none copies them. No store, no limit, no parsing.

use std::{
    array,
    convert::Infallible,
    pin::Pin,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::runtime::Builder;

/// Bytes of a leaf's own message in the grader's bodies.
const OWN_BYTES: usize = 1_170;

/// Bytes of the parameters behind it.
const PARAMETERS_BYTES: usize = 990;

/// A body in parts, of known length.
struct Spliced(array::IntoIter<Bytes, 3>);

impl Body for Spliced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|part| Ok(Frame::data(part))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_slice().iter().map(|part| part.len() as u64).sum())
    }
}

/// `raw URL REQUESTS IN_FLIGHT BYTES`: sends so many requests of so many bytes.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let [url, requests, in_flight, bytes] = arguments else {
        return ExitCode::from(2);
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let (requests, in_flight, bytes) = (number(requests), number(in_flight), number(bytes));
    let url = format!("{url}/chat/completions");
    let shared = bytes.saturating_sub(OWN_BYTES + PARAMETERS_BYTES);
    let [prefix, parameters] =
        [shared, PARAMETERS_BYTES].map(|bytes| Bytes::from(vec![b'x'; bytes]));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(usize::MAX)
        .build()
        .expect("a client");
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let next = Arc::new(AtomicUsize::new(0));
    runtime.block_on(async {
        let workers = (0..in_flight).map(|_| {
            let (client, next, url) = (client.clone(), Arc::clone(&next), url.clone());
            let (prefix, parameters) = (prefix.clone(), parameters.clone());
            tokio::spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < requests {
                    let own = Bytes::from(vec![b'x'; OWN_BYTES]);
                    let parts = [prefix.clone(), own, parameters.clone()];
                    let body = reqwest::Body::wrap(Spliced(parts.into_iter()));
                    let request = client.post(&url).body(body);
                    let answer = request.send().await.expect("an answer");
                    answer.bytes().await.expect("a whole answer");
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.expect("no worker panics");
        }
    });
    ExitCode::SUCCESS
}
