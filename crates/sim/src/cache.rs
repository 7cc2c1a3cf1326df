//! Bounded memory of what was seen: least recently used first out, and the provider's prefix
//! cache on top of it.
//!
//! Owns what is kept and for how long. What a prefix is made of is [`crate::segment`].

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::segment::Segment;

/// Prompts shorter than this are never cached, in tokens (OpenAI's rule).
const MIN_CACHED_TOKENS: u64 = 1_024;

/// What is cached is a multiple of this, in tokens (OpenAI's rule).
const CACHED_STEP: u64 = 128;

/// Prefixes that the prefix cache remembers.
const MAX_PREFIXES: u64 = 400_000;

/// A map that forgets what was used least recently once its weights sum to more than allowed.
pub(crate) struct Lru<K, V> {
    entries: HashMap<K, Entry<V>>,
    order: BTreeMap<u64, K>,
    clock: u64,
    weight: u64,
    max_weight: u64,
}

struct Entry<V> {
    value: V,
    used: u64,
    weight: u64,
}

/// The provider's prompt cache: which prompt prefixes were answered lately.
pub(crate) struct PrefixCache {
    seen: Mutex<Lru<[u8; 16], ()>>,
}

/// The prefixes of one prompt, shortest first, each with its length in tokens.
pub(crate) struct Prefixes {
    links: Vec<([u8; 16], u64)>,
}

// === impl Lru ===

impl<K: Copy + Eq + Hash, V: Clone> Lru<K, V> {
    /// An empty map whose values' weights may sum to `max_weight`.
    pub(crate) fn new(max_weight: u64) -> Self {
        Lru { entries: HashMap::new(), order: BTreeMap::new(), clock: 0, weight: 0, max_weight }
    }

    /// The value of `key`, which counts as a use.
    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        self.clock += 1;
        self.order.remove(&entry.used);
        entry.used = self.clock;
        self.order.insert(self.clock, *key);
        Some(entry.value.clone())
    }

    /// Puts a value in, and forgets others if it must; a value above the whole allowance stays
    /// until the next one comes.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: u64) {
        if let Some(old) = self.entries.remove(&key) {
            self.order.remove(&old.used);
            self.weight -= old.weight;
        }
        while self.weight + weight > self.max_weight {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            if let Some(old) = self.entries.remove(&oldest) {
                self.weight -= old.weight;
            }
        }
        self.clock += 1;
        self.weight += weight;
        self.order.insert(self.clock, key);
        let used = self.clock;
        self.entries.insert(key, Entry { value, used, weight });
    }
}

// === impl PrefixCache ===

impl PrefixCache {
    pub(crate) fn new() -> Self {
        PrefixCache { seen: Mutex::new(Lru::new(MAX_PREFIXES)) }
    }

    /// Tokens of the prompt that the provider need not read again.
    pub(crate) fn cached_tokens(&self, prompt: &Prefixes) -> u64 {
        let mut seen = lock(&self.seen);
        let longest = prompt.links.iter().rev().find(|(key, _)| seen.get(key).is_some());
        match longest {
            Some((_, tokens)) if *tokens >= MIN_CACHED_TOKENS => tokens / CACHED_STEP * CACHED_STEP,
            _ => 0,
        }
    }

    /// Remembers a prompt whose reply is on its way.
    pub(crate) fn remember(&self, prompt: &Prefixes) {
        let mut seen = lock(&self.seen);
        for (key, tokens) in prompt.links.iter().rev() {
            if *tokens < MIN_CACHED_TOKENS {
                break;
            }
            if seen.get(key).is_none() {
                seen.insert(*key, (), 1);
            }
        }
    }
}

// === impl Prefixes ===

impl Prefixes {
    /// The prefixes of a prompt to `model`, made of roles and their texts in order; every role
    /// costs `overhead` tokens.
    pub(crate) fn of<'a>(
        model: &str,
        overhead: u64,
        prompt: impl IntoIterator<Item = (Option<&'a str>, &'a Segment)>,
    ) -> Self {
        let mut state = *blake3::hash(model.as_bytes()).as_bytes();
        let mut tokens = 0;
        let mut links = Vec::new();
        for (role, segment) in prompt {
            if let Some(role) = role {
                state = link(&state, role.as_bytes());
                tokens += overhead;
            }
            for block in segment.blocks() {
                state = link(&state, &block.hash);
                tokens += block.tokens;
                let mut key = [0; 16];
                key.copy_from_slice(&state[..16]);
                links.push((key, tokens));
            }
        }
        Prefixes { links }
    }
}

fn link(state: &[u8; 32], next: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(state, next).as_bytes()
}

/// The lock, also after a panic elsewhere: what it guards is whole between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_was_used_least_recently() {
        let mut lru = Lru::new(3);
        for key in 0..3 {
            lru.insert(key, key * 10, 1);
        }
        assert_eq!(lru.get(&0), Some(0));
        lru.insert(3, 30, 1);
        assert_eq!((lru.get(&1), lru.get(&0)), (None, Some(0)));
        lru.insert(4, 40, 2);
        assert_eq!((lru.get(&2), lru.get(&3)), (None, None));
        assert_eq!((lru.get(&0), lru.get(&4)), (Some(0), Some(40)));
        lru.insert(5, 50, 100);
        assert_eq!((lru.get(&0), lru.get(&5)), (None, Some(50)));
        lru.insert(6, 60, 1);
        assert_eq!((lru.get(&5), lru.get(&6)), (None, Some(60)));
    }

    fn prompt(texts: &[&str]) -> Prefixes {
        let segments: Vec<Segment> = texts.iter().map(|t| Segment::read((*t).into())).collect();
        Prefixes::of("m", 3, segments.iter().map(|s| (Some("user"), s)))
    }

    fn words(first: &str, count: usize) -> String {
        format!("{first} {}", "word ".repeat(count))
    }

    #[test]
    fn caches_whole_steps_of_a_shared_prefix_and_nothing_short() {
        let cache = PrefixCache::new();
        let shared = words("shared", 1_200);
        let total = prompt(&[&shared]).links.last().expect("one block").1;
        assert!(total > 1_100, "{total}");
        let first = prompt(&[&shared, "criterion one"]);
        assert_eq!(cache.cached_tokens(&first), 0);
        cache.remember(&first);
        let second = prompt(&[&shared, "criterion two"]);
        assert_eq!(cache.cached_tokens(&second), total / 128 * 128);
        assert_eq!(cache.cached_tokens(&prompt(&["other", &shared])), 0);

        let short = words("short", 500);
        cache.remember(&prompt(&[&short, "one"]));
        assert_eq!(cache.cached_tokens(&prompt(&[&short, "two"])), 0);
    }

    #[test]
    fn shares_the_blocks_at_the_start_of_one_long_text() {
        let cache = PrefixCache::new();
        let shared = "a line of code that is long enough to matter\n".repeat(400);
        cache.remember(&prompt(&[&format!("{shared}criterion one")]));
        let second = prompt(&[&format!("{shared}criterion two")]);
        let cached = cache.cached_tokens(&second);
        let total = second.links.last().expect("blocks").1;
        assert!(cached >= 1_024 && cached.is_multiple_of(128) && cached < total);
        let renamed = prompt(&[&format!("b{shared}criterion two")]);
        assert_eq!(cache.cached_tokens(&renamed), 0);
    }
}
