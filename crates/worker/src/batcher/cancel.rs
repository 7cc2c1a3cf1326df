//! Cancelling the batches of a run at the provider, by whoever cancels the run.
//!
//! Owns that alone. What was answered before is fetched by the next worker; one that is gathering or
//! sending for the run learns of it from the store.

use std::collections::BTreeMap;

use tribunal_core::RunId;
use tribunal_store::Store;

use crate::{
    provider::{Provider as _, ResolveEndpoints, openai::OpenAiProvider},
    recorded::{self, ContextError},
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
    let mut remote: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for batch in batches {
        if let Some(name) = batch.remote {
            remote.entry(batch.voter).or_default().push(name);
        }
    }
    if remote.is_empty() {
        return Ok(0);
    }
    let spec = recorded::spec(store, run).await?;
    let mut cancelled = 0;
    for (voter, remote) in remote {
        let judge = spec.clone().of_voter(voter as usize).judge;
        let endpoint = endpoints.endpoints(&judge).map_err(ContextError::Unusable)?;
        let endpoint = endpoint.into_iter().next().ok_or_else(|| {
            ContextError::Unusable(format!("the judge {} has no endpoint", judge.name))
        })?;
        let name = endpoint.base_url.clone();
        let provider = OpenAiProvider::new(endpoint).map_err(ContextError::Unusable)?;
        let Some(api) = provider.batch_api() else { continue };
        for remote in remote {
            if let Err(failure) = api.cancel(&remote).await {
                let words = failure.message;
                return Err(ContextError::Unusable(format!(
                    "{name} does not cancel the batch {remote}: {words}. The run is cancelled here; a \
                     worker on this store tries again"
                )));
            }
            cancelled += 1;
        }
    }
    Ok(cancelled)
}
