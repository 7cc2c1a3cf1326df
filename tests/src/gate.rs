//! A gate before the simulated judge: requests wait there until a test lets them through.
//!
//! Owns who waits. A process with a request here is in the step that asked it, and stays there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use reqwest::blocking::Client;

use crate::{PATIENCE, Reply, Request, TestServer};

/// The gate; closed at first.
pub struct Gate {
    server: TestServer,
    state: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Bodies of the requests that wait, in the order in which they came.
    waiting: BTreeMap<u64, String>,
    let_through: BTreeSet<u64>,
    /// Requests before this one have lost their client.
    forgotten: u64,
    open: bool,
}

// === impl Gate ===

impl Gate {
    /// A gate before the server with this base URL.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub fn before(base_url: &str) -> Self {
        let state = Arc::<Shared>::default();
        let (shared, base_url) = (Arc::clone(&state), base_url.to_owned());
        let client = Client::builder().no_proxy().timeout(PATIENCE).build();
        let client = client.expect("an HTTP client");
        let server = TestServer::start(move |request| match shared.passes(&request.body) {
            true => forwarded(&client, &base_url, request),
            false => Reply::error(503, "gone", "its client has ended"),
        });
        Self { server, state }
    }

    /// Its base URL, with `/v1`.
    pub fn base_url(&self) -> String {
        self.server.base_url()
    }

    /// The body of the first request that waits; waits for one itself until `ended` holds.
    ///
    /// # Panics
    ///
    /// When none ever comes.
    pub fn first(&self, mut ended: impl FnMut() -> bool) -> Option<String> {
        let mut first = None;
        crate::wait_until("a request waits at the gate", || {
            first = self.state.lock().waiting.values().next().cloned();
            first.is_some() || ended()
        });
        first
    }

    /// Lets the first one that waits through.
    pub fn let_through(&self) {
        let mut state = self.state.lock();
        if let Some((number, _)) = state.waiting.pop_first() {
            state.let_through.insert(number);
        }
        self.state.changed.notify_all();
    }

    /// Forgets all that wait: their client was killed.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        state.forgotten = state.next;
        state.waiting.clear();
        self.state.changed.notify_all();
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.state.lock().open = true;
        self.state.changed.notify_all();
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody has panicked here")
    }

    /// Waits until the request may pass; false where nobody waits for its answer any more.
    fn passes(&self, body: &str) -> bool {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, body.to_owned());
        let closed = |state: &mut State| {
            !state.open && !state.let_through.contains(&number) && number >= state.forgotten
        };
        let mut state = self.changed.wait_while(state, closed).expect("nobody has panicked here");
        state.waiting.remove(&number);
        state.let_through.remove(&number) || number >= state.forgotten
    }
}

fn forwarded(client: &Client, base_url: &str, request: &Request) -> Reply {
    let url = format!("{}{}", base_url.trim_end_matches("/v1"), request.path);
    let mut forward = match request.method.as_str() {
        "GET" => client.get(url),
        _ => client.post(url).body(request.body.clone()),
    };
    for name in ["authorization", "content-type"] {
        if let Some(value) = request.header(name) {
            forward = forward.header(name, value);
        }
    }
    let answer = forward.send().expect("the sim answers");
    let status = answer.status().as_u16();
    Reply { status, headers: Vec::new(), body: answer.text().expect("the sim's whole answer") }
}
