//! Rules of what can be read: blobs, pages, counts, totals.

use tribunal_core::{
    Via,
    verdict::{PossibleSpend, Quote, Rationale},
};

use super::*;
use crate::{error::StoreError, totals::KindTotals};

/// Equal bytes are one blob; every blob comes back as it was.
pub async fn blobs_are_stored_once(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    let large: Vec<u8> = (0..5_000_000_u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
    let blobs = vec![b"paper".to_vec(), Vec::new(), large, b"paper".to_vec()];
    let hashes = bench.store.put_blobs(blobs.clone()).await.expect("put");
    assert_eq!(hashes, blobs.iter().map(|blob| BlobHash::of(blob)).collect::<Vec<_>>());
    assert_eq!(bench.store.put_blobs(blobs.clone()).await.expect("put"), hashes);
    for (hash, blob) in hashes.into_iter().zip(&blobs) {
        assert!(bench.store.blob(hash).await.expect("blob")[..] == blob[..], "{hash}");
    }
    let missing = bench.store.blob(BlobHash::of(b"absent")).await;
    assert!(matches!(missing, Err(StoreError::Blob { what: "missing", .. })));
}

/// Pages follow each other without gap or overlap, by (position, sample).
pub async fn verdicts_come_in_pages(engine: &dyn Engine) {
    let bench = Bench::new(engine).await;
    let samples = |position| (0..2).map(move |sample| LeafTask { sample, ..task(position) });
    bench.add_run(1, [7, 3, 300, 0].into_iter().flat_map(samples)).await;
    bench.add_run(2, [1].into_iter().flat_map(samples)).await;
    for claim in bench.claim(5).await.iter().filter(|claim| claim.run == run_id(1)) {
        bench.complete(claim, graded(0.25)).await;
    }
    let everything = bench.store.verdicts(&run_id(1), None, 100).await.expect("verdicts");
    let all: Vec<(u32, u32)> = everything.iter().map(|v| (v.position, v.sample)).collect();
    assert_eq!(all, [(0, 0), (0, 1), (3, 0), (3, 1), (7, 0), (7, 1), (300, 0), (300, 1)]);
    for size in 1..4 {
        let (mut verdicts, mut outcomes) = (Vec::new(), Vec::new());
        loop {
            let after = verdicts.last().copied();
            let page = bench.store.verdicts(&run_id(1), after, size).await.expect("verdicts");
            let same = bench.store.outcomes(&run_id(1), after, size).await.expect("outcomes");
            assert!(page.len() <= size);
            if page.is_empty() {
                break;
            }
            verdicts.extend(page.iter().map(|v| (v.position, v.sample)));
            outcomes.extend(same);
        }
        assert_eq!(verdicts, all);
        for (outcome, stored) in outcomes.iter().zip(&everything) {
            assert_eq!((outcome.position, outcome.sample), (stored.position, stored.sample));
            let reason = stored.missing.as_ref().map(|(reason, _)| *reason);
            let verdict = stored.verdict.as_ref().map(|verdict| verdict.outcome);
            let expected = verdict.or(reason.map(|reason| Outcome::Ungraded { reason }));
            assert_eq!(Some(outcome.outcome), expected);
        }
    }
    assert!(bench.store.verdicts(&run_id(1), None, 0).await.expect("verdicts").is_empty());
}

/// Every task is counted in exactly one state, and every missing score has a reason.
pub async fn progress_counts_every_task(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 10).await;
    let claims = bench.claim(6).await;
    bench.complete(&claims[0], graded(1.0)).await;
    let refused = Outcome::Ungraded { reason: UngradedReason::Refused };
    bench.complete(&claims[1], refused).await;
    bench.fail(&claims[2], FailureClass::Refused, None).await;
    bench.fail(&claims[3], FailureClass::Transient, Some(9_000)).await;
    assert_eq!(bench.counts().await, [5, 2, 2, 1, 0]);
    let progress = bench.progress().await;
    let ungraded: Vec<_> = progress.ungraded.into_iter().collect();
    assert_eq!(ungraded, [(UngradedReason::Refused, 2)]);
    assert_eq!(progress.next_in_ms, Some(0));
    bench.claim(4).await;
    assert_eq!(bench.progress().await.next_in_ms, Some(9_000));
}

/// Totals count every call that was made, whatever came of it, and every graded verdict.
pub async fn totals_count_every_attempt(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 4).await;
    let nothing = bench.store.totals(&run_id(1)).await.expect("totals");
    assert_eq!(nothing, Default::default());
    bench.clock.advance(500);
    let claims = bench.claim(4).await;
    let call = |kind, class| Attempt { kind, ..attempt(class) };
    let mut first = completion(&claims[0], graded(1.0));
    let mut attempts = vec![
        call(CallKind::Rank, None),
        call(CallKind::Judge, Some(FailureClass::Throttled)),
        call(CallKind::Judge, Some(FailureClass::BadReply)),
        call(CallKind::Repair, None),
        Attempt { via: Via::Batch, ..call(CallKind::Judge, None) },
    ];
    let most = Usage { input: 1_100, cached: 0, output: 2_048 };
    attempts[2].possible = Some(PossibleSpend { usage: most, cost_usd: Some(0.5) });
    attempts[2].cost_usd = None;
    first.attempts = attempts.clone().into();
    let mut ruled = completion(&claims[1], graded(0.0));
    ruled.attempts = [].into();
    Arc::make_mut(&mut ruled.verdict).source =
        VerdictSource::Rule { name: "no results".to_owned() };
    let mut refused = completion(&claims[2], Outcome::Ungraded { reason: UngradedReason::Refused });
    Arc::make_mut(&mut refused.verdict).simulated = true;
    bench.clock.advance(2_000);
    bench.store.complete(vec![first, ruled]).await.expect("complete");
    let before = bench.store.totals(&run_id(1)).await.expect("totals");
    assert!(!before.any_simulated);
    bench.clock.advance(1_000);
    bench.store.complete(vec![refused]).await.expect("complete");
    bench.fail(&claims[3], FailureClass::Transient, None).await;

    let totals = bench.store.totals(&run_id(1)).await.expect("totals");
    assert_eq!((totals.judge_calls, totals.rank_calls, totals.repair_calls), (2, 1, 1));
    assert_eq!((totals.rejected, totals.failed), (1, 2));
    let usage = Usage { input: 7_000, cached: 5_600, output: 350 };
    assert_eq!(totals.usage, usage);
    let batched = Usage { input: 1_000, cached: 800, output: 50 };
    assert_eq!((totals.by_kind[&CallKind::Judge].batched, totals.batched()), (batched, batched));
    let most = KindTotals { calls: 1, usage: most, cost_usd: Some(0.5), ..KindTotals::default() };
    assert_eq!(totals.possible, most);
    let costs: Vec<Option<f64>> = totals.by_kind.values().map(|of| of.cost_usd).collect();
    // Of one call for a verdict nobody knows the price.
    assert_eq!(costs, [None, Some(0.001_953_125), Some(0.001_953_125)]);
    assert_eq!(bench.store.attempts(&run_id(1), 0, 0).await.expect("attempts"), attempts);
    assert_eq!(totals.graded, 2);
    let by_source: Vec<(&str, u64)> =
        totals.by_source.iter().map(|(source, count)| (source.as_str(), *count)).collect();
    assert_eq!(by_source, [("judge", 1), ("rule", 1)]);
    assert!(totals.any_simulated);
    assert_eq!(totals.wall_ms, 3_000);
    assert_eq!(before.wall_ms, 2_000);
}

/// Whatever text a provider or a rubric holds comes back unchanged.
pub async fn text_survives(engine: &dyn Engine) {
    const TEXT: &str = "a\0b 'quoted' \"twice\" \u{1F600} \u{202E}\r\n? ?1 :x {\"j\": 1}";
    let bench = Bench::new(engine).await;
    let odd = LeafTask {
        id: TEXT.to_owned(),
        rule: Some(TEXT.to_owned()),
        position: u32::MAX,
        sample: u32::MAX,
        order: u32::MAX,
        estimated_tokens: u32::MAX,
        ..task(0)
    };
    bench.add_run(1, [odd.clone(), LeafTask { sample: 0, ..odd.clone() }]).await;
    let claims = bench.claim(2).await;
    assert_eq!(claims[1].task, odd);
    let mut completion = completion(&claims[1], graded(1.0 / 3.0));
    let verdict = Arc::make_mut(&mut completion.verdict);
    verdict.reply = Some(TEXT.to_owned());
    verdict.rationale = Rationale {
        explanation: TEXT.to_owned(),
        evidence: vec![Quote::default(); 3],
        confidence: Some(0.1 + 0.2),
        ..Default::default()
    };
    let attempt = &mut Arc::make_mut(&mut completion.attempts)[0];
    attempt.error = TEXT.to_owned();
    attempt.request_id = Some(TEXT.to_owned());
    let Completion { verdict, attempts, .. } = completion.clone();
    bench.store.complete(vec![completion]).await.expect("complete");
    let failure =
        Failure { error: TEXT.to_owned(), ..failure(&claims[0], FailureClass::BadRequest, None) };
    bench.store.fail(vec![failure]).await.expect("fail");
    let stored = bench.store.verdicts(&run_id(1), None, 2).await.expect("verdicts");
    assert_eq!(stored[0].missing, Some((UngradedReason::BadRequest, TEXT.to_owned())));
    assert_eq!(stored[1].verdict.as_ref(), Some(&*verdict));
    let outcomes = bench.store.outcomes(&run_id(1), None, 2).await.expect("outcomes");
    assert_eq!(outcomes[1].outcome, graded(1.0 / 3.0));
    let read = bench.store.attempts(&run_id(1), u32::MAX, u32::MAX).await;
    assert_eq!(read.expect("attempts")[..], attempts[..]);
    bench.control(RunState::Paused, TEXT).await;
    assert_eq!(bench.store.run(&run_id(1)).await.expect("run").reason, TEXT);
}
