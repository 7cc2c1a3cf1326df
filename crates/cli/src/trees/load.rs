//! A graded tree's content, from its file or from the store.
//!
//! Owns reading it. The store is opened when the first run is asked for, and not made.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tribunal_collector::{CollectOptions, Collected, GradedTree, results::Labels};
use tribunal_core::{Rubric, RunId};
use tribunal_store::Store;

use super::{Source, place::stem};
use crate::{config::Config, engine};

/// Opens the store when the first run is asked for.
pub(crate) struct Runs<'c> {
    config: &'c Config,
    store: Option<Arc<dyn Store>>,
}

// === impl Runs ===

impl<'c> Runs<'c> {
    pub(crate) fn new(config: &'c Config) -> Self {
        Self { config, store: None }
    }

    async fn store(&mut self) -> anyhow::Result<Arc<dyn Store>> {
        if let Some(store) = &self.store {
            return Ok(Arc::clone(store));
        }
        let store = engine::existing_store(self.config).await?;
        let url = self.config.store.shown_url();
        let store = store.with_context(|| format!("there is no store at {url}"))?;
        Ok(Arc::clone(self.store.insert(store)))
    }

    pub(super) async fn find(&mut self, name: &str) -> anyhow::Result<RunId> {
        engine::find_run(&self.store().await?, name).await
    }

    /// What a run's inputs say: the folder of its rubric is the paper, its submission the agent.
    pub(super) async fn labels(&mut self, run: &RunId) -> anyhow::Result<Labels> {
        let collected = self.collected(run).await?;
        let spec = collected.spec();
        let paper = Path::new(&spec.rubric.name).parent().map(stem).unwrap_or_default();
        let agent = stem(Path::new(&spec.submission.name));
        Ok(Labels { paper, agent, ..Labels::default() })
    }

    pub(crate) async fn collected(&mut self, run: &RunId) -> anyhow::Result<Collected> {
        let options = CollectOptions::default();
        let store = self.store().await?;
        let mut collected = tribunal_collector::collect(&*store, run, &options).await?;
        let prices = self.config.models.get(&collected.spec().judge.model).prices;
        collected.set_prices(prices);
        Ok(collected)
    }

    pub(super) async fn tree(&mut self, source: &Source) -> anyhow::Result<GradedTree> {
        match source {
            Source::File(path) | Source::Scored(_, Some(path)) => graded_file(path),
            Source::Run(run) => Ok(GradedTree::of_run(&self.collected(run).await?)),
            Source::Scored(entry, None) => bail!("{}: nothing was graded", entry.labels),
            Source::Zero(path, _) => bail!("{}: nothing was graded", path.display()),
        }
    }

    /// Closes the store, if it was opened.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        match self.store {
            Some(store) => Ok(store.close().await?),
            None => Ok(()),
        }
    }
}

/// Reads a graded file; its cost is in the manifest of its run, where that stands beside it.
fn graded_file(path: &Path) -> anyhow::Result<GradedTree> {
    #[derive(Deserialize)]
    struct Cost {
        cost_usd: Option<f64>,
    }
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut tree = GradedTree::parse(&path.display().to_string(), &bytes)?;
    let manifest = fs::read(path.with_file_name("run.json")).ok();
    let cost = manifest.and_then(|bytes| serde_json::from_slice::<Cost>(&bytes).ok());
    tree.cost_usd = cost.and_then(|cost| cost.cost_usd);
    Ok(tree)
}

pub(crate) fn rubric(path: &Path) -> anyhow::Result<Rubric> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Rubric::parse(&path.display().to_string(), &bytes)?)
}
