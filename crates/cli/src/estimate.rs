//! What a run will cost, before it is begun: tokens by kind, dollars as an interval, time.
//!
//! Owns the arithmetic alone. What is asked, and of whom, is `prepare`'s; what is assumed is said by
//! `command/plan.rs`.

use std::time::Duration;

use tribunal_core::{Usage, Via};
use tribunal_store::{Meter, QuotaLimits};

/// Prompts with fewer shared tokens than this are not cached (OpenAI's rule, which others keep to).
pub(crate) const MIN_CACHED_TOKENS: u64 = 1_024;

/// Cached tokens come in steps of this (OpenAI's rule).
const CACHED_STEP: u64 = 128;

/// Leaves that share a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// Leaves that the judge is asked about.
    pub(crate) leaves: u64,
    /// Tokens that their questions share.
    pub(crate) prefix: u64,
    /// Tokens of their own messages together.
    pub(crate) own: u64,
    /// Those of them that are cached: files that siblings share, behind the prefix.
    pub(crate) own_cached: u64,
}

/// Tokens of a reply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ReplySize {
    /// What one is expected to take.
    pub(crate) expected: f64,
    /// The cap that is sent.
    pub(crate) cap: u64,
}

/// Tokens of all calls together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Calls for verdicts.
    pub(crate) calls: u64,
    /// The least that is likely: prefixes are cached, replies are half as long as expected.
    pub(crate) low: Usage,
    /// What is expected.
    pub(crate) expected: Usage,
    /// The most that one call a leaf can take: nothing is cached, every reply is as long as its cap.
    pub(crate) high: Usage,
}

/// What is known of the speed at which calls are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pace {
    /// What the account allows in a minute.
    pub(crate) limits: QuotaLimits,
    /// Calls at once.
    pub(crate) concurrency: u64,
    /// What a call takes.
    pub(crate) latency: Option<Duration>,
}

// === impl Estimate ===

impl Estimate {
    /// The tokens of one call for each leaf of these groups. In each group one leaf's question goes
    /// ahead and is read whole; the others find the prefix cached.
    pub(crate) fn of(groups: &[Group], reply: ReplySize) -> Estimate {
        let calls: u64 = groups.iter().map(|group| group.leaves).sum();
        let input = groups.iter().map(|group| group.leaves * group.prefix + group.own).sum();
        let cached = |g: &Group| g.leaves.saturating_sub(1) * cacheable(g.prefix) + g.own_cached;
        let cached = groups.iter().map(cached).sum();
        let replies = |tokens: f64| (calls as f64 * tokens).round() as u64;
        let usage = |cached, output| Usage { input, cached, output };
        Estimate {
            calls,
            low: usage(cached, replies(reply.expected / 2.0)),
            expected: usage(cached, replies(reply.expected)),
            high: usage(0, calls * reply.cap),
        }
    }
}

impl Estimate {
    /// The tokens where the questions go this way. Those of a batch are answered in any order: none
    /// goes ahead to warm the cache, and only the least that is likely has prefixes cached.
    pub(crate) fn via(mut self, via: Via) -> Estimate {
        if via == Via::Batch {
            self.expected.cached = 0;
        }
        self
    }

    /// The tokens where only this share of the calls is expected to be made, in [0, 1]. All of them
    /// still may be, or none.
    pub(crate) fn share(self, share: f64) -> Estimate {
        if share >= 1.0 {
            return self;
        }
        let part = |count: u64| (count as f64 * share).round() as u64;
        let expected = Usage {
            input: part(self.expected.input),
            cached: part(self.expected.cached),
            output: part(self.expected.output),
        };
        Estimate { calls: part(self.calls), low: Usage::default(), expected, high: self.high }
    }
}

// === impl Group ===

impl Group {
    /// Counts that one of its leaves finds `files` tokens cached behind the prefix: a sibling's
    /// question, which begins with the same files, went ahead.
    pub(crate) fn follows(&mut self, files: u64) {
        self.own_cached += cacheable(self.prefix + files) - cacheable(self.prefix);
    }
}

/// Tokens of a prefix that a provider serves from its cache.
fn cacheable(prefix: u64) -> u64 {
    if prefix < MIN_CACHED_TOKENS { 0 } else { prefix / CACHED_STEP * CACHED_STEP }
}

// === impl Pace ===

impl Pace {
    /// How long so many calls with these tokens take: what the narrowest of the known limits allows.
    /// Cached tokens count like others there. `None` where nothing is known.
    pub(crate) fn time(&self, calls: u64, tokens: &Usage) -> Option<Duration> {
        let amount = |meter| match meter {
            Meter::Requests => calls,
            Meter::Tokens => tokens.input + tokens.output,
            Meter::InputTokens => tokens.input,
            Meter::OutputTokens => tokens.output,
        };
        let limited = self.limits.each().map(|(meter, limit)| amount(meter) as f64 * 60.0 / limit);
        // One call goes ahead, to warm the cache.
        let waves = if calls < 2 { calls } else { (calls - 1).div_ceil(self.concurrency) + 1 };
        let answered = self.latency.map(|latency| waves as f64 * latency.as_secs_f64());
        let seconds = limited.chain(answered).reduce(f64::max)?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_leaf_of_a_group_reads_the_prefix() {
        let group = |leaves, prefix, own| Group { leaves, prefix, own, ..Group::default() };
        let groups = [group(10, 10_000, 3_000), group(1, 50_000, 400), group(5, 1_000, 500)];
        let estimate = Estimate::of(&groups, ReplySize { expected: 500.0, cap: 2_048 });
        assert_eq!(estimate.calls, 16);
        // 9 times the 78 whole steps of 10,000; a single leaf and a short prefix find nothing.
        let (input, cached) = (100_000 + 3_000 + 50_000 + 400 + 5_000 + 500, 9 * 78 * 128);
        assert_eq!(estimate.expected, Usage { input, cached, output: 8_000 });
        assert_eq!(estimate.low, Usage { input, cached, output: 4_000 });
        assert_eq!(estimate.high, Usage { input, cached: 0, output: 16 * 2_048 });
    }

    #[test]
    fn files_that_siblings_share_are_read_once() {
        let mut group = Group { leaves: 3, prefix: 10_000, own: 15_300, ..Group::default() };
        (0..2).for_each(|_| group.follows(5_000));
        let reply = ReplySize { expected: 500.0, cap: 2_048 };
        // Each of the two that follow finds 117 steps of 128 cached.
        assert_eq!(Estimate::of(&[group], reply).expected.cached, 2 * 117 * 128);
    }

    #[test]
    fn the_narrowest_limit_says_how_long() {
        let pace = |requests, latency: Option<u64>| Pace {
            limits: QuotaLimits { requests, ..QuotaLimits::default() },
            concurrency: 10,
            latency: latency.map(Duration::from_secs),
        };
        let none = Usage::default();
        let seconds = |pace: Pace, calls| pace.time(calls, &none).map(|time| time.as_secs());
        assert_eq!(seconds(pace(None, None), 100), None);
        assert_eq!(seconds(pace(Some(60.0), None), 100), Some(100));
        assert_eq!(seconds(pace(None, Some(2)), 101), Some(22));
        assert_eq!(seconds(pace(Some(60.0), Some(2)), 101), Some(101));
        assert_eq!(seconds(pace(Some(6_000.0), Some(2)), 101), Some(22));
        assert_eq!(seconds(pace(Some(60.0), Some(2)), 0), Some(0));
        assert_eq!(seconds(pace(None, Some(2)), 1), Some(2));
        let tokens = Usage { input: 9_000, cached: 8_000, output: 1_000 };
        let tpm = |tokens, output_tokens| Pace {
            limits: QuotaLimits { tokens, output_tokens, ..QuotaLimits::default() },
            ..pace(Some(600.0), None)
        };
        let seconds = |pace: Pace| pace.time(10, &tokens).map(|time| time.as_secs());
        assert_eq!(seconds(tpm(None, None)), None);
        assert_eq!(seconds(tpm(Some(5_000.0), None)), Some(120), "cached tokens count too");
        assert_eq!(seconds(tpm(Some(5_000.0), Some(100.0))), Some(600));
    }

    proptest! {
        #[test]
        fn the_interval_holds_what_is_expected(
            groups in proptest::collection::vec((0u64..1_000, 0u64..500_000, 0u64..1_000_000), 0..5),
            cap in 16u64..100_000, share in 0.0f64..1.0,
        ) {
            let groups: Vec<Group> = groups
                .into_iter()
                .map(|(leaves, prefix, own)| Group { leaves, prefix, own, own_cached: own / 2 })
                .collect();
            let Estimate { low, expected, high, .. } =
                Estimate::of(&groups, ReplySize { expected: cap as f64 * share, cap });
            prop_assert!(low.output <= expected.output && expected.output <= high.output);
            prop_assert!(expected.cached <= expected.input);
            prop_assert_eq!((low.input, high.input), (expected.input, expected.input));
        }
    }
}
