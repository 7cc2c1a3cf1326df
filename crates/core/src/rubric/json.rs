//! Rubric trees out, in PaperBench's format.
//!
//! Owns the text of a tree, written node by node in depth-first order so that a writer never
//! holds more than one leaf's grade. What a node's grade is comes from the caller.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::{Node, Rubric};

/// Writes a number as PaperBench's files have it: integers without a fraction.
pub fn number(value: f64) -> Value {
    // 2^53: up to here every integer is exact.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        Value::from(value as i64)
    } else {
        Value::from(value)
    }
}

/// The node's fields without `sub_tasks`: the rubric's own, those it does not know included.
pub fn node_fields(node: &Node) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("id".to_owned(), Value::from(node.id.as_str()));
    fields.insert("requirements".to_owned(), Value::from(node.requirements.as_str()));
    fields.insert("weight".to_owned(), number(node.weight));
    let category = node.category.map_or(Value::Null, |c| Value::from(c.name()));
    fields.insert("task_category".to_owned(), category);
    let fine = node.fine_category.as_deref().map_or(Value::Null, Value::from);
    fields.insert("finegrained_task_category".to_owned(), fine);
    for (name, value) in node.extra.iter().flat_map(|extra| extra.iter()) {
        fields.insert(name.clone(), value.clone());
    }
    fields
}

/// Writes trees node by node, in depth-first order.
pub struct TreeWriter<'r, W> {
    rubric: &'r Rubric,
    out: W,
    next: usize,
    open: Vec<usize>,
}

// === impl TreeWriter ===

impl<'r, W: Write> TreeWriter<'r, W> {
    /// A writer of this tree.
    pub fn new(rubric: &'r Rubric, out: W) -> Self {
        Self { rubric, out, next: 0, open: Vec::new() }
    }

    /// Writes the next node in depth-first order with these fields; `sub_tasks` is added.
    ///
    /// # Errors
    ///
    /// The underlying writer's.
    ///
    /// # Panics
    ///
    /// When called more often than the tree has nodes.
    pub fn node(&mut self, fields: &Map<String, Value>) -> io::Result<()> {
        let index = self.next;
        assert!(index < self.rubric.nodes().len(), "more nodes written than the tree has");
        self.close_until(index)?;
        let first = self.open.last().is_none_or(|parent| *parent + 1 == index);
        self.out.write_all(if first { b"\n" } else { b",\n" })?;
        let mut text = serde_json::to_vec(fields)?;
        text.pop();
        if !fields.is_empty() {
            text.extend_from_slice(b",");
        }
        text.extend_from_slice(b"\"sub_tasks\":[");
        self.out.write_all(&text)?;
        self.open.push(index);
        self.next += 1;
        Ok(())
    }

    /// Closes what is open and gives the writer back.
    ///
    /// # Errors
    ///
    /// The underlying writer's.
    ///
    /// # Panics
    ///
    /// When a node was not written.
    pub fn finish(mut self) -> io::Result<W> {
        let nodes = self.rubric.nodes().len();
        assert_eq!(self.next, nodes, "every node of the tree is written once");
        self.close_until(nodes)?;
        Ok(self.out)
    }

    fn close_until(&mut self, index: usize) -> io::Result<()> {
        while let Some(open) = self.open.pop_if(|open| self.rubric.end(*open) <= index) {
            let _ = open;
            self.out.write_all(b"]}")?;
        }
        Ok(())
    }
}

/// The whole tree as text; `fields` gives each node's.
pub fn to_string(rubric: &Rubric, fields: impl Fn(&Node) -> Map<String, Value>) -> String {
    let mut writer = TreeWriter::new(rubric, Vec::new());
    for node in rubric.nodes() {
        // A vector takes every write.
        let _ = writer.node(&fields(node));
    }
    let bytes = writer.finish().unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_start().to_owned()
}

/// The fields of a graded file's node, its grade included.
pub fn graded_fields(node: &Node) -> Map<String, Value> {
    let mut fields = node_fields(node);
    if let Some(grade) = &node.grade {
        fields.insert("score".to_owned(), Value::from(grade.score));
        fields.insert("valid_score".to_owned(), Value::from(grade.valid));
        fields.insert("explanation".to_owned(), Value::from(grade.explanation.as_str()));
        fields.insert("judge_metadata".to_owned(), grade.judge_metadata.clone());
    }
    fields
}
