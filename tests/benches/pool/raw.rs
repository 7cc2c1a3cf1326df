//! The reference: a bare client that sends bodies of the grader's size and reads the answers.
//!
//! Owns as little as can be: one reqwest client and one body, which all requests share and none
//! copies. No store, no limit, no parsing.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::runtime::Builder;

/// `raw URL REQUESTS IN_FLIGHT BYTES`: sends so many requests of so many bytes.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let [url, requests, in_flight, bytes] = arguments else {
        return ExitCode::from(2);
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let (requests, in_flight, bytes) = (number(requests), number(in_flight), number(bytes));
    let url = format!("{url}/chat/completions");
    let body = Bytes::from(vec![b'x'; bytes]);
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
            let body = body.clone();
            tokio::spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < requests {
                    let request = client.post(&url).body(body.clone());
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
