//! The worker: claims leaves, asks the judge, hands verdicts to the store.
//!
//! Owns the way from a claim to a verdict: prompt, limit, call, retry, parse. It computes no score
//! and reads no submission; what it needs is in the store. It meets the collector only there.

pub mod attempt;
mod batcher;
pub mod breaker;
pub mod consult;
pub mod health;
pub mod limit;
mod measure;
pub mod meter;
pub mod outbox;
pub mod parse;
pub mod pool;
pub mod prompt;
pub mod provider;
pub mod purse;
pub mod questionnaire;
pub mod recorded;
pub mod retry;
pub mod route;
pub mod rule;
pub mod run_context;
pub mod select;
pub mod trace;
pub mod verify;
pub mod warm;

pub use batcher::{BatchPolicy, cancel_batches};
pub use breaker::BreakerPolicy;
pub use meter::Tariff;
pub use pool::{EventSink, Pool, PoolConfig, PoolEnd, Scope, Shutdown};
pub use prompt::PromptSet;
pub use provider::{Endpoint, ResolveEndpoints};
pub use questionnaire::Questionnaire;
pub use retry::RetryPolicy;
