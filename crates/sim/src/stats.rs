//! What the simulated judge counted.
//!
//! Owns the counters and their document, `GET /stats`.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{cache::lock, chance, question::Question, reply::Tokens};

/// Counts since the server started; the document of `GET /stats`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SimStats {
    /// Always true.
    pub simulated: bool,
    /// Seconds since the start.
    pub started: f64,
    /// Chat requests that came in.
    pub requests: u64,
    /// Those that could not be read, or had the wrong key or model: 400, 401, 404, 413.
    pub invalid: u64,
    /// Those within the rate limits.
    pub admitted: u64,
    /// Those answered 429.
    pub rejected: u64,
    /// Those answered with a verdict.
    pub answered: u64,
    /// Those answered with a ranking of files.
    pub rankings: u64,
    /// Those answered with a proposal of a prompt.
    pub proposals: u64,
    /// Those whose ranking of files cannot be used.
    pub unusable_rankings: u64,
    /// Those that got a 500, 502 or 503.
    pub errors: u64,
    /// Those left without an answer.
    pub timeouts: u64,
    /// Those with an unusable answer.
    pub malformed: u64,
    /// Those refused or filtered.
    pub refusals: u64,
    /// Those whose connection closed in mid-body.
    pub resets: u64,
    /// Those whose answer stopped in mid-body.
    pub stalls: u64,
    /// Files uploaded.
    pub files: u64,
    /// Batches created.
    pub batches: u64,
    /// Their questions that were answered, errors included.
    pub batch_questions: u64,
    /// Batches that expired.
    pub expired_batches: u64,
    /// Batches that were cancelled.
    pub cancelled_batches: u64,
    /// Requests that the limit allowed from the first request to the last; 0 without one.
    pub allowed_requests: u64,
    /// Tokens that the limit allowed from the first request to the last; 0 without one.
    pub allowed_tokens: u64,
    /// Requests in the server now.
    pub in_flight: u64,
    /// The most there ever were.
    pub max_in_flight: u64,
    /// Prompt tokens of all replies with usage.
    pub prompt_tokens: u64,
    /// How many of them were cached.
    pub cached_tokens: u64,
    /// Completion tokens of all replies with usage.
    pub completion_tokens: u64,
    /// Replies with usage to prompts of which nothing was cached.
    pub cold_prompts: u64,
    /// Criteria, each with its context, that got a verdict.
    pub distinct_criteria: u64,
    /// How many of them got one more than once.
    pub repeated_criteria: u64,
    /// Verdicts by terms because no label belongs to the criterion.
    pub unknown_criteria: u64,
}

/// The counters.
pub(crate) struct Counters {
    started: Instant,
    requests: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    pub(crate) invalid: AtomicU64,
    pub(crate) admitted: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) rankings: AtomicU64,
    pub(crate) proposals: AtomicU64,
    pub(crate) unusable_rankings: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) refusals: AtomicU64,
    pub(crate) resets: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) files: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) batch_questions: AtomicU64,
    pub(crate) expired_batches: AtomicU64,
    pub(crate) cancelled_batches: AtomicU64,
    answered: Mutex<Answered>,
}

#[derive(Default)]
struct Answered {
    replies: u64,
    tokens: Tokens,
    cold: u64,
    unknown: u64,
    repeated: u64,
    /// How often each criterion got a verdict, by a hash of its words and context.
    criteria: HashMap<u128, u32>,
}

/// A request in the server; it leaves when this is dropped, also when its client gave up.
pub(crate) struct InFlight<'a> {
    counters: &'a Counters,
    /// 0-based, in order of arrival.
    pub(crate) ordinal: u64,
}

// === impl Counters ===

impl Counters {
    pub(crate) fn new(now: Instant) -> Counters {
        Counters {
            started: now,
            requests: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            max_in_flight: AtomicU64::new(0),
            invalid: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            rankings: AtomicU64::new(0),
            proposals: AtomicU64::new(0),
            unusable_rankings: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            files: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            batch_questions: AtomicU64::new(0),
            expired_batches: AtomicU64::new(0),
            cancelled_batches: AtomicU64::new(0),
            answered: Mutex::default(),
        }
    }

    /// Counts a request in.
    pub(crate) fn enter(&self) -> InFlight<'_> {
        let now = self.in_flight.fetch_add(1, Relaxed) + 1;
        self.max_in_flight.fetch_max(now, Relaxed);
        InFlight { counters: self, ordinal: self.requests.fetch_add(1, Relaxed) }
    }

    /// Counts the tokens of a reply that says them.
    pub(crate) fn spend(&self, tokens: Tokens) {
        let mut answered = lock(&self.answered);
        answered.cold += u64::from(tokens.cached == 0);
        let sum = &mut answered.tokens;
        sum.prompt += tokens.prompt;
        sum.cached += tokens.cached;
        sum.completion += tokens.completion;
    }

    /// Counts a verdict.
    pub(crate) fn answer(&self, question: &Question, unknown: bool) {
        let category = question.category.map_or("", |category| category.name());
        let context = question.context.join("\n");
        let fields = [category, &question.requirement, &context].map(str::as_bytes);
        let mut key = [0; 16];
        key.copy_from_slice(&chance::hash(0, "criterion", &fields)[..16]);
        let mut answered = lock(&self.answered);
        answered.replies += 1;
        answered.unknown += u64::from(unknown);
        let times = answered.criteria.entry(u128::from_le_bytes(key)).or_insert(0);
        *times = times.saturating_add(1);
        let again = *times == 2;
        answered.repeated += u64::from(again);
    }

    /// The counts now.
    ///
    /// `allowed` are the requests and tokens that the limits allowed.
    pub(crate) fn snapshot(&self, now: Instant, allowed: [u64; 2]) -> SimStats {
        let answered = lock(&self.answered);
        SimStats {
            simulated: true,
            started: (now - self.started).as_secs_f64(),
            requests: self.requests.load(Relaxed),
            invalid: self.invalid.load(Relaxed),
            admitted: self.admitted.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            answered: answered.replies,
            rankings: self.rankings.load(Relaxed),
            proposals: self.proposals.load(Relaxed),
            unusable_rankings: self.unusable_rankings.load(Relaxed),
            errors: self.errors.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            malformed: self.malformed.load(Relaxed),
            refusals: self.refusals.load(Relaxed),
            resets: self.resets.load(Relaxed),
            stalls: self.stalls.load(Relaxed),
            files: self.files.load(Relaxed),
            batches: self.batches.load(Relaxed),
            batch_questions: self.batch_questions.load(Relaxed),
            expired_batches: self.expired_batches.load(Relaxed),
            cancelled_batches: self.cancelled_batches.load(Relaxed),
            allowed_requests: allowed[0],
            allowed_tokens: allowed[1],
            in_flight: self.in_flight.load(Relaxed),
            max_in_flight: self.max_in_flight.load(Relaxed),
            prompt_tokens: answered.tokens.prompt,
            cached_tokens: answered.tokens.cached,
            completion_tokens: answered.tokens.completion,
            cold_prompts: answered.cold,
            distinct_criteria: answered.criteria.len() as u64,
            repeated_criteria: answered.repeated,
            unknown_criteria: answered.unknown,
        }
    }
}

// === impl InFlight ===

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Relaxed);
    }
}
