//! A pool with everything it needs from this machine: endpoints, keys, signals, progress.
//!
//! Owns putting the pieces together. How leaves are graded is the worker's.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tribunal_core::{JudgeSpec, RunId};
use tribunal_sim::{Sim, SimConfig};
use tribunal_store::{QuotaLimits, Store, StoreError};
use tribunal_worker::{
    Endpoint, EventSink, Pool, PoolConfig, PoolEnd, ResolveEndpoints, RetryPolicy, Scope, Shutdown,
};

use crate::{
    args::RateArgs,
    baseline,
    config::{Config, judge::ResolvedJudge},
    exit::Exit,
    metrics::Counted,
    progress::Progress,
};

/// "File size limit exceeded" on Linux.
const SIGXFSZ: i32 = 25;

/// Opens the store that the config names.
///
/// # Errors
///
/// The store's.
pub(crate) async fn open_store(config: &Config) -> Result<Arc<dyn Store>, StoreError> {
    outlive_file_limit();
    tribunal_store::open(&config.store.url).await
}

/// The store that the config names, if it is there; it is not made.
///
/// # Errors
///
/// The store's.
pub(crate) async fn existing_store(config: &Config) -> Result<Option<Arc<dyn Store>>, StoreError> {
    outlive_file_limit();
    tribunal_store::existing(&config.store.url).await
}

/// Makes the store that the config names, or brings one of an older version to this one.
///
/// # Errors
///
/// The store's.
pub(crate) async fn init_store(config: &Config) -> Result<Arc<dyn Store>, StoreError> {
    outlive_file_limit();
    tribunal_store::init(&config.store.url).await
}

/// A limit on file sizes is to be an error like a full disk, not the end of the process: with a
/// handler installed, the write fails instead.
fn outlive_file_limit() {
    let _ = signal(SignalKind::from_raw(SIGXFSZ));
}

/// The store that the config names, for a command that needs a run of it; it is not made.
///
/// # Errors
///
/// There is none, or it cannot be used.
pub(crate) async fn store_with_runs(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    existing_store(config).await?.with_context(|| no_store(config))
}

/// What is said where there is no store.
pub(crate) fn no_store(config: &Config) -> String {
    let url = config.store.shown_url();
    format!("there is no store at {url}; `tribunal grade` makes it, or name another --store")
}

/// The endpoints of judges, as this machine's config and environment have them.
pub(crate) struct Endpoints {
    config: Config,
    /// The judges of this command's flags, whose limits win over the config's.
    own: Vec<ResolvedJudge>,
    /// `--rpm` and `--tpm`, which win over every judge's.
    rates: RateArgs,
    sim: OnceLock<Sim>,
}

/// Which signal ended a pool, if one did.
#[derive(Debug, Default)]
pub(crate) struct Signalled(AtomicU8);

// === impl Endpoints ===

impl Endpoints {
    pub(crate) fn new(config: Config, own: Vec<ResolvedJudge>) -> Self {
        Self { config, own, rates: RateArgs::default(), sim: OnceLock::new() }
    }

    /// The same, with limits that win over every judge's.
    pub(crate) fn limited(self, rates: RateArgs) -> Self {
        Self { rates, ..self }
    }

    /// These limits, below those of the command line.
    fn limits(&self, limits: QuotaLimits) -> QuotaLimits {
        let flag = |flag: Option<NonZeroU32>| flag.map(|rate| f64::from(rate.get()));
        QuotaLimits {
            requests: flag(self.rates.rpm).or(limits.requests),
            tokens: flag(self.rates.tpm).or(limits.tokens),
            ..limits
        }
    }

    /// The simulated judge inside this process, started when first asked for.
    fn sim_url(&self) -> Result<String, String> {
        if let Some(sim) = self.sim.get() {
            return Ok(sim.base_url());
        }
        let settings = &self.config.sim;
        let config = SimConfig {
            latency_ms: settings.latency.as_secs_f64() * 1000.0,
            seed: settings.seed,
            ..SimConfig::default()
        };
        let sim = Sim::start(config, 0)
            .map_err(|error| format!("the simulated judge cannot start: {error}"))?;
        Ok(self.sim.get_or_init(|| sim).base_url())
    }

    fn resolved(&self, judge: &JudgeSpec) -> Result<ResolvedJudge, String> {
        if let Some(own) = self.own.iter().find(|own| own.spec == *judge) {
            return Ok(own.clone());
        }
        // A judge that this machine's config knows under the name, at the same endpoint, brings
        // its limits and key; any other is called as the run recorded it.
        let known = self.config.judge(&judge.name);
        match known {
            Ok(known) if known.spec.base_url == judge.base_url => Ok(known),
            _ => self
                .config
                .adhoc_judge(&judge.base_url, &judge.model)
                .map_err(|error| error.to_string()),
        }
    }
}

impl ResolveEndpoints for Endpoints {
    fn endpoints(&self, judge: &JudgeSpec) -> Result<Vec<Endpoint>, String> {
        let resolved = self.resolved(judge);
        if baseline::is_baseline(judge) {
            // Nothing listens there, and nobody calls.
            return Ok(vec![Endpoint {
                base_url: "http://127.0.0.1:0/v1".to_owned(),
                ..Endpoint::local()
            }]);
        }
        if judge.is_builtin_sim() {
            let limits = resolved.as_ref().map(ResolvedJudge::limits).unwrap_or_default();
            return Ok(vec![Endpoint {
                base_url: self.sim_url()?,
                prompt_cache_key: true,
                tariff: self.config.models.get(&judge.model).tariff(),
                limits: self.limits(limits),
                ..Endpoint::local()
            }]);
        }
        let resolved = resolved?;
        let own = Endpoint {
            base_url: judge.base_url.clone(),
            api_key: resolved.api_key.secret().cloned(),
            azure_api_version: resolved.azure_api_version.clone(),
            headers: resolved.headers.clone(),
            timeout: resolved.timeout,
            connect_timeout: resolved.connect_timeout,
            prompt_cache_key: resolved.facts.prompt_cache_key,
            tariff: resolved.facts.tariff(),
            limits: self.limits(resolved.limits()),
            family: Some(resolved.family()),
            account: resolved.account.clone(),
            weight: resolved.weight,
        };
        let further = resolved.further.iter().map(|endpoint| Endpoint {
            base_url: endpoint.base_url.clone(),
            api_key: endpoint.api_key.secret().cloned(),
            azure_api_version: endpoint.azure_api_version.clone(),
            limits: self.limits(endpoint.limits()),
            account: endpoint.account.clone(),
            weight: endpoint.weight,
            ..own.clone()
        });
        Ok(std::iter::once(own.clone()).chain(further).collect())
    }
}

// === impl Signalled ===

impl Signalled {
    /// The exit of a process that was told to end.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match self.0.load(Ordering::SeqCst) {
            2 => Some(Exit::Interrupted),
            15 => Some(Exit::Terminated),
            _ => None,
        }
    }
}

/// Ends a pool on SIGINT and SIGTERM: the first drains it for at most `grace`, the second stops it.
///
/// # Errors
///
/// The handlers cannot be installed.
pub(crate) fn on_signals(grace: Duration) -> anyhow::Result<(Shutdown, Arc<Signalled>)> {
    let shutdown = Shutdown::default();
    let signalled = Arc::new(Signalled::default());
    let failed = "signal handlers cannot be installed";
    let mut interrupt = signal(SignalKind::interrupt()).context(failed)?;
    let mut terminate = signal(SignalKind::terminate()).context(failed)?;
    let (ends, first) = (shutdown.clone(), Arc::clone(&signalled));
    tokio::spawn(async move {
        let number = tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
        };
        first.0.store(number, Ordering::SeqCst);
        ends.drain.cancel();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = tokio::time::sleep(grace) => {}
        }
        ends.stop.cancel();
    });
    Ok((shutdown, signalled))
}

/// When calls are made again, as the config has it.
pub(crate) fn retry_policy(config: &Config) -> RetryPolicy {
    let retry = &config.retry;
    RetryPolicy {
        transient_attempts: retry.transient_attempts,
        bad_reply_attempts: retry.bad_reply_attempts,
        base: retry.base,
        max: retry.max,
        inline_wait: retry.inline_wait,
        throttle_cap: retry.throttle_cap,
        unreachable_after: retry.unreachable,
        outage_after: retry.outage,
        leaf_deadline: retry.leaf_deadline,
        breaker: retry.breaker,
        budget_ratio: retry.retry_budget_ratio,
    }
}

/// Works on `scope` until there is nothing left or a signal came.
///
/// # Errors
///
/// The store's.
pub(crate) async fn work(
    config: &Config,
    store: &Arc<dyn Store>,
    endpoints: Arc<Endpoints>,
    progress: &Arc<Progress>,
    shutdown: Shutdown,
    scope: &Scope,
) -> anyhow::Result<PoolEnd> {
    let worker = &config.worker;
    let pool = PoolConfig {
        concurrency: worker.concurrency.get(),
        claim_batch: worker.claim_batch.get() as usize,
        lease: worker.lease,
        heartbeat: worker.heartbeat,
        poll: worker.poll,
        retry: retry_policy(config),
        batch: config.batch_api,
    };
    let events: Arc<dyn EventSink> = Arc::clone(progress) as Arc<dyn EventSink>;
    let events = Arc::new(Counted(events));
    let drain = shutdown.drain.clone();
    let pool = Pool::new(Arc::clone(store), pool, endpoints, events, shutdown);
    let ticker = tokio::spawn(Arc::clone(progress).tick());
    let timer = config.run.deadline.map(|deadline| {
        let progress = Arc::clone(progress);
        tokio::spawn(async move {
            tokio::time::sleep(deadline).await;
            progress.pass_deadline(deadline);
            drain.cancel();
        })
    });
    let end = pool.work(scope).await;
    ticker.abort();
    if let Some(timer) = timer {
        timer.abort();
    }
    progress.finish();
    Ok(end?)
}

/// The run that a user names: its id, or the beginning of one that fits no other.
///
/// # Errors
///
/// No run fits, or several do.
pub(crate) async fn find_run(store: &Arc<dyn Store>, name: &str) -> anyhow::Result<RunId> {
    if let Ok(run) = name.parse::<RunId>() {
        return Ok(store.run(&run).await?.run.id);
    }
    let runs = store.runs().await?;
    let fits = |id: &&RunId| !name.is_empty() && id.as_str().starts_with(name);
    let ids: Vec<&RunId> = runs.iter().map(|record| &record.run.id).filter(fits).collect();
    match ids[..] {
        [run] => Ok(run.clone()),
        [] => Err(StoreError::NoSuchRun { run: name.to_owned() }.into()),
        _ => anyhow::bail!("`{name}` begins {} run ids; give more of it", ids.len()),
    }
}
