//! From raw values to the validated configuration.
//!
//! Owns ranges, choices and keys that hang together. Every problem is collected before it gives up,
//! and each names the place of its key.

use std::{
    fmt::Display,
    fs,
    num::{NonZeroU32, NonZeroUsize},
    ops::RangeInclusive,
    path::Path,
    time::Duration,
};

use tribunal_core::SelectionMethod;
use tribunal_worker::{BatchPolicy, BreakerPolicy, prompt::BUILTIN};

use super::{
    Config, EvidenceSettings, LogFormat, LogSettings, Problem, RetrySettings, RunSettings,
    SimSettings, Source, StoreSettings, SubmissionLimits, WorkerSettings, judge,
    models::Models,
    raw::{Entry, RawConfig},
};

/// The profiles of evidence.
const PROFILES: [&str; 2] = ["paperbench", "default"];
/// How files are chosen where not all of them fit.
const SELECTIONS: [Option<SelectionMethod>; 5] = [
    None,
    Some(SelectionMethod::Judge),
    Some(SelectionMethod::JudgeShared),
    Some(SelectionMethod::Lexical),
    Some(SelectionMethod::LexicalShared),
];
/// The levels of the log.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// The forms of the log.
const FORMATS: [LogFormat; 2] = [LogFormat::Text, LogFormat::Json];

/// Seconds or milliseconds that fit every timer.
const DAY_S: i64 = 86_400;
const DAY_MS: i64 = 86_400_000;

/// Reads typed values and collects what is wrong. A wrong value reads as the lowest right one; the
/// result is thrown away then.
pub(super) struct Reader<'a> {
    pub(super) raw: &'a RawConfig,
    pub(super) problems: Vec<Problem>,
}

/// Validates everything, or lists everything that is wrong.
pub(super) fn resolve(raw: RawConfig, problems: Vec<Problem>) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader { raw: &raw, problems };
    let run = run(&mut reader);
    let store = StoreSettings { url: reader.text("store.url") };
    let worker = worker(&mut reader);
    let retry = retry(&mut reader);
    let batch_api = batch_api(&mut reader);
    let evidence = evidence(&mut reader);
    let limits = SubmissionLimits {
        max_entries: reader.unsigned("limits.max_entries", 1..=10_000_000),
        max_total_bytes: reader.unsigned("limits.max_total_bytes", 1..=i64::MAX),
        max_depth: reader.small("limits.max_depth", 1..=4_096),
        max_path_bytes: reader.small("limits.max_path_bytes", 16..=65_536),
        max_ratio: reader.unsigned("limits.max_ratio", 1..=1_000_000),
    };
    let sim = SimSettings {
        latency: reader.millis("sim.latency_ms", 0..=600_000),
        seed: reader.unsigned("sim.seed", 0..=i64::MAX),
    };
    let log = LogSettings {
        level: reader.choice("log.level", &LEVELS, |level| level).to_owned(),
        format: reader.choice("log.format", &FORMATS, |format| format.name()),
    };
    let models = models(&mut reader);
    let judges =
        raw.judges().keys().map(|name| (name.clone(), judge::read(&mut reader, name))).collect();
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    Ok(Config {
        run,
        store,
        worker,
        retry,
        batch_api,
        evidence,
        limits,
        sim,
        log,
        models,
        judges,
        raw,
    })
}

fn run(reader: &mut Reader<'_>) -> RunSettings {
    let judge = reader.text("run.judge");
    let judges = reader.raw.judges();
    if !judge.is_empty() && !judges.contains_key(&judge) {
        let known: Vec<&str> = judges.keys().map(String::as_str).collect();
        reader.fail("run.judge", format!("no judge `{judge}`; known: {}", known.join(", ")));
    }
    let prior = reader.small("run.max_prior_nodes", 0..=1_000_000);
    RunSettings {
        judge,
        coverage_floor: reader.float("run.coverage_floor", 0.0..=1.0),
        max_prior_nodes: (prior > 0).then_some(prior),
        prompt_set: prompt_set(reader),
        require_evidence: reader.boolean("run.require_evidence"),
        canaries: reader.small("run.canaries", 0..=1_000),
        deadline: optional_seconds(reader, "run.deadline_s"),
    }
}

fn worker(reader: &mut Reader<'_>) -> WorkerSettings {
    let settings = WorkerSettings {
        concurrency: NonZeroUsize::new(reader.small("worker.concurrency", 1..=10_000) as usize)
            .unwrap_or(NonZeroUsize::MIN),
        lease: reader.seconds("worker.lease_s", 2..=DAY_S),
        heartbeat: reader.seconds("worker.heartbeat_s", 1..=DAY_S),
        grace: reader.seconds("worker.grace_s", 0..=DAY_S),
        poll: reader.millis("worker.poll_ms", 10..=60_000),
        claim_batch: reader.positive("worker.claim_batch", 1..=10_000),
    };
    if settings.heartbeat * 3 >= settings.lease {
        reader.fail_pair(
            "worker.heartbeat_s",
            "worker.lease_s",
            "must be less than a third of worker.lease_s",
        );
    }
    settings
}

fn batch_api(reader: &mut Reader<'_>) -> BatchPolicy {
    let policy = BatchPolicy {
        max_requests: reader.small("batch_api.max_requests", 1..=1_000_000) as usize,
        max_bytes: reader.small("batch_api.max_bytes", 1..=2_000_000_000) as usize,
        poll: reader.millis("batch_api.poll_ms", 10..=DAY_MS),
        max_poll: reader.millis("batch_api.max_poll_ms", 10..=DAY_MS),
    };
    if policy.poll > policy.max_poll {
        reader.fail_pair(
            "batch_api.poll_ms",
            "batch_api.max_poll_ms",
            "must be at most batch_api.max_poll_ms",
        );
    }
    policy
}

fn retry(reader: &mut Reader<'_>) -> RetrySettings {
    let max = reader.millis("retry.max_ms", 1..=DAY_MS);
    let breaker = BreakerPolicy {
        failures: reader.small("retry.breaker_failures", 0..=10_000),
        base: reader.millis("retry.breaker_wait_ms", 1..=DAY_MS),
        max,
    };
    let settings = RetrySettings {
        transient_attempts: reader.small("retry.transient_attempts", 0..=100),
        bad_reply_attempts: reader.small("retry.bad_reply_attempts", 0..=100),
        base: reader.millis("retry.base_ms", 1..=DAY_MS),
        max,
        inline_wait: reader.millis("retry.inline_wait_ms", 0..=DAY_MS),
        retry_budget_ratio: reader.float("retry.retry_budget_ratio", 0.0..=1.0),
        throttle_cap: reader.seconds("retry.throttle_cap_s", 1..=DAY_S),
        unreachable: reader.seconds("retry.unreachable_s", 1..=DAY_S),
        outage: reader.seconds("retry.outage_s", 1..=30 * DAY_S),
        leaf_deadline: optional_seconds(reader, "retry.leaf_deadline_s"),
        breaker,
    };
    if settings.base > settings.max {
        reader.fail_pair("retry.base_ms", "retry.max_ms", "must not exceed retry.max_ms");
    }
    settings
}

/// A time in seconds up to a year; 0 is none.
fn optional_seconds(reader: &mut Reader<'_>, key: &str) -> Option<Duration> {
    Some(reader.seconds(key, 0..=365 * DAY_S)).filter(|time| !time.is_zero())
}

fn evidence(reader: &mut Reader<'_>) -> EvidenceSettings {
    let budget = reader.unsigned("evidence.token_budget", 0..=i64::MAX);
    if (1..1_000).contains(&budget) {
        reader
            .fail("evidence.token_budget", "must be 0 (from the model's window) or at least 1000");
    }
    EvidenceSettings {
        token_budget: (budget > 0).then_some(budget),
        file_max_bytes: reader.unsigned("evidence.file_max_bytes", 1_024..=1 << 30),
        profile: reader.choice("evidence.profile", &PROFILES, |profile| profile).to_owned(),
        selection: reader.choice("evidence.selection", &SELECTIONS, |selection| {
            selection.map_or("auto", SelectionMethod::name)
        }),
    }
}

/// The set's name, or its folder, a relative one from where it was named.
fn prompt_set(reader: &mut Reader<'_>) -> String {
    let named = reader.text("run.prompt_set");
    match reader.raw.get("run.prompt_set").map(|entry| &entry.source) {
        Some(Source::File { path, .. }) if !BUILTIN.contains(&named.as_str()) => {
            let folder = path.parent().unwrap_or(Path::new("")).join(&named);
            folder.to_str().map_or(named, str::to_owned)
        }
        _ => named,
    }
}

fn models(reader: &mut Reader<'_>) -> Models {
    let mut models = Models::builtin();
    let Some(named) = reader.optional_text("run.models") else {
        return models;
    };
    let path = match reader.raw.get("run.models").map(|entry| &entry.source) {
        Some(Source::File { path, .. }) => path.parent().unwrap_or(Path::new("")).join(&named),
        _ => named.into(),
    };
    match fs::read_to_string(&path) {
        Err(error) => reader.fail("run.models", format!("cannot read {}: {error}", path.display())),
        Ok(text) => {
            if let Err(problems) = models.overlay(&path, &text) {
                reader.problems.extend(problems);
            }
        }
    }
    models
}

// === impl Reader ===

impl Reader<'_> {
    /// Records that the value of a key is wrong.
    pub(super) fn fail(&mut self, key: &str, message: impl Into<String>) {
        let source = self.raw.get(key).map_or(Source::Default, |entry| entry.source.clone());
        self.fail_at(source, key, message);
    }

    pub(super) fn fail_at(&mut self, source: Source, key: &str, message: impl Into<String>) {
        self.problems.push(Problem { source, key: key.to_owned(), message: message.into() });
    }

    /// Two keys that do not fit: the one that was set bears the blame. Silent where one of them is
    /// wrong by itself.
    fn fail_pair(&mut self, first: &str, second: &str, message: &str) {
        if self.problems.iter().any(|problem| problem.key == first || problem.key == second) {
            return;
        }
        let set =
            |key: &str| self.raw.get(key).is_some_and(|entry| entry.source != Source::Default);
        let key = if set(first) || !set(second) { first } else { second };
        self.fail(key, message);
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.raw.get(key)
    }

    /// A truth value; the reader of the file has made sure that it is one.
    fn boolean(&self, key: &str) -> bool {
        self.entry(key).and_then(|entry| entry.value.as_bool()).unwrap_or_default()
    }

    /// A text that must be there and not be empty.
    pub(super) fn text(&mut self, key: &str) -> String {
        match self.optional_text(key) {
            Some(text) => text,
            None => {
                self.fail(key, "must not be empty");
                String::new()
            }
        }
    }

    /// A text; `None` where it is not set or empty.
    pub(super) fn optional_text(&self, key: &str) -> Option<String> {
        let text = self.entry(key)?.value.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    }

    pub(super) fn integer(&mut self, key: &str, range: RangeInclusive<i64>) -> i64 {
        match self.entry(key).and_then(|entry| entry.value.as_integer()) {
            Some(value) if range.contains(&value) => value,
            _ => {
                self.fail(key, out_of_range(&range));
                *range.start()
            }
        }
    }

    pub(super) fn unsigned(&mut self, key: &str, range: RangeInclusive<i64>) -> u64 {
        u64::try_from(self.integer(key, range)).unwrap_or_default()
    }

    pub(super) fn small(&mut self, key: &str, range: RangeInclusive<i64>) -> u32 {
        u32::try_from(self.integer(key, range)).unwrap_or_default()
    }

    fn positive(&mut self, key: &str, range: RangeInclusive<i64>) -> NonZeroU32 {
        NonZeroU32::new(self.small(key, range)).unwrap_or(NonZeroU32::MIN)
    }

    pub(super) fn seconds(&mut self, key: &str, range: RangeInclusive<i64>) -> Duration {
        Duration::from_secs(self.unsigned(key, range))
    }

    fn millis(&mut self, key: &str, range: RangeInclusive<i64>) -> Duration {
        Duration::from_millis(self.unsigned(key, range))
    }

    fn float(&mut self, key: &str, range: RangeInclusive<f64>) -> f64 {
        let start = *range.start();
        match self.optional_float(key, range) {
            Some(value) => value,
            None => start,
        }
    }

    /// A number; `None` where it is not set.
    pub(super) fn optional_float(&mut self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = self.entry(key)?.value.as_float()?;
        // NaN is in no range.
        if !range.contains(&value) {
            self.fail(key, out_of_range(&range));
        }
        Some(value)
    }

    /// One of `choices`, by its name.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        choices: &[T],
        name: impl Fn(T) -> &'static str,
    ) -> T {
        let text = self.optional_text(key).unwrap_or_default();
        match choices.iter().find(|choice| name(**choice) == text) {
            Some(choice) => *choice,
            None => {
                let names: Vec<String> =
                    choices.iter().map(|choice| format!("\"{}\"", name(*choice))).collect();
                let one_of = if names.len() > 1 { "one of " } else { "" };
                self.fail(key, format!("must be {one_of}{}", names.join(", ")));
                choices[0]
            }
        }
    }
}

fn out_of_range<T: Display + PartialEq + 'static>(range: &RangeInclusive<T>) -> String {
    let (low, high) = (range.start().to_string(), range.end().to_string());
    if high == i64::MAX.to_string() {
        return format!("must be at least {low}");
    }
    format!("must be between {low} and {high}")
}
