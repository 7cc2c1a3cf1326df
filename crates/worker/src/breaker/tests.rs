//! The breaker under random calls, by a clock that the test moves.

use proptest::prelude::*;

use super::*;

const POLICY: BreakerPolicy =
    BreakerPolicy { failures: 3, base: Duration::from_secs(1), max: Duration::from_secs(8) };

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Time passes, in milliseconds.
    Pass(u64),
    /// Somebody would call.
    Call,
    /// The n-th call that is out ends.
    End(usize, Sign),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sign = prop_oneof![
        2 => Just(Sign::Alive),
        5 => Just(Sign::Failed),
        1 => Just(Sign::Refused),
        1 => Just(Sign::None),
    ];
    let step = prop_oneof![
        2 => (0u64..5_000).prop_map(Step::Pass),
        4 => Just(Step::Call),
        4 => (0usize..8, sign).prop_map(|(n, sign)| Step::End(n, sign)),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn one_probe_at_a_time_and_none_before_the_rest_is_over(steps in steps()) {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(POLICY);
        let mut out: Vec<Pass> = Vec::new();
        let mut is_open = false;
        let mut failures = 0;
        let mut rested_until = now;
        for step in steps {
            match step {
                Step::Pass(ms) => now += Duration::from_millis(ms),
                Step::Call => match breaker.admit(now) {
                    Ok(pass) => {
                        prop_assert_eq!(pass.is_probe(), is_open);
                        if pass.is_probe() {
                            prop_assert!(now >= rested_until);
                        }
                        out.push(pass);
                        let probes = out.iter().filter(|pass| pass.probe == Some(breaker.probes));
                        prop_assert!(probes.count() <= 1);
                    }
                    Err(wait) => {
                        prop_assert!(is_open);
                        prop_assert!(!wait.is_zero() && wait <= POLICY.max);
                    }
                },
                Step::End(n, sign) => {
                    if out.is_empty() { continue }
                    let pass = out.swap_remove(n % out.len());
                    let was_open = is_open;
                    match breaker.ended(pass, sign, now) {
                        Some(Change::Opened(rest)) => {
                            prop_assert!((POLICY.base..=POLICY.max).contains(&rest));
                            prop_assert!(sign == Sign::Failed || sign == Sign::Refused);
                            is_open = true;
                            rested_until = now + rest;
                        }
                        Some(Change::Closed) => {
                            prop_assert!(was_open && sign == Sign::Alive);
                            is_open = false;
                        }
                        None => {}
                    }
                    if !was_open {
                        failures = if sign == Sign::Failed { failures + 1 } else { failures };
                        let opens = failures >= POLICY.failures || sign == Sign::Refused;
                        prop_assert_eq!(is_open, opens, "{:?}", breaker);
                    }
                    if sign == Sign::Alive {
                        prop_assert_eq!(breaker.circuit(now), Circuit::Closed);
                        prop_assert_eq!(breaker.failing_for(now), None);
                    }
                    if sign == Sign::Alive || is_open {
                        failures = 0;
                    }
                }
            }
        }
    }

    #[test]
    fn whatever_happened_before_a_probe_that_is_answered_closes_it(steps in steps()) {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(POLICY);
        let mut out = Vec::new();
        for step in steps {
            match step {
                Step::Pass(ms) => now += Duration::from_millis(ms),
                Step::Call => out.extend(breaker.admit(now)),
                Step::End(n, sign) if !out.is_empty() => {
                    let pass = out.swap_remove(n % out.len());
                    breaker.ended(pass, sign, now);
                }
                Step::End(..) => {}
            }
        }
        // Whoever was out comes back without a word.
        out.drain(..).for_each(|pass| _ = breaker.ended(pass, Sign::None, now));
        now += POLICY.max;
        let pass = breaker.admit(now).expect("nobody rests for longer than the longest rest");
        breaker.ended(pass, Sign::Alive, now);
        prop_assert_eq!(breaker.circuit(now), Circuit::Closed);
    }
}

#[test]
fn rests_double_up_to_the_longest() {
    let mut now = Instant::now();
    let mut breaker = Breaker::new(POLICY);
    let mut rests = Vec::new();
    while rests.len() < 6 {
        let pass = breaker.admit(now).expect("the rest is over");
        if let Some(Change::Opened(rest)) = breaker.ended(pass, Sign::Failed, now) {
            rests.push(rest.as_secs());
            assert_eq!(breaker.circuit(now), Circuit::Open(rest));
            now += rest;
        }
    }
    assert_eq!(rests, [1, 2, 4, 8, 8, 8]);
    assert_eq!(breaker.failing_for(now), Some(Duration::from_secs(31)));
}

#[test]
fn one_that_is_switched_off_never_opens() {
    let now = Instant::now();
    let mut breaker = Breaker::new(BreakerPolicy { failures: 0, ..POLICY });
    for _ in 0..1_000 {
        let pass = breaker.admit(now).expect("closed");
        assert_eq!(breaker.ended(pass, Sign::Failed, now), None);
    }
}
