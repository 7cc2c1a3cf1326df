//! A drafted run into the store.
//!
//! Owns finding its generation and its record. Its tasks are `tasks`'s.

use std::sync::Arc;

use tribunal_core::{JudgeSpec, RunSpec, RunState};
use tribunal_store::{NewRun, RunRecord, Store};

/// The generation of the newest run with these inputs that was not cancelled, else of the newest;
/// or the next one.
pub(crate) async fn generation(
    spec: &RunSpec,
    fresh: bool,
    store: &Arc<dyn Store>,
) -> anyhow::Result<u32> {
    let inputs = spec.inputs_hash();
    let runs = store.runs().await?;
    let same = runs.iter().filter(|record| record.run.inputs == inputs);
    let newest = same.clone().map(|record| record.run.generation).max();
    if fresh {
        return Ok(newest.map_or(0, |newest| newest + 1));
    }
    let standing = same.filter(|record| record.state != RunState::Cancelled);
    let standing = standing.map(|record| record.run.generation).max();
    Ok(standing.or(newest).unwrap_or(0))
}

/// Records the run of this spec, if it is not there.
///
/// # Errors
///
/// The store's.
pub(crate) async fn record(
    spec: &RunSpec,
    reuse: bool,
    store: &Arc<dyn Store>,
) -> anyhow::Result<RunRecord> {
    // The first run's blob stays when the same inputs come under other names.
    let id = spec.id();
    let hashes = store.put_blobs(vec![serde_json::to_vec_pretty(spec)?]).await?;
    let run = NewRun {
        id,
        inputs: spec.inputs_hash(),
        generation: spec.generation,
        spec: hashes[0],
        judge: spec.of_judges(|judge| &judge.name),
        model: spec.of_judges(|judge| &judge.model),
        simulated: spec.judges().any(JudgeSpec::is_builtin_sim),
        reuse,
    };
    Ok(store.create_run(run).await?)
}
