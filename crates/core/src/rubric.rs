//! The rubric tree: weighted nodes, leaves with a requirement type, and grades where a file has
//! them.
//!
//! Owns the tree in depth-first order and what can be asked of it. Reading a file is
//! [`parse`], pruning [`prune`], warnings [`lint`], writing [`json`].
//!
//! A leaf is its position, not its id: published rubrics repeat ids.

pub mod json;
pub mod lint;
pub mod parse;
pub mod prune;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::category::Category;

/// The grade that a graded tree's file gives a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Grade {
    /// In [0, 1].
    pub score: f64,
    /// False where the judge gave no valid score: the leaf is then ungraded.
    pub valid: bool,
    /// The grader's words.
    pub explanation: String,
    /// What the judge recorded besides.
    pub judge_metadata: Value,
}

/// A node of the rubric.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The id in the file; may repeat.
    pub id: String,
    /// The criterion.
    pub requirements: String,
    /// Weight among its siblings: finite, not negative.
    pub weight: f64,
    /// The requirement type; leaves only.
    pub category: Option<Category>,
    /// The finer type, where the file has one.
    pub fine_category: Option<String>,
    /// The grade, where the file has one. Boxed, as most nodes of large rubrics have none.
    pub grade: Option<Box<Grade>>,
    /// Fields that Tribunal does not know, kept as they are; `None` where there are none.
    pub extra: Option<Box<Map<String, Value>>>,
    position: u32,
    leaf_index: Option<u32>,
    depth: u32,
    parent: Option<u32>,
    end: u32,
}

/// A rubric, or what pruning left of one: at least one node, in depth-first order.
#[derive(Clone, Debug, PartialEq)]
pub struct Rubric {
    nodes: Vec<Node>,
}

// === impl Node ===

impl Node {
    /// Depth-first position in the unpruned rubric, root 0.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// 0-based depth-first leaf index in the unpruned rubric; `None` for an inner node there.
    pub fn leaf_index(&self) -> Option<u32> {
        self.leaf_index
    }

    /// Depth, the root being 1.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Index of the parent among the nodes of the same rubric.
    pub fn parent(&self) -> Option<usize> {
        self.parent.map(|parent| parent as usize)
    }

    /// A field that Tribunal does not know, where the file has it.
    pub fn other(&self, name: &str) -> Option<&Value> {
        self.extra.as_ref()?.get(name)
    }

    /// Whether the node has no children.
    pub fn is_leaf(&self) -> bool {
        self.category.is_some()
    }

    /// The score that the file gives the node, if it is valid.
    pub fn valid_score(&self) -> Option<f64> {
        self.grade.as_ref().filter(|g| g.valid).map(|g| g.score)
    }
}

// === impl Rubric ===

impl Rubric {
    /// All nodes in depth-first order; the root is the first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The root.
    pub fn root(&self) -> &Node {
        &self.nodes[0]
    }

    /// The leaves in depth-first order, each with its index among the nodes.
    pub fn leaves(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter(|(_, n)| n.is_leaf())
    }

    /// Indices of the children of the node at `index`, in order.
    pub fn children(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.nodes[index].end as usize;
        let first = Some(index + 1).filter(|child| *child < end);
        std::iter::successors(first, move |child| {
            Some(self.nodes[*child].end as usize).filter(|next| *next < end)
        })
    }

    /// Whether the score of the node at `index` approximates the one that its leaves would give: it, or
    /// a node below it, was cut and is graded as one.
    pub fn is_approximate(&self, index: usize) -> bool {
        let cut =
            |node: &Node| node.is_leaf() && node.category.is_some_and(Category::is_fractional);
        self.nodes[index..self.end(index)].iter().any(cut)
    }

    /// One past the last node below the node at `index`.
    pub fn end(&self, index: usize) -> usize {
        self.nodes[index].end as usize
    }

    /// Indices of the ancestors of the node at `index`, the root first.
    pub fn ancestors(&self, index: usize) -> Vec<usize> {
        let parent = |child: &usize| self.nodes[*child].parent();
        let mut path: Vec<usize> =
            std::iter::successors(self.nodes[index].parent(), parent).collect();
        path.reverse();
        path
    }

    /// Indices of the nodes that a judge reads before a leaf, in document order: ancestors,
    /// preceding siblings, and preceding siblings of ancestors (PaperBench's prior nodes); the
    /// last `max` of them.
    pub fn prior_nodes(&self, index: usize, max: Option<usize>) -> Vec<usize> {
        let mut path = self.ancestors(index);
        path.push(index);
        let mut prior = vec![path[0]];
        for step in path.windows(2) {
            prior.extend(self.children(step[0]).take_while(|c| *c <= step[1]));
        }
        prior.pop();
        let keep = max.unwrap_or(prior.len()).min(prior.len());
        prior.split_off(prior.len() - keep)
    }

    /// Index of the node with this position in the unpruned rubric.
    pub fn by_position(&self, position: u32) -> Option<usize> {
        self.nodes.binary_search_by_key(&position, |node| node.position).ok()
    }

    /// The share of the root's score that each node weighs, in [0, 1]: the product of weight
    /// shares on its path. The children of a group whose weights sum to 0 have share 0.
    pub fn weight_shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.nodes.len()];
        shares[0] = 1.0;
        for index in 0..self.nodes.len() {
            let total: f64 = self.children(index).map(|c| self.nodes[c].weight).sum();
            if total > 0.0 {
                let own = shares[index];
                for child in self.children(index) {
                    shares[child] = own * self.nodes[child].weight / total;
                }
            }
        }
        shares
    }

    /// The greatest depth of a node, the root being 1.
    pub fn depth(&self) -> u32 {
        self.nodes.iter().map(Node::depth).max().unwrap_or(0)
    }

    /// Number of leaves.
    pub fn leaf_count(&self) -> usize {
        self.leaves().count()
    }

    /// Number of leaves of each category that has any.
    pub fn category_counts(&self) -> BTreeMap<Category, usize> {
        let mut counts = BTreeMap::new();
        for category in self.nodes.iter().filter_map(|node| node.category) {
            *counts.entry(category).or_insert(0) += 1;
        }
        counts
    }

    /// Whether any node carries a grade.
    pub fn is_graded(&self) -> bool {
        self.nodes.iter().any(|node| node.grade.is_some())
    }
}
