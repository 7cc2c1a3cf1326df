//! The limiter against simulated providers, in virtual time.

use proptest::{prelude::*, test_runner::TestRunner};
use tribunal_core::{FailureClass, Usage};
use tribunal_store::{Clock, ModelStore};

use super::*;
use crate::provider::{CallFailure, Finish, LimitHeaders, LimitWindow, Reply};

/// The store's clock in virtual time.
struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now_ms(&self) -> i64 {
        1_767_225_600_000 + i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

/// What a call used: requests and tokens, and when.
type Used = (Instant, [f64; 2]);

/// A provider with limits of requests and tokens a minute and a second's burst.
#[derive(Clone)]
struct Provider(Arc<Mutex<Buckets>>);

struct Buckets {
    per_minute: [f64; 2],
    level: [f64; 2],
    at: Instant,
    says_limits: bool,
    charges_rejected: bool,
    /// What each call that was let through used, by its time.
    admitted: Vec<Used>,
    offered: f64,
    rejected: u64,
}

impl Provider {
    fn new(per_minute: [f64; 2], says_limits: bool, charges_rejected: bool) -> Self {
        let at = Instant::now();
        let level = per_minute.map(|limit| limit / 60.0);
        let (admitted, offered, rejected) = (Vec::new(), 0.0, 0);
        Self(Arc::new(Mutex::new(Buckets {
            per_minute,
            level,
            at,
            says_limits,
            charges_rejected,
            admitted,
            offered,
            rejected,
        })))
    }

    fn set(&self, per_minute: [f64; 2]) {
        let mut buckets = self.0.lock().unwrap();
        buckets.refill();
        buckets.per_minute = per_minute;
    }

    fn call(&self, tokens: u64, output: u64) -> Result<Reply, CallFailure> {
        let mut buckets = self.0.lock().unwrap();
        buckets.refill();
        let need = [1.0, (tokens + output) as f64];
        let short = |i: usize, buckets: &Buckets| {
            let capacity = (buckets.per_minute[i] / 60.0).max(1.0);
            (need[i].min(capacity) - 1e-6 - buckets.level[i]).max(0.0)
        };
        let wait = (0..2).map(|i| short(i, &buckets) * 60.0 / buckets.per_minute[i]);
        let wait = wait.fold(0.0, f64::max);
        if wait == 0.0 || buckets.charges_rejected {
            for (level, need) in buckets.level.iter_mut().zip(need) {
                *level -= need;
            }
        }
        let window = |i: usize| LimitWindow {
            limit: Some(buckets.per_minute[i] as u64),
            remaining: Some(buckets.level[i].max(0.0) as u64),
            reset: Some(Duration::from_millis(500)),
        };
        let limits = buckets.says_limits.then(|| {
            let (requests, tokens) = (Some(window(0)), Some(window(1)));
            Box::new(LimitHeaders { requests, tokens, ..LimitHeaders::default() })
        });
        if wait > 0.0 {
            buckets.rejected += 1;
            return Err(CallFailure {
                status: Some(429),
                retry_after: Some(Duration::from_secs_f64(wait)),
                reached: true,
                limits,
                ..CallFailure::unanswered(FailureClass::Throttled, "Rate limit reached.".to_owned())
            });
        }
        buckets.admitted.push((Instant::now(), need));
        Ok(Reply {
            content: String::new(),
            finish: Finish::Stop,
            model: String::new(),
            usage: Usage { input: tokens, cached: 0, output },
            reports_usage: true,
            reports_cached: false,
            simulated: true,
            status: 200,
            request_id: None,
            limits,
        })
    }

    /// Used share of the limit of requests, and calls rejected for each that was admitted.
    fn shares(&self) -> (f64, f64) {
        let mut buckets = self.0.lock().unwrap();
        buckets.refill();
        let admitted = buckets.admitted.len() as f64;
        (admitted / buckets.offered, buckets.rejected as f64 / admitted)
    }
}

impl Buckets {
    fn refill(&mut self) {
        let passed = self.at.elapsed().as_secs_f64();
        self.at = Instant::now();
        self.offered += passed * self.per_minute[0] / 60.0;
        for (level, limit) in self.level.iter_mut().zip(self.per_minute) {
            *level = (*level + passed * limit / 60.0).min((limit / 60.0).max(1.0));
        }
    }
}

fn limits(requests: f64, tokens: f64) -> QuotaLimits {
    QuotaLimits { requests: Some(requests), tokens: Some(tokens), ..QuotaLimits::default() }
}

/// So many limiters on one store, each of a process of its own.
fn processes(count: u8, configured: QuotaLimits) -> Vec<Arc<Limiter>> {
    let clock = Arc::new(VirtualClock(Instant::now()));
    let store: Arc<dyn Store> = Arc::new(ModelStore::new(clock));
    let limiter = |number| {
        let pool = QuotaPool { account: "host".to_owned(), family: "model".to_owned() };
        let worker = WorkerId::from_bytes([number; 16]);
        let shared = SharedQuota { store: Arc::clone(&store), pool, worker };
        Arc::new(Limiter::new(configured, Some(shared)))
    };
    (1..=count).map(limiter).collect()
}

/// `tasks` callers of a limiter without rest until the end, each call taking `latency`.
async fn work(
    limiters: &[Arc<Limiter>],
    provider: &Provider,
    tasks: usize,
    latency: Duration,
    end: Duration,
) {
    let end = Instant::now() + end;
    let callers: Vec<_> = (0..tasks)
        .map(|task| {
            let (limiter, provider) =
                (Arc::clone(&limiters[task % limiters.len()]), provider.clone());
            tokio::spawn(async move {
                let mut calls = task as u64;
                while Instant::now() < end {
                    let permit = limiter.reserve(Spend::call(1_000, 120), Duration::MAX).await;
                    let permit = permit.unwrap();
                    calls += 1;
                    let answer = provider.call(990, 80 + calls % 40);
                    if answer.is_ok() {
                        tokio::time::sleep(latency).await;
                    }
                    let hold = answer.as_ref().err().and_then(|failure| failure.retry_after);
                    permit.end(&answer, hold.unwrap_or_default());
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_known_limit_is_used_and_not_hit() {
    const MINUTES: Duration = Duration::from_secs(300);
    for (count, says_limits, configured) in [
        (1, false, limits(600.0, 6e5)),
        (2, false, limits(600.0, 1e7)),
        (1, true, QuotaLimits::default()),
        (2, true, QuotaLimits::default()),
    ] {
        let provider = Provider::new([600.0, 1e7], says_limits, false);
        let limiters = processes(count, configured);
        work(&limiters, &provider, 40, Duration::from_millis(700), MINUTES).await;
        let (used, rejected) = provider.shares();
        let bound = if configured.tokens == Some(6e5) { 0.9 } else { 0.98 };
        assert!(used >= bound && rejected <= 0.001, "{count} {says_limits}: {used} {rejected}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_limit_is_found_and_followed() {
    for (count, charges_rejected) in [(1, false), (1, true), (2, false)] {
        let provider = Provider::new([600.0, 1e7], false, charges_rejected);
        let limiters = processes(count, QuotaLimits::default());
        let cut = provider.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(150)).await;
            cut.set([300.0, 1e7]);
        });
        let length = Duration::from_secs(300);
        work(&limiters, &provider, 40, Duration::from_millis(300), length).await;
        let (used, rejected) = provider.shares();
        assert!(used >= 0.9 && rejected <= 0.02, "{count} {charges_rejected}: {used} {rejected}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_stops_every_process() {
    let limiters = processes(2, limits(6_000.0, 1e9));
    let need = Spend::call(10, 10);
    for limiter in &limiters {
        limiter.reserve(need, Duration::MAX).await.unwrap();
    }
    let permit = limiters[0].reserve(need, Duration::MAX).await.unwrap();
    let failure = CallFailure {
        reached: true,
        ..CallFailure::unanswered(FailureClass::Throttled, String::new())
    };
    permit.end(&Err(failure), Duration::from_secs(7));
    let start = Instant::now();
    let no = limiters[0].reserve(need, Duration::from_secs(5)).await.err();
    assert!(matches!(no, Some(NoPermit::Held(_))), "longer than the caller would wait");
    // The other process hears of it when it looks next, within its lease.
    tokio::time::sleep(Duration::from_millis(600)).await;
    for limiter in &limiters {
        limiter.reserve(need, Duration::MAX).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(6_990));
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_fit_a_minute_is_refused() {
    let limiter = Arc::new(Limiter::new(limits(60.0, 5_000.0), None));
    let no = limiter.reserve(Spend::call(5_000, 1), Duration::MAX).await.err();
    let expected = NoPermit::TooLarge { meter: Meter::Tokens, needs: 5_001, limit: 5_000.0 };
    assert_eq!(no, Some(expected));
}

#[tokio::test(start_paused = true)]
async fn a_large_call_keeps_its_place() {
    let limiter = Arc::new(Limiter::new(limits(6_000.0, 60_000.0), None));
    let order: Arc<Mutex<Vec<u64>>> = Arc::default();
    let callers: Vec<_> = [400, 20_000, 10, 10, 10]
        .into_iter()
        .map(|tokens| {
            let (limiter, order) = (Arc::clone(&limiter), Arc::clone(&order));
            tokio::spawn(async move {
                let permit = limiter.reserve(Spend::call(tokens, 0), Duration::MAX).await.unwrap();
                order.lock().unwrap().push(tokens);
                let _kept = permit;
                std::future::pending::<()>().await;
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(*order.lock().unwrap(), [400, 20_000, 10, 10, 10]);
    callers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_comes_back() {
    let limiter = Arc::new(Limiter::new(limits(60.0, 1e9), None));
    let start = Instant::now();
    for _ in 0..50 {
        drop(limiter.reserve(Spend::call(1, 1), Duration::MAX).await.unwrap());
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// Random callers, sizes and latencies, and limits that change: what goes out in any minute stays
/// below the highest limit that held in it and a second's burst.
#[test]
fn no_minute_has_more_than_the_quota_and_a_burst() {
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() };
    let calls = prop::collection::vec((0_u64..4_000, 1_u64..3_000, 0_u64..9_000), 1..160);
    let strategy = (1_u8..4, 60_u32..1_200, 20_000_u32..300_000, calls);
    let result = TestRunner::new(config).run(&strategy, |(count, rpm, tpm, calls)| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(random_minutes(count, f64::from(rpm), f64::from(tpm), calls));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

async fn random_minutes(count: u8, rpm: f64, tpm: f64, calls: Vec<(u64, u64, u64)>) {
    let limiters = processes(count, limits(rpm, tpm));
    let sent: Arc<Mutex<Vec<Used>>> = Arc::default();
    let mut callers = Vec::new();
    for (number, (gap, tokens, latency)) in calls.into_iter().enumerate() {
        // Half of them come at once.
        if number % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(gap)).await;
        }
        let limiter = Arc::clone(&limiters[number % limiters.len()]);
        let sent = Arc::clone(&sent);
        callers.push(tokio::spawn(async move {
            let need = Spend::call(tokens, 10);
            let Ok(permit) = limiter.reserve(need, Duration::MAX).await else { return };
            sent.lock().unwrap().push((Instant::now(), [1.0, (tokens + 10) as f64]));
            tokio::time::sleep(Duration::from_millis(latency)).await;
            let provider = Provider::new([1e9, 1e12], false, false);
            permit.end(&provider.call(tokens, 10), Duration::ZERO);
        }));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let sent = sent.lock().unwrap();
    for (at, (from, _)) in sent.iter().enumerate() {
        let minute =
            sent[at..].iter().take_while(|(time, _)| *time < *from + Duration::from_secs(60));
        let used = minute.fold([0.0, 0.0], |sum, (_, used)| [sum[0] + used[0], sum[1] + used[1]]);
        // One call larger than the burst may go when the bucket is full.
        for (used, most) in
            used.iter().zip([rpm + (rpm / 60.0).max(1.0), tpm + tpm / 60.0 + 3_010.0])
        {
            assert!(*used <= most + 1e-6, "{used} of {most} in a minute");
        }
    }
}
