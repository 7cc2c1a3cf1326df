//! How many tokens a question has, and what a call may cost at most.
//!
//! Owns the estimate of one model's tokens and its correction by what the provider counts. Shared
//! parts are counted once, by whoever shares them; only a question's own messages are counted for
//! each call.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tribunal_core::{BlobHash, Prices, Usage};
use tribunal_evidence::{Counter, Tokenizer as _, tokens::DEFAULT_VOCABULARY};
use tribunal_store::{Store, StoreError};

use crate::recorded::ContextError;

/// How the tokens of an endpoint's model are counted, and what they cost.
#[derive(Clone, Debug)]
pub struct Tariff {
    /// The vocabulary that counts; an unknown one is replaced by the default.
    pub vocabulary: String,
    /// The model's own tokens for one token of the vocabulary.
    pub token_factor: f64,
    /// Prices, where they are known.
    pub prices: Option<Prices>,
}

/// Tokens that a provider counts for a message's marks, at most.
const MESSAGE_TOKENS: u64 = 8;

/// Thousandths by which the first calls may have more tokens than were counted.
const MARGIN_MILLI: u64 = 1_050;

/// Counts tokens, and learns by how many its counts are too low.
#[derive(Debug)]
pub struct Meter {
    counter: Counter,
    token_factor: f64,
    prices: Option<Prices>,
    /// The greatest share of a counted prompt that a provider has counted, in thousandths.
    most_milli: AtomicU64,
}

/// A question's tokens, as counted before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The model's tokens as far as can be told.
    pub expected: u64,
    /// No more than this.
    pub most: u64,
}

// === impl Tariff ===

impl Default for Tariff {
    fn default() -> Self {
        Self { vocabulary: DEFAULT_VOCABULARY.to_owned(), token_factor: 1.0, prices: None }
    }
}

// === impl Meter ===

impl Meter {
    /// A meter of this tariff.
    pub fn new(tariff: &Tariff) -> Arc<Meter> {
        Arc::new(Meter {
            counter: Counter::new(&tariff.vocabulary),
            token_factor: tariff.token_factor,
            prices: tariff.prices,
            most_milli: AtomicU64::new(MARGIN_MILLI),
        })
    }

    /// The prices, where they are known.
    pub fn prices(&self) -> Option<&Prices> {
        self.prices.as_ref()
    }

    /// The vocabulary's tokens of one text. Megabytes take long: count them off the runtime.
    pub fn tokens(&self, text: &str) -> u64 {
        self.counter.count_once(text) as u64
    }

    /// The vocabulary's tokens of texts that others may have counted: `store` remembers.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn tokens_of(
        self: &Arc<Self>,
        store: &dyn Store,
        texts: Vec<String>,
    ) -> Result<u64, ContextError> {
        let names: Vec<&str> = texts.iter().map(String::as_str).collect();
        recall(&self.counter, store, self.counter.unknown(&names)).await?;
        let meter = Arc::clone(self);
        // Counting megabytes takes long: not on the runtime's threads.
        let count = move || texts.iter().map(|text| meter.counter.count(text) as u64).sum();
        let tokens = tokio::task::spawn_blocking(count).await;
        let tokens = tokens.map_err(|error| ContextError::Unusable(error.to_string()))?;
        record(&self.counter, store).await?;
        Ok(tokens)
    }

    /// The question whose messages have so many of the vocabulary's tokens together.
    pub fn question(&self, tokens: u64, messages: usize) -> Counted {
        let marks = MESSAGE_TOKENS * (messages as u64 + 1);
        // Tokens of any prompt are far below 2^53.
        let expected = (tokens as f64 * self.token_factor).ceil() as u64;
        let most_milli = self.most_milli.load(Ordering::Relaxed);
        Counted { expected, most: (expected * most_milli).div_ceil(1000) + marks }
    }

    /// A provider counted the question's prompt: later bounds hold what this one would have needed.
    pub fn learn(&self, counted: Counted, usage: &Usage) {
        if counted.expected > 0 && usage.input > counted.most {
            let milli = (usage.input * 1010).div_ceil(counted.expected);
            self.most_milli.fetch_max(milli, Ordering::Relaxed);
        }
    }
}

/// Takes over what the store remembers of these texts.
///
/// # Errors
///
/// The store's.
pub async fn recall(
    counter: &Counter,
    store: &dyn Store,
    texts: Vec<BlobHash>,
) -> Result<(), StoreError> {
    let counts = store.token_counts(counter.name(), &texts).await?;
    counter.know(texts.into_iter().zip(counts).filter_map(|(text, tokens)| Some((text, tokens?))));
    Ok(())
}

/// Has the store remember what was counted.
///
/// # Errors
///
/// The store's.
pub async fn record(counter: &Counter, store: &dyn Store) -> Result<(), StoreError> {
    let learnt = counter.take_learnt();
    if learnt.is_empty() {
        return Ok(());
    }
    store.put_token_counts(counter.name(), learnt).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_was_too_low_is_raised() {
        let meter = Meter::new(&Tariff { token_factor: 1.5, ..Tariff::default() });
        let counted = meter.question(1_000, 3);
        assert_eq!(counted, Counted { expected: 1_500, most: 1_575 + 32 });
        let usage = |input| Usage { input, ..Usage::default() };
        meter.learn(counted, &usage(1_400));
        assert_eq!(meter.question(1_000, 3), counted, "an honest count changes nothing");
        meter.learn(counted, &usage(2_000));
        assert!(meter.question(1_000, 3).most >= 2_020);
        meter.learn(counted, &usage(1_700));
        assert!(meter.question(1_000, 3).most >= 2_020, "it is never lowered");
    }
}
