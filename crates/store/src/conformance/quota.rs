//! Rules of the quota that workers share.

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;
use crate::{
    model::ModelStore,
    quota::{
        Meter, QuotaAsk, QuotaGrant, QuotaLimits, QuotaPool, QuotaReport, QuotaView, Rejected,
        Spend,
    },
};

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Take { worker: u8, tokens: u64, ahead: i64, unspent: u8 },
    Reject { wait_ms: u64, ago_ms: u64 },
    State { requests: u32 },
    Wait { ms: i64 },
}

/// Requests and tokens a minute of every worker's config in these tests.
const RPM: f64 = 600.0;
const TPM: f64 = 60_000.0;

fn pool(number: u8) -> QuotaPool {
    QuotaPool { account: format!("host/{number}"), family: "model".to_owned() }
}

fn ask(by: u8, need: Spend) -> QuotaAsk {
    QuotaAsk {
        worker: worker(by),
        need,
        want: Spend::default(),
        returned: Spend::default(),
        unmetered: Spend::default(),
        configured: QuotaLimits::default(),
    }
}

fn configured(by: u8, need: Spend) -> QuotaAsk {
    let limits = QuotaLimits { requests: Some(RPM), tokens: Some(TPM), ..QuotaLimits::default() };
    QuotaAsk { configured: limits, ..ask(by, need) }
}

// === impl Bench ===

impl Bench {
    async fn take(&self, ask: QuotaAsk) -> QuotaGrant {
        self.store.take_quota(&pool(1), &ask).await.expect("quota can be taken")
    }

    async fn report(&self, report: QuotaReport) -> QuotaView {
        self.store.report_quota(&pool(1), &report).await.expect("reports are taken")
    }

    async fn state(&self, requests: f64) -> QuotaView {
        let stated = QuotaLimits { requests: Some(requests), ..QuotaLimits::default() };
        self.report(QuotaReport { stated, ..QuotaReport::default() }).await
    }

    async fn reject(&self, wait_ms: u64) -> QuotaView {
        let rejected = Rejected {
            wait: Duration::from_millis(wait_ms),
            sent_ago: Duration::ZERO,
            meter: None,
        };
        self.report(QuotaReport { rejected: Some(rejected), ..QuotaReport::default() }).await
    }
}

/// Whatever several workers take, give back and report, the grants of any minute stay below the
/// quota and a second's burst; and the engine answers as the model does.
pub fn grants_of_any_minute_stay_below_the_quota(engine: &dyn Engine) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let config = ProptestConfig {
        cases: 32,
        failure_persistence: None,
        max_shrink_iters: 256,
        ..ProptestConfig::default()
    };
    let step = prop_oneof![
        12 => (0_u8..3, 1_u64..400, 0_i64..20, 0_u8..3)
            .prop_map(|(worker, tokens, ahead, unspent)| {
                Step::Take { worker, tokens, ahead, unspent }
            }),
        1 => (0_u64..3_000, 0_u64..2_000)
            .prop_map(|(wait_ms, ago_ms)| Step::Reject { wait_ms, ago_ms }),
        1 => (300_u32..1_200).prop_map(|requests| Step::State { requests }),
        6 => prop_oneof![8 => 0_i64..900, 1 => 0_i64..30_000, 1 => -2_000_i64..0]
            .prop_map(|ms| Step::Wait { ms }),
    ];
    let history = prop::collection::vec(step, 1..120);
    let result = TestRunner::new(config).run(&history, |steps| {
        runtime.block_on(check(engine, &steps));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

async fn check(engine: &dyn Engine, steps: &[Step]) {
    let clock = ManualClock::at(START_MS);
    let store = engine.open(clock.clone()).await;
    let model = ModelStore::new(Arc::new(clock.clone()));
    // Time that never steps back, as a provider counts it.
    let (mut now, mut spent) = (0_i64, Vec::<(i64, Spend)>::new());
    let mut held = [Spend::default(); 3];
    for step in steps {
        match step {
            Step::Take { worker: by, tokens, ahead, unspent } => {
                let need = Spend::call(*tokens, 0);
                let returned =
                    if *unspent == 0 { held[usize::from(*by)] } else { Spend::default() };
                let ask = QuotaAsk { want: need.times(*ahead), returned, ..configured(*by, need) };
                let grant = store.take_quota(&pool(1), &ask).await.expect("take");
                let expected = model.take_quota(&pool(1), &ask).await.expect("take");
                assert_eq!(grant, expected);
                let none = grant.granted == Spend::default();
                assert_eq!(none, !grant.wait.is_zero(), "all of the need, or when to ask again");
                assert!(none || grant.granted.on(Meter::Tokens) >= need.on(Meter::Tokens));
                // What is given back was not spent: the call itself always was.
                held[usize::from(*by)] = if none { Spend::default() } else { grant.granted - need };
                spent.push((now, -returned));
                spent.push((now, grant.granted));
            }
            Step::Reject { wait_ms, ago_ms } => {
                let rejected = Rejected {
                    wait: Duration::from_millis(*wait_ms),
                    sent_ago: Duration::from_millis(*ago_ms),
                    meter: None,
                };
                let report = QuotaReport { rejected: Some(rejected), ..QuotaReport::default() };
                let view = store.report_quota(&pool(1), &report).await.expect("report");
                assert_eq!(view, model.report_quota(&pool(1), &report).await.expect("report"));
                assert!(view.hold >= rejected.wait);
            }
            Step::State { requests } => {
                let requests = Some(f64::from(*requests));
                let stated = QuotaLimits { requests, ..QuotaLimits::default() };
                let report = QuotaReport { stated, ..QuotaReport::default() };
                let view = store.report_quota(&pool(1), &report).await.expect("report");
                assert_eq!(view, model.report_quota(&pool(1), &report).await.expect("report"));
                assert!(view.rates.requests <= requests);
            }
            Step::Wait { ms } => {
                clock.advance(*ms);
                now += (*ms).max(0);
            }
        }
    }
    for (meter, quota, burst) in [(Meter::Requests, RPM, 10.0), (Meter::Tokens, TPM, 1_000.0)] {
        for (at, (from, _)) in spent.iter().enumerate() {
            let minute = spent[at..].iter().take_while(|(time, _)| *time < from + 60_000);
            let granted: i64 = minute.map(|(_, spend)| spend.on(meter)).sum();
            assert!(granted as f64 <= quota + burst, "{granted} on {meter:?} in a minute");
        }
    }
    store.close().await.expect("close");
}

/// A need is granted whole or not at all, and the wait that is told is enough.
pub async fn a_need_is_granted_after_the_wait(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    for calls in [1, 4, 5] {
        let need = Spend::call(100, 0).times(calls);
        let mut grant = bench.take(configured(1, need)).await;
        while grant.granted != need {
            assert_eq!(grant.granted, Spend::default());
            assert!(!grant.wait.is_zero() && grant.wait < Duration::from_secs(2));
            bench.clock.advance(i64::try_from(grant.wait.as_millis()).expect("short"));
            let again = bench.take(configured(1, need)).await;
            assert_eq!(again.granted, need, "told to wait {:?}", grant.wait);
            grant = again;
        }
    }
}

/// What comes along with a need is at most half a second's.
pub async fn grants_reach_half_a_second_ahead(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    let need = Spend::call(1, 0);
    let grant = bench.take(QuotaAsk { want: need.times(1_000), ..configured(1, need) }).await;
    let (mut granted, mut worker) = (grant.granted.requests, 2);
    assert!((1..=6).contains(&granted), "{grant:?}");
    loop {
        let more = bench.take(QuotaAsk { want: need.times(1_000), ..configured(worker, need) });
        let more = more.await.granted;
        if more == Spend::default() {
            break;
        }
        granted += more.requests;
        worker += 1;
        assert!(granted <= 6, "more than half a second's worth is out");
    }
    let back = QuotaAsk { returned: grant.granted, ..configured(1, Spend::default()) };
    assert_eq!(bench.take(back).await.granted, Spend::default(), "it only gave back");
    let grant = bench.take(configured(worker, need)).await;
    assert_eq!(grant.granted, need, "what one does not spend another may");
}

/// A need larger than the bucket is granted, and those after it wait until that is paid.
pub async fn a_large_need_is_not_starved(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    let (large, small) = (Spend::call(5_000, 0), Spend::call(50, 0));
    assert_eq!(bench.take(configured(2, small.times(4))).await.granted, small.times(4));
    let mut granted = None;
    for step in 0..100 {
        if granted.is_none() && bench.take(configured(1, large)).await.granted == large {
            granted = Some(step);
        }
        bench.take(configured(2, small)).await;
        bench.clock.advance(25);
    }
    assert!(granted.is_some_and(|step| step < 40), "the small ones kept it waiting: {granted:?}");
    let after = bench.take(configured(2, small)).await;
    assert!(after.wait > Duration::from_secs(1), "{after:?}: 5,000 tokens take 5 s");
}

/// A call that is turned away holds all workers as long as the provider asks, and slows them.
pub async fn a_rejection_holds_every_worker(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    let need = Spend::call(100, 0);
    let before = bench.take(configured(1, need)).await.view.rates;
    bench.clock.advance(2_000);
    let view = bench.reject(3_000).await;
    assert_eq!(view.hold, Duration::from_secs(3));
    assert!(view.rates.requests < before.requests);
    let grant = bench.take(configured(2, need)).await;
    assert_eq!((grant.granted, grant.view.hold), (Spend::default(), Duration::from_secs(3)));
    let lowered = bench.reject(1_000).await;
    assert_eq!(lowered.hold, Duration::from_secs(3), "a shorter wait changes nothing");
    assert_eq!(lowered.rates, view.rates, "calls under way together count once");
    bench.clock.advance(3_300);
    assert_eq!(bench.take(configured(2, need)).await.granted, need);
}

/// A clock that is set back holds nobody until it has caught up, and lets nobody go twice.
pub async fn a_clock_set_back_holds_nobody(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    let need = Spend::call(100, 0);
    bench.clock.advance(3_600_000);
    assert_eq!(bench.take(configured(1, need)).await.granted, need);
    assert_eq!(bench.reject(3_000).await.hold, Duration::from_secs(3));
    bench.clock.advance(-3_600_000);
    let held = bench.take(configured(2, need)).await;
    assert_eq!((held.granted, held.view.hold), (Spend::default(), Duration::from_secs(3)));
    bench.clock.advance(3_300);
    assert_eq!(bench.take(configured(2, need)).await.granted, need);
}

/// A lower limit holds at once; a higher one is grown to, and only by using it.
pub async fn limits_fall_at_once_and_rise_slowly(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    let need = Spend::call(100, 0);
    let rate = |view: QuotaView| view.rates.requests.expect("a rate");
    assert!((590.0..=600.0).contains(&rate(bench.state(600.0).await)));
    assert!(rate(bench.state(60.0).await) <= 60.0);
    let mut view = bench.state(600.0).await;
    assert!(rate(view) <= 60.0, "{view:?}");
    bench.clock.advance(600_000);
    view = bench.take(ask(1, need)).await.view;
    assert!(rate(view) <= 70.0, "idle time is no reason to go faster: {view:?}");
    let mut seconds = 0.0;
    while rate(view) < 590.0 {
        view = bench.take(ask(1, need)).await.view;
        bench.clock.advance(20);
        seconds += 0.02;
        assert!(seconds < 300.0, "{view:?}");
    }
    assert!(seconds > 5.0, "in {seconds} s");
}

/// A raised limit is reached while a question waits that is larger than what the old one let through.
pub async fn a_raised_limit_is_reached_by_large_questions(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    let need = Spend::call(10_000, 0);
    let state = |tokens| {
        let stated = QuotaLimits { tokens: Some(tokens), ..QuotaLimits::default() };
        bench.report(QuotaReport { stated, ..QuotaReport::default() })
    };
    state(5_000.0).await;
    assert_eq!(bench.take(ask(1, need)).await.granted, need, "a whole bucket is enough");
    state(600_000.0).await;
    let (mut granted, mut seconds) = (0, 0.0);
    while granted < 10 {
        granted += u32::from(bench.take(ask(1, need)).await.granted == need);
        bench.clock.advance(500);
        seconds += 0.5;
        assert!(seconds < 60.0, "{granted} questions in {seconds} s");
    }
    assert!(seconds > 5.0, "in {seconds} s");
}

/// Pools know nothing of each other, nor do meters.
pub async fn pools_are_apart(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    bench.reject(60_000).await;
    let other = bench.store.take_quota(&pool(2), &ask(1, Spend::call(1, 0))).await;
    assert_eq!(other.expect("take").granted, Spend::call(1, 0));
}
