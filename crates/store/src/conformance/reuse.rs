//! Rules of verdicts that runs take over from each other.

use super::*;
use crate::store::Reusable;

/// A run of these positions that takes verdicts over.
async fn add_reusing(bench: &Bench, number: u8, positions: std::ops::Range<u32>) {
    let run = NewRun { reuse: true, ..new_run(number) };
    bench.store.create_run(run).await.expect("create");
    let tasks = positions.map(task).collect();
    bench.store.enqueue(&run_id(number), tasks).await.expect("enqueue");
}

async fn claim_of(bench: &Bench, number: u8, slots: usize) -> Vec<Claim> {
    let run = run_id(number);
    let claimed = bench.store.claim(worker(1), slots, TTL, Some(&run)).await;
    claimed.expect("claim")
}

/// Where each claim's verdict can be taken over from.
fn sources(claims: &[Claim]) -> Vec<(u32, Option<&RunId>)> {
    let source = |claim: &Claim| claim.reusable.as_ref().map(|_| claim.task.position);
    claims
        .iter()
        .map(|claim| {
            assert!(source(claim).is_none_or(|position| position == claim.task.position));
            (claim.task.position, claim.reusable.as_ref().map(|reusable| &reusable.run))
        })
        .collect()
}

/// A task is claimed with the verdict that another run has for its question: of a judge, or taken
/// over itself; never a failure's, a rule's or an ungraded one.
pub async fn graded_verdicts_are_handed_on(engine: &dyn Engine) {
    // Position 6 is decided by a rule.
    let bench = Bench::with_tasks(engine, 7).await;
    for claim in bench.claim(7).await {
        bench.clock.advance(1);
        let outcome = match claim.task.position {
            0 | 6 => graded(0.0),
            1 => Outcome::Ungraded { reason: UngradedReason::Refused },
            2 => {
                bench.fail(&claim, FailureClass::BadRequest, None).await;
                continue;
            }
            3 => continue,
            _ => graded(1.0),
        };
        let mut completion = completion(&claim, outcome);
        if claim.task.position == 5 {
            Arc::make_mut(&mut completion.verdict).source =
                VerdictSource::Rule { name: "no results".to_owned() };
        }
        bench.store.complete(vec![completion]).await.expect("complete");
    }
    add_reusing(&bench, 2, 0..8).await;
    let claims = claim_of(&bench, 2, 9).await;
    let first = Some(run_id(1));
    let first = first.as_ref();
    let expected = [(0, first), (1, None), (2, None), (4, first), (5, None), (6, None), (7, None)];
    assert_eq!(sources(&claims), expected, "position 3 is being asked");
    let keys = (0..9).map(|position| task(position).content_key).collect();
    let reusable = bench.store.reusable(keys).await.expect("look up");
    // A judge's verdict at position 6 too, though no task that a rule decides takes it over.
    let judged = [0, 4, 6];
    assert_eq!(reusable, (0..9).map(|at| judged.contains(&at)).collect::<Vec<_>>());
    let verdict = verdict(0, 0, graded(0.0));
    let reusable = claims[0].reusable.as_deref().cloned();
    assert_eq!(reusable, Some(Reusable { run: run_id(1), verdict: verdict.clone() }));

    // Taken over, it can be taken over again, also when the first run is gone.
    let source = VerdictSource::Reused { run: run_id(1).to_string() };
    let taken = Verdict { source, ..verdict };
    let (run, lease) = (claims[0].run.clone(), claims[0].lease);
    let completion = Completion { run, lease, verdict: taken.clone().into(), attempts: [].into() };
    bench.store.complete(vec![completion]).await.expect("complete");
    bench.clock.advance(TTL_MS);
    bench.store.prune(&run_id(1)).await.expect("prune");
    add_reusing(&bench, 3, 0..1).await;
    let claims = claim_of(&bench, 3, 1).await;
    let reusable = claims[0].reusable.as_deref().cloned();
    assert_eq!(reusable, Some(Reusable { run: run_id(2), verdict: taken }));
}

/// A run that does not reuse claims everything by itself, and waits for nobody.
pub async fn a_fresh_run_takes_nothing_over(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 3).await;
    let claims = bench.claim(2).await;
    bench.complete(&claims[0], graded(1.0)).await;
    bench.add_run(2, (0..3).map(task)).await;
    let fresh = claim_of(&bench, 2, 9).await;
    assert_eq!(sources(&fresh), [(0, None), (1, None), (2, None)]);
    // Its verdicts are as good as any for others.
    bench.complete(&fresh[1], graded(0.0)).await;
    add_reusing(&bench, 3, 1..3).await;
    assert_eq!(sources(&claim_of(&bench, 3, 9).await), [(1, Some(&run_id(2)))]);
}

/// Of two runs in flight with the same questions each is asked once: the other waits until the
/// lease has come to an end, whichever way.
pub async fn two_runs_in_flight_ask_once(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    add_reusing(&bench, 1, 0..6).await;
    add_reusing(&bench, 2, 0..6).await;
    // Even within one claim.
    let both = bench.claim(4).await;
    let mut asked = positions(&both);
    asked.sort_unstable();
    assert_eq!(asked, [0, 1, 2, 3]);
    let rest = bench.claim(9).await;
    assert_eq!(rest.len(), 2);
    assert!(bench.claim(9).await.is_empty(), "all others are being asked");
    let at = |position| {
        let mut claims = both.iter().chain(&rest);
        claims.find(|claim| claim.task.position == position).expect("claimed")
    };
    bench.complete(at(0), graded(1.0)).await;
    bench.fail(at(1), FailureClass::BadReply, None).await;
    bench.fail(at(2), FailureClass::Transient, Some(1_000)).await;
    bench.complete(at(3), Outcome::Ungraded { reason: UngradedReason::Refused }).await;
    bench.release(at(4)).await;
    let mut claims = bench.claim(9).await;
    claims.sort_by_key(|claim| claim.task.position);
    let from = at(0).run.clone();
    let expected = [(0, Some(&from)), (1, None), (2, None), (3, None), (4, None)];
    assert_eq!(sources(&claims), expected);
    bench.clock.advance(TTL_MS / 2);
    let (run, position, sample, lease) = key(at(5));
    bench.store.heartbeat(vec![(run, position, sample, lease)], TTL).await.expect("heartbeat");
    bench.clock.advance(TTL_MS / 2);
    assert!(bench.claim(20).await.iter().all(|claim| claim.task.position != 5));
    bench.clock.advance(TTL_MS);
    assert!(bench.claim(20).await.iter().any(|claim| claim.task.position == 5));
}
