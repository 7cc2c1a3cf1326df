//! What is left of a rubric when only some of it counts.
//!
//! Owns PaperBench's prunings: one category alone, resources provided, a greatest depth. A pruned
//! rubric remembers each node's position in the unpruned one.

use std::collections::HashMap;

use super::{Node, Rubric};
use crate::category::{Category, RESOURCE_ACQUISITION};

// === impl Rubric ===

impl Rubric {
    /// The rubric with only the leaves of `category`, and the inner nodes above them; `None` if
    /// there is no such leaf.
    pub fn only(&self, category: Category) -> Option<Rubric> {
        let mut keep = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            keep[index] |= node.category == Some(category);
            if let (true, Some(parent)) = (keep[index], node.parent()) {
                keep[parent] = true;
            }
        }
        keep[0].then(|| self.retain(|index, _| keep[index]))
    }

    /// The rubric with weight 0 for every leaf of Dataset and Model Acquisition.
    pub fn resources_provided(mut self) -> Rubric {
        for node in &mut self.nodes {
            if node.is_leaf() && node.fine_category.as_deref() == Some(RESOURCE_ACQUISITION) {
                node.weight = 0.0;
            }
        }
        self
    }

    /// The rubric cut below `max_depth` levels, the root being level 1; a cut node becomes a leaf
    /// of category Subtree.
    pub fn cut(&self, max_depth: u32) -> Rubric {
        let max_depth = max_depth.max(1);
        let mut rubric = self.retain(|_, node| node.depth <= max_depth);
        for index in 0..rubric.nodes.len() {
            let childless = rubric.end(index) == index + 1;
            let node = &mut rubric.nodes[index];
            if childless && node.category.is_none() {
                node.category = Some(Category::Subtree);
            }
        }
        rubric
    }

    /// The fine categories of `other` for the leaves of this tree that have none, matched by
    /// position.
    ///
    /// # Errors
    ///
    /// The first position at which the two trees have different ids, or the node counts if these
    /// differ.
    pub fn with_fine_categories_of(&self, other: &Rubric) -> Result<Rubric, String> {
        if self.nodes.len() != other.nodes.len() {
            let (ours, theirs) = (self.nodes.len(), other.nodes.len());
            return Err(format!("{ours} nodes against {theirs}"));
        }
        let mut rubric = self.clone();
        for (node, source) in rubric.nodes.iter_mut().zip(&other.nodes) {
            if node.id != source.id || node.depth != source.depth {
                let (ours, theirs) = (&node.id, &source.id);
                let position = node.position;
                return Err(format!("node {position} is `{ours}` against `{theirs}`"));
            }
            if node.fine_category.is_none() {
                node.fine_category.clone_from(&source.fine_category);
            }
        }
        Ok(rubric)
    }

    /// The nodes for which `keep` holds. It must hold for the root, and for the parent of every
    /// node that is kept.
    fn retain(&self, keep: impl Fn(usize, &Node) -> bool) -> Rubric {
        let mut moved: HashMap<usize, u32> = HashMap::new();
        let mut nodes: Vec<Node> = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if keep(index, node) {
                moved.insert(index, nodes.len() as u32);
                let mut node = node.clone();
                node.parent = node.parent().and_then(|parent| moved.get(&parent).copied());
                nodes.push(node);
            }
        }
        for index in (0..nodes.len()).rev() {
            let own = index as u32 + 1;
            nodes[index].end = match moved_end(&nodes, index) {
                Some(end) => end.max(own),
                None => own,
            };
        }
        Rubric { nodes }
    }
}

/// One past the last node that has the node at `index` as an ancestor, given that everything
/// behind `index` is already right; `None` if it has no child.
fn moved_end(nodes: &[Node], index: usize) -> Option<u32> {
    let first = nodes.get(index + 1).filter(|next| next.parent == Some(index as u32))?;
    let mut end = first.end;
    while let Some(sibling) = nodes.get(end as usize) {
        if sibling.parent != Some(index as u32) {
            break;
        }
        end = sibling.end;
    }
    Some(end)
}
