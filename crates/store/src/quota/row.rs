//! One pool's row: buckets that refill, a hold, and who is next.
//!
//! Owns the arithmetic of granting. Times come in as milliseconds of the store's clock, which may
//! step; amounts are per minute. How the rates move is `probe`'s.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Meter, QuotaAsk, QuotaGrant, QuotaLimits, QuotaReport, QuotaView, Spend};

/// Seconds' worth of a rate that a bucket holds. A grant may be spent half a second late, so the
/// provider sees bursts of twice this: about a second's.
const BURST_S: f64 = 0.5;

/// The same while nothing is known of the provider.
const RAMP_BURST_S: f64 = 0.05;

/// Share of a known limit that is used: the rest pays for clocks and networks that jitter.
pub(super) const PACE: f64 = 0.99;

/// Seconds' worth of a rate that comes along with a need: what is left of a bucket must not run over
/// before the next ask.
const AHEAD_S: f64 = 0.25;

/// Share of a bucket that is waited for where more is wanted than a need: the store is asked for a few
/// calls at a time, not for each. Far from all of it, for a full bucket loses what flows in.
const PORTION: f64 = 0.2;

/// How long a configured limit holds after the last ask of a worker that has it.
const CONFIGURED_MS: i64 = 5_000;

/// A time so much earlier than the last is a clock that was set back. Less is another connection that
/// has read it and then waited for the row.
const STEP_MS: i64 = 60_000;

/// How long beyond its wait the next in line is waited for.
const NEXT_MS: i64 = 500;

/// Everything that is kept of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct QuotaRow {
    pub(super) buckets: [Bucket; 4],
    /// No call goes out before.
    pub(super) not_before_ms: i64,
    /// What workers were configured with, and when one last said so.
    configured: QuotaLimits,
    configured_ms: i64,
    /// Whose need is served next: the worker, and until when the others wait for it.
    next: Option<(tribunal_core::WorkerId, i64)>,
    /// Whether the rate of requests still doubles: nothing is known of the provider's limits.
    pub(super) ramping: bool,
    /// Whether the rates are the first guesses after that.
    pub(super) settling: bool,
    /// When the rates were last cut.
    pub(super) cut_ms: Option<i64>,
    /// By how much calls that were turned away after the last cut have made the wait longer.
    #[serde(default)]
    pub(super) owed_ms: i64,
    /// When the slice began over which growth is decided.
    pub(super) slice_ms: i64,
    /// Whether somebody was told to wait in it.
    #[serde(default)]
    pub(super) lacked: bool,
    /// When the row was made.
    pub(super) made_ms: i64,
    /// The latest time that it was used at.
    #[serde(default)]
    seen_ms: i64,
}

/// One meter of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Bucket {
    /// The limit that headers state.
    pub(super) stated: Option<f64>,
    /// The rate found by probing, or on its way back to the limit; `None` where the limit alone holds.
    pub(super) rate: Option<f64>,
    /// The rate from which growth is reckoned.
    pub(super) base: f64,
    /// Whether the rate is on its way to a limit that headers have raised.
    #[serde(default)]
    pub(super) rising: bool,
    /// What may be granted; negative after a grant larger than the bucket.
    level: f64,
    /// When `level` was right.
    at_ms: i64,
    /// Spent since the rates were last cut.
    pub(super) since_cut: f64,
    /// Spent since the slice began.
    pub(super) in_slice: f64,
    /// The rate at which it was spent in the slice before.
    pub(super) used: f64,
}

// === impl QuotaRow ===

impl QuotaRow {
    /// A pool of which nothing is known.
    pub(crate) fn new(now: i64) -> Self {
        let mut row = Self {
            buckets: [Bucket { at_ms: now, ..Bucket::default() }; 4],
            not_before_ms: now,
            configured: QuotaLimits::default(),
            configured_ms: now,
            next: None,
            ramping: false,
            settling: false,
            cut_ms: None,
            owed_ms: 0,
            slice_ms: now,
            lacked: false,
            made_ms: now,
            seen_ms: now,
        };
        row.start_ramp();
        row
    }

    /// The row as it is kept, or `None` for text that is no row.
    pub(crate) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The row's text.
    pub(crate) fn text(&self) -> String {
        // Numbers that are finite and names alone: it cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Grants what is asked for, or says when to ask again.
    pub(crate) fn take(&mut self, now: i64, ask: &QuotaAsk) -> QuotaGrant {
        self.follow(now);
        self.configure(now, &ask.configured);
        self.refill(now);
        self.spend(-ask.returned + ask.unmetered);
        self.grow(now);
        let rates = self.rates();
        let wait = self.wait(now, ask, &rates);
        let view = self.view(now);
        if ask.need == Spend::default() {
            return QuotaGrant { granted: Spend::default(), wait: Duration::ZERO, view };
        }
        let mine = self.next.is_some_and(|(worker, _)| worker == ask.worker);
        if wait > 0.0 {
            self.lacked = true;
            let wait_ms = (wait * 1000.0).ceil() as i64;
            if mine || self.next.is_none() {
                self.next = Some((ask.worker, now + wait_ms + NEXT_MS));
            }
            return QuotaGrant { granted: Spend::default(), wait: millis(wait_ms), view };
        }
        if mine {
            self.next = None;
        }
        let granted = self.granted(ask, &rates);
        self.spend(granted);
        QuotaGrant { granted, wait: Duration::ZERO, view }
    }

    /// Takes in what a worker learnt.
    pub(crate) fn report(&mut self, now: i64, report: &QuotaReport) -> QuotaView {
        self.follow(now);
        self.refill(now);
        self.spend(-report.returned);
        self.state(&report.stated);
        if let Some(rejected) = &report.rejected {
            self.reject(now, rejected);
        }
        self.view(now)
    }

    fn view(&self, now: i64) -> QuotaView {
        QuotaView {
            rates: self.rates(),
            hold: millis(self.not_before_ms - now),
            burst_s: self.burst_s(),
        }
    }

    fn burst_s(&self) -> f64 {
        if self.ramping { RAMP_BURST_S } else { BURST_S }
    }

    /// What a bucket of this rate holds.
    pub(super) fn capacity(&self, rate: f64) -> f64 {
        (rate / 60.0 * self.burst_s()).max(1.0)
    }

    /// The limit on a meter, as configured or stated, less the margin.
    pub(super) fn limit(&self, meter: Meter) -> Option<f64> {
        let stated = self.bucket(meter).stated;
        let configured = self.configured.on(meter);
        let limit = stated.into_iter().chain(configured).reduce(f64::min)?;
        Some(limit * PACE)
    }

    /// The rate in force on a meter.
    pub(super) fn rate(&self, meter: Meter) -> Option<f64> {
        self.limit(meter).into_iter().chain(self.bucket(meter).rate).reduce(f64::min)
    }

    pub(super) fn rates(&self) -> QuotaLimits {
        let mut rates = QuotaLimits::default();
        for meter in Meter::ALL {
            *rates.on_mut(meter) = self.rate(meter);
        }
        rates
    }

    pub(super) fn knows_a_limit(&self) -> bool {
        Meter::ALL.into_iter().any(|meter| self.limit(meter).is_some())
    }

    pub(super) fn bucket(&self, meter: Meter) -> &Bucket {
        &self.buckets[meter as usize]
    }

    pub(super) fn bucket_mut(&mut self, meter: Meter) -> &mut Bucket {
        &mut self.buckets[meter as usize]
    }

    /// Leaves at most this on a meter at a time that may lie ahead.
    pub(super) fn drain(&mut self, meter: Meter, level: f64, at_ms: i64) {
        let bucket = self.bucket_mut(meter);
        bucket.level = bucket.level.min(level);
        bucket.at_ms = bucket.at_ms.max(at_ms);
    }

    /// Fills a meter that has just got its first rate.
    pub(super) fn fill(&mut self, meter: Meter) {
        if let Some(rate) = self.rate(meter) {
            self.bucket_mut(meter).level = self.capacity(rate);
        }
    }

    fn configure(&mut self, now: i64, configured: &QuotaLimits) {
        let recent = (0..=CONFIGURED_MS).contains(&(now - self.configured_ms));
        let expires = !recent && self.configured.any();
        if !(configured.any() || expires) {
            return;
        }
        let before = self.rates();
        (self.configured, self.configured_ms) = (*configured, now);
        if self.ramping && self.knows_a_limit() {
            self.end_ramp();
        } else if !self.rates().any() {
            self.start_ramp();
        }
        self.fill_new(&before);
    }

    /// Fills every meter that had no rate before.
    pub(super) fn fill_new(&mut self, before: &QuotaLimits) {
        for meter in Meter::ALL {
            if before.on(meter).is_none() {
                self.fill(meter);
            }
        }
    }

    /// Moves every time along with a clock that was set back: nobody is held until it has caught up.
    fn follow(&mut self, now: i64) {
        let back = self.seen_ms - now;
        if back >= STEP_MS {
            let times = [
                &mut self.not_before_ms,
                &mut self.configured_ms,
                &mut self.slice_ms,
                &mut self.made_ms,
            ];
            let at = self.buckets.iter_mut().map(|bucket| &mut bucket.at_ms);
            let cut = self.cut_ms.iter_mut();
            let until = self.next.iter_mut().map(|(_, until)| until);
            times.into_iter().chain(at).chain(cut).chain(until).for_each(|time| *time -= back);
            self.seen_ms = now;
        }
        self.seen_ms = self.seen_ms.max(now);
    }

    fn refill(&mut self, now: i64) {
        for meter in Meter::ALL {
            let rate = self.rate(meter);
            let capacity = rate.map(|rate| self.capacity(rate));
            let bucket = self.bucket_mut(meter);
            // A time ahead of now: the provider asked to wait. Far ahead: the clock stepped back.
            if bucket.at_ms > now + 86_400_000 {
                bucket.at_ms = now;
            }
            if bucket.at_ms >= now {
                continue;
            }
            if let Some((rate, capacity)) = rate.zip(capacity) {
                let passed = (now - bucket.at_ms) as f64 / 60_000.0;
                bucket.level = (bucket.level + passed * rate).min(capacity);
            }
            bucket.at_ms = now;
        }
        let far = |ms: i64| ms > now + 86_400_000;
        if far(self.not_before_ms) {
            self.not_before_ms = now;
        }
        if self.slice_ms > now {
            self.slice_ms = now;
        }
        if self.cut_ms.is_some_and(|cut| cut > now) {
            self.cut_ms = Some(now);
        }
        self.made_ms = self.made_ms.min(now);
        if self.next.is_some_and(|(_, until)| until <= now || far(until)) {
            self.next = None;
        }
    }

    /// Seconds until the ask's need and some of what it wants may be granted; 0 for now.
    fn wait(&self, now: i64, ask: &QuotaAsk, rates: &QuotaLimits) -> f64 {
        let mut wait = (self.not_before_ms - now).max(0) as f64 / 1000.0;
        for (meter, rate) in rates.each() {
            let (need, want) = (ask.need.on(meter) as f64, ask.want.on(meter).max(0) as f64);
            let need = (need + want).min(PORTION * rate / 60.0 * self.burst_s()).max(need);
            let need = need.min(self.capacity(rate));
            let bucket = self.bucket(meter);
            let ahead = (bucket.at_ms - now).max(0) as f64 / 1000.0;
            // A little less, for what whole milliseconds took.
            let missing = need - 1e-6 - bucket.level;
            if need > 0.0 && missing > 0.0 {
                wait = wait.max(ahead + missing * 60.0 / rate);
            }
        }
        match self.next {
            Some((worker, until)) if worker != ask.worker && wait <= 0.0 => {
                // Somebody's larger need comes first.
                ((until - now) as f64 / 1000.0).clamp(0.001, 0.05)
            }
            _ => wait,
        }
    }

    /// The need, and what fits of what is wanted besides.
    fn granted(&self, ask: &QuotaAsk, rates: &QuotaLimits) -> Spend {
        let mut share: f64 = 1.0;
        for (meter, rate) in rates.each() {
            let want = ask.want.on(meter).max(0) as f64;
            let left = self.bucket(meter).level - ask.need.on(meter) as f64;
            let most = left.min(rate / 60.0 * AHEAD_S).max(0.0);
            if want > most {
                share = share.min(most / want);
            }
        }
        let part = |want: i64| (want.max(0) as f64 * share).floor() as i64;
        let want = ask.want;
        let along = Spend {
            requests: part(want.requests),
            input: part(want.input),
            output: part(want.output),
        };
        ask.need + along
    }

    fn spend(&mut self, spend: Spend) {
        for meter in Meter::ALL {
            let rate = self.rate(meter).map(|rate| (rate, self.capacity(rate)));
            let amount = spend.on(meter) as f64;
            let bucket = self.bucket_mut(meter);
            bucket.since_cut = (bucket.since_cut + amount).max(0.0);
            bucket.in_slice += amount;
            if let Some((rate, capacity)) = rate {
                // Nobody owes more than a minute.
                bucket.level = (bucket.level - amount).clamp(-rate, capacity);
            }
        }
    }
}

/// Milliseconds that may be negative.
fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
