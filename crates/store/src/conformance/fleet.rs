//! Rules of the list of workers.

use super::*;
use crate::fleet::WorkerRecord;

// === impl Bench ===

impl Bench {
    async fn workers(&self) -> Vec<WorkerRecord> {
        self.store.workers().await.expect("workers can be listed")
    }

    async fn join(&self, by: u8) {
        self.store.join(worker(by)).await.expect("a worker can join");
    }

    async fn said(&self, by: u8, done: u64) -> bool {
        self.store.report(worker(by), done).await.expect("a worker can report")
    }
}

/// Workers are listed with what they hold and what they last said, in the order of their joining.
pub async fn workers_are_listed(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 4).await;
    assert!(bench.workers().await.is_empty());
    bench.join(2).await;
    bench.clock.advance(1_000);
    bench.join(1).await;
    bench.join(1).await;
    let claims = bench.store.claim(worker(2), 3, TTL, None).await.expect("claim");
    assert_eq!(claims.len(), 3);
    bench.clock.advance(4_000);
    assert!(!bench.said(2, 7).await, "nobody drains it");
    assert!(!bench.said(9, 1).await, "it never joined");
    bench.clock.advance(500);
    let listed = bench.workers().await;
    let of = |worker: &WorkerRecord| {
        (worker.id, worker.in_flight, worker.done, worker.worked_ms, worker.silent_ms)
    };
    let expected = [(worker(2), 3, 7, 5_000, 500), (worker(1), 0, 0, 0, 4_500)];
    assert_eq!(listed.iter().map(of).collect::<Vec<_>>(), expected);
    for listed in &listed {
        assert_eq!(listed.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(listed.pid, i64::from(std::process::id()));
        assert!(!listed.host.is_empty() && !listed.draining);
    }
    bench.clock.advance(2 * 86_400_000);
    bench.join(3).await;
    let ids: Vec<_> = bench.workers().await.iter().map(|worker| worker.id).collect();
    assert_eq!(ids, [worker(3)], "who says nothing for a day is forgotten");
}

/// Who is to end hears of it when it reports, and nobody else does.
pub async fn a_worker_hears_that_it_is_to_end(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1).await;
    bench.join(1).await;
    bench.join(2).await;
    for _ in 0..2 {
        assert!(bench.store.drain(worker(1)).await.expect("it can be told"));
    }
    assert!(!bench.store.drain(worker(9)).await.expect("there is none"));
    assert!(bench.said(1, 0).await);
    assert!(!bench.said(2, 0).await);
    let draining: Vec<bool> = bench.workers().await.iter().map(|worker| worker.draining).collect();
    assert_eq!(draining, [true, false]);
}
