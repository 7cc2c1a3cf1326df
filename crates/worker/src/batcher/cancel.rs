//! Cancelling the batches of a run at the provider, by whoever cancels the run.
//!
//! Owns that alone. What was answered before is fetched by the next worker; one that is gathering or
//! sending for the run learns of it from the store.

use tribunal_core::{RunId, RunSpec};
use tribunal_store::Store;

use crate::{
    provider::{Provider as _, ResolveEndpoints, openai::OpenAiProvider},
    recorded::{ContextError, json},
};

/// Cancels what the provider is known to have of a run; returns how many batches that is.
///
/// # Errors
///
/// The store's; or the endpoint cannot be used, or refuses.
pub async fn cancel_batches(
    store: &dyn Store,
    run: &RunId,
    endpoints: &dyn ResolveEndpoints,
) -> Result<u64, ContextError> {
    let batches = store.batches(run).await?;
    let remote: Vec<String> = batches.into_iter().filter_map(|batch| batch.remote).collect();
    if remote.is_empty() {
        return Ok(0);
    }
    let spec: RunSpec = json(store, store.run(run).await?.run.spec).await?;
    let endpoint = endpoints.endpoints(&spec.judge).map_err(ContextError::Unusable)?;
    let endpoint = endpoint.into_iter().next();
    let endpoint =
        endpoint.ok_or_else(|| ContextError::Unusable("the judge has no endpoint".to_owned()))?;
    let name = endpoint.base_url.clone();
    let provider = OpenAiProvider::new(endpoint).map_err(ContextError::Unusable)?;
    let mut cancelled = 0;
    for remote in remote {
        let Some(api) = provider.batch_api() else { break };
        match api.cancel(&remote).await {
            Ok(()) => cancelled += 1,
            Err(failure) => {
                let words = failure.message;
                return Err(ContextError::Unusable(format!(
                    "{name} does not cancel the batch {remote}: {words}. The run is cancelled here; a \
                     worker on this store tries again"
                )));
            }
        }
    }
    Ok(cancelled)
}
