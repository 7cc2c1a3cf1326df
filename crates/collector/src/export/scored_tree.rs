//! `scored_tree.json`: the rubric's tree with everything that is known of every node.
//!
//! Owns Tribunal's own format, `tribunal.scored_tree/1`.

use std::io;

use serde::Serialize;
use serde_json::Value;
use tribunal_core::{RunId, rubric::json::node_fields};

use super::{Context, Format, LeafRecord, file::AtomicFile, file::WholeFile, tree_file::TreeFile};
use crate::{canary::Canaries, document::GradeState, summary::ScoreSummary, votes::VoteCounts};

/// The document's fields before `tree`.
#[derive(Serialize)]
struct Head<'c> {
    schema: &'static str,
    run: &'c RunId,
    state: GradeState,
    simulated: bool,
    judge: &'c str,
    model: &'c str,
    canaries: Option<&'c Canaries>,
    #[serde(skip_serializing_if = "Option::is_none")]
    votes: Option<&'c VoteCounts>,
    summary: &'c ScoreSummary,
}

struct ScoredTree<'c> {
    context: Context<'c>,
    tree: TreeFile<'c>,
}

pub(super) fn open<'c>(
    context: Context<'c>,
    file: AtomicFile,
) -> io::Result<Box<dyn Format + Send + 'c>> {
    let collected = context.collected;
    let run = &collected.record.run;
    let head = Head {
        schema: "tribunal.scored_tree/1",
        run: &run.id,
        state: collected.state(),
        simulated: collected.simulated(),
        judge: &run.judge,
        model: &run.model,
        canaries: collected.canaries(),
        votes: collected.votes(),
        summary: collected.summary(),
    };
    let tree = TreeFile::open(&collected.rubric, file, &head, "tree")?;
    Ok(Box::new(ScoredTree { context, tree }))
}

// === impl ScoredTree ===

impl Format for ScoredTree<'_> {
    fn node(&mut self, index: usize, leaf: Option<&LeafRecord<'_>>) -> io::Result<()> {
        let collected = self.context.collected;
        let node = &collected.rubric.nodes()[index];
        let mut fields = node_fields(node);
        let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        set("position", Value::from(node.position()));
        set("leaf_index", node.leaf_index().map_or(Value::Null, Value::from));
        set("depth", Value::from(node.depth()));
        set("approximate", Value::from(collected.rubric.is_approximate(index)));
        set("weight_share", Value::from(self.context.shares[index]));
        if let Value::Object(scores) = serde_json::to_value(collected.scores().node(index))? {
            for (name, value) in scores {
                set(&name, value);
            }
        }
        if let Some(leaf) = leaf {
            set("outcome", serde_json::to_value(leaf.outcome)?);
            set("source", serde_json::to_value(leaf.source())?);
            set("explanation", Value::from(leaf.explanation()));
            set("rationale", leaf.reasoning()?.map_or(Value::Null, Value::Object));
            set("model", Value::from(leaf.model()));
            set("simulated", Value::from(leaf.simulated()));
            if collected.votes().is_some() {
                set("votes", serde_json::to_value(&leaf.votes)?);
            }
        }
        self.tree.node(&fields)
    }

    fn finish(self: Box<Self>) -> io::Result<WholeFile> {
        self.tree.finish()
    }
}
