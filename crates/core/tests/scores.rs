//! Scores of trees with missing leaves: bounds that hold for every way to fill them.

use proptest::prelude::*;
use serde_json::{Value, json};
use tribunal_core::{
    Category, Rubric,
    score::{Score, TreeScores, by_category},
};

fn parse(document: &Value) -> Rubric {
    Rubric::parse("r.json", document.to_string().as_bytes()).expect("valid")
}

fn leaf(weight: f64, category: Category) -> Value {
    json!({"id": "l", "requirements": "x", "weight": weight, "sub_tasks": [],
           "task_category": category.name()})
}

fn group(weight: f64, children: Vec<Value>) -> Value {
    json!({"id": "g", "requirements": "x", "weight": weight, "sub_tasks": children})
}

/// Scores with leaf `i` of the tree given by `leaves[i]`.
fn scores(rubric: &Rubric, leaves: &[Option<f64>]) -> TreeScores {
    TreeScores::compute(rubric, |node| leaves[node.leaf_index().expect("a leaf") as usize])
}

fn dev(weight: f64) -> Value {
    leaf(weight, Category::CodeDevelopment)
}

#[test]
fn the_weighted_mean_with_bounds() {
    // 1*(3*1 + 1*missing)/4 and 3*0.5: lower (0.75 + 1.5)/4, upper (1 + 1.5)/4.
    let rubric = parse(&group(1.0, vec![group(1.0, vec![dev(3.0), dev(1.0)]), dev(3.0)]));
    let partly = scores(&rubric, &[Some(1.0), None, Some(0.5)]);
    let expected = Score {
        score: None,
        lower: 0.5625,
        upper: 0.625,
        coverage: 0.9375,
        leaves: 3,
        ungraded: 1,
    };
    assert_eq!(*partly.root(), expected);
    assert_eq!(partly.node(1).coverage, 0.75);
    assert_eq!(*partly.node(3), Score::leaf(None));
    assert_eq!(*partly.node(4), Score::leaf(Some(0.5)));
    let whole = scores(&rubric, &[Some(1.0), Some(0.0), Some(0.5)]);
    assert_eq!(whole.root().score, Some(0.5625));
    assert_eq!(whole.root().coverage, 1.0);
}

#[test]
fn a_group_without_weight_scores_zero_and_misses_nothing() {
    let rubric = parse(&group(1.0, vec![group(1.0, vec![dev(0.0), dev(0.0)]), dev(1.0)]));
    let found = scores(&rubric, &[None, Some(1.0), Some(1.0)]);
    let zero =
        Score { score: Some(0.0), lower: 0.0, upper: 0.0, coverage: 1.0, leaves: 2, ungraded: 1 };
    assert_eq!(*found.node(1), zero);
    assert_eq!(found.root().score, Some(0.5));
    assert_eq!((found.root().leaves, found.root().ungraded), (3, 1));
}

#[test]
fn a_missing_leaf_without_weight_leaves_the_score_known() {
    let rubric = parse(&group(1.0, vec![dev(0.0), dev(2.0)]));
    let found = scores(&rubric, &[None, Some(1.0)]);
    assert_eq!(found.root().score, Some(1.0));
    assert_eq!(found.root().coverage, 1.0);
    assert_eq!(found.root().ungraded, 1);
}

#[test]
fn a_missing_leaf_of_hardly_any_weight_still_is_missing() {
    let rubric = parse(&group(1.0, vec![dev(1e-300), dev(1.0)]));
    let found = scores(&rubric, &[None, Some(1.0)]);
    assert_eq!(found.root().score, None);
    assert!(found.root().coverage < 1.0);
}

#[test]
fn each_category_alone() {
    let run = |weight| leaf(weight, Category::CodeExecution);
    let rubric = parse(&group(1.0, vec![group(1.0, vec![dev(1.0), run(9.0)]), dev(3.0), run(1.0)]));
    let found = by_category(&rubric, |n| {
        [Some(1.0), None, Some(0.0), Some(1.0)][n.leaf_index().expect("a leaf") as usize]
    });
    assert_eq!(found.len(), 3);
    assert_eq!(found[&Category::CodeDevelopment].expect("some").score, Some(0.25));
    let execution = found[&Category::CodeExecution].expect("some");
    assert_eq!((execution.score, execution.lower, execution.upper), (None, 0.5, 1.0));
    assert_eq!((execution.leaves, execution.ungraded), (2, 1));
    assert_eq!(found[&Category::ResultAnalysis], None);

    let cut = by_category(&rubric.cut(2), |_| Some(0.5));
    assert_eq!(cut[&Category::Subtree].expect("some").score, Some(0.5));
    assert_eq!(cut.len(), 4);
}

// Any tree, any grades.

fn any_weight() -> impl Strategy<Value = f64> {
    prop_oneof![
        2 => Just(0.0),
        6 => (1u32..20).prop_map(f64::from),
        3 => 1e-6..1e6f64,
        1 => prop_oneof![Just(1e-300), Just(1e300), Just(f64::MIN_POSITIVE)],
    ]
}

fn any_tree() -> impl Strategy<Value = Value> {
    let category = prop_oneof![
        Just(Category::CodeDevelopment),
        Just(Category::CodeExecution),
        Just(Category::ResultAnalysis),
    ];
    let leaf = (any_weight(), category).prop_map(|(weight, category)| leaf(weight, category));
    leaf.prop_recursive(5, 40, 6, |child| {
        (any_weight(), proptest::collection::vec(child, 1..6))
            .prop_map(|(weight, children)| group(weight, children))
    })
}

fn any_score() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0f64]
}

/// A tree with, for each leaf, a score or none, and a score to fill it with.
fn any_graded() -> impl Strategy<Value = (Rubric, Vec<Option<f64>>, Vec<f64>)> {
    any_tree().prop_flat_map(|document| {
        let rubric = parse(&document);
        let leaves = rubric.leaf_count();
        let known = proptest::collection::vec(proptest::option::of(any_score()), leaves);
        let filling = proptest::collection::vec(any_score(), leaves);
        (Just(rubric), known, filling)
    })
}

proptest! {
    #[test]
    fn bounds_hold_however_missing_leaves_turn_out((rubric, known, filling) in any_graded()) {
        let partly = scores(&rubric, &known);
        let filled: Vec<_> = known.iter().zip(&filling).map(|(k, f)| k.or(Some(*f))).collect();
        let whole = scores(&rubric, &filled);
        for index in 0..rubric.nodes().len() {
            let (bound, found) = (partly.node(index), whole.node(index));
            let score = found.score.expect("nothing is missing");
            prop_assert!(bound.lower <= score && score <= bound.upper, "{bound:?} {found:?}");
            prop_assert!(0.0 <= bound.lower && bound.upper <= 1.0);
        }
    }

    #[test]
    fn the_bounds_are_reached((rubric, known, _) in any_graded()) {
        let partly = scores(&rubric, &known);
        for (fill, bound) in [(0.0, partly.root().lower), (1.0, partly.root().upper)] {
            let filled: Vec<_> = known.iter().map(|k| k.or(Some(fill))).collect();
            let score = scores(&rubric, &filled).root().score.expect("nothing is missing");
            prop_assert!((score - bound).abs() <= 1e-12, "{score} against {bound}");
        }
    }

    #[test]
    fn a_score_stands_exactly_where_nothing_is_missing((rubric, known, _) in any_graded()) {
        let found = scores(&rubric, &known);
        for index in 0..rubric.nodes().len() {
            let node = found.node(index);
            prop_assert!((0.0..=1.0).contains(&node.coverage));
            prop_assert_eq!(node.score.is_some(), node.coverage == 1.0);
            prop_assert!(node.ungraded <= node.leaves);
            if let Some(score) = node.score {
                prop_assert!(node.lower == score && node.upper == score, "{node:?}");
            }
            if node.ungraded == 0 {
                prop_assert!(node.score.is_some());
            }
            let weight: f64 = rubric.children(index).map(|c| rubric.nodes()[c].weight).sum();
            if !rubric.nodes()[index].is_leaf() && weight == 0.0 {
                let all = (node.score, node.lower, node.upper, node.coverage);
                prop_assert_eq!(all, (Some(0.0), 0.0, 0.0, 1.0));
            }
        }
        let missing = known.iter().filter(|k| k.is_none()).count();
        prop_assert_eq!(found.root().ungraded as usize, missing);
        prop_assert_eq!(found.root().leaves as usize, known.len());
    }

    #[test]
    fn a_better_leaf_never_makes_a_worse_root((rubric, known, better) in any_graded()) {
        let raised: Vec<_> = known
            .iter()
            .zip(&better)
            .map(|(k, b)| k.map(|k| k.max(*b)))
            .collect();
        let (before, after) = (scores(&rubric, &known), scores(&rubric, &raised));
        for index in 0..rubric.nodes().len() {
            let (before, after) = (before.node(index), after.node(index));
            prop_assert!(before.lower <= after.lower && before.upper <= after.upper);
            prop_assert_eq!(before.coverage, after.coverage);
        }
    }

    #[test]
    fn shares_of_leaves_sum_to_one((rubric, _, _) in any_graded()) {
        let shares = rubric.weight_shares();
        prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
        let sum: f64 = rubric.leaves().map(|(index, _)| shares[index]).sum();
        let has_zero_group = (0..rubric.nodes().len()).any(|index| {
            let weight: f64 = rubric.children(index).map(|c| rubric.nodes()[c].weight).sum();
            !rubric.nodes()[index].is_leaf() && weight == 0.0
        });
        if has_zero_group {
            prop_assert!(sum <= 1.0 + 1e-9);
        } else {
            prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        }
    }

    /// The root is what its leaves weigh: shares times scores, summed.
    #[test]
    fn the_root_is_the_sum_of_shares((rubric, _, all) in any_graded()) {
        let graded: Vec<_> = all.iter().map(|score| Some(*score)).collect();
        let root = scores(&rubric, &graded).root().score.expect("nothing is missing");
        let shares = rubric.weight_shares();
        let sum: f64 = rubric
            .leaves()
            .map(|(index, node)| shares[index] * all[node.leaf_index().expect("leaf") as usize])
            .sum();
        prop_assert!((root - sum).abs() < 1e-9, "{root} against {sum}");
    }

    /// A category's score is the root of the tree pruned to it.
    #[test]
    fn categories_are_scored_as_pruned((rubric, known, _) in any_graded()) {
        let leaf = |node: &tribunal_core::Node| known[node.leaf_index().expect("leaf") as usize];
        for (category, found) in by_category(&rubric, leaf) {
            let pruned = rubric.only(category);
            let expected = pruned.map(|pruned| *TreeScores::compute(&pruned, leaf).root());
            prop_assert_eq!(found, expected);
        }
    }
}
