//! Arguments that several commands share.
//!
//! Owns their names and help. What they mean for the config is `Config::load`'s, laid over the
//! files as flags.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf};

use clap::Args;
use tribunal_core::{RunId, Via};
use tribunal_store::{Store, StoreError, Weight};

use crate::config::FlagValue;

/// What is graded.
#[derive(Clone, Debug, Args)]
pub(crate) struct InputArgs {
    /// The rubric, in PaperBench's format
    #[arg(long, value_name = "FILE")]
    pub(crate) rubric: PathBuf,
    /// The submission: a folder, or a tar, tar.gz, tar.zst or zip archive
    #[arg(long, value_name = "PATH")]
    pub(crate) submission: PathBuf,
    /// The paper, as Markdown or text
    #[arg(long, value_name = "FILE")]
    pub(crate) paper: Option<PathBuf>,
    /// The authors' clarifications
    #[arg(long, value_name = "FILE")]
    pub(crate) addendum: Option<PathBuf>,
    /// Hints for the judge alone
    #[arg(long, value_name = "FILE")]
    pub(crate) judge_addendum: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: OptionArgs,
}

/// How it is graded.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OptionArgs {
    /// Grade Code Development leaves only
    #[arg(long)]
    pub(crate) code_only: bool,
    /// Leaves of Dataset and Model Acquisition weigh 0
    #[arg(long)]
    pub(crate) resources_provided: bool,
    /// Grade nodes at this depth as one, over all below them; the root is at depth 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_depth: Option<u32>,
    /// The prompt set: a built-in name or a folder [default: the config's `run.prompt_set`]
    #[arg(long, value_name = "NAME|DIR")]
    pub(crate) prompt_set: Option<String>,
    /// How files are chosen where not all fit: judge, judge-shared, lexical, lexical-shared or auto
    /// [default: the config's `evidence.selection`]
    #[arg(long, value_name = "METHOD")]
    pub(crate) selection: Option<String>,
    /// Ask about N made-up leaves with known answers too, which count in no score [default: the
    /// config's `run.canaries`]
    #[arg(long, value_name = "N")]
    pub(crate) canaries: Option<u32>,
    /// Start anew, though the same inputs were graded before
    #[arg(long)]
    pub(crate) fresh: bool,
    /// How questions reach the judge: `live`, or `batch` by the provider's batch API, which answers
    /// within a day at a lower price [default: as the run was begun; live]
    #[arg(long, value_name = "WAY", value_parser = via)]
    pub(crate) via: Option<Via>,
}

/// Who judges.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct JudgeArgs {
    /// A judge of the config; without one, the config's `run.judge`
    #[arg(long, value_name = "NAME", conflicts_with_all = ["base_url", "model"])]
    pub(crate) judge: Option<String>,
    /// An OpenAI-compatible endpoint, with its /v1
    #[arg(long, value_name = "URL", requires = "model")]
    pub(crate) base_url: Option<String>,
    /// The model's name at that endpoint
    #[arg(long, value_name = "NAME", requires = "base_url")]
    pub(crate) model: Option<String>,
}

/// Where runs are kept.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct StoreArgs {
    /// The store [default: sqlite:.tribunal/store.db]
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,
}

/// Priorities that a run can have.
pub(crate) const PRIORITIES: std::ops::RangeInclusive<i64> = -100..=100;

/// A run's place among the others of its store.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ShareArgs {
    /// The run's share against other runs: with 3 it gets three times the tokens of one with 1
    #[arg(long, value_name = "N", value_parser = weight)]
    weight: Option<Weight>,
    /// The run's priority, from -100 to 100: workers of all runs take nothing of others while one of a
    /// higher priority has a leaf to be had; a new run has 0
    #[arg(long, value_name = "N", allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(PRIORITIES))]
    priority: Option<i32>,
    /// The run's leaves in work at once over all workers, at most; `none` lifts the cap
    #[arg(long, value_name = "N", value_parser = cap)]
    max_in_flight: Option<Cap>,
}

/// A cap of the command line; `None` lifts it.
#[derive(Clone, Copy, Debug)]
struct Cap(Option<NonZeroU32>);

// === impl ShareArgs ===

impl ShareArgs {
    /// Records for a run what was asked for; what was not stays as it is.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn record(&self, run: &RunId, store: &dyn Store) -> Result<(), StoreError> {
        if let Some(weight) = self.weight {
            store.set_weight(run, weight).await?;
        }
        if let Some(priority) = self.priority {
            store.set_priority(run, priority).await?;
        }
        if let Some(Cap(cap)) = self.max_in_flight {
            store.set_max_in_flight(run, cap).await?;
        }
        Ok(())
    }
}

/// What the judge's account allows. Without these, limits are taken from the config and from what
/// the endpoint's answers state, or found out.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct RateArgs {
    /// Requests a minute, at most
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rpm: Option<NonZeroU32>,
    /// Tokens a minute of prompts and answers together, at most
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) tpm: Option<NonZeroU32>,
}

/// Where a process says how it is.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct MetricsArgs {
    /// Serve /metrics (Prometheus), /healthz and /readyz here; without an address on
    /// 127.0.0.1:9464; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:9464")]
    pub(crate) metrics_addr: Option<SocketAddr>,
}

/// How hard a pool works.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PoolArgs {
    /// Calls in flight at once, at most; half as many leaves more are held to be asked next, or as
    /// many as are begun in 25 ms
    #[arg(long, value_name = "N")]
    pub(crate) concurrency: Option<u32>,
    #[command(flatten)]
    pub(crate) rates: RateArgs,
    /// Begin no further leaf after this long, such as 90m or 8h; the same command goes on later. `grade`
    /// and `batch` exit 3 where leaves are left
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    pub(crate) deadline: Option<i64>,
    /// No progress on standard error
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// A way of the command line.
fn via(text: &str) -> Result<Via, String> {
    Via::from_name(text).ok_or_else(|| "a way is `live` or `batch`".to_owned())
}

/// A rate of the command line.
fn rate(text: &str) -> Result<NonZeroU32, String> {
    let number = text.parse().ok().and_then(NonZeroU32::new);
    number.ok_or_else(|| format!("a rate is a whole number from 1 to {}", u32::MAX))
}

/// A cap of the command line.
fn cap(text: &str) -> Result<Cap, String> {
    if text == "none" {
        return Ok(Cap(None));
    }
    let number = text.parse().ok().and_then(NonZeroU32::new);
    let number =
        number.ok_or_else(|| format!("a cap is `none` or a number from 1 to {}", u32::MAX));
    Ok(Cap(Some(number?)))
}

/// A weight of the command line.
pub(crate) fn weight(text: &str) -> Result<Weight, String> {
    let number = text.parse().ok();
    number
        .and_then(Weight::new)
        .ok_or_else(|| format!("a weight is a number from 1 to {}", Weight::MAX))
}

// === flags as config values ===

impl OptionArgs {
    /// The values that the flags lay over the config.
    pub(crate) fn flags(&self) -> Vec<FlagValue<'static>> {
        let canaries = self.canaries.map(i64::from);
        let canaries = canaries.map(|n| ("run.canaries", n.into(), "--canaries"));
        [
            (self.prompt_set.clone(), "run.prompt_set", "--prompt-set"),
            (self.selection.clone(), "evidence.selection", "--selection"),
        ]
        .into_iter()
        .filter_map(|(value, key, flag)| Some((key, value?.into(), flag)))
        .chain(canaries)
        .collect()
    }
}

impl StoreArgs {
    /// The values that the flags lay over the config.
    pub(crate) fn flags(&self) -> Vec<FlagValue<'static>> {
        let url = self.store.clone();
        url.map(|url| ("store.url", url.into(), "--store")).into_iter().collect()
    }
}

impl PoolArgs {
    /// The values that the flags lay over the config.
    pub(crate) fn flags(&self) -> Vec<FlagValue<'static>> {
        let concurrency = self.concurrency.map(i64::from);
        [
            (concurrency, "worker.concurrency", "--concurrency"),
            (self.deadline, "run.deadline_s", "--deadline"),
        ]
        .into_iter()
        .filter_map(|(value, key, flag)| Some((key, value?.into(), flag)))
        .collect()
    }
}

/// A time on the command line, in whole seconds.
fn deadline(text: &str) -> Result<i64, String> {
    let time = text.parse::<jiff::SignedDuration>().ok().map(|time| time.as_secs());
    let wrong = || "a time is given as 45s, 90m or 8h, and is a second at least".to_owned();
    time.filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

/// A score on the command line, from 0 to 1.
///
/// # Errors
///
/// It is no such number.
pub(crate) fn score(text: &str) -> Result<f64, String> {
    let score = text.parse::<f64>().ok().filter(|score| (0.0..=1.0).contains(score));
    score.ok_or_else(|| "a score is a number from 0 to 1, such as 0.5".to_owned())
}
