//! The reference: a bare client that sends bodies of the grader's size and reads the answers.
//!
//! Owns as little as can be: one reqwest client, a shared prefix that is never copied, a few
//! hundred bytes of each request's own. No store, no limit, no parsing.

use std::{
    collections::VecDeque,
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

/// A body in two parts, of known length.
struct Spliced(VecDeque<Bytes>);

// === impl Spliced ===

impl Body for Spliced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
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
    let own = 1_500.min(bytes);
    let (prefix, own) = (Bytes::from(vec![b'x'; bytes - own]), Bytes::from(vec![b'y'; own]));
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
            let (prefix, own) = (prefix.clone(), own.clone());
            tokio::spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < requests {
                    let body = Spliced([prefix.clone(), own.clone()].into());
                    let request = client.post(&url).body(reqwest::Body::wrap(body));
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
