//! Who goes ahead where many questions share a prefix.
//!
//! Owns the order alone: while a provider has not read a prefix, one question that begins with it
//! goes ahead, and the others follow when it is answered, so that the prefix is paid for in full
//! once. Makes no call, and knows nothing of tokens: what a provider caches is its own affair.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, sleep},
};

/// How long a provider keeps a prefix that nobody asks with: OpenAI says 5 to 10 minutes.
const KEPT: Duration = Duration::from_secs(240);

/// How long the others wait for an answer before another question goes ahead too: a call that hangs
/// must not hold up its whole category.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is known of one prefix in the provider's cache.
#[derive(Debug, Default)]
pub struct Prefix {
    /// When it was last read to the end, as far as this process knows.
    read: Mutex<Option<Instant>>,
    /// Held by the question that goes ahead. Tokio's mutex is fair: the others stand in line for it.
    ahead: Arc<tokio::sync::Mutex<()>>,
}

/// One prefix in the caches of a judge's endpoints, by their places.
#[derive(Debug, Default)]
pub struct Prefixes(Mutex<Vec<Arc<Prefix>>>);

/// The right to send one question with the prefix.
#[derive(Debug)]
pub struct Place<'p> {
    prefix: &'p Prefix,
    /// For the question that goes ahead.
    ahead: Option<OwnedMutexGuard<()>>,
}

// === impl Prefix ===

impl Prefix {
    /// Waits until a question with the prefix may be sent: at once where it is warm, else as the one
    /// that goes ahead, or behind it. Dropping the future gives the place in the line up; dropping
    /// it unanswered lets another go ahead.
    pub async fn place(&self) -> Place<'_> {
        if self.is_warm() {
            return Place { prefix: self, ahead: None };
        }
        let ahead = Arc::clone(&self.ahead).lock_owned().await;
        // Answered in the meantime: the lock goes on to the next in line at once.
        let ahead = (!self.is_warm()).then_some(ahead);
        Place { prefix: self, ahead }
    }

    fn is_warm(&self) -> bool {
        let read = *self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.is_some_and(|read| read.elapsed() < KEPT)
    }
}

// === impl Prefixes ===

impl Prefixes {
    /// The prefix in the cache of this endpoint.
    pub fn at(&self, endpoint: usize) -> Arc<Prefix> {
        let mut prefixes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if prefixes.len() <= endpoint {
            prefixes.resize_with(endpoint + 1, Arc::default);
        }
        Arc::clone(&prefixes[endpoint])
    }
}

// === impl Place ===

impl Place<'_> {
    /// Whether this question goes ahead of the others.
    pub fn is_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    /// Makes the call. If it is ahead and takes long, another question goes ahead meanwhile.
    pub async fn during<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        if self.ahead.is_some() {
            tokio::select! {
                biased;
                done = &mut call => return done,
                () = sleep(PATIENCE) => self.ahead = None,
            }
        }
        call.await
    }

    /// The provider has read the question: the prefix is warm, and everybody may follow.
    pub fn answered(self) {
        *self.prefix.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use tokio::task::JoinSet;

    use super::*;

    /// Sends `questions` with one prefix; `call` gives what the n-th call takes and whether it is
    /// answered. Returns when each call went out, in order.
    async fn send(questions: usize, call: fn(usize) -> (Duration, bool)) -> Vec<Duration> {
        let (prefix, calls) = (Arc::new(Prefix::default()), Arc::new(AtomicUsize::new(0)));
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..questions {
            let (prefix, calls) = (Arc::clone(&prefix), Arc::clone(&calls));
            tasks.spawn(async move {
                let mut sent = Vec::new();
                loop {
                    let mut place = prefix.place().await;
                    sent.push(start.elapsed());
                    let (takes, is_answered) = call(calls.fetch_add(1, SeqCst));
                    place.during(sleep(takes)).await;
                    if is_answered {
                        place.answered();
                        return sent;
                    }
                }
            });
        }
        let mut sent: Vec<Duration> = tasks.join_all().await.concat();
        sent.sort();
        sent
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn one_goes_ahead_and_all_others_follow_its_answer() {
        let sent = send(100, |_| (2 * SECOND, true)).await;
        assert_eq!((sent.len(), sent[0]), (100, Duration::ZERO));
        assert!(sent[1..].iter().all(|at| *at == 2 * SECOND), "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn another_goes_ahead_when_the_first_fails() {
        let sent = send(10, |n| (SECOND, n >= 2)).await;
        // Two fail, the third is answered, then the other nine go together.
        assert_eq!(sent[..3], [Duration::ZERO, SECOND, 2 * SECOND]);
        assert!(sent[3..].iter().all(|at| *at == 3 * SECOND), "{sent:?}");
        assert_eq!(sent.len(), 12);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_does_not_hold_up_the_others() {
        let sent = send(5, |n| if n == 0 { (600 * SECOND, true) } else { (SECOND, true) }).await;
        assert_eq!(sent[..2], [Duration::ZERO, PATIENCE]);
        assert!(sent[2..].iter().all(|at| *at == PATIENCE + SECOND), "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_prefix_that_nobody_asked_with_for_long_is_cold_again() {
        let prefix = Prefix::default();
        prefix.place().await.answered();
        tokio::time::advance(KEPT - SECOND).await;
        let follows = prefix.place().await;
        assert!(!follows.is_ahead());
        follows.answered();
        tokio::time::advance(KEPT - SECOND).await;
        assert!(!prefix.place().await.is_ahead(), "an answer keeps it warm");
        tokio::time::advance(SECOND).await;
        assert!(prefix.place().await.is_ahead());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_in_the_line_can_be_given_up() {
        let prefix = Prefix::default();
        let ahead = prefix.place().await;
        tokio::select! {
            biased;
            _ = prefix.place() => panic!("two go ahead"),
            () = sleep(SECOND) => {}
        }
        drop(ahead);
        assert!(prefix.place().await.is_ahead());
    }
}
