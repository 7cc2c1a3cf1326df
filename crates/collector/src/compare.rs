//! Two graded trees of one rubric, leaf by leaf.
//!
//! Owns matching the leaves, the flips both ways, and the differences with their intervals. A
//! difference is B's score less A's. Intervals are paired: the leaves are the sample, each with its
//! share of the score, and what both trees agree on adds no noise. Text is [`render`]'s.

pub mod render;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};
use tribunal_core::{Category, Node, Rubric, RunId, Score};

use crate::{graded::GradedTree, summary::NodeScore};

/// The confidence of the intervals.
const CONFIDENCE: f64 = 0.95;

/// The document of `compare`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Comparison {
    /// The first tree.
    pub a: Side,
    /// The second tree.
    pub b: Side,
    /// Leaves that both trees have.
    pub leaves: usize,
    /// Leaves that only the first has.
    pub only_a: usize,
    /// Leaves that only the second has.
    pub only_b: usize,
    /// How the leaves moved.
    pub flips: Flips,
    /// The root.
    pub root: Difference,
    /// Each requirement type; null where the trees have no leaf of it in common.
    pub by_category: BTreeMap<Category, Option<CategoryDifference>>,
    /// The nodes of the first level that both trees have, by their scores.
    pub first_level: Vec<NodeDifference>,
    /// B's cost less A's, in US dollars; null where one is not known.
    pub cost_difference_usd: Option<f64>,
    /// The leaves whose score or standing differs, the heaviest first.
    pub changed: Vec<ChangedLeaf>,
}

/// One of the two trees.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Side {
    /// The file or run.
    pub name: String,
    /// The run, where that is known.
    pub run: Option<RunId>,
    /// The model that judged; empty where that is not known.
    pub model: String,
    /// Whether a simulated judge answered.
    pub simulated: bool,
    /// The root's score.
    pub root: Score,
    /// What it cost, in US dollars; null where that is not known.
    pub cost_usd: Option<f64>,
}

/// How leaves moved from A to B.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Flips {
    /// Leaves graded in both.
    pub both_graded: usize,
    /// Those of them with a higher score in B.
    pub up: usize,
    /// Those of them with a lower score in B.
    pub down: usize,
    /// Leaves graded in A alone.
    pub only_a_graded: usize,
    /// Leaves graded in B alone.
    pub only_b_graded: usize,
    /// Leaves graded in neither.
    pub neither_graded: usize,
    /// Two-sided p of as uneven a split of up and down by chance (McNemar's exact test); null
    /// where nothing flipped.
    pub mcnemar_p: Option<f64>,
}

/// A difference of two scores, B's less A's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Difference {
    /// Over all leaves; null where one is missing.
    pub difference: Option<f64>,
    /// The least that it can be, whatever the missing leaves are.
    pub lower: f64,
    /// The most that it can be.
    pub upper: f64,
    /// Over the leaves graded in both, with their shares of the score; null without one.
    pub paired: Option<f64>,
    /// Standard error of `paired`; null below two leaves, or where no leaf differs.
    pub se: Option<f64>,
    /// Lower end of its 95% interval (Student's t).
    pub low: Option<f64>,
    /// Upper end of its 95% interval.
    pub high: Option<f64>,
}

/// A requirement type's difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CategoryDifference {
    /// How its leaves moved.
    pub flips: Flips,
    /// The difference of the trees pruned to it.
    #[serde(flatten)]
    pub difference: Difference,
}

/// A node of the first level in both trees.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct NodeDifference {
    /// Its id.
    pub id: String,
    /// What it asks for.
    pub requirements: String,
    /// Its score in A.
    pub a: Score,
    /// Its score in B.
    pub b: Score,
}

/// A leaf that differs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ChangedLeaf {
    /// Its 0-based index in A's tree.
    pub index: u32,
    /// Its id.
    pub id: String,
    /// Its requirement type.
    pub category: Option<Category>,
    /// Its share of the root's score in A.
    pub share: f64,
    /// Its score in A; null where it is not graded.
    pub a: Option<f64>,
    /// Its score in B; null where it is not graded.
    pub b: Option<f64>,
    /// The criterion.
    pub requirements: String,
}

/// Trees that cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{a} and {b} have no leaf in common: leaves are the same where id and criterion are. Compare \
     trees of one rubric"
)]
pub struct NothingInCommon {
    a: String,
    b: String,
}

/// A leaf of both trees: its node in A, and the scores.
#[derive(Clone, Copy)]
struct Pair<'t> {
    node: &'t Node,
    a: Option<f64>,
    b: Option<f64>,
}

/// Compares two trees.
///
/// # Errors
///
/// [`NothingInCommon`].
pub fn compare(a: &GradedTree, b: &GradedTree) -> Result<Comparison, NothingInCommon> {
    let pairs = pairs(a, b);
    if pairs.is_empty() {
        return Err(NothingInCommon { a: a.name.clone(), b: b.name.clone() });
    }
    let (scores_a, scores_b) = (a.tree_scores(), b.tree_scores());
    let (of_a, of_b) = (a.by_category(), b.by_category());
    let mut by_category = BTreeMap::new();
    for (category, score_a) in of_a {
        let of_category: Vec<Pair<'_>> =
            pairs.iter().copied().filter(|pair| pair.node.category == Some(category)).collect();
        let score_b = of_b.get(&category).copied().flatten();
        let pruned = a.rubric.clone().only(category).filter(|_| !of_category.is_empty());
        let difference = match (score_a, score_b, pruned) {
            (Some(score_a), Some(score_b), Some(pruned)) => Some(CategoryDifference {
                flips: flips(&of_category),
                difference: difference(&pruned, &of_category, &score_a, &score_b),
            }),
            _ => None,
        };
        by_category.insert(category, difference);
    }
    let shares = a.rubric.weight_shares();
    let share = |pair: &Pair<'_>| share_of(&a.rubric, &shares, pair.node);
    let mut changed: Vec<ChangedLeaf> = pairs
        .iter()
        .filter(|pair| pair.a != pair.b)
        .map(|pair| ChangedLeaf {
            index: pair.node.leaf_index().unwrap_or_default(),
            id: pair.node.id.clone(),
            category: pair.node.category,
            share: share(pair),
            a: pair.a,
            b: pair.b,
            requirements: pair.node.requirements.clone(),
        })
        .collect();
    changed.sort_by(|x, y| y.share.total_cmp(&x.share).then(x.index.cmp(&y.index)));
    let cost = a.cost_usd.zip(b.cost_usd);
    Ok(Comparison {
        leaves: pairs.len(),
        only_a: a.rubric.leaf_count() - pairs.len(),
        only_b: b.rubric.leaf_count() - pairs.len(),
        flips: flips(&pairs),
        root: difference(&a.rubric, &pairs, scores_a.root(), scores_b.root()),
        by_category,
        first_level: first_level(a, b),
        cost_difference_usd: cost.map(|(a, b)| b - a),
        changed,
        a: Side::of(a, *scores_a.root()),
        b: Side::of(b, *scores_b.root()),
    })
}

/// The leaves of both trees. Ids repeat in published rubrics: the n-th leaf of an id and criterion
/// in one tree is the n-th in the other.
fn pairs<'t>(a: &'t GradedTree, b: &GradedTree) -> Vec<Pair<'t>> {
    fn keyed(tree: &GradedTree) -> impl Iterator<Item = ((&str, &str, u32), &Node, Option<f64>)> {
        let mut seen: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        tree.rubric.leaves().map(move |(index, node)| {
            let (id, criterion) = (node.id.as_str(), node.requirements.as_str());
            let count = seen.entry((id, criterion)).or_default();
            *count += 1;
            ((id, criterion, *count), node, tree.scores[index])
        })
    }
    let in_b: BTreeMap<_, _> = keyed(b).map(|(key, _, score)| (key, score)).collect();
    keyed(a).filter_map(|(key, node, a)| in_b.get(&key).map(|b| Pair { node, a, b: *b })).collect()
}

fn share_of(rubric: &Rubric, shares: &[f64], node: &Node) -> f64 {
    rubric.by_position(node.position()).map_or(0.0, |index| shares[index])
}

fn flips(pairs: &[Pair<'_>]) -> Flips {
    let mut flips = Flips::default();
    for pair in pairs {
        match (pair.a, pair.b) {
            (Some(a), Some(b)) => {
                flips.both_graded += 1;
                flips.up += usize::from(b > a);
                flips.down += usize::from(b < a);
            }
            (Some(_), None) => flips.only_a_graded += 1,
            (None, Some(_)) => flips.only_b_graded += 1,
            (None, None) => flips.neither_graded += 1,
        }
    }
    flips.mcnemar_p = mcnemar(flips.up, flips.down);
    flips
}

/// McNemar's exact test: twice the smaller tail of Binomial(up + down, 1/2), at most 1.
fn mcnemar(up: usize, down: usize) -> Option<f64> {
    let all = (up + down) as u64;
    let tail = Binomial::new(0.5, all).ok().filter(|_| all > 0)?.cdf(up.min(down) as u64);
    Some((2.0 * tail).min(1.0))
}

/// The difference of these scores; `rubric` is the tree that the pairs' shares are of.
fn difference(rubric: &Rubric, pairs: &[Pair<'_>], a: &Score, b: &Score) -> Difference {
    let shares = rubric.weight_shares();
    let moved: Vec<(f64, f64)> = pairs
        .iter()
        .filter_map(|pair| Some((share_of(rubric, &shares, pair.node), pair.b? - pair.a?)))
        .collect();
    let total: f64 = moved.iter().map(|(share, _)| share).sum();
    let paired = (total > 0.0).then(|| moved.iter().map(|(w, d)| w * d).sum::<f64>() / total);
    let se = paired.and_then(|mean| weighted_se(&moved, total, mean));
    let half = se.and_then(|se| {
        let freedom = moved.iter().filter(|(share, _)| *share > 0.0).count() as f64 - 1.0;
        let t = StudentsT::new(0.0, 1.0, freedom).ok()?;
        Some(se * t.inverse_cdf(0.5 + CONFIDENCE / 2.0))
    });
    let end = |sign: f64| Some((paired? + sign * half?).clamp(-1.0, 1.0));
    Difference {
        difference: a.score.zip(b.score).map(|(a, b)| b - a),
        lower: b.lower - a.upper,
        upper: b.upper - a.lower,
        paired,
        se,
        low: end(-1.0),
        high: end(1.0),
    }
}

/// Standard error of a weighted mean of n leaves, the leaves being the sample: the square root of
/// n/(n−1) · Σ wᵢ²(dᵢ − d)², with Σ wᵢ = 1 (Cochran, Sampling Techniques, 1977, on ratios).
fn weighted_se(moved: &[(f64, f64)], total: f64, mean: f64) -> Option<f64> {
    let weighed: Vec<&(f64, f64)> = moved.iter().filter(|(share, _)| *share > 0.0).collect();
    let n = weighed.len() as f64;
    let differs = weighed.iter().any(|(_, difference)| *difference != 0.0);
    if n < 2.0 || !differs {
        return None;
    }
    let squares: f64 = weighed.iter().map(|(w, d)| (w / total * (d - mean)).powi(2)).sum();
    Some((n / (n - 1.0) * squares).sqrt())
}

fn first_level(a: &GradedTree, b: &GradedTree) -> Vec<NodeDifference> {
    let (scores_a, scores_b) = (a.tree_scores(), b.tree_scores());
    let level = |tree: &GradedTree, scores: &tribunal_core::score::TreeScores| -> Vec<NodeScore> {
        let children = tree.rubric.children(0);
        let of = |child: usize| NodeScore {
            id: tree.rubric.nodes()[child].id.clone(),
            score: *scores.node(child),
        };
        children.map(of).collect()
    };
    let mut in_b = level(b, &scores_b);
    let criteria = a.rubric.children(0).map(|child| a.rubric.nodes()[child].requirements.clone());
    level(a, &scores_a)
        .into_iter()
        .zip(criteria)
        .filter_map(|(of_a, requirements)| {
            let at = in_b.iter().position(|of_b| of_b.id == of_a.id)?;
            let of_b = in_b.remove(at);
            Some(NodeDifference { id: of_a.id, requirements, a: of_a.score, b: of_b.score })
        })
        .collect()
}

// === impl Side ===

impl Side {
    fn of(tree: &GradedTree, root: Score) -> Side {
        Side {
            name: tree.name.clone(),
            run: tree.run.clone(),
            model: tree.model.clone(),
            simulated: tree.simulated,
            root,
            cost_usd: tree.cost_usd,
        }
    }
}
