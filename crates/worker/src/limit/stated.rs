//! What headers say, as limits by the minute.
//!
//! Owns the reading of a window's length: most are minutes, some accounts count requests by the
//! day. It applies nothing.

use std::time::Duration;

use tribunal_store::{Meter, QuotaLimits};

use crate::provider::{LimitHeaders, LimitWindow};

/// A reset further away than this is not that of a minute.
const MINUTE: Duration = Duration::from_secs(61);

/// The limits that the headers of answers have stated.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stated {
    windows: [Option<LimitWindow>; 4],
    limits: QuotaLimits,
}

/// What is left on a meter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Remaining {
    pub(super) meter: Meter,
    pub(super) units: f64,
}

// === impl Stated ===

impl Stated {
    pub(super) fn read(headers: &LimitHeaders) -> Self {
        let windows =
            [headers.requests, headers.tokens, headers.input_tokens, headers.output_tokens];
        let mut limits = QuotaLimits::default();
        for (meter, window) in Meter::ALL.into_iter().zip(&windows) {
            *limits.on_mut(meter) = window.as_ref().and_then(per_minute);
        }
        Self { windows, limits }
    }

    pub(super) fn limits(&self) -> &QuotaLimits {
        &self.limits
    }

    /// Takes limits over; returns those that are new or other than before.
    pub(super) fn learn(&mut self, seen: &Stated) -> QuotaLimits {
        let mut news = QuotaLimits::default();
        for (meter, limit) in seen.limits.each() {
            let known = self.limits.on_mut(meter);
            // A day's rate is reckoned from what was used, and is never twice the same.
            let same = known.is_some_and(|known| (known / limit - 1.0).abs() < 0.05);
            if !same {
                *known = Some(limit);
                *news.on_mut(meter) = Some(limit);
            }
        }
        news
    }

    /// What is left of windows of a minute.
    pub(super) fn remaining(&self) -> impl Iterator<Item = Remaining> + '_ {
        Meter::ALL.into_iter().zip(&self.windows).filter_map(|(meter, window)| {
            let window = window.as_ref()?;
            let is_minute = window.reset.is_none_or(|reset| reset <= MINUTE);
            let units = window.remaining.filter(|_| is_minute)? as f64;
            Some(Remaining { meter, units })
        })
    }
}

/// The window's limit for a minute.
fn per_minute(window: &LimitWindow) -> Option<f64> {
    let limit = window.limit.filter(|limit| *limit > 0)? as f64;
    let Some(reset) = window.reset.filter(|reset| *reset > MINUTE) else { return Some(limit) };
    // It refills evenly: what was used comes back by the reset.
    let used = limit - window.remaining? as f64;
    let minutes = (limit * reset.as_secs_f64() / used.max(1.0) / 60.0).clamp(1.0, 1_440.0);
    Some(limit / minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_minutes_unless_their_reset_is_further_away() {
        let window = |limit, remaining, reset_ms| LimitWindow {
            limit: Some(limit),
            remaining: Some(remaining),
            reset: Some(Duration::from_millis(reset_ms)),
        };
        for (window, expected) in [
            (window(600, 9, 100), Some(600.0)),
            (window(600, 599, 59_000), Some(600.0)),
            (window(0, 0, 0), None),
            // 30 of 14,400 a day used: back in 180 s.
            (window(14_400, 14_370, 180_000), Some(10.0)),
            (window(14_400, 0, 86_400_000), Some(10.0)),
        ] {
            assert_eq!(per_minute(&window), expected, "{window:?}");
        }
    }
}
