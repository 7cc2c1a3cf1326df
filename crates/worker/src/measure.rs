//! What is measured of a pool besides its events.
//!
//! Owns these metrics' names. Where nobody records, nothing is done. It decides nothing.

use tokio::time::Instant;

/// Records how long the store takes for a call.
pub(crate) async fn timed<T>(call: &'static str, answer: impl Future<Output = T>) -> T {
    let asked = Instant::now();
    let answered = answer.await;
    let seconds = asked.elapsed().as_secs_f64();
    metrics::histogram!("tribunal_store_seconds", "call" => call).record(seconds);
    answered
}

/// One more call waits for an account's limit, or one less.
pub(crate) fn limiter_waiting(change: f64) {
    metrics::gauge!("tribunal_limiter_waiting").increment(change);
}

/// So many leaves are held.
pub(crate) fn leaves_in_flight(count: usize) {
    metrics::gauge!("tribunal_leaves_in_flight").set(count as f64);
}
