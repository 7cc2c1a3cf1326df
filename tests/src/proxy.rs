//! A TCP proxy that a test can make lose answers, stand still, part from its server, or be far away.
//!
//! Owns its connections. Of what passes it knows one thing: which answers acknowledge a commit.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver},
    },
    time::{Duration, Instant},
};

/// How long a direction that stands still waits before it looks at the state again.
const LOOK: Duration = Duration::from_millis(20);

/// The end of PostgreSQL's message that a transaction was committed.
const COMMITTED: &[u8] = b"COMMIT\0";

/// The proxy; new connections end when it is dropped.
pub struct Proxy {
    address: Ipv4Addr,
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// How long what passes is under way, in each direction.
    delay: Duration,
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
        Self::far(Ipv4Addr::LOCALHOST, server, Duration::ZERO)
    }

    /// A proxy at an address of this machine before a loopback port, with a delay in each direction.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub fn far(address: Ipv4Addr, server: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State { delay, ..State::default() });
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
        Self { address, port, state }
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
        let _ = TcpStream::connect((self.address, self.port));
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
        let (from, to) = if answers { (server, client) } else { (client, server) };
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        let _ = to.set_nodelay(true);
        let state = Arc::clone(state);
        std::thread::spawn(move || {
            carry(&from, &to, &state, answers);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

fn carry(mut from: &TcpStream, mut to: &TcpStream, state: &State, answers: bool) {
    std::thread::scope(|scope| {
        // Bytes under way, each with its arrival; only where there is a way to go.
        let under_way = (!state.delay.is_zero()).then(|| {
            let (sender, arrivals) = mpsc::channel();
            scope.spawn(move || arrive(to, &arrivals));
            sender
        });
        let mut bytes = vec![0; 1 << 16];
        loop {
            let Ok(count @ 1..) = from.read(&mut bytes) else { return };
            if answers && state.loses(&bytes[..count]) {
                return;
            }
            while state.parted.load(Ordering::SeqCst) && !state.ended.load(Ordering::SeqCst) {
                std::thread::sleep(LOOK);
            }
            let passed = match &under_way {
                Some(sender) => {
                    sender.send((Instant::now() + state.delay, bytes[..count].to_vec())).is_ok()
                }
                None => to.write_all(&bytes[..count]).is_ok(),
            };
            if !passed {
                return;
            }
        }
    });
}

fn arrive(mut to: &TcpStream, arrivals: &Receiver<(Instant, Vec<u8>)>) {
    for (at, bytes) in arrivals {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            return;
        }
    }
}
