//! How a pool's rates move: up while they are used, down when the provider turns a call away.
//!
//! Owns slow start, growth and cuts. A rate is cut to what the provider let through since the last
//! cut, where that is known, else by a factor; it grows slowly at first and ever faster the longer
//! nothing is turned away, and only while it is used.

use super::{Meter, QuotaLimits, Rejected, row::QuotaRow};

/// Requests a minute that an unknown endpoint is sent at first.
const START: f64 = 6_000.0;

/// Milliseconds in which an unknown endpoint's rate doubles.
const DOUBLES_MS: f64 = 50.0;

/// A rate beyond which there is none: requests, tokens.
const NO_RATE: [f64; 2] = [600_000.0, 1e10];

/// The lowest rates: requests, tokens.
const FLOOR: [f64; 2] = [6.0, 6_000.0];

/// Seconds after a cut within which another one shows what the provider lets through.
const RECENT_S: f64 = 15.0;

/// Calls let through since the last cut that show a rate.
const SHOWS: f64 = 5.0;

/// Seconds since the last cut that are too few to tell a limit from the answers under way.
const SHORT_S: f64 = 1.0;

/// Share of what was let through that is sent after a cut.
const BELOW: f64 = 0.97;

/// Calls and seconds without a cut that show that a rate was well guessed.
const SETTLED: f64 = 15.0;
const SETTLED_S: f64 = 2.0;

/// Seconds without a cut after which growth is twice as fast as right after one.
const FASTER_S: f64 = 14.0;

/// Requests a minute below which growth is slower.
const SLOW: f64 = 600.0;

/// The most that a rate grows by in a second, as a share of it.
const FASTEST: f64 = 0.1;

/// The same towards a limit that headers have raised: they are the provider's word.
const RISES: f64 = 0.2;

// === impl QuotaRow ===

impl QuotaRow {
    pub(super) fn start_ramp(&mut self) {
        self.ramping = true;
        self.bucket_mut(Meter::Requests).rate = Some(START);
        self.fill(Meter::Requests);
    }

    /// A limit is known, or there is none: the rate of requests is no guess any more.
    pub(super) fn end_ramp(&mut self) {
        self.ramping = false;
        self.bucket_mut(Meter::Requests).rate = None;
        if let Some(rate) = self.rate(Meter::Requests) {
            self.drain(Meter::Requests, self.capacity(rate), 0);
        }
    }

    /// Takes in limits that headers state: lower ones hold at once, higher ones are grown to.
    pub(super) fn state(&mut self, stated: &QuotaLimits) {
        let before = self.rates();
        for (meter, limit) in stated.each() {
            let rate = self.rate(meter);
            let bucket = self.bucket_mut(meter);
            let known = bucket.stated.replace(limit);
            if let (Some(known), Some(rate)) = (known, rate)
                && limit > known
            {
                (bucket.rate, bucket.base, bucket.rising) = (Some(rate), rate, true);
            }
        }
        if self.ramping && self.knows_a_limit() {
            self.end_ramp();
        }
        self.fill_new(&before);
    }

    /// A call was turned away.
    pub(super) fn reject(&mut self, now: i64, rejected: &Rejected) {
        let ms = |duration: std::time::Duration| {
            i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
        };
        let before = self.not_before_ms.max(now);
        self.not_before_ms = before.max(now.saturating_add(ms(rejected.wait)));
        let sent = now - ms(rejected.sent_ago);
        let since = self.cut_ms.unwrap_or(self.made_ms) + self.owed_ms;
        let seconds = (now - since).max(1) as f64 / 1000.0;
        let recent = self.cut_ms.is_some() && seconds <= RECENT_S;
        // Those under way when the rates were cut are of that cut. So are those that came right behind it,
        // into the debt that the others had made where rejected calls are charged.
        let behind =
            self.owed_ms > 0 && seconds < SHORT_S && self.bucket(Meter::Requests).since_cut < SHOWS;
        if self.cut_ms.is_some_and(|cut| sent <= cut || behind) {
            // They deepen the debt: what refills while that is paid is not the next calls', and shows no
            // rate.
            self.owed_ms += self.not_before_ms - before;
            self.empty(now);
            return;
        }
        // The provider's bucket was empty when the call of the last cut was sent and when this one
        // was: so much went through between them, give or take half a call. What was sent after this
        // one has no answer yet.
        let calls = self.bucket(Meter::Requests).since_cut.max(1.0);
        let answered = 1.0 - (ms(rejected.sent_ago) as f64 / 1000.0 / seconds).min(0.5);
        let through = (calls - 0.5) / calls * answered * 60.0 / seconds;
        let weak = calls < SETTLED || seconds < SHORT_S;
        let known = self.knows_a_limit();
        let meters: &[Meter] = match &rejected.meter {
            Some(meter) => std::slice::from_ref(meter),
            None => &[Meter::Requests, Meter::Tokens],
        };
        for meter in meters {
            let [floor, _] = bounds(*meter);
            let rate = self.rate(*meter);
            let bucket = *self.bucket(*meter);
            let used = (bucket.used > 0.0 && !known).then_some(bucket.used);
            // A few calls show little: after a ramp that is soon mended, later it is not.
            let share = match (calls >= SHOWS, self.settling) {
                (false, true) => 0.3,
                (false, false) => 0.75,
                // Nor does a moment, in which a few late answers weigh much.
                (true, false) if weak => 0.5,
                (true, _) => 0.0,
            };
            let least = rate.unwrap_or(0.0) * share;
            // Of a meter without a rate a few calls say nothing at all.
            if rate.is_none() && calls < SHOWS {
                continue;
            }
            let cut = match rate {
                Some(rate) if recent => (bucket.since_cut * through * BELOW).min(rate * 0.95),
                None if recent => bucket.since_cut * through * BELOW,
                Some(rate) if self.ramping => rate * 0.5,
                Some(rate) => used.map_or(rate, |used| used.min(rate)) * 0.95,
                // Of a meter without a rate nothing else is known.
                None => match used {
                    Some(used) => used * 0.95,
                    None => continue,
                },
            };
            let cut = cut.max(floor).max(least);
            let bucket = self.bucket_mut(*meter);
            // What a moment shows may be far too little: it is grown back from faster.
            let back = rate.map_or(cut, |rate| rate.min(2.0 * cut));
            let base = if recent && seconds < SHORT_S { back } else { cut };
            (bucket.rate, bucket.base, bucket.rising) = (Some(cut), base, false);
        }
        self.empty(now);
        for meter in Meter::ALL {
            self.bucket_mut(meter).since_cut = 0.0;
            self.bucket_mut(meter).in_slice = 0.0;
        }
        // After a ramp the first cuts are quick guesses, and low ones; so is a cut soon after another, for
        // which a few answers that came late are enough.
        self.settling = self.ramping
            || (self.settling && (calls < SETTLED || seconds < SETTLED_S))
            || (recent && weak);
        self.ramping = false;
        (self.cut_ms, self.owed_ms) = (Some(now), 0);
        self.slice_ms = self.not_before_ms.max(now).min(now + 60_000);
    }

    /// The provider's bucket is empty: one call may go when the wait is over.
    fn empty(&mut self, now: i64) {
        let at = self.not_before_ms.max(now);
        for meter in Meter::ALL {
            let left = if meter == Meter::Requests { 1.0 } else { 0.0 };
            self.drain(meter, left, at);
        }
    }

    /// Lets rates grow that were used in the slice that has passed.
    pub(super) fn grow(&mut self, now: i64) {
        let slice = (now - self.slice_ms) as f64;
        let calls = self.bucket(Meter::Requests).in_slice;
        // A question may be larger than what a low rate lets through in a minute: while one waits for a
        // limit that was raised, the rate grows without a call.
        let waits = self.lacked && self.buckets.iter().any(|bucket| bucket.rising);
        let over = match self.ramping {
            true => slice >= DOUBLES_MS,
            false => slice >= 1_000.0 && (calls >= 5.0 || slice >= 10_000.0 || waits),
        };
        if !over {
            return;
        }
        let seconds = slice / 1000.0;
        let quiet = (now - self.cut_ms.unwrap_or(self.made_ms)).max(0) as f64 / 1000.0;
        // Slow pools have few calls in a second: they grow by calls, not by seconds.
        let slow =
            self.rate(Meter::Requests).map_or(1.0, |rate| (rate / SLOW).clamp(0.01, 1.0).sqrt());
        let share = match self.settling {
            true => FASTEST * slow,
            false => (0.005 * (1.0 + (quiet * slow / FASTER_S).powi(2)) * slow).min(FASTEST),
        };
        for meter in Meter::ALL {
            let limit = self.limit(meter);
            let ramping = self.ramping;
            let bucket = self.bucket_mut(meter);
            let used = std::mem::take(&mut bucket.in_slice);
            bucket.used = (used * 60.0 / seconds).max(0.0);
            let Some(rate) = bucket.rate else { continue };
            let rising = bucket.rising;
            let busy = used >= 0.6 * rate / 60.0 * seconds || (rising && waits);
            let [_, no_rate] = bounds(meter);
            let grown = match (busy, ramping) {
                // Nothing is learnt from a rate that is not used.
                (false, _) => rate,
                (true, true) => rate * 2_f64.powf((slice / DOUBLES_MS).min(2.0)),
                (true, false) if rising => rate * (1.0 + RISES * seconds.min(2.0)),
                (true, false) => {
                    let share = if limit.is_some() { share.max(0.02) } else { share };
                    rate + bucket.base.max(rate / 2.0) * share * seconds.min(2.0)
                }
            };
            let end = limit.unwrap_or(no_rate);
            bucket.rate = (grown < end).then_some(grown);
            bucket.rising &= grown < end;
        }
        self.lacked = false;
        if self.bucket(Meter::Requests).rate.is_none() {
            self.ramping = false;
        }
        self.slice_ms = now;
    }
}

/// The lowest rate of a meter, and the one beyond which there is none.
fn bounds(meter: Meter) -> [f64; 2] {
    let at = usize::from(meter != Meter::Requests);
    [FLOOR[at], NO_RATE[at]]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

    use super::*;
    use crate::quota::{QuotaAsk, QuotaReport, Spend};

    /// A provider that says nothing but 429, with a second's burst.
    struct Provider {
        per_minute: f64,
        level: f64,
        charges_rejected: bool,
        at: i64,
    }

    struct Counts {
        offered: f64,
        admitted: f64,
        rejected: f64,
    }

    impl Provider {
        fn new(per_minute: f64, charges_rejected: bool) -> Self {
            Self { per_minute, level: per_minute / 60.0, charges_rejected, at: 0 }
        }

        fn admits(&mut self, now: i64) -> bool {
            let rate = self.per_minute / 60_000.0;
            self.level += (now - self.at) as f64 * rate;
            self.level = self.level.min((self.per_minute / 60.0).max(1.0));
            self.at = now;
            let admitted = self.level >= 1.0;
            if admitted || self.charges_rejected {
                self.level = (self.level - 1.0).max(-self.per_minute);
            }
            admitted
        }

        fn retry_ms(&self) -> i64 {
            ((1.0 - self.level).max(0.0) * 60_000.0 / self.per_minute).ceil() as i64
        }
    }

    /// One call of a worker that has nothing configured.
    fn ask() -> QuotaAsk {
        QuotaAsk {
            worker: tribunal_core::WorkerId::from_bytes([1; 16]),
            need: Spend::call(1_000, 100),
            want: Spend::default(),
            returned: Spend::default(),
            unmetered: Spend::default(),
            configured: QuotaLimits::default(),
        }
    }

    /// A worker with endless work, whose answers of 429 take `lag` milliseconds; the provider's
    /// limit becomes `limits[i]` at each `every` seconds.
    fn work(limits: &[f64], every: i64, charges: bool, hinted: bool, lag: i64) -> Counts {
        let mut provider = Provider::new(limits[0], charges);
        let mut row = QuotaRow::new(0);
        let mut counts = Counts { offered: 0.0, admitted: 0.0, rejected: 0.0 };
        let ask = ask();
        let mut answers: std::collections::VecDeque<(i64, i64, i64)> = Default::default();
        for now in 0..every * 1_000 * limits.len() as i64 {
            let limit = limits[usize::try_from(now / (every * 1_000)).unwrap()];
            provider.per_minute = limit;
            counts.offered += limit / 60_000.0;
            while let Some((_, sent, wait)) = answers.pop_front_if(|(at, ..)| *at <= now) {
                let wait = Duration::from_millis(u64::try_from(wait).unwrap());
                let sent_ago = Duration::from_millis(u64::try_from(now - sent).unwrap());
                let rejected = Some(Rejected { wait, sent_ago, meter: None });
                row.report(now, &QuotaReport { rejected, ..QuotaReport::default() });
            }
            // As many as a millisecond of a fast pool has.
            for _ in 0..4 {
                if row.take(now, &ask).granted != ask.need {
                    break;
                }
                if provider.admits(now) {
                    counts.admitted += 1.0;
                } else {
                    counts.rejected += 1.0;
                    let wait = if hinted { provider.retry_ms() } else { 1_000 };
                    answers.push_back((now + lag, now, wait));
                }
            }
        }
        counts
    }

    #[test]
    fn an_unknown_limit_is_found_and_kept() {
        for (limit, charges, hinted, lag) in [
            (60.0, false, true, 1),
            (600.0, false, true, 1),
            (600.0, true, true, 1),
            (600.0, false, false, 30),
            (6_000.0, false, true, 5),
            (6_000.0, true, true, 30),
        ] {
            let seconds = if limit < 100.0 { 3_600 } else { 300 };
            let counts = work(&[limit], seconds, charges, hinted, lag);
            let (used, rejected) =
                (counts.admitted / counts.offered, counts.rejected / counts.admitted);
            assert!(used >= 0.9 && rejected <= 0.02, "{limit}: {used:.3}, {rejected:.4}");
        }
    }

    #[test]
    fn a_limit_that_is_cut_in_half_is_followed() {
        for (charges, lag) in [(false, 1), (true, 1), (false, 30), (true, 10)] {
            for limit in [600.0, 6_000.0] {
                let limits = [limit, limit / 2.0, limit];
                let counts = work(&limits, 150, charges, true, lag);
                let (used, rejected) =
                    (counts.admitted / counts.offered, counts.rejected / counts.admitted);
                assert!(used >= 0.85 && rejected <= 0.02, "{limit}: {used:.3}, {rejected:.4}");
            }
        }
    }

    /// A worker with 64 calls in flight at most, on a network and a machine that hold each call up by as
    /// much as `jitter` milliseconds before the provider and again behind it; the limit is cut in half
    /// at half of 9,000 calls.
    fn work_through_jitter(jitter: i64, charges: bool, seed: u64) -> Counts {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut provider = Provider::new(6_000.0, charges);
        let mut row = QuotaRow::new(0);
        let mut counts = Counts { offered: 0.0, admitted: 0.0, rejected: 0.0 };
        let ask = ask();
        // When they arrive, and when they were sent; for answers the wait besides, where they are a 429.
        let mut calls: Vec<(i64, i64)> = Vec::new();
        let mut answers: Vec<(i64, i64, Option<i64>)> = Vec::new();
        let ms = |number: i64| Duration::from_millis(u64::try_from(number).unwrap());
        for now in 0.. {
            if counts.admitted >= 9_000.0 {
                break;
            }
            provider.per_minute = if counts.admitted < 4_500.0 { 6_000.0 } else { 3_000.0 };
            counts.offered += provider.per_minute / 60_000.0;
            for (_, sent, wait) in answers.extract_if(.., |(at, ..)| *at <= now) {
                let Some(wait) = wait else { continue };
                let (wait, sent_ago) = (ms(wait), ms(now - sent));
                let rejected = Some(Rejected { wait, sent_ago, meter: None });
                row.report(now, &QuotaReport { rejected, ..QuotaReport::default() });
            }
            for (_, sent) in calls.extract_if(.., |(at, _)| *at <= now) {
                if provider.admits(now) {
                    counts.admitted += 1.0;
                    answers.push((now + 200, sent, None));
                } else {
                    counts.rejected += 1.0;
                    let back = now + 5 + random.random_range(0..jitter);
                    answers.push((back, sent, Some(provider.retry_ms())));
                }
            }
            while answers.len() + calls.len() < 64 && row.take(now, &ask).granted == ask.need {
                calls.push((now + 1 + random.random_range(0..jitter), now));
            }
        }
        counts
    }

    #[test]
    fn a_limit_is_followed_though_calls_are_held_up() {
        for (jitter, charges) in [(30, false), (80, false), (30, true), (80, true)] {
            let mut shares: Vec<f64> = (0..5)
                .map(|seed| {
                    let counts = work_through_jitter(jitter, charges, seed);
                    let rejected = counts.rejected / counts.admitted;
                    assert!(rejected <= 0.02, "{jitter}, {charges}, {seed}: {rejected:.4}");
                    counts.admitted / counts.offered
                })
                .collect();
            shares.sort_by(f64::total_cmp);
            assert!(shares[0] >= 0.9 && shares[2] >= 0.95, "{jitter}, {charges}: {shares:.3?}");
        }
    }

    #[test]
    fn an_endpoint_without_limit_is_soon_sent_everything() {
        let mut row = QuotaRow::new(0);
        let ask = ask();
        let free = (0..10_000).find(|now| {
            while row.rates().any() && row.take(*now, &ask).granted == ask.need {}
            !row.rates().any()
        });
        assert!(free.is_some_and(|ms| ms < 600), "after {free:?} ms");
    }
}
