//! A JSON file that holds a tree behind a few fields.
//!
//! Owns what the two files of trees have in common: the fields before the tree, its nodes as they
//! come, and the end.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};
use tribunal_core::{Rubric, rubric::json::TreeWriter};

use super::file::{AtomicFile, WholeFile};

/// A file in the making.
pub(super) struct TreeFile<'c> {
    tree: TreeWriter<'c, AtomicFile>,
}

// === impl TreeFile ===

impl<'c> TreeFile<'c> {
    /// Begins the file with the fields of `head`, which has at least one; the tree of `rubric`
    /// follows as the field `name`.
    pub(super) fn open(
        rubric: &'c Rubric,
        mut file: AtomicFile,
        head: &impl Serialize,
        name: &str,
    ) -> io::Result<Self> {
        let mut head = serde_json::to_vec(head)?;
        // The object goes on behind its last field.
        head.pop();
        file.write_all(&head)?;
        write!(file, ",\n\"{name}\":")?;
        Ok(Self { tree: TreeWriter::new(rubric, file) })
    }

    /// The next node's fields without `sub_tasks`.
    pub(super) fn node(&mut self, fields: &Map<String, Value>) -> io::Result<()> {
        self.tree.node(fields)
    }

    /// Ends tree and file.
    pub(super) fn finish(self) -> io::Result<WholeFile> {
        let mut file = self.tree.finish()?;
        file.write_all(b"}\n")?;
        file.finish()
    }
}
