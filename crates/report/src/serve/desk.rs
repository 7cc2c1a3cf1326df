//! The desk: people label leaves, blind first, and settle what they see differently.
//!
//! Owns its page, the order of the leaves, and the one thing that the server writes: labels,
//! appended to the store. The judge's verdict stays as it is. Authors are who they say they are:
//! who may write at all is the guard's.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tribunal_audit::metric::label::inclusion;
use tribunal_collector::{Collected, sanitize};
use tribunal_core::{Category, RunId};
use tribunal_store::{Label, LabelKind, NewLabel, label::standing};

use super::{App, ServeError, Shared, html};
use crate::{
    labelled::{disputed, human_grades},
    model::{GradedTree, Leaf},
    page::{Connect, Page, fragment},
    read::{self, ReadError},
};

const SCRIPTS: [&str; 1] = [include_str!("../../assets/desk.js")];

/// Labels read at once.
const LABELS: usize = 1_000;

/// What is supposed of a verdict that says nothing about its own certainty.
const UNKNOWN_ERROR: f64 = 0.25;

/// How the desk is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// Who labels; without one the page asks.
    #[serde(default)]
    author: String,
    #[serde(default)]
    order: Order,
    #[serde(default)]
    task: Task,
}

/// In which order leaves are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// Drawn so that those that can change the score most come sooner: w·√p.
    #[default]
    Aimed,
    /// Drawn alike.
    Random,
    /// As they stand.
    Rubric,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Task {
    /// Grades of one's own.
    #[default]
    Label,
    /// What others graded differently.
    Adjudicate,
}

/// A leaf in the queue. Nothing of the judge's is in it.
#[derive(Serialize)]
struct Queued {
    position: u32,
    leaf: Option<u32>,
    category: &'static str,
    share: f64,
    text: String,
    groups: Vec<String>,
    /// The labels to settle; empty but for adjudication.
    given: Vec<Label>,
}

#[derive(Serialize)]
struct Data<'d> {
    run: String,
    author: &'d str,
    task: Task,
    queue: Vec<Queued>,
    /// The author's own, all of them in order.
    labels: Vec<Label>,
}

#[derive(Serialize)]
struct Context<'c> {
    run: &'c str,
    asked: BTreeMap<&'static str, String>,
    leaves: usize,
    authors: Vec<(String, usize)>,
    disputed: usize,
}

/// The page.
pub(super) async fn page(
    State(app): Shared,
    Path(run): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, ServeError> {
    let (run, collected, labels) = labelled(&app, &run).await?;
    let author = asked.author.trim();
    let own = labels.iter().filter(|label| label.label.author == author).cloned().collect();
    let disputed = disputed(&labels);
    let mut authors: BTreeMap<String, usize> = BTreeMap::new();
    for label in standing(&labels).iter().filter(|label| label.label.kind == LabelKind::Label) {
        *authors.entry(label.label.author.clone()).or_default() += 1;
    }
    let queue = match asked.task {
        Task::Label => queue(&app, &run, &collected, asked.order).await?,
        Task::Adjudicate => adjudicated(&collected, &labels, &disputed),
    };
    let (name, count) = (run.to_string(), queue.len());
    let data = Data { run: name.clone(), author, task: asked.task, queue, labels: own };
    let page = Page {
        template: "desk.html",
        title: &format!("Desk · {run} · Tribunal"),
        styles: &[include_str!("../../assets/desk.css")],
        scripts: &SCRIPTS,
        data: Some(serde_json::to_string(&data).map_err(crate::page::PageError::from)?),
        connect: Connect::Server,
    };
    let order = serde_json::to_value(asked.order).unwrap_or_default();
    let task = serde_json::to_value(asked.task).unwrap_or_default();
    let text = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let asked = BTreeMap::from([
        ("author", author.to_owned()),
        ("order", text(order)),
        ("task", text(task)),
    ]);
    let authors = authors.into_iter().collect();
    let context = Context { run: &name, asked, leaves: count, authors, disputed: disputed.len() };
    Ok(html(page.render(context)?))
}

/// What a person may see of a leaf before the verdict: what the judge was shown, not what it said.
pub(super) async fn evidence(
    State(app): Shared,
    Path((run, position)): Path<(String, u32)>,
) -> Result<Html<String>, ServeError> {
    let run = app.run(&run).await?;
    let leaf = read::leaf(&*app.from.store, &run, position, &*app.from.exhibits).await?;
    let shared = leaf.exhibit.as_ref().map(|exhibit| &*exhibit.shared);
    Ok(Html(fragment("desk_evidence.html", BTreeMap::from([("shared", shared)]))?))
}

/// Appends a label.
pub(super) async fn append(
    State(app): Shared,
    Path(run): Path<String>,
    Json(mut label): Json<NewLabel>,
) -> Result<Json<Label>, ServeError> {
    let run = app.run(&run).await?;
    let collected = app.collected(&run).await?;
    let position = label.position;
    let leaf = collected.rubric().by_position(position);
    if !leaf.is_some_and(|index| collected.rubric().nodes()[index].is_leaf()) {
        return Err(ReadError::NoSuchLeaf { run, position }.into());
    }
    label.author = label.author.trim().to_owned();
    Ok(Json(app.from.store.append_label(&run, label).await.map_err(ReadError::from)?))
}

/// The labels as a graded tree in PaperBench's format: those of `author`, or what all agree on.
pub(super) async fn export(
    State(app): Shared,
    Path(run): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, ServeError> {
    let (run, collected, labels) = labelled(&app, &run).await?;
    let author = Some(asked.author.trim()).filter(|author| !author.is_empty());
    let tree = human_grades(collected.rubric(), &labels, author);
    let mut response = tree.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let name = format!("attachment; filename=\"human-{run}.json\"");
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// The run with what it has been given so far, by the judge and by people.
async fn labelled(app: &Arc<App>, run: &str) -> Result<(RunId, Collected, Vec<Label>), ServeError> {
    let run = app.run(run).await?;
    let collected = app.collected(&run).await?;
    let labels = labels(app, &run).await?;
    Ok((run, collected, labels))
}

/// All labels of the run, in order.
pub(super) async fn labels(app: &Arc<App>, run: &RunId) -> Result<Vec<Label>, ServeError> {
    let mut all: Vec<Label> = Vec::new();
    loop {
        let after = all.last().map_or(0, |label| label.seq);
        let page = app.from.store.labels(run, after, LABELS).await.map_err(ReadError::from)?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

async fn queue(
    app: &App,
    run: &RunId,
    collected: &Collected,
    order: Order,
) -> Result<Vec<Queued>, ServeError> {
    let shares = collected.rubric().weight_shares();
    let leaves: Vec<usize> = collected.rubric().leaves().map(|(index, _)| index).collect();
    // Each leaf's own number in (0, 1], the same for everybody: two graders meet early.
    let drawn = |index: usize| {
        let hash = Sha256::digest(format!("{run}/{index}"));
        let bits = hash.iter().take(6).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        (bits + 1) as f64 / (1_u64 << 48) as f64
    };
    let mut keyed: Vec<(f64, usize)> = match order {
        Order::Rubric => leaves.iter().map(|index| (*index as f64, *index)).collect(),
        Order::Random => leaves.iter().map(|index| (drawn(*index), *index)).collect(),
        Order::Aimed => {
            let tree = read::run(&*app.from.store, collected, None, false).await?;
            let weights: Vec<f64> = leaves.iter().map(|index| shares[*index]).collect();
            let doubt: Vec<f64> = leaves.iter().map(|index| doubt(&tree, *index)).collect();
            let pi = inclusion(&weights, &doubt, 1.0);
            // Sequential Poisson sampling (Ohlsson 1998): whoever stops after n has drawn n with
            // about these proportions.
            let key = |(index, pi): (&usize, f64)| match pi > 0.0 {
                true => (drawn(*index) / pi, *index),
                false => (f64::INFINITY, *index),
            };
            leaves.iter().zip(pi).map(key).collect()
        }
    };
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(keyed.into_iter().map(|(_, index)| queued(collected, &shares, index, Vec::new())).collect())
}

/// The probability that the verdict is wrong, as far as votes or the judge itself tell.
fn doubt(tree: &GradedTree, index: usize) -> f64 {
    let own = |leaf: &Leaf| leaf.agreement().or(leaf.confidence).map(|sure| 1.0 - sure);
    tree.leaf(index).and_then(own).unwrap_or(UNKNOWN_ERROR).clamp(0.02, 0.5)
}

fn adjudicated(collected: &Collected, labels: &[Label], disputed: &[u32]) -> Vec<Queued> {
    let shares = collected.rubric().weight_shares();
    let standing = standing(labels);
    let leaves = disputed.iter().filter_map(|position| {
        let index = collected.rubric().by_position(*position)?;
        let given = standing.iter().filter(|label| label.label.position == *position);
        Some(queued(collected, &shares, index, given.map(|label| (*label).clone()).collect()))
    });
    leaves.collect()
}

fn queued(collected: &Collected, shares: &[f64], index: usize, given: Vec<Label>) -> Queued {
    let rubric = collected.rubric();
    let node = &rubric.nodes()[index];
    let above = rubric.ancestors(index).into_iter();
    Queued {
        position: node.position(),
        leaf: node.leaf_index(),
        category: node.category.map_or("", Category::name),
        share: shares[index],
        text: sanitize(&node.requirements),
        groups: above.map(|above| sanitize(&rubric.nodes()[above].requirements)).collect(),
        given,
    }
}
