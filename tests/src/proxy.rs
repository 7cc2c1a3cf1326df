//! A TCP proxy on loopback that a test can make lose answers, stand still, or part from its server.
//!
//! Owns its connections. Of what passes it knows one thing: which answers acknowledge a commit.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long a direction that stands still waits before it looks at the state again.
const LOOK: Duration = Duration::from_millis(20);

/// The end of PostgreSQL's message that a transaction was committed.
const COMMITTED: &[u8] = b"COMMIT\0";

/// The proxy; new connections end when it is dropped.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    ended: AtomicBool,
    /// Nothing passes, and nobody is told.
    parted: AtomicBool,
    /// The answer behind which it parts by itself; 0 for never.
    part_behind: AtomicU64,
    answers: AtomicU64,
    /// Every so many acknowledged commits one is lost with its connection; 0 for none.
    lose_every: AtomicU64,
    lose_at_most: AtomicU64,
    commits: AtomicU64,
    lost: AtomicU64,
}

// === impl Proxy ===

impl Proxy {
    /// A proxy before this loopback port.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)) {
                    join(&client, &server, &shared);
                }
            }
        });
        Self { port, state }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Loses one of so many acknowledged commits, up to `at_most` of them: the server has done what
    /// was asked, and nobody hears of it.
    pub fn lose_commits(&self, every: u64, at_most: u64) {
        self.state.lose_at_most.store(at_most, Ordering::SeqCst);
        self.state.lose_every.store(every, Ordering::SeqCst);
    }

    /// Commits whose answers were lost so far.
    pub fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::SeqCst)
    }

    /// Lets nothing through, in either direction, until told otherwise.
    pub fn part(&self, parted: bool) {
        self.state.part_behind.store(0, Ordering::SeqCst);
        self.state.parted.store(parted, Ordering::SeqCst);
    }

    /// Parts by itself behind so many further answers.
    pub fn part_behind(&self, answers: u64) {
        let seen = self.state.answers.load(Ordering::SeqCst);
        self.state.part_behind.store(seen + answers, Ordering::SeqCst);
    }

    /// Whether it is parted.
    pub fn is_parted(&self) -> bool {
        self.state.parted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

// === impl State ===

impl State {
    /// Whether the answer is to be lost; counts it.
    fn loses(&self, answer: &[u8]) -> bool {
        let number = self.answers.fetch_add(1, Ordering::SeqCst) + 1;
        if number == self.part_behind.load(Ordering::SeqCst) {
            self.parted.store(true, Ordering::SeqCst);
        }
        let every = self.lose_every.load(Ordering::SeqCst);
        if every == 0 || !answer.windows(COMMITTED.len()).any(|bytes| bytes == COMMITTED) {
            return false;
        }
        let commit = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        commit.is_multiple_of(every)
            && self
                .lost
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |lost| {
                    (lost < self.lose_at_most.load(Ordering::SeqCst)).then_some(lost + 1)
                })
                .is_ok()
    }
}

/// Carries bytes in both directions until one side ends.
fn join(client: &TcpStream, server: &TcpStream, state: &Arc<State>) {
    for answers in [false, true] {
        let (Ok(client), Ok(server)) = (client.try_clone(), server.try_clone()) else { return };
        let state = Arc::clone(state);
        std::thread::spawn(move || {
            let (from, to) = if answers { (&server, &client) } else { (&client, &server) };
            carry(from, to, &state, answers);
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
    }
}

fn carry(mut from: &TcpStream, mut to: &TcpStream, state: &State, answers: bool) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes) else { return };
        if answers && state.loses(&bytes[..count]) {
            return;
        }
        while state.parted.load(Ordering::SeqCst) && !state.ended.load(Ordering::SeqCst) {
            std::thread::sleep(LOOK);
        }
        if to.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}
