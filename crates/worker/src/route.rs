//! The ways to a judge: its endpoints, and which of them the next call takes.
//!
//! Owns the choice: by weight and by what is on its way already (weighted least connections), past
//! endpoints that rest, refuse, or hold their calls. Each endpoint has its own limiter and its own
//! circuit breaker, which all runs of the process share. It makes no call and decides nothing about a
//! leaf.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tribunal_core::{FailureClass, WorkerId};
use tribunal_store::Store;

use crate::{
    breaker::{Breaker, BreakerPolicy, Change, Circuit, Pass, Sign},
    limit::{Limiter, SharedQuota},
    meter::Meter,
    provider::{CallFailure, Endpoint, Provider, Reply, openai::OpenAiProvider},
};

/// The way to one endpoint.
pub struct Route {
    /// Its URL, for people.
    pub name: String,
    /// Sends questions.
    pub provider: Arc<dyn Provider>,
    /// The account's limit.
    pub limiter: Arc<Limiter>,
    meter: Arc<Meter>,
    breaker: Mutex<Breaker>,
    /// Whether it refused the account's last call.
    refuses: Mutex<bool>,
    /// Questions on their way: in its lines and in flight.
    busy: AtomicUsize,
    /// Those of them that came while one call was to show whether it answers again.
    probing: AtomicUsize,
}

/// The ways to one judge, the first as the run names it.
pub struct Routes {
    routes: Vec<(Arc<Route>, NonZeroU32)>,
    /// Of each, what it is behind its share where load does not decide: smooth weighted round robin.
    credit: Mutex<Vec<i64>>,
    /// How the model's tokens are counted.
    pub meter: Arc<Meter>,
}

/// A question's way, for as long as it is on it.
pub struct Lane {
    /// The route's place among the judge's.
    pub index: usize,
    route: Arc<Route>,
    is_probing: bool,
}

/// A call that goes out; abandoned when dropped.
pub struct Sent<'l> {
    route: &'l Route,
    pass: Option<Pass>,
}

/// All routes of a process.
pub struct Providers {
    policy: BreakerPolicy,
    routes: Mutex<BTreeMap<String, Arc<Route>>>,
}

// === impl Route ===

impl Route {
    fn circuit(&self) -> Circuit {
        match self.breaker().circuit(Instant::now()) {
            // Whoever is on the way already is the probe.
            Circuit::HalfOpen if self.probing.load(Ordering::Relaxed) > 0 => {
                Circuit::Open(SHORTEST_WAIT)
            }
            circuit => circuit,
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // A change of the breaker is a few assignments: a panic leaves none half done.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuses(&self) -> MutexGuard<'_, bool> {
        self.refuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is waited for a probe that is on its way: nobody knows when it is sent.
const SHORTEST_WAIT: Duration = Duration::from_millis(500);

// === impl Routes ===

impl Routes {
    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "a judge has one endpoint at least")]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Its endpoint, or its endpoints, in words.
    pub fn named(&self) -> String {
        let names: Vec<&str> = self.routes.iter().map(|(route, _)| &*route.name).collect();
        let noun = if names.len() == 1 { "endpoint" } else { "endpoints" };
        format!("{noun} {}", names.join(", "))
    }

    /// The way to the endpoint that the run names: batches go there.
    pub fn first(&self) -> &Arc<Route> {
        &self.routes[0].0
    }

    /// The provider of the endpoint that the run names; prefixes are the same for all.
    pub fn provider(&self) -> &dyn Provider {
        &*self.routes[0].0.provider
    }

    /// The way that the next question takes: among those that are called at all, one that holds its
    /// calls only where all do, `avoided` only where it is the last, and then the one with the least
    /// on its way for its weight.
    ///
    /// # Errors
    ///
    /// How long no endpoint is called.
    pub fn choose(&self, avoided: Option<usize>) -> Result<Lane, Duration> {
        let mut wait = Duration::MAX;
        let mut least = (true, true, u64::MAX);
        let mut best = Vec::with_capacity(self.routes.len());
        for (index, (route, weight)) in self.routes.iter().enumerate() {
            if let Circuit::Open(rest) = route.circuit() {
                wait = wait.min(rest);
                continue;
            }
            let busy = route.busy.load(Ordering::Relaxed) as u64;
            let load = busy * LOAD / u64::from(weight.get());
            let rank = (!route.limiter.held().is_zero(), avoided == Some(index), load);
            if rank < least {
                least = rank;
                best.clear();
            }
            if rank == least {
                best.push(index);
            }
        }
        let index = match best[..] {
            [] => return Err(wait),
            [index] => index,
            _ => self.next(&best),
        };
        let route = Arc::clone(&self.routes[index].0);
        let is_probing = route.circuit() == Circuit::HalfOpen;
        route.busy.fetch_add(1, Ordering::Relaxed);
        route.probing.fetch_add(usize::from(is_probing), Ordering::Relaxed);
        Ok(Lane { index, route, is_probing })
    }

    /// Whose turn it is among these by their weights alone.
    fn next(&self, places: &[usize]) -> usize {
        let mut credit = self.credit.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = 0;
        for index in places {
            let weight = i64::from(self.routes[*index].1.get());
            credit[*index] += weight;
            all += weight;
        }
        let most = places.iter().copied().max_by_key(|index| (credit[*index], Reverse(*index)));
        let index = most.unwrap_or_default();
        credit[index] -= all;
        index
    }

    /// How long no call goes out: no endpoint is called at all, or all that are hold their calls.
    pub fn held(&self) -> Duration {
        let wait = |(route, _): &(Arc<Route>, NonZeroU32)| match route.circuit() {
            Circuit::Open(rest) => rest,
            Circuit::Closed | Circuit::HalfOpen => route.limiter.held(),
        };
        self.routes.iter().map(wait).min().unwrap_or_default()
    }

    /// How long all endpoints have been failing; `None` while one is not.
    pub fn failing_for(&self) -> Option<Duration> {
        let now = Instant::now();
        let failing = |(route, _): &(Arc<Route>, NonZeroU32)| route.breaker().failing_for(now);
        self.routes.iter().map(failing).min().flatten()
    }

    /// The account was refused on this way. `true` where none is left that does not refuse; they are
    /// all tried again then, once somebody has put it right.
    pub fn refused(&self, index: usize) -> bool {
        *self.routes[index].0.refuses() = true;
        let all = self.routes.iter().all(|(route, _)| *route.refuses());
        if all {
            self.routes.iter().for_each(|(route, _)| *route.refuses() = false);
        }
        all
    }
}

/// The load of one question on its way for a weight of 1.
const LOAD: u64 = 1_000_000;

// === impl Lane ===

impl Lane {
    /// The endpoint.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The right to send the call now.
    ///
    /// # Errors
    ///
    /// The endpoint is not called any more, for so long.
    pub fn send(&self) -> Result<Sent<'_>, Duration> {
        let pass = self.route.breaker().admit(Instant::now())?;
        Ok(Sent { route: &self.route, pass: Some(pass) })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.route.busy.fetch_sub(1, Ordering::Relaxed);
        self.route.probing.fetch_sub(usize::from(self.is_probing), Ordering::Relaxed);
    }
}

// === impl Sent ===

impl Sent<'_> {
    /// Whether the call shows if a failing endpoint answers again.
    pub fn is_probe(&self) -> bool {
        self.pass.as_ref().is_some_and(Pass::is_probe)
    }

    /// The call is over. `is_only` says that there is no other endpoint: then a refusal of the account
    /// is the run's affair.
    pub fn end(mut self, asked: &Result<Reply, CallFailure>, is_only: bool) -> Option<Change> {
        let sign = match asked {
            Ok(_) => Sign::Alive,
            Err(failure) => sign(failure, is_only),
        };
        if sign == Sign::Alive && !refuses(asked) {
            *self.route.refuses() = false;
        }
        let pass = self.pass.take()?;
        self.route.breaker().ended(pass, sign, Instant::now())
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.route.breaker().ended(pass, Sign::None, Instant::now());
        }
    }
}

fn refuses(asked: &Result<Reply, CallFailure>) -> bool {
    asked.as_ref().is_err_and(|failure| failure.class == FailureClass::Account)
}

/// What a failed call says of its endpoint.
fn sign(failure: &CallFailure, is_only: bool) -> Sign {
    match (failure.class, failure.status) {
        (FailureClass::Account, _) if !is_only => Sign::Refused,
        (FailureClass::Transient, None | Some(500..)) => Sign::Failed,
        _ => Sign::Alive,
    }
}

// === impl Providers ===

impl Providers {
    /// No route yet; those to come have breakers of this policy.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, routes: Mutex::default() }
    }

    /// The ways to these endpoints of one model. `shared` is where quota is shared, and who shares it.
    ///
    /// # Errors
    ///
    /// There is no endpoint, or one cannot be used.
    pub fn get(
        &self,
        endpoints: Vec<Endpoint>,
        model: &str,
        shared: (&Arc<dyn Store>, WorkerId),
    ) -> Result<Routes, String> {
        let mut known = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut routes = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let (key, weight) = (format!("{}\n{model}", endpoint.identity()), endpoint.weight);
            let route = match known.get(&key) {
                Some(route) => Arc::clone(route),
                None => {
                    let made = Arc::new(self.make(endpoint, shared)?);
                    known.insert(key, Arc::clone(&made));
                    made
                }
            };
            routes.push((route, weight));
        }
        let first = routes.first().ok_or_else(|| "the judge has no endpoint".to_owned())?;
        let (meter, credit) = (Arc::clone(&first.0.meter), Mutex::new(vec![0; routes.len()]));
        Ok(Routes { routes, credit, meter })
    }

    fn make(
        &self,
        endpoint: Endpoint,
        (store, worker): (&Arc<dyn Store>, WorkerId),
    ) -> Result<Route, String> {
        let pool = endpoint.pool();
        let shared = pool.map(|pool| SharedQuota { store: Arc::clone(store), pool, worker });
        let limiter = Arc::new(Limiter::new(endpoint.limits, shared));
        let meter = Meter::new(&endpoint.tariff);
        let name = endpoint.base_url.clone();
        Ok(Route {
            name,
            provider: Arc::new(OpenAiProvider::new(endpoint)?),
            limiter,
            meter,
            breaker: Mutex::new(Breaker::new(self.policy)),
            refuses: Mutex::default(),
            busy: AtomicUsize::new(0),
            probing: AtomicUsize::new(0),
        })
    }

    /// How many more leaves may usefully be claimed; `usize::MAX` where no call waits.
    pub fn room(&self) -> usize {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let room = |route: &Arc<Route>| match route.circuit() {
            Circuit::Closed => route.limiter.room(),
            Circuit::HalfOpen => route.limiter.room().min(1),
            Circuit::Open(_) => 0,
        };
        routes.values().map(room).max().unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests;
