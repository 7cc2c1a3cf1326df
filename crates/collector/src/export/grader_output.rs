//! `grader_output.json`: PaperBench's JudgeOutput (openai/frontier-evals,
//! `paperbench/grade.py` and `paperbench/judge/graded_task_node.py`).
//!
//! Owns the translation. PaperBench has no missing scores: an ungraded leaf is score 0 and not
//! valid, inner nodes are valid with the lower bound as their score. Were an inner node not valid,
//! PaperBench's metrics would leave out all below it.

use std::io;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tribunal_core::{RunId, rubric::json::node_fields};

use super::{Context, Format, LeafRecord, file::AtomicFile, file::WholeFile, tree_file::TreeFile};

/// How PaperBench writes points in time, in UTC.
const TIMESTAMP: &str = "%Y-%m-%dT%H-%M-%S-GMT";

/// The document's fields before `graded_task_tree`.
#[derive(Serialize)]
struct Head<'c> {
    judge_type: &'static str,
    score: f64,
    num_leaf_nodes: u32,
    num_invalid_leaf_nodes: u32,
    graded_at: String,
    /// PaperBench's own client settings: it rejects others, so there are none.
    completer_config: Option<()>,
    token_usage: Value,
    // Fields that PaperBench does not read.
    simulated: bool,
    canaries_failed: Option<u64>,
    model: &'c str,
    run: &'c RunId,
}

struct GraderOutput<'c> {
    context: Context<'c>,
    tree: TreeFile<'c>,
}

pub(super) fn open<'c>(
    context: Context<'c>,
    file: AtomicFile,
) -> io::Result<Box<dyn Format + Send + 'c>> {
    let collected = context.collected;
    let run = &collected.record.run;
    let root = collected.summary().root;
    let usage = collected.totals.usage;
    let head = Head {
        judge_type: if collected.simulated() { "tribunal (simulated)" } else { "tribunal" },
        score: root.lower,
        num_leaf_nodes: root.leaves,
        num_invalid_leaf_nodes: root.ungraded,
        graded_at: context.now.strftime(TIMESTAMP).to_string(),
        completer_config: None,
        token_usage: json!({ run.model.as_str(): {"in": usage.input, "out": usage.output} }),
        simulated: collected.simulated(),
        canaries_failed: collected.canaries().map(|canaries| canaries.failed),
        model: &run.model,
        run: &run.id,
    };
    let tree = TreeFile::open(&collected.rubric, file, &head, "graded_task_tree")?;
    Ok(Box::new(GraderOutput { context, tree }))
}

// === impl GraderOutput ===

impl Format for GraderOutput<'_> {
    fn node(&mut self, index: usize, leaf: Option<&LeafRecord<'_>>) -> io::Result<()> {
        let collected = self.context.collected;
        let mut fields = node_fields(&collected.rubric.nodes()[index]);
        let score = collected.scores().node(index);
        let (valid, explanation, metadata) = match leaf {
            Some(leaf) => (score.ungraded == 0, leaf.explanation(), metadata(leaf)?),
            None if score.ungraded == 0 => {
                let text = "Weighted mean of its sub_tasks.".to_owned();
                (true, text, Value::Null)
            }
            None => {
                let (missing, leaves) = (score.ungraded, score.leaves);
                let text = format!(
                    "Weighted mean of its sub_tasks; {missing} of {leaves} leaves are not graded \
                     and count as 0."
                );
                (true, text, Value::Null)
            }
        };
        fields.insert("score".to_owned(), Value::from(score.lower));
        fields.insert("valid_score".to_owned(), Value::from(valid));
        fields.insert("explanation".to_owned(), Value::from(explanation));
        fields.insert("judge_metadata".to_owned(), metadata);
        self.tree.node(&fields)
    }

    fn finish(self: Box<Self>) -> io::Result<WholeFile> {
        self.tree.finish()
    }
}

fn metadata(leaf: &LeafRecord<'_>) -> io::Result<Value> {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    set("model", Value::from(leaf.model()));
    set("simulated", Value::from(leaf.simulated()));
    set("source", serde_json::to_value(leaf.source())?);
    set("ungraded_reason", serde_json::to_value(leaf.outcome.ungraded())?);
    fields.extend(leaf.reasoning()?.into_iter().flatten());
    Ok(Value::Object(fields))
}
