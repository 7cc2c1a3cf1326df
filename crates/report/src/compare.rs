//! Graded trees side by side: two runs, or a judge and a human, aligned by leaf.
//!
//! Owns the alignment and what is shown of the differences. The statistics are the audit's.

use std::collections::HashMap;

use minijinja::Value;
use serde::Serialize;
use tribunal_audit::metric::{agreement::Confusion, paired::mcnemar::Discordant};
use tribunal_core::{Category, Score};

use crate::{
    model::{GradedTree, Leaf},
    page::{Connect, Page, PageError, Rendered},
    plot::{self, Point, Spot},
    sampling::{LEVEL, Sampled, sampled},
};

/// Scores further apart than this differ; what is closer is how decimals are written.
const DIFFERENT: f64 = 1e-9;

/// A score from which a leaf counts as passed, where only passed and failed are told apart.
const PASSED: f64 = 0.5;

/// Trees that cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// They have no leaf in common.
    #[error(
        "{first} and {other} have no leaf in common: they are graded by different rubrics, and only \
         trees of the same one can be compared"
    )]
    NothingInCommon {
        /// The first tree.
        first: String,
        /// The one that it does not fit.
        other: String,
    },
    /// The page cannot be made.
    #[error(transparent)]
    Page(#[from] PageError),
}

/// A tree among those that are compared.
#[derive(Serialize)]
struct Column {
    letter: char,
    name: String,
    link: Option<String>,
    judge: String,
    simulated: bool,
    root: Score,
    by_category: Vec<Option<Score>>,
    cost_usd: Option<f64>,
    created_at: Option<String>,
    /// Against the first tree; `None` for the first itself.
    against: Option<Against>,
}

/// A tree against the first one, on the leaves that both have graded.
#[derive(Serialize)]
struct Against {
    /// Leaves in both.
    aligned: usize,
    /// Of these, with a score in both.
    graded: usize,
    /// Leaves of the first that this one lacks.
    lacking: usize,
    /// Leaves of this one that the first lacks.
    besides: usize,
    /// Leaves that score higher in the first.
    lower: u64,
    /// Leaves that score higher in this one.
    higher: u64,
    /// McNemar's exact two-sided p.
    p: f64,
    /// Difference of the roots over the leaves graded in both: this one less the first.
    difference: Option<Sampled>,
    /// Macro F1 with the first as the truth; `None` where the first is a run's.
    f1: Option<f64>,
}

/// A leaf on which the trees differ.
#[derive(Serialize)]
struct Row {
    leaf: Option<u32>,
    category: &'static str,
    share: f64,
    text: String,
    /// What the largest difference makes of the root.
    effect: f64,
    cells: Vec<Option<Cell>>,
}

/// What one tree says of a leaf.
#[derive(Serialize)]
struct Cell {
    score: Option<f64>,
    reason: Option<String>,
    explanation: String,
}

#[derive(Serialize)]
struct Context<'c> {
    columns: &'c [Column],
    categories: Vec<&'static str>,
    rows: &'c [Row],
    same: usize,
    missing: usize,
    /// Whether the first tree is the truth that the others are held against.
    truth: bool,
    level: f64,
    plot: Value,
    over_time: Option<Value>,
    against_cost: Option<Value>,
    served: bool,
}

/// The page of two or more graded trees; all are set against the first. With `served`, the trees
/// are linked to their pages on the server.
///
/// # Errors
///
/// A tree has no leaf in common with the first, or a template fails.
pub fn compare_page(trees: &[GradedTree], served: bool) -> Result<Rendered, CompareError> {
    let Some((first, _)) = trees.split_first() else {
        return Err(CompareError::NothingInCommon { first: String::new(), other: String::new() });
    };
    let aligned: Vec<Vec<Option<usize>>> = trees.iter().map(|tree| align(first, tree)).collect();
    let shares = first.rubric.weight_shares();
    let categories = categories(trees);
    let mut columns = Vec::new();
    for (number, tree) in trees.iter().enumerate() {
        let against = match number {
            0 => None,
            _ => Some(against(first, tree, &aligned[number], &shares)?),
        };
        columns.push(column(number, tree, &categories, against, served));
    }
    let (rows, same, missing) = rows(trees, &aligned, &shares);
    let title = match trees {
        [a, b] => format!("{} and {} · Tribunal", a.name, b.name),
        _ => format!("{} graded trees · Tribunal", trees.len()),
    };
    let page = Page {
        template: "compare.html",
        title: &title,
        styles: &[include_str!("../assets/plot.css"), include_str!("../assets/compare.css")],
        scripts: &[include_str!("../assets/compare.js")],
        data: None,
        connect: if served { Connect::Server } else { Connect::Nowhere },
    };
    let context = Context {
        plot: Value::from_safe_string(by_category(&columns, &categories)),
        over_time: over_time(&columns).map(Value::from_safe_string),
        against_cost: against_cost(&columns).map(Value::from_safe_string),
        columns: &columns,
        categories: categories.iter().map(|category| category.name()).collect(),
        rows: &rows,
        same,
        missing,
        truth: trees[0].run.is_none(),
        level: LEVEL,
        served,
    };
    Ok(page.render(context)?)
}

/// For each node of the first tree, the index of the same leaf in the other: the same id and
/// criterion, in the same order where they repeat.
fn align(first: &GradedTree, other: &GradedTree) -> Vec<Option<usize>> {
    let mut places: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    for (index, node) in other.rubric.leaves() {
        places.entry((&node.id, &node.requirements)).or_default().push(index);
    }
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    let mut aligned = vec![None; first.rubric.nodes().len()];
    for (index, node) in first.rubric.leaves() {
        let key = (node.id.as_str(), node.requirements.as_str());
        let nth = seen.entry(key).or_default();
        aligned[index] = places.get(&key).and_then(|found| found.get(*nth)).copied();
        *nth += 1;
    }
    aligned
}

fn against(
    first: &GradedTree,
    other: &GradedTree,
    aligned: &[Option<usize>],
    shares: &[f64],
) -> Result<Against, CompareError> {
    let pairs: Vec<(usize, usize)> =
        aligned.iter().enumerate().filter_map(|(a, b)| Some((a, (*b)?))).collect();
    if pairs.is_empty() {
        let (first, other) = (first.name.clone(), other.name.clone());
        return Err(CompareError::NothingInCommon { first, other });
    }
    let scores = pairs
        .iter()
        .filter_map(|(a, b)| Some((shares[*a], first.leaf(*a)?.score?, other.leaf(*b)?.score?)));
    let scores: Vec<(f64, f64, f64)> = scores.collect();
    let differs = |(_, a, b): &&(f64, f64, f64)| (a - b).abs() > DIFFERENT;
    let discordant =
        Discordant::count(scores.iter().filter(differs).map(|(_, a, b)| (a > b, b > a)));
    let differences = scores.iter().map(|(share, a, b)| (*share, b - a));
    let passed = |score: f64| score >= PASSED;
    let agreement = Confusion::count(scores.iter().map(|(_, a, b)| (passed(*a), passed(*b))));
    Ok(Against {
        aligned: pairs.len(),
        graded: scores.len(),
        lacking: first.rubric.leaf_count() - pairs.len(),
        besides: other.rubric.leaf_count() - pairs.len(),
        lower: discordant.first,
        higher: discordant.second,
        p: discordant.exact_p(),
        difference: sampled(differences, (-1.0, 1.0)),
        f1: agreement.f1().filter(|_| first.run.is_none()),
    })
}

/// The categories that any of the trees has.
fn categories(trees: &[GradedTree]) -> Vec<Category> {
    let has = |category: &Category| {
        trees.iter().any(|tree| tree.summary.by_category.get(category).copied().flatten().is_some())
    };
    Category::ALL.into_iter().filter(has).collect()
}

fn column(
    number: usize,
    tree: &GradedTree,
    categories: &[Category],
    against: Option<Against>,
    served: bool,
) -> Column {
    let run = tree.run.as_ref();
    let said =
        |name: &str| tree.facts.iter().find(|(fact, _)| fact == name).map(|(_, v)| v.clone());
    Column {
        letter: char::from(b'A' + (number % 26) as u8),
        name: tree.name.clone(),
        link: run.filter(|_| served).map(|run| format!("/runs/{}", run.document.run)),
        judge: run
            .map(|run| run.document.model.clone())
            .or_else(|| said("model name"))
            .or_else(|| said("model"))
            .unwrap_or_default(),
        simulated: tree.simulated(),
        root: tree.summary.root,
        by_category: categories
            .iter()
            .map(|category| tree.summary.by_category.get(category).copied().flatten())
            .collect(),
        cost_usd: run.and_then(|run| run.document.cost_usd),
        created_at: run.and_then(|run| run.created_at.clone()),
        against,
    }
}

/// The leaves on which trees differ, the largest effect first; and how many are the same, and how
/// many are not in every tree.
fn rows(
    trees: &[GradedTree],
    aligned: &[Vec<Option<usize>>],
    shares: &[f64],
) -> (Vec<Row>, usize, usize) {
    let (mut rows, mut same, mut missing) = (Vec::new(), 0, 0);
    for (index, node) in trees[0].rubric.leaves() {
        let found: Vec<Option<&Leaf>> =
            trees.iter().zip(aligned).map(|(tree, aligned)| tree.leaf(aligned[index]?)).collect();
        missing += usize::from(found.iter().any(Option::is_none));
        let effect = |leaf: &Leaf| Some(leaf.score? - found[0]?.score?);
        let differs = |leaf: &Leaf| match (leaf.score, found[0].and_then(|leaf| leaf.score)) {
            (Some(b), Some(a)) => (a - b).abs() > DIFFERENT,
            (a, b) => a.is_some() != b.is_some(),
        };
        if !found.iter().flatten().any(|leaf| differs(leaf)) {
            same += usize::from(found.iter().all(Option::is_some));
            continue;
        }
        let effects = found.iter().flatten().filter_map(|leaf| effect(leaf));
        let largest = effects.fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
        rows.push(Row {
            leaf: node.leaf_index(),
            category: node.category.map_or("", Category::name),
            share: shares[index],
            text: node.requirements.clone(),
            effect: shares[index] * largest,
            cells: found.into_iter().map(|leaf| leaf.map(cell)).collect(),
        });
    }
    rows.sort_by(|a, b| b.effect.abs().total_cmp(&a.effect.abs()));
    (rows, same, missing)
}

fn cell(leaf: &Leaf) -> Cell {
    let reason = leaf.outcome().ungraded();
    Cell {
        score: leaf.score,
        reason: reason.map(|reason| reason.name().replace('_', " ")),
        explanation: leaf.explanation.clone(),
    }
}

fn by_category(columns: &[Column], categories: &[Category]) -> String {
    let spot = |score: &Score| Spot { value: score.score, low: score.lower, high: score.upper };
    let series: Vec<String> = columns.iter().map(|c| format!("{} {}", c.letter, c.name)).collect();
    let mut rows = vec![("Root".to_owned(), columns.iter().map(|c| Some(spot(&c.root))).collect())];
    for (number, category) in categories.iter().enumerate() {
        let spots = columns.iter().map(|c| c.by_category[number].as_ref().map(spot));
        rows.push((category.name().to_owned(), spots.collect()));
    }
    plot::dots("Scores by category; lines from lower to upper bound", &series, &rows)
}

/// Scores against the time when the runs began, since the first; `None` below two runs, or where all
/// began at about the same time.
fn over_time(columns: &[Column]) -> Option<String> {
    let time = |c: &Column| c.created_at.as_ref()?.parse::<jiff::Timestamp>().ok();
    let first = columns.iter().filter_map(time).min()?;
    let span = columns.iter().filter_map(time).max()?.duration_since(first).as_secs_f64();
    let (unit, seconds) = match span {
        ..60.0 => return None,
        ..7_200.0 => ("minutes", 60.0),
        ..172_800.0 => ("hours", 3_600.0),
        _ => ("days", 86_400.0),
    };
    let point = |c: &Column| {
        let x = time(c)?.duration_since(first).as_secs_f64() / seconds;
        Some(Point { name: c.letter.to_string(), x, y: c.root.score? })
    };
    let points: Vec<Point> = columns.iter().filter_map(point).collect();
    let plot = |points: &[Point]| plot::scatter("Scores over time", unit, "root", points);
    (points.len() >= 2).then(|| plot(&points))
}

/// What the judges' agreement with the first tree costs, their macro F1, where that is no run's;
/// else the roots. `None` below two runs whose cost is known and not nothing.
fn against_cost(columns: &[Column]) -> Option<String> {
    let f1 = |c: &Column| c.against.as_ref().and_then(|against| against.f1);
    let agreement = columns.iter().any(|column| f1(column).is_some());
    let point = |c: &Column| {
        let x = c.cost_usd.filter(|cost| *cost > 0.0)?;
        let y = if agreement { f1(c)? } else { c.root.score? };
        Some(Point { name: c.letter.to_string(), x, y })
    };
    let points: Vec<Point> = columns.iter().filter_map(point).collect();
    let (title, y_axis) =
        if agreement { ("F1 against cost", "F1") } else { ("Score against cost", "root") };
    (points.len() >= 2).then(|| plot::scatter(title, "US dollars", y_axis, &points))
}
