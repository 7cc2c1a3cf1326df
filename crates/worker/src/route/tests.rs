//! Which way the next call takes.

use std::{collections::BTreeMap, num::NonZeroU32};

use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;
use tribunal_core::{JudgeSpec, ReplyForm};
use tribunal_store::QuotaLimits;

use super::*;
use crate::{
    meter::Tariff,
    provider::{Answer, Message, Question},
};

struct Nobody;

#[async_trait]
impl Provider for Nobody {
    fn prefix(&self, _: &JudgeSpec, _: &[Message<'_>]) -> Bytes {
        Bytes::new()
    }

    fn parameters(
        &self,
        _: &JudgeSpec,
        _: ReplyForm,
        _: Answer,
        _: &BTreeMap<String, String>,
    ) -> Bytes {
        Bytes::new()
    }

    async fn ask(&self, _: &Question<'_>) -> Result<Reply, CallFailure> {
        Err(failure(FailureClass::Transient, None))
    }
}

const POLICY: BreakerPolicy =
    BreakerPolicy { failures: 2, base: Duration::from_secs(1), max: Duration::from_secs(30) };

fn routes(weights: &[u32]) -> Routes {
    let route = |weight: &u32| {
        let route = Route {
            name: String::new(),
            provider: Arc::new(Nobody),
            limiter: Arc::new(Limiter::new(QuotaLimits::default(), None)),
            meter: Meter::new(&Tariff::default()),
            breaker: Mutex::new(Breaker::new(POLICY)),
            refuses: Mutex::default(),
            busy: AtomicUsize::new(0),
            probing: AtomicUsize::new(0),
        };
        (Arc::new(route), NonZeroU32::new(*weight).expect("a weight"))
    };
    let routes: Vec<_> = weights.iter().map(route).collect();
    let credit = Mutex::new(vec![0; routes.len()]);
    Routes { routes, credit, meter: Meter::new(&Tariff::default()) }
}

fn failure(class: FailureClass, status: Option<u16>) -> CallFailure {
    let reached = status.is_some();
    CallFailure { status, reached, ..CallFailure::unanswered(class, String::new()) }
}

/// Sends so many calls one way, all of which fail so.
fn fail(routes: &Routes, way: usize, times: usize, failure: &CallFailure) {
    for _ in 0..times {
        let mut others = Vec::new();
        let lane = loop {
            let lane = routes.choose(None).expect("some way is open");
            if lane.index == way {
                break lane;
            }
            others.push(lane);
        };
        let sent = lane.send().expect("the way is open");
        sent.end(&Err(failure.clone()), routes.len() == 1);
    }
}

fn chosen(routes: &Routes, calls: usize, avoided: Option<usize>) -> Vec<usize> {
    let mut counts = vec![0; routes.len()];
    for _ in 0..calls {
        counts[routes.choose(avoided).expect("some way is open").index] += 1;
    }
    counts
}

proptest! {
    #[test]
    fn calls_go_by_weight_one_at_a_time_and_many_at_once(
        weights in proptest::collection::vec(1u32..=20, 1..5),
    ) {
        let all: u32 = weights.iter().sum();
        let expected: Vec<usize> = weights.iter().map(|weight| *weight as usize * 10).collect();
        let one_by_one = chosen(&routes(&weights), all as usize * 10, None);
        prop_assert_eq!(&one_by_one, &expected);
        let routes = routes(&weights);
        let lanes: Vec<Lane> = (0..all * 10).filter_map(|_| routes.choose(None).ok()).collect();
        for (way, expected) in expected.iter().enumerate() {
            let on_it = lanes.iter().filter(|lane| lane.index == way).count();
            prop_assert!(on_it.abs_diff(*expected) <= 1, "{on_it} of {expected}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_way_that_fails_is_gone_round_until_a_probe_is_answered() {
    let routes = routes(&[3, 1]);
    let down = failure(FailureClass::Transient, None);
    fail(&routes, 0, 2, &down);
    assert_eq!(chosen(&routes, 10, None), [0, 10]);
    assert_eq!(chosen(&routes, 10, Some(1)), [0, 10], "avoided, and the last");
    assert_eq!((routes.held(), routes.failing_for()), (Duration::ZERO, None));
    fail(&routes, 1, 2, &failure(FailureClass::Transient, Some(502)));
    assert_eq!(routes.choose(None).err(), Some(Duration::from_secs(1)));
    assert_eq!(routes.held(), Duration::from_secs(1));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(routes.failing_for(), Some(Duration::from_secs(1)));
    // One probe for each way, and no more while they are on theirs.
    let probes = [0, 1].map(|_| routes.choose(None).expect("a probe"));
    assert!(routes.choose(None).is_err());
    for probe in probes {
        let sent = probe.send().expect("half-open");
        assert!(sent.is_probe());
        let alive = failure(FailureClass::Throttled, Some(429));
        assert_eq!(sent.end(&Err(alive), false), Some(Change::Closed));
    }
    assert_eq!(chosen(&routes, 8, None), [6, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_abandoned_leaves_its_place_to_another() {
    let routes = routes(&[1]);
    fail(&routes, 0, 2, &failure(FailureClass::Transient, None));
    tokio::time::advance(Duration::from_secs(1)).await;
    let lane = routes.choose(None).expect("a probe");
    drop(lane.send().expect("half-open"));
    drop(lane);
    let again = routes.choose(None).expect("a probe");
    assert!(again.send().expect("half-open").is_probe());
}

#[tokio::test(start_paused = true)]
async fn the_run_is_refused_only_where_every_key_is() {
    let routes = routes(&[1, 1]);
    let refused = failure(FailureClass::Account, Some(401));
    fail(&routes, 0, 1, &refused);
    assert!(!routes.refused(0));
    assert_eq!(chosen(&routes, 4, None), [0, 4]);
    fail(&routes, 1, 1, &refused);
    assert!(routes.refused(1));
    // Put right, the run goes on with a probe.
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!routes.refused(0), "every key was to be tried again");
}

#[test]
fn failures_of_a_leaf_are_none_of_the_endpoint() {
    let routes = routes(&[1]);
    for (class, status) in [
        (FailureClass::BadRequest, 400),
        (FailureClass::Throttled, 429),
        (FailureClass::Account, 401),
        (FailureClass::Refused, 200),
        (FailureClass::Transient, 409),
    ] {
        fail(&routes, 0, 5, &failure(class, Some(status)));
    }
    assert_eq!(routes.failing_for(), None);
}
