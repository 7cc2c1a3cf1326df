//! Whether an endpoint is called at all.
//!
//! Owns the circuit breaker as plain state: nothing here waits, and the clock is the caller's. What a
//! failure means for a leaf is the attempt's; which endpoint is called instead, the route's.

use std::time::Duration;

use tokio::time::Instant;

/// When an endpoint rests, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open the breaker; 0 = it never opens by itself.
    pub failures: u32,
    /// The first rest; it doubles with each probe that fails.
    pub base: Duration,
    /// The longest rest.
    pub max: Duration,
}

/// What an endpoint's breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Every call.
    Closed,
    /// One call, which shows whether it is to close.
    HalfOpen,
    /// None for so long.
    Open(Duration),
}

/// The right to one call; to be handed back with what came of it.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Pass {
    /// Which probe it is; `None` for a call through a closed breaker.
    probe: Option<u64>,
}

/// What a call says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answers, be it with a refusal of this one question.
    Alive,
    /// It cannot be reached, breaks off, or fails by its own fault.
    Failed,
    /// It refuses this account: every call would fail.
    Refused,
    /// The call was abandoned.
    None,
}

/// What a call changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The breaker opened, or a probe kept it open: no call for so long.
    Opened(Duration),
    /// The endpoint is called again.
    Closed,
}

/// The circuit breaker of one endpoint.
#[derive(Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: State,
    /// Rests in a row.
    rests: u32,
    /// When the first of the failures in a row came.
    failing_since: Option<Instant>,
    probes: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// With so many failures in a row.
    Closed(u32),
    /// Until then, and from then on until somebody probes.
    Open(Instant),
    /// A probe is out.
    Probing(u64),
}

// === impl Pass ===

impl Pass {
    /// Whether the call shows if the breaker is to close.
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

// === impl Breaker ===

impl Breaker {
    /// A closed breaker.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: State::Closed(0), rests: 0, failing_since: None, probes: 0 }
    }

    /// What it lets through.
    pub fn circuit(&self, now: Instant) -> Circuit {
        match self.state {
            State::Closed(_) => Circuit::Closed,
            State::Open(until) if until <= now => Circuit::HalfOpen,
            State::Open(until) => Circuit::Open(until - now),
            // Nobody knows when the probe's answer comes.
            State::Probing(_) => Circuit::Open(self.rest()),
        }
    }

    /// Lets a call out.
    ///
    /// # Errors
    ///
    /// How long none goes out.
    pub fn admit(&mut self, now: Instant) -> Result<Pass, Duration> {
        match self.circuit(now) {
            Circuit::Closed => Ok(Pass { probe: None }),
            Circuit::HalfOpen => {
                self.probes += 1;
                self.state = State::Probing(self.probes);
                Ok(Pass { probe: Some(self.probes) })
            }
            Circuit::Open(wait) => Err(wait),
        }
    }

    /// A call is over.
    pub fn ended(&mut self, pass: Pass, sign: Sign, now: Instant) -> Option<Change> {
        let probes = matches!(self.state, State::Probing(probe) if pass.probe == Some(probe));
        match (sign, self.state) {
            (Sign::Alive, State::Closed(_)) => {
                self.close();
                None
            }
            // Also a call that was let out before it opened shows that the endpoint answers.
            (Sign::Alive, _) => {
                self.close();
                Some(Change::Closed)
            }
            (Sign::None, _) if probes => {
                // It showed nothing: somebody else may probe.
                self.state = State::Open(now);
                None
            }
            (Sign::None, _) => None,
            (Sign::Refused, State::Closed(_)) => Some(self.open(now)),
            (Sign::Failed, State::Closed(before)) => {
                self.failing_since.get_or_insert(now);
                let failures = before.saturating_add(1);
                self.state = State::Closed(failures);
                let opens = self.policy.failures > 0 && failures >= self.policy.failures;
                opens.then(|| self.open(now))
            }
            (Sign::Failed | Sign::Refused, _) if probes => Some(self.open(now)),
            // Calls that were let out before it opened: nothing new.
            (Sign::Failed | Sign::Refused, _) => None,
        }
    }

    /// How long nothing but failures came; `None` where the last call was answered.
    pub fn failing_for(&self, now: Instant) -> Option<Duration> {
        self.failing_since.map(|since| now.saturating_duration_since(since))
    }

    fn open(&mut self, now: Instant) -> Change {
        self.failing_since.get_or_insert(now);
        self.rests = self.rests.saturating_add(1);
        let rest = self.rest();
        self.state = State::Open(now + rest);
        Change::Opened(rest)
    }

    fn close(&mut self) {
        self.state = State::Closed(0);
        self.rests = 0;
        self.failing_since = None;
    }

    /// The rest of this opening.
    fn rest(&self) -> Duration {
        let doubled = 2_u32.saturating_pow(self.rests.saturating_sub(1).min(30));
        self.policy.base.saturating_mul(doubled).min(self.policy.max)
    }
}

#[cfg(test)]
mod tests;
