//! Comparisons, against flips and intervals computed by hand.

use serde_json::Value;
use tribunal_collector::{TextStyle, compare};
use tribunal_core::Category;

use crate::support::{close, leaf, tree};

const CODE: &str = "Code Development";
const RUN: &str = "Code Execution";

#[test]
fn flips_differences_and_intervals() {
    // Shares 0.5, 0.25, 0.25; B - A is 0, 1, -1 on them.
    let a = tree(
        "a",
        vec![
            leaf("1", 2.0, CODE, Some(1.0)),
            leaf("2", 1.0, CODE, Some(0.0)),
            leaf("3", 1.0, RUN, Some(1.0)),
        ],
    );
    let b = tree(
        "b",
        vec![
            leaf("1", 2.0, CODE, Some(1.0)),
            leaf("2", 1.0, CODE, Some(1.0)),
            leaf("3", 1.0, RUN, Some(0.0)),
        ],
    );
    let found = compare::compare(&a, &b).expect("one rubric");
    assert_eq!((found.leaves, found.flips.up, found.flips.down), (3, 1, 1));
    assert_eq!(found.flips.mcnemar_p, Some(1.0));
    close(found.root.difference, 0.0);
    // n/(n-1) sum (w d)^2 = 1.5 * (0.0625 + 0.0625); t(0.975; 2) = 4.302652729911275.
    let se = (1.5 * 0.125_f64).sqrt();
    close(found.root.se, se);
    close(found.root.high, (4.302_652_729_911_275 * se).min(1.0));
    // Code alone: shares 2/3 and 1/3, difference 1/3; 2 * ((2/3 * 1/3)^2 + (1/3 * 2/3)^2).
    let code = found.by_category[&Category::CodeDevelopment].expect("two leaves");
    close(code.difference.difference, 1.0 / 3.0);
    close(code.difference.se, (2.0 * 2.0 * (2.0_f64 / 9.0).powi(2)).sqrt());
    assert_eq!((code.flips.up, code.flips.down), (1, 0));
    let run = found.by_category[&Category::CodeExecution].expect("one leaf");
    assert_eq!((run.difference.difference, run.difference.se), (Some(-1.0), None));
    assert_eq!(found.by_category[&Category::ResultAnalysis], None);
    let changed: Vec<u32> = found.changed.iter().map(|leaf| leaf.index).collect();
    assert_eq!(changed, [1, 2]);
    let text = compare::render::text(&found, TextStyle::PLAIN, 1);
    assert!(text.contains("1 alike, 1 up, 1 down") && text.contains("and 1 more"), "{text}");
}

#[test]
fn missing_leaves_give_bounds_and_a_paired_difference() {
    let a = tree("a", vec![leaf("1", 1.0, CODE, Some(0.0)), leaf("2", 1.0, CODE, Some(1.0))]);
    let b = tree("b", vec![leaf("1", 1.0, CODE, Some(1.0)), leaf("2", 1.0, CODE, None)]);
    let found = compare::compare(&a, &b).expect("one rubric");
    assert_eq!(found.root.difference, None);
    assert_eq!((found.root.lower, found.root.upper), (0.0, 0.5));
    assert_eq!(found.root.paired, Some(1.0));
    assert_eq!((found.flips.both_graded, found.flips.only_a_graded), (1, 1));
    assert!(compare::render::text(&found, TextStyle::PLAIN, 5).contains("not graded"));
}

#[test]
fn repeated_ids_are_matched_in_order_and_other_rubrics_refused() {
    let same = |score: [Option<f64>; 2]| {
        vec![leaf("x", 1.0, CODE, score[0]), leaf("x", 1.0, CODE, score[1])]
    };
    let a = tree("a", same([Some(1.0), Some(0.0)]));
    let b = tree("b", same([Some(1.0), Some(1.0)]));
    let found = compare::compare(&a, &b).expect("one rubric");
    assert_eq!(found.changed.len(), 1);
    assert_eq!(found.changed[0].index, 1);
    let other = tree("c", vec![leaf("y", 1.0, CODE, Some(1.0))]);
    let refused = compare::compare(&a, &other).expect_err("another rubric");
    assert!(refused.to_string().contains("no leaf in common"));
    // A part of the rubric is compared as far as it goes.
    let part = tree("d", vec![leaf("x", 1.0, CODE, Some(0.0))]);
    let found = compare::compare(&a, &part).expect("one leaf");
    assert_eq!((found.leaves, found.only_a, found.only_b), (1, 1, 0));
}

#[test]
fn mcnemar_is_exact() {
    // 25 up and 10 down: scipy.stats.binomtest(10, 35).pvalue.
    let leaves = |flip: bool| -> Vec<Value> {
        let score = |i: usize| match i {
            0..25 => Some(f64::from(u8::from(flip))),
            25..35 => Some(f64::from(u8::from(!flip))),
            _ => Some(1.0),
        };
        (0..50).map(|i| leaf(&format!("l{i}"), 1.0, CODE, score(i))).collect()
    };
    let found = compare::compare(&tree("a", leaves(false)), &tree("b", leaves(true)));
    let found = found.expect("one rubric");
    assert_eq!((found.flips.up, found.flips.down), (25, 10));
    close(found.flips.mcnemar_p, 0.016_673_847_800_120_715);
    close(found.root.difference, 0.3);
}
