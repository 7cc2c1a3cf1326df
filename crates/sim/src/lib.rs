//! A simulated judge: an OpenAI-compatible server on loopback whose error rates and faults are
//! set, so that everything around a judge can be tried without one.
//!
//! Owns the server, its verdicts and its faults. Every reply says that it is simulated, and
//! nothing here may be taken for a measurement of a real model. It knows the worker only by the
//! words on the wire: the elements of a prompt that `question` reads.

mod cache;
mod chance;
mod config;
mod error;
mod faults;
mod limit;
mod profile;
mod question;
mod ranking;
mod reply;
mod request;
mod segment;
mod server;
mod stats;
mod verdict;

pub use config::SimConfig;
pub use error::SimError;
pub use server::Sim;
pub use stats::SimStats;
