//! The configuration: layers in, one validated [`Config`] out, every value with its source.
//!
//! Owns where values come from: `config/default.toml`, then `tribunal.toml` in the working directory,
//! then the file of `--config`, then flags. No other environment is read, but for the endpoint's key
//! when a judge is asked for; keys never enter the configuration itself.

pub(crate) mod check;
pub(crate) mod document;
pub(crate) mod judge;
pub(crate) mod models;
mod raw;
mod resolve;
mod schema;
pub(crate) mod show;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    num::{NonZeroU32, NonZeroUsize},
    path::Path,
    time::Duration,
};

use tribunal_core::SelectionMethod;
use tribunal_worker::{BatchPolicy, BreakerPolicy};

pub(crate) use self::raw::{ConfigError, Problem, Source};
use self::{judge::JudgeSettings, models::Models, raw::RawConfig};

/// The file that is read from the working directory where it exists.
pub(crate) const LOCAL_FILE: &str = "tribunal.toml";

/// The validated configuration. Its values are in range and fit together.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// What is graded, how often, shown with what.
    pub(crate) run: RunSettings,
    /// Where it is stored.
    pub(crate) store: StoreSettings,
    /// One worker process.
    pub(crate) worker: WorkerSettings,
    /// What failures lead to.
    pub(crate) retry: RetrySettings,
    /// How batches of questions are made, where they go by the judge's batch API.
    pub(crate) batch_api: BatchPolicy,
    /// What the judge is shown.
    pub(crate) evidence: EvidenceSettings,
    /// What a submission may be.
    pub(crate) limits: SubmissionLimits,
    /// The simulated judge.
    pub(crate) sim: SimSettings,
    /// The log on standard error.
    pub(crate) log: LogSettings,
    /// What is known of models.
    pub(crate) models: Models,
    judges: BTreeMap<String, JudgeSettings>,
    raw: RawConfig,
}

/// `[run]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunSettings {
    /// Name of the judge that grades; it exists.
    pub(crate) judge: String,
    /// Share of the root's weight that must be graded, 0 to 1.
    pub(crate) coverage_floor: f64,
    /// Nodes before a leaf that are shown with it; all when `None`.
    pub(crate) max_prior_nodes: Option<u32>,
    /// Name of the prompt set.
    pub(crate) prompt_set: String,
    /// Whether a verdict with quotes that do not exist is sent back once.
    pub(crate) require_evidence: bool,
    /// Made-up leaves with known answers that are asked about too.
    pub(crate) canaries: u32,
    /// How long one command works at most.
    pub(crate) deadline: Option<Duration>,
}

/// `[store]`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoreSettings {
    /// URL of the store; may hold a password, which `Debug` hides.
    pub(crate) url: String,
}

/// `[worker]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerSettings {
    /// Leaves asked at the same time.
    pub(crate) concurrency: NonZeroUsize,
    /// How long a worker without a sign keeps its leaves.
    pub(crate) lease: Duration,
    /// Time between signs of life, below a third of `lease`.
    pub(crate) heartbeat: Duration,
    /// What calls in flight get after SIGTERM.
    pub(crate) grace: Duration,
    /// Time between looks at an empty queue.
    pub(crate) poll: Duration,
    /// Leaves claimed at once at most.
    pub(crate) claim_batch: NonZeroU32,
}

/// `[retry]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RetrySettings {
    /// Retries after transient failures.
    pub(crate) transient_attempts: u32,
    /// Further questions after bad replies.
    pub(crate) bad_reply_attempts: u32,
    /// Upper end of the first wait.
    pub(crate) base: Duration,
    /// Longest wait, at least `base`.
    pub(crate) max: Duration,
    /// Longer waits go back to the queue.
    pub(crate) inline_wait: Duration,
    /// Share of calls that may be retries, 0 to 1.
    pub(crate) retry_budget_ratio: f64,
    /// Greatest Retry-After that is obeyed.
    pub(crate) throttle_cap: Duration,
    /// When an endpoint that was never reached pauses the run.
    pub(crate) unreachable: Duration,
    /// When endpoints that all fail pause the run.
    pub(crate) outage: Duration,
    /// How long after its first claim a leaf is given up.
    pub(crate) leaf_deadline: Option<Duration>,
    /// When one that fails rests.
    pub(crate) breaker: BreakerPolicy,
}

/// `[evidence]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EvidenceSettings {
    /// Tokens of evidence in a prompt; from the model's window when `None`.
    pub(crate) token_budget: Option<u64>,
    /// Bytes read of each file.
    pub(crate) file_max_bytes: u64,
    /// Which files each category is shown.
    pub(crate) profile: String,
    /// How files are chosen where not all of them fit; the cheapest way when `None`.
    pub(crate) selection: Option<SelectionMethod>,
}

/// `[limits]`: what a submission may be at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubmissionLimits {
    /// Files and folders.
    pub(crate) max_entries: u64,
    /// Bytes of all files.
    pub(crate) max_total_bytes: u64,
    /// Folders within folders.
    pub(crate) max_depth: u32,
    /// Bytes of a path below the root.
    pub(crate) max_path_bytes: u32,
    /// Bytes unpacked for each packed byte.
    pub(crate) max_ratio: u64,
}

/// `[sim]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SimSettings {
    /// What each call takes.
    pub(crate) latency: Duration,
    /// Seed of everything drawn.
    pub(crate) seed: u64,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// The least severe level that is written: a name that `tracing` parses, or `off`.
    pub(crate) level: String,
    /// How lines look.
    pub(crate) format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A value laid over the files: dotted key, value, and the flag it came from (`--concurrency`).
pub(crate) type FlagValue<'a> = (&'a str, toml::Value, &'a str);

// === impl Config ===

impl Config {
    /// Reads every layer and validates the result. `explicit` is the file of `--config`.
    ///
    /// # Errors
    ///
    /// `explicit` cannot be read, or anything in any layer is wrong; then all of it is listed.
    pub(crate) fn load(
        explicit: Option<&Path>,
        flags: &[FlagValue<'_>],
    ) -> Result<Config, ConfigError> {
        Config::load_in(Path::new(""), explicit, flags)
    }

    /// As [`Config::load`], with the folder in which `tribunal.toml` is looked for.
    fn load_in(
        folder: &Path,
        explicit: Option<&Path>,
        flags: &[FlagValue<'_>],
    ) -> Result<Config, ConfigError> {
        let mut raw = RawConfig::defaults();
        let mut problems = Vec::new();
        let local = folder.join(LOCAL_FILE);
        match fs::read_to_string(&local) {
            Ok(text) => raw.apply_file(&local, &text, &mut problems),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ConfigError::Unreadable { path: local, error }),
        }
        if let Some(path) = explicit {
            raw.apply_file(path, &raw::read(path)?, &mut problems);
        }
        for (key, value, flag) in flags {
            if let Err(problem) = raw.apply_flag(key, value.clone(), flag) {
                problems.push(problem);
            }
        }
        Config::resolve(raw, problems)
    }

    /// Validates the layers; `problems` are those found in reading them.
    fn resolve(raw: RawConfig, problems: Vec<Problem>) -> Result<Config, ConfigError> {
        resolve::resolve(raw, problems).map_err(ConfigError::Invalid)
    }

    /// Names of the judges, sorted.
    pub(crate) fn judge_names(&self) -> impl Iterator<Item = &str> {
        self.judges.keys().map(String::as_str)
    }
}

// === impl StoreSettings ===

impl StoreSettings {
    /// The URL for people: without its password.
    pub(crate) fn shown_url(&self) -> String {
        tribunal_store::shown_url(&self.url)
    }
}

impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSettings").field("url", &self.shown_url()).finish()
    }
}

// === impl LogFormat ===

impl LogFormat {
    /// The name in the config.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}
