//! Rules of labels.

use super::*;
use crate::{
    error::StoreError,
    label::{Label, LabelKind, NewLabel},
};

fn label(position: u32, author: &str, score: Option<f64>) -> NewLabel {
    let (author, note) = (author.to_owned(), format!("'{position}' — \u{1b}"));
    NewLabel {
        position,
        author,
        kind: LabelKind::Label,
        score,
        note,
        blind: position.is_multiple_of(2),
    }
}

/// Labels come back as they were appended, in order, each run's apart, and a verdict stays as it is.
pub async fn labels_are_appended(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 2).await;
    bench.add_run(2, (0..1).map(task)).await;
    let claim = bench.claim_one().await;
    assert_eq!(bench.complete(&claim, graded(1.0)).await, CompleteOutcome::Stored);
    let (run, other) = (&run_id(1), &run_id(2));
    let given = [
        label(0, "ann", Some(0.0)),
        label(0, "bob", None),
        label(1, "ann", Some(0.5)),
        NewLabel { kind: LabelKind::Withdrawal, score: None, ..label(1, "ann", None) },
        NewLabel { kind: LabelKind::Adjudication, ..label(0, "cyd", Some(1.0)) },
    ];
    let mut appended = Vec::new();
    for new in &given {
        bench.clock.advance(1000);
        appended.push(bench.store.append_label(run, new.clone()).await.expect("append"));
    }
    bench.store.append_label(other, label(0, "ann", Some(1.0))).await.expect("append");
    for (number, (label, new)) in appended.iter().zip(&given).enumerate() {
        assert_eq!(label.label, *new);
        assert_eq!(label.at_ms, START_MS + 1000 * (number as i64 + 1));
    }
    assert!(appended.windows(2).all(|pair| pair[0].seq < pair[1].seq));

    let list = async |after, limit| -> Vec<Label> {
        bench.store.labels(run, after, limit).await.expect("labels")
    };
    assert_eq!(list(0, usize::MAX).await, appended);
    assert_eq!(list(0, 2).await, appended[..2]);
    assert_eq!(list(appended[1].seq, 2).await, appended[2..4]);
    assert_eq!(list(appended[4].seq, 2).await, []);
    assert_eq!(bench.store.labels(other, 0, 10).await.expect("labels").len(), 1);
    let outcomes = bench.store.outcomes(run, None, 1).await.expect("outcomes");
    assert_eq!(outcomes[0].outcome, graded(1.0));

    bench.store.prune(other).await.expect("prune");
    assert_eq!(list(0, usize::MAX).await, appended);
}

/// What is no label, and a label of no run, is refused, and nothing is written.
pub async fn what_is_no_label_is_refused(engine: &dyn Engine) {
    let bench = Bench::with_tasks(engine, 1).await;
    let refused = bench.store.append_label(&run_id(1), label(0, "", Some(1.0))).await;
    assert!(matches!(refused, Err(StoreError::Label { position: 0, .. })), "{refused:?}");
    let refused = bench.store.append_label(&run_id(1), label(0, "ann", Some(-0.1))).await;
    assert!(matches!(refused, Err(StoreError::Label { .. })), "{refused:?}");
    assert_eq!(bench.store.labels(&run_id(1), 0, 10).await.expect("labels"), []);
    let refused = bench.store.append_label(&run_id(9), label(0, "ann", None)).await;
    assert!(matches!(refused, Err(StoreError::NoSuchRun { .. })), "{refused:?}");
    let refused = bench.store.labels(&run_id(9), 0, 10).await;
    assert!(matches!(refused, Err(StoreError::NoSuchRun { .. })), "{refused:?}");
}
