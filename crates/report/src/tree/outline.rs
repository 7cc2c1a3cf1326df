//! The tree for readers without scripts: nested `<details>`, every leaf's words in them.
//!
//! Owns that text. It stands in a `<noscript>`, where a browser with scripts does not lay it out;
//! the scripts take each leaf's words from it, so that a file holds them once. A leaf's words
//! stand between `<!--leaf:INDEX-->` and `<!--end-->`; no text of others can hold either.

use std::collections::BTreeMap;

use serde::Serialize;
use tribunal_core::Score;

use super::{Served, leaf::leaf_body};
use crate::{
    model::{GradedTree, SharedExhibit},
    page::{PageError, fragment},
};

#[derive(Serialize)]
struct Summary<'t> {
    index: usize,
    position: u32,
    text: &'t str,
    leaf: bool,
    score: &'t Score,
    share: f64,
    reason: Option<&'static str>,
}

/// The whole outline, and behind it what the judge was shown.
pub(super) fn outline(tree: &GradedTree, served: Option<&Served>) -> Result<String, PageError> {
    let shares = tree.rubric.weight_shares();
    let mut html = String::new();
    let mut open: Vec<usize> = Vec::new();
    for (index, node) in tree.rubric.nodes().iter().enumerate() {
        while open.pop_if(|parent| tree.rubric.end(*parent) <= index).is_some() {
            html.push_str("</details>\n");
        }
        let leaf = tree.leaf(index);
        let reason = leaf.and_then(|leaf| leaf.outcome().ungraded());
        html.push_str(if index == 0 { "<details open id=\"n" } else { "<details id=\"n" });
        html.push_str(&format!("{}\">", node.position()));
        html.push_str(&fragment(
            "summary.html",
            Summary {
                index,
                position: node.position(),
                text: &node.requirements,
                leaf: leaf.is_some(),
                score: tree.scores.node(index),
                share: shares[index],
                reason: reason.map(|reason| reason.name()),
            },
        )?);
        open.push(index);
        let Some(leaf) = leaf else { continue };
        match served {
            None => {
                let body = leaf_body(leaf, true)?;
                html.push_str(&format!("<!--leaf:{index}-->{body}<!--end-->"));
            }
            Some(served) => html.push_str(&fragment(
                "link.html",
                BTreeMap::from([("href", format!("{}/leaves/{}", served.run, node.position()))]),
            )?),
        }
    }
    html.extend(open.iter().map(|_| "</details>\n"));
    if served.is_none() {
        for shared in exhibits(tree).values() {
            html.push_str(&exhibit_html(shared)?);
        }
    }
    Ok(html)
}

/// What was shown, once each.
fn exhibits(tree: &GradedTree) -> BTreeMap<&str, &SharedExhibit> {
    let shown = tree.leaves.iter().flatten().filter_map(|leaf| leaf.exhibit.as_ref());
    shown.map(|exhibit| (exhibit.shared.key.as_str(), &*exhibit.shared)).collect()
}

fn exhibit_html(shared: &SharedExhibit) -> Result<String, PageError> {
    let body = fragment("exhibit.html", BTreeMap::from([("shared", shared)]))?;
    // Keys are hashes and names of this program's making.
    Ok(format!("<!--exhibit:{key}-->{body}<!--end-->\n", key = shared.key))
}
